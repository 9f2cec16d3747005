import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  GracefulShutdown,
  PortcullisError,
  type ShutdownOptions,
  type Drainable,
  TimerManager,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';

// As a drainable of the user's own gets them.
type SocketWatcher = Parameters<NonNullable<Drainable['watchSockets']>>[0];
type ShutdownSocket = Parameters<SocketWatcher['opened']>[0];

const lost: unknown[] = [];
const note = (error: unknown): void => void lost.push(error);
beforeAll(() => void process.on('unhandledRejection', note));
afterAll(() => void process.off('unhandledRejection', note));
afterEach(() => expect(lost.splice(0)).toEqual([]));

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** Advances the clock in small steps, and lets promises settle in between. */
async function pass(clock: ManualClock, ms: number, step = 10): Promise<void> {
  await turn();
  for (let passed = 0; passed < ms; passed += step) {
    clock.advance(Math.min(step, ms - passed));
    await turn();
  }
}

const hangs = (requests: number): Promise<void> =>
  requests === 0 ? Promise.resolve() : new Promise(() => undefined);

/** Stands for the WebSockets of a server; a mute socket never answers a close. */
class Sockets {
  readonly open = new Set<ShutdownSocket>();
  readonly watchers = new Set<SocketWatcher>();
  readonly closes: { readonly atMs: number; readonly code: number; readonly reason: string }[] = [];
  terminated = 0;
  constructor(readonly clock: ManualClock) {}

  add(isMute = false): void {
    const { clock, closes } = this;
    const terminated = (): void => void this.terminated++;
    const gone = (state: 'acknowledged' | 'broken'): void => {
      if (!this.open.delete(socket)) return;
      socket.state = state;
      for (const watcher of this.watchers) watcher.gone(socket);
    };
    const socket = {
      state: 'open' as ShutdownSocket['state'],
      close(code: number, reason: string) {
        if (socket.state !== 'open') return;
        socket.state = 'closing';
        closes.push({ atMs: clock.now(), code, reason });
        if (!isMute) queueMicrotask(() => gone('acknowledged'));
      },
      terminate() {
        terminated();
        gone('broken');
      },
    };
    this.open.add(socket);
    for (const watcher of this.watchers) watcher.opened(socket);
  }

  /** Stands for a client that leaves without a close. */
  leave(socket: ShutdownSocket): void {
    this.open.delete(socket);
    (socket as { state: ShutdownSocket['state'] }).state = 'broken';
    for (const watcher of this.watchers) watcher.gone(socket);
  }

  drainable(more: Partial<Drainable> = {}): Drainable {
    return {
      name: 'sockets',
      sockets: () => this.open,
      watchSockets: (watcher) => {
        this.watchers.add(watcher);
        return () => void this.watchers.delete(watcher);
      },
      ...more,
    };
  }
}

function setUp(options: ShutdownOptions = {}): {
  clock: ManualClock;
  timers: TimerManager;
  shutdown: GracefulShutdown;
  sockets: Sockets;
} {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  return {
    clock,
    timers,
    shutdown: new GracefulShutdown(timers, options),
    sockets: new Sockets(clock),
  };
}

