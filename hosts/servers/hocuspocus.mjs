import { control, options, port } from '../lib/control.mjs';
//#region example
import { Hocuspocus } from '@hocuspocus/server';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const hocuspocus = new Hocuspocus();
const guard = portcullis(options);
const webSocketServer = new WebSocketServer({ port });
guard.protect(webSocketServer);
webSocketServer.on('connection', (ws, { url = '/', headers }) => {
  if (!URL.canParse(url, 'http://localhost')) return ws.close(1008);
  const request = new Request(new URL(url, 'http://localhost'), { headers });
  const client = hocuspocus.handleConnection(ws, request);
  ws.on('message', (data) => client.handleMessage(new Uint8Array(data)));
  ws.on('close', (code, reason) => client.handleClose({ code, reason: String(reason) }));
});
//#endregion
await control(guard, webSocketServer);
