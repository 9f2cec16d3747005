import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Elysia } from 'elysia';
import { describe, expect, it } from 'vitest';
import { connectionOf as ofElysia, ElysiaServerBuilder } from '../dist/elysia.js';
import {
  Cluster,
  ConnectionManager,
  GracefulShutdown,
  InputValidationError,
  InputValidator,
  type JsonLimits,
  MessageRouter,
  PerformantMiddlewareChain,
  PortcullisError,
  ProductionMetrics,
  RateLimiter,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
  UnauthorizedError,
  ValidationFailure,
  clientAddress,
  headersSchema,
  jsonSchema,
  payloadSchema,
  resourceLimits,
  safeParseJson,
  scanJson,
  tokenSchema,
  urlSchema,
} from '../dist/index.js';
import { connectionOf as ofBun } from '../dist/bun.js';
import { connectionOf as ofSocketIo, portcullis as overSocketIo } from '../dist/socket.io.js';
import { connectionOf, portcullis } from '../dist/ws.js';
import { FAILURES } from '../dist/validators/failure-codes.js';
import { failure } from '../dist/validators/failure.js';

const TOKEN = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln';

describe('validateToken', () => {
  it('has its documented messages, and checks the length first', () => {
    const long = 'a'.repeat(2048);
    for (const [token, message] of [
      [undefined, 'Authentication token is required'],
      ['', 'Authentication token is required'],
      [null, 'Authentication token is required'],
      [0, 'Authentication token is required'],
      [5, 'Token must be a string'],
      [{}, 'Token must be a string'],
      [`${long}.b.c`, 'Token too long'],
      ['!'.repeat(2049), 'Token too long'],
      [' '.repeat(1e6), 'Token too long'],
      [`Bearer ${'!'.repeat(2049)}`, 'Token too long'],
      ['a', 'Invalid token format'],
      ['a.b', 'Invalid token format'],
      ['a.b.c.d', 'Invalid token format'],
      ['a.b.c.d.e', 'Invalid token format'],
      ['.b.c', 'Invalid token format'],
      ['a..c', 'Invalid token format'],
      ['a.b.', 'Invalid token format'],
      ['a.b.c=', 'Invalid token format'],
      ['a.b.c ', 'Invalid token format'],
      [' a.b.c', 'Invalid token format'],
      ['a.b.c\n', 'Invalid token format'],
      ['a+.b.c', 'Invalid token format'],
      ['a.b.\u00e9', 'Invalid token format'],
      ['a.b.\u212a', 'Invalid token format'],
      ['Bearer', 'Invalid token format'],
      ['Bearer ', 'Invalid token format'],
      ['Bearer Bearer a.b.c', 'Invalid token format'],
      ['Basic a.b.c', 'Invalid token format'],
      ['Bearera.b.c.', 'Invalid token format'],
    ] as const) {
      const error = (() => {
        try {
          return InputValidator.validateToken(token as never);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(error, String(token).slice(0, 30)).toBeInstanceOf(InputValidationError);
      expect((error as InputValidationError).message, String(token).slice(0, 30)).toBe(message);
      expect((error as InputValidationError).field).toBe('token');
    }
  });

  it('cuts off Bearer in any letter case, with any white space', () => {
    const { validateToken } = InputValidator;
    for (const token of [TOKEN, `Bearer ${TOKEN}`, `bearer   ${TOKEN}`, `BEARER\t${TOKEN}`])
      expect(validateToken(token)).toBe(TOKEN);
    expect(validateToken('Bearera.b.c')).toBe('Bearera.b.c');
    const longest = `${'a'.repeat(2044)}.b.c`;
    expect(validateToken(`Bearer ${longest}`)).toBe(longest);
  });
});

describe('errors of the caller', () => {
  const caught = (make: () => unknown): unknown => {
    try {
      return make();
    } catch (error) {
      return error;
    }
  };
  const thrown = (options: object): unknown => caught(() => new TimerManager(options));

  it('are TypeErrors for types and unknown options, RangeErrors for ranges, and PortcullisErrors', () => {
    for (const [options, Kind, Other, code] of [
      [{ strict: 1 }, TypeError, RangeError, 'ERR_INVALID_ARG_TYPE'],
      [{ stict: true }, TypeError, RangeError, 'ERR_UNKNOWN_OPTION'],
    ] as const) {
      const error = thrown(options);
      expect(error).toBeInstanceOf(Kind);
      expect(error).not.toBeInstanceOf(Other);
      expect(error).toBeInstanceOf(PortcullisError);
      expect(error).toMatchObject({ name: 'PortcullisError', code });
    }
    const range = caught(() => resourceLimits({ requests: { timeoutMs: 0 } }));
    expect(range).toBeInstanceOf(RangeError);
    expect(range).not.toBeInstanceOf(TypeError);
    expect(range).toBeInstanceOf(PortcullisError);
    expect(range).toMatchObject({ name: 'PortcullisError', code: 'ERR_OUT_OF_RANGE' });
  });

  it('are no instances of a subclass', () => {
    class Own extends PortcullisError {}
    expect(new Own('ERR_CLOSED', 'closed')).toBeInstanceOf(PortcullisError);
    expect(new Own('ERR_CLOSED', 'closed')).toBeInstanceOf(Own);
    expect(thrown({ strict: 1 })).not.toBeInstanceOf(Own);
    expect(new TypeError('foreign')).not.toBeInstanceOf(PortcullisError);
  });

  it('have a code; UnauthorizedError has one, too', () => {
    expect(new UnauthorizedError('expired')).toMatchObject({
      code: 'ERR_UNAUTHORIZED',
      reason: 'expired',
    });
  });
});

describe('every code', () => {
  it('has one row in docs/errors.md, with its status, meaning and remedy', () => {
    const table = readFileSync('docs/errors.md', 'utf8');
    const rows = [...table.matchAll(/^\| `(ERR_\w+)` \| (\d+) \| (.+?) \| (.+) \|$/gm)].map(
      ([, code, status, meaning, remedy]) => [
        code,
        Number(status),
        meaning,
        remedy?.replaceAll('\\|', '|'),
      ],
    );
    expect(rows).toEqual(FAILURES);
    expect(new Set(FAILURES.map(([code]) => code)).size).toBe(FAILURES.length);
  });

  it('has problem details and a challenge', () => {
    for (const [code, status, reason] of FAILURES) {
      const why = failure(code, { path: ['a/b', 0, '~é'], limit: 5 });
      expect(why.toProblem()).toMatchObject({
        type: 'about:blank',
        status,
        detail: reason,
        code,
        limit: 5,
        errors: [{ pointer: '#/a~1b/0/~0%C3%A9', detail: reason }],
      });
      expect(why.toProblem().title).not.toBe('Error');
      expect(why.toWwwAuthenticate()).toMatch(
        /^Bearer(?: error="(?:invalid_token|invalid_request|insufficient_scope)", error_description="[^"\\]+")?$/,
      );
    }
    expect(failure('ERR_TOKEN_REQUIRED').toWwwAuthenticate()).toBe('Bearer');
    expect(failure('ERR_TOKEN_EXPIRED').toWwwAuthenticate()).toBe(
      'Bearer error="invalid_token", error_description="Token has expired"',
    );
    expect(failure('ERR_TOKEN_TYPE').toWwwAuthenticate()).toContain('invalid_request');
  });

  it('has one frozen failure if there are no details', () => {
    const first = InputValidator.safeValidateToken('x');
    const second = InputValidator.safeValidateToken('y');
    expect(first).toBe(second);
    if (first.success) throw new Error('accepted');
    expect(first.error).toBeInstanceOf(ValidationFailure);
    expect(Object.isFrozen(first.error)).toBe(true);
    expect(first.error).not.toBeInstanceOf(Error);
  });

  it('of JSON, payloads, URLs, headers and the shape of tokens can occur', () => {
    const seen = new Set<string>();
    const json = (text: unknown, limits?: JsonLimits): void => {
      const result = scanJson(text as string, limits);
      if (!result.success) seen.add(result.error.code);
    };
    const throwing = {
      get a(): never {
        throw new Error('x');
      },
    };
    const cycle: unknown[] = [];
    cycle.push(cycle);
    json(5);
    json('[');
    json(new Uint8Array([0x22, 0xff, 0x22]));
    json('[[]]', { maxDepth: 1 });
    json('[0]', { maxValues: 1 });
    json('{"a":0}', { maxKeys: 0 });
    json('[0]', { maxItems: 0 });
    json('"ab"', { maxStringBytes: 1 });
    json('{"ab":0}', { maxKeyBytes: 1 });
    json('{"a":0,"a":0}');
    json('{"__proto__":0}');
    json('1e999');
    json('9007199254740993', { unsafeIntegers: 'refuse' });
    json('"\\ud800"');
    json('"\\u0000"', { nul: 'refuse' });
    json('[0]', { maxBytes: 1 });
    for (const payload of [() => 1, cycle, throwing]) {
      const result = InputValidator.safeValidateJsonPayload<unknown>(payload);
      if (!result.success) seen.add(result.error.code);
    }
    for (const token of [undefined, 5, 'x', 'x'.repeat(5000)]) {
      const result = InputValidator.safeValidateToken(token);
      if (!result.success) seen.add(result.error.code);
    }
    const outbound = [
      'https:x',
      'ftp://x.y',
      'https://a@x.y',
      'https://x.y:1',
      'https://x.y#z',
      'http://127.1',
      'https://10.0.0.1',
      'https://[::x]',
      '/\\',
      '/ ',
      '/%0a',
    ];
    for (const url of [undefined, 5, 'x'.repeat(3000), ...outbound]) {
      for (const mode of ['outbound', 'redirect', 'request-target'] as const) {
        const schemes = mode === 'outbound' ? ['http', 'https'] : undefined;
        const result = InputValidator.safeValidateUrl(url, { mode, schemes });
        if (!result.success) seen.add(result.error.code);
      }
    }
    for (const url of ['//x', '/..', '/%', 'https://x.y/']) {
      const result = InputValidator.safeValidateUrl(url, {
        mode: url.startsWith('/') ? 'request-target' : 'redirect',
      });
      if (!result.success) seen.add(result.error.code);
    }
    const headers = (
      given: unknown,
      limits?: Parameters<typeof InputValidator.safeValidateHeaders>[1],
    ): void => {
      const result = InputValidator.safeValidateHeaders(given, { ...limits, strict: true });
      if (!result.success) seen.add(result.error.code);
    };
    headers(5);
    headers({ a: 'b' }, { maxCount: 0 });
    headers({ a: 'b' }, { maxTotalBytes: 1 });
    headers({ 'a b': 'c' });
    headers({ ab: 'c' }, { maxNameBytes: 1 });
    headers(['__proto__', 'x']);
    headers({ a: 5 });
    headers({ a: '\n' });
    headers({ a: 'bb' }, { maxValueBytes: 1 });
    headers(['host', 'a', 'host', 'b']);
    headers(['host', 'a b']);
    headers(['content-length', '1', 'transfer-encoding', 'chunked']);
    const ofVerifier = /^ERR_TOKEN_(?!REQUIRED|TYPE|FORMAT|TOO_LONG)/;
    expect([...seen].toSorted()).toEqual(
      FAILURES.map(([code]) => code as string)
        .filter((code) => !ofVerifier.test(code))
        .toSorted(),
    );
  });
});

describe('Standard Schemas', () => {
  it('return the value or the issues', () => {
    expect(tokenSchema()['~standard'].validate(`Bearer ${TOKEN}`)).toEqual({ value: TOKEN });
    expect(tokenSchema()['~standard'].validate('x')).toEqual({
      issues: [{ message: 'Invalid token format', code: 'ERR_TOKEN_FORMAT' }],
    });
    expect(urlSchema({ mode: 'redirect' })['~standard'].validate('/a')).toEqual({ value: '/a' });
    const accepts = (url: string): boolean => !('issues' in urlSchema()['~standard'].validate(url));
    for (const url of ['/a', '/', '/a?b=//c', 'https://a.example/b', 'HTTP://a.example'])
      expect([url, accepts(url)]).toEqual([url, true]);
    for (const url of [
      '//a',
      '/\\a',
      '/\t/a',
      '\\\\a',
      'a',
      'http:a',
      'javascript:alert(1)',
      'java\nscript:alert(1)',
      ' javascript:alert(1)',
      'data:text/html,a',
      'ftp://a.example',
      'file:///etc/passwd',
    ])
      expect([url, accepts(url)]).toEqual([url, false]);
    expect(urlSchema({ mode: 'redirect' })['~standard'].validate('//a')).toHaveProperty('issues');
    expect(headersSchema()['~standard'].validate({ Host: 'a' })).toEqual({ value: { host: 'a' } });
    expect(headersSchema({ strict: true })['~standard'].validate({ a: 5 })).toHaveProperty(
      'issues',
    );
    expect(jsonSchema()['~standard'].validate('{"a":1}')).toEqual({ value: { a: 1 } });
    expect(jsonSchema()['~standard'].validate('{"a":[1,}')).toMatchObject({
      issues: [{ path: ['a', 1], code: 'ERR_JSON_SYNTAX' }],
    });
    expect(jsonSchema()['~standard'].validate({})).toMatchObject({
      issues: [{ code: 'ERR_JSON_TYPE' }],
    });
    expect(payloadSchema(5)['~standard'].validate([1, 2, 3])).toMatchObject({
      issues: [{ code: 'ERR_PAYLOAD_TOO_LARGE' }],
    });
    expect(() => jsonSchema({ maxDepth: 1000 })).toThrow('maxDepth');
    expect(() => urlSchema({ mode: 'x' as never })).toThrow('mode');
    expect(() => urlSchema({ mod: 'redirect' } as never)).toThrow('did you mean mode');
    expect(() => urlSchema(null as never)).toThrow('options');
    expect(urlSchema({ maxLength: 3 })['~standard'].validate('/ab')).toEqual({ value: '/ab' });
    expect(urlSchema({ maxLength: 2 })['~standard'].validate('/ab')).toMatchObject({
      issues: [{ code: 'ERR_URL_TOO_LONG' }],
    });
    expect(() => headersSchema({ maxCount: -1 })).toThrow('maxCount');
  });

  it('are the published type, which index.d.ts holds: users install nothing for it', () => {
    const declarations = readFileSync('index.d.ts', 'utf8');
    expect(declarations).toContain('interface StandardSchemaV1<');
    expect(declarations).not.toContain('@standard-schema');
  });

  it('serve Elysia', async () => {
    const app = new Elysia()
      .post('/json', ({ body }) => body as object, { body: payloadSchema(20) })
      .get('/go', ({ query }) => query, {
        query: headersSchema({ maxValueBytes: 3, strict: true }),
      });
    const post = (body: unknown): Promise<Response> =>
      app.handle(
        new Request('http://localhost/json', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
      );
    expect(await (await post({ a: 1 })).json()).toEqual({ a: 1 });
    expect((await post({ a: 'x'.repeat(30) })).status).toBeGreaterThanOrEqual(400);
    expect((await app.handle(new Request('http://localhost/go?a=abc'))).status).toBe(200);
    expect(
      (await app.handle(new Request('http://localhost/go?a=abcd'))).status,
    ).toBeGreaterThanOrEqual(400);
  });
});

it('messages hold no text of the input', () => {
  const secret = 'SECRET';
  const failures = [
    InputValidator.safeValidateToken(secret),
    InputValidator.safeValidateUrl(`http://${secret}:x`),
    InputValidator.safeValidateUrl(`/${secret}\\`, { mode: 'redirect' }),
    InputValidator.safeValidateHeaders({ a: `${secret}\n` }, { strict: true }),
    InputValidator.safeValidateJsonPayload({ a: [secret, () => secret] }),
    safeParseJson(`{"a":"${secret}`),
  ];
  for (const result of failures) {
    if (result.success) throw new Error('accepted');
    expect(
      JSON.stringify(result.error) +
        JSON.stringify(result.error.toProblem()) +
        String(new InputValidationError(result.error)),
    ).not.toContain(secret);
  }
});

it('messages hold no text that may be a key, a token or a password', () => {
  const secret = 'SECRET'.repeat(8);
  const url = `redis://:${secret}@127.0.0.1`;
  const keys = secret;
  const issuers = [{ issuer: 'a', keys }] as const;
  const acts: readonly (() => unknown)[] = [
    () => verifierOf({ keys, jwks: {} }),
    () => verifierOf({ keys, issuers }),
    () => verifierOf({ issuers: secret }),
    () => verifierOf({ jwks: { keys } }),
    () => verifierOf({ jwks: { url: secret, discovery: secret } }),
    () => verifierOf({ jwks: { url: `https://ann:${secret}@example.com` } }),
    () => verifierOf({ keys, cluster: url }),
    () => verifierOf({ keys: { secret, kid: [secret] } }),
    () => verifierOf({ keys: { secret, algorithm: [secret] } }),
    () => new TokenVerifier({ algorithms: ['HS256'], keys }).revoke(secret as never),
    () => new ConnectionManager({}, { name: 'secrets', cluster: url as never }),
    () => new GracefulShutdown({ cluster: url as never, readyNeedsCluster: true }),
    () => guardOf({ auth: { verifier: secret } }),
    () => guardOf({ allowedOrigins: [`https://ann:${secret}@example.com`] }),
  ];
  for (const act of acts) {
    const error = errorOf(act);
    expect(JSON.stringify(error)).not.toContain('SECRET');
    expect(error).toMatchObject({ field: expect.any(String), value: expect.any(String) });
  }
});

const isBun = process.versions['bun'] !== undefined;

/** The error of `act`, as its fields. */
function errorOf(act: () => unknown): Partial<PortcullisError> {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(PortcullisError);
    const { code, field, value, allowed, message } = error as PortcullisError;
    return { code, field, value, allowed, message };
  }
  throw new Error('no error');
}

const limits = {};
const rate = { limit: 5, windowMs: 1000 };
const verifierOf = (options: object): TokenVerifier =>
  new TokenVerifier({ algorithms: ['RS256'], ...options } as never);
const guardOf = (options: object): unknown => portcullis({ limits, ...options } as never);
const guard = portcullis({ limits });
const hs256 = (): TokenVerifier =>
  verifierOf({ algorithms: ['HS256'], keys: { secret: 'x'.repeat(32) } });
const chainOf = (options: object): unknown =>
  new PerformantMiddlewareChain([{ name: 'a', middleware: () => undefined, ...options }] as never);
const ratesOf = (requestRate: object): unknown => guardOf({ requests: { rate: requestRate } });

describe('an object of options', () => {
  const takers: Record<string, [field: string, make: (given: never) => unknown]> = {
    'portcullis()': ['options', (given) => portcullis(given)],
    'limits of a guard': ['limits', (given) => portcullis({ limits: given })],
    json: ['json', (json) => guardOf({ json })],
    banAfter: ['banAfter', (banAfter) => guardOf({ banAfter })],
    page: ['page', (page) => guardOf({ page })],
    auth: ['auth', (auth) => guardOf({ auth })],
    requests: ['requests', (requests) => guardOf({ requests })],
    websockets: ['websockets', (websockets) => guardOf({ websockets })],
    'requests.rate': ['requests.rate', (given) => ratesOf(given)],
    'requests.rate.perIp': ['requests.rate.perIp', (perIp) => ratesOf({ perIp })],
    refusalHeaders: ['refusalHeaders', (refusalHeaders) => guardOf({ refusalHeaders })],
    'limits of a manager': ['limits', (given) => new ConnectionManager(given)],
    ConnectionManager: ['options', (given) => new ConnectionManager({}, given)],
    connectRatePerIp: [
      'connectRatePerIp',
      (connectRatePerIp) => new ConnectionManager({ connectRatePerIp }),
    ],
    messageRate: ['messageRate', (messageRate) => new ConnectionManager({ messageRate })],
    'updateLimits()': ['limits', (given) => new ConnectionManager({}).updateLimits(given)],
    GracefulShutdown: ['options', (given) => new GracefulShutdown(given)],
    ProductionMetrics: ['options', (given) => new ProductionMetrics(given)],
    ResourceMonitor: ['options', (given) => new ResourceMonitor({}, given)],
    'resourceLimits()': ['memory', (memory) => resourceLimits({ memory })],
    TimerManager: ['options', (given) => new TimerManager(given)],
    RateLimiter: ['options', (given) => new RateLimiter(given)],
    TokenVerifier: ['options', (given) => new TokenVerifier(given)],
    jwks: ['jwks', (jwks) => verifierOf({ jwks })],
    Cluster: ['options', (given) => new Cluster(given)],
    MessageRouter: ['options', (given) => new MessageRouter(given)],
    PerformantMiddlewareChain: ['options', (given) => new PerformantMiddlewareChain([], given)],
    'scanJson()': ['limits', (given) => scanJson('{}', given)],
    'urlSchema()': ['options', (given) => urlSchema(given)],
    'headersSchema()': ['limits', (given) => headersSchema(given)],
    ...(isBun && {
      ElysiaServerBuilder: ['options', (given) => new ElysiaServerBuilder(given)],
    }),
  };

  for (const [name, [field, make]] of Object.entries(takers))
    it(`is no collection, promise or function: ${name}`, () => {
      for (const [given, kind] of [
        [[], 'an empty array'],
        [new Map([['a', 1]]), 'a Map'],
        [new Set(), 'a Set'],
        [Buffer.from('a'), 'a Buffer'],
        [new Float64Array(1), 'a typed array'],
        [Promise.resolve({}), 'a promise'],
        // oxlint-disable-next-line unicorn/no-thenable
        [{ then: () => undefined }, 'a promise'],
        [new URLSearchParams('a=1'), 'an iterable'],
        [() => ({}), 'a function'],
        // The message does not show its characters: it may be a key, a token or a password.
        ['SECRET', 'a string of 6 characters'],
      ] as const)
        expect(errorOf(() => make(given as never))).toMatchObject({
          code: 'ERR_INVALID_ARG_TYPE',
          field,
          value: kind,
          allowed: expect.any(String),
        });
    });

  it('may be of any class, without a prototype, or frozen', () => {
    class Mine {
      maxConnectionsPerIp = 7;
    }
    const bare = Object.assign(Object.create(null) as object, { maxConnectionsPerIp: 7 });
    for (const given of [new Mine(), bare, Object.freeze({ maxConnectionsPerIp: 7 })])
      expect(new ConnectionManager(given).snapshot().limits.maxConnectionsPerIp).toBe(7);
  });
});

describe('a handler that is none', () => {
  it('is refused where it is given, on Node', () => {
    for (const given of [undefined, null, {}, 'handler'])
      for (const guard of [portcullis({ limits }), overSocketIo({ limits })])
        expect(errorOf(() => guard.request(given as never))).toMatchObject({
          code: 'ERR_INVALID_ARG_TYPE',
          field: 'handler',
        });
  });

  it.runIf(isBun)('is refused where it is given, on Bun', async () => {
    const { portcullis: overBun } = await import('../dist/bun.js');
    const guard = overBun({ limits });
    const type = 'ERR_INVALID_ARG_TYPE';
    for (const given of [undefined, {}, 5]) {
      expect(errorOf(() => guard.fetch(given as never))).toMatchObject({
        code: type,
        field: 'handler',
      });
    }
    for (const given of [undefined, 5, []])
      expect(errorOf(() => guard.websocket(given as never))).toMatchObject({
        code: type,
        field: 'handlers',
      });
    expect(errorOf(() => guard.websocket({ message: 5 }))).toMatchObject({
      code: type,
      field: 'handlers.message',
    });
    expect(guard.websocket({ message: () => undefined })).toHaveProperty('open');
  });
});

describe('a route that no request can match', () => {
  it.each([
    ['GET /users/:id', 'a path without parameters'],
    ['GET /users/{id}', 'a path without parameters'],
    ['GET /a/*/b', 'whose only star is its last segment'],
    ['GET /a*', 'whose only star is its last segment'],
    ['PSOT /login', 'a method of HTTP'],
    ['GET /q?a', "a path without '?'"],
    ['GET /q#a', "a path without '?'"],
    ['GET /a/../b', "without the segments '.' and '..'"],
    ['/a/%2E%2e/*', "without the segments '.' and '..'"],
    ['GET /OK/', "'GET /ok' is earlier"],
    ['HEAD /ok', "'GET /ok' is earlier"],
    ['GET /api/users', "'/api/*' is earlier"],
    ['GET /api/users/*', "'/api/*' is earlier"],
  ])('%s', (route, rule) => {
    const perRoute = { 'GET /ok': rate, '/api/*': rate, [route]: rate };
    const error = errorOf(() => ratesOf({ perRoute }));
    expect(error).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'requests.rate.perRoute',
      value: JSON.stringify(route),
    });
    expect(error.allowed).toContain(rule);
  });

  it('is told from routes that requests match', () => {
    const routes = [
      'GET /ok',
      'POST /ok',
      '/ok',
      '/api',
      'M-SEARCH /a:b',
      'POST /api/*',
      '/api/*',
      '/.well-known/a..b',
      '/*',
    ];
    expect(() =>
      ratesOf({ perRoute: Object.fromEntries(routes.map((one) => [one, rate])) }),
    ).not.toThrow();
  });

  it('is refused for a page at or above one of exemptPaths, whose requests it would answer', () => {
    const page = { token: 'x'.repeat(16) };
    const made = (exempt: string, path: string) => (): unknown =>
      guardOf({ exemptPaths: [exempt], page: { ...page, path } });
    for (const path of ['/p', '/p/health'])
      expect(errorOf(made('/p/health', path))).toMatchObject({
        code: 'ERR_OUT_OF_RANGE',
        field: 'page.path',
        value: `"${path}"`,
      });
    expect(made('/pp', '/p')).not.toThrow();
  });

  it('is refused among exemptPaths and auth.http, too', () => {
    for (const path of ['/health/*', '/health/:part', '/health/../part', '/health/.'])
      expect(errorOf(() => guardOf({ exemptPaths: [path] }))).toMatchObject({
        code: 'ERR_OUT_OF_RANGE',
        field: 'exemptPaths[0]',
        allowed: expect.stringContaining('a whole path'),
      });
    const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret: 'x'.repeat(32) } });
    expect(errorOf(() => guardOf({ auth: { verifier, http: ['/users/:id'] } }))).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'auth.http[0]',
      allowed: expect.stringContaining('a path without parameters'),
    });
    expect(errorOf(() => guardOf({ auth: { verifier, http: ['/a/../users'] } }))).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'auth.http[0]',
      allowed: expect.stringContaining("without the segments '.' and '..'"),
    });
  });

  it('is refused by explainRates(), as are unknown names', () => {
    const guard = portcullis({ limits, requests: { rate: { perIp: rate } } });
    expect(errorOf(() => guard.explainRates({ IP: '192.0.2.1' } as never))).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      field: 'IP',
      message: 'explainRates has no option "IP", did you mean ip?',
    });
    for (const route of ['login', '/login', 'PSOT /login', ''])
      expect(errorOf(() => guard.explainRates({ ip: '192.0.2.1', route }))).toMatchObject({
        code: 'ERR_OUT_OF_RANGE',
        field: 'route',
        allowed: "a method and a path such as 'POST /login'",
      });
    expect(errorOf(() => guard.explainRates(undefined as never)).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(errorOf(() => guard.explainRates({ ip: 5 } as never)).field).toBe('ip');
    expect(guard.explainRates({ ip: '192.0.2.1', route: 'POST /login' })).toHaveLength(1);
  });
});

