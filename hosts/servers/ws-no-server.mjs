import { control, options, port, throwOnDemand } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const server = createServer(guard.request((_request, response) => response.end('hello')));
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
server.on('upgrade', (request, socket, head) => {
  const [path] = (request.url ?? '').split('?');
  if (path === '/ws') guard.handleUpgrade(webSocketServer, request, socket, head);
  else socket.destroy();
});
server.listen(port);
//#endregion
webSocketServer.on('connection', throwOnDemand);
await control(guard, server);
