// Two plugins in one app: the first limits each address, the second the total. One route refuses all upgrades.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';

const perIp = portcullis({ limits: { maxConnectionsPerIp: 2 }, trustedProxies: ['127.0.0.1'] });
const total = portcullis({ limits: { maxTotalConnections: 3 } });
const app = new Elysia()
  .use(perIp)
  .use(total)
  .use(total)
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .ws('/closed', { beforeHandle: ({ status }) => status(401, 'no'), message: () => undefined })
  .get('/stats', () => {
    const [first, second] = [
      perIp.decorator.portcullis.manager,
      total.decorator.portcullis.manager,
    ];
    return {
      totalConnections: first.getStats().totalConnections + second.getStats().totalConnections,
      sent: [first, second].map((manager) =>
        [...manager.connections.values()].map((one) => one.bytesSent),
      ),
    };
  })
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
