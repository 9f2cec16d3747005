// Ways in which an app of Elysia gets its server, besides `listen` once; `kind` says which.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { contract } from './options.mjs';

const { kind, listening, options } = contract();
const guarded = () => {
  const guard = portcullis(options);
  return new Elysia()
    .use(guard)
    .ws('/ws', { message: (ws, message) => void ws.send(message) })
    .post('/post', ({ body }) => body)
    .get('/stats', ({ portcullis }) => portcullis.manager.getStats());
};
const place = { port: 0, hostname: '127.0.0.1' };

const HOSTS: Record<string, () => number | undefined> = {
  'Bun.serve with websocket': () => {
    const app = guarded();
    // Elysia has no such property; Bun needs handlers to open any socket.
    const { websocket = { message: () => undefined } } = app as { websocket?: never };
    return Bun.serve({ ...place, fetch: (request) => app.fetch(request), websocket }).port;
  },
  'a mounted app': () => new Elysia().mount('/api', guarded()).listen(place).server?.port,
  'a guard around a mounted app': () =>
    guarded()
      .mount('/api', () => new Response('mounted'))
      .listen(place).server?.port,
  'listen twice': () => {
    const app = guarded().listen(place);
    const first = app.server;
    console.log(`first ${first?.port}`);
    app.listen(place);
    return app.server?.port;
  },
};
listening(HOSTS[kind]?.());
