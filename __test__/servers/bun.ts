import { connectionOf, portcullis, signalOf } from '../../dist/bun.js';
import { contract, events } from './options.mjs';

const { answer, identifying, listening, options, place, shutdown } = contract();
const guard = portcullis({
  ...options,
  ...identifying((request: Request, name) => request.headers.get(name)),
});
const server = Bun.serve<{ fails: boolean }, never>({
  ...place,
  fetch: guard.fetch((request, server) => {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === '/stats') return Response.json(guard.manager.getStats());
    if (pathname === '/drain') {
      guard.manager.drain();
      return new Response('draining');
    }
    if (pathname === '/guard') return Response.json(guard.snapshot());
    if (pathname === '/events') return events(guard.draining);
    const other = answer(
      pathname,
      searchParams,
      signalOf(request),
      () => request.text(),
      guard.draining,
    );
    if (other !== undefined) return other.then((text) => new Response(text));
    return server.upgrade(request, { data: { fails: searchParams.has('throw') } })
      ? undefined
      : new Response('not a WebSocket', { status: 400 });
  }),
  error: () => new Response('failed', { status: 500 }),
  websocket: guard.websocket({
    open(ws) {
      if (ws.data.fails) throw new Error('open failed');
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
  }),
});
shutdown.add(guard.drainable(server));
listening(server.port);