describe('a secret of the wrong form', () => {
  const cluster = (options: object): unknown =>
    new Cluster({ url: 'rediss://localhost', ...options });

  it.each([
    [
      'page.token',
      'a string of 5 characters',
      () => guardOf({ page: { path: '/p', token: 'short' } }),
    ],
    ['page.token', 'an empty string', () => guardOf({ page: { path: '/p', token: '' } })],
    ['page.token', 'a number', () => guardOf({ page: { path: '/p', token: 123 } })],
    ['page.token', 'null', () => guardOf({ page: { path: '/p', token: null } })],
    ['tls.ca', 'a Buffer', () => cluster({ tls: { ca: Buffer.from('pem') } })],
    ['tls.key', 'an empty array', () => cluster({ tls: { key: [] } })],
    ['password', 'a number', () => cluster({ password: 12_345 })],
    ['password', 'an empty string', () => cluster({ password: '' })],
    ['urls', 'a string of 9 characters', () => new Cluster({ urls: 'redis://a' } as never)],
    ['urls', 'an object', () => new Cluster({ urls: [{}] } as never)],
    ['url', 'undefined', () => new Cluster({} as never)],
    ['keys.secret', 'a number', () => verifierOf({ keys: { secret: 12_345 } })],
    [
      'keys',
      'a string of 6 characters',
      () => new TokenVerifier({ algorithms: ['HS256', 'RS256'], keys: 'secret' } as never),
    ],
  ])('is told by its type and length: %s, %s', (field, kind, make) => {
    const error = errorOf(make);
    expect(error).toMatchObject({ field, value: kind });
    expect(error.message).toContain(`, got ${kind}`);
    expect(error.message).not.toContain('12345');
  });

  it('is not shown as the value of an unknown option', () => {
    expect(errorOf(() => cluster({ passwort: 'hunter2' }))).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      field: 'passwort',
      value: 'a string of 7 characters',
    });
    const given = Object.defineProperty({}, 'nam', {
      enumerable: true,
      get: () => {
        throw new Error('read');
      },
    });
    expect(errorOf(() => new TimerManager(given)).field).toBe('nam');
  });

  it('does not stand in the error about a URL of the cluster', () => {
    for (const [url, rule] of [
      ['redis://user:hunter2@a:99999', 'a port of 1 to 65535'],
      ['rediss://user:hunter2@a b', 'a valid host'],
      ['redis://user:hunter2@a/first', 'the number of a database'],
    ] as const) {
      const error = errorOf(() => new Cluster({ url }));
      expect(error).toMatchObject({ code: 'ERR_CLUSTER_CONFIG', field: 'url' });
      expect(error.allowed).toContain(rule);
      expect(JSON.stringify(error)).not.toContain('hunter2');
    }
  });
});

