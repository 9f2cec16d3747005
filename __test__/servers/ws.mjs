import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { connectionOf, portcullis, signalOf } from '../../dist/ws.js';
import { contract } from './options.mjs';

const { answer, identifying, listening, options, path, shutdown } = contract();
const guard = portcullis({ ...options, ...identifying((request, name) => request.headers[name]) });
const bodyOf = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
};
const server = createServer(
  guard.request((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (pathname === '/drain') guard.manager.drain();
    if (pathname === '/guard') return response.end(JSON.stringify(guard.snapshot()));
    if (pathname === '/events') {
      const end = () => response.end('event: bye\ndata:\n\n');
      guard.draining.addEventListener('abort', end);
      response.once('close', () => guard.draining.removeEventListener('abort', end));
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      return void response.write('data: hello\n\n');
    }
    const other = answer(
      pathname,
      searchParams,
      signalOf(request),
      () => bodyOf(request),
      guard.draining,
    );
    if (other === undefined) return response.end(JSON.stringify(guard.manager.getStats()));
    other.then(
      (text) => response.end(text),
      () => {
        response.statusCode = 500;
        response.end();
      },
    );
  }),
);
shutdown.add(guard.drainable(server));
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws, request) => {
  if (request.url?.endsWith('throw')) throw new Error('open failed');
  ws.on('message', (data, isBinary) => {
    const connection = connectionOf(ws);
    const text = String(data);
    if (text === 'figures')
      ws.send(
        JSON.stringify([
          connection?.messageCount,
          connection?.bytesReceived,
          connection?.bytesSent,
          connection?.ip,
          connection?.userId,
        ]),
      );
    else if (text === 'text') ws.send('é');
    else if (text === 'flood') for (let i = 0; i < 64; i++) ws.send('x'.repeat(2 ** 18));
    else ws.send(data, { binary: isBinary });
  });
});
guard.attach(server, webSocketServer);
const onListening = () => listening(server.address().port);
if (path === undefined) server.listen(0, '127.0.0.1', onListening);
else server.listen(path, onListening);
