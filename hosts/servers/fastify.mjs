import { control, options, port } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import websocket from '@fastify/websocket';
import fastify from 'fastify';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const app = fastify({ serverFactory: (handler) => createServer(guard.request(handler)) });
await app.register(websocket);
guard.protect(app.websocketServer);
guard.upgrades(app.server);
app.get('/ws', { websocket: true }, (ws) => {
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
});
await app.listen({ port });
//#endregion
await control(guard, app.server);
