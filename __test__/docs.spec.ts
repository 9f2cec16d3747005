import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import {
  Cluster,
  ConnectionManager,
  GracefulShutdown,
  InputValidator,
  LivePage,
  MessageRouter,
  PerformantMiddlewareChain,
  PortcullisError,
  ProductionMetrics,
  RateLimiter,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
  resourceLimits,
  scanJson,
} from '../dist/index.js';
import { RouteGuard } from '../dist/adapters/elysia-route-options.js';
import { wsSockets } from '../dist/adapters/ws-sockets.js';
import { Guard } from '../dist/guard/guard.js';
import { checkedScoping } from '../dist/adapters/elysia-scope.js';
import { Segment } from '../dist/connections/segment.js';
import { Admission } from '../dist/guard/admission.js';
import { REASONS } from '../dist/connections/refusal.js';
import { checkOptions } from '../dist/resources/options.js';
import { FakeSocket, ManualClock, testServer } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import {
  documentedOptions,
  fieldsOf,
  pages,
  problems,
  rendered,
  splitDefault,
} from '../scripts/docs.mjs';

const isBun = 'bun' in process.versions;
const read = (path: string): string => readFileSync(path, 'utf8');
const declarations = read('index.d.ts');

/** Returns the members of a declared union of strings. */
function membersOf(type: string, source = declarations): string[] {
  const [, union = ''] = new RegExp(`type ${type} = ([^;]*);`).exec(source) ?? [];
  return [...union.matchAll(/'([^']+)'/g)].map(([, text]) => text!);
}

/** Returns the programs of a folder; without its packages and the folders of tools. */
const serversOf = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return /\.m?[jt]s$/.test(path) ? [path] : [];
    return entry.name === 'node_modules' || entry.name.startsWith('.') ? [] : serversOf(path);
  });

