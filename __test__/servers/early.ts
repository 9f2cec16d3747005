// A route registered before the plugin, and handlers that upgrade by hand.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';

const app = new Elysia()
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .use(portcullis({ limits: { maxConnectionsPerIp: 1 } }))
  .get('/bare', ({ request, server }) =>
    server?.upgrade(request) === true ? undefined : 'not a WebSocket',
  )
  .get('/data', ({ request, server }) =>
    server?.upgrade(request, { data: { name: 'mine' } as never }) === true
      ? undefined
      : 'not a WebSocket',
  )
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
