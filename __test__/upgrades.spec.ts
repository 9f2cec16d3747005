import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { TokenVerifier } from '../dist/index.js';
import { portcullis, type WsGuard } from '../dist/ws.js';
import { SECRET, token } from './fixtures/sign.js';
import { until } from './fixtures/until.js';

// Upgrades that a framework routes as requests, and handshakes whose `Host` and target make no URL.
const isBun = 'bun' in process.versions;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

type Options = Parameters<typeof portcullis>[0];
type Handler = (request: IncomingMessage, response: ServerResponse) => void;
const HANDSHAKE = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];
const OTHER = ['Connection: Upgrade', 'Upgrade: foo'];
const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET } });
const RATED: Options = {
  limits: {},
  requests: { rate: { perIp: { limit: 1, windowMs: 60_000 } } },
};

function guarded(options: Options): WsGuard {
  const guard = portcullis(options);
  ends.push(() => guard.close());
  return guard;
}

async function listening(handler: Handler): Promise<[server: Server, port: number]> {
  const server = createServer(handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => (server.closeAllConnections(), server.close()));
  return [server, (server.address() as AddressInfo).port];
}

/** A framework that routes upgrades: `/ws` opens a socket, all other paths are answered. */
async function framework(
  options: Options,
  seen: string[] = [],
): Promise<[WsGuard, Server, number]> {
  const guard = guarded(options);
  const [server, port] = await listening(
    guard.request((_request, response) => response.end('secret')),
  );
  const webSocketServer = new WebSocketServer({ noServer: true });
  webSocketServer.on('connection', (ws) => ws.on('message', (data) => ws.send(String(data))));
  guard.protect(webSocketServer);
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    seen.push(request.url ?? '');
    if (request.url === '/ws')
      webSocketServer.handleUpgrade(request, socket, head, (ws) =>
        webSocketServer.emit('connection', ws, request),
      );
    else if (request.url !== '/wait')
      socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsecret');
  });
  ends.push(() => {
    for (const client of webSocketServer.clients) client.terminate();
  });
  return [guard, server, port];
}

/** Sends a request of these lines: its socket, and the answer so far. */
function ask(
  port: number,
  target: string,
  lines: readonly string[],
  host = 'a',
): { socket: Socket; seen: () => string } {
  const socket = connect(port, '127.0.0.1');
  let seen = '';
  socket.on('error', () => undefined).on('data', (data) => (seen += data.toString('latin1')));
  ends.push(() => socket.destroy());
  socket.write(`GET ${target} HTTP/1.1\r\n${[`Host: ${host}`, ...lines].join('\r\n')}\r\n\r\n`);
  return { socket, seen: () => seen };
}

/** The head of the answer to a request, in lower case, and its body. */
async function answer(...asked: Parameters<typeof ask>): Promise<string> {
  const { seen } = ask(...asked);
  await until(() => seen().includes('\r\n\r\n'));
  return seen();
}
const statusOf = async (...asked: Parameters<typeof ask>): Promise<number> =>
  Number((await answer(...asked)).split(' ')[1]);

