import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import {
  GracefulShutdown,
  type PortcullisError,
  ProductionMetrics,
  TimerManager,
} from '../dist/index.js';
import { connectionOf, portcullis, type WsGuard } from '../dist/ws.js';
import { until } from './fixtures/until.js';

// `protect()` of portcullis/ws: servers that the application or its framework made.
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

type Options = Parameters<typeof portcullis>[0];
type Made = readonly [webSocketServer: WebSocketServer, url: string];

function guarded(options: Options = { limits: { maxConnectionsPerIp: 2 } }): WsGuard {
  const guard = portcullis(options);
  ends.push(() => guard.close());
  return guard;
}

async function listening(): Promise<[server: Server, url: string]> {
  const server = createServer((_request, response) => response.end('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => (server.closeAllConnections(), server.close()));
  return [server, `ws://127.0.0.1:${(server.address() as AddressInfo).port}`];
}

/** Answers each message with itself, and ends with the test. */
function echoing(webSocketServer: WebSocketServer): WebSocketServer {
  webSocketServer.on('connection', (ws) => ws.on('message', (data) => ws.send(String(data))));
  ends.push(() => {
    for (const client of webSocketServer.clients) client.terminate();
    webSocketServer.close();
  });
  return webSocketServer;
}

async function onServer(options: object = {}): Promise<Made> {
  const [server, url] = await listening();
  return [echoing(new WebSocketServer({ server, ...options })), url];
}

const MAKES: Record<string, (options?: object) => Promise<Made>> = {
  '{ port }': async (options = {}) => {
    const webSocketServer = echoing(
      new WebSocketServer({ port: 0, host: '127.0.0.1', ...options }),
    );
    await once(webSocketServer, 'listening');
    return [webSocketServer, `ws://127.0.0.1:${(webSocketServer.address() as AddressInfo).port}`];
  },
  '{ server }': onServer,
  '{ noServer }': async (options = {}) => {
    const [server, url] = await listening();
    const webSocketServer = echoing(new WebSocketServer({ noServer: true, ...options }));
    server.on('upgrade', (request, socket, head) =>
      webSocketServer.handleUpgrade(request, socket, head, (ws) =>
        webSocketServer.emit('connection', ws, request),
      ),
    );
    return [webSocketServer, url];
  },
};

/** Connects: the open client, or the status of the refusal. */
function open(url: string, headers: Record<string, string> = {}): Promise<WebSocket | number> {
  const client = new WebSocket(url, { headers });
  ends.push(() => client.terminate());
  return new Promise((resolve) => {
    client.on('open', () => resolve(client));
    client.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? -1));
    client.on('error', () => undefined);
    client.on('close', (code) => resolve(code));
  });
}

async function admitted(url: string, headers: Record<string, string> = {}): Promise<WebSocket> {
  const client = await open(url, headers);
  if (typeof client === 'number') throw new Error(`refused with ${client}`);
  return client;
}

async function ask(client: WebSocket, message: string): Promise<string> {
  client.send(message);
  const [data] = (await once(client, 'message')) as [Buffer];
  return String(data);
}

