import { spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import {
  ConnectionManager,
  GracefulShutdown,
  InputValidationError,
  InputValidator,
  LivePage,
  ProductionMetrics,
  ResourceMonitor,
  ManagedConnection,
  MessageRouter,
  MiddlewareChain,
  PortcullisError,
  TimerHandle,
  TimerManager,
  TokenVerifier,
  headersSchema,
  isPublicAddress,
  jsonSchema,
  parseJson,
  resourceLimits,
  safeParseJson,
  scanJson,
  verifyJws,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { portcullis as guardWs } from '../dist/ws.js';

const JUNK: readonly unknown[] = [
  undefined,
  null,
  true,
  Number.NaN,
  Infinity,
  -1,
  -0,
  1.5,
  2 ** 33,
  2 ** 60,
  '',
  'x',
  '💥'.repeat(2000),
  '\ud800',
  Symbol('s'),
  10n,
  {},
  [],
  () => undefined,
  new Proxy({}, {}),
  Object.freeze({ delayMs: 'soon', limits: 3, close: 1 }),
  new Date(Number.NaN),
  new Uint8Array(3),
];

/** Calls every method of `target` with junk arguments; everything it throws must be an error with a short message. */
function bombard(target: object, except: readonly string[] = []): void {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(target) as object).filter(
    (name) => name !== 'constructor' && !except.includes(name),
  );
  for (const name of names) {
    for (const first of JUNK) {
      for (const second of JUNK) {
        try {
          const member = (target as Record<string, unknown>)[name];
          if (typeof member !== 'function') continue;
          const result: unknown = Reflect.apply(member, target, [first, second, first, second]);
          if (result instanceof Promise) result.catch(() => undefined);
        } catch (error) {
          expect(error, name).toBeInstanceOf(Error);
          expect((error as Error).message.length, name).toBeLessThan(400);
          if (error instanceof PortcullisError) expect(error.code).toMatch(/^ERR_/);
        }
      }
    }
  }
}

it('a timer manager accepts any argument, and its count stays right', () => {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  bombard(timers, ['close', 'cleanup', 'interval']);
  const armed = timers.getActiveTimersCount();
  expect(timers.snapshot().active).toBe(armed);
  const cleared = timers.close();
  expect([cleared.timeouts + cleared.intervals, timers.getActiveTimersCount()]).toEqual([armed, 0]);
  const handle = new TimerManager({ clock }).setTimeout(() => undefined, 5);
  expect(handle).toBeInstanceOf(TimerHandle);
  bombard(handle);
});

it('a connection manager and its connections accept any argument, and lose no seat', () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const manager = new ConnectionManager<FakeSocket>({ maxTotalConnections: 1e6 }, timers);
  const result = manager.addConnection('a', new FakeSocket(), '192.0.2.1');
  if (!result.success) throw new Error(result.reason);
  expect(result.connection).toBeInstanceOf(ManagedConnection);
  bombard(result.connection, ['detach', 'bound', 'close']);
  bombard(manager, ['close', 'cleanup', 'drain', 'updateLimits']);
  const open = manager.connections.size;
  const leases = manager.snapshot().totalConnections - open;
  expect(leases).toBeGreaterThanOrEqual(0);
  manager.close();
  expect(manager.snapshot().totalConnections).toBe(0);
});

it('a middleware chain accepts any argument, and still runs', async () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const chain = new MiddlewareChain<{ ran?: boolean }>(
    [
      { name: 'plain', middleware: (_context, next) => next() },
      { name: 'timed', timeoutMs: 5, optional: true, middleware: async (_context, next) => next() },
    ],
    timers,
    { onError: () => undefined },
  );
  bombard(chain, ['close']);
  const run = chain.execute() as unknown as (...args: unknown[]) => Promise<unknown>;
  for (const first of JUNK)
    for (const second of JUNK)
      await Promise.race([run(first, second).catch(() => undefined), undefined]);
  for (const { name } of chain.snapshot().layers) if (name !== 'plain') chain.remove(name);
  expect(chain.enable('plain').snapshot().layers).toHaveLength(1);
  const context: { ran?: boolean } = {};
  await chain.execute()(context, () => (context.ran = true));
  expect([context.ran, timers.getActiveTimersCount()]).toEqual([true, 0]);
});

it('a token verifier takes any argument, and refuses all junk', async () => {
  const verifier = new TokenVerifier({
    algorithms: ['HS256'],
    keys: { secret: 's'.repeat(32) },
    cacheSize: 10,
    maxRevocations: 1000,
  });
  for (const junk of JUNK) {
    expect(verifier.safeVerify(junk).success).toBe(false);
    expect(verifier.check(junk)).toMatch(/^ERR_TOKEN_/);
    expect(verifier.explain(junk).success).toBe(false);
    expect((await verifier.authenticate(junk)).success).toBe(false);
  }
  expect((await verifier.verifyBatch(JUNK)).map(({ success }) => success)).toEqual(
    JUNK.map(() => false),
  );
  bombard(verifier, ['close']);
  expect(verifier.snapshot().revocations).toBeLessThanOrEqual(1000);
});

