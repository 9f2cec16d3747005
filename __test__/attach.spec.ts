import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { PortcullisError } from '../dist/index.js';
import { portcullis, type WsGuard } from '../dist/ws.js';
import { pause, until } from './fixtures/until.js';

// `attach()` of portcullis/ws: its arguments, and servers whose upgrades go to several listeners.
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

function guarded(): WsGuard {
  const guard = portcullis({ limits: {} });
  ends.push(() => guard.close());
  return guard;
}

async function listening(): Promise<[server: Server, port: number]> {
  const server = createServer((_request, response) => response.end('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => (server.closeAllConnections(), server.close()));
  return [server, (server.address() as AddressInfo).port];
}

/** A WebSocketServer that answers each message with its name. */
function named(name: string, options: object = {}): WebSocketServer {
  const webSocketServer = new WebSocketServer({ noServer: true, ...options });
  webSocketServer.on('connection', (ws) =>
    ws.on('message', (data) => ws.send(`${name}: ${String(data)}`)),
  );
  ends.push(() => {
    for (const client of webSocketServer.clients) client.terminate();
    webSocketServer.close();
  });
  return webSocketServer;
}

/** Connects, and returns the answer to a message, or the status of the refusal. */
async function ask(port: number, path: string): Promise<string | number> {
  const client = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  ends.push(() => client.terminate());
  return new Promise((resolve) => {
    client.on('open', () => client.send('hello'));
    client.on('message', (data) => resolve(String(data)));
    client.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? -1));
    client.on('error', () => undefined);
    client.on('close', (code) => resolve(code));
  });
}

function raw(
  port: number,
  target: string,
  upgrade = 'websocket',
): { socket: Socket; seen: () => string } {
  const socket = connect(port, '127.0.0.1');
  ends.push(() => socket.destroy());
  socket.on('error', () => undefined);
  let text = '';
  socket.on('data', (data) => (text += String(data)));
  socket.write(
    `GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  return { socket, seen: () => text };
}

/** A listener of another library: its handshakes go to a WebSocketServer of its own. */
function other(server: Server, path: string): void {
  const webSocketServer = named('other');
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    if (request.url?.split('?')[0] !== path) return;
    webSocketServer.handleUpgrade(request, socket, head, (ws) =>
      webSocketServer.emit('connection', ws, request),
    );
  });
}

describe('arguments of attach()', () => {
  it('that are wrong are refused at the call, by name', async () => {
    const [server] = await listening();
    const webSocketServer = named('ours');
    const own = new WebSocketServer({ port: 0 });
    ends.push(() => own.close());
    const guard = guarded() as unknown as { attach(...args: unknown[]): () => void };
    for (const [args, code, field] of [
      [[], 'ERR_INVALID_ARG_TYPE', 'server'],
      [[undefined, webSocketServer], 'ERR_INVALID_ARG_TYPE', 'server'],
      [[3000, webSocketServer], 'ERR_INVALID_ARG_TYPE', 'server'],
      [[webSocketServer, server], 'ERR_INVALID_ARG_TYPE', 'server'],
      [[server], 'ERR_INVALID_ARG_TYPE', 'webSocketServer'],
      [[server, {}], 'ERR_INVALID_ARG_TYPE', 'webSocketServer'],
      [[server, server], 'ERR_INVALID_ARG_TYPE', 'webSocketServer'],
      [[server, own], 'ERR_OUT_OF_RANGE', 'webSocketServer'],
      [[server, webSocketServer, null], 'ERR_INVALID_ARG_TYPE', 'options'],
      [[server, webSocketServer, '/ws'], 'ERR_INVALID_ARG_TYPE', 'options'],
      [[server, webSocketServer, { pth: '/ws' }], 'ERR_UNKNOWN_OPTION', 'pth'],
      [[server, webSocketServer, { path: 7 }], 'ERR_INVALID_ARG_TYPE', 'path'],
      [[server, webSocketServer, { path: '' }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, webSocketServer, { path: 'ws' }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, webSocketServer, { path: '/ws?x' }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, webSocketServer, { path: '/a b' }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, webSocketServer, { path: '/a/../ws' }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, webSocketServer, { path: `/${'x'.repeat(1024)}` }], 'ERR_OUT_OF_RANGE', 'path'],
      [[server, named('own', { path: '/own' }), { path: '/ws' }], 'ERR_OUT_OF_RANGE', 'path'],
    ] as const) {
      let error: PortcullisError | undefined;
      try {
        guard.attach(...args);
      } catch (thrown) {
        error = thrown as PortcullisError;
      }
      expect([error?.code, error?.field, args.length]).toEqual([code, field, args.length]);
    }
    expect(server.listeners('upgrade')).toEqual([]);
  });

  it('that were given before are refused, until they are detached', async () => {
    const [server, port] = await listening();
    const guard = guarded();
    const webSocketServer = named('ours');
    const thrown = (attach: () => unknown): unknown[] => {
      try {
        attach();
      } catch (error) {
        const { code, field } = error as PortcullisError;
        return [code, field];
      }
      return [];
    };
    const detach = guard.attach(server, webSocketServer);
    expect(thrown(() => guard.attach(server, webSocketServer))).toEqual([
      'ERR_OUT_OF_RANGE',
      'webSocketServer',
    ]);
    // Both would answer each client.
    expect(thrown(() => guarded().attach(server, named('second')))).toEqual([
      'ERR_OUT_OF_RANGE',
      'path',
    ]);
    expect(await ask(port, '/')).toBe('ours: hello');
    detach();
    detach();
    expect(server.listeners('upgrade')).toEqual([]);
    guarded().attach(server, named('second'));
    detach();
    expect(await ask(port, '/')).toBe('second: hello');
  });
});

describe('two guards on one server', () => {
  it('get the handshakes of their paths, letter for letter; other paths get 404', async () => {
    const [server, port] = await listening();
    const [a, b] = [guarded(), guarded()];
    a.attach(server, named('a'), { path: '/a' });
    const detach = b.attach(server, named('b'), { path: '/b' });
    expect(await ask(port, '/a')).toBe('a: hello');
    expect(await ask(port, '/a?b=/b')).toBe('a: hello');
    expect(await ask(port, '/b')).toBe('b: hello');
    for (const path of ['/', '/a/', '/A', '/a/b', '/c', '/%61'])
      expect([path, await ask(port, path)]).toEqual([path, 404]);
    const absolute = raw(port, `http://127.0.0.1:${port}/b`);
    await until(() => absolute.seen().startsWith('HTTP/1.1 101'));
    const stray = raw(port, '/c');
    await once(stray.socket, 'close');
    expect(stray.seen()).toContain('"code":"no_websocket_path"');
    expect([a, b].map(({ manager }) => manager.snapshot().admitted)).toEqual([2, 2]);
    detach();
    expect(await ask(port, '/b')).toBe(404);
  });

  it('may be one for a path and one for all others', async () => {
    const [server, port] = await listening();
    guarded().attach(server, named('rest'));
    guarded().attach(server, named('a'), { path: '/a' });
    expect([await ask(port, '/a'), await ask(port, '/b'), await ask(port, '/')]).toEqual([
      'a: hello',
      'rest: hello',
      'rest: hello',
    ]);
  });
});

