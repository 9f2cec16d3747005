import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { importJWK, jwtVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  Cluster,
  type PortcullisError,
  TimerManager,
  type TokenAlgorithm,
  type TokenJwk,
  type TokenResult,
  TokenVerifier,
  type TokenVerifierOptions,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { certificateOf, pemOf } from './fixtures/certificate.js';
import { token } from './fixtures/sign.js';
import { until } from './fixtures/until.js';

const isBun = 'bun' in process.versions;
interface Rare<T extends string> {
  readonly pem: string;
  readonly tokens: Readonly<Record<T, string>>;
}
const RARE = JSON.parse(
  readFileSync(new URL('./fixtures/rare-keys.json', import.meta.url), 'utf8'),
) as {
  readonly free: Rare<'PS256' | 'PS384' | 'PS512'>;
  readonly bound: Rare<'PS384'>;
  readonly weak: Rare<never>;
  readonly secp256k1: Rare<'ES256K'> & { readonly jwk: TokenJwk };
};
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const jwkOf = (key: KeyObject, more: object = {}): TokenJwk =>
  ({ ...key.export({ format: 'jwk' }), ...more }) as TokenJwk;
const codeOf = (result: TokenResult): string => (result.success ? 'accepted' : result.error.code);

let clock: ManualClock;
let timers: TimerManager;
let server: Server;
let requests: IncomingMessage[];
/** Paths and their answers: a body, or a status with headers. */
let answers: Record<string, unknown>;
const verifiers: TokenVerifier[] = [];
const at = (path: string): string =>
  `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;

beforeEach(async () => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
  requests = [];
  answers = {};
  server = createServer((request, response) => {
    requests.push(request);
    const answer = answers[request.url ?? ''] as { status?: number; headers?: object } | undefined;
    if (answer?.status !== undefined)
      response.writeHead(answer.status, answer.headers as Record<string, string>).end();
    else response.end(JSON.stringify(answer ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  vi.useRealTimers();
  for (const verifier of verifiers.splice(0)) verifier.close();
  timers.cleanup();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function verifierOf(
  algorithms: readonly TokenAlgorithm[],
  keys: unknown,
  jwks: object = {},
  options: Partial<TokenVerifierOptions> = {},
): TokenVerifier {
  answers['/jwks'] = Array.isArray(keys) ? { keys } : keys;
  const verifier = new TokenVerifier({
    algorithms,
    jwks: { url: at('/jwks'), ...jwks } as never,
    timers,
    ...options,
  });
  verifiers.push(verifier);
  return verifier;
}

describe('a key set', () => {
  it('may have several keys of one kid, told apart by type and then tried', async () => {
    const kid = '2011-04-29';
    const verifier = verifierOf(
      ['RS256', 'ES256'],
      [rsa, ec, other].map(({ publicKey }) => jwkOf(publicKey, { kid })),
    );
    for (const [pair, algorithm] of [
      [rsa, 'RS256'],
      [other, 'RS256'],
      [ec, 'ES256'],
    ] as const)
      expect(
        codeOf(await verifier.authenticate(token({}, pair.privateKey, algorithm, { kid }))),
      ).toBe('accepted');
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    expect(codeOf(verifier.safeVerify(token({}, stranger, 'RS256', { kid })))).toBe(
      'ERR_TOKEN_SIGNATURE',
    );
    expect(verifier.snapshot()).toMatchObject({ keys: 3, skippedKeys: [] });
  });

  it('has at most four keys of one kid', async () => {
    const pairs = Array.from({ length: 5 }, () =>
      generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    );
    const verifier = verifierOf(
      ['ES256'],
      pairs.map(({ publicKey }) => jwkOf(publicKey, { kid: 'a' })),
    );
    const codes = [];
    for (const { privateKey } of pairs)
      codes.push(codeOf(await verifier.authenticate(token({}, privateKey, 'ES256', { kid: 'a' }))));
    expect(codes).toEqual(['accepted', 'accepted', 'accepted', 'accepted', 'ERR_TOKEN_SIGNATURE']);
    expect(verifier.snapshot().skippedKeys).toEqual([
      { index: 4, problem: 'has the kid of four keys before it' },
    ]);
  });

  it('of RSA keys without alg serves every RSA algorithm of the verifier, and no other type', async () => {
    const verifier = verifierOf(
      ['RS256', 'PS384', 'HS256', 'ES256'],
      [jwkOf(rsa.publicKey, { kid: 'a', use: 'sig' })],
    );
    const signed = (algorithm: string, key: unknown = rsa.privateKey): string =>
      token({}, key as KeyObject, algorithm, { kid: 'a' });
    expect(codeOf(await verifier.authenticate(signed('RS256')))).toBe('accepted');
    expect(codeOf(verifier.safeVerify(signed('PS384')))).toBe('accepted');
    expect(codeOf(verifier.safeVerify(signed('RS512')))).toBe('ERR_TOKEN_ALGORITHM');
    // The public key as an HMAC secret, in the forms that an attacker knows.
    const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string;
    for (const secret of [pem, pem.trim(), JSON.stringify(jwkOf(rsa.publicKey))])
      expect(codeOf(verifier.safeVerify(signed('HS256', secret)))).toBe('ERR_TOKEN_ALGORITHM');
    // A signature of one padding is none of the other.
    const [, payload = '', signature = ''] = signed('RS256').split('.');
    const header = Buffer.from('{"alg":"PS384","kid":"a"}').toString('base64url');
    expect(codeOf(verifier.safeVerify(`${header}.${payload}.${signature}`))).toBe(
      'ERR_TOKEN_SIGNATURE',
    );
  });

  it('says of each key why it was skipped, if none is left', async () => {
    const verifier = verifierOf(
      ['ES256'],
      [
        jwkOf(ec.publicKey, { use: 'enc' }),
        jwkOf(rsa.publicKey),
        { kty: 'EC', crv: 'P-256', x: 'AQ' },
        5,
      ],
    );
    expect(await verifier.ready()).toBe(false);
    expect(verifier.snapshot().jwks?.lastError).toBe(
      "has no key that the verifier can use: key 0 is not for signatures: use must be sig; key 1 is for none of the verifier's algorithms; key 2 is not a key: a JWK needs a kty, and the members of its kty; key 3 is not a key: a JWK needs a kty, and the members of its kty",
    );
  });

  it('of more than maxKeys keys is refused, and maxKeys can be raised', async () => {
    const keys = Array.from({ length: 150 }, (_, index) =>
      jwkOf(ec.publicKey, { kid: String(index) }),
    );
    expect(await verifierOf(['ES256'], keys).ready()).toBe(false);
    const verifier = verifierOf(['ES256'], keys, { maxKeys: 150 });
    const last = token({}, ec.privateKey, 'ES256', { kid: '149' });
    expect(codeOf(await verifier.authenticate(last))).toBe('accepted');
  });
});

describe('a form that breaks RFC 7518 but has one reading', () => {
  const { n = '', e = '' } = jwkOf(rsa.publicKey);
  const bytes = (text: string): Buffer => Buffer.from(text, 'base64url');
  const { x: edX = '' } = jwkOf(ed.publicKey);
  const rows: readonly (readonly [string, TokenAlgorithm, object, KeyObject])[] = [
    [
      'a modulus with a leading zero octet',
      'RS256',
      { kty: 'RSA', n: Buffer.concat([Buffer.from([0]), bytes(n)]).toString('base64url'), e },
      rsa.privateKey,
    ],
    [
      'an exponent with a leading zero octet',
      'RS256',
      { kty: 'RSA', n, e: 'AAEAAQ' },
      rsa.privateKey,
    ],
    [
      'padded base64url',
      'RS256',
      { kty: 'RSA', n: `${n}${'='.repeat((4 - (n.length % 4)) % 4)}`, e },
      rsa.privateKey,
    ],
    ['plain base64', 'RS256', { kty: 'RSA', n: bytes(n).toString('base64'), e }, rsa.privateKey],
    [
      'plain base64 of Ed25519',
      'EdDSA',
      { kty: 'OKP', crv: 'Ed25519', x: bytes(edX).toString('base64') },
      ed.privateKey,
    ],
  ];
  it.each(rows)('is read and counted: %s', async (_name, algorithm, jwk, key) => {
    const verifier = verifierOf([algorithm], [jwk]);
    const good = token({}, key, algorithm);
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    expect(verifier.snapshot()).toMatchObject({ lenientKeys: 1, jwks: { lenient: 1 } });
    // The canonical form of the key means the same to jose, and is not counted here.
    const publicJwk = jwkOf(algorithm === 'EdDSA' ? ed.publicKey : rsa.publicKey);
    await jwtVerify(good, await importJWK(publicJwk as never, algorithm));
    const canonical = verifierOf([algorithm], [publicJwk]);
    expect(codeOf(await canonical.authenticate(good))).toBe('accepted');
    expect(canonical.snapshot().lenientKeys).toBe(0);
    // A key of the application itself has to be canonical.
    expect(() => new TokenVerifier({ algorithms: [algorithm], keys: jwk as TokenJwk })).toThrow();
  });

  it('is read and counted: a coordinate without its leading zero octets', async () => {
    let pair = ec;
    const isShort = (): boolean => bytes(jwkOf(pair.publicKey).x ?? '')[0] === 0;
    for (let tries = 0; tries < 5000 && !isShort(); tries++)
      pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(isShort()).toBe(true);
    const { x = '', ...rest } = jwkOf(pair.publicKey);
    // One key in 256 of these begins with more than one zero octet.
    const zeros = bytes(x).findIndex((octet) => octet !== 0);
    const short = bytes(x).subarray(zeros).toString('base64url');
    const verifier = verifierOf(['ES256'], [{ ...rest, x: short }]);
    const good = token({}, pair.privateKey, 'ES256');
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    expect(verifier.snapshot().jwks?.lenient).toBe(1);
    await jwtVerify(good, await importJWK(jwkOf(pair.publicKey) as never, 'ES256'));
  });

  it.each([
    ['mixed alphabets', { n: `-/${n.slice(2)}` }],
    ['padding of a wrong length', { n: `${n}=` }],
    ['white space', { n: `${n} ` }],
    ['stray bits', { e: 'AQAB'.slice(0, 3) + 'AR' }],
    ['an exponent of zeros', { e: 'AAAA' }],
    ['an exponent of one, behind zeros', { e: 'AAAB' }],
  ])('is not: %s', async (_name, changed) => {
    const verifier = verifierOf(['RS256'], [{ kty: 'RSA', n, e, ...changed }]);
    expect(await verifier.ready()).toBe(false);
    expect(verifier.snapshot().keys).toBe(0);
  });
});

describe('a key', () => {
  it('of Ed25519 serves under both names, whichever the key, the policy and the token use', async () => {
    for (const alg of ['EdDSA', 'Ed25519', undefined]) {
      for (const algorithm of ['EdDSA', 'Ed25519'] as const) {
        const keys = jwkOf(ed.publicKey, alg === undefined ? {} : { alg });
        const verifier = new TokenVerifier({ algorithms: [algorithm], keys });
        for (const named of ['EdDSA', 'Ed25519'])
          expect(
            codeOf(verifier.safeVerify(token({}, ed.privateKey, named))),
            `${alg} ${algorithm} ${named}`,
          ).toBe('accepted');
        expect(verifier.snapshot().keys).toBe(1);
      }
    }
  });

  it('in a certificate is used, as PEM, in x5c and in a map of certificates', async () => {
    for (const [pair, algorithm] of [
      [rsa, 'RS256'],
      [ec, 'ES256'],
      [ed, 'EdDSA'],
    ] as const) {
      const der = certificateOf(pair.publicKey, rsa.privateKey);
      const pem = pemOf('CERTIFICATE', der);
      // The fixture is a certificate to the host, too.
      expect(new X509Certificate(pem).publicKey.equals(pair.publicKey)).toBe(true);
      const good = token({}, pair.privateKey, algorithm, { kid: 'a' });
      const { kty } = jwkOf(pair.publicKey);
      expect(
        codeOf(new TokenVerifier({ algorithms: [algorithm], keys: { pem } }).safeVerify(good)),
      ).toBe('accepted');
      for (const set of [
        [{ kty, kid: 'a', x5c: [der.toString('base64'), 'x'] }],
        { a: pem, b: pem },
      ]) {
        const verifier = verifierOf([algorithm], set);
        expect(codeOf(await verifier.authenticate(good)), JSON.stringify(set)).toBe('accepted');
        const wrong = token({}, pair.privateKey, algorithm, { kid: 'c' });
        expect(codeOf(verifier.safeVerify(wrong))).toBe('ERR_TOKEN_KEY_UNKNOWN');
      }
    }
  });

  it('in a damaged certificate is refused', () => {
    const der = certificateOf(ec.publicKey, rsa.privateKey);
    const refused = (bytes: Uint8Array): void =>
      expect(
        () =>
          new TokenVerifier({
            algorithms: ['ES256'],
            keys: { pem: pemOf('CERTIFICATE', bytes) },
          }),
      ).toThrow();
    for (let length = 0; length < der.length; length += 7) refused(der.subarray(0, length));
    refused(Buffer.concat([der, Buffer.from([0])]));
    expect(
      () =>
        new TokenVerifier({
          algorithms: ['ES256'],
          keys: { pem: pemOf('CERTIFICATE', der).repeat(2) },
        }),
    ).toThrow(/PEM of one/);
  });

  // Keys and tokens that Node has made: Bun's crypto knows neither of these types.
  const algorithms = ['PS256', 'PS384', 'PS512', 'RS256'] as const;
  const keysOf = (rare: { readonly pem: string }): TokenVerifierOptions['keys'][] => [
    { pem: rare.pem },
    ...(isBun ? [] : [createPublicKey(rare.pem)]),
  ];

  it('of RSASSA-PSS serves its hash only', () => {
    for (const rare of [RARE.free, RARE.bound]) {
      for (const keys of keysOf(rare)) {
        const verifier = new TokenVerifier({ algorithms, keys });
        for (const good of Object.values(rare.tokens))
          expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
        expect(() => new TokenVerifier({ algorithms: ['RS256'], keys })).toThrow(/none of the/);
      }
    }
    const wrong = new TokenVerifier({ algorithms, keys: { pem: RARE.bound.pem } });
    expect(codeOf(wrong.safeVerify(RARE.free.tokens.PS256))).toBe('ERR_TOKEN_ALGORITHM');
    expect(codeOf(wrong.safeVerify(RARE.free.tokens.PS384))).toBe('ERR_TOKEN_SIGNATURE');
    for (const keys of keysOf(RARE.weak))
      expect(() => new TokenVerifier({ algorithms, keys })).toThrow(/unsupported/);
  });

  it('of secp256k1 serves ES256K, if the verifier allows it', () => {
    const { jwk, pem, tokens } = RARE.secp256k1;
    for (const keys of [...keysOf({ pem }), jwk]) {
      const verifier = new TokenVerifier({ algorithms: ['ES256K'], keys: keys! });
      expect(codeOf(verifier.safeVerify(tokens.ES256K))).toBe('accepted');
      expect(codeOf(verifier.safeVerify(token({}, ec.privateKey, 'ES256K')))).toBe(
        'ERR_TOKEN_SIGNATURE',
      );
      expect(() => new TokenVerifier({ algorithms: ['ES256'], keys: keys! })).toThrow(
        /none of the/,
      );
    }
    expect(() => new TokenVerifier({ algorithms: ['ES256K'], keys: ec.publicKey })).toThrow();
  });
});

describe('a kid that the set lacks', () => {
  it('is unknown if the keys without a kid do not fit, and is fetched', async () => {
    const verifier = verifierOf(['ES256', 'RS256'], [jwkOf(rsa.publicKey)]);
    await verifier.ready();
    answers['/jwks'] = { keys: [jwkOf(rsa.publicKey), jwkOf(other.publicKey, { kid: 'new' })] };
    clock.advance(30_000);
    const made = token({}, other.privateKey, 'RS256', { kid: 'new' });
    expect(codeOf(await verifier.authenticate(made))).toBe('accepted');
    const wrong = token({}, ec.privateKey, 'ES256', { kid: 'wrong' });
    expect(codeOf(verifier.safeVerify(wrong))).toBe('ERR_TOKEN_KEY_UNKNOWN');
    expect(verifier.snapshot().jwks?.unknownKeyFetches).toBe(1);
  });

  it('is accepted within one cooldown of its publication', async () => {
    const verifier = verifierOf(['ES256'], [jwkOf(ec.publicKey, { kid: 'old' })]);
    await verifier.ready();
    clock.advance(30_000);
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const early = token({}, pair.privateKey, 'ES256', { kid: 'new' });
    expect(codeOf(await verifier.authenticate(early))).toBe('ERR_TOKEN_KEY_UNKNOWN');
    answers['/jwks'] = { keys: [jwkOf(pair.publicKey, { kid: 'new' })] };
    expect(codeOf(await verifier.authenticate(early))).toBe('ERR_TOKEN_KEY_UNKNOWN');
    clock.advance(30_000);
    expect(codeOf(await verifier.authenticate(early))).toBe('accepted');
    expect(requests).toHaveLength(3);
  });
});

describe('fetching', () => {
  const far = { exp: 9_999_999_999 };
  /** Waits for the answer to a request: then only the timer of the next one is left. */
  const fetched = (count: number): Promise<void> =>
    until(
      () =>
        requests.length === count &&
        timers
          .snapshot()
          .timers.map(({ name }) => name)
          .join() === 'jwks',
    );

  it('stops while no token comes, and the next token waits for fresh keys', async () => {
    const verifier = verifierOf(['ES256'], [jwkOf(ec.publicKey, { kid: 'a' })]);
    const good = token(far, ec.privateKey, 'ES256', { kid: 'a' });
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    // A token came in the first ten minutes: one fetch more, and then none.
    clock.advance(600_000);
    await fetched(2);
    for (let hour = 0; hour < 20; hour++) clock.advance(3_600_000);
    expect(requests).toHaveLength(2);
    answers['/jwks'] = { keys: [jwkOf(ec.publicKey, { kid: 'b' })] };
    const results = await Promise.all([verifier.authenticate(good), verifier.authenticate(good)]);
    expect(results.map(codeOf)).toEqual(['ERR_TOKEN_KEY_UNKNOWN', 'ERR_TOKEN_KEY_UNKNOWN']);
    expect(requests).toHaveLength(3);
  });

  it('drops keys that are too old, after failures and after a time without tokens', async () => {
    const good = token(far, ec.privateKey, 'ES256', { kid: 'a' });
    const stale = { staleIfErrorMs: 100_000 };
    const verifier = verifierOf(['ES256'], [jwkOf(ec.publicKey, { kid: 'a' })], stale);
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    clock.advance(600_000);
    await fetched(2);
    answers['/jwks'] = { status: 500 };
    clock.advance(600_000 + 99_999);
    // Fetches fail, and the keys are in use.
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    await until(() => verifier.snapshot().jwks?.failures === 1);
    expect(verifier.snapshot().jwks?.fetches).toBe(3);
    clock.advance(1);
    await until(() => verifier.snapshot().jwks?.failures === 2);
    expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
    const idle = verifierOf(['ES256'], [jwkOf(ec.publicKey, { kid: 'a' })], stale);
    await idle.ready();
    clock.advance(700_000);
    expect(codeOf(idle.safeVerify(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
  });

  it('obeys Retry-After, in seconds and as a date', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000_000 });
    for (const after of ['120', new Date(1_000_120_000).toUTCString()]) {
      requests.length = 0;
      const verifier = verifierOf(['ES256'], { status: 503, headers: { 'retry-after': after } });
      const good = token({}, ec.privateKey, 'ES256');
      expect(codeOf(await verifier.authenticate(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
      answers['/jwks'] = { keys: [jwkOf(ec.publicKey)] };
      clock.advance(119_999);
      expect(codeOf(await verifier.authenticate(good))).toBe('ERR_TOKEN_KEYS_UNAVAILABLE');
      expect(requests).toHaveLength(1);
      clock.advance(1);
      expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    }
  });

  it('uses a fetch of the application', async () => {
    const asked: string[] = [];
    const verifier = verifierOf(['ES256'], [jwkOf(ec.publicKey)], {
      url: 'https://issuer.example/keys',
      fetch: (url: string, init: object) => {
        asked.push(url);
        return fetch(at('/jwks'), init);
      },
    });
    expect(await verifier.ready()).toBe(true);
    expect(asked).toEqual(['https://issuer.example/keys']);
  });

  it('allows http to any host with allowInsecure only', () => {
    const url = 'http://issuer.internal/keys';
    expect(() => new TokenVerifier({ algorithms: ['ES256'], jwks: { url } })).toThrow(
      /allowInsecure/,
    );
    new TokenVerifier({ algorithms: ['ES256'], jwks: { url, allowInsecure: true } }).close();
  });
});

describe('discovery', () => {
  const discovered = (
    metadata: object,
    issuer: TokenVerifierOptions['issuer'] = 'https://is/',
  ): TokenVerifier => {
    answers['/.well-known/openid-configuration'] = metadata;
    answers['/jwks'] = { keys: [jwkOf(ec.publicKey)] };
    const verifier = new TokenVerifier({
      algorithms: ['ES256'],
      issuer,
      jwks: { discovery: at('/.well-known/openid-configuration') },
      timers,
    });
    verifiers.push(verifier);
    return verifier;
  };

  it('finds the address of the key set', async () => {
    const verifier = discovered({ issuer: 'https://is/', jwks_uri: at('/jwks') });
    const good = token({ iss: 'https://is/' }, ec.privateKey, 'ES256');
    expect(codeOf(await verifier.authenticate(good))).toBe('accepted');
    expect(requests.map(({ url }) => url)).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });

  it.each([
    [
      'another issuer',
      { issuer: 'https://evil/', jwks_uri: 'https://a/' },
      'has metadata of another issuer',
    ],
    ['no issuer', { jwks_uri: 'https://a/' }, 'has metadata without an issuer'],
    ['no address', { issuer: 'https://is/' }, 'has metadata without a jwks_uri that is allowed'],
    [
      'an insecure address',
      { issuer: 'https://is/', jwks_uri: 'http://is/keys' },
      'has metadata without a jwks_uri that is allowed',
    ],
  ])('refuses metadata of %s', async (_name, metadata, problem) => {
    const verifier = discovered(metadata);
    expect(await verifier.ready()).toBe(false);
    expect(verifier.snapshot().jwks?.lastError).toBe(problem);
    expect(requests).toHaveLength(1);
  });

  it('needs an issuer', () => {
    const made = (): TokenVerifier =>
      new TokenVerifier({ algorithms: ['ES256'], jwks: { discovery: 'https://a/' } });
    expect(made).toThrow(expect.objectContaining({ field: 'issuer' }) as PortcullisError);
  });
});

describe('several issuers', () => {
  const one = (issuer: string, path: string, more: object = {}): object => ({
    issuer,
    jwks: { url: at(path) },
    ...more,
  });

  it('have keys and a policy each, and only the keys of the named issuer are fetched', async () => {
    answers['/a'] = { keys: [jwkOf(ec.publicKey, { kid: 'k' })] };
    answers['/b'] = { keys: [jwkOf(rsa.publicKey, { kid: 'k' })] };
    const verifier = new TokenVerifier({
      audience: 'me',
      issuers: [
        one('https://a/', '/a', { algorithms: ['ES256'] }),
        one('https://b/', '/b', { algorithms: ['RS256'], audience: 'you' }),
      ],
      timers,
    });
    verifiers.push(verifier);
    expect(verifier.isRemote).toBe(true);
    const ofA = (claims: object, key: KeyObject = ec.privateKey, algorithm = 'ES256'): string =>
      token({ iss: 'https://a/', aud: 'me', ...claims }, key, algorithm, { kid: 'k' });
    expect(codeOf(await verifier.authenticate(ofA({})))).toBe('accepted');
    expect(requests.map(({ url }) => url)).toEqual(['/a']);
    // The keys of one issuer sign nothing for the other.
    expect(codeOf(await verifier.authenticate(ofA({}, rsa.privateKey, 'RS256')))).toBe(
      'ERR_TOKEN_ALGORITHM',
    );
    expect(codeOf(await verifier.authenticate(ofA({ iss: 'https://b/', aud: 'you' })))).toBe(
      'ERR_TOKEN_ALGORITHM',
    );
    expect(
      codeOf(
        await verifier.authenticate(
          ofA({ iss: 'https://b/', aud: 'you' }, rsa.privateKey, 'RS256'),
        ),
      ),
    ).toBe('accepted');
    expect(codeOf(await verifier.authenticate(ofA({ aud: 'you' })))).toBe('ERR_TOKEN_AUDIENCE');
    const stranger = ofA({ iss: 'https://c/' });
    expect(codeOf(await verifier.authenticate(stranger))).toBe('ERR_TOKEN_ISSUER');
    expect(verifier.check(stranger)).toBe('ERR_TOKEN_ISSUER');
    expect(verifier.explain(stranger).errors).toMatchObject([
      { code: 'ERR_TOKEN_ISSUER', claim: 'iss' },
    ]);
    expect(codeOf(await verifier.authenticate(ofA({ iss: undefined })))).toBe(
      'ERR_TOKEN_CLAIM_MISSING',
    );
    expect(codeOf(await verifier.authenticate('a.b'))).toBe('ERR_TOKEN_FORMAT');
    expect((await verifier.verifyBatch([ofA({}), stranger])).map(codeOf)).toEqual([
      'accepted',
      'ERR_TOKEN_ISSUER',
    ]);
    expect(verifier.snapshot()).toMatchObject({ keys: 2, issuers: [{ keys: 1 }, { keys: 1 }] });
    verifier.notBefore('ann', Date.now() / 1000 + 10);
    expect(codeOf(verifier.safeVerify(ofA({})))).toBe('ERR_TOKEN_REVOKED');
  });

  it('verify a batch on the thread pool, in the order of the tokens', async () => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const verifier = new TokenVerifier({
      algorithms: ['ES256'],
      issuers: [
        { issuer: 'https://a/', keys: pair.publicKey },
        { issuer: 'https://b/', keys: other.publicKey },
      ],
    });
    const of = (iss: string, key: KeyObject): string => token({ iss }, key, 'ES256');
    const kinds: unknown[] = [
      of('https://a/', pair.privateKey),
      of('https://b/', other.privateKey),
      of('https://b/', pair.privateKey),
      of('https://c/', pair.privateKey),
      'a.b',
      5,
      undefined,
    ];
    const tokens = Array.from({ length: 2000 }, (_, at) => kinds[at % kinds.length]);
    let hasTurned = false;
    setImmediate(() => (hasTurned = true));
    const results = await verifier.verifyBatch(tokens);
    // The event loop turned before the results were there.
    expect(hasTurned).toBe(true);
    expect(results).toEqual(tokens.map((one) => verifier.safeVerify(one)));
  });

  it('refuse tokens that are revoked before the whole batch is judged', async () => {
    const verifier = new TokenVerifier({
      algorithms: ['ES256'],
      issuers: [
        { issuer: 'https://a/', keys: ec.publicKey },
        { issuer: 'https://b/', jwks: { url: at('/b') } },
      ],
    });
    verifiers.push(verifier);
    server.removeAllListeners('request');
    const asked = new Promise<() => void>((resolve) => {
      server.on('request', (_request, response) => {
        resolve(() => response.end(JSON.stringify({ keys: [jwkOf(ec.publicKey)] })));
      });
    });
    const of = (iss: string, jti: string): string => token({ iss, jti }, ec.privateKey, 'ES256');
    const batch = verifier.verifyBatch([
      of('https://a/', '1'),
      of('https://a/', '2'),
      of('https://b/', '3'),
    ]);
    const answer = await asked;
    // A later batch: the pool has verified the tokens of the first issuer by then.
    await verifier.verifyBatch([of('https://a/', '4')]);
    verifier.revoke({ issuer: 'https://a/', jti: '1', exp: Math.floor(Date.now() / 1000) + 9000 });
    answer();
    expect((await batch).map(codeOf)).toEqual(['ERR_TOKEN_REVOKED', 'accepted', 'accepted']);
  });

  it('refuse options that contradict each other', () => {
    const field = (options: object): unknown => {
      try {
        new TokenVerifier(options as TokenVerifierOptions).close();
      } catch (error) {
        return (error as PortcullisError).field;
      }
      return undefined;
    };
    const algorithms = ['ES256'];
    expect(field({ algorithms, issuers: [] })).toBe('issuers');
    expect(field({ algorithms, issuers: [{ jwks: { url: 'https://a/' } }] })).toBe(
      'issuers[0].issuer',
    );
    expect(field({ algorithms, issuer: 'a', issuers: [one('a', '/a')] })).toBe('issuer');
    expect(field({ algorithms, keys: ec.publicKey, issuers: [one('a', '/a')] })).toBe('keys');
    expect(field({ issuers: [one('a', '/a')] })).toBe('issuers[0].algorithms');
    expect(field({ algorithms, issuers: [one('a', '/a', { issuers: [] })] })).toBe(
      'issuers[0].issuers',
    );
  });

  it('name a wrong option where it stands, and leave no verifier open', () => {
    const wrong: readonly (readonly [object, string, string])[] = [
      [{ algorithms: ['none'] }, 'algorithms[0]', 'ERR_OUT_OF_RANGE'],
      [{ keys: ec.privateKey }, 'keys', 'ERR_INVALID_KEY'],
      [{ keys: [ec.publicKey, 5] }, 'keys[1]', 'ERR_INVALID_ARG_TYPE'],
      [{ keys: [{ secret: 'x', kit: 'a' }] }, 'keys[0].kit', 'ERR_UNKNOWN_OPTION'],
      [{ jwks: 5 }, 'jwks', 'ERR_INVALID_ARG_TYPE'],
      [{ jwks: { keys: [5] } }, 'jwks.keys', 'ERR_INVALID_KEY'],
      [{ jwks: { url: 'ftp://a/' } }, 'jwks.url', 'ERR_OUT_OF_RANGE'],
      [{ jwks: { url: 'https://a/', cooldown: 5 } }, 'jwks.cooldown', 'ERR_UNKNOWN_OPTION'],
      [{ issuer: [] }, 'issuer', 'ERR_OUT_OF_RANGE'],
      [{ issuer: ['a', 5] }, 'issuer[1]', 'ERR_INVALID_ARG_TYPE'],
      [{ audience: 5 }, 'audience', 'ERR_INVALID_ARG_TYPE'],
      [{ subject: '' }, 'subject', 'ERR_INVALID_ARG_TYPE'],
      [{ nonce: [] }, 'nonce', 'ERR_OUT_OF_RANGE'],
      [{ scope: 5 }, 'scope', 'ERR_INVALID_ARG_TYPE'],
      [{ scope: 'chat:read chat:write' }, 'scope', 'ERR_OUT_OF_RANGE'],
      [{ scope: ['a', 'b c'] }, 'scope', 'ERR_OUT_OF_RANGE'],
      [{ roles: [''] }, 'roles[0]', 'ERR_INVALID_ARG_TYPE'],
      [{ rolesPath: 'realm_access.' }, 'rolesPath', 'ERR_OUT_OF_RANGE'],
      [{ rolesPath: 5 }, 'rolesPath', 'ERR_INVALID_ARG_TYPE'],
      [{ replay: { maxEntries: 0 } }, 'replay.maxEntries', 'ERR_OUT_OF_RANGE'],
      [{ replay: { max: 1 } }, 'replay.max', 'ERR_UNKNOWN_OPTION'],
      [{ requiredClaims: [5] }, 'requiredClaims[0]', 'ERR_INVALID_ARG_TYPE'],
      [{ maxAgeSeconds: 0 }, 'maxAgeSeconds', 'ERR_OUT_OF_RANGE'],
      [{ clockToleranceSeconds: '5' }, 'clockToleranceSeconds', 'ERR_INVALID_ARG_TYPE'],
      [{ typ: 5 }, 'typ', 'ERR_INVALID_ARG_TYPE'],
      [{ allowedCritical: ['b64'] }, 'allowedCritical[0]', 'ERR_OUT_OF_RANGE'],
      [{ refuseEmbeddedKeys: 1 }, 'refuseEmbeddedKeys', 'ERR_INVALID_ARG_TYPE'],
      [{ maxTokenBytes: 1 }, 'maxTokenBytes', 'ERR_OUT_OF_RANGE'],
      [{ maxClaimsDepth: 65 }, 'maxClaimsDepth', 'ERR_OUT_OF_RANGE'],
      [{ cacheSize: -1 }, 'cacheSize', 'ERR_OUT_OF_RANGE'],
      [{ maxRevocations: -1 }, 'maxRevocations', 'ERR_OUT_OF_RANGE'],
      [{ timers: {} }, 'timers', 'ERR_INVALID_ARG_TYPE'],
      [{ algorithm: 'ES256' }, 'algorithm', 'ERR_UNKNOWN_OPTION'],
    ];
    const thrown = (options: object): unknown => {
      try {
        return new TokenVerifier(options as TokenVerifierOptions);
      } catch (error) {
        return error;
      }
    };
    const closed = vi.spyOn(TokenVerifier.prototype, 'close');
    const first = one('https://a/', '/a', { algorithms: ['ES256'], timers });
    for (const [options, field, code] of wrong) {
      closed.mockClear();
      const second = { algorithms: ['ES256'], issuer: 'https://b/', ...options };
      const keys = 'keys' in options || 'jwks' in options ? {} : { keys: ec.publicKey };
      const named = thrown({ issuers: [first, { ...second, ...keys }] });
      expect(named).toMatchObject({ code, field: `issuers[1].${field}` });
      expect((named as Error).message).toContain(`issuers[1].${field}`);
      const kind = { ERR_OUT_OF_RANGE: RangeError, ERR_INVALID_KEY: Error }[code] ?? TypeError;
      expect(named).toBeInstanceOf(kind);
      // The verifier of the first issuer was made before, unless the name of an option is wrong.
      expect(closed).toHaveBeenCalledTimes('algorithm' in options ? 0 : 1);
      if ('keys' in options || 'jwks' in options || 'issuer' in options) continue;
      // The same option beside the issuers is named by itself.
      const shared = { issuer: 'https://a/', keys: ec.publicKey };
      const algorithms = { algorithms: ['ES256'] };
      expect(thrown({ ...algorithms, issuers: [shared], ...options })).toMatchObject({
        code,
        field,
      });
    }
    closed.mockRestore();
    expect(timers.getActiveTimersCount()).toBe(0);
  });

  it('close what they have made if they cannot join their cluster', () => {
    const cluster = new Cluster({ url: 'redis://127.0.0.1:1' });
    cluster.close();
    const closed = vi.spyOn(TokenVerifier.prototype, 'close');
    const algorithms = ['ES256'] as const;
    const of = (name: string): object => one(`https://${name}/`, `/${name}`, { algorithms });
    const failed = expect.objectContaining({ code: 'ERR_CLOSED' }) as PortcullisError;
    expect(() => new TokenVerifier({ cluster, timers, issuers: [of('a'), of('b')] })).toThrow(
      failed,
    );
    // The verifier itself, and that of each issuer.
    expect(closed).toHaveBeenCalledTimes(3);
    closed.mockRestore();
    expect(() => new TokenVerifier({ cluster, timers, algorithms, keys: ec.publicKey })).toThrow(
      failed,
    );
    expect(timers.getActiveTimersCount()).toBe(0);
  });
});
