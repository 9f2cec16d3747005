import { describe, expect, it } from 'vitest';
import { GracefulShutdown, type ShutdownOptions, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';

interface Answer {
  readonly status: number;
  readonly detail?: string;
  readonly checks?: Record<string, string>;
  readonly cluster?: { readonly state: string; readonly sinceMs: number };
}

function setUp(options: Omit<ShutdownOptions, 'timers'>): {
  readonly clock: ManualClock;
  readonly shutdown: GracefulShutdown;
  readonly told: [string, unknown][];
  readonly ask: () => Promise<Answer>;
  readonly startup: () => Promise<number>;
} {
  const clock = new ManualClock();
  const told: [string, unknown][] = [];
  const shutdown = new GracefulShutdown(new TimerManager({ clock }), {
    onError: (error, name) => void told.push([name, error]),
    ...options,
  });
  return {
    clock,
    shutdown,
    told,
    ask: async () => {
      const { status, body } = await shutdown.checkReadiness();
      return { ...(JSON.parse(body) as Omit<Answer, 'status'>), status };
    },
    startup: async () => (await shutdown.checkStartup()).status,
  };
}
/** Lets every promise that is due go on. */
const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe('readiness', () => {
  it('is the application’s word, until the shutdown has the last one', async () => {
    const { shutdown, ask } = setUp({});
    expect([shutdown.isReady, await ask()]).toEqual([true, { status: 200 }]);
    shutdown.notReady('Migrating');
    expect([shutdown.isReady, await ask()]).toMatchObject([
      false,
      { status: 503, detail: 'Migrating' },
    ]);
    shutdown.ready();
    expect(shutdown.isReady).toBe(true);
    const result = shutdown.shutdown();
    shutdown.ready();
    expect([shutdown.isReady, await ask()]).toMatchObject([
      false,
      { status: 503, detail: 'The server is shutting down' },
    ]);
    await result;
  });

  it('tells the state of a cluster, and needs it to be up only if it is told to', async () => {
    let state = 'joining';
    const cluster = { snapshot: () => ({ state, sinceMs: 12.4 }) };
    const informed = setUp({ cluster });
    const told = { cluster: { state: 'joining', sinceMs: 12 } };
    expect(await informed.ask()).toEqual({ status: 200, ...told });
    const { shutdown, ask, startup } = setUp({ cluster, readyNeedsCluster: true });
    expect([shutdown.isReady, await ask(), await startup()]).toMatchObject([
      false,
      { status: 503, detail: 'The cluster is not up', ...told },
      503,
    ]);
    state = 'up';
    expect([shutdown.isReady, (await ask()).status, await startup()]).toEqual([true, 200, 200]);
    state = 'unreachable';
    expect([shutdown.isReady, (await ask()).status, await startup()]).toEqual([false, 503, 200]);
    const errors: unknown[] = [];
    const failing = setUp({
      cluster: {
        snapshot: () => {
          throw new Error('of the application');
        },
      },
      readyNeedsCluster: true,
      onError: (error, name) => void errors.push([name, (error as Error).message]),
    });
    expect(await failing.ask()).toMatchObject({ status: 503, detail: 'The cluster is not up' });
    expect(errors).toContainEqual(['cluster', 'of the application']);
    for (const wrong of [{ readyNeedsCluster: true }, { cluster: {} }, { readyNeedsCluster: 1 }])
      expect(() => setUp(wrong as ShutdownOptions)).toThrow(/cluster|readyNeedsCluster/);
  });

  it('waits for ready() and for the first outcome of every check; startup is 200 from then on', async () => {
    let isUp = false;
    const { clock, shutdown, ask, startup } = setUp({
      startsReady: false,
      checks: { database: () => isUp, cache: () => Promise.resolve() },
    });
    expect(shutdown.readiness().status).toBe(503);
    expect([await startup(), await ask()]).toMatchObject([
      503,
      {
        status: 503,
        detail: 'The server is starting',
        checks: { database: 'failed', cache: 'ok' },
      },
    ]);
    shutdown.ready();
    expect([await startup(), (await ask()).detail]).toEqual([503, 'A check has failed']);
    isUp = true;
    clock.advance(1000);
    expect([await startup(), await ask()]).toMatchObject([
      200,
      { status: 200, checks: { database: 'ok', cache: 'ok' } },
    ]);
    isUp = false;
    clock.advance(1000);
    expect([(await ask()).status, await startup(), shutdown.isReady]).toEqual([503, 200, false]);
  });

  it('runs a check once for all who ask at the same time, and again when its outcome is too old', async () => {
    let runs = 0;
    const { clock, ask } = setUp({ checks: { counted: () => void runs++ }, checkCacheMs: 500 });
    const answers = await Promise.all([ask(), ask(), ask()]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    clock.advance(499);
    await ask();
    expect(runs).toBe(1);
    clock.advance(1);
    await ask();
    expect(runs).toBe(2);
  });

  it('gives a check up after its timeout, aborts its signal, and begins it again only when it has returned', async () => {
    let runs = 0;
    let isAborted = false;
    let fail: (error: Error) => void = () => undefined;
    const { clock, told, ask } = setUp({
      checkTimeoutMs: 100,
      checkCacheMs: 0,
      checks: {
        hangs: (signal) => {
          runs++;
          signal.addEventListener('abort', () => (isAborted = true));
          return new Promise((_, reject) => void (fail = reject));
        },
      },
    });
    const first = ask();
    await settle();
    clock.advance(100);
    expect([(await first).checks, isAborted]).toEqual([{ hangs: 'timeout' }, true]);
    expect([(await ask()).checks, runs]).toEqual([{ hangs: 'timeout' }, 1]);
    fail(new Error('late'));
    await settle();
    expect(told).toEqual([['check hangs', new Error('late')]]);
    const again = ask();
    await settle();
    clock.advance(100);
    await again;
    expect(runs).toBe(2);
  });

  it('has the names of failed checks in its answer, and their errors at onError only', async () => {
    const { told, ask } = setUp({
      checks: {
        throws: () => {
          throw new Error('postgres://user:secret@db');
        },
        rejects: () => Promise.reject(new Error('secret')),
      },
    });
    const answer = await ask();
    expect(answer.checks).toEqual({ throws: 'failed', rejects: 'failed' });
    expect(JSON.stringify(answer)).not.toContain('secret');
    expect(told.map(([name]) => name)).toEqual(['check throws', 'check rejects']);
  });

  it('answers whoever waits for a check when the shutdown begins, and runs no check after it', async () => {
    let runs = 0;
    const { shutdown, ask } = setUp({
      checks: { hangs: () => (runs++, new Promise(() => undefined)) },
    });
    const asked = ask();
    await settle();
    const result = shutdown.shutdown();
    expect(await asked).toMatchObject({ status: 503, detail: 'The server is shutting down' });
    await ask();
    await result;
    expect(runs).toBe(1);
  });

  it.each<[object, string]>([
    [{ checks: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ checks: [] }, 'ERR_INVALID_ARG_TYPE'],
    [{ checks: { a: 1 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ checks: { 'a b': () => 1 } }, 'ERR_OUT_OF_RANGE'],
    [
      { checks: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`c${i}`, () => 1])) },
      'ERR_OUT_OF_RANGE',
    ],
    [{ checkTimeoutMs: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ checkCacheMs: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ startsReady: 1 }, 'ERR_INVALID_ARG_TYPE'],
  ])('refuses the option %j', (options, code) => {
    expect(() => new GracefulShutdown(options)).toThrow(expect.objectContaining({ code }));
  });

  it.each([5, '', 'x'.repeat(201)])('refuses the reason %j', (reason) => {
    const { shutdown } = setUp({});
    const value = JSON.stringify(String(reason).length > 40 ? `${'x'.repeat(40)}…` : reason);
    expect(() => shutdown.notReady(reason as string)).toThrow(
      expect.objectContaining({ field: 'reason', value }),
    );
  });
});
