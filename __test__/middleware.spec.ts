import { AsyncLocalStorage } from 'node:async_hooks';
import { tracingChannel } from 'node:diagnostics_channel';
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import {
  type MiddlewareChainOptions,
  MiddlewareChain,
  type MiddlewareFunction,
  type MiddlewareItem,
  PerformantMiddlewareChain,
  PortcullisError,
  type StrayError,
  TimerManager,
} from '../dist/index.js';
import { awaitsItsNext } from '../dist/middleware/proof.js';
import { ManualClock } from '../dist/testing.js';

type Log = (string | number)[];
type Context = Record<string, unknown>;
type Layer = MiddlewareFunction<Context, unknown>;
type Run = (context?: unknown, finalNext?: unknown) => Promise<unknown>;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const done = (): Promise<undefined> => Promise.resolve(undefined);

function chainOf(
  items: readonly (Layer | MiddlewareItem<Context, unknown>)[],
  options: MiddlewareChainOptions = {},
) {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  const strays: (StrayError & { error: unknown })[] = [];
  const chain = new PerformantMiddlewareChain<Context, Context, unknown>(
    items.map((item, index) =>
      typeof item === 'function' ? { name: `m${index}`, middleware: item } : item,
    ),
    timers,
    { onError: (error, stray) => strays.push({ error, ...stray }), ...options },
  );
  const run: Run = (...args) => (chain.execute() as unknown as Run)(...args);
  const of = (name: string) => chain.snapshot().layers.find((layer) => layer.name === name)!;
  return { chain, run, clock, timers, strays, of };
}

/** Makes a chain with the signature of koa's `compose`. */
const compose = (layers: readonly Layer[], options?: MiddlewareChainOptions): Run =>
  chainOf(layers, options).chain.execute() as unknown as Run;

