import { control, options, port } from '../lib/control.mjs';
//#region example
import { plugin as websocket } from 'crossws/server';
import { defineWebSocketHandler, H3, serve } from 'h3';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const wss = new WebSocketServer({ noServer: true });
guard.protect(wss);
const app = new H3().get(
  '/ws',
  defineWebSocketHandler({ message: (peer, message) => void peer.send(message.rawData) }),
);
const server = serve(app, {
  port,
  plugins: [
    websocket({
      resolve: async (request) => (await app.fetch(request)).crossws,
      options: { node: { wss } },
    }),
  ],
});
guard.upgrades(server.node.server);
//#endregion
await server.ready();
await control(guard, server.node.server);