describe('a shutdown', () => {
  it('runs its phases in order, and is not ready from the same turn on', async () => {
    const phases: string[] = [];
    const { clock, shutdown } = setUp({
      preDrainDelayMs: 100,
      onPhase: (phase) => void phases.push(phase),
    });
    expect([
      shutdown.phase,
      shutdown.isReady,
      shutdown.readiness().status,
      shutdown.liveness().status,
    ]).toEqual(['running', true, 200, 200]);
    const result = shutdown.shutdown('because');
    expect([
      shutdown.phase,
      shutdown.isReady,
      shutdown.readiness().status,
      shutdown.liveness().status,
    ]).toEqual(['notReady', false, 503, 200]);
    expect(JSON.parse(shutdown.readiness().body)).toMatchObject({
      title: 'Service Unavailable',
      status: 503,
    });
    expect(shutdown.readiness().headers['content-type']).toBe('application/problem+json');
    await pass(clock, 90);
    expect(shutdown.phase).toBe('notReady');
    await pass(clock, 10);
    expect(await result).toEqual({
      graceful: true,
      reason: 'because',
      phaseMs: { notReady: 100, draining: 0, closing: 0, forced: 0 },
      totalMs: 100,
      requestsAborted: 0,
      websocketsClosed: { acknowledged: 0, forced: 0 },
      timersCleared: 0,
      hookErrors: [],
      leftovers: [],
    });
    expect(phases).toEqual(['notReady', 'draining', 'closing', 'stopped']);
  });

  it('runs once for all calls, also from within a hook', async () => {
    let again: Promise<unknown> | undefined;
    let runs = 0;
    const { shutdown } = setUp({
      onPhase: (phase) => phase === 'notReady' && (again = shutdown.shutdown('again')),
    });
    shutdown.onShutdown('count', () => void runs++);
    const first = shutdown.shutdown('first');
    expect(shutdown.shutdown()).toBe(first);
    expect(shutdown.simulate()).toBe(first);
    expect(again).toBe(first);
    expect((await first).reason).toBe('first');
    expect(runs).toBe(1);
  });

  it('simulates the phases of a signal without ending the process', async () => {
    const { shutdown } = setUp({ signals: ['SIGTERM'] });
    expect(process.listenerCount('SIGTERM')).toBe(1);
    expect((await shutdown.simulate()).reason).toBe('SIGTERM');
    expect(process.listenerCount('SIGTERM')).toBe(0);
  });

  it.each(['SIGFOO', 'SIGKILL', 5])(
    'refuses to simulate %s, which begins no shutdown',
    (signal) => {
      const { shutdown } = setUp();
      expect(() => shutdown.simulate(signal as NodeJS.Signals)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'signal' }),
      );
      expect(shutdown.phase).toBe('running');
    },
  );

  it('close() takes the signals away and shuts nothing down, as the end of a block does', async () => {
    const listening = (): number => process.listenerCount('SIGTERM');
    const { timers, shutdown } = setUp({ signals: ['SIGTERM'] });
    timers.setTimeout(() => undefined, 1000);
    expect(listening()).toBe(1);
    shutdown.close();
    shutdown.close();
    expect([listening(), shutdown.phase, timers.getActiveTimersCount()]).toEqual([0, 'running', 1]);
    const other = setUp({ signals: ['SIGTERM'] }).shutdown;
    other[Symbol.dispose]();
    expect([listening(), other.phase]).toEqual([0, 'running']);
    // It can still be told to shut down.
    expect(await shutdown.shutdown()).toMatchObject({ graceful: true, timersCleared: 1 });
  });

  it('await using shuts down', async () => {
    const { shutdown } = setUp({ signals: ['SIGTERM'] });
    await shutdown[Symbol.asyncDispose]();
    expect([shutdown.phase, process.listenerCount('SIGTERM')]).toEqual(['stopped', 0]);
    expect((await shutdown.shutdown()).reason).toBe('disposed');
  });

  it('takes its timers as an option, as an argument, or makes its own', async () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    timers.setTimeout(() => undefined, 1000);
    const positional = new GracefulShutdown(timers, { preDrainDelayMs: 0 });
    expect(await positional.shutdown()).toMatchObject({ timersCleared: 1 });
    expect(await new GracefulShutdown().shutdown()).toMatchObject({ graceful: true });
    const own = new GracefulShutdown({ preDrainDelayMs: 0 });
    own.close();
    expect(await own.shutdown()).toMatchObject({ graceful: true, timersCleared: 0 });
    const refused = (run: () => unknown, field: string): void =>
      expect(run).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }));
    refused(() => new GracefulShutdown(timers, { timers } as never), 'timers');
    refused(() => new GracefulShutdown({ timers: {} } as never), 'timers');
    refused(() => new GracefulShutdown(undefined as never, {}), 'timerManager');
    refused(() => new GracefulShutdown(5 as never), 'options');
    refused(() => new GracefulShutdown(timers, null as never), 'options');
  });

  it('refuses what cannot be drained, by the name of its field', () => {
    const { shutdown } = setUp();
    for (const [drainable, field] of [
      [null, 'drainable'],
      [{}, 'drainable.name'],
      [{ name: 'http', drain: true }, 'drainable.drain'],
    ] as const)
      expect(() => shutdown.add(drainable as never)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }),
      );
  });

  it('installs no signals unless told to', () => {
    setUp();
    expect(process.listenerCount('SIGTERM') + process.listenerCount('SIGINT')).toBe(0);
  });

  it('waits for work that is held when other work has settled, in a phase, and in a hook', async () => {
    const { clock, shutdown } = setUp({
      onPhase: (phase) => phase === 'closing' && shutdown.hold(work('closing', 300)),
    });
    const done: string[] = [];
    const others = new TimerManager({ clock });
    const work = (name: string, ms: number): Promise<unknown> =>
      others.sleep(ms).then(() => done.push(name));
    void (async () => {
      await shutdown.hold(work('first', 100));
      await shutdown.hold(work('second', 100));
    })();
    shutdown.onShutdown('hook', () => void shutdown.hold(work('hook', 500)));
    const result = shutdown.shutdown();
    await pass(clock, 1000);
    const { graceful, leftovers, totalMs } = await result;
    expect([graceful, leftovers, totalMs < 800]).toEqual([true, [], true]);
    expect(done).toEqual(['first', 'second', 'closing', 'hook']);
  });

  it('names work that was held in a hook and is left at the deadline', async () => {
    const { clock, shutdown } = setUp({ deadlineMs: 1000 });
    shutdown.onShutdown('hook', () => void shutdown.hold(new Promise(() => undefined), 'late'));
    const result = shutdown.shutdown();
    await pass(clock, 1200);
    expect(await result).toMatchObject({
      graceful: false,
      leftovers: [{ kind: 'hold', name: 'late', count: 1 }],
    });
  });

  it('counts a drainable that was added twice, and a socket that two of them name, once', async () => {
    const { clock, shutdown, sockets } = setUp({ deadlineMs: 1000, closeTimeoutMs: 100 });
    sockets.add();
    sockets.add();
    let drains = 0;
    const http = { name: 'http', drain: () => void drains++ };
    shutdown.add(http).add(http);
    shutdown.add(sockets.drainable()).add(sockets.drainable({ name: 'other server' }));
    const result = shutdown.shutdown();
    await pass(clock, 1000);
    expect(await result).toMatchObject({
      graceful: true,
      websocketsClosed: { acknowledged: 2, forced: 0 },
    });
    expect([sockets.closes.length, drains]).toEqual([2, 1]);
    // Two sockets, 5 ms for each: four would have taken up to 20.
    expect(Math.max(...sockets.closes.map(({ atMs }) => atMs))).toBeLessThanOrEqual(10);
  });

  it('reads its options once, and takes any reason', async () => {
    const phases: string[] = [];
    const options = { onPhase: (phase: string) => void phases.push(phase) };
    const { shutdown } = setUp(options);
    options.onPhase = () => void phases.push('changed');
    const { reason } = await shutdown.shutdown(Object.create(null) as string);
    expect([reason, phases]).toEqual(['object', ['notReady', 'draining', 'closing', 'stopped']]);
  });

  it('waits for requests and for held work', async () => {
    const { clock, shutdown } = setUp();
    let requests = 2;
    let idle: () => void = () => undefined;
    shutdown.add({
      name: 'http',
      requests: () => requests,
      whenIdle: () => new Promise((resolve) => (idle = resolve)),
    });
    let done: (value: string) => void = () => undefined;
    const work = new Promise<string>((resolve) => (done = resolve));
    expect(shutdown.hold(work)).toBe(work);
    const result = shutdown.shutdown();
    await pass(clock, 3000, 100);
    expect(shutdown.phase).toBe('draining');
    requests = 0;
    idle();
    await pass(clock, 1000, 100);
    expect(shutdown.phase).toBe('draining');
    done('work');
    expect(await result).toMatchObject({
      graceful: true,
      requestsAborted: 0,
      phaseMs: { draining: 4000 },
      leftovers: [],
    });
  });

  it('aborts requests that outlast their time, and reports them', async () => {
    const { clock, shutdown } = setUp({ deadlineMs: 1000 });
    let requests = 3;
    let destroyed = 0;
    shutdown.add({
      name: 'http',
      requests: () => requests,
      whenIdle: () => new Promise(() => undefined),
      // Two of the requests obey their signal.
      abort: () => void (requests = 1),
      destroy: () => void destroyed++,
    });
    const result = shutdown.shutdown();
    await pass(clock, 990);
    expect([shutdown.phase, requests, destroyed]).toEqual(['closing', 1, 0]);
    await pass(clock, 10);
    expect(await result).toMatchObject({
      graceful: false,
      requestsAborted: 3,
      leftovers: [{ kind: 'request', name: 'http', count: 1 }],
    });
    expect(destroyed).toBe(1);
    expect(clock.now()).toBeLessThanOrEqual(1100);
  });

  it('waits for every drain at once, and asks each for its idleness then', async () => {
    const { clock, shutdown, sockets } = setUp({ drainWindowMs: 0 });
    const steps: string[] = [];
    const others = new TimerManager({ clock });
    const draining = (name: string, ms: number): Drainable => ({
      name,
      drain: () => others.sleep(ms).then(() => void steps.push(`${name} drained`)),
      whenIdle: async () => void steps.push(`${name} idle`),
    });
    sockets.add();
    shutdown.add(draining('slow', 300)).add(draining('quick', 100));
    shutdown.add(sockets.drainable());
    const result = shutdown.shutdown();
    await pass(clock, 400);
    expect(await result).toMatchObject({ graceful: true, totalMs: 300, leftovers: [] });
    expect(steps).toEqual(['quick drained', 'quick idle', 'slow drained', 'slow idle']);
    expect(sockets.closes.map(({ atMs }) => atMs)).toEqual([0]);
  });

  it('is not graceful if a drain fails late', async () => {
    const { clock, shutdown } = setUp();
    const others = new TimerManager({ clock });
    const error = new Error('deregistration failed');
    shutdown.add({
      name: 'balancer',
      drain: () => others.sleep(100).then(() => Promise.reject(error)),
    });
    const result = shutdown.shutdown();
    await pass(clock, 200);
    expect(await result).toMatchObject({
      graceful: false,
      hookErrors: [{ name: 'balancer.drain', error }],
    });
  });

  it.each(['drain', 'whenIdle', 'stop'] as const)(
    'names a %s that never ends as left over, and destroys',
    async (method) => {
      const { clock, shutdown } = setUp({ deadlineMs: 1000 });
      let destroyed = 0;
      const never = (): Promise<void> => new Promise(() => undefined);
      shutdown.add({ name: 'queue', [method]: never, destroy: () => void destroyed++ });
      const result = shutdown.shutdown();
      await pass(clock, 1100);
      expect(await result).toMatchObject({
        graceful: false,
        leftovers: [{ kind: 'step', name: `queue.${method}`, count: 1 }],
      });
      expect(destroyed).toBe(1);
    },
  );

  it.each([
    () => '7',
    () => NaN,
    () => -3,
    () => 1.5,
    () => null,
    () => Promise.reject(new Error()),
  ])('counts no requests for %s, which is an error', async (requests) => {
    const { shutdown } = setUp();
    shutdown.add({ name: 'http', requests: requests as () => number });
    const { graceful, requestsAborted, leftovers, hookErrors } = await shutdown.shutdown();
    expect([graceful, requestsAborted, leftovers]).toEqual([false, 0, []]);
    expect(hookErrors[0]).toMatchObject({ name: 'http.requests', error: { field: 'requests' } });
  });

  it('collects the rejection of a method that it does not wait for', async () => {
    const { shutdown } = setUp({ preDrainDelayMs: 0 });
    const error = new Error('late');
    shutdown.add({ name: 'http', notReady: () => Promise.reject(error) as unknown as void });
    const { graceful, hookErrors } = await shutdown.shutdown();
    expect([graceful, hookErrors]).toEqual([false, [{ name: 'http.notReady', error }]]);
  });

  it('settles at its deadline although parts hang', async () => {
    const { clock, shutdown, sockets } = setUp({ deadlineMs: 1000 });
    const never = (): Promise<never> => new Promise(() => undefined);
    for (let i = 0; i < 5; i++) sockets.add(true);
    shutdown.add(
      sockets.drainable({
        drain: never,
        whenIdle: never,
        stop: never,
        destroy: never,
        requests: () => 1,
      }),
    );
    void shutdown.hold(never(), 'upload');
    for (const name of ['a', 'b', 'c']) shutdown.onShutdown(name, never);
    let result: Awaited<ReturnType<typeof shutdown.shutdown>> | undefined;
    void shutdown.shutdown().then((value) => (result = value));
    await pass(clock, 1100);
    expect(result).toBeDefined();
    expect(result?.totalMs).toBeLessThanOrEqual(1100);
    expect(result?.graceful).toBe(false);
    expect(result?.websocketsClosed).toEqual({ acknowledged: 0, forced: 5 });
    expect(result?.leftovers).toContainEqual({ kind: 'hold', name: 'upload', count: 1 });
    expect(result?.hookErrors.map(({ name }) => name)).toEqual(['c', 'b', 'a']);
  });

  it('spreads the closes of WebSockets over the window, with a jitter', async () => {
    const { clock, shutdown, sockets } = setUp({
      drainWindowMs: 1000,
      closeCode: 1012,
      closeReason: 'Restart',
    });
    for (let i = 0; i < 100; i++) sockets.add();
    shutdown.add(sockets.drainable());
    const result = shutdown.shutdown();
    await pass(clock, 1000, 5);
    expect((await result).websocketsClosed).toEqual({ acknowledged: 100, forced: 0 });
    expect(new Set(sockets.closes.map(({ code, reason }) => `${code} ${reason}`))).toEqual(
      new Set(['1012 Restart']),
    );
    const at = sockets.closes.map(({ atMs }) => atMs);
    for (let tenth = 0; tenth < 10; tenth++) {
      // About ten of a hundred in every tenth of the window.
      const count = at.filter((ms) => ms >= tenth * 100 && ms < tenth * 100 + 100).length;
      expect(count).toBeGreaterThanOrEqual(8);
      expect(count).toBeLessThanOrEqual(12);
    }
    const gaps = new Set(at.slice(1).map((ms, index) => ms - (at[index] ?? 0)));
    expect(gaps.size).toBeGreaterThan(1);
  });

  it('terminates only the clients that never answer the close', async () => {
    const { clock, shutdown, sockets } = setUp({ closeTimeoutMs: 200, drainWindowMs: 0 });
    for (let i = 0; i < 10; i++) sockets.add(i < 3);
    shutdown.add(sockets.drainable());
    const result = shutdown.shutdown();
    await pass(clock, 190);
    expect([shutdown.phase, sockets.terminated]).toEqual(['draining', 0]);
    await pass(clock, 20);
    expect(await result).toMatchObject({
      graceful: false,
      websocketsClosed: { acknowledged: 7, forced: 3 },
      leftovers: [],
    });
    expect(sockets.terminated).toBe(3);
  });

  it('does not count clients that leave by themselves, and ends early when all have left', async () => {
    const { clock, shutdown, sockets } = setUp({ drainWindowMs: 5000 });
    for (let i = 0; i < 5; i++) sockets.add();
    shutdown.add(sockets.drainable());
    const result = shutdown.shutdown();
    await turn();
    const left = sockets.open.size;
    for (const socket of Array.from(sockets.open)) sockets.leave(socket);
    await pass(clock, 10);
    expect(await result).toMatchObject({
      graceful: true,
      websocketsClosed: { acknowledged: 5 - left, forced: 0 },
    });
    expect(left).toBeGreaterThanOrEqual(4);
  });

  it('gives the window and the last close their whole time, also with hooks', async () => {
    const { clock, shutdown, sockets } = setUp({
      deadlineMs: 1000,
      drainWindowMs: 700,
      closeTimeoutMs: 300,
    });
    for (let i = 0; i < 50; i++) sockets.add();
    shutdown.add(sockets.drainable());
    shutdown.onShutdown('quick', () => undefined, { timeoutMs: 900 });
    const result = shutdown.shutdown();
    await pass(clock, 1000, 5);
    expect(await result).toMatchObject({
      graceful: true,
      websocketsClosed: { acknowledged: 50, forced: 0 },
    });
  });

  it('waits for work that a request begins while it drains', async () => {
    const { clock, shutdown } = setUp();
    let idle: () => void = () => undefined;
    shutdown.add({ name: 'http', whenIdle: () => new Promise((resolve) => (idle = resolve)) });
    const result = shutdown.shutdown();
    await turn();
    let done: () => void = () => undefined;
    void shutdown.hold(new Promise<void>((resolve) => (done = resolve)));
    idle();
    await pass(clock, 500);
    expect(shutdown.phase).toBe('draining');
    done();
    expect(await result).toMatchObject({ graceful: true, leftovers: [] });
  });

  it('closes a client that opens while it drains', async () => {
    const { clock, shutdown, sockets } = setUp({ drainWindowMs: 1000 });
    sockets.add();
    shutdown.add(sockets.drainable());
    const result = shutdown.shutdown();
    await turn();
    sockets.add();
    await turn();
    expect(sockets.closes).not.toEqual([]);
    await pass(clock, 1000);
    expect((await result).websocketsClosed).toEqual({ acknowledged: 2, forced: 0 });
  });

  it('refuses new clients before it closes the first', async () => {
    const { clock, shutdown, sockets } = setUp();
    const order: string[] = [];
    sockets.add();
    shutdown.add(
      sockets.drainable({
        drain: () => void order.push(`drained with ${sockets.closes.length} closed`),
      }),
    );
    const result = shutdown.shutdown();
    await pass(clock, 10);
    await result;
    expect(order).toEqual(['drained with 0 closed']);
  });

  it('runs hooks in reverse order, and goes on after one that throws, rejects or hangs', async () => {
    const told: string[] = [];
    const { clock, shutdown } = setUp({
      hookTimeoutMs: 100,
      onError: (_error, name) => void told.push(name),
    });
    const ran: string[] = [];
    let aborted = false;
    let rejectLate: (error: Error) => void = () => undefined;
    shutdown.onShutdown('first', () => void ran.push('first'));
    shutdown.onShutdown('throws', () => {
      throw new Error('thrown');
    });
    shutdown.onShutdown('hangs', ({ signal }) => {
      signal.addEventListener('abort', () => (aborted = true));
      return new Promise(() => undefined);
    });
    shutdown.onShutdown('rejects', () => Promise.reject(new Error('rejected')));
    shutdown.onShutdown('late', () => new Promise((_, reject) => void (rejectLate = reject)), {
      timeoutMs: 10,
    });
    shutdown.onShutdown('last', ({ reason }) => void ran.push(`last ${reason}`));
    const result = shutdown.shutdown('why');
    await pass(clock, 10);
    rejectLate(new Error('late'));
    await pass(clock, 100);
    const { hookErrors, graceful, leftovers } = await result;
    expect(ran).toEqual(['last why', 'first']);
    expect(hookErrors.map(({ name, error }) => [name, (error as Error).message])).toEqual([
      ['late', 'the hook late took more than 10 ms'],
      ['rejects', 'rejected'],
      ['hangs', 'the hook hangs took more than 100 ms'],
      ['throws', 'thrown'],
    ]);
    expect([graceful, aborted]).toEqual([false, true]);
    expect(leftovers.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'hook late',
      'hook hangs',
    ]);
    expect(told).toContain('late');
  });

  it('keeps time for its hooks when a request hangs', async () => {
    const { clock, shutdown } = setUp({ deadlineMs: 1000, hookTimeoutMs: 200 });
    let ranAtMs = -1;
    shutdown.add({ name: 'http', requests: () => 1, whenIdle: () => new Promise(() => undefined) });
    shutdown.onShutdown('database', () => void (ranAtMs = clock.now()));
    const result = shutdown.shutdown();
    await pass(clock, 1100);
    expect(ranAtMs).toBe(750);
    expect(await result).toMatchObject({ requestsAborted: 1, hookErrors: [] });
  });

  it('shares the remaining time among its hooks if it is too short for all', async () => {
    const { clock, shutdown } = setUp({ deadlineMs: 900 });
    const began: [string, number][] = [];
    for (const name of ['a', 'b', 'c']) {
      shutdown.onShutdown(name, () => {
        began.push([name, clock.now()]);
        return new Promise(() => undefined);
      });
    }
    const result = shutdown.shutdown();
    await pass(clock, 1000);
    expect(began).toEqual([
      ['c', 0],
      ['b', 300],
      ['a', 600],
    ]);
    expect((await result).totalMs).toBeLessThanOrEqual(1000);
  });

  it('clears the timers last, and reports how many', async () => {
    const { timers, shutdown } = setUp();
    timers.setInterval(() => undefined, 1000);
    timers.scope().setTimeout(() => undefined, 1000);
    let atHook = -1;
    shutdown.onShutdown('count', () => void (atHook = timers.getActiveTimersCount()));
    expect((await shutdown.shutdown()).timersCleared).toBe(2);
    expect([atHook, timers.getActiveTimersCount()]).toEqual([2, 0]);
  });

  it.each([
    [
      'throws on the way',
      (): Iterable<ShutdownSocket> => ({
        [Symbol.iterator]: () => {
          throw new Error('iterator');
        },
      }),
      'iterator',
    ],
    ['is no list', () => 5 as never, expect.stringMatching(/iterable|function/)],
    ['holds nothing', () => [null as never], 'socket must be an object, got null'],
  ])('goes on if what sockets() returns %s, and reports it', async (_, sockets, message) => {
    for (const requests of [0, 1]) {
      const steps: string[] = [];
      const reported: unknown[] = [];
      const { clock, shutdown } = setUp({
        deadlineMs: 100,
        onError: (error, name) => reported.push([name, (error as Error).message]),
      });
      shutdown
        .add({ name: 'bad', sockets, requests: () => requests, whenIdle: () => hangs(requests) })
        .add({ name: 'good', stop: () => void steps.push('stop') })
        .onShutdown('hook', () => void steps.push('hook'));
      const result = shutdown.shutdown();
      await pass(clock, 300);
      expect(await result).toMatchObject({ requestsAborted: requests, graceful: false });
      expect(steps).toEqual(['hook', 'stop']);
      expect(reported).toContainEqual(['bad.sockets', message]);
    }
  });

  it('goes on if a socket does not tell its state', async () => {
    const { clock, shutdown } = setUp({ deadlineMs: 100 });
    const closes: string[] = [];
    const socket: ShutdownSocket = {
      get state(): never {
        throw new Error('state');
      },
      close: () => void closes.push('close'),
      terminate: () => void closes.push('terminate'),
    };
    shutdown.add({ name: 'bad', sockets: () => [socket] });
    const result = shutdown.shutdown();
    await pass(clock, 300);
    expect(await result).toMatchObject({
      websocketsClosed: { acknowledged: 0, forced: 1 },
      graceful: false,
    });
    expect(closes.slice(0, 1)).toEqual(['close']);
    expect(closes.at(-1)).toBe('terminate');
  });

  it.each([
    [
      'throw',
      (name: string) => () => {
        throw new Error(name);
      },
    ],
    ['reject', (name: string) => () => Promise.reject(new Error(name))],
  ])('survives drainables that throw everywhere, with hooks that %s', async (_how, failing) => {
    const { clock, shutdown } = setUp({
      onPhase: failing('onPhase'),
      onError: failing('onError'),
    });
    const fail = (): never => {
      throw new Error('drainable');
    };
    shutdown.add({
      name: 'bad',
      drain: fail,
      requests: fail,
      whenIdle: fail,
      sockets: fail,
      watchSockets: fail,
      abort: fail,
      stop: fail,
      destroy: fail,
    });
    const reject = (): Promise<never> => Promise.reject(new Error('drainable'));
    shutdown.add({ name: 'worse', drain: reject, whenIdle: reject, stop: reject, destroy: reject });
    const result = shutdown.shutdown();
    await pass(clock, 100);
    const { graceful, hookErrors } = await result;
    expect(graceful).toBe(false);
    expect(new Set(hookErrors.map(({ name }) => name.split('.')[0]))).toEqual(
      new Set(['onPhase', 'bad', 'worse']),
    );
  });

  it('reports held work that rejects: to onError before it begins, in the result afterwards', async () => {
    const told: string[] = [];
    const { shutdown } = setUp({
      onError: (error, name) => void told.push(`${name}: ${(error as Error).message}`),
    });
    void shutdown.hold(Promise.reject(new Error('early')), 'one');
    await turn();
    let fail: (error: Error) => void = () => undefined;
    void shutdown.hold(new Promise((_, reject) => (fail = reject)), 'two');
    const result = shutdown.shutdown();
    await turn();
    fail(new Error('during'));
    expect((await result).hookErrors.map(({ name }) => name)).toEqual(['two']);
    expect(told).toEqual(['one: early', 'two: during']);
  });

  it('takes any value as the name of held work', async () => {
    const told: string[] = [];
    const { shutdown } = setUp({ onError: (_error, name) => void told.push(name) });
    const nameless = {
      toString(): string {
        throw new Error('no text');
      },
    };
    for (const name of [Symbol('one'), nameless])
      void shutdown.hold(Promise.reject(new Error('failed')), name as never);
    await turn();
    expect(told).toEqual(['Symbol(one)', 'object']);
    expect((await shutdown.shutdown()).leftovers).toEqual([]);
  });

  it('warns once for each name of an error that neither onError nor a result has', async () => {
    const warned: [string, unknown][] = [];
    const listener = (warning: Error): void => void warned.push([warning.message, warning.cause]);
    process.on('warning', listener);
    const { clock, shutdown } = setUp({ checks: { db: () => Promise.reject(new Error('down')) } });
    const others = new TimerManager({ clock });
    for (const name of ['upload', 'upload', 'report'])
      void shutdown.hold(Promise.reject(new Error(name)), name);
    await shutdown.checkReadiness();
    shutdown.onShutdown(
      'late',
      () => others.sleep(20).then(() => Promise.reject(new Error('late'))),
      {
        timeoutMs: 10,
      },
    );
    shutdown.onShutdown('other', () =>
      others.sleep(20).then(() => Promise.reject(new Error('in time'))),
    );
    const result = shutdown.shutdown();
    await pass(clock, 50);
    process.off('warning', listener);
    expect((await result).hookErrors.map(({ name }) => name)).toEqual(['other', 'late']);
    expect(warned.map(([text, cause]) => [text.split(' failed')[0], cause])).toEqual([
      ['shutdown: upload', new Error('upload')],
      ['shutdown: report', new Error('report')],
      ['shutdown: late', new Error('late')],
    ]);
  });

  it('waits five seconds before it drains in Kubernetes, at most a quarter of the deadline', async () => {
    process.env['KUBERNETES_SERVICE_HOST'] = '10.0.0.1';
    try {
      const { clock, shutdown } = setUp({ deadlineMs: 8000 });
      const result = shutdown.shutdown();
      await pass(clock, 2000, 100);
      expect((await result).phaseMs.notReady).toBe(2000);
      // The default delay shrinks to leave time for the set window: the same options are good everywhere.
      const long = setUp({ drainWindowMs: 20_000 });
      const other = long.shutdown.shutdown();
      await pass(long.clock, 4000, 100);
      expect((await other).phaseMs.notReady).toBe(4000);
    } finally {
      delete process.env['KUBERNETES_SERVICE_HOST'];
    }
  });

  it('accepts no parts and no hooks once it has begun', async () => {
    const { shutdown } = setUp();
    const result = shutdown.shutdown();
    expect(() => shutdown.add({ name: 'late' })).toThrow(PortcullisError);
    expect(() => shutdown.onShutdown('late', () => undefined)).toThrow('the shutdown has begun');
    await result;
  });

  it.each([
    [{ deadlineMs: 0 }, 'deadlineMs'],
    [{ deadlineMs: 1000, preDrainDelayMs: 500, drainWindowMs: 500 }, 'deadlineMs'],
    [{ preDrainDelayMs: -1 }, 'preDrainDelayMs'],
    [{ closeTimeoutMs: Number.NaN }, 'closeTimeoutMs'],
    [{ closeCode: 1000 }, 'closeCode'],
    [{ closeReason: 5 }, 'closeReason'],
    [{ signals: 'SIGTERM' }, 'signals'],
    [{ signals: ['SIGTERM', 'SIGKILL'] }, 'signals[1]'],
    [{ exit: 1 }, 'exit'],
    [{ onPhase: 1 }, 'onPhase'],
    [{ deadline: 5 }, 'deadline'],
    [null, 'options'],
  ])('refuses %j by the name of its field', (options, field) => {
    const before = process.listenerCount('SIGTERM');
    let error: unknown;
    try {
      setUp(options as ShutdownOptions);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PortcullisError);
    expect((error as PortcullisError).field).toBe(field);
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});