// The chain has two loops, one without and one with timing: all rules hold for both.
describe.each(['off', 'always', 'sampled'] as const)("koa's rules, timing: %s", (timing) => {
  const onion = (layers: readonly Layer[]): Run => compose(layers, { timing });
  const around =
    (log: Log, first: number, last: number): Layer =>
    async (_context, next) => {
      log.push(first);
      await turn();
      await next();
      await turn();
      log.push(last);
    };

  it('layers run inwards before next() and outwards after it', async () => {
    const log: Log = [];
    await onion([around(log, 1, 6), around(log, 2, 5), around(log, 3, 4)])({});
    expect(log).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('a chain runs as often as it is called, also concurrently', async () => {
    const run = onion(
      [1, 2, 3].map((n): Layer => async (context, next) => {
        const log = context.log as Log;
        log.push(n);
        await turn();
        await next();
        log.push(7 - n);
      }),
    );
    const contexts = Array.from({ length: 3 }, () => ({ log: [] as Log }));
    await Promise.all(contexts.map((context) => run(context)));
    await run(contexts[0]);
    expect(contexts[1]!.log).toEqual([1, 2, 3, 4, 5, 6]);
    expect(contexts[0]!.log).toEqual([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
  });

  it('only an array makes a chain', () => {
    for (const items of [undefined, null, 'x', {}, new Set(), () => undefined]) {
      expect(() => new MiddlewareChain(items as never, new TimerManager())).toThrowError(
        /items must be an array/,
      );
    }
  });

  it('next() returns a promise at every level, also for sync layers', async () => {
    const seen: unknown[] = [];
    const sync: Layer = (_context, next) => {
      const promise = next();
      seen.push(promise);
      return promise;
    };
    const result = onion([sync, sync, () => 'value', sync])({});
    expect(result).toBeInstanceOf(Promise);
    expect(await result).toBe('value');
    expect(seen).toHaveLength(2);
    for (const promise of seen) expect(promise).toBeInstanceOf(Promise);
  });

  it('an empty chain resolves', async () => {
    expect(await onion([])({})).toBeUndefined();
    expect(await onion([])()).toBeUndefined();
  });

  it('only functions are layers, and the error names the entry', () => {
    for (const middleware of [undefined, null, 1, 'x', {}, [], true, Symbol('s')]) {
      expect(() => chainOf([{ name: 'auth', middleware: middleware as never }])).toThrowError(
        /middleware "auth"\.middleware must be a function/,
      );
    }
  });

  it('the last layer may call next() although nothing follows', async () => {
    expect(
      await onion([async (_context, next) => ((await next()) === undefined ? 'end' : 'more')])({}),
    ).toBe('end');
  });

  it('a run rejects with the very value that a layer throws or rejects with', async () => {
    for (const error of [new Error('x'), undefined, null, 0, '', false]) {
      const layers: readonly Layer[] = [
        () => {
          throw error;
        },
        async () => {
          throw error;
        },
        () => Promise.reject(error),
        async (_context, next) => {
          await next();
          throw error;
        },
      ];
      for (const layer of layers) {
        const outcome = await onion([
          (_context, next) => next(),
          async (_context, next) => next(),
          layer,
        ])({}).then(
          () => 'resolved',
          (reason: unknown) => ({ reason }),
        );
        expect(outcome).toEqual({ reason: error });
      }
    }
  });

  it('awaiting next without calling it is harmless, and skips the rest', async () => {
    const log: Log = [];
    await onion([
      async (_context, next) => {
        await next;
        log.push(1);
      },
      () => log.push(2),
    ])({});
    expect(log).toEqual([1]);
  });

  it('every layer and the final next get the same context', async () => {
    const context = {};
    const seen: unknown[] = [];
    const look: Layer = (given, next) => (seen.push(given), next());
    await onion([look, look])(context, (given: unknown) => seen.push(given));
    expect(seen).toHaveLength(3);
    for (const given of seen) expect(given).toBe(context);
  });

  it('an upper layer catches the error of a lower one, and goes on', async () => {
    const log: Log = [];
    await onion([
      async (_context, next) => {
        try {
          log.push(1);
          await next();
          log.push('never');
        } catch {
          log.push(3);
        }
        log.push(4);
      },
      () => {
        log.push(2);
        throw new Error('x');
      },
    ])({});
    expect(log).toEqual([1, 2, 3, 4]);
  });

  it('without a layer the final next runs', async () => {
    let ran = 0;
    expect(await onion([])({}, () => ++ran)).toBe(1);
    await expect(
      onion([])({}, () => {
        throw new Error('final');
      }),
    ).rejects.toThrow('final');
  });

  it('a chain may be a layer of a chain; each layer runs once', async () => {
    const log: Log = [];
    const step =
      (n: number): Layer =>
      (_context, next) => (log.push(n), next());
    const inner = onion([step(2), onion([step(3)]) as Layer, step(4)]) as Layer;
    await onion([step(1), inner, step(5)])({}, () => log.push(6));
    expect(log).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('a second next() is an error that names the layer, and the rest runs once', async () => {
    let ran = 0;
    const named = (middleware: Layer) =>
      chainOf(
        [
          { name: 'outer', priority: 1, middleware: async (_context, next) => next() },
          { name: 'greedy', middleware },
          () => ++ran,
        ],
        { timing },
      );
    const variants: readonly Layer[] = [
      async (_context, next) => {
        await next();
        await next();
      },
      async (_context, next) => {
        await Promise.all([next(), next()]);
      },
      async (_context, next) => {
        await next();
        await turn();
        await next();
      },
      (_context, next) => next().then(() => next()),
    ];
    for (const variant of variants) {
      ran = 0;
      const error: unknown = await named(variant)
        .run({})
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(PortcullisError);
      expect(error).toMatchObject({
        code: 'ERR_NEXT_CALLED_TWICE',
        message: 'next() called multiple times in middleware "greedy"',
      });
      expect(ran).toBe(1);
    }
  });

  it('a second next() is an error after the layer has ended, and in the final next', async () => {
    let kept: (() => Promise<unknown>) | undefined;
    const { run } = chainOf([(_context, next) => ((kept = next), next())], { timing });
    await run({});
    await expect(kept!()).rejects.toMatchObject({ code: 'ERR_NEXT_CALLED_TWICE' });
    const final = async (_context: unknown, next: () => Promise<unknown>): Promise<void> => {
      await next();
      await next();
    };
    await expect(run({}, final)).rejects.toThrow('next() called multiple times in the final next');
  });

  it('the values that layers return travel outwards', async () => {
    const log: unknown[] = [];
    const run = onion([
      async (_context, next) => (log.push(await next()), 1),
      async (_context, next) => (log.push(await next()), 2),
    ]);
    expect(await run({}, () => 0)).toBe(1);
    expect(log).toEqual([0, 2]);
  });

  it('the items are not changed, and later changes of the array do not count', async () => {
    const log: Log = [];
    const items = Object.freeze([
      Object.freeze({ name: 'low', middleware: (() => log.push('low')) as Layer }),
      Object.freeze({
        name: 'high',
        priority: 5,
        middleware: ((_context, next) => (log.push('high'), next())) as Layer,
      }),
    ]);
    const given = [...items];
    const { run } = chainOf(given, { timing });
    given.reverse();
    given.push({ name: 'late', priority: 9, middleware: () => log.push('late') });
    await run({});
    expect(log).toEqual(['high', 'low']);
  });

  it('the final next gets the context and a next of its own, and runs once', async () => {
    let ran = 0;
    const context = {};
    await onion([(_context, next) => next()])(
      context,
      async (given: unknown, next: () => Promise<unknown>) => {
        ran++;
        expect(given).toBe(context);
        expect(await next()).toBeUndefined();
      },
    );
    expect(ran).toBe(1);
  });

  it('the order is by priority, then by place', async () => {
    const log: Log = [];
    const item = (name: string, priority?: number): MiddlewareItem<Context, unknown> => ({
      name,
      ...(priority === undefined ? {} : { priority }),
      middleware: (_context, next) => (log.push(name), next()),
    });
    await chainOf(
      [item('a'), item('b', 5), item('c', -1), item('d', 5), item('e', 0), item('f', 5.5)],
      { timing },
    ).run({});
    expect(log).toEqual(['f', 'b', 'd', 'a', 'e', 'c']);
  });

  it('a layer may answer without next(); thenables become promises, and are asked once', async () => {
    let asked = 0;
    // oxlint-disable-next-line unicorn/no-thenable
    const lazy = { then: (resolve: (value: string) => void) => (asked++, resolve('lazy')) };
    const run = onion([
      async (_context, next) => `${String(await next())}!`,
      () => lazy,
      () => expect.unreachable(),
    ]);
    expect(await run({})).toBe('lazy!');
    expect(asked).toBe(1);
    // The same for a layer that calls next() without waiting.
    const detached = onion([(_context, next) => (void next(), lazy)]);
    expect(await detached({})).toBe('lazy');
    expect(asked).toBe(2);
    expect(await onion([(_context, next) => next()])({}, () => lazy)).toBe('lazy');
  });

  it('10,000 layers, sync and async, do not overflow the stack', async () => {
    const many = (layer: Layer): Layer[] => Array.from({ length: 10_000 }, () => layer);
    let count = 0;
    expect(await onion(many((_context, next) => (count++, next())))({}, () => 'end')).toBe('end');
    expect(
      await onion(
        many(async (_context, next) => {
          count++;
          await next();
        }),
      )({}),
    ).toBeUndefined();
    await expect(
      onion(many((_context, next) => (count++, next())))({}, () => {
        throw new Error('deep');
      }),
    ).rejects.toThrow('deep');
    expect(count).toBe(30_000);
  });

  it('1,000 interleaved runs do not mix', async () => {
    const pause = async (n: number): Promise<void> => {
      for (let i = 0; i < n; i++) await done();
    };
    const run = onion(
      [1, 2, 3].map((n): Layer => async (context, next) => {
        await pause(((context.id as number) * n) % 7);
        (context.log as Log).push(n);
        const below = await next();
        await pause((context.id as number) % (n + 1));
        (context.log as Log).push(-n);
        return below;
      }),
    );
    const contexts = Array.from({ length: 1000 }, (_, id) => ({ id, log: [] as Log }));
    const results = await Promise.all(contexts.map((context) => run(context, () => context.id)));
    expect(results).toEqual(contexts.map((context) => context.id));
    for (const { log } of contexts) expect(log).toEqual([1, 2, 3, -3, -2, -1]);
  });

  it('AsyncLocalStorage is kept through the chain, also where the stack is broken', async () => {
    const storage = new AsyncLocalStorage<number>();
    const seen = new Set<unknown>();
    const look: Layer = (_context, next) => (seen.add(storage.getStore()), next());
    const run = onion([
      (_context, next) => storage.run(7, next),
      ...Array.from({ length: 600 }, () => look),
    ]);
    await storage.run(1, () => run({}, async () => (await turn(), seen.add(storage.getStore()))));
    expect([...seen]).toEqual([7]);
  });

  it('a run does not begin or go on once its signal has aborted', async () => {
    const log: Log = [];
    const controller = new AbortController();
    const run = onion([
      async (_context, next) => {
        log.push(1);
        await turn();
        try {
          return await next();
        } finally {
          log.push(3);
        }
      },
      () => log.push(2),
    ]);
    const running = run({ signal: controller.signal });
    controller.abort(new Error('gone'));
    await expect(running).rejects.toThrow('gone');
    expect(log).toEqual([1, 3]);
    await expect(run({ signal: controller.signal })).rejects.toThrow('gone');
    expect(log).toEqual([1, 3]);
  });
});

describe('a layer that does not wait for its next()', () => {
  const failing = async (): Promise<never> => {
    await turn();
    throw new Error('below');
  };

  it.each<[string, Layer]>([
    ['sync', (_context, next) => void next()],
    ['async', async (_context, next) => void next()],
    [
      'async, longer than the rest',
      async (_context, next) => {
        void next();
        for (let i = 0; i < 5; i++) await turn();
      },
    ],
    [
      'throws',
      (_context, next) => {
        void next();
        throw new Error('own');
      },
    ],
  ])('does not crash the process, and the error is reported: %s', async (_name, layer) => {
    for (const timing of ['off', 'always'] as const) {
      const { run, strays, of } = chainOf([{ name: 'careless', middleware: layer }, failing], {
        timing,
      });
      await run({}).catch((error: unknown) => expect((error as Error).message).toBe('own'));
      for (let i = 0; i < 8; i++) await turn();
      expect(strays).toMatchObject([
        { layer: 'careless', kind: 'detached', error: { message: 'below' } },
      ]);
      expect(of('careless').strayErrors).toBe(1);
    }
  });

  it.each<[string, Layer]>([
    [
      'late',
      async (_context, next) => {
        const rest = next();
        for (let i = 0; i < 5; i++) await turn();
        return rest;
      },
    ],
    ['then', (_context, next) => next().then((value) => value)],
    ['returned', (_context, next) => next()],
    [
      'returned by an async function, after a wait',
      async (_context, next) => (await turn(), next()),
    ],
    [
      'in a variable',
      (_context, next) => {
        const rest = next();
        return rest;
      },
    ],
    [
      'caught',
      async (_context, next) => {
        await turn();
        await next().catch((error: unknown) => {
          throw error;
        });
      },
    ],
    [
      'all',
      async (_context, next) => {
        await Promise.all([next(), done()]);
      },
    ],
    [
      'aliased',
      async (...args) => {
        const [, go] = args;
        await go();
      },
    ],
  ])('is not confused with one that waits: %s', async (_name, layer) => {
    for (const timing of ['off', 'always'] as const) {
      const { run, strays } = chainOf([layer, failing], { timing });
      await expect(run({})).rejects.toThrow('below');
      for (let i = 0; i < 8; i++) await turn();
      expect(strays).toEqual([]);
    }
  });

  it('is recognized by its source: only text that certainly waits is trusted', () => {
    const layer = (text: string): Layer => new Function(`return ${text}`)() as Layer;
    for (const text of [
      'async (c, n) => { await n(); }',
      'async(c,n)=>{await n()}',
      'async function (c, next) { c.x = 1; await next ( ); }',
      'async function named(c, $n) { if (c.x) await $n(); else c.y = await $n(); }',
      '(c, next) => next()',
      'async (c, next) => next()',
      '(c, next) => { c.x = (y) => y; return next(); }',
      '(c) => c.x',
      'c => c.x',
      'async () => 5',
      'function () { return 1; }',
      '({ async go(c, next) { try { return await next() } finally { c.x = 1 } } }).go',
    ]) {
      expect([text, awaitsItsNext(layer(text))]).toEqual([text, true]);
    }
    for (const text of [
      '(c, next) => { next(); }',
      'async (c, next) => { next(); }',
      'async (c, next) => { await next(); next(); }',
      'async (c, next) => { /* await next() */ next(); }',
      'async (c, next) => { // await\n next(); }',
      'async (c, next) => { // return next();\n next() }',
      '(c, next) => { (() => { return next(); })(); }',
      '(c, next) => { try { return next(); } finally { return 5; } }',
      '(c, next) => { const n = next; n(); }',
      'async (c, next) => { const n = arguments[1]; n(); }',
      'function (c) { arguments[1](); }',
      'async (c, next) => { eval("ne" + "xt()"); }',
      'async (c, next) => { n\\u0065xt(); await next(); }',
      'async (...all) => { all[1](); }',
      'async (c, next = c.next) => { await next(); }',
      'async ({ x }, next) => { await next(); }',
      'async (c, next) => { await next()[0]; }',
      'async (c, next) => { await next()\n[0]; }',
      'async (c, next) => { await next() /**/ [0]; }',
      'async (c, next) => { await next().x; }',
      'async (c, next) => { c.await next() }'.replace(
        'c.await next()',
        'c.run(next); await next()',
      ),
      '(c, next) => next() && 5',
      '(c, next) => (next(), 5)',
      '(c, next) => [next()]',
      '(function (c, next) { next(); }).bind(null)',
      `async (c, next) => { ${' '.repeat(20_000)} await next(); }`,
    ]) {
      expect([text, awaitsItsNext(layer(text))]).toEqual([text, false]);
    }
  });

  it('becomes one process warning without onError, while a run that is not awaited stays an unhandled rejection', () => {
    const script = `
      import { PerformantMiddlewareChain, TimerManager } from './dist/index.js';
      process.on('warning', (warning) => console.log('warning', warning.code, warning.message));
      process.on('unhandledRejection', (error) => console.log('unhandled', error.message));
      const chain = new PerformantMiddlewareChain([{ name: 'careless', middleware: (c, next) => { next(); } }], new TimerManager());
      for (let i = 0; i < 3; i++) await chain.execute()({}, async () => { throw new TypeError('secret'); });
      await new Promise((resolve) => setTimeout(resolve, 20));
      for (const timing of ['off', 'always']) {
        const other = new PerformantMiddlewareChain([{ name: 'm', middleware: async () => { throw new Error('nobody ' + timing); } }], new TimerManager(), { timing });
        void other.execute()({});
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    `;
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--input-type=module', '--eval', script],
      { encoding: 'utf8' },
    );
    expect([stdout.trim().split('\n'), status]).toEqual([
      [
        'warning PORTCULLIS_DETACHED_ERROR middleware: middleware "careless" did not wait for its next(), which failed (TypeError); see onError',
        'unhandled nobody off',
        'unhandled nobody always',
      ],
      0,
    ]);
  });
});

describe('configuration', () => {
  it('refuses bad items by name', () => {
    const noop: Layer = () => undefined;
    const cases: readonly [unknown[], string, RegExp][] = [
      [
        [{ middleware: noop }],
        'ERR_INVALID_ARG_TYPE',
        /items\[0\]\.name must be a non-empty string, got undefined/,
      ],
      [[{ name: '', middleware: noop }], 'ERR_INVALID_ARG_TYPE', /items\[0\]\.name/],
      [
        [{ name: 'a', middleware: noop }, 3],
        'ERR_INVALID_ARG_TYPE',
        /items\[1\] must be an object/,
      ],
      // eslint-disable-next-line no-sparse-arrays
      [[, { name: 'a', middleware: noop }], 'ERR_INVALID_ARG_TYPE', /items\[0\]/],
      [
        [
          { name: 'a', middleware: noop },
          { name: 'a', middleware: noop },
        ],
        'ERR_DUPLICATE_NAME',
        /two middlewares are named "a"/,
      ],
      [
        [{ name: 'a', middleware: 5 }],
        'ERR_INVALID_ARG_TYPE',
        /middleware "a"\.middleware must be a function/,
      ],
      [[{ name: 'a' }], 'ERR_INVALID_ARG_TYPE', /middleware "a"\.middleware/],
      [
        [{ name: 'a', middleware: noop, priority: Number.NaN }],
        'ERR_OUT_OF_RANGE',
        /middleware "a"\.priority must be a finite number, got NaN/,
      ],
      [
        [{ name: 'a', middleware: noop, priority: -Infinity }],
        'ERR_OUT_OF_RANGE',
        /middleware "a"\.priority/,
      ],
      [
        [{ name: 'a', middleware: noop, priority: '1' }],
        'ERR_INVALID_ARG_TYPE',
        /middleware "a"\.priority/,
      ],
      [
        [{ name: 'a', middleware: noop, enabled: 0 }],
        'ERR_INVALID_ARG_TYPE',
        /middleware "a"\.enabled/,
      ],
      [
        [{ name: 'a', middleware: noop, timeoutMs: 0 }],
        'ERR_OUT_OF_RANGE',
        /middleware "a"\.timeoutMs/,
      ],
      [
        [{ name: 'a', middleware: noop, timeoutMs: Infinity }],
        'ERR_OUT_OF_RANGE',
        /middleware "a"\.timeoutMs/,
      ],
      [
        [{ name: 'a', middleware: noop, optional: 'yes' }],
        'ERR_INVALID_ARG_TYPE',
        /middleware "a"\.optional/,
      ],
      [
        [{ name: 'a', middleware: noop, breaker: {} }],
        'ERR_INVALID_ARG_TYPE',
        /middleware "a"\.breaker needs optional: true/,
      ],
      [
        [{ name: 'a', middleware: noop, optional: true, breaker: { failures: 0 } }],
        'ERR_OUT_OF_RANGE',
        /middleware "a"\.breaker\.failures/,
      ],
      [
        [{ name: 'a', middleware: noop, optional: true, breaker: { cooldown: 1 } }],
        'ERR_UNKNOWN_OPTION',
        /did you mean cooldownMs/,
      ],
      [
        [{ name: 'a', middleware: noop, prioritty: 1 }],
        'ERR_UNKNOWN_OPTION',
        /middleware "a" has no option "prioritty", did you mean priority/,
      ],
    ];
    for (const [items, code, message] of cases) {
      expect(() => chainOf(items as never)).toThrowError(
        expect.objectContaining({
          code,
          message: expect.stringMatching(message) as string,
          field: expect.any(String) as string,
        }),
      );
      const { chain } = chainOf([{ name: 'first', middleware: noop }]);
      const version = chain.version;
      if (items.length === 1)
        expect(() => chain.add(items[0] as never)).toThrowError(expect.objectContaining({ code }));
      expect(chain.version).toBe(version);
    }
    for (const options of [
      null,
      3,
      { timing: 'maybe' },
      { timings: 'off' },
      { sampleEvery: 0 },
      { sampleEvery: 1.5 },
      { onError: 1 },
      { name: 7 },
    ]) {
      expect(() => new MiddlewareChain([], new TimerManager(), options as never)).toThrowError(
        PortcullisError,
      );
    }
  });

  it('takes its timers as an option, as an argument, or makes its own', async () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    const items = [{ name: 'slow', timeoutMs: 5, middleware: async () => turn() }];
    for (const chain of [
      new MiddlewareChain(items, { timers }),
      new MiddlewareChain(items, timers, { name: 'api' }),
      new MiddlewareChain(items, timers),
    ]) {
      const running = chain.execute()({});
      expect(timers.getActiveTimersCount()).toBe(1);
      await running;
    }
    const own = new MiddlewareChain(items);
    await own.execute()({});
    own.close();
    const refused = (run: () => unknown, field: string): void =>
      expect(run).toThrowError(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }));
    refused(() => new MiddlewareChain([], timers, { timers } as never), 'timers');
    refused(() => new MiddlewareChain([], { timers: { setTimeout } } as never), 'timers');
    refused(() => new MiddlewareChain([], undefined as never, {}), 'timerManager');
    refused(() => new MiddlewareChain([], { setTimeout } as never, {}), 'timerManager');
    refused(() => new MiddlewareChain([], 5 as never), 'options');
  });

  it('refuses a wrong final next, and allows its absence as koa does', async () => {
    const { run } = chainOf([(_context, next) => next()]);
    for (const final of [undefined, null, 5, {}]) {
      await expect(run({}, final)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        field: 'finalNext',
      });
    }
    expect(await run({})).toBeUndefined();
  });

  it('accepts any context, and rejects for one that throws', async () => {
    const { run } = chainOf([(_context, next) => next()]);
    for (const context of [
      undefined,
      null,
      0,
      'x',
      Symbol('s'),
      Object.freeze({}),
      { signal: 1 },
      { signal: null },
      { signal: { aborted: 'no' } },
    ]) {
      expect(await run(context, () => 'end')).toBe('end');
    }
    const hostile = new Proxy(
      {},
      {
        get: () => {
          throw new Error('hostile');
        },
      },
    );
    await expect(run(hostile, done)).rejects.toThrow('hostile');
  });

  it('compiles once: the layer of an object is made when the chain is compiled, not per run', async () => {
    const made: string[] = [];
    class Auth {
      hash = 'a';
      middleware(): Layer {
        made.push(this.hash);
        const { hash } = this;
        return (context, next) => ((context.by = hash), next());
      }
      getConfigHash(): string {
        return this.hash;
      }
    }
    const auth = new Auth();
    const { chain, run } = chainOf([{ name: 'auth', middleware: auth }]);
    expect(made).toEqual([]);
    const compiled = chain.execute();
    for (let i = 0; i < 100; i++) await run({}, done);
    expect(chain.execute()).toBe(compiled);
    expect(made).toEqual(['a']);
    auth.hash = 'b';
    expect(chain.execute()).not.toBe(compiled);
    const context: Context = {};
    await run(context, done);
    expect([context.by, made]).toEqual(['b', ['a', 'b']]);
    // Adding another layer does not make this one again; `invalidateCache()` does.
    chain.add({ name: 'other', middleware: (_context, next) => next() });
    await run({}, done);
    expect(made).toEqual(['a', 'b']);
    chain.invalidateCache();
    await run({}, done);
    expect(made).toEqual(['a', 'b', 'b']);
  });

  it('takes a hash that is NaN for the same one each time', () => {
    let made = 0;
    const middleware = {
      middleware: (): Layer => (made++, (_context, next) => next()),
      getConfigHash: () => Number.NaN,
    };
    const { chain } = chainOf([{ name: 'a', middleware }]);
    const compiled = chain.execute();
    expect([chain.execute() === compiled, made]).toEqual([true, 1]);
    chain.add({ name: 'b', middleware: (_context, next) => next() });
    chain.execute();
    expect(made).toBe(1);
  });

  it('notices a changed function, priority or `enabled` of an item', async () => {
    const log: Log = [];
    const put =
      (name: string): Layer =>
      (_context, next) => (log.push(name), next());
    const a: MiddlewareItem<Context, unknown> = { name: 'a', middleware: put('a') };
    const b: MiddlewareItem<Context, unknown> = { name: 'b', middleware: put('b') };
    const { chain, run } = chainOf([a, b]);
    const held = chain.execute() as unknown as Run;
    const steps: readonly [() => unknown, Log][] = [
      [() => undefined, ['a', 'b']],
      [() => (a.middleware = put('A')), ['A', 'b']],
      [() => (b.priority = 1), ['b', 'A']],
      [() => (b.enabled = false), ['A']],
      [() => chain.enable('b'), ['b', 'A']],
      [() => chain.replace('a', put('AA')), ['b', 'AA']],
      [() => (a.middleware = put('last')), ['b', 'last']],
    ];
    for (const [change, expected] of steps) {
      change();
      log.length = 0;
      await run({}, done);
      expect(log).toEqual(expected);
    }
    log.length = 0;
    await held({}, done);
    expect(log).toEqual(['a', 'b']);
    a.priority = Number.NaN;
    expect(() => chain.execute()).toThrowError(/middleware "a"\.priority/);
    a.priority = 0;
    expect(() => chain.execute()).not.toThrow();
  });

  it('notices a renamed item: its figures go on under the new name, which must be unique', async () => {
    const a: MiddlewareItem<Context, unknown> = {
      name: 'a',
      middleware: (_context, next) => next(),
    };
    const b: MiddlewareItem<Context, unknown> = {
      name: 'b',
      middleware: (_context, next) => next(),
    };
    const { chain, run, of } = chainOf([a, b], { timing: 'always' });
    await run({}, done);
    const { version } = chain;
    a.name = 'renamed';
    await run({}, done);
    expect([
      chain.version,
      of('renamed').count,
      chain.snapshot().layers.map(({ name }) => name),
    ]).toEqual([version + 1, 2, ['renamed', 'b']]);
    chain.disable('renamed');
    expect(() => chain.disable('a')).toThrowError(/no middleware "a"/);
    b.name = 'renamed';
    expect(() => chain.execute()).toThrowError(
      expect.objectContaining({ code: 'ERR_DUPLICATE_NAME' }),
    );
    b.name = '';
    expect(() => chain.execute()).toThrowError(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'middleware "b".name' }),
    );
    b.name = 'b';
    expect(() => chain.execute()).not.toThrow();
  });

  it('applies a change as a whole or not at all', async () => {
    const { chain, run } = chainOf([(_context, next) => next()]);
    const compiled = chain.execute();
    const { version } = chain;
    const broken = {
      middleware: (): Layer => {
        throw new Error('cannot be made');
      },
    };
    expect(() => chain.add({ name: 'broken', middleware: broken })).toThrow('cannot be made');
    expect(() =>
      chain.add({ name: 'odd', middleware: { middleware: () => 5 as never } }),
    ).toThrowError(/middleware "odd"\.middleware\(\) must be a function when called, got 5/);
    expect(() => chain.replace('m0', broken)).toThrow('cannot be made');
    expect(() => chain.add({ name: 'm0', middleware: () => 1 })).toThrowError(
      /two middlewares are named "m0"/,
    );
    for (const name of ['enable', 'disable'] as const)
      expect(() => chain[name]('m1')).toThrowError(/no middleware "m1", did you mean m0\?/);
    expect(() => chain.setPriority('m0', Number.NaN)).toThrowError(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
    expect(() => chain.replace('m0', 5 as never)).toThrowError(/middleware "m0"/);
    expect(() => chain.remove(5 as never)).toThrowError(/name must be a string/);
    expect(chain.remove('none')).toBe(false);
    expect([chain.execute(), chain.version]).toEqual([compiled, version]);
    expect(await run({}, () => 'end')).toBe('end');
    // A disabled layer is not made.
    chain.add({ name: 'broken', middleware: broken, enabled: false });
    expect(await run({}, () => 'end')).toBe('end');
    expect(() => chain.enable('broken')).toThrow('cannot be made');
    expect(chain.remove('broken')).toBe(true);
    expect(chain.version).toBe(version + 2);
  });

  it('finishes runs in flight on the chain that they began with', async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const put =
      (name: string): Layer =>
      async (context, next) => {
        (context.log as Log).push(name);
        await next();
        (context.log as Log).push(-1);
      };
    const wait: Layer = async (_context, next) => {
      await gate;
      await next();
    };
    const { chain, run } = chainOf([wait, put('old'), put('gone')]);
    const contexts = Array.from({ length: 1000 }, () => ({ log: [] as Log }));
    const running = contexts.map((context) => run(context, done));
    chain.replace('m1', put('new'));
    chain.remove('m2');
    chain.disable('m0');
    chain.invalidateCache();
    const late = { log: [] as Log };
    await run(late, done);
    open();
    await Promise.all(running);
    for (const { log } of contexts) expect(log).toEqual(['old', 'gone', -1, -1]);
    expect(late.log).toEqual(['new', -1]);
  });

  it('closed, it refuses to run and to change, and its runs end normally, without timeouts', async () => {
    const { chain, clock, timers, of } = chainOf([
      { name: 'slow', timeoutMs: 5, middleware: async (_context, next) => (await turn(), next()) },
    ]);
    const other = timers.setTimeout(() => undefined, 1000);
    const compiled = chain.execute() as unknown as Run;
    const running = compiled({}, () => 'end');
    expect(timers.getActiveTimersCount()).toBe(2);
    chain.close();
    chain.close();
    chain[Symbol.dispose]();
    expect(timers.getActiveTimersCount()).toBe(1);
    clock.advance(10);
    expect([await running, await compiled({}, () => 'again')]).toEqual(['end', 'again']);
    expect([of('slow').count, of('slow').timeouts]).toEqual([2, 0]);
    const item = { name: 'late', middleware: (): undefined => undefined };
    for (const change of [
      () => chain.execute(),
      () => chain.invalidateCache(),
      () => chain.add(item),
      () => chain.remove('slow'),
      () => chain.remove('nothing'),
      () => chain.enable('slow'),
      () => chain.disable('slow'),
      () => chain.replace('slow', item.middleware),
      () => chain.setPriority('slow', 1),
    ])
      expect(change).toThrowError(
        expect.objectContaining({
          code: 'ERR_CLOSED',
          message: 'the middleware chain "middleware" is closed',
        }),
      );
    other.close();
    // Of timers of its own it leaves none behind.
    const own = new MiddlewareChain([item]);
    own[Symbol.dispose]();
    expect(() => own.execute()).toThrowError(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });

  it('the same function may be two layers', async () => {
    let ran = 0;
    const same: Layer = (_context, next) => (ran++, next());
    await chainOf([same, same]).run({}, done);
    expect(ran).toBe(2);
  });
});

