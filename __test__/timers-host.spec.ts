import { spawnSync } from 'node:child_process';
import { AsyncLocalStorage } from 'node:async_hooks';
import { Worker } from 'node:worker_threads';
import { withGlobal } from '@sinonjs/fake-timers';
import { describe, expect, it } from 'vitest';
import { TimerManager } from '../dist/index.js';
import { inFull } from './fixtures/long.js';
import { BEHAVIOURS, resultsOf } from './fixtures/timer-behaviours.mjs';

const BUN = 'bun' in process.versions;

/** Runs a script on this host in a process of its own, over one kind of timers: its output and its status. */
function log(timers: 'host' | 'ours', body: string): { out: string; status: number | null } {
  const ours = `import { TimerManager } from './dist/index.js'; const manager = new TimerManager();
    const { setTimeout, setInterval, clearTimeout, clearInterval } = Object.fromEntries(
      ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval'].map((name) => [name, manager[name].bind(manager)]));`;
  const script = `${timers === 'ours' ? ours : ''}
    import { AsyncLocalStorage } from 'node:async_hooks';
    const print = (...words) => process.stdout.write(words.join(' ') + '\\n');
    process.on('uncaughtException', (error) => print('uncaught', error.message));
    process.on('unhandledRejection', (error) => print('unhandled', error.message));
    const late = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
    ${body}`;
  const { stdout, status } = spawnSync(
    process.execPath,
    BUN ? ['-e', script] : ['--input-type=module', '-e', script],
    { encoding: 'utf8', timeout: 20_000 },
  );
  return { out: stdout, status };
}

// Each script runs over the host's own timers and over ours; the two outputs are compared. Delays whose order
// counts are far apart: a busy machine may take tens of milliseconds from one line to the next.
describe.each([
  [
    'order of deadlines, first in first out on ties',
    `setTimeout(print, 300, 'c'); setTimeout(print, 10, 'a'); setTimeout(print, 10, 'b'); setTimeout(print, 300, 'd');`,
  ],
  [
    'arguments of every number',
    `setTimeout(print, 1, 1, 'two', undefined, null, 5); setTimeout(print, 1);`,
  ],
  [
    'strange delays are one millisecond',
    `for (const delay of [0, -5, NaN, undefined, null, '3', 0.5, 1.9]) setTimeout(() => 0, delay); setTimeout(print, 20, 'later');`,
  ],
  [
    'a throw is uncaught and the rest still run',
    `setTimeout(() => { throw new Error('first'); }, 5); setTimeout(print, 5, 'second'); setTimeout(() => { throw new Error('third'); }, 5); setTimeout(print, 6, 'fourth'); late(20);`,
  ],
  [
    'a rejection is unhandled',
    `setTimeout(async () => { setTimeout(print, 20, 'after'); throw new Error('lost'); }, 1);`,
  ],
  [
    'async hooks are told of the end of each',
    `const { createHook } = await import('node:async_hooks');
     const alive = new Set();
     createHook({
       init: (id, type) => void (/^(Timeout|PortcullisTimer)$/.test(type) && alive.add(id)),
       destroy: (id) => void alive.delete(id),
     }).enable();
     for (let i = 0; i < 50; i++) {
       setTimeout(() => 0, 1);
       clearTimeout(setTimeout(() => 0, 100));
       const interval = setInterval(() => clearInterval(interval), 1);
     }
     setTimeout(() => setImmediate(() => print('few are alive:', alive.size < 5)), 100);`,
  ],
  [
    'promise jobs run between two callbacks',
    `for (const name of ['a', 'b', 'c']) setTimeout(() => { print(name); Promise.resolve().then(() => print('job', name)); }, 5); late(20);`,
  ],
  [
    'clearing a due one in the same batch stops it',
    `let b; setTimeout(() => { print('a'); clearTimeout(b); }, 5); b = setTimeout(print, 5, 'b'); setTimeout(print, 5, 'c'); late(20);`,
  ],
  [
    'either clear takes either kind, by handle and by number',
    `clearInterval(setTimeout(print, 5, 'x')); clearTimeout(setInterval(print, 5, 'y')); clearTimeout(+setTimeout(print, 5, 'z')); clearTimeout(undefined); clearTimeout(null); setTimeout(print, 20, 'end');`,
  ],
  [
    'an interval can clear itself',
    `let n = 0; const i = setInterval(() => { print('tick', ++n); if (n === 3) clearInterval(i); }, 3);`,
  ],
  [
    'a throwing interval goes on',
    `let n = 0; const i = setInterval(() => { if (++n === 3) clearInterval(i); throw new Error('tick ' + n); }, 3);`,
  ],
  [
    'nested timers',
    `setTimeout(() => { print(1); setTimeout(() => { print(2); setTimeout(print, 1, 3); }, 1); }, 1);`,
  ],
  [
    'refresh puts a timer off, and arms a fired one again',
    `let n = 0; const t = setTimeout(() => { print('fired', ++n); if (n < 3) t.refresh(); }, 100); setTimeout(() => { t.refresh(); print('put off'); }, 3);`,
  ],
  [
    'an unref timer does not hold the process',
    `setTimeout(print, 60_000, 'never').unref(); setInterval(print, 60_000, 'never').unref(); setTimeout(print, 5, 'end');`,
  ],
  [
    'hasRef follows ref and unref',
    `const t = setTimeout(() => 0, 5); print(t.hasRef(), t.unref().hasRef(), t.ref().hasRef());`,
  ],
  [
    'the context of AsyncLocalStorage is kept',
    `const als = new AsyncLocalStorage(); als.run('inside', () => setTimeout(() => print(als.getStore()), 5)); als.run('ticks', () => { const i = setInterval(() => { print(als.getStore()); clearInterval(i); }, 5); }); setTimeout(() => print(als.getStore()), 20);`,
  ],
])('as on the host: %s', (_name, body) => {
  it('prints the same and ends the same', () => {
    const ours = log('ours', body);
    expect(ours).toEqual(log('host', body));
    expect(ours.status).toBe(0);
  });
});

