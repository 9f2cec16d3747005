import { node } from '@elysiajs/node';
import { Elysia } from 'elysia';
import { connectionOf, portcullis, signalOf } from '../../dist/elysia.js';
import {
  answer,
  identifying,
  listening,
  options,
  place,
  shutdown,
} from '../../__test__/servers/options.mjs';

const guard = portcullis({
  ...options,
  ...identifying((request, name) => request.headers.get(name)),
});
const app = new Elysia({ adapter: node() })
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
      else ws.send(message);
    },
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .get('/drain', ({ portcullis }) => {
    portcullis.manager.drain();
    return 'draining';
  })
  .get('/guard', ({ portcullis }) => portcullis.snapshot())
  .get('/heap', () => {
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  })
  .all('/*', ({ request }) => {
    const { pathname, searchParams } = new URL(request.url);
    return answer(pathname, searchParams, signalOf(request), () => request.text()) ?? 'nothing';
  })
  .onError(() => undefined)
  .listen({ ...place, gracefulShutdown: false });
shutdown.add(app.decorator.portcullis.drainable(app));
process.on('uncaughtException', ({ message }) => console.log(`unhandled ${message}`));
await app.server.raw.ready();
listening(app.server.raw.node.server.address().port);
