import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from '../../dist/ws.js';
import { answer, options, reply } from './figures.mjs';

const guard = portcullis(options);
const server = createServer(
  (request, response) =>
    void answer(request.url, guard).then((text) => response.end(text ?? 'nothing')),
);
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) =>
    reply(data, (message) => ws.send(message, { binary: isBinary })),
  ),
);
guard.attach(server, webSocketServer);
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
