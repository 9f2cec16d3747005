import { Elysia } from 'elysia';
import { describe, expect, it } from 'vitest';
import { connectionOf, portcullis } from '../dist/elysia.js';
import { PortcullisError } from '../dist/index.js';
import { testServer } from '../dist/testing.js';

const isBun = 'bun' in process.versions;

const make = (options: object = {}) =>
  new Elysia()
    .use(
      portcullis({
        limits: { maxConnectionsPerIp: 1 },
        trustedProxies: ['10.0.0.0/8'],
        requests: { maxPayloadSize: 4 },
        ...options,
      }),
    )
    .ws('/ws', {
      message: (ws, message) =>
        void ws.send(
          `${String(message)} of ${ws.data.connection?.ip}, ${connectionOf(ws)?.messageCount}`,
        ),
    })
    .post('/post', ({ body }) => body)
    .get('/total', ({ portcullis }) => portcullis.manager.total);

// On Node, Elysia without its adapter has no WebSockets: their routes answer 404.
describe.runIf(isBun)('testServer() of an app with a guard: handshakes, on Bun', () => {
  it('admits and refuses handshakes with their status', async () => {
    const app = make();
    using server = testServer(app, { address: '192.0.2.1' });
    const { status, socket } = await server.upgrade('/ws');
    expect(status).toBe(101);
    const refused = await server.upgrade('/ws');
    expect([refused.status, refused.socket]).toEqual([429, undefined]);
    expect(refused.response.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(await refused.response.json()).toMatchObject({ code: 'ip_limit' });
    expect((await server.upgrade('/ws', { address: '192.0.2.2' })).status).toBe(101);
    socket?.receive('hello');
    await expect.poll(() => socket?.sent).toEqual(['hello of 192.0.2.1, 1']);
    socket?.leave();
    expect(await (await server.fetch('/total')).text()).toBe('1');
    expect((await server.upgrade('/ws')).status).toBe(101);
  });

  it('lets app.handle test admission', async () => {
    const app = make();
    const { handle } = app;
    const server = testServer(app);
    const handshake = (): Request =>
      new Request('http://localhost/ws', {
        headers: { upgrade: 'websocket', connection: 'upgrade' },
      });
    expect((await app.handle(handshake())).status).toBe(101);
    expect((await app.handle(handshake())).status).toBe(429);
    expect((await app.handle(new Request('http://localhost/ws'))).status).toBe(404);
    const { manager } = app.decorator.portcullis;
    expect(manager.total).toBe(1);
    server.close();
    expect([manager.total, app.server, app.handle]).toEqual([0, null, handle]);
  });

  it('gives requests an address, also behind proxies', async () => {
    using server = testServer(make());
    const headers = { 'X-Forwarded-For': '198.51.100.7' };
    const { socket } = await server.upgrade('/ws', { address: '10.0.0.1', headers });
    socket?.receive('hello');
    await expect.poll(() => socket?.sent).toEqual(['hello of 198.51.100.7, 1']);
    expect((await server.upgrade('/ws', { address: '10.0.0.2', headers })).status).toBe(429);
    expect((await server.upgrade('/ws', { address: '192.0.2.1', headers })).status).toBe(101);
  });

  // As `bun --hot` does, which evaluates an app again and keeps its server.
  it("of an app that takes another one's server over asks the new guard only", async () => {
    const former = make();
    using server = testServer(former);
    await server.upgrade('/ws');
    const fresh = make();
    fresh.server = former.server;
    const handshake = (): Request =>
      new Request('http://localhost/ws', {
        headers: { upgrade: 'websocket', connection: 'upgrade' },
      });
    const totals = (): number[] =>
      [former, fresh].map(({ decorator }) => decorator.portcullis.manager.total);
    expect((await fresh.handle(handshake())).status).toBe(200);
    expect((await fresh.handle(handshake())).status).toBe(429);
    expect(totals()).toEqual([1, 1]);
    expect(former.decorator.portcullis.manager.snapshot().refused).toEqual({});
    server.close();
    expect(totals()).toEqual([0, 0]);
  });

  it('shows sockets that the server closes', async () => {
    const app = make({
      refuseWith: 'close',
      limits: { maxConnectionsPerIp: 1, maxClosingPerIp: 9 },
    });
    using server = testServer(app);
    const first = await server.upgrade('/ws');
    const second = await server.upgrade('/ws');
    expect([second.status, second.socket?.closed[0]?.code]).toEqual([101, 1008]);
    app.decorator.portcullis.close();
    expect(first.socket?.closed).toEqual([{ code: 1001, reason: 'Server shutdown' }]);
  });
});

describe('testServer() of an app with a guard: requests', () => {
  it('lets app.handle test the limits of requests, and gives each its address', async () => {
    const clients: string[] = [];
    const app = make({
      clientAddress: (_request: Request, peer: string) => {
        clients.push(peer);
        return peer;
      },
      requests: { maxPayloadSize: 4, maxConcurrentPerIp: 1 },
    });
    using server = testServer(app, { address: '192.0.2.1' });
    const post = (body: string): Request =>
      new Request('http://localhost/post', {
        method: 'POST',
        body,
        headers: { 'Content-Length': String(body.length), 'Content-Type': 'text/plain' },
      });
    expect(await (await app.handle(post('four'))).text()).toBe('four');
    const large = await server.fetch(post('too long'), { address: '192.0.2.2' });
    expect([large.status, await large.json()]).toEqual([
      413,
      expect.objectContaining({ code: 'payload_too_large' }),
    ]);
    expect(clients).toEqual(['192.0.2.1', '192.0.2.2']);
    expect(await (await server.fetch('/total')).text()).toBe('0');
    expect(app.decorator.portcullis.snapshot().requests).toMatchObject({
      active: 0,
      refused: { payload_too_large: 1 },
    });
  });

  it.skipIf(isBun)('refuses handshakes on Node (Bun opens them)', async () => {
    using server = testServer(make());
    await expect(server.upgrade('/ws')).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      field: 'upgrade',
    });
  });
});

