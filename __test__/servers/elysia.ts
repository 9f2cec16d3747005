import { Elysia } from 'elysia';
import { connectionOf, portcullis } from '../../dist/elysia.js';
import { identifying, options } from './options.mjs';

const guard = portcullis({ ...options, ...identifying((request: Request) => request.headers.get('x-user')) });
const app = new Elysia()
  .use(guard)
  .ws('/ws', {
    open(ws) {
      if (ws.data.query['throw'] !== undefined) throw new Error('open failed');
    },
    message(ws, message) {
      const connection = connectionOf(ws);
      if (message === 'figures')
        ws.send(JSON.stringify([connection?.messageCount, connection?.bytesReceived, connection?.bytesSent, connection?.ip, connection?.userId]));
      else if (message === 'text') ws.sendText('é');
      else ws.send(message as string);
    },
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .get('/drain', ({ portcullis }) => {
    portcullis.manager.drain();
    return 'draining';
  })
  .onError(() => undefined)
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
