import { describe, expect, it, vi } from 'vitest';
import {
  ConnectionManager,
  GracefulShutdown,
  InputValidator,
  LivePage,
  MessageRouter,
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
  isPublicAddress,
  scanJson,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';

// The tables "What if" of docs/api/: a call twice, after the end, with NaN, with a hook that throws.
const junk = (value: unknown): never => value as never;
const fails = (code: string): object => expect.objectContaining({ code });

describe('a connection manager', () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const ip = '192.0.2.1';

  it('is called twice, and after its end', () => {
    const manager = new ConnectionManager({}, timers);
    const { connection } = manager.addConnection('a', new FakeSocket(), ip);
    expect(manager.addConnection('a', new FakeSocket(), ip)).toMatchObject({
      code: 'duplicate_id',
    });
    expect([
      manager.release(connection!),
      manager.release(connection!),
      manager.removeConnection('a'),
    ]).toEqual([true, false, false]);
    expect([
      connection!.received(1),
      connection!.sent(1),
      connection!.touch(),
      connection!.messageCount,
    ]).toEqual(['stale', 'stale', 'stale', 0]);
    const lease = manager.reserve(ip);
    if (!lease.success) throw new Error('refused');
    expect([manager.abort(lease), manager.abort(lease)]).toEqual([true, false]);
    expect(manager.commit(lease, 'b', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
    manager.close();
    manager.close();
    expect([manager.reserve(ip), manager.addConnection('c', new FakeSocket(), ip)]).toEqual([
      fails('closed'),
      fails('closed'),
    ]);
    for (const change of [
      () => manager.drain(),
      () => manager.resume(),
      () => manager.updateLimits({}),
    ])
      expect(change).toThrow(fails('ERR_CLOSED'));
    expect([manager.snapshot().totalConnections, manager.cleanupStaleConnections()]).toEqual([
      0, 0,
    ]);
  });

  it('gets NaN, and a socket that throws', () => {
    const manager = new ConnectionManager({}, timers);
    const socket = { close: vi.fn(() => junk(undefined)) };
    const { connection } = manager.addConnection('a', socket, 'no address');
    expect(() => connection!.received(Number.NaN)).toThrow(fails('ERR_OUT_OF_RANGE'));
    expect(connection!.messageCount).toBe(0);
    socket.close.mockImplementation(() => {
      throw new Error('gone');
    });
    connection!.close();
    expect(manager.snapshot().totalConnections).toBe(0);
    expect(() => manager.updateLimits({ maxConnectionsPerIp: Number.NaN })).toThrow(
      fails('ERR_OUT_OF_RANGE'),
    );
    expect(manager.snapshot().limits).toEqual({});
    manager.close();
  });
});

describe('a timer manager', () => {
  it('gets NaN, is cleared twice, and used after its end', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const fired = vi.fn();
    timers.setTimeout(fired, Number.NaN);
    timers.setTimeout(fired, -5);
    clock.advance(1);
    expect(fired).toHaveBeenCalledTimes(2);
    const timer = timers.setTimeout(fired, 10);
    timers.clearTimeout(timer);
    timers.clearTimeout(timer);
    timers.clearTimeout(junk({}));
    expect([timers.close(), timers.close()]).toEqual([
      { timeouts: 0, intervals: 0 },
      { timeouts: 0, intervals: 0 },
    ]);
    timers.setTimeout(fired, 1).refresh();
    clock.advance(10);
    expect([
      fired.mock.calls.length,
      timers.getActiveTimersCount(),
      timers.snapshot().inert,
    ]).toEqual([2, 0, 1]);
    await expect(timers.sleep(1)).rejects.toThrow(fails('ERR_CLOSED'));
    const strict = new TimerManager({ clock, strict: true });
    strict.close();
    expect(() => strict.setTimeout(fired, 1)).toThrow(fails('ERR_CLOSED'));
  });
});

describe('a middleware chain', () => {
  const timers = new TimerManager();
  it('has layers that throw, call next() twice or not at all', async () => {
    const run = (
      middleware: (context: object, next: () => Promise<void>) => unknown,
      last?: unknown,
    ): Promise<unknown> =>
      new PerformantMiddlewareChain([{ name: 'a', middleware }], timers).execute()(
        {},
        junk(last ?? (() => undefined)),
      );
    await expect(
      run(() => {
        throw new Error('boom');
      }),
    ).rejects.toThrow('boom');
    await expect(
      run(async (_context, next) => {
        await next();
        await next();
      }),
    ).rejects.toThrow(fails('ERR_NEXT_CALLED_TWICE'));
    const last = vi.fn();
    await run(() => undefined, last);
    expect(last).not.toHaveBeenCalled();
    await expect(run((_context, next) => next(), 5)).rejects.toThrow(fails('ERR_INVALID_ARG_TYPE'));
  });

  it('is changed by a name that is in use or unknown', () => {
    const chain = new PerformantMiddlewareChain(
      [{ name: 'a', middleware: () => undefined }],
      timers,
    );
    const { version } = chain;
    expect(() => chain.add({ name: 'a', middleware: () => undefined })).toThrow(
      fails('ERR_DUPLICATE_NAME'),
    );
    expect(() => chain.enable('b')).toThrow(fails('ERR_UNKNOWN_NAME'));
    expect(() => chain.setPriority('a', Number.NaN)).toThrow(fails('ERR_OUT_OF_RANGE'));
    expect(chain.version).toBe(version);
    expect([chain.remove('a'), chain.remove('a')]).toEqual([true, false]);
  });
});

describe('validators', () => {
  it('get another type', () => {
    expect(scanJson(junk(Number.NaN))).toMatchObject({ error: { code: 'ERR_JSON_TYPE' } });
    expect(InputValidator.safeValidateToken(5)).toMatchObject({
      error: { code: 'ERR_TOKEN_TYPE' },
    });
    expect(InputValidator.safeValidateUrl(undefined)).toMatchObject({
      error: { code: 'ERR_URL_REQUIRED' },
    });
    expect(InputValidator.validateHeaders(null)).toEqual({});
    expect([
      InputValidator.validateJsonPayload(undefined),
      InputValidator.validateJsonPayload(null),
    ]).toEqual([null, null]);
    expect(() => scanJson('1', { maxDepth: Number.NaN })).toThrow(fails('ERR_OUT_OF_RANGE'));
    const { validateToken } = InputValidator;
    expect([validateToken('a.b.c'), isPublicAddress(junk(5))]).toEqual(['a.b.c', false]);
  });
});

describe('a token verifier', () => {
  it('is closed, revokes twice, and gets junk', async () => {
    const verifier = new TokenVerifier({
      algorithms: ['HS256'],
      keys: { secret: 'x'.repeat(32) },
      maxRevocations: 1,
    });
    verifier.revoke({ jti: 'a', exp: 4e9 });
    verifier.revoke({ jti: 'a', exp: 4e9 });
    expect(verifier.snapshot().revocations).toBe(1);
    expect(() => verifier.revoke({ jti: 'b', exp: 4e9 })).toThrow(
      fails('ERR_TOO_MANY_REVOCATIONS'),
    );
    verifier.close();
    verifier.close();
    expect([verifier.check(Number.NaN), verifier.check(undefined), verifier.check('a')]).toEqual([
      'ERR_TOKEN_TYPE',
      'ERR_TOKEN_REQUIRED',
      'ERR_TOKEN_FORMAT',
    ]);
    expect(await verifier.ready()).toBe(true);
    await expect(verifier.verifyBatch(junk(5))).rejects.toThrow(fails('ERR_INVALID_ARG_TYPE'));
  });
});

describe('a monitor', () => {
  it('is closed twice, and asked afterwards', () => {
    const monitor = new ResourceMonitor({});
    monitor.mark(Number.NaN);
    for (let count = 0; count < 3; count++) monitor.requestEnded();
    expect(monitor.getMetrics().activeRequests).toBe(0);
    monitor.close();
    monitor.close();
    expect([monitor.isHealthy(), monitor.state, monitor.stalls(), monitor.shedMs()]).toEqual([
      true,
      'ok',
      [],
      0,
    ]);
    expect(() => monitor.snapshot()).toThrow(fails('ERR_CLOSED'));
  });
});

describe('metrics', () => {
  it('are given NaN, ended twice, and closed', () => {
    const metrics = new ProductionMetrics();
    expect([metrics.checkTargets(), metrics.generateReport().metrics.healthScore]).toEqual([
      true,
      null,
    ]);
    for (const duration of [Number.NaN, -1, Infinity])
      expect(() => metrics.recordRequest(duration)).toThrow(fails('ERR_OUT_OF_RANGE'));
    const request = metrics.startRequest();
    request.end();
    request.end();
    const wrong = metrics.startRequest();
    expect(() => wrong.end({ status: 5 })).toThrow(fails('ERR_OUT_OF_RANGE'));
    expect(metrics.generateReport()).toMatchObject({
      inFlight: 0,
      windows: { lifetime: { requests: 1 } },
    });
    metrics.close();
    metrics.close();
    metrics.recordRequest(1);
    expect(metrics.generateReport().windows.lifetime.requests).toBe(2);
  });
});

describe('a shutdown', () => {
  it('is begun twice, gets late hooks, and has a hook that throws', async () => {
    const onError = vi.fn();
    const shutdown = new GracefulShutdown(new TimerManager(), { onError, preDrainDelayMs: 0 });
    shutdown.onShutdown('bad', () => {
      throw new Error('boom');
    });
    const ended = shutdown.shutdown();
    expect(shutdown.shutdown('again')).toBe(ended);
    expect(() => shutdown.add({ name: 'late' })).toThrow(fails('ERR_CLOSED'));
    expect(() => shutdown.onShutdown('late', () => undefined)).toThrow(fails('ERR_CLOSED'));
    expect([shutdown.readiness().status, shutdown.liveness().status]).toEqual([503, 200]);
    expect(await ended).toMatchObject({
      graceful: false,
      reason: 'shutdown',
      hookErrors: [{ name: 'bad' }],
    });
    expect(onError).toHaveBeenCalledTimes(1);
    expect(
      () =>
        new GracefulShutdown(new TimerManager(), {
          deadlineMs: 100,
          drainWindowMs: 90,
          closeTimeoutMs: 50,
        }),
    ).toThrow(fails('ERR_OUT_OF_RANGE'));
  });
});

describe('a router', () => {
  it('has handlers that throw, an onError that throws, and a type twice', async () => {
    const router = new MessageRouter({
      onError: () => {
        throw new Error('again');
      },
    });
    router.on('boom', () => {
      throw new Error('boom');
    });
    expect(() => router.on('boom', () => undefined)).toThrow(fails('ERR_OUT_OF_RANGE'));
    expect(await router.receive('{"type":"boom"}', junk({}))).toMatchObject({
      problem: { code: 'handler_failed' },
    });
    for (const [raw, code] of [
      ['x', 'invalid_json'],
      [5, 'invalid_envelope'],
      [new Uint8Array(1), 'not_text'],
    ])
      expect(router.parse(raw)).toMatchObject({ success: false, problem: { code } });
    router.close();
    router.close();
    expect(() => router.on('late', () => undefined)).toThrow(fails('ERR_CLOSED'));
    expect(await router.receive('{"type":"boom"}', junk({}))).toMatchObject({
      problem: { code: 'unknown_type' },
    });
  });
});

describe('a live page', () => {
  it('is closed twice, and gets other requests', () => {
    const timers = new TimerManager();
    const page = new LivePage(
      { path: '/page', token: 'x'.repeat(16) },
      { connections: new ConnectionManager({}, timers), timers },
    );
    const ask = (path: string, method = 'GET'): number | undefined =>
      page.fetch(
        new Request(`http://localhost${path}`, {
          method,
          headers: { authorization: `Bearer ${'x'.repeat(16)}` },
        }),
        '127.0.0.1',
      )?.status;
    expect([ask('/other'), ask('/page'), ask('/page', 'POST'), ask('/page/snapshot')]).toEqual([
      undefined,
      200,
      405,
      200,
    ]);
    page.close();
    page.close();
    page.drain();
    expect([ask('/page'), ask('/page/events')]).toEqual([200, 503]);
    timers.cleanup();
  });
});
