import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it, vi } from 'vitest';
import { TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { agree } from './fixtures/agree.js';

function manual(): { clock: ManualClock; timers: TimerManager; log: string[] } {
  const clock = new ManualClock();
  return { clock, timers: new TimerManager({ clock }), log: [] };
}

describe('order', () => {
  it('agrees with a sorted list over random operations', () => {
    const { clock, timers } = manual();
    let random = 7;
    const next = (most: number): number =>
      (random = (random * 1_103_515_245 + 12_345) % 2 ** 31) % most;
    const model: { at: number; n: number }[] = [];
    const fired: number[] = [];
    const expected: number[] = [];
    const handles = new Map<number, ReturnType<TimerManager['setTimeout']>>();
    for (let n = 0; n < 20_000; n++) {
      const pick = next(10);
      if (pick < 6) {
        const delay = 1 + next(pick === 0 ? 1_000_000 : 500);
        handles.set(
          n,
          timers.setTimeout((id) => fired.push(id), delay, n),
        );
        model.push({ at: clock.now() + delay, n });
      } else if (pick < 8 && model.length > 0) {
        const [gone] = model.splice(next(model.length), 1);
        timers.clearTimeout(handles.get(gone!.n));
      } else {
        clock.advance(next(300));
        model.sort((a, b) => a.at - b.at || a.n - b.n);
        while (model.length > 0 && model[0]!.at <= clock.now()) expected.push(model.shift()!.n);
        agree(fired.splice(0), expected.splice(0), n);
      }
      agree(timers.getActiveTimersCount(), model.length, n);
    }
  });

  it('a timer of the same batch can be cleared; one armed in a callback waits for its turn', () => {
    const { clock, timers, log } = manual();
    timers.setTimeout(() => {
      log.push('a');
      timers.clearTimeout(b);
      timers.setTimeout(() => log.push('c'), 0);
    }, 5);
    const b = timers.setTimeout(() => log.push('b'), 5);
    clock.advance(5);
    expect(log).toEqual(['a']);
    clock.advance(1);
    expect(log).toEqual(['a', 'c']);
  });

  it('an error of a callback does not stop the rest', () => {
    const { clock, timers, log } = manual();
    timers.setTimeout(() => {
      throw new Error('x');
    }, 1);
    timers.setTimeout(() => log.push('b'), 1);
    timers.setTimeout(() => {
      throw new Error('y');
    }, 2);
    timers.setTimeout(() => log.push('c'), 3);
    expect(() => clock.advance(5)).toThrow('x');
    expect([log, clock.now(), timers.getActiveTimersCount()]).toEqual([['b', 'c'], 5, 0]);
  });

  it('runNext() runs all timers of one time, also behind one that throws', () => {
    const { clock, timers, log } = manual();
    timers.setTimeout(() => {
      throw new Error('x');
    }, 1);
    timers.setTimeout(() => log.push('b'), 1);
    timers.setTimeout(() => log.push('c'), 2);
    expect(() => clock.runNext()).toThrow('x');
    expect([log, clock.now()]).toEqual([['b'], 1]);
    expect([clock.runNext(), clock.runNext(), log, clock.now()]).toEqual([
      true,
      false,
      ['b', 'c'],
      2,
    ]);
  });

  it('advance() in a callback runs what becomes due meanwhile, each at its own time and in order', () => {
    const { clock, timers, log } = manual();
    const note = (name: string) => (): void => void log.push(`${name} ${clock.now()}`);
    timers.setTimeout(() => {
      note('a')();
      clock.advance(10);
      note('a ends')();
    }, 5);
    timers.setTimeout(note('b'), 5);
    timers.setTimeout(note('c'), 7);
    timers.setTimeout(note('d'), 20);
    timers.setInterval(note('tick'), 6);
    clock.advance(6);
    expect(log).toEqual(['a 5', 'b 5', 'tick 6', 'c 7', 'tick 12', 'a ends 15']);
    expect(clock.now()).toBe(15);
    clock.advance(5);
    expect(log.slice(6)).toEqual(['tick 18', 'd 20']);
  });

  it('a timer that is set between two milliseconds is never early, and at most one late', () => {
    const { clock, timers, log } = manual();
    clock.advance(0.25);
    timers.setTimeout(() => log.push(String(clock.now())), 5);
    clock.advance(4.75);
    expect([log, clock.now()]).toEqual([[], 5]);
    clock.advance(1.25);
    expect(log).toEqual(['6.25']);
  });

  it('more than one batch of due timers runs', () => {
    const { clock, timers } = manual();
    let count = 0;
    for (let i = 0; i < 5000; i++) timers.setTimeout(() => count++, 10);
    clock.advance(11);
    expect(count).toBe(5000);
  });
});

describe('handles', () => {
  it('allow delays beyond 2^31-1 ms, refresh, and stay cleared', () => {
    const { clock, timers, log } = manual();
    timers.setTimeout(() => log.push('month'), 2 ** 31 + 1000);
    const timer = timers.setTimeout(() => log.push('t'), 100);
    clock.advance(60);
    timer.refresh();
    clock.advance(60);
    expect(log).toEqual([]);
    clock.advance(40);
    expect(log).toEqual(['t']);
    timer.refresh();
    clock.advance(100);
    expect(log).toEqual(['t', 't']);
    timer.close();
    timer.refresh();
    clock.advance(2 ** 31);
    expect(log).toEqual(['t', 't']);
    clock.advance(2000);
    expect(log).toEqual(['t', 't', 'month']);
  });

  it('are `this` in their callback, also with arguments, a signal and a queued tick', async () => {
    const { clock, timers } = manual();
    const seen: unknown[] = [];
    const see = function (this: unknown): void {
      seen.push(this);
    };
    const plain = timers.setTimeout(see, 1);
    const withName = timers.setTimeout(see, { delayMs: 2, name: 'named' });
    const bare = new TimerManager({ clock, context: 'none' }).setTimeout(see, 3);
    let finish = (): void => undefined;
    const queued = timers.setInterval(
      function () {
        seen.push(this);
        return new Promise<void>((resolve) => (finish = resolve));
      },
      { delayMs: 10, overlap: 'queue' },
    );
    clock.advance(25);
    finish();
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen.map((one) => [plain, withName, bare, queued].indexOf(one as never))).toEqual([
      0, 1, 2, 3, 3,
    ]);
    timers.close();
  });

  it('wait as docs/timers.md says for delays that the host does not know', () => {
    const { clock, timers } = manual();
    const longest = timers.setTimeout(() => 0, 2 ** 47);
    const delays = [Infinity, 2 ** 60, 2 ** 31, NaN, -Infinity, 0.5, '7', 5n, Symbol('s'), {}];
    const waits = delays.map((delay) => {
      timers.setTimeout(() => 0, delay as never);
      return timers.snapshot().timers.at(-1)!.nextInMs;
    });
    expect(waits).toEqual([2 ** 47, 2 ** 47, 2 ** 31, 1, 1, 1, 7, 1, 1, 1]);
    clock.advance(2 ** 46);
    expect(timers.getActiveTimersCount()).toBe(3);
    longest.close();
  });

  it('are cleared by number, text, dispose and signal', () => {
    const { timers } = manual();
    timers.clearInterval(Number(timers.setTimeout(() => 0, 5)));
    timers.clearTimeout(String(Number(timers.setInterval(() => 0, 5))));
    timers.setTimeout(() => 0, 5)[Symbol.dispose]();
    const abort = new AbortController();
    timers.setInterval(() => 0, { delayMs: 5, signal: abort.signal });
    expect(timers.getActiveTimersCount()).toBe(1);
    abort.abort();
    expect(timers.getActiveTimersCount()).toBe(0);
    expect(timers.setTimeout(() => 0, { delayMs: 5, ref: false }).hasRef()).toBe(false);
  });
});