/** Parses the target of a request in a way that may throw. */
const PARSES = /new URL\((?:request\.|req\.)?url, /;

describe('pages', () => {
  it('agree with the code', () => {
    for (const page of pages() as string[])
      expect(rendered(read(page), page), `${page}: run "npm run docs"`).toBe(read(page));
    expect(problems).toEqual([]);
  });

  it('have no example that throws for the target //, which is no URL', () => {
    expect("const { pathname } = new URL(req.url, 'http://localhost');").toMatch(PARSES);
    const [hosts, examples] = [serversOf('hosts'), serversOf('examples')];
    expect(hosts.length).toBeGreaterThan(20);
    expect(examples.length).toBeGreaterThan(2);
    const parsing = [...(pages() as string[]), ...hosts, ...examples]
      .flatMap((path) =>
        read(path)
          .split('\n')
          .map((line, at, all) => [path, line, all[at - 1]]),
      )
      .filter(([, line, before]) => PARSES.test(line ?? '') && !before?.includes('canParse'));
    expect(parsing).toEqual([]);
  });

  it('have links that lead somewhere', () => {
    const slug = (heading: string): string =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .trim()
        .replaceAll(' ', '-');
    const anchors = (file: string): string[] =>
      [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => slug(heading!));
    const dead: string[] = [];
    for (const page of [
      ...readdirSync('.').filter((name) => name.endsWith('.md')),
      ...(readdirSync('examples', { recursive: true }) as string[])
        .filter((name) => name.endsWith('.md'))
        .map((name) => join('examples', name)),
      ...(pages() as string[]),
    ]) {
      for (const [, target] of read(page)
        .replaceAll(/```[\s\S]*?```/g, '')
        .matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^https?:/.test(target!)) continue;
        const [path, anchor] = target!.split('#') as [string, string?];
        const file = path === '' ? page : join(dirname(page), path);
        if (!existsSync(file) || (anchor !== undefined && !anchors(file).includes(anchor)))
          dead.push(`${page}: ${target}`);
      }
    }
    expect(dead).toEqual([]);
  });

  it('link the names of types, and no header fields of the same name', () => {
    for (const page of pages() as string[])
      expect(read(page), page).not.toMatch(/\[`[A-Z]\w+-[A-Z][\w-]*`\]\(/);
    expect(read('docs/api/rate-limiter.md')).toContain('`RateLimit` and `RateLimit-Policy` of');
  });

  it('describe every exported class', () => {
    const api = (pages() as string[])
      .filter((page) => page.startsWith('docs/api/'))
      .map(read)
      .join('\n');
    const [, exported = ''] = /^export \{ (.*) \};$/m.exec(declarations) ?? [];
    const names = exported.split(', ').map((name) => name.split(' as ').at(-1)!);
    expect(
      names.filter(
        (name) => !['UnauthorizedError', 'PortcullisError'].includes(name) && !api.includes(name),
      ),
    ).toEqual([]);
  });
});

describe('a default and a range', () => {
  it('are read from the text of a comment', () => {
    expect(splitDefault('Bytes: 1 to 9. Default 64.')).toEqual({
      fallback: '64',
      rest: 'Bytes: 1 to 9.',
    });
    expect(splitDefault('Whose. Default: none, and then nothing.')).toEqual({
      fallback: 'none, and then nothing',
      rest: 'Whose.',
    });
    expect(splitDefault('Share. Default 0.01. More.')).toEqual({
      fallback: '0.01',
      rest: 'Share. More.',
    });
    expect(splitDefault('Token. Default: the page is off; elsewhere one is made.')).toEqual({
      fallback: 'the page is off; elsewhere one is made',
      rest: 'Token.',
    });
    expect(splitDefault('Nothing is said.')).toEqual({
      fallback: undefined,
      rest: 'Nothing is said.',
    });
  });
});

// Every option of a table is tried on the function that takes it.
const clock = new ManualClock();
const timers = new TimerManager({ clock });
const secret = 'x'.repeat(32);
const sources = { connections: new ConnectionManager({}, timers), timers };
const closing = <T extends { close(): void }>(made: T): void => made.close();
const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret } });
const tokenGuard = new Guard('test', { limits: {}, timers, auth: verifier }, wsSockets);
type Given = Record<string, unknown>;
const TAKES: Record<string, (given: Given) => unknown> = {
  ConnectionLimits: (given) => new ConnectionManager(given, { timers }).close(),
  ConnectionManagerOptions: (given) =>
    new ConnectionManager({}, { timers, ...given } as never).close(),
  ClusterOptions: (given) => new Cluster({ url: 'redis://127.0.0.1:1', ...given }).close(),
  ClusterTlsOptions: (given) => new Cluster({ url: 'rediss://127.0.0.1:1', tls: given }).close(),
  ConnectRate: (given) =>
    new ConnectionManager(
      { connectRatePerIp: { limit: 1, windowMs: 1, ...given } },
      { timers },
    ).close(),
  MessageRate: (given) =>
    new ConnectionManager({ messageRate: { limit: 1, windowMs: 1, ...given } }, { timers }).close(),
  RateLimit: (given) => new RateLimiter({ limit: 1, windowMs: 1, ...given }),
  RateLimiterOptions: (given) => new RateLimiter({ limit: 1, windowMs: 1, ...given }),
  RequestRate: (given) =>
    portcullis({
      limits: {},
      timers,
      requests: { rate: { perIp: { limit: 1, windowMs: 1, ...given } } },
    }),
  RequestRates: (given) =>
    portcullis({
      limits: {},
      timers,
      requests: {
        rate: {
          ...('perKey' in given ? { key: () => 'k' } : {}),
          ...('key' in given ? { perKey: { limit: 1, windowMs: 1 } } : {}),
          ...('perUser' in given ? { user: () => 'u' } : {}),
          ...('user' in given ? { perUser: { limit: 1, windowMs: 1 } } : {}),
          ...given,
        },
      } as never,
    }),
  RequestLimitsInput: (given) => portcullis({ limits: {}, timers, requests: given as never }),
  TimerManagerOptions: (given) => new TimerManager(given as never),
  TimerOptions: (given) => timers.setTimeout(() => undefined, given as never).close(),
  MiddlewareChainOptions: (given) =>
    new PerformantMiddlewareChain([], { timers, ...given } as never).close(),
  MiddlewareItem: (given) =>
    new PerformantMiddlewareChain(
      [{ name: 'a', middleware: () => undefined, ...given } as never],
      timers,
    ),
  BreakerOptions: (given) =>
    new PerformantMiddlewareChain(
      [{ name: 'a', middleware: () => undefined, optional: true, breaker: given } as never],
      timers,
    ),
  UrlOptions: (given) => InputValidator.safeValidateUrl('/', given as never),
  HeaderLimits: (given) => InputValidator.safeValidateHeaders({}, given as never),
  JsonLimits: (given) => scanJson('1', given as never),
  TokenVerifierOptions: (given) =>
    new TokenVerifier({
      algorithms: ['HS256'],
      ...('jwks' in given ? {} : { keys: { secret } }),
      ...given,
    } as never).close(),
  ReplayOptions: (given) =>
    new TokenVerifier({
      algorithms: ['HS256'],
      keys: { secret },
      replay: { maxEntries: 1, ...given },
    }).close(),
  RemoteJwks: (given) =>
    new TokenVerifier({
      algorithms: ['RS256'],
      jwks: { url: 'http://127.0.0.1:9/', ...given } as never,
    }).close(),
  MemoryLimits: (given) => resourceLimits({ memory: given }),
  ConnectionCaps: (given) => resourceLimits({ connections: given }),
  RequestLimits: (given) => resourceLimits({ requests: given }),
  WebSocketLimits: (given) => resourceLimits({ websockets: given }),
  ResourceMonitorOptions: (given) =>
    closing(new ResourceMonitor({}, { timers, ...given } as never)),
  ProductionMetricsOptions: (given) =>
    closing(new ProductionMetrics({ timers, ...given } as never)),
  ProductionTargets: (given) => closing(new ProductionMetrics({ timers, targets: given } as never)),
  ExpositionOptions: (given) => new ProductionMetrics({ timers }).toPrometheus(given as never),
  ExpositionBytesOptions: (given) =>
    new ProductionMetrics({ timers }).toPrometheusBytes(given as never),
  InstrumentOptions: (given) =>
    new ProductionMetrics({ timers }).counter('a', 'h', [], given as never),
  HistogramOptions: (given) =>
    new ProductionMetrics({ timers }).histogram('a', 'h', [], given as never),
  MergeOptions: (given) =>
    new ProductionMetrics({ timers }).merge({ getMetricsAsJSON: () => [] }, given as never),
  RequestDetails: (given) => new ProductionMetrics({ timers }).recordRequest(1, given as never),
  RequestEnd: (given) => new ProductionMetrics({ timers }).startRequest().end(given as never),
  ShutdownOptions: (given) => new GracefulShutdown({ timers, ...given } as never).close(),
  MessageRouterOptions: (given) => new MessageRouter(given as never),
  MessageTypeOptions: (given) => new MessageRouter().on('a', () => undefined, given as never),
  MessageTypeRate: (given) =>
    new MessageRouter().on('a', () => undefined, { rate: { limit: 1, windowMs: 1, ...given } }),
  PageOptions: (given) => new LivePage({ path: '/page', ...given } as never, sources).close(),
  GuardOptions: (given) =>
    portcullis(('manager' in given ? given : { limits: {}, timers, ...given }) as never),
  AttachOptions: (given) =>
    portcullis({ limits: {}, timers }).attach(
      createServer(),
      new WebSocketServer({ noServer: true }),
      given as never,
    )(),
  ElysiaGuardOptions: (given) => {
    // The plugin itself needs Bun.
    checkedScoping(given);
    const { scoping: _, ...rest } = given;
    return portcullis({ limits: {}, timers, ...rest } as never);
  },
  TestServerOptions: (given) =>
    testServer({ server: null, handle: () => Promise.resolve(new Response()) }, given).close(),
  RefusalOptions: (given) => portcullis({ limits: {}, timers, ...given } as never),
  RouteGuardOptions: (given) => new RouteGuard(tokenGuard, given),
  RouteRate: (given) =>
    new RouteGuard(tokenGuard, {
      requireToken: true,
      rate: { limit: 1, windowMs: 1, ...given },
    }),
  MessageOptions: (given) => portcullis({ limits: {}, timers, ...given } as never),
  TokenAuth: (given) => portcullis({ limits: {}, timers, auth: { verifier, ...given } } as never),
};
/** Read on hot paths, where unknown names are not refused. */
const LENIENT = ['RequestDetails', 'RequestEnd'];
if (isBun) {
  const { ElysiaServerBuilder } = await import('../dist/elysia.js');
  TAKES['ServerOptions'] = (given) => new ElysiaServerBuilder(given as never);
  TAKES['WebSocketOptions'] = (given) => new ElysiaServerBuilder({ websocket: given as never });
  TAKES['Endpoints'] = (given) => new ElysiaServerBuilder({ endpoints: given as never });
}

