import { generateKeyPairSync } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  PortcullisError,
  type RemoteJwks,
  TimerManager,
  type TokenJwk,
  type TokenResult,
  TokenVerifier,
} from '../dist/index.js';
import { token } from './fixtures/sign.js';
import { StallingClock } from './fixtures/stalling-clock.js';
import { until } from './fixtures/until.js';

const pairOf = (): ReturnType<typeof generateKeyPairSync> =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [first, second] = [pairOf(), pairOf()];
const jwk = (pair: typeof first, kid: string): TokenJwk =>
  ({
    ...(pair.publicKey as unknown as typeof first.publicKey).export({ format: 'jwk' }),
    kid,
  }) as TokenJwk;
const signed = (pair: typeof first, kid: string): string =>
  token({}, pair.privateKey as never, 'ES256', { kid });
const codeOf = (result: TokenResult): string => (result.success ? 'accepted' : result.error.code);
const BOTH = { keys: [jwk(first, 'one'), jwk(second, 'two')] };
const ONE = { keys: [jwk(first, 'one')] };

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
const json =
  (body: unknown, headers: Record<string, string> = {}): Handler =>
  (_request, response) =>
    void response
      .writeHead(200, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body));

let clock: StallingClock;
let timers: TimerManager;
let server: Server;
let handler: Handler;
let requests: IncomingMessage[];
let errors: string[];
const verifiers: TokenVerifier[] = [];

