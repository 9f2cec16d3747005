import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';
import { connectionOf, portcullis } from '../../dist/socket.io.js';
import { contract } from '../../__test__/servers/options.mjs';
import { announce, engineOptions, figuresOf } from './socket.io-events.mjs';

const { identifying, listening, options, shutdown } = contract();
const guard = portcullis<Request>({
  ...options,
  ...identifying((request: Request, name) => request.headers.get(name)),
});
const io = new Server();
const engine = new Engine({ path: '/socket.io/', ...engineOptions });
io.bind(engine);
guard.attach(io);
announce(io, (socket: object) => figuresOf(connectionOf(socket)));
const { fetch, websocket, idleTimeout } = engine.handler();
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  idleTimeout,
  websocket,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === '/drain') guard.manager.drain();
    if (pathname === '/close') {
      engine.close();
      setTimeout(() => console.log(`left ${guard.manager.getStats().totalConnections}`), 100);
    }
    if (pathname === '/guard') return Response.json(guard.snapshot());
    if (pathname === '/sessions') return new Response(String(engine.clients.size));
    return pathname === '/socket.io/'
      ? fetch(request, server)
      : Response.json(guard.manager.getStats());
  },
});
shutdown.add(guard.drainable(server));
process.on('uncaughtException', (error) => console.log(`unhandled ${error.stack}`));
listening(server.port);