describe('a URL that may hold a password', () => {
  it.each([
    'https://user:pass/hunter2@issuer.example/jwks.json',
    'https://user:hunter2?@issuer.example:99999/',
    'https://user:hunter2#1@issuer.example:99999/',
    '//user:hunter2@issuer.example/jwks.json',
    ' https://user:hunter2@iss uer.example/',
    'https//user:hunter2@issuer.example/',
    'hunter2:x@issuer.example/',
    'http://hunter2/x@issuer.example/',
    'https://user:1@hunter2/x@issuer.example/',
    'https://user:hunter2@issuer.example/',
    'https:user:hunter2@issuer.example',
    'https:\\\\user:hunter2@issuer.example',
  ])('is not shown: %s', (url) => {
    for (const jwks of [{ url }, { discovery: url }])
      expect(JSON.stringify(errorOf(() => verifierOf({ jwks, issuer: 'a' })))).not.toContain(
        'hunter2',
      );
    const issuers = [{ issuer: 'a', jwks: { url } }];
    expect(JSON.stringify(errorOf(() => verifierOf({ issuers })))).not.toContain('hunter2');
    // Nor where any other text is told as it is.
    for (const options of [{ allowedOrigins: [url] }, { refuseWith: url }])
      expect(JSON.stringify(errorOf(() => guardOf(options)))).not.toContain('hunter2');
  });

  it('is told by its length, and by its host where that is known', () => {
    const valueOf = (url: string): unknown => errorOf(() => verifierOf({ jwks: { url } })).value;
    expect(valueOf('//user:hunter2@a/')).toBe('a string of 17 characters');
    expect(valueOf('ftp://issuer.example/jwks.json')).toBe('"ftp://issuer.example"');
    expect(valueOf('https://ann:hunter2@issuer.example/')).toBe('"https://issuer.example"');
    const wordOf = (text: string): unknown => errorOf(() => guardOf({ refuseWith: text })).value;
    expect(wordOf('https://ann:hunter2@a.example/')).toBe('"https://…@a.example/"');
    expect(wordOf('ann@example.com')).toBe('"ann@example.com"');
    expect(wordOf('/users/@me')).toBe('"/users/@me"');
  });
});

