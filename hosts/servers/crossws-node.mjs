import { control, options, port } from '../lib/control.mjs';
//#region example
import { serve } from 'crossws/server';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const wss = new WebSocketServer({ noServer: true });
guard.protect(wss);
const server = serve({
  port,
  fetch: () => new Response('hello'),
  websocket: {
    message: (peer, message) => void peer.send(message.rawData),
    options: { node: { wss } },
  },
});
guard.upgrades(server.node.server);
//#endregion
await server.ready();
await control(guard, server.node.server);
