import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { compileFunction, type Context, createContext, runInNewContext } from 'node:vm';
import { expect, onTestFinished, test } from 'vitest';
import type * as Portcullis from '../dist/index.js';
import type * as Testing from '../dist/testing.js';
import { until } from './fixtures/until.js';

// These tests load the package in a second realm, as Jest does for each test file: it has its own `Error` and `Object`.

const isBun = 'bun' in process.versions;

/** Evaluates CommonJS files in a realm; the host loads its own modules and addons. */
function requireIn(context: Context): (path: string) => unknown {
  const loaded = new Map<string, { exports: unknown }>();
  const load = (path: string): unknown => {
    const known = loaded.get(path);
    if (known !== undefined) return known.exports;
    const module = { exports: {} as unknown };
    loaded.set(path, module);
    const near = createRequire(path);
    const requireNear = (id: string): unknown => {
      const found = near.resolve(id);
      return /\.c?js$/.test(found) ? load(found) : near(id);
    };
    compileFunction(
      readFileSync(path, 'utf8'),
      ['module', 'exports', 'require', '__filename', '__dirname'],
      { filename: path, parsingContext: context },
    )(module, module.exports, requireNear, path, dirname(path));
    return module.exports;
  };
  return (path) => load(resolve(path));
}

type Realm = typeof Portcullis & typeof Testing;

function realm(): Realm {
  const names = ['process', 'Buffer', 'URL', 'AbortSignal', 'AbortController', 'DOMException'];
  const others = ['setTimeout', 'clearTimeout', 'setImmediate', 'queueMicrotask', 'performance'];
  const given = [...names, ...others, 'Uint8Array', 'ArrayBuffer', 'TextDecoder', 'TextEncoder'];
  const globals = Object.fromEntries(given.map((name) => [name, Reflect.get(globalThis, name)]));
  const load = requireIn(createContext(globals));
  const parts = ['index', 'testing'].map((name) => load(join('dist', `${name}.cjs`)) as object);
  return Object.assign({}, ...parts) as Realm;
}

/** Resolves to the next warnings of a code. */
function warnings(code: string, count: number): Promise<Error[]> {
  return new Promise((resolve) => {
    const found: Error[] = [];
    const listener = (warning: Error): void => {
      if ((warning as NodeJS.ErrnoException).code === code) found.push(warning);
      if (found.length === count) resolve(found);
    };
    process.on('warning', listener);
    onTestFinished(() => void process.off('warning', listener));
  });
}

test.skipIf(isBun)(
  'a hook that fails in another realm (Bun compiles in none) becomes a warning of the host',
  async () => {
    const { ConnectionManager, FakeSocket, TimerManager } = realm();
    const warned = warnings('PORTCULLIS_HOOK_ERROR', 2);
    const cause = new Error('of the application');
    const timers = new TimerManager();
    const hooks = [
      () => {
        throw cause;
      },
      () => Promise.reject(cause),
    ];
    for (const onRefuse of hooks) {
      const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, { timers, onRefuse });
      manager.addConnection('one', new FakeSocket(), '203.0.113.1');
      expect(manager.addConnection('two', new FakeSocket(), '203.0.113.1')).toMatchObject({
        code: 'ip_limit',
      });
      manager.close();
    }
    for (const warning of await warned) {
      expect(warning).toBeInstanceOf(Error);
      expect(warning).toMatchObject({ name: 'PortcullisWarning', cause });
    }
    timers.close();
  },
);

test.skipIf(isBun)(
  'conflicts that the core finds have their codes in another realm (Bun compiles in none)',
  () => {
    const { ConnectionManager, PortcullisError, RateLimiter, ResourceMonitor, TimerManager } =
      realm();
    const timers = new TimerManager();
    const errorOf = (run: () => unknown): unknown => {
      try {
        return run();
      } catch (error) {
        return error;
      }
    };
    const name = 'realms';
    const limiter = new RateLimiter({ limit: 1, windowMs: 1000, name });
    const banAfter = { failures: 3, windowMs: 1000, banMs: 1000 };
    const manager = new ConnectionManager({}, { timers, name, banAfter });
    const errors = [
      errorOf(() => new RateLimiter({ limit: 2, windowMs: 1000, name })),
      errorOf(
        () => new ConnectionManager({}, { timers, name, banAfter: { ...banAfter, failures: 4 } }),
      ),
      errorOf(
        () =>
          new ResourceMonitor(
            { memory: { maxHeapSizeMb: 512 } },
            { timers, stalls: { log: { file: '/nowhere/at/all' } } },
          ),
      ),
    ];
    for (const error of errors) expect(error).toBeInstanceOf(PortcullisError);
    expect(errors).toMatchObject([
      { code: 'ERR_LIMITS_CONFLICT', field: 'name' },
      { code: 'ERR_LIMITS_CONFLICT', field: 'banAfter' },
      { code: 'ERR_OUT_OF_RANGE', field: 'stalls.log.file' },
    ]);
    expect(limiter.take('a').success).toBe(true);
    manager.close();
    timers.close();
  },
);

test.skipIf(isBun)(
  'a realm (Bun compiles in none but its own) is collected once nothing uses it',
  async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc') as () => void;
    const use = ({
      ConnectionManager,
      FakeSocket,
      TimerManager,
      scanJson,
    }: Realm): WeakRef<object> => {
      const timers = new TimerManager();
      const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, { timers });
      expect(manager.addConnection('one', new FakeSocket(), '203.0.113.1').success).toBe(true);
      expect(scanJson('[1, 2').success).toBe(false);
      manager.close();
      timers.close();
      return new WeakRef(ConnectionManager);
    };
    const left = use(realm());
    await until(() => {
      gc();
      return left.deref() === undefined;
    });
  },
);