it('a monitor takes anything and keeps its count', () => {
  const monitor = new ResourceMonitor(
    {},
    {
      timers: new TimerManager({ clock: new ManualClock() }),
      log: false,
    },
  );
  // Their second argument is a request of the adapters.
  bombard(monitor, ['close', 'stop', 'requestStarted', 'requestEnded']);
  class Labels {
    requestStarted(label: number): void {
      monitor.requestStarted(label);
    }
  }
  bombard(new Labels());
  for (let i = 0; i < 1000; i++) monitor.requestEnded();
  expect(monitor.getMetrics().activeRequests).toBe(0);
  monitor.close();
});

it('metrics accept any argument, and still report', async () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const manager = new ConnectionManager({}, timers);
  const metrics = new ProductionMetrics({ timers, connections: manager });
  bombard(metrics, [
    'close',
    'stop',
    'begin',
    'routeFound',
    'finish',
    'end',
    'leave',
    'toOpenMetrics',
    'toPrometheus',
  ]);
  const timer = metrics.startRequest();
  bombard(timer);
  for (const junk of JUNK) {
    for (const text of [
      () => metrics.toOpenMetrics(junk as never),
      () => metrics.toPrometheus(junk as never),
    ]) {
      try {
        expect(await text()).toContain('# TYPE');
      } catch (error) {
        expect(error).toBeInstanceOf(PortcullisError);
      }
    }
  }
  const report = metrics.generateReport();
  // The requests that the calls began have not ended.
  const begun = report.inFlight;
  expect(begun).toBeGreaterThan(0);
  for (const { latencyMs, errorRate } of Object.values(report.windows)) {
    expect(errorRate).toBeGreaterThanOrEqual(0);
    if (latencyMs !== null)
      for (const value of Object.values(latencyMs)) expect(value).toBeLessThan(Infinity);
  }
  metrics.startRequest().end({ status: 200 });
  expect(metrics.generateReport()).toMatchObject({ inFlight: begun, samples: report.samples + 1 });
  expect(await metrics.toOpenMetrics()).toMatch(/# EOF\n$/);
  metrics.close();
  manager.cleanup();
  expect(timers.getActiveTimersCount()).toBe(0);
});

it('a page accepts any argument, and admits no viewer for it', () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const page = new LivePage(
    { path: '/page', token: 'correct-horse-battery' },
    { connections: new ConnectionManager({}, timers), timers },
  );
  bombard(page, ['close', 'drain', 'owns', 'isFor', 'reply']);
  for (const junk of JUNK) {
    for (const target of ['', '/', '/events', '/snapshot']) {
      const headers = new Map<string, unknown>([['authorization', junk]]);
      const request = {
        url: `http://localhost/page${target}`,
        method: 'GET',
        headers: { get: (name: string) => headers.get(name) ?? null },
      };
      let status: number | undefined = 401;
      try {
        status = page.fetch(request as never, '127.0.0.1')?.status;
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
      expect(status).toBe(401);
    }
  }
  for (const path of ['//page', '/page%2f', '/PAGE', '/pagex'])
    expect(page.fetch(new Request(`http://localhost${path}`), '127.0.0.1')).toBeUndefined();
  expect(page.viewers).toBe(0);
  page.close();
});

