import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { connectionOf, portcullis } from '../../dist/socket.io.js';
import { contract } from '../../__test__/servers/options.mjs';
import { announce, engineOptions, figuresOf } from './socket.io-events.mjs';

const { answer, identifying, listening, options, shutdown } = contract();
const guard = portcullis({ ...options, ...identifying((request, name) => request.headers[name]) });
const server = createServer(
  guard.request((request, response) => {
    const [pathname, query] = request.url.split('?');
    const searchParams = new URLSearchParams(query);
    if (pathname === '/drain') guard.manager.drain();
    if (pathname === '/close') {
      void io.close();
      setTimeout(() => console.log(`left ${guard.manager.getStats().totalConnections}`), 100);
    }
    if (pathname === '/guard') return response.end(JSON.stringify(guard.snapshot()));
    if (pathname === '/sessions') return response.end(String(io.engine.clientsCount));
    const other = answer(pathname, searchParams, undefined, () => Promise.resolve(''));
    if (other === undefined) return response.end(JSON.stringify(guard.manager.getStats()));
    return other.then((text) => response.end(text));
  }),
);
shutdown.add(guard.drainable(server));
const io = new Server(server, engineOptions);
guard.attach(io);
if (process.env.SLOW_MIDDLEWARE !== undefined)
  io.engine.use((_request, _response, next) => void setTimeout(next, 100));
if (process.env.SLOW_ID !== undefined) {
  io.engine.generateId = () => new Promise((end) => setTimeout(end, 300, crypto.randomUUID()));
}
announce(io, (socket) => figuresOf(connectionOf(socket)));
process.on('uncaughtException', (error) => console.log(`unhandled ${error.stack}`));
server.listen(0, '127.0.0.1', () => listening(server.address().port));
