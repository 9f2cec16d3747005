// The contestants on Node.js, with `ws` on a `node:http` server. Arguments: CONTESTANT CONNECTIONS
// [PARTS TO LEAVE OUT]
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from '../dist/ws.js';
import { everything } from './everything.mjs';
import { LeastGuard } from './least.mjs';
import { NpmGuard } from './npm.mjs';
import { report } from './report.mjs';
import { answer, BAN_MS, limitsFor, REFUSAL, REFUSING_PATH } from './settings.mjs';
import { TwinGuard } from './twin.mjs';

const [, , contestant, connections, ...without] = process.argv;
const limits = limitsFor(Number(connections));
const hello = (_request, response) => response.end('hello');
const webSocketServer = () =>
  new WebSocketServer({ noServer: true, maxPayload: limits.messageBytes });

/** Answers every message of a client. */
const answerAll = (ws) =>
  ws.on('message', (data) => ws.send(JSON.stringify(answer(JSON.parse(data)))));

/** Makes a server without a guard. */
function bare() {
  const sockets = webSocketServer();
  const server = createServer(hello);
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    // Every client is refused: what a refusal costs without a guard.
    if (request.url === REFUSING_PATH) return refuse(socket, { status: 503, text: REFUSAL });
    return sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on('error', () => undefined);
      answerAll(ws);
    });
  });
  return { server, seats: () => sockets.clients.size };
}

/** Refuses an upgrade. */
const refuse = (socket, { status, text }) =>
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  );

/** Answers the messages of a client that the guard accepts. */
function converse(guard, ws, seat) {
  ws.on('error', () => undefined);
  guard.open(seat, ws);
  ws.on('message', (data) => {
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
}

/**
 * Makes a server with a guard of its own, as a user would wire it: it admits clients before the
 * upgrade.
 */
function guardedBy(guard) {
  const sockets = webSocketServer();
  const server = createServer((request, response) => {
    if (request.url !== '/metrics' || guard.metrics === undefined) return hello(request, response);
    return guard.metrics().then((text) => response.end(text));
  });
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const enter = (seat) => {
      if (seat.status !== undefined) return refuse(socket, seat);
      socket.once('close', () => guard.leave(seat));
      return sockets.handleUpgrade(request, socket, head, (ws) => converse(guard, ws, seat));
    };
    const seat = guard.admit(request.socket.remoteAddress, request.headers.authorization);
    return seat instanceof Promise ? seat.then(enter) : enter(seat);
  });
  return { server, seats: () => guard.seats() };
}

/** Makes a server with the least guard, wired with nothing that it could do without. */
function leastGuarded() {
  const SEAT = Symbol('seat');
  const guard = new LeastGuard(limits);
  const sockets = webSocketServer();
  const server = createServer(hello);
  function onClose() {
    guard.leave(this[SEAT]);
  }
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const seat = guard.admit(socket.remoteAddress, request.headers.authorization);
    if (typeof seat === 'number') return refuse(socket, { status: seat, text: REFUSAL });
    return sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on('error', () => undefined);
      ws[SEAT] = seat;
      ws.on('close', onClose);
      answerAll(ws);
    });
  });
  return { server, seats: () => guard.seats() };
}

/** Makes a server with every feature of portcullis on. */
function everythingOn() {
  const guard = portcullis(everything(limits, without));
  const server = createServer(guard.request(hello));
  const sockets = new WebSocketServer({ noServer: true });
  sockets.on('connection', answerAll);
  guard.attach(server, sockets);
  const seats = () => guard.manager.snapshot().totalConnections;
  return { server, seats, ban: (address) => guard.manager.ban(address, BAN_MS) };
}

const make = {
  bare,
  least: leastGuarded,
  twin: () => guardedBy(new TwinGuard(limits)),
  npm: () => guardedBy(new NpmGuard(limits)),
  portcullis: everythingOn,
};
const { server, seats, ban } = make[contestant]();
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
  report(server.address().port, seats, ban),
);
