import { control, options, port } from '../lib/control.mjs';
//#region example
import { serve, upgradeWebSocket } from '@hono/node-server-2';
import { Hono } from 'hono';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const app = new Hono();
app.get(
  '/ws',
  upgradeWebSocket(() => ({ onMessage: (event, ws) => ws.send(event.data) })),
);
const webSocketServer = new WebSocketServer({ noServer: true });
guard.protect(webSocketServer);
const server = serve({ fetch: app.fetch, port, websocket: { server: webSocketServer } });
guard.upgrades(server);
//#endregion
await control(guard, server);
