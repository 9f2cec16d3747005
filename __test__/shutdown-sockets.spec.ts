import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { GracefulShutdown } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';
import { until } from './fixtures/until.js';

// Requests that come by other events than `request`, and sockets that leave HTTP, at the end of a server.
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function start(prepare: (server: Server) => void = () => undefined) {
  const guard = portcullis({ limits: {} });
  const server = createServer((_request, response) => response.end('ok'));
  const drainable = guard.drainable(server);
  prepare(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => {
    server.close();
    guard.close();
  });
  return { server, drainable, port: (server.address() as AddressInfo).port };
}

function send(port: number, head: string): Socket & { seen: string } {
  const socket = Object.assign(connect(port, '127.0.0.1'), { seen: '' });
  ends.push(() => socket.destroy());
  socket.on('error', () => undefined).on('data', (data) => (socket.seen += String(data)));
  socket.write(head);
  return socket;
}

const EXPECT = (what: string): string =>
  `POST / HTTP/1.1\r\nHost: a\r\nExpect: ${what}\r\nContent-Length: 1\r\n\r\nx`;
const UPGRADE = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n';

describe('a shutdown', () => {
  it.each([
    ['checkContinue', 'before', EXPECT('100-continue')],
    ['checkContinue', 'after', EXPECT('100-continue')],
    ['checkExpectation', 'after', EXPECT('foo')],
  ])('waits for a request of %s, listened for %s the guard', async (event, when, head) => {
    let held: ServerResponse | undefined;
    const listener = (_request: IncomingMessage, response: ServerResponse): void => {
      held = response;
    };
    const guard = portcullis({ limits: {} });
    const server = createServer();
    if (when === 'before') server.on(event, listener);
    const drainable = guard.drainable(server);
    if (when === 'after') server.on(event, listener);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => guard.close());
    const socket = send((server.address() as AddressInfo).port, head);
    await until(() => held !== undefined);
    const result = new GracefulShutdown().add(drainable).shutdown();
    await new Promise((resolve) => setImmediate(resolve));
    held?.end('held');
    await until(() => socket.closed);
    expect(socket.seen).toMatch(/^HTTP\/1\.1 200 .*held/s);
    expect(await result).toMatchObject({ graceful: true, requestsAborted: 0 });
  });

  it('counts a request once that `checkContinue` passes on', async () => {
    let held: ServerResponse | undefined;
    const { drainable, port } = await start((server) => {
      server.removeAllListeners('request');
      server.on('request', (_request, response) => (held = response));
      server.on('checkContinue', (request, response) => {
        response.writeContinue();
        server.emit('request', request, response);
      });
    });
    const socket = send(port, EXPECT('100-continue'));
    await until(() => held !== undefined);
    expect(drainable.requests?.()).toBe(1);
    held?.end('held');
    await until(() => socket.seen.includes('held'));
    await until(() => drainable.requests?.() === 0);
  });

  it('leaves 100 (Continue) to the host where nobody listens', async () => {
    const listener = (): void => undefined;
    const { server, port } = await start((one) => one.on('checkContinue', listener));
    server.off('checkContinue', listener);
    expect(server.listenerCount('checkContinue')).toBe(0);
    const socket = send(port, EXPECT('100-continue'));
    await until(() => socket.seen.endsWith('ok'));
    expect(socket.seen).toMatch(/^HTTP\/1\.1 100 /);
  });

  it('leaves a request that offers another protocol to the handler where nobody listens', async () => {
    const { server, port } = await start();
    expect(server.listenerCount('upgrade')).toBe(0);
    const socket = send(port, UPGRADE);
    await until(() => socket.seen.endsWith('ok'));
    expect(socket.seen).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('leaves a tunnel of CONNECT to the application', async () => {
    let tunnel: Socket | undefined;
    const { drainable, port } = await start((server) =>
      server.on('connect', (_request, socket) => {
        tunnel = socket as Socket;
        socket.on('error', () => undefined).write('HTTP/1.1 200 OK\r\n\r\n');
      }),
    );
    const client = send(port, 'CONNECT x:1 HTTP/1.1\r\nHost: a\r\n\r\n');
    await until(() => client.seen.endsWith('\r\n\r\n'));
    expect(await new GracefulShutdown().add(drainable).shutdown()).toMatchObject({
      graceful: true,
    });
    tunnel?.end('the rest');
    await until(() => client.closed);
    expect(client.seen).toMatch(/the rest$/);
  });

  it('ends upgrades that nobody has answered, and leaves the others to the application', async () => {
    const sockets: Socket[] = [];
    const { drainable, port } = await start((server) =>
      server.on('upgrade', (request, socket) => {
        sockets.push(socket.on('error', () => undefined) as Socket);
        if (request.url === '/answered') socket.write('HTTP/1.1 101 OK\r\n\r\n');
      }),
    );
    const ignored = send(port, UPGRADE);
    const answered = send(port, UPGRADE.replace('/', '/answered'));
    await until(() => sockets.length === 2 && answered.seen !== '');
    expect(await new GracefulShutdown().add(drainable).shutdown()).toMatchObject({
      graceful: true,
      leftovers: [],
    });
    await until(() => ignored.closed);
    expect(answered.closed).toBe(false);
    await drainable.destroy?.();
    await until(() => answered.closed);
  });
});