describe('an upgrade that a framework routes', () => {
  it('needs the token of a request, and spends its rate', async () => {
    const [guard, server, port] = await framework({
      limits: {},
      auth: { verifier, http: true },
      exemptPaths: ['/healthz'],
    });
    guard.upgrades(server);
    const bearer = `Authorization: Bearer ${token()}`;
    for (const lines of [OTHER, HANDSHAKE]) {
      expect(await statusOf(port, '/admin', lines)).toBe(401);
      expect(await statusOf(port, '/admin', [...lines, bearer])).toBe(200);
      expect(await statusOf(port, '/healthz', lines)).toBe(200);
    }
    expect(await statusOf(port, '/ws', HANDSHAKE)).toBe(401);
    expect(await statusOf(port, '/ws', [...HANDSHAKE, bearer])).toBe(101);
    expect(guard.snapshot().authDenials).toEqual({ ERR_TOKEN_REQUIRED: 3 });

    const [rated, other, otherPort] = await framework(RATED);
    rated.upgrades(other);
    expect(await statusOf(otherPort, '/admin', HANDSHAKE)).toBe(200);
    expect(await statusOf(otherPort, '/admin', OTHER)).toBe(429);
    expect(await statusOf(otherPort, '/admin', ['Connection: close'])).toBe(429);
  });

  it('is judged once by a guard', async () => {
    const [guard, server, port] = await framework(RATED);
    const end = guard.upgrades(server);
    expect(() => guard.upgrades(server)).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'server' }),
    );
    expect(await statusOf(port, '/admin', OTHER)).toBe(200);
    end();
    guard.upgrades(server);
    expect(await statusOf(port, '/admin', OTHER)).toBe(429);
  });

  it('is refused to a banned client', async () => {
    const [guard, server, port] = await framework({
      limits: {},
      banAfter: { failures: 1 },
      trustedProxies: ['127.0.0.1'],
    });
    guard.upgrades(server);
    guard.manager.ban('203.0.113.1', 60_000);
    const from = (ip: string): Promise<number> =>
      statusOf(port, '/admin', [...OTHER, `X-Forwarded-For: ${ip}`]);
    expect(await from('203.0.113.1')).toBe(429);
    expect(await from('203.0.113.2')).toBe(200);
  });

  it('is no request in flight once it is a WebSocket, and is judged by its guard', async () => {
    const [guard, server, port] = await framework({
      limits: { maxConnectionsPerIp: 2 },
      requests: { maxConcurrent: 1 },
    });
    guard.upgrades(server);
    expect(await statusOf(port, '/ws', HANDSHAKE)).toBe(101);
    expect(await statusOf(port, '/ws', HANDSHAKE)).toBe(101);
    expect(await statusOf(port, '/ws', HANDSHAKE)).toBe(429);
    expect(guard.snapshot().requests?.active).toBe(0);
  });

  it('waits for the keys of its token, and its bytes with it', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'a', alg: 'ES256' };
    const [, keysPort] = await listening((_request, response) =>
      response.end(JSON.stringify({ keys: [jwk] })),
    );
    const remote = new TokenVerifier({
      algorithms: ['ES256'],
      jwks: { url: `http://127.0.0.1:${keysPort}/` },
    });
    ends.push(() => remote.close());
    const [guard, server, port] = await framework({
      limits: {},
      auth: { verifier: remote, http: true },
    });
    guard.upgrades(server);
    const good = token({}, privateKey, 'ES256', { kid: 'a' });
    const { socket, seen } = ask(port, '/ws', [...HANDSHAKE, `Authorization: Bearer ${good}`]);
    // A frame that comes with the handshake, and one before its answer.
    socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 104, 105]));
    await until(() => seen().includes('hi'));
    expect(await statusOf(port, '/admin', [...OTHER, 'Authorization: Bearer x'])).toBe(401);
  });

  it('may be reset while the framework has it', async () => {
    const seen: string[] = [];
    const [guard, server, port] = await framework({ limits: {} }, seen);
    guard.upgrades(server);
    const sockets: Duplex[] = [];
    server.on('upgrade', (_request, socket) => sockets.push(socket));
    const { socket } = ask(port, '/wait', HANDSHAKE);
    await until(() => seen.length === 1);
    expect(sockets[0]?.listenerCount('error')).toBeGreaterThan(0);
    socket.resetAndDestroy();
    await until(() => sockets[0]?.destroyed === true);
  });

  it('is left alone once the guard has been taken away, and by a server without a listener', async () => {
    const [guard, server, port] = await framework(RATED);
    const { emit } = server;
    const end = guard.upgrades(server);
    expect(await statusOf(port, '/admin', OTHER)).toBe(200);
    expect(await statusOf(port, '/admin', OTHER)).toBe(429);
    end();
    end();
    expect(server.emit).toBe(emit);
    expect(await statusOf(port, '/admin', OTHER)).toBe(200);
    for (const junk of [undefined, null, {}, 'server', new WebSocketServer({ noServer: true })])
      expect(() => guard.upgrades(junk as unknown as Server)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
      );
  });
});