describe('another listener of upgrade', () => {
  it.each(['before', 'behind'])('%s the guard keeps its sockets', async (where) => {
    const [server, port] = await listening();
    const guard = guarded();
    if (where === 'before') other(server, '/other');
    guard.attach(server, named('ours'), { path: '/ws' });
    if (where === 'behind') other(server, '/other');
    expect([await ask(port, '/other'), await ask(port, '/ws')]).toEqual([
      'other: hello',
      'ours: hello',
    ]);
    // The socket has no answer yet: another listener may give it later.
    const stray = raw(port, '/nobody');
    await pause(100);
    expect([stray.seen(), stray.socket.destroyed]).toEqual(['', false]);
    expect(guard.manager.snapshot().admitted).toBe(1);
    // A reset of a socket that nobody handles ends no process.
    stray.socket.resetAndDestroy();
    await pause(50);
    expect(await ask(port, '/ws')).toBe('ours: hello');
  });

  it('keeps its sockets if only the WebSocketServer names the path', async () => {
    const [server, port] = await listening();
    other(server, '/other');
    guarded().attach(server, named('ours', { path: '/ws' }));
    expect([await ask(port, '/other'), await ask(port, '/ws')]).toEqual([
      'other: hello',
      'ours: hello',
    ]);
  });

  it('keeps the sockets that it has answered before a guard for all paths', async () => {
    const [server, port] = await listening();
    const guard = guarded();
    other(server, '/other');
    guard.attach(server, named('ours'));
    expect([await ask(port, '/other'), await ask(port, '/ws')]).toEqual([
      'other: hello',
      'ours: hello',
    ]);
    expect(guard.manager.snapshot().admitted).toBe(1);
  });

  it('gets other protocols; without one they get 400', async () => {
    const [server, port] = await listening();
    guarded().attach(server, named('ours'), { path: '/ws' });
    const alone = raw(port, '/ws', 'h2c');
    await once(alone.socket, 'close');
    expect(alone.seen()).toMatch(/^HTTP\/1.1 400 .*no_websocket_handshake/s);
    server.on('upgrade', (request, socket: Duplex) => {
      if (request.headers.upgrade === 'h2c') socket.end('theirs');
    });
    const theirs = raw(port, '/ws', 'h2c');
    await once(theirs.socket, 'close');
    expect(theirs.seen()).toBe('theirs');
  });
});
