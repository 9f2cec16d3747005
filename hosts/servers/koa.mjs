import { control, options, port, throwOnDemand } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import Koa from 'koa';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const app = new Koa();
app.use((context) => {
  context.body = 'hello';
});

const server = createServer(guard.request(app.callback()));
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
guard.attach(server, webSocketServer, { path: '/ws' });
server.listen(port);
//#endregion
webSocketServer.on('connection', throwOnDemand);
await control(guard, server);