/** Returns options with one value set, by its dotted name. */
const nested = (field: string, value: unknown): Given => {
  const [first, ...rest] = field.split('.') as [string, ...string[]];
  return { [first]: rest.length === 0 ? value : nested(rest.join('.'), value) };
};

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return error instanceof PortcullisError ? error.code : String(error);
  }
}

function fieldOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as PortcullisError).field;
  }
}

/** Reads a number as comments write it: 1,000, 2^30, 2^32 - 2. */
function numberOf(text: string): number {
  const [, base = '', exponent = '1', less = '0'] =
    /^([\d,.]+)(?:\^(\d+))?(?: - (\d))?$/.exec(text.trim()) ?? [];
  return Number(base.replaceAll(',', '')) ** Number(exponent) - Number(less);
}

type Field = {
  readonly field: string;
  readonly type: string;
  readonly prose: string;
  readonly isFunction: boolean;
};
const tables = (documentedOptions() as { name: string; where?: string; page: string }[]).map(
  ({ name, where }) => ({
    name,
    fields: fieldsOf(name, where).fields as Field[],
  }),
);

describe('options', () => {
  it('are all tried here: each table is known', () => {
    const untried = tables.map(({ name }) => name).filter((name) => TAKES[name] === undefined);
    expect(untried).toEqual(isBun ? [] : ['ServerOptions', 'WebSocketOptions', 'Endpoints']);
  });

  for (const { name, fields } of tables) {
    const take = TAKES[name];
    if (take === undefined) continue;

    it(`of ${name} are known, and no others`, () => {
      for (const { field } of fields.filter(({ field: one }) => !one.endsWith('()')))
        expect(
          codeOf(() => take(nested(field, undefined))),
          field,
        ).not.toBe('ERR_UNKNOWN_OPTION');
      if (!LENIENT.includes(name))
        expect(codeOf(() => take({ [`${fields[0]!.field}x`]: 1 }))).toBe('ERR_UNKNOWN_OPTION');
    });

    const numbers = fields.filter(
      ({ field, type, isFunction }) =>
        type === 'number' && !isFunction && !(name === 'TimerOptions' && field === 'delayMs'),
    );
    if (numbers.length === 0) continue;
    it(`of ${name} that are numbers are refused beyond their ranges`, () => {
      for (const { field, prose } of numbers) {
        const give = (value: unknown): string | undefined =>
          codeOf(() => take(nested(field, value)));
        expect(give('1'), `${field}: a text`).toBe('ERR_INVALID_ARG_TYPE');
        expect(
          fieldOf(() => take(nested(field, '1'))),
          field,
        ).toMatch(new RegExp(`(?:^|[.\\s])${field.replaceAll('.', '\\.')}$`));
        for (const junk of prose.includes('any finite') ? [Number.NaN] : [Number.NaN, -1])
          expect(give(junk), `${field}: ${junk}`).toBe('ERR_OUT_OF_RANGE');
        const range = /(\d[\d,]*(?:\^\d+)?) to (\d[\d,]*(?:\^\d+)?(?: - \d)?)/.exec(prose);
        if (range === null) continue;
        const [least, most] = [numberOf(range[1]!), numberOf(range[2]!)];
        expect(give(least - 1), `${field}: below ${least}`).toBe('ERR_OUT_OF_RANGE');
        expect(give(most + 1), `${field}: above ${most}`).toBe('ERR_OUT_OF_RANGE');
        // A value that is allowed may contradict the default of another option; that error names the other field.
        for (const good of [least, most])
          expect([undefined, 'ERR_OUT_OF_RANGE'], `${field}: ${good}`).toContain(give(good));
      }
    });
  }

  it('of limits and targets have the defaults that are documented', () => {
    const amount = (text: string): number => {
      const [, number = '', unit] =
        /^([\d,.]+|Infinity)(?: (KiB|MiB))?$/.exec(text.replaceAll('`', '')) ?? [];
      return (
        Number(number.replaceAll(',', '')) * (unit === 'MiB' ? 2 ** 20 : unit === 'KiB' ? 1024 : 1)
      );
    };
    const limits = resourceLimits();
    const metrics = new ProductionMetrics({ timers });
    const real = {
      MemoryLimits: limits.memory,
      ConnectionCaps: limits.connections,
      RequestLimits: limits.requests,
      WebSocketLimits: limits.websockets,
      ProductionTargets: metrics.generateReport().targets,
    };
    for (const [name, values] of Object.entries(real)) {
      const { fields } = tables.find((table) => table.name === name)!;
      expect(
        Object.fromEntries(
          fields.map(({ field, prose }) => [field, amount(splitDefault(prose).fallback ?? '')]),
        ),
        name,
      ).toEqual({ ...values });
    }
    metrics.close();
  });

  describe('of classes have the defaults that are documented', () => {
    const documented = (name: string, field: string): number => {
      const { prose } = tables
        .find((table) => table.name === name)!
        .fields.find((one) => one.field === field)!;
      return numberOf(splitDefault(prose).fallback!);
    };
    /** Checks that `holds` is true for the documented number and false for the next. */
    const isLast = (name: string, field: string, holds: (value: number) => boolean): void => {
      const value = documented(name, field);
      expect([holds(value), holds(value + 1)], `${name}.${field}`).toEqual([true, false]);
    };

    it('of headers and URLs', () => {
      const fits = (headers: object): boolean =>
        InputValidator.safeValidateHeaders(headers, { strict: true }).success;
      isLast('HeaderLimits', 'maxValueBytes', (length) => fits({ a: 'x'.repeat(length) }));
      isLast('HeaderLimits', 'maxNameBytes', (length) => fits({ ['x'.repeat(length)]: '' }));
      isLast('HeaderLimits', 'maxCount', (count) =>
        fits(Object.fromEntries(Array.from({ length: count }, (_, at) => [`x${at}`, '']))),
      );
      // 32 equal headers with names of three bytes, and one more with the rest of the bytes.
      isLast('HeaderLimits', 'maxTotalBytes', (bytes) =>
        fits(
          Object.fromEntries(
            Array.from({ length: 32 }, (_, at) => [
              `x${10 + at}`,
              'x'.repeat(509 + (at === 0 ? bytes - 16_384 : 0)),
            ]),
          ),
        ),
      );
      isLast(
        'UrlOptions',
        'maxLength',
        (length) =>
          InputValidator.safeValidateUrl(`/${'x'.repeat(length - 1)}`, { mode: 'request-target' })
            .success,
      );
    });

    it('of a page and of a monitor', () => {
      const page = new LivePage({ path: '/page' }, sources);
      expect(page.snapshot().server.maxViewers).toBe(documented('PageOptions', 'maxViewers'));
      page.close();
      const { stallMs, gcBudget } = checkOptions({});
      expect([
        stallMs,
        checkOptions({ stalls: {} }).stallMs,
        gcBudget,
        checkOptions({ shedding: {} }).retryAfterMs,
      ]).toEqual([
        documented('ResourceMonitorOptions', 'stalls.thresholdMs'),
        documented('ResourceMonitorOptions', 'stalls.thresholdMs'),
        documented('ResourceMonitorOptions', 'gc.budget'),
        documented('ResourceMonitorOptions', 'shedding.retryAfterMs'),
      ]);
    });

    it('of a manager and a guard', async () => {
      const own = new ManualClock();
      const timersOf = new TimerManager({ clock: own });
      const manager = new ConnectionManager({}, timersOf);
      const holds = (ms: number): boolean => {
        const lease = manager.reserve('192.0.2.1');
        own.advance(ms);
        return 'handle' in lease && manager.commit(lease, `id-${ms}`, new FakeSocket()).success;
      };
      const leaseMs = documented('ConnectionManagerOptions', 'leaseTimeoutMs');
      // A lease ends within twice its timeout and a second.
      expect([holds(leaseMs - 1), holds(2 * leaseMs + 1001)]).toEqual([true, false]);
      const told: unknown[] = [];
      const guard = portcullis({
        manager,
        identify: () => new Promise<string>(() => undefined),
        onIdentifyError: (error) => told.push(error),
      });
      const socket = new PassThrough();
      guard.handleUpgrade(
        {} as never,
        { method: 'GET', headers: { upgrade: 'websocket' }, url: '/', socket: {} } as never,
        socket,
        Buffer.alloc(0),
      );
      const ms = documented('GuardOptions', 'identifyTimeoutMs');
      own.advance(ms - 1);
      await new Promise((resolve) => setImmediate(resolve));
      expect(told).toEqual([]);
      own.advance(1);
      await new Promise((resolve) => setImmediate(resolve));
      expect(told).toEqual([
        expect.objectContaining({ code: 'ERR_IDENTIFY_TIMEOUT', value: String(ms) }),
      ]);
      manager.cleanup();
    });
  });

  it('that are hooks, flags or words are refused as another type', () => {
    const taken: string[] = [];
    for (const { name, fields } of tables) {
      const take = TAKES[name];
      if (take === undefined || LENIENT.includes(name)) continue;
      for (const { field, type, isFunction } of fields) {
        if (field.endsWith('()')) continue;
        const isWord = /^'[^']*'( \| '[^']*')*$/.test(type);
        if (!isFunction && type !== 'boolean' && !isWord) continue;
        // A text there is the name of a header, which needs `trustedProxies`.
        const wrong = field === 'clientAddress' ? 5 : isWord ? 'nonsense' : 'yes';
        const code = codeOf(() => take(nested(field, wrong)));
        if (code !== 'ERR_INVALID_ARG_TYPE' && code !== 'ERR_OUT_OF_RANGE')
          taken.push(`${name}.${field}: ${code}`);
      }
    }
    expect(taken).toEqual([]);
  });
});

