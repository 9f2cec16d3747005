// The contestants on Node: `ws` on a `node:http` server. node.mjs CONTESTANT CONNECTIONS
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from '../../dist/ws.js';
import { everything } from './everything.mjs';
import { npmGuard } from './npm.mjs';
import { report } from './report.mjs';
import { answer, limitsFor } from './settings.mjs';
import { twinGuard } from './twin.mjs';

const [, , contestant, connections] = process.argv;
const limits = limitsFor(Number(connections));
const hello = (_request, response) => response.end('hello');

/** A server that is not portcullis': the handler of requests, what it does with upgrades, its seats. */
function plain(guard) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.messageBytes });
  const server = createServer((request, response) => {
    if (request.url !== '/metrics' || guard?.metrics === undefined) return hello(request, response);
    return guard.metrics().then((text) => response.end(text));
  });
  const turnAway = (socket, { status, text }) =>
    socket.end(
      `HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
    );
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const enter = (seat) => {
      if (seat.status !== undefined) return turnAway(socket, seat);
      socket.once('close', () => guard.leave(seat));
      return sockets.handleUpgrade(request, socket, head, (ws) => converse(ws, seat));
    };
    if (guard === undefined)
      return sockets.handleUpgrade(request, socket, head, (ws) => converse(ws));
    const seat = guard.admit(request.socket.remoteAddress, request.headers.authorization);
    return seat instanceof Promise ? seat.then(enter) : enter(seat);
  });
  const converse = (ws, seat) => {
    ws.on('error', () => undefined);
    if (guard === undefined)
      return ws.on('message', (data) => ws.send(JSON.stringify(answer(JSON.parse(data)))));
    guard.open(seat, ws);
    return ws.on('message', (data) => {
      const startMs = performance.now();
      const message = JSON.parse(data);
      const respond = (isGood) => {
        if (!isGood) return;
        const text = JSON.stringify(answer(message));
        ws.send(text);
        guard.sent(seat, text.length, startMs);
      };
      const isGood = guard.received(seat, message);
      return isGood instanceof Promise ? isGood.then(respond) : respond(isGood);
    });
  };
  return { server, seats: guard?.seats ?? (() => sockets.clients.size) };
}

function guarded() {
  const guard = portcullis(everything(limits));
  const server = createServer(guard.request(hello));
  const sockets = new WebSocketServer({ noServer: true });
  sockets.on('connection', (ws) =>
    ws.on('message', (data) => ws.send(JSON.stringify(answer(JSON.parse(data))))),
  );
  guard.attach(server, sockets);
  return { server, seats: () => guard.manager.snapshot().totalConnections };
}

const make = {
  bare: () => plain(),
  twin: () => plain(twinGuard(limits)),
  npm: () => plain(npmGuard(limits)),
  portcullis: guarded,
};
const { server, seats } = make[contestant]();
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
  report(server.address().port, seats),
);
