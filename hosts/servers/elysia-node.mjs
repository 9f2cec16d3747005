import { control, options, port } from '../lib/control.mjs';
//#region example
import { node } from '@elysiajs/node';
import { Elysia } from 'elysia';
import { portcullis } from 'portcullis/elysia';

const app = new Elysia({ adapter: node() })
  .use(portcullis(options))
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .listen(port);
//#endregion
const guard = app.decorator.portcullis;
await control({ ...guard, drainable: () => guard.drainable(app) }, app.server.raw.node.server);