describe('docs/errors.md', () => {
  const page = read('docs/errors.md');
  const rows = [...page.matchAll(/^\| `([^`]+)` \|(.*)\|$/gm)].map(([, code, rest]) => ({
    code: code!,
    cells: rest!.split('|').map((cell) => cell.trim()),
  }));
  const listed = rows.map(({ code }) => code);

  it('lists every code of errors and of refused input, and no other', () => {
    const known = [...membersOf('ErrorCode'), ...membersOf('FailureCode')];
    expect(known.length).toBeGreaterThan(80);
    expect(
      listed.filter((code) => code.startsWith('ERR_') && code !== 'ERR_TOKEN_…').toSorted(),
    ).toEqual([...known, 'ERR_TOKEN_KEYS_UNAVAILABLE'].toSorted());
  });

  it('lists every code by which connections, requests and messages are refused', () => {
    const known = [
      ...membersOf('RefusalCode'),
      ...membersOf('RequestRefusalCode'),
      ...membersOf('MessageProblemCode'),
      'identify_failed',
      'unauthorized',
      'not_judged',
      'origin_not_allowed',
      'malformed_handshake',
      'invalid_host',
      'invalid_target',
    ];
    expect(known.length).toBeGreaterThan(20);
    expect(known.filter((code) => !listed.includes(code))).toEqual([]);
    expect(listed.filter((code) => /^[a-z_]+$/.test(code) && !known.includes(code))).toEqual([]);
  });

  it('lists the reason, status and close code of every refused connection', () => {
    const section = page.slice(
      page.indexOf('## Refused connections'),
      page.indexOf('Adapters also refuse upgrades'),
    );
    for (const [code, reason] of Object.entries(REASONS) as [keyof typeof REASONS, string][]) {
      const denial = { success: false, code, reason, retryAfterMs: 1 } as const;
      const socket = new FakeSocket();
      const denied = (refuseWith: 'http' | 'close'): Admission => {
        const admission = new Admission(sources.connections, refuseWith, '192.0.2.1', '');
        admission.deny(denial);
        return admission;
      };
      denied('close').open('id', socket);
      const status = denied('http').answer?.status;
      expect(section).toContain(
        `| \`${code}\` | ${reason} | ${status} | ${socket.closed[0]?.code} |`,
      );
    }
  });

  it('lists every process warning', () => {
    const sourcesOf = (folder: string): string[] =>
      readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory()
          ? sourcesOf(join(folder, entry.name))
          : [read(join(folder, entry.name))],
      );
    const emitted = sourcesOf('ts').flatMap((text) =>
      [...text.matchAll(/PORTCULLIS_[A-Z_]*[A-Z]\b/g)]
        .map(([code]) => code)
        // An environment variable.
        .filter((code) => code !== 'PORTCULLIS_PAGE_SECRET' && code !== 'PORTCULLIS_FFI'),
    );
    const [, kinds = ''] =
      /interface StrayError \{[\s\S]*?readonly kind: ([^;]*);/.exec(declarations) ?? [];
    const stray = [...kinds.matchAll(/'(\w+)'/g)].map(
      ([, kind]) => `PORTCULLIS_${kind!.toUpperCase()}_ERROR`,
    );
    expect(stray).toHaveLength(3);
    expect([...new Set([...emitted, ...stray])].toSorted()).toEqual(
      listed.filter((code) => code.startsWith('PORTCULLIS_')).toSorted(),
    );
  });
});

