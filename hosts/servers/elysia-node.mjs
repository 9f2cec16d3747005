// #region example
import { node } from '@elysiajs/node';
import { Elysia } from 'elysia';
import { portcullis } from 'portcullis/elysia';
import { control, options, port } from '../lib/control.mjs';

const app = new Elysia({ adapter: node() })
  .use(portcullis(options))
  .ws('/ws', {
    open(ws) {
      if (ws.data.query.throw !== undefined) throw new Error('open failed');
    },
    message: (ws, message) => void ws.send(message),
  })
  .listen({ port, hostname: '127.0.0.1', gracefulShutdown: false });
// #endregion example
const guard = app.decorator.portcullis;
await control({ ...guard, drainable: () => guard.drainable(app) }, app.server.raw.node.server);