describe('testServer()', () => {
  const wrong = (call: () => unknown): string | undefined => {
    try {
      call();
    } catch (error) {
      if (error instanceof PortcullisError) return `${error.code} ${error.field}`;
    }
    return undefined;
  };

  it.each<[unknown, unknown, string]>([
    [null, {}, 'ERR_INVALID_ARG_TYPE request'],
    [{ url: '/' }, {}, 'ERR_INVALID_ARG_TYPE request'],
    ['http://[', {}, 'ERR_OUT_OF_RANGE request'],
    ['/', null, 'ERR_INVALID_ARG_TYPE options'],
    ['/', { ip: '192.0.2.1' }, 'ERR_UNKNOWN_OPTION ip'],
    ['/', { address: 5 }, 'ERR_INVALID_ARG_TYPE address'],
    ['/', { headers: { 'a b': '' } }, 'ERR_OUT_OF_RANGE headers'],
    ['/', { headers: { 'x-a': '', 'X-A': '' } }, 'ERR_OUT_OF_RANGE headers'],
    ['/', { headers: { a: 5 } }, 'ERR_INVALID_ARG_TYPE headers.a'],
    ['/', { headers: { a: 'b\n' } }, 'ERR_OUT_OF_RANGE headers.a'],
    [new Request('http://a/'), { headers: { a: 'b' } }, 'ERR_INVALID_ARG_TYPE headers'],
  ])('refuses the request %j with %j', async (request, options, refusal) => {
    using server = testServer({ server: null, handle: () => Promise.resolve(new Response()) });
    const found = await server
      .fetch(request as string, options as object)
      .catch((error: unknown) =>
        error instanceof PortcullisError ? `${error.code} ${error.field}` : error,
      );
    expect(found).toBe(refusal);
  });

  it.runIf(isBun).each<[unknown, unknown, string]>([
    [5, {}, 'ERR_INVALID_ARG_TYPE path'],
    ['/', { address: 5 }, 'ERR_INVALID_ARG_TYPE address'],
    ['/', { x: 1 }, 'ERR_UNKNOWN_OPTION x'],
  ])('refuses the handshake at %j with %j, on Bun', async (path, options, refusal) => {
    using server = testServer(make());
    const found = await server
      .upgrade(path as string, options as object)
      .catch((error: unknown) =>
        error instanceof PortcullisError ? `${error.code} ${error.field}` : error,
      );
    expect(found).toBe(refusal);
  });

  it('refuses wrong arguments, and an app that listens', () => {
    const app = { server: null, handle: () => Promise.resolve(new Response()) };
    expect(wrong(() => testServer({} as never))).toBe('ERR_INVALID_ARG_TYPE app');
    expect(wrong(() => testServer({ ...app, server: {} as never }))).toBe(
      'ERR_INVALID_ARG_TYPE app',
    );
    expect(wrong(() => testServer(app, { ip: '' } as never))).toBe('ERR_UNKNOWN_OPTION ip');
    expect(wrong(() => testServer(app, { address: 5 } as never))).toBe(
      'ERR_INVALID_ARG_TYPE address',
    );
  });
});
