import { control, options, port, throwOnDemand } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const server = createServer(guard.request((_request, response) => response.end('hello')));
const webSocketServer = new WebSocketServer({ server, path: '/ws' });
guard.protect(webSocketServer);
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
server.listen(port);
//#endregion
webSocketServer.on('connection', throwOnDemand);
await control(guard, server);