describe('figures', () => {
  it('self time excludes the layers below, total time includes them; by the clock of the manager', async () => {
    const { chain, run, clock, of } = chainOf(
      [
        async (_context, next) => {
          clock.advance(10);
          await next();
          clock.advance(5);
        },
        (_context, next) => {
          clock.advance(3);
          return next();
        },
      ],
      { timing: 'always' },
    );
    await run({}, () => clock.advance(100));
    expect(chain.getPerformanceMetrics()).toEqual({ m0: 15, m1: 3 });
    expect(of('m0').total).toMatchObject({ emaMs: 118, maxMs: 118 });
    expect(of('m1').total).toMatchObject({ emaMs: 103 });
    expect(of('m1')).toMatchObject({
      count: 1,
      observed: 1,
      errors: 0,
      inFlight: 0,
      detached: 0,
      optional: null,
    });
    // The moving average weighs each new value by a tenth.
    for (let i = 0; i < 2; i++) await run({}, done);
    expect(chain.getPerformanceMetrics().m0).toBe(15);
    expect(of('m0').total!.emaMs).toBeCloseTo(118 * 0.81 + 18 * 0.19);
  });

  it('errors count in the layer that throws, runs in flight until they end', async () => {
    const { run, of } = chainOf(
      [
        async (_context, next) => {
          try {
            await next();
          } catch {
            throw new Error('another');
          }
        },
        async (_context, next) => next(),
        (context) => {
          if (context.sync === true) throw new Error('sync');
          return context.promise;
        },
      ],
      { timing: 'always' },
    );
    await expect(run({ sync: true })).rejects.toThrow('another');
    let fail: (error: Error) => void = () => undefined;
    const running = run({ promise: new Promise((_resolve, reject) => (fail = reject)) });
    expect([0, 1, 2].map((n) => of(`m${n}`).inFlight)).toEqual([1, 1, 1]);
    fail(new Error('async'));
    await expect(running).rejects.toThrow('another');
    expect([0, 1, 2].map((n) => of(`m${n}`).errors)).toEqual([2, 0, 2]);
    expect([0, 1, 2].map((n) => of(`m${n}`).inFlight)).toEqual([0, 0, 0]);
    expect(of('m2').total!.maxMs).toBe(0);
  });

  it('count layers that end before the layers below', async () => {
    const { run, of } = chainOf([(_context, next) => void next(), async () => turn()], {
      timing: 'always',
    });
    await run({});
    await turn();
    await turn();
    expect([of('m0').detached, of('m1').detached, of('m1').inFlight]).toEqual([1, 0, 0]);
  });

  it('count all runs, and time the first 64 and one in 64 (sampled), all (always) or none (off)', async () => {
    const counted = async (options: MiddlewareChainOptions, runs: number) => {
      const { run, of, chain } = chainOf([(_context, next) => next()], options);
      for (let i = 0; i < runs; i++) await run({});
      return [of('m0').count, of('m0').observed, Object.keys(chain.getPerformanceMetrics())];
    };
    expect(await counted({}, 1)).toEqual([1, 1, ['m0']]);
    expect(await counted({}, 64 + 6400)).toEqual([6464, 164, ['m0']]);
    expect(await counted({ sampleEvery: 10 }, 164)).toEqual([164, 74, ['m0']]);
    expect(await counted({ timing: 'always' }, 200)).toEqual([200, 200, ['m0']]);
    expect(await counted({ timing: 'off' }, 200)).toEqual([200, 0, []]);
  });

  it('quantiles agree with a sorted list to 3.2 %, and old values fade', async () => {
    let ms = 0;
    const { run, clock, of } = chainOf([() => clock.advance(ms)], { timing: 'always' });
    let random = 11;
    const all: number[] = [];
    for (let i = 0; i < 1000; i++) {
      random = (random * 1_103_515_245 + 12_345) % 2 ** 31;
      ms = Math.ceil(10 ** ((random / 2 ** 31) * 5) * 10) / 1000;
      all.push(ms);
      await run({});
    }
    all.sort((a, b) => a - b);
    const { p50Ms, p90Ms, p99Ms, maxMs } = of('m0').self!;
    for (const [got, of_] of [
      [p50Ms, 0.5],
      [p90Ms, 0.9],
      [p99Ms, 0.99],
    ] as const) {
      const exact = all[Math.ceil(1000 * of_) - 1]!;
      expect(Math.abs(got - exact) / exact).toBeLessThan(0.033);
    }
    expect(maxMs).toBeCloseTo(all[999]!);
    ms = 1;
    for (let i = 0; i < 8192; i++) await run({});
    expect(of('m0').self!.p99Ms).toBeCloseTo(1, 1);
  });

  it('stay with a layer that is moved or switched off, and start anew with another function', async () => {
    const layer: Layer = (_context, next) => next();
    const { chain, run, of } = chainOf([layer, layer], { timing: 'always' });
    await run({});
    chain.setPriority('m1', 4).disable('m0');
    await run({});
    expect(
      chain
        .snapshot()
        .layers.map(({ name, enabled, priority, count }) => [name, enabled, priority, count]),
    ).toEqual([
      ['m1', true, 4, 2],
      ['m0', false, 0, 1],
    ]);
    chain.replace('m1', () => 1);
    expect([of('m1').count, of('m1').self, Object.keys(chain.getPerformanceMetrics())]).toEqual([
      0,
      null,
      ['m0'],
    ]);
  });

  it('diagnostics: start, end and error of each layer, and no cost without a subscriber', async () => {
    const seen: string[] = [];
    const note =
      (event: string) =>
      (message: unknown): void => {
        const { layer, index, chain, error } = message as {
          layer: string;
          index: number;
          chain: string;
          error?: Error;
        };
        seen.push(
          `${event} ${chain}/${layer}#${index}${error === undefined ? '' : ` ${error.message}`}`,
        );
      };
    const handlers = {
      start: note('start'),
      end: note('end'),
      asyncStart: note('asyncStart'),
      asyncEnd: note('asyncEnd'),
      error: note('error'),
    };
    const channel = tracingChannel<unknown, object>('portcullis.middleware');
    const { run } = chainOf(
      [
        async (_context, next) => next(),
        () => {
          throw new Error('x');
        },
      ],
      { name: 'api', timing: 'off' },
    );
    await run({}).catch(() => undefined);
    expect(seen).toEqual([]);
    channel.subscribe(handlers);
    try {
      await expect(run({})).rejects.toThrow('x');
    } finally {
      channel.unsubscribe(handlers);
    }
    await run({}).catch(() => undefined);
    expect(seen).toEqual([
      'start api/m0#0',
      'start api/m1#1',
      'error api/m1#1 x',
      'end api/m1#1 x',
      'end api/m0#0',
      'error api/m0#0 x',
      'asyncStart api/m0#0 x',
      'asyncEnd api/m0#0 x',
    ]);
  });
});

