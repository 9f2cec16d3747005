import { control, options, port, throwOnDemand } from '../lib/control.mjs';
process.chdir(import.meta.dirname);
//#region example
import { createServer } from 'node:http';
import next from 'next';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const app = next({ dev: process.env.NODE_ENV !== 'production' });
const handle = app.getRequestHandler();
await app.prepare();

const guard = portcullis(options);
const server = createServer(guard.request((request, response) => handle(request, response)));
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
const upgradeNext = app.getUpgradeHandler();
server.on('upgrade', (request, socket, head) => {
  const [path] = (request.url ?? '').split('?');
  if (path === '/ws') guard.handleUpgrade(webSocketServer, request, socket, head);
  else upgradeNext(request, socket, head);
});
server.listen(port);
//#endregion
webSocketServer.on('connection', throwOnDemand);
await control(guard, server);