it('per cent are told from shares', () => {
  for (const [field, make] of [
    ['memory.warningThreshold', () => resourceLimits({ memory: { warningThreshold: 0.85 } })],
    ['memory.criticalThreshold', () => resourceLimits({ memory: { criticalThreshold: 0.95 } })],
    ['targets.maxCpuUsage', () => new ProductionMetrics({ targets: { maxCpuUsage: 0.7 } })],
  ] as const)
    expect(errorOf(make)).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field,
      allowed: 'per cent: a number from 1 to 100',
    });
  expect(resourceLimits({ memory: { warningThreshold: 1 } }).memory.warningThreshold).toBe(1);
});

it.each([
  ['requests.rate.perIp.window', 'a number', () => ratesOf({ perIp: { ...rate, window: 5 } })],
  ['requests.rates', 'an object', () => guardOf({ requests: { rates: {} } })],
  ['page.tokn', 'a string of 3 characters', () => guardOf({ page: { path: '/p', tokn: 'abc' } })],
  ['json.maxdepth', 'a number', () => guardOf({ json: { maxdepth: 5 } })],
  [
    'connectRatePerIp.window',
    'a number',
    () => guardOf({ limits: { connectRatePerIp: { window: 5 } } }),
  ],
  ['memory.warning', 'a number', () => resourceLimits({ memory: { warning: 5 } } as never)],
  [
    'shedding.retry',
    'a number',
    () => new ResourceMonitor({}, { shedding: { retry: 5 } } as never),
  ],
  ['targets.cpu', 'a number', () => new ProductionMetrics({ targets: { cpu: 5 } } as never)],
  [
    'tls.chain',
    'a Buffer',
    () => new Cluster({ url: 'rediss://a', tls: { chain: Buffer.of(1) } } as never),
  ],
  ['jwks.uri', 'a string of 11 characters', () => verifierOf({ jwks: { uri: 'https://a.b' } })],
])('an unknown option is named by its whole path: %s', (field, value, make) => {
  expect(errorOf(make)).toMatchObject({ code: 'ERR_UNKNOWN_OPTION', field, value });
});