describe('intervals', () => {
  it('stay on their grid and skip missed ticks', () => {
    const { clock, timers } = manual();
    const at: number[] = [];
    timers.setInterval(() => at.push(clock.now()), 10);
    clock.advance(35);
    expect(at).toEqual([10, 20, 30]);
  });

  it('do not overlap if so configured', async () => {
    const { clock, timers } = manual();
    let started = 0;
    let finish = (): void => undefined;
    timers.setInterval(() => (started++, new Promise<void>((resolve) => (finish = resolve))), {
      delayMs: 10,
      overlap: 'skip',
    });
    clock.advance(35);
    expect(started).toBe(1);
    finish();
    await Promise.resolve().then(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(10);
    expect(started).toBe(2);
  });

  it('do not overlap for a thenable that is no promise of the host either', async () => {
    const { clock, timers } = manual();
    let started = 0;
    let finish = (): void => undefined;
    class Query {
      // oxlint-disable-next-line unicorn/no-thenable -- queries of database libraries are such objects
      then(resolve: () => void): void {
        finish = resolve;
      }
    }
    timers.setInterval(() => (started++, new Query()), { delayMs: 10, overlap: 'skip' });
    clock.advance(35);
    await Promise.resolve();
    expect(started).toBe(1);
    finish();
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(10);
    expect(started).toBe(2);
  });
});

describe('a queued tick', () => {
  it('that throws is an uncaught exception, as every other tick', async () => {
    const { clock, timers } = manual();
    let started = 0;
    timers.setInterval(
      () => {
        if (++started > 1) throw new Error('of the second tick');
        return Promise.resolve();
      },
      { delayMs: 10, overlap: 'queue' },
    );
    const heard: string[] = [];
    const hear =
      (kind: string) =>
      (error: Error): void =>
        void heard.push(`${kind} ${error.message}`);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const listeners = { uncaughtException: hear('uncaught'), unhandledRejection: hear('rejected') };
    for (const [event, listener] of Object.entries(listeners)) process.on(event, listener);
    clock.advance(25);
    await new Promise((resolve) => setImmediate(resolve));
    for (const [event, listener] of Object.entries(listeners)) process.off(event, listener);
    for (const other of others) process.on('uncaughtException', other);
    timers.close();
    expect(heard).toEqual(['uncaught of the second tick']);
  });
});

describe('close', () => {
  it('clears all, also from a callback; later timers are inert, counted, or refused', async () => {
    const { clock, timers, log } = manual();
    const scope = timers.scope('request');
    scope.setTimeout(() => log.push('scoped'), 5);
    timers.setTimeout(() => log.push(JSON.stringify(timers.close())), 1);
    timers.setInterval(() => log.push('same batch'), 1);
    const sleeping = timers.sleep(100);
    clock.advance(50);
    expect(log).toEqual(['{"timeouts":2,"intervals":1}']);
    await expect(sleeping).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    timers
      .setTimeout(() => log.push('inert'), 1)
      .ref()
      .refresh();
    clock.advance(50);
    expect(timers.snapshot()).toMatchObject({ active: 0, inert: 1 });
    expect(timers.close()).toEqual({ timeouts: 0, intervals: 0 });
    const strict = new TimerManager({ clock, strict: true });
    strict.close();
    expect(() => strict.setTimeout(() => 0, 1)).toThrow(
      expect.objectContaining({ code: 'ERR_CLOSED' }),
    );
  });

  it('finds nothing to clear after wrong options, which arm nothing', async () => {
    const { timers } = manual();
    for (const junk of [null, 5, { signal: {} }, { signl: 1 }, { ref: 'x' }]) {
      const code = expect.objectContaining({
        code: expect.stringMatching(/^ERR_(INVALID_ARG_TYPE|UNKNOWN_OPTION)$/),
      });
      await expect(timers.sleep(5, junk as never)).rejects.toEqual(code);
      await expect(timers.interval(5, junk as never).next()).rejects.toEqual(code);
    }
    for (const junk of [
      { delayMs: 5, ref: 'x' },
      { delayMs: 5, name: 5 },
      { delayMs: 5, signal: {} },
    ]) {
      expect(() => timers.setTimeout(() => 0, junk as never)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
      );
    }
    expect(() => timers.scope(5 as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'name' }),
    );
    expect(timers.getActiveTimersCount()).toBe(0);
    expect(timers.close()).toEqual({ timeouts: 0, intervals: 0 });
    for (const [field, junk] of Object.entries({
      strict: 'yes',
      name: 5,
      clock: { now: () => 0 },
    })) {
      expect(() => new TimerManager({ [field]: junk } as never)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }),
      );
    }
  });

  it('reports no negative age of a timer', () => {
    const { clock, timers } = manual();
    for (let i = 0; i < 100; i++) {
      clock.advance(2 ** 31 + 200.25);
      timers.setTimeout(() => 0, 2 ** 40);
      expect(timers.snapshot().timers.every((timer) => timer.ageMs >= 0)).toBe(true);
    }
  });

  it('cleanup() is close(), and so is the end of a block', () => {
    const counted = (end: (timers: TimerManager) => unknown): unknown => {
      const { timers } = manual();
      timers.setTimeout(() => 0, 5);
      timers.scope().setInterval(() => 0, 5);
      const result = end(timers);
      timers.setTimeout(() => 0, 5);
      return [result, timers.snapshot()];
    };
    const closed = counted((timers) => timers.close());
    expect(closed).toMatchObject([
      { timeouts: 1, intervals: 1 },
      { active: 0, inert: 1 },
    ]);
    expect(counted((timers) => timers.cleanup())).toEqual(closed);
    expect(counted((timers) => (timers[Symbol.dispose](), { timeouts: 1, intervals: 1 }))).toEqual(
      closed,
    );
  });

  it('names what leaks', () => {
    const { clock, timers } = manual();
    timers.scope('job').setInterval(() => 0, { delayMs: 50, name: 'poll' });
    clock.advance(20);
    expect(timers.snapshot()).toMatchObject({ active: 1, nextInMs: 30, oldestAgeMs: 20 });
    expect(() => timers.assertNoLeaks()).toThrow(/job\/poll/);
  });
});