describe('a handshake whose Host and target make no URL', () => {
  const ROWS = [
    ['/ws', '', 'invalid_host'],
    ['/ws', 'a:99999', 'invalid_host'],
    ['/ws', 'a?x', 'invalid_host'],
    ['//', 'a', 'invalid_target'],
    ['//a:99999/ws', 'a', 'invalid_target'],
  ] as const;

  it.each(['attach', 'protect', 'upgrades'] as const)('gets 400 behind %s', async (way) => {
    const guard = guarded({ limits: {}, banAfter: { failures: 100 } });
    const [server, port] = await listening((_request, response) => response.end());
    const webSocketServer = new WebSocketServer({ noServer: true });
    let heard = 0;
    webSocketServer.on('connection', () => heard++);
    if (way === 'attach') guard.attach(server, webSocketServer);
    else {
      if (way === 'protect') guard.protect(webSocketServer);
      else guard.upgrades(server);
      server.on('upgrade', (request, socket, head) =>
        webSocketServer.handleUpgrade(request, socket, head, (ws) =>
          webSocketServer.emit('connection', ws, request),
        ),
      );
    }
    for (const [target, host, code] of ROWS) {
      const got = await answer(port, target, HANDSHAKE, host);
      // Bun answers some of them itself.
      if (!isBun || got.includes('{')) expect(got).toContain(`"code":"${code}"`);
      expect(got).toMatch(/^HTTP\/1.1 400 /);
    }
    expect(heard).toBe(0);
    if (!isBun)
      expect(guard.snapshot().authDenials).toEqual({ invalid_host: 3, invalid_target: 2 });
    expect(await statusOf(port, '/ws', HANDSHAKE, 'a:80')).toBe(101);
    for (const client of webSocketServer.clients) client.terminate();
  });
});

describe('a handshake that waits', () => {
  // The `ws` of Bun has neither.
  it.skipIf(isBun)(
    'is completed with the settings of its call (the `ws` of Bun has neither)',
    async () => {
      const guard = guarded({ limits: {}, identify: async () => 'ann' });
      const [server, port] = await listening((_request, response) => response.end());
      const webSocketServer = new WebSocketServer({ noServer: true });
      guard.protect(webSocketServer);
      // As Hono and crossws do.
      server.on('upgrade', (request, socket, head) => {
        const add = (headers: string[]): void => void headers.push(`x-own: ${request.url}`);
        webSocketServer.on('headers', add);
        webSocketServer.once('headers', add);
        webSocketServer.options.perMessageDeflate = request.url === '/deflated';
        webSocketServer.handleUpgrade(request, socket, head, () => undefined);
        webSocketServer.options.perMessageDeflate = false;
        webSocketServer.off('headers', add).off('headers', add);
      });
      const asked = [...HANDSHAKE, 'Sec-WebSocket-Extensions: permessage-deflate'];
      const [deflated, plain] = await Promise.all([
        answer(port, '/deflated', asked),
        answer(port, '/plain', asked),
      ]);
      expect(deflated.match(/x-own: \/deflated/g)).toHaveLength(2);
      expect(deflated).toContain('permessage-deflate');
      expect(plain.match(/x-own: .*/g)).toEqual(['x-own: /plain', 'x-own: /plain']);
      expect(plain).not.toContain('permessage-deflate');
      expect(webSocketServer.listenerCount('headers')).toBe(0);
      expect(webSocketServer.options.perMessageDeflate).toBe(false);
      for (const client of webSocketServer.clients) client.terminate();
    },
  );
});
