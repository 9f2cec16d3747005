// A route that is registered before the plugin.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';

const app = new Elysia()
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .use(portcullis({ limits: { maxConnectionsPerIp: 1 } }))
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
