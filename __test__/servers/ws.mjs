import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { connectionOf, portcullis } from '../../dist/ws.js';
import { identifying, options } from './options.mjs';

const guard = portcullis({ ...options, ...identifying((request) => request.headers['x-user']) });
const server = createServer((request, response) => {
  if (request.url === '/drain') guard.manager.drain();
  response.end(JSON.stringify(guard.manager.getStats()));
});
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws, request) => {
  if (request.url?.endsWith('throw')) throw new Error('open failed');
  ws.on('message', (data, isBinary) => {
    const connection = connectionOf(ws);
    const text = String(data);
    if (text === 'figures')
      ws.send(JSON.stringify([connection?.messageCount, connection?.bytesReceived, connection?.bytesSent, connection?.ip, connection?.userId]));
    else if (text === 'text') ws.send('é');
    else ws.send(data, { binary: isBinary });
  });
});
guard.attach(server, webSocketServer);
process.on('uncaughtException', () => undefined);
server.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