beforeEach(async () => {
  clock = new StallingClock();
  timers = new TimerManager({ clock });
  requests = [];
  errors = [];
  handler = json(ONE);
  server = createServer((request, response) => {
    requests.push(request);
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

it.each<[object, string, string]>([
  [{ 'bad name': 'a-secret' }, 'ERR_OUT_OF_RANGE', 'jwks.headers'],
  [{ authorization: 'a-secret\n' }, 'ERR_OUT_OF_RANGE', 'jwks.headers.authorization'],
  [{ authorization: 'a-secret\r\nhost: x' }, 'ERR_OUT_OF_RANGE', 'jwks.headers.authorization'],
  [{ authorization: '\u{100}-secret' }, 'ERR_OUT_OF_RANGE', 'jwks.headers.authorization'],
  [{ authorization: null }, 'ERR_INVALID_ARG_TYPE', 'jwks.headers.authorization'],
  [{ authorization: ['a-secret'] }, 'ERR_INVALID_ARG_TYPE', 'jwks.headers.authorization'],
  [
    { authorization: { toString: () => 'a-secret' } },
    'ERR_INVALID_ARG_TYPE',
    'jwks.headers.authorization',
  ],
  [new Map(), 'ERR_INVALID_ARG_TYPE', 'jwks.headers'],
  [{ Authorization: 'a-secret', authorization: 'a-secret' }, 'ERR_OUT_OF_RANGE', 'jwks.headers'],
  ...[
    'Host',
    'connection',
    'Content-Length',
    'expect',
    'If-None-Match',
    'keep-alive',
    'TE',
    'trailer',
    'transfer-encoding',
    'upgrade',
  ].map((name): [object, string, string] => [
    { [name]: 'secret' },
    'ERR_OUT_OF_RANGE',
    'jwks.headers',
  ]),
])('refuses the headers %j in the constructor, without their values', (headers, code, field) => {
  let error: unknown;
  try {
    new TokenVerifier({
      algorithms: ['ES256'],
      jwks: { url: 'https://issuer.example/', headers: headers as Record<string, string> },
    });
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code, field });
  const { message, value } = error as PortcullisError;
  expect(`${message} ${value}`).not.toContain('secret');
});

afterEach(async () => {
  for (const verifier of verifiers.splice(0)) verifier.close();
  timers.cleanup();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function remote(options: Partial<RemoteJwks> = {}): TokenVerifier {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
  const verifier = new TokenVerifier({
    algorithms: ['ES256'],
    jwks: { url, onError: ({ message }) => errors.push(message), ...options },
    timers,
    cacheSize: 10,
  });
  verifiers.push(verifier);
  return verifier;
}

describe('headers of a fetch', () => {
  it.each(['accept', 'Accept', 'ACCEPT'])('replace ours in any letter case: %s', async (name) => {
    handler = json(ONE, { etag: '"v1"' });
    const verifier = remote({
      headers: { [name]: 'text/html', 'X-Client': 'chat' },
      cooldownMs: 0,
    });
    expect(await verifier.ready()).toBe(true);
    await verifier.authenticate(signed(second, 'two'));
    expect(
      requests.map(({ headers }) => [
        headers.accept,
        headers['x-client'],
        headers['if-none-match'],
      ]),
    ).toEqual([
      ['text/html', 'chat', undefined],
      ['text/html', 'chat', '"v1"'],
    ]);
  });

  it('go to the origin of the configured address only', async () => {
    const seen: IncomingMessage[] = [];
    const other = createServer((request, response) => {
      seen.push(request);
      json(ONE)(request, response);
    });
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const own = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const elsewhere = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    try {
      for (const origin of [elsewhere, own]) {
        handler = (request, response) =>
          request.url === '/metadata'
            ? json({ issuer: 'https://is/', jwks_uri: `${origin}/keys` })(request, response)
            : json(ONE)(request, response);
        const verifier = new TokenVerifier({
          algorithms: ['ES256'],
          issuer: 'https://is/',
          jwks: { discovery: `${own}/metadata`, headers: { authorization: 'Bearer a' } },
          timers,
        });
        verifiers.push(verifier);
        expect(await verifier.ready()).toBe(true);
      }
      expect(requests.map(({ url, headers }) => [url, headers.authorization])).toEqual([
        ['/metadata', 'Bearer a'],
        ['/metadata', 'Bearer a'],
        ['/keys', 'Bearer a'],
      ]);
      expect(seen.map(({ headers }) => [headers.authorization, headers.accept])).toEqual([
        [undefined, 'application/jwk-set+json, application/json'],
      ]);
    } finally {
      other.closeAllConnections();
      other.close();
    }
  });
});

describe('a fetched key set', () => {
  it.each([true, false])(
    'outlives timers that are closed meanwhile, strict: %s',
    async (strict) => {
      timers = new TimerManager({ clock, strict });
      let answer = (): void => undefined;
      handler = (request, response) => (answer = () => json(ONE)(request, response));
      const verifier = remote({ headers: { authorization: undefined as never } });
      const [asked, ready] = [verifier.authenticate(signed(first, 'one')), verifier.ready()];
      await until(() => requests.length === 1);
      timers.close();
      answer();
      expect([codeOf(await asked), await ready]).toEqual(['accepted', true]);
      expect(requests[0]!.headers.authorization).toBeUndefined();
      handler = json(ONE);
      // A token before the next fetch is due does not use it up.
      expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
      clock.advance(600_000);
      // Strict timers refuse the timeout of a fetch, and there is none then.
      expect(codeOf(await verifier.authenticate(signed(first, 'one')))).toBe('accepted');
      expect([requests.length, errors.length]).toEqual(strict ? [1, 1] : [2, 0]);
      // The keys are not used when they are too old.
      handler = (_request, response) => void response.writeHead(500).end();
      clock.advance(90_000_000);
      verifier.safeVerify(signed(first, 'one'));
      await until(() => errors.length > (strict ? 1 : 0));
      expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    },
  );

  it('a batch verifies the tokens of the call, even if the array changes meanwhile', async () => {
    const verifier = remote();
    const claims = (name: string): string =>
      token({ sub: name }, first.privateKey as never, 'ES256', { kid: 'one' });
    const tokens: unknown[] = [claims('ann'), 'x', claims('bob')];
    const batch = verifier.verifyBatch(tokens);
    tokens.splice(0, 3, 7, claims('eve'), 'x', claims('eve'));
    const results = await batch;
    expect(
      results.map((result) => (result.success ? result.claims.sub : result.error.code)),
    ).toEqual(['ann', 'ERR_TOKEN_FORMAT', 'bob']);
  });

  it('is fetched once for all waiting callers, and only when a token needs it', async () => {
    const verifier = remote();
    expect(requests).toHaveLength(0);
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    const results = await Promise.all(
      Array.from({ length: 50 }, () => verifier.authenticate(signed(first, 'one'))),
    );
    expect(new Set(results.map(codeOf))).toEqual(new Set(['accepted']));
    expect(await verifier.ready()).toBe(true);
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
    expect(codeOf(verifier.safeVerify(signed(second, 'one')))).toBe('ERR_TOKEN_SIGNATURE');
    expect(requests).toHaveLength(1);
    expect(verifier.snapshot()).toMatchObject({
      keys: 1,
      jwks: { fetches: 1, failures: 0, lastError: undefined },
    });
  });

  it('is fetched again for an unknown key id, but not within the cooldown', async () => {
    const verifier = remote();
    await verifier.ready();
    handler = json(BOTH);
    expect(codeOf(await verifier.authenticate(signed(second, 'two')))).toBe(
      'ERR_TOKEN_KEY_UNKNOWN',
    );
    expect(requests).toHaveLength(1);
    clock.advance(30_000);
    expect(codeOf(await verifier.authenticate(signed(second, 'two')))).toBe('accepted');
    expect(codeOf(await verifier.authenticate(signed(second, 'three')))).toBe(
      'ERR_TOKEN_KEY_UNKNOWN',
    );
    expect(requests).toHaveLength(2);
    clock.advance(30_000);
    // A flood of unknown ids causes one fetch.
    const flood = await Promise.all(
      Array.from({ length: 100 }, (_, at) => verifier.authenticate(signed(second, `flood ${at}`))),
    );
    expect(new Set(flood.map(codeOf))).toEqual(new Set(['ERR_TOKEN_KEY_UNKNOWN']));
    expect(requests).toHaveLength(3);
    expect(verifier.snapshot().jwks?.unknownKeyFetches).toBe(2);
  });

  it('is replaced as a whole: removed keys are refused, cached results included', async () => {
    const verifier = remote();
    await verifier.ready();
    const old = signed(first, 'one');
    expect(codeOf(verifier.safeVerify(old))).toBe('accepted');
    handler = json({ keys: [jwk(second, 'two')] });
    clock.advance(600_000);
    await until(
      () =>
        verifier.snapshot().jwks?.fetches === 2 &&
        requests.length === 2 &&
        codeOf(verifier.safeVerify(old)) !== 'accepted',
    );
    expect(codeOf(verifier.safeVerify(old))).toBe('ERR_TOKEN_KEY_UNKNOWN');
    expect(codeOf(verifier.safeVerify(signed(second, 'two')))).toBe('accepted');
  });

  it('sends its ETag, and obeys Cache-Control within limits', async () => {
    const verifier = remote();
    handler = (request, response) => {
      if (request.headers['if-none-match'] === '"v1"')
        response.writeHead(304, { 'cache-control': 'max-age=60' }).end();
      else json(ONE, { etag: '"v1"', 'cache-control': 'public, max-age=120' })(request, response);
    };
    await verifier.ready();
    expect(requests[0]?.headers['if-none-match']).toBeUndefined();
    const use = (): void =>
      expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
    use();
    clock.advance(119_999);
    expect(verifier.snapshot().jwks?.fetches).toBe(1);
    clock.advance(1);
    await until(() => verifier.snapshot().jwks?.notModified === 1);
    use();
    clock.advance(60_000);
    await until(() => verifier.snapshot().jwks?.notModified === 2);
    expect(verifier.snapshot().jwks).toMatchObject({ fetches: 3, failures: 0 });
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
    // An answer with no-store is kept for the cooldown.
    use();
    handler = json(ONE, { 'cache-control': 'no-store' });
    clock.advance(60_000);
    await until(() => verifier.snapshot().jwks?.fetches === 4 && requests.length === 4);
    clock.advance(29_999);
    expect(verifier.snapshot().jwks?.fetches).toBe(4);
  });

  it('stays in use while fetches fail, up to staleIfErrorMs', async () => {
    const verifier = remote({ staleIfErrorMs: 100_000 });
    await verifier.ready();
    verifier.check(signed(first, 'one'));
    handler = (_request, response) => void response.writeHead(500).end();
    clock.advance(600_000);
    await until(() => errors.length === 1);
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
    // It is fetched again without a token, at intervals of at least the cooldown, until then.
    for (
      let failed = 2;
      codeOf(verifier.safeVerify(signed(first, 'one'))) === 'accepted';
      failed++
    ) {
      expect(failed).toBeLessThan(8);
      const before = errors.length;
      clock.advance(40_000);
      await until(() => errors.length > before);
    }
    expect(verifier.snapshot().keys).toBe(0);
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    handler = json(ONE);
    clock.advance(30_000);
    expect(codeOf(await verifier.authenticate(signed(first, 'one')))).toBe('accepted');
  });

  it('is not used when it is too old after a pause of the process, before any timer has run', async () => {
    const good = signed(first, 'one');
    const asks: readonly ((verifier: TokenVerifier) => unknown)[] = [
      (verifier) => codeOf(verifier.safeVerify(good)),
      (verifier) => verifier.check(good),
      async (verifier) => codeOf(await verifier.authenticate(good)),
    ];
    for (const ask of asks)
      for (const cached of [good, 'no token at all']) {
        handler = json(ONE);
        const verifier = remote();
        await verifier.ready();
        // A token comes, so that the next fetch waits for none.
        verifier.safeVerify(cached);
        handler = (_request, response) => void response.writeHead(500).end();
        clock.skip += 87_000_000;
        expect(await ask(verifier)).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
      }
  });

  it('is not used when it is too old after a pause of the process, while the fetch hangs', async () => {
    const verifier = remote();
    await verifier.ready();
    const good = signed(first, 'one');
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    let answer = (): void => undefined;
    handler = (request, response) => (answer = () => json(ONE)(request, response));
    clock.skip = 87_000_000;
    clock.advance(600_000);
    await until(() => requests.length === 2);
    expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    const waiting = verifier.authenticate(good);
    answer();
    expect(codeOf(await waiting)).toBe('accepted');
  });

  it('stays in use for the fetch on time, also with staleIfErrorMs: 0', async () => {
    const verifier = remote({ staleIfErrorMs: 0, timeoutMs: 5000 });
    await verifier.ready();
    const good = signed(first, 'one');
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    handler = () => undefined;
    clock.advance(600_000);
    await until(() => requests.length === 2);
    clock.advance(4999);
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    clock.advance(1);
    expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
  });

  it('is fetched as a whole where it was dropped while the server found it unchanged', async () => {
    handler = json(ONE, { etag: '"v1"' });
    const verifier = remote({ staleIfErrorMs: 0 });
    await verifier.ready();
    const good = signed(first, 'one');
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    let answer = (): void => undefined;
    handler = (_request, response) => (answer = () => void response.writeHead(304).end());
    clock.advance(600_000);
    await until(() => requests.length === 2);
    clock.skip = 5000;
    expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    const waiting = verifier.authenticate(good);
    handler = json(ONE);
    answer();
    expect(codeOf(await waiting)).toBe('accepted');
    expect(requests.map(({ headers }) => headers['if-none-match'])).toEqual([
      undefined,
      '"v1"',
      undefined,
    ]);
  });

  it('is fetched again soon while there are no keys', async () => {
    const verifier = remote();
    handler = (_request, response) => void response.writeHead(503).end();
    expect(await verifier.ready()).toBe(false);
    expect(codeOf(await verifier.authenticate(signed(first, 'one')))).toBe(
      'ERR_TOKEN_KEYS_UNAVAILABLE',
    );
    expect(requests).toHaveLength(1);
    handler = json(ONE);
    clock.advance(1000);
    expect(codeOf(await verifier.authenticate(signed(first, 'one')))).toBe('accepted');
    expect(requests).toHaveLength(2);
  });

  it('may begin with a byte order mark', async () => {
    handler = json(`\ufeff${JSON.stringify(ONE)}`);
    expect(codeOf(await remote().authenticate(signed(first, 'one')))).toBe('accepted');
    expect(errors).toEqual([]);
  });

  it('makes a batch wait for it', async () => {
    const verifier = remote();
    expect(
      (await verifier.verifyBatch([signed(first, 'one'), signed(second, 'two')])).map(codeOf),
    ).toEqual(['accepted', 'ERR_TOKEN_KEY_UNKNOWN']);
    handler = json(BOTH);
    clock.advance(30_000);
    expect(
      (await verifier.verifyBatch([signed(first, 'one'), signed(second, 'two')])).map(codeOf),
    ).toEqual(['accepted', 'accepted']);
  });

  it('skips unusable keys, and uses the rest', async () => {
    handler = json({
      keys: [
        { kty: 'RSA', n: 'AQAB', e: 'AQAB', kid: 'weak' },
        null,
        5,
        { ...jwk(second, 'two'), use: 'enc' },
        jwk(first, 'one'),
      ],
    });
    const verifier = remote();
    expect(await verifier.ready()).toBe(true);
    expect(verifier.snapshot()).toMatchObject({
      keys: 1,
      skippedKeys: [{ index: 0 }, { index: 1 }, { index: 2 }, { index: 3 }],
    });
  });
});

describe('a server that misbehaves', () => {
  const secret = 'text of the answer';
  const cases: readonly (readonly [string, Handler, string])[] = [
    [
      'with an error',
      (_, response) => void response.writeHead(500).end(secret),
      'was answered with status 500',
    ],
    [
      'with a redirect',
      (_, response) => void response.writeHead(302, { location: '/elsewhere' }).end(),
      'was answered with status 302',
    ],
    [
      'with a 304 to a request without an ETag',
      (_, response) => void response.writeHead(304).end(),
      'was answered with status 304',
    ],
    ['with no JSON', json(`<html>${secret}</html>`), 'is not a JWK set'],
    ['with another object', json({ issuer: secret }), 'is not a JWK set'],
    ['with keys that are no array', json({ keys: secret }), 'is not a JWK set'],
    ['with no keys', json({ keys: [] }), 'has no key that the verifier can use'],
    [
      'with keys for other purposes only',
      json({ keys: [{ ...jwk(first, 'one'), use: 'enc' }] }),
      'has no key that the verifier can use',
    ],
    [
      'with 101 keys',
      json({ keys: Array.from({ length: 101 }, (_, at) => jwk(first, String(at))) }),
      'is too large',
    ],
    [
      'with a content-length over the limit',
      json(' '.repeat(70_000) + JSON.stringify(ONE)),
      'is larger than 65536 bytes',
    ],
    [
      'with a body without end',
      (_, response) => {
        response.writeHead(200);
        const more = (): void => {
          while (!response.destroyed && response.write(' '.repeat(16_384)));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
      },
      'is larger than 65536 bytes',
    ],
    [
      'with bytes that are no UTF-8',
      (_, response) => void response.writeHead(200).end(Buffer.from([0xff, 0xfe, 0x7b])),
      'is not UTF-8',
    ],
    ['by hanging up', (request) => void request.socket.destroy(), 'could not be fetched'],
    [
      'by hanging up in the middle',
      (request, response) => {
        response.writeHead(200, { 'content-length': '1000' }).write('{"keys":[');
        setTimeout(() => request.socket.destroy(), 5);
      },
      'could not be fetched',
    ],
    [
      'by speaking another protocol',
      (request) => void request.socket.end('SSH-2.0-nonsense\r\n\r\n'),
      'could not be fetched',
    ],
    ['with nesting', json(`{"keys":${'['.repeat(20_000)}`), 'is not a JWK set'],
  ];
  it.each(cases)('%s gives no keys, and removes none', async (_name, wrong, problem) => {
    const verifier = remote();
    handler = wrong;
    expect(await verifier.ready()).toBe(false);
    expect(errors).toEqual([expect.stringContaining(problem)]);
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    const keeping = remote();
    handler = json(ONE);
    await keeping.ready();
    keeping.check(signed(first, 'one'));
    handler = wrong;
    clock.advance(600_000);
    await until(() => keeping.snapshot().jwks?.failures === 1);
    expect(codeOf(keeping.safeVerify(signed(first, 'one')))).toBe('accepted');
    expect(errors.join()).not.toContain(secret);
  });

  it('by silence is given up after the timeout', async () => {
    const silent = remote({ timeoutMs: 5000 });
    const slow = remote({ timeoutMs: 5000 });
    handler = () => undefined;
    const never = silent.ready();
    await until(() => requests.length === 1);
    handler = (_request, response) => void response.writeHead(200).write('{');
    const trickle = slow.ready();
    await until(() => requests.length === 2);
    clock.advance(5000);
    expect(await Promise.all([never, trickle])).toEqual([false, false]);
    expect(errors).toEqual([
      expect.stringContaining('in time'),
      expect.stringContaining('in time'),
    ]);
  });

  it.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('a hook failed');
      },
    ],
    ['rejects', () => Promise.reject(new Error('a hook failed'))],
  ])('does not stop the refreshes through a hook that %s, and warns', async (_, onError) => {
    const warned: unknown[] = [];
    const listener = (warning: Error): void => void warned.push((warning.cause as Error).message);
    process.on('warning', listener);
    handler = (_request, response) => void response.writeHead(500).end();
    const verifier = remote({ onError: onError as never });
    expect(await verifier.ready()).toBe(false);
    handler = json(ONE);
    clock.advance(30_000);
    expect(await verifier.ready()).toBe(true);
    await until(() => warned.length > 0);
    process.off('warning', listener);
    expect(warned).toEqual(['a hook failed']);
  });

  it('gets no request once the verifier is closed', async () => {
    const verifier = remote();
    await verifier.ready();
    verifier.close();
    clock.advance(10_000_000);
    expect(codeOf(await verifier.authenticate(signed(second, 'two')))).toBe(
      'ERR_TOKEN_KEY_UNKNOWN',
    );
    expect(codeOf(verifier.safeVerify(signed(first, 'one')))).toBe('accepted');
    expect(requests).toHaveLength(1);
    expect(timers.getActiveTimersCount()).toBe(0);
  });
});

it('addresses must be https, except on the same machine', () => {
  const field = (jwks: object): unknown => {
    try {
      new TokenVerifier({ algorithms: ['ES256'], jwks: jwks as RemoteJwks }).close();
    } catch (error) {
      return (error as PortcullisError).field;
    }
    return undefined;
  };
  for (const url of [
    'http://issuer.example/jwks',
    'http://localhost.example/jwks',
    'http://127.0.0.1.example/',
    'ftp://a/',
    'file:///etc/keys',
    'data:,{}',
    '//a/b',
    '',
    5,
    'https://user:word@a/',
  ]) {
    expect(field({ url })).toBe('jwks.url');
  }
  for (const url of [
    'https://issuer.example/jwks',
    new URL('https://a/'),
    'http://localhost:1/',
    'http://[::1]:1/',
    'http://127.0.0.2/',
  ]) {
    expect(field({ url })).toBeUndefined();
  }
  expect(field({ url: 'https://a/', cooldownMs: -1 })).toBe('jwks.cooldownMs');
  expect(field({ url: 'https://a/', maxBytes: 2 ** 30 })).toBe('jwks.maxBytes');
  expect(field({ url: 'https://a/', coolDownMs: 1 })).toBe('jwks.coolDownMs');
});
