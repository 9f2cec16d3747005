import { control, options, port } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import { setupWSConnection } from '@y/websocket-server/utils';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const server = createServer(guard.request((_request, response) => response.end('okay')));
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', setupWSConnection);
guard.attach(server, webSocketServer);
server.listen(port);
//#endregion
await control(guard, server);
