import { control, options, port } from '../lib/control.mjs';
//#region example
import { Hono } from 'hono';
import { upgradeWebSocket, websocket } from 'hono/bun';
import { portcullis } from 'portcullis/bun';

const guard = portcullis(options);
const app = new Hono();
app.get(
  '/ws',
  upgradeWebSocket(() => ({ onMessage: (event, ws) => ws.send(event.data as string) })),
);
const server = Bun.serve({
  port,
  fetch: guard.fetch(app.fetch),
  websocket: guard.websocket(websocket),
});
//#endregion
await control(guard, server);