// docs/timers.md lists them; `npm run timers` prints both hosts.
it(
  `${BEHAVIOURS.length} behaviours of Node's timers hold here too, where the host has them`,
  { timeout: 60_000 },
  async () => {
    const [host, ours] = await Promise.all(
      (['host', 'ours'] as const).map((kind) => resultsOf(process.execPath, kind)),
    );
    const failed = (results: readonly (string | null)[]): string[] =>
      BEHAVIOURS.filter((_, at) => results[at] !== '' && results[at] !== null).map(
        ({ name }) => name,
      );
    expect(failed(ours!)).toEqual([]);
    expect(failed(host!)).toEqual([]);
    expect(ours!.filter((result) => result === '').length).toBeGreaterThanOrEqual(67);
  },
);

describe('fake timers of sinon', () => {
  it.each([
    ['everything', undefined],
    ['setTimeout alone', ['setTimeout', 'clearTimeout']],
    ['performance left real', ['setTimeout', 'clearTimeout', 'setImmediate', 'Date']],
    ['Date left real', ['setTimeout', 'clearTimeout', 'performance']],
  ] as const)('fire to the millisecond after any history: %s', async (_name, toFake) => {
    const timers = new TimerManager();
    for (let round = 0; round < 5; round++) {
      // The real clock leaves a fraction of a millisecond.
      await timers.sleep(1.3);
      const clock = withGlobal(globalThis).install(
        toFake === undefined ? {} : { toFake: [...toFake] },
      );
      try {
        const log: string[] = [];
        timers.setTimeout(() => {
          log.push('once');
          timers.setTimeout(() => log.push('nested'), 1);
        }, 100);
        const interval = timers.setInterval(() => log.push('tick'), 60);
        clock.tick(59);
        expect(log.splice(0)).toEqual([]);
        clock.tick(1);
        expect(log.splice(0)).toEqual(['tick']);
        clock.tick(39);
        expect(log.splice(0)).toEqual([]);
        clock.tick(1);
        expect(log.splice(0)).toEqual(['once']);
        clock.tick(1);
        expect(log.splice(0)).toEqual(['nested']);
        interval.close();
        // A change of the date is no passage of time.
        timers.setTimeout(() => log.push('dated'), 10);
        clock.setSystemTime(2e12);
        clock.tick(9);
        expect(log.splice(0)).toEqual([]);
        clock.tick(1);
        expect(log.splice(0)).toEqual(['dated']);
        // More than one batch, with an error: all run at their time, and the error is thrown then.
        let count = 0;
        for (let at = 0; at < 3000; at++)
          timers.setTimeout(() => {
            count++;
            if (at === 5) throw new Error('thrown');
          }, 20);
        expect(() => clock.tick(20)).toThrow('thrown');
        expect(count).toBe(3000);
      } finally {
        clock.uninstall();
      }
    }
    timers.close();
  });

  it('that leave setTimeout real leave the timers real', async () => {
    const timers = new TimerManager();
    const clock = withGlobal(globalThis).install({ toFake: ['performance', 'Date'] });
    try {
      await timers.sleep(5);
      clock.tick(1e9);
      const isLate = timers.sleep(60_000).then(() => 'early');
      expect(await Promise.race([isLate, timers.sleep(10).then(() => 'real')])).toBe('real');
      isLate.catch(() => undefined);
    } finally {
      clock.uninstall();
      timers.close();
    }
  });

  it('drive a manager, installed before or after arming, and removed while timers are armed', async () => {
    const timers = new TimerManager();
    const fired: string[] = [];
    timers.setTimeout(() => fired.push('armed before'), 1000);
    const clock = withGlobal(globalThis).install();
    try {
      timers.setTimeout(() => fired.push('armed after'), 2000);
      // Part of its second may have passed on the real clock.
      clock.tick(900);
      expect(fired).toEqual([]);
      clock.tick(100);
      expect(fired).toEqual(['armed before']);
      clock.tick(999);
      expect(fired).toEqual(['armed before']);
      clock.tick(1);
      expect(fired).toEqual(['armed before', 'armed after']);
      timers.setTimeout(() => fired.push('armed under the fake'), 20);
    } finally {
      clock.uninstall();
    }
    await timers.sleep(1);
    await timers.sleep(60);
    expect(fired.at(-1)).toBe('armed under the fake');
    timers.close();
  });
});