describe('docs/kpi.md', () => {
  const rows = [
    ...read('docs/kpi.md').matchAll(
      /^\| `(\w+)` \| (counter|gauge|histogram) \| (otel|prom|both) \|.*\|$/gm,
    ),
  ];

  it('has every metric that is exposed, by its naming, and nothing else', async () => {
    const shedding = { checks: { queue: () => false }, sampleIntervalMs: 100 };
    const monitor = new ResourceMonitor({}, { timers, shedding });
    clock.advance(100);
    expect(monitor.shedMs()).toBeGreaterThan(0);
    const metrics = new ProductionMetrics({ timers, monitor, connections: sources.connections });
    const cluster = new Cluster({ url: 'redis://127.0.0.1:1' });
    const clustered = new ConnectionManager({}, { timers, name: 'docs', cluster, banAfter: 10 });
    metrics.attach(clustered);
    metrics.recordRequest(1, { route: '/a', method: 'GET', status: 200 });
    metrics.recordError('a');
    metrics.recordRefusal('a');
    metrics.attachLimiter(new RateLimiter({ limit: 1, windowMs: 1 }), 'docs');
    // A reading that fails, for the count of failures.
    metrics.merge({ getMetricsAsJSON: () => 'nothing' });
    await metrics.toPrometheus();
    for (const naming of ['otel', 'prom'] as const) {
      const text = await metrics.toOpenMetrics({ naming });
      const exposed = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(
        ([, name, type]) => `${name}${type === 'counter' ? '_total' : ''} ${type}`,
      );
      const listed = rows
        .filter(([, , , of]) => of === naming || of === 'both')
        .map(([, name, type]) => `${name} ${type}`);
      expect(exposed.length).toBeGreaterThan(15);
      expect(exposed.filter((family) => !listed.includes(family))).toEqual([]);
      // Metrics that are unknown yet, or on this runtime, are not exposed.
      const unknown = /cpu|eventloop|heap|memory|nodejs_active|nodejs_gc|_fds/;
      expect(listed.filter((family) => !exposed.includes(family) && !unknown.test(family))).toEqual(
        [],
      );
    }
    clustered.close();
    cluster.close();
    monitor.close();
    metrics.close();
  });

  it('lists every figure of a snapshot and of a report', () => {
    const page = read('docs/kpi.md');
    const monitor = new ResourceMonitor({}, { timers });
    const metrics = new ProductionMetrics({ timers, monitor });
    const missing = (value: object, prefix = ''): string[] =>
      Object.entries(value).flatMap(([name, inner]: [string, unknown]) => {
        const path = `${prefix}${name}`;
        const isOpen =
          typeof inner === 'object' &&
          inner !== null &&
          !Array.isArray(inner) &&
          page.includes(`| \`${path}.`);
        return [
          ...(page.includes(`| \`${path}\` |`) ? [] : [path]),
          ...(isOpen ? missing(inner, `${path}.`) : []),
        ];
      });
    expect([
      ...missing(monitor.snapshot()),
      ...missing(metrics.snapshot()),
      ...missing(monitor.getMetrics()),
    ]).toEqual([]);
    monitor.close();
    metrics.close();
  });
});