describe('timeoutMs', () => {
  it('ends with a layer whose thenable throws', async () => {
    const { run, clock, timers, of } = chainOf([
      {
        name: 'thrower',
        timeoutMs: 50,
        middleware: (): Promise<unknown> =>
          ({
            // oxlint-disable-next-line unicorn/no-thenable
            then(): void {
              throw new Error('of then');
            },
          }) as never,
      },
    ]);
    const context: { signal?: AbortSignal } = {};
    await expect(run(context)).rejects.toThrow('of then');
    expect(timers.getActiveTimersCount()).toBe(0);
    clock.advance(60);
    expect([of('thrower').timeouts, context.signal?.aborted]).toEqual([0, false]);
  });

  const never = (): Promise<never> => new Promise(() => undefined);
  const timedItem = (
    middleware: Layer,
    more: Partial<MiddlewareItem<Context, unknown>> = {},
  ): MiddlewareItem<Context, unknown> => ({
    name: 'slow',
    timeoutMs: 50,
    middleware,
    ...more,
  });

  it('ends the run with an error that names the layer, and aborts the signal of the context', async () => {
    let signal: AbortSignal | undefined;
    const { run, clock, timers, of } = chainOf([
      async (_context, next) => next(),
      timedItem((context) => {
        signal = context.signal as AbortSignal;
        return never();
      }),
    ]);
    const context: Context = {};
    const running = run(context, done);
    expect(context.signal).toBe(signal);
    clock.advance(49);
    expect(signal!.aborted).toBe(false);
    clock.advance(1);
    const error: unknown = await running.catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'ERR_MIDDLEWARE_TIMEOUT',
      message: 'middleware "slow" took longer than 50 ms',
    });
    expect([signal!.aborted, signal!.reason, (context.signal as AbortSignal).aborted]).toEqual([
      true,
      error,
      true,
    ]);
    expect([of('slow').timeouts, of('slow').lateSettles, timers.getActiveTimersCount()]).toEqual([
      1, 0, 0,
    ]);
    // The next run with the same context has a signal of its own.
    const again = run(context, done);
    expect((context.signal as AbortSignal).aborted).toBe(false);
    clock.advance(50);
    await expect(again).rejects.toBe((context.signal as AbortSignal).reason);
  });

  it('counts the own time of a layer, without that of next()', async () => {
    const { run, clock, timers } = chainOf([
      timedItem(async (_context, next) => {
        await turn();
        const below = await next();
        await turn();
        return below;
      }),
      async () => {
        await turn();
        return 'slow below';
      },
    ]);
    const running = run({});
    clock.advance(30);
    await turn();
    clock.advance(1000);
    expect(timers.getActiveTimersCount()).toBe(0);
    await turn();
    await done();
    clock.advance(19);
    expect(await running).toBe('slow below');
    expect(timers.getActiveTimersCount()).toBe(0);
    const late = run({});
    clock.advance(30);
    await turn();
    clock.advance(1000);
    await turn();
    expect(timers.getActiveTimersCount()).toBe(1);
    clock.advance(20);
    await expect(late).rejects.toMatchObject({ code: 'ERR_MIDDLEWARE_TIMEOUT' });
  });

  it('a layer that ends late is counted, and its next() rejects', async () => {
    const log: Log = [];
    let release: (fail: boolean) => void = () => undefined;
    const { run, clock, strays, of } = chainOf([
      timedItem(async (_context, next) => {
        if (await new Promise<boolean>((resolve) => (release = resolve))) throw new Error('late');
        await next();
        log.push('never');
      }),
      () => log.push('below'),
    ]);
    for (const fails of [false, true]) {
      const running = run({});
      clock.advance(50);
      await expect(running).rejects.toMatchObject({ code: 'ERR_MIDDLEWARE_TIMEOUT' });
      release(fails);
      await turn();
    }
    expect([log, of('slow').timeouts, of('slow').lateSettles]).toEqual([[], 2, 2]);
    expect(strays).toMatchObject([{ layer: 'slow', kind: 'late', error: { message: 'late' } }]);
  });

  it('a signal of the context is followed, and put back afterwards', async () => {
    const controller = new AbortController();
    const context: Context = { signal: controller.signal };
    let inner: AbortSignal | undefined;
    const { run, clock } = chainOf([
      timedItem((given, next) => {
        inner = given.signal as AbortSignal;
        return given.hang === true ? never() : next();
      }),
    ]);
    expect(await run(context, () => 'end')).toBe('end');
    expect([context.signal, inner === controller.signal]).toEqual([controller.signal, false]);
    context.hang = true;
    const running = run(context, done);
    controller.abort(new Error('client gone'));
    expect((inner!.reason as Error).message).toBe('client gone');
    clock.advance(50);
    await expect(running).rejects.toMatchObject({ code: 'ERR_MIDDLEWARE_TIMEOUT' });
    expect(context.signal).toBe(controller.signal);
  });

  it('leaves no listener on a signal that many runs share', async () => {
    let listening = 0;
    const signal = {
      aborted: false,
      addEventListener: () => listening++,
      removeEventListener: () => listening--,
    };
    const { run } = chainOf([timedItem((_context, next) => next()), async () => turn()]);
    const runs = Array.from({ length: 50 }, () => run({ signal }));
    expect(listening).toBe(50);
    await Promise.all(runs);
    expect(listening).toBe(0);
  });

  it('of a chain in a chain: the inner one aborts its own signal only', async () => {
    const inner = chainOf([timedItem(never)]);
    const context: Context = {};
    const outer = chainOf([
      timedItem(async (_context, next) => {
        const { signal } = context;
        await next().catch(() => undefined);
        return signal === context.signal && !(signal as AbortSignal).aborted;
      }),
      inner.chain.execute() as unknown as Layer,
    ]);
    const running = outer.run(context, done);
    inner.clock.advance(50);
    expect(await running).toBe(true);
  });

  it('of a chain in an optional layer: its signal does not stay for the rest of the run', async () => {
    const inner = chainOf([timedItem(never)]);
    const context: Context = {};
    const outer = chainOf([
      { name: 'inner', optional: true, middleware: inner.chain.execute() as unknown as Layer },
      (given) => given.signal,
    ]);
    const running = outer.run(context, done);
    inner.clock.advance(50);
    expect([await running, 'signal' in context]).toEqual([undefined, false]);
  });

  it('needs a context that can hold a signal, and leaves no timer behind', async () => {
    const { run, timers } = chainOf([timedItem((_context, next) => next()), async () => turn()]);
    for (const context of [undefined, null, 3, Object.freeze({})]) {
      await expect(run(context, done)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        field: expect.stringContaining('context') as string,
      });
    }
    await Promise.all(Array.from({ length: 100 }, () => run({}, done)));
    expect(timers.getActiveTimersCount()).toBe(0);
    timers.close();
    expect(await run({}, done)).toBeUndefined();
  });
});