describe('an error', () => {
  it('suggests the option that was meant', () => {
    const rates = errorOf(() => guardOf({ requests: { rates: {} } }));
    expect(rates.message).toBe('requests has no option "rates", did you mean rate?');
    expect(rates.allowed).toContain('maxConcurrent');
    expect(errorOf(() => verifierOf({ jwks: { uri: 'https://a.b' } })).message).toBe(
      'jwks has no option "uri", did you mean url?',
    );
    expect(errorOf(() => verifierOf({ jwks: {} })).message).toContain(
      'one of keys, url and discovery',
    );
  });

  it.runIf(isBun)('tells where an option of the builder stands', () => {
    expect(
      errorOf(() => new ElysiaServerBuilder({ requests: { maxConcurrent: 5 } } as never)),
    ).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      field: 'requests.maxConcurrent',
      message: 'requests has no option "maxConcurrent": it is an option of limits.requests',
    });
    expect(
      errorOf(() => new ElysiaServerBuilder({ endpoints: { healthy: true } } as never)),
    ).toMatchObject({ field: 'endpoints.healthy', value: 'a boolean' });
  });

  it('says what to pass', () => {
    const metrics = new ProductionMetrics();
    expect(errorOf(() => metrics.histogram('a_seconds', 'A', ['le'])).message).toBe(
      'labelNames must be names other than `le`, the label of its buckets, got "le"',
    );
    metrics.close();
    expect(errorOf(() => new GracefulShutdown({ signals: ['TERM'] as never })).message).toMatch(
      /^signals\[0\] must be one of SIGHUP, /,
    );
    const shutdown = new GracefulShutdown();
    for (const given of [createServer(), undefined])
      expect(errorOf(() => shutdown.add(given as never)).allowed).toContain(
        'guard.drainable(server)',
      );
    shutdown.close();
    expect(errorOf(() => guardOf({ page: true }))).toMatchObject({ field: 'page', value: 'true' });
  });

  it('names the limiter or manager that is open with other options', () => {
    const limiter = new RateLimiter({ ...rate, name: 'shared-logins' });
    expect(errorOf(() => new RateLimiter({ ...rate, windowMs: 5, name: 'shared-logins' }))).toEqual(
      {
        code: 'ERR_LIMITS_CONFLICT',
        field: 'name',
        value: '"shared-logins"',
        allowed: 'the same windowMs wherever this name is opened, or another name',
        message: 'a rate limiter of the name "shared-logins" is already open with another windowMs',
      },
    );
    limiter.clear();
    const manager = new ConnectionManager({ maxConnectionsPerIp: 5 }, { name: 'shared-seats' });
    expect(
      errorOf(() => new ConnectionManager({ maxConnectionsPerIp: 6 }, { name: 'shared-seats' })),
    ).toMatchObject({
      code: 'ERR_LIMITS_CONFLICT',
      value: '"shared-seats"',
      message:
        'a connection manager of the name "shared-seats" is already open with another maxConnectionsPerIp: change it with updateLimits()',
    });
    manager.close();
  });

  it('says that a limiter cannot stand in the place of its options', () => {
    const both = RateLimiter.all(new RateLimiter(rate));
    expect(errorOf(() => ratesOf({ perIp: both }))).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'requests.rate.perIp',
      value: 'a limiter, such as one of a cluster',
    });
    expect(
      errorOf(() => new MessageRouter().on('chat', () => undefined, { rate: both as never })),
    ).toMatchObject({ field: 'rate', value: 'a limiter, such as one of a cluster' });
  });

  it.each<[string, () => unknown, Partial<PortcullisError>]>([
    [
      'a bound that is a symbol',
      () => new ProductionMetrics().histogram('a', 'h', [], { buckets: [Symbol('s')] as never }),
      { field: 'buckets', value: '"Symbol(s)"' },
    ],
    [
      'a bound that is a bigint',
      () => new ProductionMetrics().histogram('a', 'h', [], { buckets: [1, 2n] as never }),
      { field: 'buckets', value: '"1, 2n"' },
    ],
    [
      'no request',
      () => guard.traceOf(undefined as never),
      { field: 'request', value: 'undefined' },
    ],
    [
      'an empty request',
      () => guard.traceOf({} as never),
      { field: 'request', value: 'an object' },
    ],
    [
      'no socket of ws',
      () => connectionOf(undefined as never),
      { field: 'ws', value: 'undefined' },
    ],
    ['no socket of Elysia', () => ofElysia(null as never), { field: 'ws', value: 'null' }],
    ['no socket of Bun', () => ofBun('a' as never), { field: 'ws', value: '"a"' }],
    ['no socket of Socket.IO', () => ofSocketIo(5 as never), { field: 'socket', value: '5' }],
    [
      'no connection',
      () =>
        verifierOf({ algorithms: ['HS256'], keys: { secret: 'x'.repeat(32) } }).claimsOf(
          undefined as never,
        ),
      { field: 'connection', value: 'undefined' },
    ],
    [
      'a breaker of a layer that is not optional',
      () => chainOf({ breaker: {} }),
      { field: 'middleware "a".breaker', value: 'an object' },
    ],
    ['null as a priority', () => chainOf({ priority: null }), { value: 'null' }],
    [
      'null as an action',
      () => new ConnectionManager({ messageRate: { ...rate, action: null as never } }),
      { field: 'messageRate.action', value: 'null' },
    ],
    [
      'null as refuseWith',
      () => guardOf({ refuseWith: null }),
      { field: 'refuseWith', value: 'null' },
    ],
    [
      'null as the options of a manager',
      () => new ConnectionManager({}, new TimerManager(), null as never),
      { field: 'options', value: 'null' },
    ],
    ...['/a/%2e', '/%', '/a?b', '/a\\b', '/a*b', '/ä'].map(
      (path): [string, () => unknown, Partial<PortcullisError>] => [
        `auth.http ${path}`,
        () => guardOf({ auth: { verifier: hs256(), http: [path] } }),
        {
          field: 'auth.http[0]',
          allowed: expect.stringContaining('without percent codes') as string,
        },
      ],
    ),
  ])('has a code, a field, a value and the allowed values for %s', (_name, act, expected) => {
    const error = errorOf(act);
    expect(error.code).toMatch(/^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE)$/);
    expect(error).toMatchObject({ value: expect.any(String), allowed: expect.any(String) });
    expect(error).toMatchObject(expected);
  });

  it('is one also about a proxy that cannot be read', () => {
    const trap = (): never => {
      throw new Error('trap');
    };
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    for (const value of [proxy, new Proxy({}, { get: trap, getPrototypeOf: trap, has: trap })])
      for (const act of [
        () => new ConnectionManager({ maxTotalConnections: value as never }),
        () => new ConnectionManager({ messageRate: { ...rate, action: value as never } }),
        () => guardOf({ refuseWith: value }),
      ])
        expect(errorOf(act)).toMatchObject({ field: expect.any(String), value: 'an object' });
  });

  it('names what connects nothing: any other object has no connection', () => {
    for (const find of [connectionOf, ofElysia, ofBun, ofSocketIo])
      expect(find({} as never)).toBeUndefined();
  });

  it('of a wrong reason is an UnauthorizedError all the same', () => {
    for (const reason of [Symbol('s'), null, 5, {}, 'no session'])
      expect(new UnauthorizedError(reason as never).reason).toBe('invalid_token');
  });

  it.each<[string, (name: string) => unknown]>([
    ['name', (name) => new ConnectionManager({}, { name })],
    ['name', (name) => new RateLimiter({ ...rate, name })],
    ['name', (name) => guardOf({ name })],
    ['issuer', (issuer) => verifierOf({ issuer, keys: [] })],
    ['audience', (audience) => verifierOf({ audience, keys: [] })],
    ['requiredClaims[0]', (claim) => verifierOf({ requiredClaims: [claim], keys: [] })],
    ['subject', (subject) => hs256().notBefore(subject, 5)],
    ['jti', (jti) => hs256().revoke({ jti, exp: 5 })],
  ])(
    'names a text with a lone surrogate, which the core keeps as another text: %s',
    (field, make) => {
      for (const name of ['\ud800', 'a\udc00b'])
        expect(errorOf(() => make(name))).toMatchObject({
          code: 'ERR_OUT_OF_RANGE',
          field,
          allowed: 'text without lone surrogates',
        });
    },
  );

  it('tells how many were given', () => {
    const both = RateLimiter.all(new RateLimiter(rate), new RateLimiter(rate));
    expect(errorOf(() => both.take(['x'])).message).toBe(
      'keys must be an array of 2 keys, got an array of 1',
    );
    expect(errorOf(() => clientAddress('192.0.2.1', {}, [], 'x-real-ip')).message).toContain(
      'got an empty array',
    );
  });

  it.each(['scope', 'roles', 'rolesPath', 'typ', 'issuer', 'audience'])(
    'names an empty array as %s without quotes',
    (field) => {
      const options = { algorithms: ['HS256'], keys: ['k'.repeat(32)], [field]: [] };
      const error = errorOf(() => new TokenVerifier(options as never));
      expect([error.code, error.field, error.value]).toEqual([
        'ERR_OUT_OF_RANGE',
        field,
        'an empty array',
      ]);
    },
  );
});
