import { Elysia } from 'elysia';
import { connectionOf, portcullis, signalOf } from '../../dist/elysia.js';
import { answer, identifying, options, shutdown } from './options.mjs';

const guard = portcullis({
  ...options,
  ...identifying((request: Request) => request.headers.get('x-user')),
});
const app = new Elysia()
  .use(guard)
  .ws('/ws', {
    open(ws) {
      if (ws.data.query['throw'] !== undefined) throw new Error('open failed');
    },
    message(ws, message) {
      const connection = connectionOf(ws);
      if (message === 'figures')
        ws.send(
          JSON.stringify([
            connection?.messageCount,
            connection?.bytesReceived,
            connection?.bytesSent,
            connection?.ip,
            connection?.userId,
          ]),
        );
      else if (message === 'text') ws.sendText('é');
      else if (message === 'flood') for (let i = 0; i < 64; i++) ws.send('x'.repeat(2 ** 18));
      else ws.send(message as string);
    },
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .get('/drain', ({ portcullis }) => {
    portcullis.manager.drain();
    return 'draining';
  })
  .get('/guard', ({ portcullis }) => portcullis.snapshot())
  .all('/*', ({ request }) => {
    const { pathname, searchParams } = new URL(request.url);
    return answer(pathname, searchParams, signalOf(request), () => request.text()) ?? 'nothing';
  })
  .onError(() => undefined)
  .listen({ port: 0, hostname: '127.0.0.1' });
shutdown.add(app.decorator.portcullis.drainable(app));
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
