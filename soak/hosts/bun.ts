import { portcullis } from '../../dist/bun.js';
import { answer, options, reply } from './figures.mjs';

const guard = portcullis(options);
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: guard.fetch(async (request, self) => {
    const text = await answer(request.url, guard);
    if (text !== undefined) return new Response(text);
    return self.upgrade(request) ? undefined : new Response('not a WebSocket', { status: 400 });
  }),
  websocket: guard.websocket({
    message: (ws, message) => reply(message, (text) => void ws.send(text)),
  }),
});
console.log(`listening on ${server.port}`);