it('constructors and adapters refuse junk by name', () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const pageSources = { connections: new ConnectionManager({}, timers), timers };
  const makers: readonly ((junk: never) => unknown)[] = [
    (junk) => new ConnectionManager(junk, timers),
    (junk) => new ConnectionManager({}, junk),
    (junk) => new ConnectionManager({}, timers, junk),
    (junk) => new TimerManager(junk),
    (junk) => new ResourceMonitor(junk, { timers }),
    (junk) => new ResourceMonitor({}, junk),
    (junk) => new ResourceMonitor({}, timers, junk),
    (junk) => new ProductionMetrics(junk),
    (junk) => new ProductionMetrics({ timers, targets: junk }),
    (junk) => new ProductionMetrics({ timers, monitor: junk }),
    (junk) => new ProductionMetrics({ timers, connections: junk }),
    (junk) => new ProductionMetrics({ timers, weights: { errors: junk } }),
    (junk) => new ProductionMetrics({ timers, maxRoutes: junk }),
    (junk) => new LivePage(junk, pageSources),
    (junk) => new LivePage({ path: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', token: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', access: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', showClients: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', title: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', maxViewers: junk }, pageSources),
    (junk) => new LivePage({ path: '/page', metrics: junk }, pageSources),
    (junk) => new LivePage({ path: '/page' }, junk),
    (junk) => guardWs({ limits: {}, metrics: junk }),
    (junk) => guardWs({ limits: {}, page: junk }),
    (junk) => guardWs({ limits: {}, requests: { maxConcurrentPerIp: junk } }),
    (junk) => guardWs({ limits: {} }).attach(junk, new WebSocketServer({ noServer: true })),
    (junk) => guardWs({ limits: {} }).attach(createServer(), junk),
    (junk) =>
      guardWs({ limits: {} }).attach(createServer(), new WebSocketServer({ noServer: true }), junk),
    (junk) => guardWs({ limits: {}, json: junk }),
    (junk) => new GracefulShutdown(junk),
    (junk) => new GracefulShutdown(timers, junk),
    (junk) => new GracefulShutdown(timers, { deadlineMs: junk }),
    (junk) => new MessageRouter(junk),
    (junk) => resourceLimits(junk),
    (junk) => resourceLimits({ requests: junk }),
    (junk) => resourceLimits({ memory: { maxHeapSizeMb: junk } }),
    (junk) => guardWs({ limits: {}, requests: junk }),
    (junk) => guardWs({ limits: {}, websockets: { pingIntervalMs: junk } }),
    (junk) => new MiddlewareChain(junk, timers),
    (junk) => new MiddlewareChain([junk], timers),
    (junk) => new MiddlewareChain([{ name: 'x', middleware: junk }], timers),
    (junk) => new MiddlewareChain([], junk),
    (junk) => new MiddlewareChain([], timers, { timing: junk }),
    (junk) => new TokenVerifier(junk),
    (junk) => new TokenVerifier({ algorithms: junk, keys: { secret: 's'.repeat(32) } }),
    (junk) => new TokenVerifier({ algorithms: ['HS256'], keys: junk }),
    (junk) => new TokenVerifier({ algorithms: ['HS256'], keys: { secret: junk } }),
    (junk) => new TokenVerifier({ algorithms: ['HS256'], jwks: junk }),
    (junk) => new TokenVerifier({ algorithms: ['HS256'], jwks: { url: junk } }),
    (junk) =>
      new TokenVerifier({ algorithms: ['HS256'], keys: { secret: 's'.repeat(32) }, issuer: junk }),
    (junk) =>
      new TokenVerifier({
        algorithms: ['HS256'],
        keys: { secret: 's'.repeat(32) },
        maxAgeSeconds: junk,
      }),
    (junk) => verifyJws('a.b.c', { secret: 's'.repeat(32) }, junk),
    (junk) => guardWs({ limits: {}, auth: junk }),
    (junk) => guardWs(junk),
    (junk) => guardWs({ limits: junk }),
    (junk) => guardWs({ limits: {}, trustedProxies: junk }),
    (junk) => guardWs({ limits: {}, trustedProxies: ['unix'], clientAddress: junk }),
    (junk) => guardWs({ limits: {}, allowedOrigins: junk }),
    (junk) => guardWs({ limits: {}, refuseWith: junk }),
    (junk) => new ConnectionManager({ maxTotalConnections: junk }, timers),
    (junk) => new ConnectionManager({ messageRate: junk }, timers),
    (junk) => new ConnectionManager({ connectRatePerIp: junk }, timers),
  ];
  for (const make of makers) {
    let refused = 0;
    for (const junk of JUNK) {
      try {
        make(junk as never);
      } catch (error) {
        refused++;
        expect(error).toBeInstanceOf(PortcullisError);
        expect((error as PortcullisError).field).toBeTypeOf('string');
      }
    }
    expect(refused).toBeGreaterThan(8);
  }
});

it('a shutdown and a router accept any argument, and the shutdown still ends', async () => {
  const clock = new ManualClock();
  const shutdown = new GracefulShutdown(new TimerManager({ clock }), { deadlineMs: 10 });
  bombard(shutdown, ['shutdown', 'simulate']);
  bombard(new MessageRouter(), ['close']);
  let result: unknown;
  for (const reason of JUNK)
    void shutdown.shutdown(reason as never).then((value) => (result = value));
  for (let turn = 0; result === undefined && turn < 1000; turn++) {
    clock.advance(5);
    await new Promise((resolve) => void setImmediate(resolve));
  }
  expect(result).toMatchObject({ requestsAborted: 0 });
});

it('validators accept any argument', () => {
  const methods = Object.getOwnPropertyNames(InputValidator).filter(
    (name) => typeof (InputValidator as unknown as Record<string, unknown>)[name] === 'function',
  );
  expect(methods).toHaveLength(8);
  const functions: readonly ((...junk: never[]) => unknown)[] = [
    ...methods.map((name) => (InputValidator as unknown as Record<string, () => unknown>)[name]!),
    scanJson,
    parseJson,
    safeParseJson,
    isPublicAddress,
    jsonSchema()['~standard'].validate,
    headersSchema()['~standard'].validate,
  ];
  for (const call of functions) {
    for (const first of JUNK) {
      for (const second of JUNK) {
        try {
          call(first as never, second as never);
        } catch (error) {
          expect(
            error instanceof PortcullisError || error instanceof InputValidationError,
            `${call.name}: ${String(error)}`,
          ).toBe(true);
        }
      }
    }
  }
});

it('the fake timers of bun:test drive the timer manager', () => {
  const { stderr, status } = spawnSync(
    'node_modules/.bin/bun',
    ['test', './__test__/fixtures/fake-timers.bun.ts'],
    { encoding: 'utf8' },
  );
  expect([stderr.match(/(\d+) pass/)?.[1], stderr.match(/(\d+) fail/)?.[1], status]).toEqual([
    '2',
    '0',
    0,
  ]);
});
