import { readFileSync } from 'node:fs';
import { Elysia } from 'elysia';
import { describe, expect, it } from 'vitest';
import {
  InputValidationError,
  InputValidator,
  type JsonLimits,
  PortcullisError,
  TimerManager,
  UnauthorizedError,
  ValidationFailure,
  headersSchema,
  jsonSchema,
  payloadSchema,
  resourceLimits,
  safeParseJson,
  scanJson,
  tokenSchema,
  urlSchema,
} from '../dist/index.js';
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