describe('other fake timers', () => {
  /** Replaces the host's timers by a list of its own, as a test without a library does. */
  function byHand(): { tick: (ms: number) => void; remove: () => void } {
    const { setTimeout, clearTimeout } = globalThis;
    let now = 0;
    let armed: { at: number; wake: () => void }[] = [];
    Object.assign(globalThis, {
      setTimeout: (wake: () => void, ms: number) => {
        const timer = { at: now + ms, wake };
        armed.push(timer);
        return timer;
      },
      clearTimeout: (timer: unknown) => (armed = armed.filter((other) => other !== timer)),
    });
    return {
      tick: (ms) => {
        const until = now + ms;
        for (;;) {
          const [next] = armed.toSorted((a, b) => a.at - b.at);
          if (next === undefined || next.at > until) break;
          armed = armed.filter((other) => other !== next);
          now = next.at;
          next.wake();
        }
        now = until;
      },
      remove: () => void Object.assign(globalThis, { setTimeout, clearTimeout }),
    };
  }

  it('that show no clock drive the timers by their alarms', async () => {
    const timers = new TimerManager();
    for (let round = 0; round < 3; round++) {
      await timers.sleep(1.3);
      const fake = byHand();
      try {
        const log: string[] = [];
        const interval = timers.setInterval(() => log.push('tick'), 50);
        timers.setTimeout(() => log.push('once'), 120);
        fake.tick(49);
        expect(log).toEqual([]);
        fake.tick(1);
        expect(log).toEqual(['tick']);
        fake.tick(69);
        expect(log).toEqual(['tick', 'tick']);
        fake.tick(1);
        expect(log).toEqual(['tick', 'tick', 'once']);
        interval.close();
      } finally {
        fake.remove();
      }
    }
    timers.close();
  });

  it.skipIf(BUN)('those of node:test, which Bun lacks, drive the timers', async () => {
    const { mock } = await import('node:test');
    const timers = new TimerManager();
    for (const apis of [['setTimeout', 'Date'], ['setTimeout']] as const) {
      await timers.sleep(1.3);
      mock.timers.enable({ apis: [...apis] });
      try {
        const log: string[] = [];
        timers.setTimeout(() => log.push('once'), 100);
        mock.timers.tick(99);
        expect(log).toEqual([]);
        mock.timers.tick(1);
        expect(log).toEqual(['once']);
      } finally {
        mock.timers.reset();
      }
    }
    timers.close();
  });
});

it('a manager that captures no async context runs its callbacks without one', async () => {
  const store = new AsyncLocalStorage<string>();
  const timers = new TimerManager({ context: 'none' });
  const seen = await new Promise((resolve) =>
    store.run('inside', () => timers.setTimeout(() => resolve(timers.getActiveTimersCount()), 1)),
  );
  expect(seen).toBe(0);
});

// `PORTCULLIS_LONG=1` ends a hundred workers; the soak ends them with seats and a batch under way, too.
const ROUNDS = inFull(3, 25);

it(`${4 * ROUNDS} workers end while their timers fire`, { timeout: 120_000 }, async () => {
  const code = `const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}).then(({ TimerManager }) => {
      const timers = new TimerManager();
      for (let i = 0; i < 50; i++) timers.setInterval(() => undefined, 1 + (i % 3));
      timers.setTimeout(() => parentPort.postMessage('firing'), 2);
    });`;
  for (let round = 0; round < ROUNDS; round++) {
    await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const worker = new Worker(code, { eval: true });
        await new Promise((resolve, reject) =>
          worker.once('message', resolve).once('error', reject),
        );
        await worker.terminate();
      }),
    );
  }
});