describe('optional layers', () => {
  it('report a failure, and the run goes on without the layer', async () => {
    const error = new Error('metrics');
    const variants: readonly Layer[] = [
      () => {
        throw error;
      },
      async () => {
        await turn();
        throw error;
      },
      async (_context, next) => {
        await next();
        throw error;
      },
      async (_context, next) => {
        await next();
        await next();
      },
    ];
    for (const middleware of variants) {
      let ran = 0;
      const { run, strays, of } = chainOf([{ name: 'metrics', optional: true, middleware }]);
      expect(await run({}, () => ++ran)).toBe(1);
      expect(ran).toBe(1);
      expect(strays).toMatchObject([{ layer: 'metrics', kind: 'optional' }]);
      expect(of('metrics').optional).toEqual({ breaker: 'closed', failures: 1, skipped: 0 });
    }
  });

  it('pass on errors of the layers below, which are no failures of theirs', async () => {
    const { run, of, strays } = chainOf([
      { name: 'metrics', optional: true, middleware: async (_context, next) => next() },
    ]);
    for (let i = 0; i < 10; i++) {
      await expect(
        run({}, () => {
          throw new Error('handler');
        }),
      ).rejects.toThrow('handler');
    }
    expect([of('metrics').optional, strays]).toEqual([
      { breaker: 'closed', failures: 0, skipped: 0 },
      [],
    ]);
  });

  it('are skipped while they keep failing, then tried by one run, by the clock of the manager', async () => {
    let isBroken = true;
    let called = 0;
    const { run, clock, of } = chainOf([
      {
        name: 'cache',
        optional: true,
        breaker: { failures: 3, cooldownMs: 1000 },
        middleware: async (context, next) => {
          called++;
          if (context.gate !== undefined) await context.gate;
          if (isBroken) throw new Error('down');
          return next();
        },
      },
    ]);
    const state = () => of('cache').optional!.breaker;
    for (let i = 0; i < 5; i++) expect(await run({}, () => 'end')).toBe('end');
    expect([called, state(), of('cache').optional!.skipped]).toEqual([3, 'open', 2]);
    clock.advance(999);
    await run({});
    expect(called).toBe(3);
    clock.advance(1);
    expect(state()).toBe('halfOpen');
    await run({});
    expect([called, state()]).toEqual([4, 'open']);
    clock.advance(1000);
    isBroken = false;
    let open: () => void = () => undefined;
    const trial = run({ gate: new Promise<void>((resolve) => (open = resolve)) });
    await run({});
    expect([called, state()]).toEqual([5, 'open']);
    open();
    await trial;
    expect(state()).toBe('closed');
    await run({});
    expect(called).toBe(6);
  });

  it('are left behind by a timeout, without aborting the run', async () => {
    const { run, clock, of, strays } = chainOf([
      {
        name: 'geo',
        optional: true,
        timeoutMs: 20,
        middleware: async (_context, next) => (await new Promise(() => undefined), next()),
      },
      {
        name: 'work',
        timeoutMs: 1000,
        middleware: (context) => (context.signal as AbortSignal).aborted,
      },
    ]);
    const running = run({});
    clock.advance(20);
    expect(await running).toBe(false);
    expect([of('geo').timeouts, of('geo').optional!.failures]).toEqual([1, 1]);
    expect(strays).toMatchObject([{ kind: 'optional', error: { code: 'ERR_MIDDLEWARE_TIMEOUT' } }]);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('handler of errors');
      },
    ],
    ['rejects', () => Promise.reject(new Error('handler of errors'))],
  ])('survive an onError that %s', async (_how, onError) => {
    const { run } = chainOf(
      [{ name: 'x', optional: true, middleware: () => Promise.reject(new Error('x')) }],
      { onError },
    );
    expect(await run({}, () => 'end')).toBe('end');
    await turn();
  });
});
