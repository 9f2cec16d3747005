// Loads each entry of the installed portcullis by import or by require, and does some real work
// with it. The check copies this file into an empty project and runs it there on every runtime.
//   node probe.mjs import|require
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { connect } from 'node:net';

const require = createRequire(import.meta.url);
const load = process.argv[2] === 'require' ? async (name) => require(name) : (name) => import(name);
const isBun = 'bun' in process.versions;

const {
  ConnectionManager,
  TimerManager,
  TokenVerifier,
  ResourceMonitor,
  ProductionMetrics,
  PortcullisError,
  isPublicAddress,
  scanJson,
} = await load('portcullis');
const { ManualClock, FakeSocket } = await load('portcullis/testing');
assert.match(require('portcullis/package.json').version, /^\d+\.\d+\.\d+/);

const clock = new ManualClock();
const timers = new TimerManager({ clock });
let fired = 0;
timers.setTimeout(() => fired++, 10);
clock.advance(10);
assert.equal(fired, 1);

const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, timers);
assert.equal(manager.addConnection('one', new FakeSocket(), '203.0.113.1').success, true);
assert.equal(manager.addConnection('two', new FakeSocket(), '::ffff:203.0.113.1').code, 'ip_limit');
assert.throws(() => new ConnectionManager({ maxConnectionsPerIp: -1 }, timers), PortcullisError);
manager.close();

assert.equal(scanJson('{"a":[1,2').success, false);
assert.equal(isPublicAddress('127.0.0.1'), false);

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const secret = 'a secret of the thirty-two bytes that are needed';
const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'ada', exp: 4_000_000_000 })}`;
const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret } });
const token = `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
assert.equal(verifier.verify(token).sub, 'ada');
assert.equal(
  (await verifier.verifyBatch([token, `${token}x`])).filter(({ success }) => success).length,
  1,
);

const ownTimers = new TimerManager();
const monitor = new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, { timers: ownTimers });
const metrics = new ProductionMetrics({ timers: ownTimers, monitor });
metrics.recordRequest(12, { route: '/', method: 'GET', status: 200 });
assert.match(await metrics.toPrometheus(), /# TYPE/);
ownTimers.close();

/** Connects a client; returns the status of the answer and the socket. */
async function status(port) {
  // By hand: the HTTP client of older Bun versions supports no upgrades.
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const key = Buffer.alloc(16).toString('base64');
  socket.write(
    `GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
  );
  const [answer] = await once(socket, 'data');
  return [Number(answer.toString('latin1').split(' ')[1]), socket];
}

const { WebSocketServer } = await import('ws');
const server = createServer();
const webSocketServer = new WebSocketServer({ noServer: true });
const ws = await load('portcullis/ws');
const guard = ws.portcullis({ limits: { maxConnectionsPerIp: 1 } });
guard.attach(server, webSocketServer);
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const [first, socket] = await status(server.address().port);
assert.equal(first, 101);
// Bun 1.3 drops data that is written to the socket of an upgrade: a refused client gets no answer.
if (!isBun || !process.versions.bun.startsWith('1.3.'))
  assert.equal((await status(server.address().port))[0], 429);
socket.destroy();
server.close();
guard.manager.close();

const elysia = await load('portcullis/elysia');
const bun = await load('portcullis/bun');
const socketIo = await load('portcullis/socket.io');
assert.equal(typeof socketIo.portcullis({ limits: {} }).attach, 'function');
assert.equal(elysia.default, elysia.portcullis);
if (isBun) {
  const { Elysia } = await import('elysia');
  const app = new Elysia()
    .use(elysia.portcullis({ limits: { maxConnectionsPerIp: 1 } }))
    .ws('/', {});
  app.listen({ port: 0, hostname: '127.0.0.1' });
  assert.equal((await status(app.server.port))[0], 101);
  assert.equal((await status(app.server.port))[0], 429);
  assert.equal(typeof bun.portcullis({ limits: {} }).fetch, 'function');
} else {
  assert.throws(() => new elysia.ElysiaServerBuilder(), { code: 'ERR_UNSUPPORTED' });
  assert.throws(() => bun.portcullis({ limits: {} }), { code: 'ERR_UNSUPPORTED' });
}
console.log('probe passed');
process.exit();
