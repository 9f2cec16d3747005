import { control, options, port, throwOnDemand } from '../lib/control.mjs';
//#region example
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const webSocketServer = new WebSocketServer({ port });
guard.protect(webSocketServer);
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
//#endregion
webSocketServer.on('connection', throwOnDemand);
await control(guard, webSocketServer);