/** Sends a handshake by hand, and returns the socket with the answer so far. */
function raw(url: string, lines: readonly string[] = []): { socket: Socket; seen: () => string } {
  const { port, pathname } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  ends.push(() => socket.destroy());
  let text = '';
  socket.on('data', (data) => (text += String(data)));
  socket.on('error', () => undefined);
  const own = lines.length > 0 ? lines : ['Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
  socket.write(
    `GET ${pathname} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n${own.join('\r\n')}\r\n` +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  return { socket, seen: () => text };
}

const seats = (guard: WsGuard): number => guard.manager.snapshot().totalConnections;
const judged = (guard: WsGuard): number => {
  const { admitted, refused } = guard.manager.snapshot();
  return admitted + Object.values(refused).reduce((sum, count) => sum + count, 0);
};

/** The code and field of what a call throws. */
function thrown(call: () => unknown): unknown[] {
  try {
    call();
  } catch (error) {
    const { code, field } = error as PortcullisError;
    return [code, field];
  }
  return [];
}

describe.each(Object.entries(MAKES))('a server made with %s', (_make, make) => {
  it('admits to the limit, counts messages, and gets its seats back', async () => {
    const guard = guarded();
    const [webSocketServer, url] = await make();
    guard.protect(webSocketServer);
    const [first, second] = [await admitted(url), await admitted(url)];
    expect(await open(url)).toBe(429);
    expect(await ask(first, 'hello')).toBe('hello');
    const connections = [...webSocketServer.clients].map(connectionOf);
    expect(connections.map((one) => one?.messageCount)).toEqual([1, 0]);
    expect(connections[0]?.bytesSent).toBe(5);
    first.close();
    await until(() => seats(guard) === 1);
    second.terminate();
    await until(() => seats(guard) === 0);
    expect(await ask(await admitted(url), 'again')).toBe('again');
  });

  it('refuses by close code, and nobody hears of the socket', async () => {
    const guard = guarded({ limits: { maxConnectionsPerIp: 1 }, refuseWith: 'close' });
    const [webSocketServer, url] = await make();
    guard.protect(webSocketServer);
    let announced = 0;
    webSocketServer.on('connection', () => announced++);
    await admitted(url);
    const [code] = (await once(await admitted(url), 'close')) as [number];
    expect([code, announced]).toEqual([1008, 1]);
  });

  it('refuses everybody while it drains', async () => {
    const guard = guarded();
    const [webSocketServer, url] = await make();
    guard.protect(webSocketServer);
    guard.manager.drain();
    expect(await open(url)).toBe(503);
  });

  it('answers other protocols and malformed handshakes itself, without a seat', async () => {
    const guard = guarded();
    const [webSocketServer, url] = await make();
    guard.protect(webSocketServer);
    const other = raw(url, ['Upgrade: h2c']);
    await once(other.socket, 'close');
    const malformed = raw(url, ['Upgrade: websocket', 'Sec-WebSocket-Version: 5']);
    await once(malformed.socket, 'close');
    for (const { seen } of [other, malformed]) expect(seen()).toMatch(/^HTTP\/1.1 4\d\d /);
    await until(() => seats(guard) === 0);
  });
});

describe('the callback of handleUpgrade', () => {
  it('is called for admitted clients only, and no event is emitted beside it', async () => {
    const guard = guarded({ limits: { maxConnectionsPerIp: 1 } });
    const [server, url] = await listening();
    const webSocketServer = echoing(new WebSocketServer({ noServer: true }));
    guard.protect(webSocketServer);
    const calls: unknown[] = [];
    let events = 0;
    webSocketServer.on('connection', () => events++);
    server.on('upgrade', (request, socket, head) =>
      webSocketServer.handleUpgrade(request, socket, head, (ws, own) =>
        calls.push([connectionOf(ws)?.ip, own === request]),
      ),
    );
    await admitted(url);
    expect(await open(url)).toBe(429);
    expect([calls, events]).toEqual([[['127.0.0.1', true]], 0]);
  });

  it('that throws closes its socket with 1011, and frees its seat', async () => {
    const guard = guarded();
    const [server, url] = await listening();
    const webSocketServer = echoing(new WebSocketServer({ noServer: true }));
    guard.protect(webSocketServer);
    const errors: string[] = [];
    server.on('upgrade', (request, socket, head) => {
      try {
        webSocketServer.handleUpgrade(request, socket, head, () => {
          throw new Error('on purpose');
        });
      } catch (error) {
        errors.push((error as Error).message);
      }
    });
    const [code] = (await once(await admitted(url), 'close')) as [number];
    expect([code, errors]).toEqual([1011, ['on purpose']]);
    await until(() => seats(guard) === 0);
  });
});

describe('a handshake that the server does not handle', () => {
  it('is answered with 400 by ws, is not judged, and takes no seat: another path', async () => {
    const guard = guarded({ limits: { connectRatePerIp: { limit: 1, windowMs: 60_000 } } });
    const [webSocketServer, url] = await onServer({ path: '/ws' });
    guard.protect(webSocketServer);
    expect([await open(`${url}/other`), await open(`${url}/ws/`)]).toEqual([400, 400]);
    // The rate is not spent.
    await admitted(`${url}/ws?room=1`);
    expect([await open(`${url}/ws`), await open(`${url}/other`)]).toEqual([429, 400]);
    expect(judged(guard)).toBe(2);
  });

  it('is not judged if the application overrides shouldHandle', async () => {
    const guard = guarded({ limits: { maxTotalConnections: 0 } });
    const [webSocketServer, url] = await onServer();
    webSocketServer.shouldHandle = ({ url: target }) => target === '/mine';
    guard.protect(webSocketServer);
    expect([await open(`${url}/other`), judged(guard)]).toEqual([400, 0]);
    expect(await open(`${url}/mine`)).toBe(503);
  });

  it.each(['sync', 'async'])('gets its seat back if verifyClient refuses (%s)', async (kind) => {
    const guard = guarded();
    const isWanted = (target: string | undefined): boolean => target !== '/stranger';
    const verifyClient =
      kind === 'sync'
        ? ({ req }: { req: { url?: string } }) => isWanted(req.url)
        : ({ req }: { req: { url?: string } }, done: (wanted: boolean) => void) =>
            void setTimeout(() => done(isWanted(req.url)), 5);
    const [webSocketServer, url] = await onServer({ verifyClient });
    guard.protect(webSocketServer);
    for (let count = 0; count < 5; count++) expect(await open(`${url}/stranger`)).toBe(401);
    await until(() => seats(guard) === 0);
    await admitted(`${url}/friend`);
    expect(guard.manager.snapshot().refused).toEqual({});
  });

  it('is answered once where several servers share an HTTP server', async () => {
    const [server, url] = await listening();
    const full = { limits: { maxTotalConnections: 0 } };
    const [a, b] = [guarded(full), guarded(full)];
    const [ofA, ofB] = ['/a', '/b'].map((path) => echoing(new WebSocketServer({ server, path })));
    a.protect(ofA!);
    b.protect(ofB!);
    // `ws` refuses with 400 the paths of the others, whose guards must not count that.
    expect(await open(`${url}/b`)).toBe(400);
    await until(() => seats(a) + seats(b) === 0);
    expect([judged(a), judged(b)]).toEqual([0, 0]);
  });
});

describe('a client that leaves while its identity is looked up', () => {
  it.each(['end', 'resetAndDestroy'] as const)('gives its seat back: %s', async (go) => {
    let asked = 0;
    const guard = guarded({
      limits: { maxConnectionsPerIp: 1 },
      identify: () => (asked++, new Promise<string>(() => undefined)),
    });
    const [webSocketServer, url] = await onServer();
    guard.protect(webSocketServer);
    for (let count = 1; count <= 3; count++) {
      const { socket } = raw(url);
      await until(() => asked === count);
      socket[go]();
      await until(() => seats(guard) === 0);
    }
    expect(guard.manager.snapshot().refused).toEqual({});
  });
});

describe('the function that protect() returns', () => {
  it.each(Object.entries(MAKES))('restores the server: %s', async (_, make) => {
    const guard = guarded({ limits: { maxConnectionsPerIp: 1 }, websockets: {} });
    const [webSocketServer, url] = await make();
    const before = { ...webSocketServer.options };
    const undo = guard.protect(webSocketServer);
    await admitted(url);
    expect(await open(url)).toBe(429);
    undo();
    undo();
    expect(Object.hasOwn(webSocketServer, 'handleUpgrade')).toBe(false);
    expect(webSocketServer.options).toEqual(before);
    const stranger = await admitted(url);
    expect(await ask(stranger, 'hello')).toBe('hello');
    // The admitted connection stays guarded; the other one is not.
    expect([seats(guard), [...webSocketServer.clients].map(connectionOf).length]).toEqual([1, 2]);
    // A second guard may come, and the first function does not undo it.
    const second = guarded({ limits: { maxTotalConnections: 0 } });
    second.protect(webSocketServer);
    undo();
    expect(await open(url)).toBe(503);
  });

  it("restores the application's own handleUpgrade", async () => {
    const [webSocketServer, url] = await onServer();
    const { handleUpgrade } = webSocketServer;
    let calls = 0;
    const own: typeof handleUpgrade = (...args) => {
      calls++;
      handleUpgrade.apply(webSocketServer, args);
    };
    Object.defineProperty(webSocketServer, 'handleUpgrade', {
      value: own,
      configurable: true,
      enumerable: false,
      writable: true,
    });
    const before = Object.getOwnPropertyDescriptor(webSocketServer, 'handleUpgrade');
    const undo = guarded().protect(webSocketServer);
    await admitted(url);
    expect(calls).toBe(1);
    undo();
    expect(Object.getOwnPropertyDescriptor(webSocketServer, 'handleUpgrade')).toEqual(before);
  });

  it('leaves a wrapper alone that came later, and lets handshakes pass', async () => {
    const guard = guarded({ limits: { maxConnectionsPerIp: 1 } });
    const [webSocketServer, url] = await onServer();
    const undo = guard.protect(webSocketServer);
    const { handleUpgrade } = webSocketServer;
    let calls = 0;
    const later: typeof handleUpgrade = (...args) => {
      calls++;
      handleUpgrade.apply(webSocketServer, args);
    };
    webSocketServer.handleUpgrade = later;
    await admitted(url);
    expect(await open(url)).toBe(429);
    undo();
    expect(webSocketServer.handleUpgrade).toBe(later);
    await admitted(url);
    expect([calls, seats(guard)]).toEqual([3, 1]);
    // And may be protected again.
    const second = guarded({ limits: { maxTotalConnections: 0 } });
    second.protect(webSocketServer);
    expect(await open(url)).toBe(503);
  });

  it('lets a handshake finish that waits for its identity', async () => {
    let admit: ((user: string) => void) | undefined;
    const guard = guarded({
      limits: {},
      identify: () => new Promise<string>((resolve) => (admit = resolve)),
    });
    const [webSocketServer, url] = await onServer();
    const undo = guard.protect(webSocketServer);
    const client = admitted(url);
    await until(() => admit !== undefined);
    undo();
    admit?.('ann');
    await client;
    expect([...webSocketServer.clients].map((ws) => connectionOf(ws)?.userId)).toEqual(['ann']);
  });
});

describe('arguments of protect()', () => {
  it('that are wrong are refused at the call, by name', async () => {
    const [server] = await listening();
    const guard = guarded() as unknown as { protect(value?: unknown): () => void };
    for (const value of [undefined, null, 7, 'ws', {}, server, WebSocketServer])
      expect(thrown(() => guard.protect(value))).toEqual([
        'ERR_INVALID_ARG_TYPE',
        'webSocketServer',
      ]);
  });

  it('that have a guard are refused: protected, attached, by this guard or another', async () => {
    const [server, url] = await listening();
    const webSocketServer = echoing(new WebSocketServer({ noServer: true }));
    const [guard, other] = [guarded(), guarded()];
    const refused = ['ERR_OUT_OF_RANGE', 'webSocketServer'];
    const detach = guard.attach(server, webSocketServer);
    for (const one of [guard, other])
      expect(thrown(() => one.protect(webSocketServer))).toEqual(refused);
    detach();
    detach();
    const undo = guard.protect(webSocketServer);
    for (const one of [guard, other]) {
      expect(thrown(() => one.protect(webSocketServer))).toEqual(refused);
      expect(thrown(() => one.attach(server, webSocketServer))).toEqual(refused);
    }
    expect(server.listenerCount('upgrade')).toBe(0);
    undo();
    other.attach(server, webSocketServer);
    expect(await ask(await admitted(url), 'hello')).toBe('hello');
    expect([seats(guard), seats(other)]).toEqual([0, 1]);
  });

  it('are refused by a closed guard', async () => {
    const [webSocketServer] = await onServer();
    const guard = guarded();
    guard.close();
    expect(thrown(() => guard.protect(webSocketServer))).toEqual(['ERR_CLOSED', undefined]);
    const sharing = guarded({ manager: guarded().manager });
    sharing.close();
    expect(thrown(() => sharing.protect(webSocketServer))[0]).toBe('ERR_CLOSED');
    expect(Object.hasOwn(webSocketServer, 'handleUpgrade')).toBe(false);
  });

  it('are named by attach(), which takes no server with an HTTP server of its own', async () => {
    const [webSocketServer] = await onServer();
    const [server] = await listening();
    expect(() => guarded().attach(server, webSocketServer)).toThrow(/protect\(webSocketServer\)/);
  });
});

it('handleUpgrade() of a guard has a protected server judge once', async () => {
  const guard = guarded({ limits: {} });
  const [server, url] = await listening();
  const webSocketServer = echoing(new WebSocketServer({ noServer: true }));
  guard.protect(webSocketServer);
  server.on('upgrade', (request, socket, head) =>
    guard.handleUpgrade(webSocketServer, request, socket, head),
  );
  expect(await ask(await admitted(url), 'hello')).toBe('hello');
  expect([judged(guard), seats(guard)]).toEqual([1, 1]);
});

it('a protection of { server } counts its requests, until it is undone', async () => {
  const timers = new TimerManager();
  const metrics = new ProductionMetrics({ timers });
  ends.push(() => (metrics.close(), timers.close()));
  const [webSocketServer, url] = await onServer();
  const listener = webSocketServer.options.server!;
  const before = listener.listenerCount('request');
  const undo = guarded({ limits: {}, metrics }).protect(webSocketServer);
  await fetch(url.replace('ws', 'http'));
  await until(async () => /^http_requests_total\{.*\} 1$/m.test(await metrics.toPrometheus()));
  undo();
  expect(listener.listenerCount('request')).toBe(before);
});

describe('drainable()', () => {
  it.each(['{ port }', '{ server }'])('takes a server made with %s', async (name) => {
    const timers = new TimerManager();
    ends.push(() => timers.close());
    const guard = guarded({ limits: {}, timers });
    const [webSocketServer, url] = await MAKES[name]!();
    guard.protect(webSocketServer);
    const shutdown = new GracefulShutdown(timers).add(guard.drainable(webSocketServer));
    const client = await admitted(url);
    const closed = once(client, 'close') as Promise<[number]>;
    const result = await shutdown.shutdown('test');
    const [code] = await closed;
    expect([code, result.graceful]).toEqual([1001, true]);
    await expect(fetch(url.replace('ws', 'http'))).rejects.toThrow();
  });

  it('refuses a server without an HTTP server, and other values', () => {
    const guard = guarded() as unknown as { drainable(value?: unknown): unknown };
    const alone = echoing(new WebSocketServer({ noServer: true }));
    expect(thrown(() => guard.drainable(alone))).toEqual(['ERR_OUT_OF_RANGE', 'server']);
    for (const value of [undefined, null, 3000, {}])
      expect(thrown(() => guard.drainable(value))).toEqual(['ERR_INVALID_ARG_TYPE', 'server']);
  });
});

it('a closed guard refuses the clients of the servers that it protects', async () => {
  const guard = guarded({ limits: {} });
  const [webSocketServer, url] = await onServer();
  guard.protect(webSocketServer);
  const client = await admitted(url);
  guard.close();
  await once(client, 'close');
  expect(await open(url)).toBe(503);
});