describe('docs/memory.md', () => {
  const page = read('docs/memory.md');
  /** Returns bytes by column: the last cell of a row that is a number, or a sum of two. */
  const bytesOf = (section: string): Record<string, number> =>
    Object.fromEntries(
      [...section.matchAll(/^\| ([^|]*`[^|]*) \|(.*)\|$/gm)].map(([, name, rest]) => {
        const sums = rest!.split('|').filter((cell) => /^ \d+( \+ \d+)? $/.test(cell));
        return [name!, (sums.at(-1) ?? '').split('+').reduce((sum, part) => sum + Number(part), 0)];
      }),
    );

  it('lists the columns of a connection with their sizes', () => {
    const section = page.slice(page.indexOf('## A connection'), page.indexOf('A message writes'));
    const segment = new Segment({ traffic: new Float64Array(4), messageRate: undefined } as never);
    const slots = segment.hashes.length;
    expect(slots).toBe(4096);
    expect(segment.stamps.length).toBe(slots + 1);
    expect(bytesOf(section)).toEqual({
      '`stamps`': segment.stamps.BYTES_PER_ELEMENT,
      '`counters`': segment.counters.byteLength / slots,
      '`hashes`': segment.hashes.byteLength / slots,
      '`connections`': 8,
      '`arrivals`': 16,
    });
  });

  it('lists the columns of a timer with their sizes', () => {
    const section = page.slice(page.indexOf('## A timer'), page.indexOf('57 bytes'));
    const sizes: Record<string, number> = { Int32: 4, Uint32: 4, Float32: 4, Float64: 8, Uint8: 1 };
    const columns = [
      ...read('ts/timers/driver.ts').matchAll(/^ {2}#\w+ = new (\w+)Array\(FIRST_CAPACITY\);/gm),
      ...read('ts/timers/wheel.ts').matchAll(
        /^ {4}this\.#\w+ = new (\w+)Array\(capacity\)(?:\.fill\(UNLINKED\))?;\n(?=[\s\S]*\n {2}\/\*\* Makes room)/gm,
      ),
    ];
    // Two more columns are arrays of references.
    const bytes = columns.reduce((sum, [, type]) => sum + sizes[type!]!, 0) + 2 * 8;
    expect(Object.values(bytesOf(section)).reduce((sum, one) => sum + one, 0)).toBe(bytes);
    expect(bytes).toBe(57);
  });

  it('draws a slot of the core with its fields', () => {
    expect(read('src/connections/slot.rs')).toContain('assert!(size_of::<Slot>() == 32)');
    expect(page).toContain('slots: Vec<Slot>, 32 bytes each');
    expect(read('src/connections/slot.rs')).toContain('generation << 2 | state as u32');
  });
});

describe('docs/comparison.md', () => {
  it('has a test or a page for each row', () => {
    // The last table is that of `token-matrix.spec.ts`.
    const [features = ''] = read('docs/comparison.md').split('## Tokens that others');
    const rows = features
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/^\| (?:-+|feature|question) +\|/.test(line))
      .map((line) => line.split(' | '));
    expect(rows.length).toBeGreaterThan(60);
    const wrong = rows
      .map((cells) => [cells[0]!, cells.at(-1)!.replace(/ *\|$/, '')])
      .filter(([, evidence]) => {
        const [, spec, title] = /^`([\w/-]+(?:\.spec)?\.ts)`: (.+)$/.exec(evidence!) ?? [];
        if (spec === undefined) return !/^\[[^\]]+\]\([^)]+\)$/.test(evidence!);
        const file = `__test__/${spec}`;
        return !existsSync(file) || !read(file).includes(`'${title}'`);
      });
    expect(wrong).toEqual([]);
  });
});

describe('docs/migrating.md', () => {
  const [intro, ...sections] = read('docs/migrating.md').split(/^## From /m) as [
    string,
    ...string[],
  ];

  it('names the version, the code before and after, and the missing parts of each package', () => {
    const wrong = sections
      .filter((section) => {
        const parts = [/^Version \d+\.\d+\.\d+\./m, /\n\| there +\| here +\|\n/];
        const [before, after, missing] = [
          'Before:\n\n```js\n',
          'After:\n\n```ts\n',
          'Missing here:',
        ];
        const at = [before, after, missing].map((part) => section.indexOf(part!));
        return (
          parts.some((part) => !part.test(section)) ||
          at.includes(-1) ||
          at.join() !== at.toSorted((a, b) => a - b).join()
        );
      })
      .map((section) => section.split('\n')[0]);
    expect(wrong).toEqual([]);
    expect(intro.match(/^\| \[/gm)).toHaveLength(sections.length);
  });

  it('is compared in the same versions as in docs/comparison.md', () => {
    const compared = read('docs/comparison.md');
    for (const section of sections) {
      const [, version] = /^Version ([\d.]+)\./m.exec(section) ?? [];
      expect(compared).toContain(`${section.split('\n')[0]} ${version}`);
    }
  });
});

describe('SECURITY.md', () => {
  it('names files and tests that exist', () => {
    const rows = [
      ...read('SECURITY.md').matchAll(
        /^\| ([^|]+?) +\| ([^|]+?) +\| `([\w./-]+)`: ([^|]+?) +\|$/gm,
      ),
    ];
    const listed = read('SECURITY.md').split('## Threats')[1]!.split('## ')[0]!;
    expect(rows.length).toBe(listed.split('\n').filter((line) => line.startsWith('|')).length - 2);
    expect(rows.length).toBeGreaterThan(35);
    const wrong: string[] = [];
    for (const [, threat, where, spec, title] of rows) {
      for (const [, path] of where!.matchAll(/`((?:ts|src)\/[^`]*)`/g))
        if (!existsSync(path!)) wrong.push(`${threat}: no ${path}`);
      const file = /^(?:src|hosts)\//.test(spec!) ? spec! : `__test__/${spec}`;
      if (!existsSync(file) || !read(file).includes(title!))
        wrong.push(`${threat}: no test "${title}" in ${file}`);
    }
    expect(wrong).toEqual([]);
  });
});
