import { control, options, port } from '../lib/control.mjs';
//#region example
import { serve } from '@hono/node-server';
import { createNodeWebSocket } from '@hono/node-ws';
import { Hono } from 'hono';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const app = new Hono();
const { injectWebSocket, upgradeWebSocket, wss } = createNodeWebSocket({ app });
guard.protect(wss);
app.get(
  '/ws',
  upgradeWebSocket(() => ({ onMessage: (event, ws) => ws.send(event.data) })),
);
const server = serve({ fetch: app.fetch, port });
injectWebSocket(server);
guard.upgrades(server);
//#endregion
await control(guard, server);
