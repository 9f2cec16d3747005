import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { ProductionMetrics, TimerManager, UnauthorizedError } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';

const isBun = 'bun' in process.versions;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

interface Options {
  readonly limits: object;
  readonly requests: { readonly maxConcurrent: number };
  readonly exemptPaths: readonly string[];
  readonly metrics: ProductionMetrics;
}

/** Sends a request byte by byte as given: the status of the answer. */
async function raw(port: number, text: string): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  socket.write(text);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return Number(answer.toString('latin1').split(' ')[1]);
}

async function overNode(options: Options): Promise<number> {
  const guard = portcullis(options);
  const server = createServer(
    guard.request((_request: unknown, response: { end(text: string): unknown }) =>
      response.end('ok'),
    ),
  );
  guard.attach(server, new WebSocketServer({ noServer: true }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
  return (server.address() as AddressInfo).port;
}

async function overBun(options: Options): Promise<number> {
  const { portcullis: guardOf } = await import('../dist/bun.js');
  const guard = guardOf(options);
  const { serve } = (
    globalThis as unknown as {
      Bun: { serve(given: object): { readonly port: number; stop(force: boolean): unknown } };
    }
  ).Bun;
  const server = serve({
    port: 0,
    fetch: guard.fetch(() => new Response('ok')),
    websocket: guard.websocket({}),
  });
  ends.push(() => (guard.manager.cleanup(), server.stop(true)));
  return server.port;
}

async function overElysia(options: Options): Promise<number> {
  const { Elysia } = await import('elysia');
  const { portcullis: plugin } = await import('../dist/elysia.js');
  const app = new Elysia().use(plugin(options)).all('*', 'ok').listen(0);
  ends.push(() => app.stop(true));
  return app.server?.port ?? 0;
}

if (!isBun) console.log('skipped on Node: exempt paths of the adapters of Elysia and Bun need Bun');

describe.each([
  ['portcullis/ws', overNode, true, false],
  ['portcullis/bun', overBun, isBun, true],
  ['portcullis/elysia', overElysia, isBun, true],
] as const)('exemptPaths of %s', (_, serve, isHere, hidesPath) => {
  test.skipIf(!isHere)(
    'are served by GET and HEAD while all else is refused, and are counted nowhere',
    async () => {
      const metrics = new ProductionMetrics();
      ends.push(() => metrics.close());
      const port = await serve({
        limits: {},
        requests: { maxConcurrent: 0 },
        exemptPaths: ['/healthz'],
        metrics,
      });
      const status = async (path: string, method = 'GET'): Promise<number> =>
        (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
      expect(await status('/healthz')).toBe(200);
      expect(await status('/healthz?verbose=1', 'HEAD')).toBe(200);
      expect(await status('/healthz', 'POST')).toBe(503);
      expect(await status('/healthz/')).toBe(503);
      expect(await status('/')).toBe(503);
      // Elysia misreads the path of a URL whose host has one or two letters.
      expect(
        await raw(port, 'GET /healthz?/users/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
      ).toBe(hidesPath ? 503 : 200);
      const { samples, inFlight, refusals } = metrics.generateReport();
      expect([samples, inFlight, refusals]).toEqual([
        0,
        0,
        { too_many_requests_in_flight: hidesPath ? 4 : 3 },
      ]);
    },
  );
});

describe('exemptPaths and identifyTimeoutMs', () => {
  test.each([
    [{ exemptPaths: '/healthz' }, 'exemptPaths'],
    [{ exemptPaths: ['healthz'] }, 'exemptPaths[0]'],
    [{ exemptPaths: ['/a', '/b?c'] }, 'exemptPaths[1]'],
    [{ exemptPaths: ['/a#b'] }, 'exemptPaths[0]'],
    [{ exemptPaths: ['/é'] }, 'exemptPaths[0]'],
    [{ exemptPaths: ['/a\\b'] }, 'exemptPaths[0]'],
    [{ exemptPaths: Array.from({ length: 33 }, (_, at) => `/${at}`) }, 'exemptPaths'],
    [{ identifyTimeoutMs: 0 }, 'identifyTimeoutMs'],
    [{ identifyTimeoutMs: Number.NaN }, 'identifyTimeoutMs'],
    [{ identifyTimeoutMs: Infinity }, 'identifyTimeoutMs'],
  ])('are refused by field: %j', (options, field) => {
    expect(() => portcullis({ limits: {}, ...options } as never)).toThrow(
      expect.objectContaining({ field }),
    );
  });
});

describe('an identify that never settles', () => {
  test('is awaited no longer than identifyTimeoutMs; one that settles leaves no timer', async () => {
    const told: unknown[] = [];
    const guard = portcullis({
      limits: {},
      identifyTimeoutMs: 50,
      identify: ({ url }) =>
        url === '/quick' ? Promise.resolve('ada') : new Promise<string>(() => undefined),
      onIdentifyError: (error) => told.push(error),
    });
    const server = createServer();
    const webSocketServer = new WebSocketServer({ noServer: true });
    guard.attach(server, webSocketServer);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
    const { port } = server.address() as AddressInfo;
    const before = guard.manager.timers.getActiveTimersCount();
    const slow = new WebSocket(`ws://127.0.0.1:${port}/slow`);
    const [{ message }] = (await once(slow, 'error')) as [Error];
    expect(message).toContain('500');
    expect(told).toEqual([
      expect.objectContaining({
        code: 'ERR_IDENTIFY_TIMEOUT',
        field: 'identifyTimeoutMs',
        value: '50',
      }),
    ]);
    expect(guard.snapshot().authDenials).toEqual({ identify_failed: 1 });
    const quick = new WebSocket(`ws://127.0.0.1:${port}/quick`);
    await once(quick, 'open');
    quick.terminate();
    expect(guard.manager.timers.getActiveTimersCount()).toBeLessThanOrEqual(before + 1);
    expect(guard.manager.getStats().totalConnections).toBeLessThanOrEqual(1);
  });
});

describe('an identify over strict timers that were cleaned up', () => {
  test('refuses the client, and its later rejection is no unhandled one', async () => {
    const unhandled: unknown[] = [];
    const listener = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', listener);
    ends.push(() => process.off('unhandledRejection', listener));
    const told: unknown[] = [];
    const timers = new TimerManager({ strict: true });
    let answer: ((error: Error) => void) | undefined;
    const guard = portcullis({
      limits: {},
      timers,
      identify: () => new Promise<string>((_, reject) => (answer = reject)),
      onIdentifyError: (error) => told.push(error),
    });
    const server = createServer();
    guard.attach(server, new WebSocketServer({ noServer: true }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
    timers.cleanup();
    const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await once(client, 'error');
    answer?.(new Error('too late'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual([expect.objectContaining({ code: 'ERR_CLOSED' })]);
    expect(unhandled).toEqual([]);
  });
});

describe('a handler of node:http that throws at once', () => {
  test('keeps no seat, although the host answers nothing', async () => {
    const guard = portcullis({ limits: {}, requests: { maxConcurrent: 1 } });
    const handle = guard.request(() => {
      throw new Error('on purpose');
    });
    const thrown: unknown[] = [];
    const server = createServer((request, response) => {
      try {
        handle(request, response);
      } catch (error) {
        thrown.push([error, guard.snapshot().requests?.active]);
        response.destroy();
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
    await expect(
      fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`),
    ).rejects.toThrow();
    expect(thrown).toEqual([[expect.objectContaining({ message: 'on purpose' }), 0]]);
  });
});

/** Connects a WebSocket client that is refused: the message of its error. */
async function errorOfUpgrade(guard: ReturnType<typeof portcullis>): Promise<string> {
  const server = createServer();
  guard.attach(server, new WebSocketServer({ noServer: true }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const [{ message }] = (await once(client, 'error')) as [Error];
  return message;
}

describe('an identify that returns something other than a name', () => {
  test.each([{ id: 'u1' }, { status: '200 OK\r\nX-Injected: 1', code: 'x' }, 5, true, ['ada']])(
    'refuses with 500 and calls onIdentifyError: %j',
    async (answer) => {
      const told: unknown[] = [];
      const guard = portcullis({
        limits: {},
        identify: () => answer as never,
        onIdentifyError: (error) => told.push(error),
      });
      const message = await errorOfUpgrade(guard);
      expect(message).toContain('500');
      expect(told).toEqual([
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'identify' }),
      ]);
      expect(guard.snapshot().authDenials).toEqual({ identify_failed: 1 });
    },
  );
});

describe('an identify or a clientAddress that fails without an onIdentifyError', () => {
  test.each(['identify', 'clientAddress'] as const)('%s: is one process warning', async (name) => {
    const bug = new Error('of the application');
    const fails = (): never => {
      throw bug;
    };
    const warned: [string, unknown][] = [];
    const listener = (warning: Error): void => void warned.push([warning.message, warning.cause]);
    process.on('warning', listener);
    const guard = portcullis({ limits: {}, [name]: fails });
    const server = createServer();
    guard.attach(server, new WebSocketServer({ noServer: true }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
    for (let at = 0; at < 2; at++) {
      const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
      const [{ message }] = (await once(client, 'error')) as [Error];
      expect(message).toContain('500');
    }
    process.off('warning', listener);
    expect(warned).toEqual([[expect.stringMatching(`^${name} failed; `), bug]]);
  });
});

describe('an identify that returns no name', () => {
  test.each([null, undefined, Promise.resolve(null)])(
    'admits an anonymous client: %j',
    async (answer) => {
      const guard = portcullis({ limits: {}, identify: () => answer });
      const server = createServer();
      guard.attach(server, new WebSocketServer({ noServer: true }));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      ends.push(() => (server.closeAllConnections(), server.close(), guard.manager.cleanup()));
      const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
      await once(client, 'open');
      expect(guard.manager.getStats()).toMatchObject({
        totalConnections: 1,
        anonymousConnections: 1,
      });
      client.terminate();
    },
  );
});

describe('options of a guard', () => {
  test('are read once: later changes of the object do not count', async () => {
    const options = {
      limits: {},
      identify: () => Promise.reject(new UnauthorizedError('nobody')) as Promise<string>,
    };
    const guard = portcullis(options);
    Object.assign(options, { identify: undefined });
    const message = await errorOfUpgrade(guard);
    expect(message).toContain('401');
  });

  test('of its page are read before its manager takes a name', () => {
    const timers = new TimerManager();
    let reads = 0;
    const page = {
      get path(): string {
        if (reads++ > 0) throw new Error('again');
        return '/page';
      },
    };
    const guard = portcullis({ limits: {}, timers, name: 'exempt.spec page', page });
    guard.manager.cleanup();
    expect(reads).toBe(1);
    timers.cleanup();
  });
});

describe.skipIf(!isBun)('Elysia without aot', () => {
  test('is refused: no guard would run before the upgrade', async () => {
    const { Elysia } = await import('elysia');
    const { portcullis: plugin } = await import('../dist/elysia.js');
    const app = new Elysia({ aot: false }).use(plugin({ limits: {} })).get('/', 'ok');
    expect(() => app.listen(0)).toThrow(
      expect.objectContaining({ code: 'ERR_UNSUPPORTED', field: 'aot' }),
    );
  });
});
