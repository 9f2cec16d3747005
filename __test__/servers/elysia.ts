import { Elysia, sse } from 'elysia';
import { connectionOf, portcullis, signalOf } from '../../dist/elysia.js';
import { contract, events } from './options.mjs';

const { answer, identifying, listening, options, place, shutdown } = contract();
const guard = portcullis({
  ...options,
  ...identifying((request: Request, name) => request.headers.get(name)),
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
  .get('/events', ({ portcullis }) => events(portcullis.draining))
  .get('/generated', async function* ({ portcullis: { draining } }) {
    yield sse({ data: 'hello' });
    await new Promise((resolve) => void draining.addEventListener('abort', resolve));
    yield sse({ event: 'bye', data: '' });
  })
  .all('/*', ({ request, portcullis }) => {
    const { pathname, searchParams } = new URL(request.url);
    return (
      answer(
        pathname,
        searchParams,
        signalOf(request),
        () => request.text(),
        portcullis.draining,
      ) ?? 'nothing'
    );
  })
  .onError(() => undefined)
  .listen(place);
shutdown.add(app.decorator.portcullis.drainable(app));
listening(app.server?.port);