describe('on the host', () => {
  it('is never early, keeps async context, and runs microtasks between callbacks', async () => {
    const timers = new TimerManager();
    const storage = new AsyncLocalStorage<string>();
    const log: string[] = [];
    const start = performance.now();
    await new Promise<void>((resolve) => {
      storage.run('request', () =>
        timers.setTimeout(() => log.push(storage.getStore() ?? 'lost'), 3),
      );
      timers.setTimeout(() => {
        log.push('one');
        queueMicrotask(() => log.push('micro'));
      }, 3);
      timers.setTimeout(() => {
        log.push('two');
        resolve();
      }, 3);
    });
    expect(performance.now() - start).toBeGreaterThanOrEqual(3);
    expect(log).toEqual(['request', 'one', 'micro', 'two']);
    let ticks = 0;
    for await (const passed of timers.interval(1)) if ((ticks += passed) >= 3) break;
    expect(timers.getActiveTimersCount()).toBe(0);
  });

  it('fires to the millisecond under an explicit list of fake timers, which leaves time real', async () => {
    const timers = new TimerManager();
    await timers.sleep(1.3);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const log: string[] = [];
    timers.setTimeout(() => log.push('fired'), 100);
    vi.advanceTimersByTime(99);
    expect(log).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(log).toEqual(['fired']);
    vi.useRealTimers();
    timers.close();
  });

  it('is driven by fake timers installed before or after arming, and survives their removal', () => {
    const timers = new TimerManager();
    const log: string[] = [];
    timers.setTimeout(() => log.push('armed before'), 1000);
    vi.useFakeTimers();
    timers.setTimeout(() => log.push('armed under'), 500);
    vi.advanceTimersByTime(600);
    expect(log).toEqual(['armed under']);
    vi.advanceTimersByTime(600);
    expect(log).toEqual(['armed under', 'armed before']);
    timers.setTimeout(() => log.push('left'), 60_000);
    vi.useRealTimers();
    expect(timers.getActiveTimersCount()).toBe(1);
    timers.close();
  });
});
