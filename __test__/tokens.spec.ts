import { createPublicKey, createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Elysia } from 'elysia';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  InputValidationError,
  PortcullisError,
  type TokenAlgorithm,
  type TokenJwk,
  type TokenResult,
  TokenVerifier,
  type TokenVerifierOptions,
  verifyJws,
} from '../dist/index.js';
import { inTurns, tasksOf } from '../dist/tokens/batch.js';
import { SECRET, encode, inAnHour, raw, signature, token } from './fixtures/sign.js';

const HS256 = { alg: 'HS256' };
const header = JSON.stringify(HS256);
const hs = (options: Partial<TokenVerifierOptions> = {}): TokenVerifier =>
  new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET }, ...options });
const codeOf = (result: TokenResult): string => (result.success ? 'accepted' : result.error.code);

function thrown(call: () => unknown): Partial<PortcullisError> {
  try {
    call();
  } catch (error) {
    if (error instanceof PortcullisError)
      return { code: error.code, field: error.field, message: error.message };
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Changes the unused last bits of a base64url text, which an encoder sets to zero. */
function withTrailingBits(part: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return part.slice(0, -1) + alphabet[alphabet.indexOf(part.at(-1) ?? '') + 1];
}

afterEach(() => vi.useRealTimers());

describe('a good token', () => {
  it('has its claims returned by every method', async () => {
    const verifier = hs();
    const good = token({ roles: ['a'] });
    const claims = { sub: 'ann', exp: expect.any(Number) as number, roles: ['a'] };
    expect(verifier.safeVerify(good)).toEqual({ success: true, claims });
    expect(verifier.verify(good)).toEqual(claims);
    expect(verifier.check(good)).toBeUndefined();
    expect(verifier.explain(good)).toEqual({ success: true, errors: [] });
    expect(await verifier.authenticate(good)).toEqual({ success: true, claims });
    expect(await verifier.verifyBatch([good])).toEqual([{ success: true, claims }]);
  });

  const pairs = {
    rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
    ed25519: generateKeyPairSync('ed25519'),
  };
  const rows: readonly (readonly [TokenAlgorithm, keyof typeof pairs])[] = [
    ['RS256', 'rsa'],
    ['RS384', 'rsa'],
    ['RS512', 'rsa'],
    ['PS256', 'rsa'],
    ['PS384', 'rsa'],
    ['PS512', 'rsa'],
    ['ES256', 'P-256'],
    ['ES384', 'P-384'],
    ['ES512', 'P-521'],
    ['EdDSA', 'ed25519'],
    ['Ed25519', 'ed25519'],
  ];
  it.each(rows)(
    'of %s is verified with its key as JWK, PEM and KeyObject, and with no other',
    (algorithm, type) => {
      const { privateKey, publicKey } = pairs[type];
      const good = token({}, privateKey, algorithm);
      const other = token(
        {},
        generateKeyPairSync(
          type === 'rsa' ? 'rsa' : (privateKey.asymmetricKeyType as 'ec'),
          keyOptions(privateKey),
        ).privateKey,
        algorithm,
      );
      const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
      for (const keys of [publicKey.export({ format: 'jwk' }) as TokenJwk, { pem }, publicKey]) {
        const verifier = new TokenVerifier({ algorithms: [algorithm], keys });
        expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
        expect(codeOf(verifier.safeVerify(other))).toBe('ERR_TOKEN_SIGNATURE');
        expect(codeOf(verifier.safeVerify(good.slice(0, -8)))).toMatch(/SIGNATURE|ENCODING/);
      }
    },
  );

  const keyOptions = (key: KeyObject): never =>
    (key.asymmetricKeyType === 'rsa'
      ? { modulusLength: 2048 }
      : { namedCurve: key.asymmetricKeyDetails?.namedCurve ?? 'P-256' }) as never;

  it.each([
    ['HS256', 32],
    ['HS384', 48],
    ['HS512', 64],
  ] as const)(
    'of %s is verified, with a secret as bytes, text and KeyObject',
    (algorithm, length) => {
      const secret = 's'.repeat(length);
      const good = token({}, secret, algorithm);
      for (const keys of [
        { secret },
        { secret: Buffer.from(secret) },
        createSecretKey(Buffer.from(secret)),
        { kty: 'oct', k: encode(secret) },
      ]) {
        expect(codeOf(new TokenVerifier({ algorithms: [algorithm], keys }).safeVerify(good))).toBe(
          'accepted',
        );
      }
    },
  );
});

// Tokens that well-known libraries accept or accepted by mistake, one per row.
describe('a token with a known trap is refused:', () => {
  const exp = inAnHour();
  const body = JSON.stringify({ sub: 'ann', exp });
  const good = raw(header, body);
  const [h = '', p = '', s = ''] = good.split('.');
  const sign = (claims: string): string => raw(header, claims);
  const deep = (levels: number): string =>
    sign(`{"exp":${exp},"a":${'['.repeat(levels)}${']'.repeat(levels)}}`);
  const bits = encode(JSON.stringify({ exp, n: 1 }).padEnd(40));
  const rows: readonly (readonly [string, string, string, Partial<TokenVerifierOptions>?])[] = [
    ['a space in the signature', `${h}.${p}.${s.slice(0, 5)} ${s.slice(5)}`, 'ERR_TOKEN_ENCODING'],
    ['a newline at the end', `${good}\n`, 'ERR_TOKEN_ENCODING'],
    ['padding', `${good}=`, 'ERR_TOKEN_ENCODING'],
    ['the standard alphabet', `${h}.${p}.${'+/'.repeat(21)}A`, 'ERR_TOKEN_ENCODING'],
    [
      'a letter of Latin beyond ASCII that ends in the same eight bits',
      good.replace(/A|B|C/, (c) => String.fromCharCode(c.charCodeAt(0) + 0x100)),
      'ERR_TOKEN_ENCODING',
    ],
    ['stray bits in the signature', `${h}.${p}.${withTrailingBits(s)}`, 'ERR_TOKEN_ENCODING'],
    [
      'stray bits in a signed payload',
      `${h}.${withTrailingBits(bits)}.${signature(`${h}.${withTrailingBits(bits)}`)}`,
      'ERR_TOKEN_ENCODING',
    ],
    ['a critical extension', raw('{"alg":"HS256","crit":["x"],"x":1}', body), 'ERR_TOKEN_CRITICAL'],
    [
      'crit with b64 false',
      raw('{"alg":"HS256","crit":["b64"],"b64":false}', body),
      'ERR_TOKEN_UNENCODED',
    ],
    ['b64 false', raw('{"alg":"HS256","b64":false}', body), 'ERR_TOKEN_UNENCODED'],
    ['an empty crit', raw('{"alg":"HS256","crit":[]}', body), 'ERR_TOKEN_CRITICAL'],
    ['crit that is no list', raw('{"alg":"HS256","crit":"exp"}', body), 'ERR_TOKEN_CRITICAL'],
    ['alg twice', raw('{"alg":"none","alg":"HS256"}', body), 'ERR_TOKEN_HEADER_DUPLICATE'],
    [
      'alg twice, once escaped',
      raw('{"alg":"HS256","\\u0061lg":"HS256"}', body),
      'ERR_TOKEN_HEADER_DUPLICATE',
    ],
    ['exp twice', sign(`{"exp":1,"exp":${exp}}`), 'ERR_TOKEN_CLAIM_DUPLICATE'],
    ['sub twice', sign(`{"sub":"a","sub":"b","exp":${exp}}`), 'ERR_TOKEN_CLAIM_DUPLICATE'],
    [
      'a private claim twice',
      sign(`{"role":"a","role":"b","exp":${exp}}`),
      'ERR_TOKEN_CLAIM_DUPLICATE',
    ],
    ['an array as payload', sign('[1]'), 'ERR_TOKEN_CLAIMS'],
    ['a string as payload', sign('"x"'), 'ERR_TOKEN_CLAIMS'],
    ['null as payload', sign('null'), 'ERR_TOKEN_CLAIMS'],
    ['a byte order mark', sign(`\ufeff${body}`), 'ERR_TOKEN_CLAIMS'],
    [
      'invalid UTF-8',
      raw(
        header,
        Buffer.concat([
          Buffer.from(`{"exp":${exp},"a":"`),
          Buffer.from([0xc3, 0x28]),
          Buffer.from('"}'),
        ]),
      ),
      'ERR_TOKEN_CLAIMS',
    ],
    ['half a surrogate pair', sign(`{"exp":${exp},"a":"\\ud800"}`), 'ERR_TOKEN_CLAIMS'],
    ['exp beyond doubles', sign('{"exp":1e400}'), 'ERR_TOKEN_CLAIMS'],
    ['a negative exp', sign('{"exp":-1}'), 'ERR_TOKEN_CLAIM_INVALID'],
    ['exp as text', sign(`{"exp":"${exp}"}`), 'ERR_TOKEN_CLAIM_INVALID'],
    ['no exp', sign('{"sub":"ann"}'), 'ERR_TOKEN_CLAIM_MISSING'],
    ['expired 30 seconds ago', sign(`{"exp":${exp - 3630}}`), 'ERR_TOKEN_EXPIRED'],
    ['nbf in the future', sign(`{"exp":${exp},"nbf":${exp - 60}}`), 'ERR_TOKEN_NOT_YET_VALID'],
    ['nbf as text', sign(`{"exp":${exp},"nbf":"0"}`), 'ERR_TOKEN_CLAIM_INVALID'],
    ['iat in the future', sign(`{"exp":${exp},"iat":${exp - 60}}`), 'ERR_TOKEN_ISSUED_IN_FUTURE'],
    ['iat as text', sign(`{"exp":${exp},"iat":"0"}`), 'ERR_TOKEN_CLAIM_INVALID'],
    ['at+jwt without the option typ', raw('{"alg":"HS256","typ":"at+jwt"}', body), 'ERR_TOKEN_TYP'],
    ['typ that is no text', raw('{"alg":"HS256","typ":1}', body), 'ERR_TOKEN_TYP'],
    ['zip', raw('{"alg":"HS256","zip":"DEF"}', body), 'ERR_TOKEN_COMPRESSED'],
    ['enc', raw('{"alg":"HS256","enc":"A128GCM"}', body), 'ERR_TOKEN_ENCRYPTED'],
    ['five parts', 'a.b.c.d.e', 'ERR_TOKEN_ENCRYPTED'],
    ['a __proto__ claim', sign(`{"exp":${exp},"__proto__":{"admin":true}}`), 'ERR_TOKEN_CLAIMS'],
    [
      'a nested, escaped __proto__',
      sign(`{"exp":${exp},"a":[{"__prot\\u006f__":1}]}`),
      'ERR_TOKEN_CLAIMS',
    ],
    ['33 levels', deep(32), 'ERR_TOKEN_CLAIMS_TOO_COMPLEX'],
    ['3,000 levels', deep(3000), 'ERR_TOKEN_CLAIMS_TOO_COMPLEX', { maxTokenBytes: 8192 }],
    [
      'aud missing',
      sign(`{"exp":${exp},"iss":"is"}`),
      'ERR_TOKEN_CLAIM_MISSING',
      { audience: 'me', issuer: 'is' },
    ],
    [
      'iss missing',
      sign(`{"exp":${exp},"aud":"me"}`),
      'ERR_TOKEN_CLAIM_MISSING',
      { audience: 'me', issuer: 'is' },
    ],
    [
      'aud a number',
      sign(`{"exp":${exp},"iss":"is","aud":5}`),
      'ERR_TOKEN_CLAIM_INVALID',
      { audience: 'me', issuer: 'is' },
    ],
    [
      'aud with a number',
      sign(`{"exp":${exp},"iss":"is","aud":["me",5]}`),
      'ERR_TOKEN_CLAIM_INVALID',
      { audience: 'me', issuer: 'is' },
    ],
    [
      'iss a number',
      sign(`{"exp":${exp},"iss":5,"aud":"me"}`),
      'ERR_TOKEN_CLAIM_INVALID',
      { audience: 'me', issuer: 'is' },
    ],
    [
      'iss an array',
      sign(`{"exp":${exp},"iss":["is"],"aud":"me"}`),
      'ERR_TOKEN_CLAIM_INVALID',
      { audience: 'me', issuer: 'is' },
    ],
    ['sub a number', sign(`{"exp":${exp},"sub":5}`), 'ERR_TOKEN_CLAIM_INVALID'],
    [
      'an aud without the option audience',
      sign(`{"exp":${exp},"aud":"others"}`),
      'ERR_TOKEN_AUDIENCE',
    ],
    ['alg none', `${encode('{"alg":"none"}')}.${p}.`, 'ERR_TOKEN_FORMAT'],
    ['alg none with a signature', raw('{"alg":"none"}', body), 'ERR_TOKEN_ALGORITHM'],
    ['alg nOnE', raw('{"alg":"nOnE"}', body), 'ERR_TOKEN_ALGORITHM'],
    ['alg in lower case', raw('{"alg":"hs256"}', body), 'ERR_TOKEN_ALGORITHM'],
    ['no alg', raw('{}', body), 'ERR_TOKEN_HEADER'],
    ['alg a number', raw('{"alg":256}', body), 'ERR_TOKEN_HEADER'],
    ['a header that is no object', raw('[]', body), 'ERR_TOKEN_HEADER'],
    ['a kid that is no text', raw('{"alg":"HS256","kid":1}', body), 'ERR_TOKEN_KID'],
    ['a kid with a line break', raw('{"alg":"HS256","kid":"a\\nb"}', body), 'ERR_TOKEN_KID'],
    [
      'a kid of 257 characters',
      raw(`{"alg":"HS256","kid":"${'k'.repeat(257)}"}`, body),
      'ERR_TOKEN_KID',
    ],
    ['no token', '', 'ERR_TOKEN_REQUIRED'],
    ['no dots', 'abc', 'ERR_TOKEN_FORMAT'],
    ['only dots', '..', 'ERR_TOKEN_FORMAT'],
    ['many dots', '.'.repeat(1000), 'ERR_TOKEN_FORMAT'],
    ['2,049 bytes', 'a'.repeat(2049), 'ERR_TOKEN_TOO_LONG'],
    ['a Bearer prefix', `Bearer ${good}`, 'ERR_TOKEN_ENCODING'],
  ];
  it.each(rows)('%s', async (_name, wrong, code, options) => {
    const verifier = hs(options);
    expect(codeOf(verifier.safeVerify(wrong))).toBe(code);
    expect(verifier.check(wrong)).toBe(code);
    expect(codeOf((await verifier.verifyBatch([wrong]))[0] as TokenResult)).toBe(code);
    expect(verifier.explain(wrong).errors.map((error) => error.code)).toContain(code);
    expect(() => verifier.verify(wrong)).toThrow(InputValidationError);
    expect(codeOf(verifier.safeVerify(good))).toBe(
      options?.issuer === undefined ? 'accepted' : 'ERR_TOKEN_CLAIM_MISSING',
    );
  });

  it('input of another type', () => {
    for (const value of [5, {}, [], true, Symbol('t'), 10n, new String(good)])
      expect(codeOf(hs().safeVerify(value))).toBe('ERR_TOKEN_TYPE');
    for (const value of [undefined, null])
      expect(codeOf(hs().safeVerify(value))).toBe('ERR_TOKEN_REQUIRED');
  });

  it('a claim named like a member of Object.prototype changes no prototype', () => {
    const result = hs().safeVerify<Record<string, unknown>>(
      sign(`{"exp":${exp},"constructor":{"prototype":{"admin":true}},"toString":1}`),
    );
    if (!result.success) throw new Error(result.error.code);
    expect(Object.getPrototypeOf(result.claims)).toBe(Object.prototype);
    expect(Object.keys(result.claims)).toEqual(['exp', 'constructor', 'toString']);
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined();
  });

  it('a public key used as an HMAC secret', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
    const jwk = publicKey.export({ format: 'jwk' }) as TokenJwk;
    const confused = token({}, pem, 'HS256');
    expect(
      codeOf(new TokenVerifier({ algorithms: ['RS256'], keys: { pem } }).safeVerify(confused)),
    ).toBe('ERR_TOKEN_ALGORITHM');
    const mixed = new TokenVerifier({
      algorithms: ['RS256', 'HS256'],
      keys: [
        { pem, kid: 'a' },
        { secret: SECRET, kid: 'b' },
      ],
    });
    expect(codeOf(mixed.safeVerify(confused))).toBe('ERR_TOKEN_SIGNATURE');
    expect(codeOf(mixed.safeVerify(token({}, pem, 'HS256', { kid: 'a' })))).toBe(
      'ERR_TOKEN_ALGORITHM',
    );
    const der = publicKey.export({ type: 'spki', format: 'der' });
    for (const secret of [
      pem,
      ` junk ${pem}`,
      `\n${pem}`,
      JSON.stringify(jwk),
      ` ${JSON.stringify({ keys: [jwk] })}`,
      der,
      der.toString('base64'),
      `ssh-rsa ${'A'.repeat(80)}`,
    ]) {
      expect(thrown(() => hs({ keys: { secret } }))).toMatchObject({
        code: 'ERR_INVALID_KEY',
        field: 'keys',
      });
    }
    expect(thrown(() => hs({ keys: { pem } }))).toMatchObject({ code: 'ERR_INVALID_KEY' });
  });

  it('an embedded key is never used, and can be refused', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const ours = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = publicKey.export({ format: 'jwk' });
    const forged = token({}, privateKey, 'ES256', { jwk });
    const keys = ours.publicKey;
    expect(codeOf(new TokenVerifier({ algorithms: ['ES256'], keys }).safeVerify(forged))).toBe(
      'ERR_TOKEN_SIGNATURE',
    );
    const strict = new TokenVerifier({ algorithms: ['ES256'], keys, refuseEmbeddedKeys: true });
    for (const name of ['jwk', 'jku', 'x5u', 'x5c']) {
      expect(codeOf(strict.safeVerify(token({}, ours.privateKey, 'ES256', { [name]: jwk })))).toBe(
        'ERR_TOKEN_EMBEDDED_KEY',
      );
    }
  });

  it('signatures of zeros, and of a wrong length', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const verifier = new TokenVerifier({ algorithms: ['ES256'], keys: publicKey });
    const signed = `${encode('{"alg":"ES256"}')}.${p}`;
    for (const length of [1, 63, 64, 65, 72, 128])
      expect(codeOf(verifier.safeVerify(`${signed}.${encode(Buffer.alloc(length))}`))).toBe(
        'ERR_TOKEN_SIGNATURE',
      );
  });
});

describe('keys', () => {
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = p256.publicKey.export({ format: 'jwk' }) as TokenJwk;
  const refused = (
    keys: TokenVerifierOptions['keys'],
    algorithms: readonly TokenAlgorithm[] = ['ES256', 'HS256'],
  ): Partial<PortcullisError> => thrown(() => new TokenVerifier({ algorithms, keys }));

  it('that are weak or contradict themselves are refused by the constructor', () => {
    const wrong = (keys: TokenVerifierOptions['keys'], words: string): void =>
      expect(refused(keys)).toMatchObject({
        code: 'ERR_INVALID_KEY',
        field: 'keys',
        message: expect.stringContaining(words) as string,
      });
    wrong({ secret: '' }, 'shorter than its hash');
    wrong({ secret: 'x'.repeat(31) }, 'shorter than its hash');
    wrong({ ...jwk, alg: 'ES384' }, 'kty and crv must be those of the algorithm');
    wrong({ ...jwk, alg: 'HS256' }, 'kty and crv must be those of the algorithm');
    wrong({ ...jwk, use: 'enc' }, 'use must be sig');
    wrong({ ...jwk, key_ops: ['sign'] }, 'must name verify');
    wrong({ ...jwk, key_ops: ['verify', 'verify'] }, 'disagree');
    wrong({ ...jwk, use: 'sig', key_ops: ['verify', 'encrypt'] }, 'disagree');
    wrong({ ...jwk, crv: 'P-384' }, 'wrong length');
    wrong({ ...jwk, crv: 'secp256k1' }, "none of the verifier's algorithms");
    wrong({ ...jwk, y: jwk.x }, 'not a point');
    wrong({ ...jwk, x: `${jwk.x}=` }, 'wrong length or encoding');
    wrong({ pem: 'nonsense' }, 'not PEM');
    wrong({ pem: p256.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }, 'private');
    wrong(p256.privateKey, 'private');
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    for (const keys of [small, { pem: small.export({ type: 'pkcs1', format: 'pem' }) as string }]) {
      expect(refused(keys, ['RS256'])).toMatchObject({
        code: 'ERR_INVALID_KEY',
        message: expect.stringContaining('2048') as string,
      });
    }
    expect(refused([jwk, { secret: 'short' }])).toMatchObject({ field: 'keys[1]' });
  });

  it('may be bare text or bytes if the algorithms decide their type', () => {
    const pem = p256.publicKey.export({ type: 'spki', format: 'pem' }) as string;
    for (const keys of [pem, Buffer.from(pem), [pem]]) {
      expect(
        codeOf(
          new TokenVerifier({ algorithms: ['ES256'], keys }).safeVerify(
            token({}, p256.privateKey, 'ES256'),
          ),
        ),
      ).toBe('accepted');
    }
    for (const keys of [SECRET, Buffer.from(SECRET), new Uint8Array(Buffer.from(SECRET))])
      expect(codeOf(hs({ keys }).safeVerify(token()))).toBe('accepted');
    // The text of a key is refused as a secret, and a secret as the text of a key.
    for (const secret of [pem, `\n\t${pem}`, JSON.stringify(jwk)])
      expect(refused(secret, ['HS256'])).toMatchObject({ code: 'ERR_INVALID_KEY' });
    expect(refused(SECRET, ['ES256'])).toMatchObject({ code: 'ERR_INVALID_KEY' });
    expect(refused(pem, ['ES256', 'HS256'])).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });

  it('serve the algorithms of their type', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
    expect(
      () =>
        new TokenVerifier({ algorithms: ['RS256', 'PS256'], keys: { pem, algorithm: 'PS256' } }),
    ).not.toThrow();
    expect(refused({ secret: SECRET.repeat(2) }, ['HS256', 'HS512'])).toMatchObject({
      code: 'ERR_INVALID_KEY',
      message: expect.stringContaining('set its algorithm') as string,
    });
    expect(refused({ pem }, ['ES256'])).toMatchObject({
      message: expect.stringContaining("none of the verifier's algorithms") as string,
    });
    const both = new TokenVerifier({
      algorithms: ['EdDSA', 'Ed25519'],
      keys: generateKeyPairSync('ed25519').publicKey,
    });
    expect(both.snapshot().keys).toBe(1);
  });

  it('are found by their id, and tried one by one only if an id is missing', () => {
    const secrets = ['a', 'b', 'c'].map((letter) => letter.repeat(32));
    const [a = '', b = '', c = ''] = secrets;
    const named = hs({
      keys: [
        { secret: a, kid: 'a' },
        { secret: b, kid: 'b' },
      ],
    });
    expect(codeOf(named.safeVerify(token({}, b, 'HS256', { kid: 'b' })))).toBe('accepted');
    expect(codeOf(named.safeVerify(token({}, b, 'HS256', { kid: 'a' })))).toBe(
      'ERR_TOKEN_SIGNATURE',
    );
    expect(codeOf(named.safeVerify(token({}, b, 'HS256', { kid: 'c' })))).toBe(
      'ERR_TOKEN_KEY_UNKNOWN',
    );
    expect(codeOf(named.safeVerify(token({}, b)))).toBe('accepted');
    const rotating = hs({ keys: secrets.map((secret) => ({ secret })) });
    for (const secret of secrets)
      expect(codeOf(rotating.safeVerify(token({}, secret, 'HS256', { kid: 'unknown here' })))).toBe(
        'accepted',
      );
    const many = hs({
      keys: Array.from({ length: 5 }, (_, at) => ({
        secret: String(at).repeat(32),
        kid: String(at),
      })),
    });
    expect(codeOf(many.safeVerify(token({}, '4'.repeat(32))))).toBe('ERR_TOKEN_KEY_AMBIGUOUS');
    const shared = hs({
      keys: [
        { secret: a, kid: 'a' },
        { secret: c, kid: 'a' },
      ],
    });
    expect(codeOf(shared.safeVerify(token({}, c, 'HS256', { kid: 'a' })))).toBe('accepted');
    expect(codeOf(shared.safeVerify(token({}, b, 'HS256', { kid: 'a' })))).toBe(
      'ERR_TOKEN_SIGNATURE',
    );
    expect(
      thrown(() =>
        hs({
          keys: Array.from({ length: 5 }, (_, at) => ({
            secret: String(at).repeat(32),
            kid: 'a',
          })),
        }),
      ),
    ).toMatchObject({ code: 'ERR_INVALID_KEY', field: 'keys[4]' });
  });

  it('of a set that cannot be used are skipped, and an unusable set says why of each', async () => {
    const set = (...keys: TokenJwk[]): TokenVerifier =>
      new TokenVerifier({ algorithms: ['ES256'], jwks: { keys } });
    const mixed = set(
      { kty: 'OKP', crv: 'X25519', x: 'AA' },
      { ...jwk, kid: 'sig' },
      { ...jwk, kid: 'enc', use: 'enc' },
    );
    expect(mixed.snapshot()).toMatchObject({ keys: 1, skippedKeys: [{ index: 0 }, { index: 2 }] });
    expect(codeOf(mixed.safeVerify(token({}, p256.privateKey, 'ES256', { kid: 'sig' })))).toBe(
      'accepted',
    );
    const good = token({}, p256.privateKey, 'ES256', { kid: 'good' });
    const broken: readonly (readonly [unknown, string])[] = [
      [{ ...jwk, alg: 'HS256' }, 'does not fit its alg'],
      [{ ...jwk, y: jwk.x }, 'not a point'],
      [{ ...jwk, x: undefined }, 'not a key'],
      [{ ...jwk, use: 'sig', key_ops: ['verify', 'encrypt'] }, 'contradicts itself'],
      [{ ...jwk, kid: 5 }, 'not a key'],
      [{ ...jwk, kid: '' }, 'kid that is not'],
      [{ kty: 'RSA', n: 'AQ', e: 'AQAB' }, "none of the verifier's algorithms"],
      [null, 'not a key'],
    ];
    for (const [key, words] of broken) {
      const keys = [key, { ...jwk, kid: 'good' }] as TokenJwk[];
      const verifier = set(...keys);
      expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
      const problem = expect.stringContaining(words) as string;
      expect(verifier.snapshot()).toMatchObject({ keys: 1, skippedKeys: [{ index: 0, problem }] });
      // A broken key of a set is no matter to jose either, which takes objects only.
      if (key !== null)
        await jwtVerify(good, createLocalJWKSet({ keys } as unknown as JSONWebKeySet));
      expect(thrown(() => set(key as TokenJwk))).toMatchObject({
        code: 'ERR_INVALID_KEY',
        field: 'jwks.keys',
        message: expect.stringMatching(/^jwks\.keys has no key that the verifier can use: key 0 /),
      });
    }
    const all = thrown(() => set(...(broken.map(([key]) => key) as TokenJwk[]))).message;
    for (const [at, [, words]] of broken.entries())
      expect(all).toMatch(new RegExp(`key ${at} [^;]*${words}`));
    expect(thrown(() => set())).toMatchObject({ code: 'ERR_INVALID_KEY', field: 'jwks.keys' });
    expect(
      thrown(() => set(...Array.from({ length: 1001 }, (_, at) => ({ ...jwk, kid: String(at) }))))
        .message,
    ).toContain('too large');
  });

  it('are replaced all at once, and a refused replacement changes nothing', () => {
    const verifier = hs();
    const good = token();
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    expect(
      thrown(() => verifier.setKeys([{ secret: 'x'.repeat(32) }, { secret: 'short' }])).field,
    ).toBe('keys[1]');
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    verifier.setKeys({ secret: 'x'.repeat(32) });
    expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_SIGNATURE');
    expect(codeOf(verifier.safeVerify(token({}, 'x'.repeat(32))))).toBe('accepted');
  });
});

describe('policy', () => {
  it('accepts tokens that meet every option', () => {
    const verifier = hs({
      issuer: ['i1', 'i2'],
      audience: ['a1', 'a2'],
      subject: 'ann',
      requiredClaims: ['jti', 'scope', 'scope', 'jti'],
      typ: 'at+jwt',
      maxAgeSeconds: 60,
    });
    const iat = inAnHour() - 3600;
    const claims = { iss: 'i2', aud: ['x', 'a1'], jti: '1', scope: 's', iat };
    const made = (changed: object, typ: unknown = 'AT+jwt'): string =>
      token({ ...claims, ...changed }, SECRET, 'HS256', { typ });
    expect(codeOf(verifier.safeVerify(made({})))).toBe('accepted');
    expect(codeOf(verifier.safeVerify(made({}, 'application/at+jwt')))).toBe('accepted');
    const cases: readonly (readonly [object, string, string | undefined])[] = [
      [{ iss: 'i3' }, 'ERR_TOKEN_ISSUER', 'iss'],
      [{ iss: undefined }, 'ERR_TOKEN_CLAIM_MISSING', 'iss'],
      [{ aud: 'a3' }, 'ERR_TOKEN_AUDIENCE', 'aud'],
      [{ aud: [] }, 'ERR_TOKEN_AUDIENCE', 'aud'],
      [{ sub: 'bob' }, 'ERR_TOKEN_SUBJECT', 'sub'],
      [{ jti: undefined }, 'ERR_TOKEN_CLAIM_MISSING', 'jti'],
      [{ scope: undefined }, 'ERR_TOKEN_CLAIM_MISSING', 'scope'],
      [{ iat: iat - 70 }, 'ERR_TOKEN_TOO_OLD', 'iat'],
      [{ iat: undefined }, 'ERR_TOKEN_CLAIM_MISSING', 'iat'],
    ];
    for (const [changed, code, claim] of cases) {
      const result = verifier.safeVerify(made(changed));
      expect(result).toMatchObject({
        success: false,
        error: { code, claim, field: 'token', reason: expect.any(String) as string },
      });
    }
    expect(codeOf(verifier.safeVerify(made({}, 'JWT')))).toBe('ERR_TOKEN_TYP');
    expect(codeOf(hs({ audience: null, typ: null }).safeVerify(made({})))).toBe('accepted');
  });

  it('counts seconds exactly, with and without tolerance', () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const at = (
      seconds: number,
      options: Partial<TokenVerifierOptions>,
      claims: object,
    ): string => {
      vi.setSystemTime(seconds * 1000);
      return codeOf(
        hs({ clockToleranceSeconds: 0, ...options }).safeVerify(token({ exp: 2000, ...claims })),
      );
    };
    expect(at(1999.999, {}, {})).toBe('accepted');
    expect(at(2000, {}, {})).toBe('ERR_TOKEN_EXPIRED');
    expect(at(2004.9, { clockToleranceSeconds: undefined }, {})).toBe('accepted');
    expect(at(2005, { clockToleranceSeconds: undefined }, {})).toBe('ERR_TOKEN_EXPIRED');
    expect(at(2009.9, { clockToleranceSeconds: 10 }, {})).toBe('accepted');
    expect(at(2010, { clockToleranceSeconds: 10 }, {})).toBe('ERR_TOKEN_EXPIRED');
    expect(at(1000, {}, { nbf: 1000 })).toBe('accepted');
    expect(at(999.9, {}, { nbf: 1000 })).toBe('ERR_TOKEN_NOT_YET_VALID');
    expect(at(990, { clockToleranceSeconds: 10 }, { nbf: 1000, iat: 1000 })).toBe('accepted');
    expect(at(989.9, { clockToleranceSeconds: 10 }, { iat: 1000 })).toBe(
      'ERR_TOKEN_ISSUED_IN_FUTURE',
    );
    expect(at(1060, { maxAgeSeconds: 60 }, { iat: 1000 })).toBe('accepted');
    expect(at(1060.1, { maxAgeSeconds: 60 }, { iat: 1000 })).toBe('ERR_TOKEN_TOO_OLD');
    expect(at(1000, {}, { iat: 999.5, exp: 1000.5 })).toBe('accepted');
  });

  it('accepts critical extensions that the options allow', () => {
    const verifier = hs({ allowedCritical: ['x'] });
    const code = (head: object): string =>
      codeOf(verifier.safeVerify(token({}, SECRET, 'HS256', head)));
    expect(code({ crit: ['x'], x: 1 })).toBe('accepted');
    expect(code({ crit: ['x'] })).toBe('ERR_TOKEN_CRITICAL');
    expect(code({ crit: ['x', 'x'], x: 1 })).toBe('ERR_TOKEN_CRITICAL');
    expect(code({ crit: ['x', 'y'], x: 1, y: 1 })).toBe('ERR_TOKEN_CRITICAL');
    expect(thrown(() => hs({ allowedCritical: ['b64'] }))).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'allowedCritical[0]',
    });
  });

  it('explains a key that does not fit, also beside a signature that cannot be read', () => {
    const verifier = new TokenVerifier({
      algorithms: ['HS256', 'ES256'],
      keys: [
        { secret: SECRET, algorithm: 'HS256', kid: 'h' },
        {
          ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
          kid: 'e',
        } as TokenJwk,
      ],
    });
    for (const [kid, code] of [
      ['e', 'ERR_TOKEN_ALGORITHM'],
      ['x', 'ERR_TOKEN_KEY_UNKNOWN'],
    ] as const) {
      const wrong = `${token({}, SECRET, 'HS256', { kid })}=`;
      expect(verifier.check(wrong)).toBe(code);
      expect(verifier.explain(wrong).errors.map((error) => error.code)).toEqual([
        code,
        'ERR_TOKEN_ENCODING',
      ]);
    }
  });

  it('explains every failing check', () => {
    const wrong = raw(
      '{"alg":"HS256","typ":"x","crit":["y"]}',
      JSON.stringify({ exp: 1, nbf: inAnHour(), iss: 'no' }),
      'another secret of enough length!!',
    );
    const { success, errors } = hs({ issuer: 'is', audience: 'me' }).explain(wrong);
    expect(success).toBe(false);
    expect(
      errors.map(({ code, claim }) => (claim === undefined ? code : `${code} ${claim}`)),
    ).toEqual([
      'ERR_TOKEN_CRITICAL',
      'ERR_TOKEN_TYP',
      'ERR_TOKEN_SIGNATURE',
      'ERR_TOKEN_CLAIM_MISSING aud',
      'ERR_TOKEN_ISSUER iss',
      'ERR_TOKEN_EXPIRED exp',
      'ERR_TOKEN_NOT_YET_VALID nbf',
    ]);
    expect(
      hs()
        .explain(5)
        .errors.map(({ code }) => code),
    ).toEqual(['ERR_TOKEN_TYPE']);
  });
});

describe('revocation', () => {
  const HOUR_MS = 3_600_000;
  /** Makes both clocks fake: `setSystemTime` steps the wall clock alone, `advanceTimersByTime` passes time. */
  const fakeClocks = (now: number) =>
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now });

  it('revokes one token until it expires', () => {
    fakeClocks(1_000_000);
    const verifier = hs({ issuer: ['i', 'j'], clockToleranceSeconds: 0 });
    const made = (iss: string, jti: string): string => token({ iss, jti, exp: 2000 });
    verifier.revoke({ issuer: 'i', jti: '1', exp: 2000 });
    expect(codeOf(verifier.safeVerify(made('i', '1')))).toBe('ERR_TOKEN_REVOKED');
    expect(codeOf(verifier.safeVerify(made('j', '1')))).toBe('accepted');
    expect(codeOf(verifier.safeVerify(made('i', '2')))).toBe('accepted');
    expect(verifier.explain(made('i', '1')).errors.map(({ code }) => code)).toEqual([
      'ERR_TOKEN_REVOKED',
    ]);
    expect(verifier.snapshot().revocations).toBe(1);
    vi.advanceTimersByTime(HOUR_MS);
    expect(verifier.snapshot().revocations).toBe(0);
  });

  it('stays while the wall clock is ahead for a moment, and is taken then', () => {
    fakeClocks(1e12);
    const exp = 1e9 + 600;
    const verifier = hs({ maxRevocations: 2 });
    const codes = (): string[] =>
      ['a', 'b'].map((jti) => codeOf(verifier.safeVerify(token({ jti, exp }))));
    vi.advanceTimersByTime(2 * HOUR_MS);
    vi.setSystemTime(1e12);
    verifier.revoke({ jti: 'a', exp });
    vi.setSystemTime(1e12 + HOUR_MS);
    verifier.revoke({ jti: 'b', exp });
    expect(verifier.snapshot().revocations).toBe(2);
    // Nor does one make room.
    expect(thrown(() => verifier.revoke({ jti: 'c', exp: exp + 7200 }))).toMatchObject({
      code: 'ERR_TOO_MANY_REVOCATIONS',
    });
    vi.setSystemTime(1e12);
    expect(codes()).toEqual(['ERR_TOKEN_REVOKED', 'ERR_TOKEN_REVOKED']);
  });

  it('is taken where the wall clock is ahead from the start', () => {
    fakeClocks(1e12 + HOUR_MS);
    const verifier = hs();
    const exp = 1e9 + 600;
    verifier.revoke({ jti: 'a', exp });
    verifier.notBefore('bob', 1e9, exp);
    verifier.snapshot();
    vi.setSystemTime(1e12);
    expect(codeOf(verifier.safeVerify(token({ jti: 'a', exp })))).toBe('ERR_TOKEN_REVOKED');
    expect(codeOf(verifier.safeVerify(token({ sub: 'bob', exp })))).toBe('ERR_TOKEN_REVOKED');
  });

  it('makes room on a full list when it has expired', () => {
    fakeClocks(1e12);
    const verifier = hs({ maxRevocations: 1 });
    verifier.revoke({ jti: 'a', exp: 1e9 + 60 });
    vi.advanceTimersByTime(66_000);
    verifier.revoke({ jti: 'b', exp: 1e9 + 600 });
    expect(codeOf(verifier.safeVerify(token({ jti: 'b', exp: 1e9 + 600 })))).toBe(
      'ERR_TOKEN_REVOKED',
    );
  });

  it('revokes the tokens that a subject got before a time, cached results and batches included', async () => {
    const now = Math.floor(Date.now() / 1000);
    const verifier = hs({ cacheSize: 10 });
    const [old, young, undated] = [token({ iat: now - 10 }), token({ iat: now - 1 }), token({})];
    expect([old, young, undated].map((one) => codeOf(verifier.safeVerify(one)))).toEqual([
      'accepted',
      'accepted',
      'accepted',
    ]);
    verifier.notBefore('ann', now - 5);
    const after = ['ERR_TOKEN_REVOKED', 'accepted', 'ERR_TOKEN_REVOKED'];
    expect([old, young, undated].map((one) => codeOf(verifier.safeVerify(one)))).toEqual(after);
    expect((await verifier.verifyBatch([old, young, undated])).map(codeOf)).toEqual(after);
  });

  it('is limited, and throws when it is full', () => {
    const verifier = hs({ maxRevocations: 1 });
    verifier.revoke({ jti: '1', exp: inAnHour() });
    expect(thrown(() => verifier.revoke({ jti: '2', exp: inAnHour() }))).toMatchObject({
      code: 'ERR_TOO_MANY_REVOCATIONS',
    });
    expect(codeOf(verifier.safeVerify(token({ jti: '1' })))).toBe('ERR_TOKEN_REVOKED');
    verifier.revoke({ jti: 'long expired', exp: 1 });
  });

  it('drops the entry of a subject when its tokens have expired', () => {
    fakeClocks(1_000_000 - HOUR_MS);
    const verifier = hs({ maxAgeSeconds: 100, clockToleranceSeconds: 0 });
    vi.advanceTimersByTime(HOUR_MS);
    verifier.notBefore('ann', 1000);
    verifier.notBefore('bob', 1000, 1010);
    expect(verifier.snapshot().revocations).toBe(2);
    vi.advanceTimersByTime(10_000);
    expect(verifier.snapshot().revocations).toBe(1);
    vi.advanceTimersByTime(90_000);
    expect(verifier.snapshot().revocations).toBe(0);
  });
});

describe('the cache', () => {
  it('returns the same frozen claims to all callers, and never expired ones', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const verifier = hs({ cacheSize: 4, clockToleranceSeconds: 0 });
    const made = token({ exp: 1100, roles: ['reader'], deep: { list: [1] } });
    const first = verifier.safeVerify<{ roles: string[]; deep: { list: number[] } }>(made);
    if (!first.success) throw new Error(first.error.code);
    expect(verifier.safeVerify(Buffer.from(made).toString())).toBe(first);
    expect(() => first.claims.roles.push('admin')).toThrow(TypeError);
    expect(() => first.claims.deep.list.push(2)).toThrow(TypeError);
    expect(verifier.check(made)).toBeUndefined();
    vi.setSystemTime(1_100_000);
    expect(codeOf(verifier.safeVerify(made))).toBe('ERR_TOKEN_EXPIRED');
    expect(verifier.check(made)).toBe('ERR_TOKEN_EXPIRED');
  });

  it('obeys maxAgeSeconds, and a clock that is set back', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const verifier = hs({ cacheSize: 4, maxAgeSeconds: 10, clockToleranceSeconds: 0 });
    const made = token({ exp: 9999, iat: 1000, nbf: 1000 });
    expect(codeOf(verifier.safeVerify(made))).toBe('accepted');
    vi.setSystemTime(990_000);
    expect(codeOf(verifier.safeVerify(made))).toBe('ERR_TOKEN_NOT_YET_VALID');
    vi.setSystemTime(1_010_001);
    expect(codeOf(verifier.safeVerify(made))).toBe('ERR_TOKEN_TOO_OLD');
  });

  it('confuses no other token with a cached one, and is cleared with the keys', () => {
    const verifier = hs({ cacheSize: 4 });
    const made = token();
    verifier.safeVerify(made);
    const [head = '', , sign = ''] = made.split('.');
    expect(
      codeOf(
        verifier.safeVerify(
          `${head}.${encode(JSON.stringify({ exp: inAnHour(), admin: true }))}.${sign}`,
        ),
      ),
    ).toBe('ERR_TOKEN_SIGNATURE');
    expect(verifier.snapshot().cached).toBe(1);
    verifier.setKeys({ secret: 'x'.repeat(32) });
    expect(codeOf(verifier.safeVerify(made))).toBe('ERR_TOKEN_SIGNATURE');
    expect(verifier.snapshot().cached).toBe(0);
  });

  it('holds at most cacheSize results', () => {
    for (const cacheSize of [1, 2, 5, 10]) {
      const verifier = hs({ cacheSize });
      let maxCached = 0;
      for (let at = 0; at < 50; at++) {
        const made = token({ jti: String(at) });
        expect(verifier.safeVerify(made)).toBe(verifier.safeVerify(made));
        maxCached = Math.max(maxCached, verifier.snapshot().cached);
      }
      expect(maxCached).toBeLessThanOrEqual(cacheSize);
    }
  });
});

describe('a batch', () => {
  it('has the results of single calls, in order', async () => {
    const verifier = hs();
    const tokens: unknown[] = Array.from({ length: 300 }, (_, at) =>
      at % 3 === 0 ? token({ at }) : at % 3 === 1 ? `${token({ at })}x` : at,
    );
    tokens.push(undefined, '', 'ü'.repeat(10), token({ text: 'grüße 💥' }), 'a'.repeat(100_000));
    const results = await verifier.verifyBatch(tokens);
    expect(results).toEqual(tokens.map((one) => verifier.safeVerify(one)));
    expect(await verifier.verifyBatch([])).toEqual([]);
    const sparse: unknown[] = [];
    sparse[2] = token();
    expect((await verifier.verifyBatch(sparse)).map(({ success }) => success)).toEqual([
      false,
      false,
      true,
    ]);
    await expect(verifier.verifyBatch('x' as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
    });
    await expect(verifier.verifyBatch(Array.from({ length: 16_385 }))).rejects.toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
    });
  });

  it('is divided evenly, and no part has more text than 2^24 characters', () => {
    const tokens = Array.from({ length: 1000 }, (_, at) => `token ${at}`);
    const parts = tasksOf(tokens, 64);
    expect(parts.flat()).toEqual(tokens);
    const most = Math.max(
      64,
      Math.ceil(1000 / Math.min(4, Math.max(1, availableParallelism() - 1))),
    );
    expect(parts.length).toBe(Math.ceil(1000 / most));
    expect(Math.max(...parts.map((part) => part.length))).toBe(most);
    const long = 'a'.repeat(65_536);
    const large = [5, ...Array.from({ length: 1200 }, () => long), undefined];
    expect(tasksOf(large, 65_536).flat()).toEqual(large);
    for (const part of tasksOf(large, 65_536))
      expect(part.filter((one) => one === long).length).toBeLessThanOrEqual(256);
    // The text holds one character beyond the limit of a token, and no more.
    expect(
      tasksOf(
        Array.from({ length: 64 }, () => 'a'.repeat(2 ** 20)),
        64,
      ),
    ).toHaveLength(1);
  });

  it('has no more parts under way than the pool has threads for', async () => {
    let running = 0;
    let most = 0;
    const results = await inTurns([5, 1, 3, 2, 4, 1, 0, 2, 6, 1], async (turns) => {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < turns; turn++)
        await new Promise((resolve) => setImmediate(resolve));
      running--;
      return turns * 2;
    });
    expect(results).toEqual([10, 2, 6, 4, 8, 2, 0, 4, 12, 2]);
    expect(most).toBe(Math.min(4, Math.max(1, availableParallelism() - 1)));
  });

  it('may hold more text than a string of the engine', async () => {
    const verifier = hs({ maxTokenBytes: 65_536 });
    const long = 'a'.repeat(65_536);
    const tokens: string[] = Array.from({ length: 8200 }, () => long);
    tokens[8199] = token();
    const results = await verifier.verifyBatch(tokens);
    expect([results.length, codeOf(results[0]!), codeOf(results[8199]!)]).toEqual([
      8200,
      'ERR_TOKEN_FORMAT',
      'accepted',
    ]);
  });

  it('refuses tokens that are revoked while it runs', async () => {
    for (const revoke of [
      (verifier: TokenVerifier) => verifier.revoke({ jti: 'one', exp: inAnHour() }),
      (verifier: TokenVerifier) => verifier.notBefore('ann', inAnHour()),
    ]) {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const verifier = new TokenVerifier({ algorithms: ['ES256'], keys: publicKey });
      const good = token({ jti: 'one' }, privateKey, 'ES256');
      const batch = verifier.verifyBatch(Array.from({ length: 500 }, () => good));
      // A shorter batch on another thread of the pool: some tokens of the first one are verified by then.
      await new TokenVerifier({ algorithms: ['ES256'], keys: publicKey }).verifyBatch([good]);
      revoke(verifier);
      expect([...new Set((await batch).map(codeOf))]).toEqual(['ERR_TOKEN_REVOKED']);
    }
  });

  it('survives the termination of its worker', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const script = `const { parentPort, workerData } = require('node:worker_threads');
      import(workerData.url).then(({ TokenVerifier }) => {
        const verifier = new TokenVerifier({ algorithms: ['RS256'], keys: { pem: workerData.pem } });
        const tokens = Array.from({ length: 2000 }, () => workerData.token);
        verifier.verifyBatch(tokens).then(() => verifier.verifyBatch(tokens));
        verifier.verifyBatch(tokens);
        parentPort.postMessage('under way');
      });`;
    const workerData = {
      url: new URL('../dist/index.js', import.meta.url).href,
      pem: publicKey.export({ type: 'spki', format: 'pem' }),
      token: token({}, privateKey, 'RS256'),
    };
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(script, { eval: true, workerData });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await worker.terminate();
    }
    expect(codeOf(hs().safeVerify(token()))).toBe('accepted');
  });
});

describe('errors', () => {
  it('have problem details and a challenge, and hold no text of token or key', () => {
    const secret = 'a secret that must never be shown, ever';
    const made = token({ sub: 'somebody-private' }, 'another secret that is long enough!');
    const error = (() => {
      try {
        hs({ keys: { secret } }).verify(made);
      } catch (caught) {
        return caught as InputValidationError;
      }
      throw new Error('was accepted');
    })();
    expect(error).toMatchObject({
      name: 'InputValidationError',
      code: 'ERR_TOKEN_SIGNATURE',
      status: 401,
      message: 'Token signature is not valid',
    });
    expect(error.toWwwAuthenticate()).toBe(
      'Bearer error="invalid_token", error_description="Token signature is not valid"',
    );
    expect(error.toProblem()).toMatchObject({
      status: 401,
      code: 'ERR_TOKEN_SIGNATURE',
      field: 'token',
    });
    const told = JSON.stringify([
      error.failure,
      error.toProblem(),
      error.message,
      hs().explain(made),
    ]);
    for (const part of [...made.split('.'), 'somebody-private', secret])
      expect(told).not.toContain(part);
    for (const keys of [
      [secret, 5],
      { secret, kid: 7 },
      { secret: 'too short' },
      { pem: secret },
      { kty: secret, k: secret },
      { kty: 'oct', k: 10n },
      { secret: [secret] },
    ]) {
      const shown = thrown(() => new TokenVerifier({ algorithms: ['HS256'], keys: keys as never }));
      expect(JSON.stringify(shown)).not.toMatch(/secret that|too short"/);
    }
    expect(Object.isFrozen(hs().safeVerify('x'))).toBe(true);
  });

  it('name the wrong option', () => {
    const wrong = (options: object): Partial<PortcullisError> =>
      thrown(
        () =>
          new TokenVerifier({
            algorithms: ['HS256'],
            keys: { secret: SECRET },
            ...options,
          } as TokenVerifierOptions),
      );
    expect(wrong({ algorithms: [] })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'algorithms',
    });
    expect(wrong({ algorithms: ['none'] })).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'algorithms[0]',
    });
    expect(wrong({ algorithm: 'HS256' })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: expect.stringContaining('did you mean algorithms?') as string,
    });
    expect(wrong({ jwks: { keys: [] } })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'keys',
    });
    expect(wrong({ keys: undefined })).toMatchObject({ field: 'keys' });
    expect(wrong({ keys: [] })).toMatchObject({ field: 'keys' });
    expect(wrong({ algorithms: ['HS256', 'RS256'], keys: SECRET })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'keys',
    });
    expect(wrong({ keys: 5 })).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE', field: 'keys' });
    expect(wrong({ keys: [{}] })).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE', field: 'keys[0]' });
    expect(wrong({ issuer: [] })).toMatchObject({ code: 'ERR_OUT_OF_RANGE', field: 'issuer' });
    expect(wrong({ issuer: 5 })).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE', field: 'issuer' });
    expect(wrong({ clockToleranceSeconds: -1 })).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'clockToleranceSeconds',
    });
    expect(wrong({ clockToleranceSeconds: Number.NaN })).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
    });
    expect(wrong({ maxAgeSeconds: 0 })).toMatchObject({ field: 'maxAgeSeconds' });
    expect(
      wrong({ requiredClaims: Array.from({ length: 33 }, (_, at) => `c${at}`) }),
    ).toMatchObject({ field: 'requiredClaims' });
    expect(wrong({ maxTokenBytes: 65_537 })).toMatchObject({ field: 'maxTokenBytes' });
    expect(wrong({ timers: {} })).toMatchObject({ field: 'timers' });
    for (const exp of [Number.NaN, -1, Infinity, '5'])
      expect(thrown(() => hs().revoke({ jti: 'x', exp: exp as number })).field).toBe('exp');
  });
});

describe('verifyJws', () => {
  it('returns any payload', () => {
    const bytes = Buffer.from([0, 255, 1, 254]);
    const jws = raw('{"alg":"HS256"}', bytes);
    expect(Buffer.from(verifyJws(jws, { secret: SECRET }, { algorithms: ['HS256'] }))).toEqual(
      bytes,
    );
    expect(
      verifyJws(raw('{"alg":"HS256"}', ''), { secret: SECRET }, { algorithms: ['HS256'] }),
    ).toHaveLength(0);
    const refused = (compact: unknown, key: never = { secret: SECRET } as never): unknown => {
      try {
        return verifyJws(compact as string, key, { algorithms: ['HS256'] });
      } catch (error) {
        return (error as InputValidationError).code;
      }
    };
    expect(refused(`${jws}A`)).toMatch(/SIGNATURE|ENCODING/);
    expect(refused(undefined)).toBe('ERR_TOKEN_REQUIRED');
    expect(refused(5)).toBe('ERR_TOKEN_TYPE');
    expect(refused(jws, SECRET as never)).toEqual(bytes);
    expect(refused(jws, { secret: 'short' } as never)).toBe('ERR_INVALID_KEY');
  });

  const vectors = new URL('../../shared/vectors/', import.meta.url);
  const isThere = existsSync(vectors);
  if (!isThere)
    console.log(
      'skipped: the vectors of the JOSE cookbook and RFC 7515 are not beside the project',
    );

  it.skipIf(!isThere)('agrees with the examples of RFC 7515, appendix A, and RFC 8037', () => {
    const { vectors: rows } = JSON.parse(
      readFileSync(new URL('rfc7515/appendix_a.json', vectors), 'utf8'),
    ) as {
      vectors: { id: string; alg: string; jwk?: TokenJwk; jws: string; result: string }[];
    };
    expect(rows.length).toBeGreaterThan(4);
    for (const { id, alg, jwk, jws, result } of rows) {
      const verdict = (): string => {
        try {
          verifyJws(jws, jwk ?? { secret: SECRET }, { algorithms: [alg as TokenAlgorithm] });
          return 'valid';
        } catch {
          return 'refused';
        }
      };
      expect([id, verdict()]).toEqual([id, alg === 'none' ? 'refused' : result]);
    }
  });

  it.skipIf(!isThere)('agrees with the JOSE cookbook, and refuses changed examples', () => {
    const read = (
      path: string,
    ): { input: { payload: string; key: TokenJwk; alg: string }; output: { compact?: string } } =>
      JSON.parse(readFileSync(new URL(`jose-cookbook/${path}`, vectors), 'utf8')) as never;
    const files = [
      ...readdirSync(new URL('jose-cookbook/jws', vectors)).map((name) => `jws/${name}`),
      'curve25519/jws.json',
    ];
    let verified = 0;
    for (const file of files) {
      const { input, output } = read(file);
      if (output.compact === undefined || output.compact.includes('..') || Array.isArray(input.key))
        continue;
      const algorithm = input.alg as TokenAlgorithm;
      const payload = Buffer.from(
        verifyJws(output.compact, input.key, { algorithms: [algorithm] }),
      ).toString();
      expect([file, payload]).toEqual([file, input.payload]);
      const [head, body = '', sign] = output.compact.split('.');
      expect(() =>
        verifyJws(`${head}.${body.slice(1)}A.${sign}`, input.key, { algorithms: [algorithm] }),
      ).toThrow();
      verified++;
    }
    expect(verified).toBeGreaterThanOrEqual(5);
    const jwe = JSON.parse(
      readFileSync(
        new URL('jose-cookbook/jwe/5_6.direct_encryption_using_aes-gcm.json', vectors),
        'utf8',
      ),
    ) as {
      output: { compact: string };
    };
    expect(() =>
      verifyJws(jwe.output.compact, { secret: SECRET }, { algorithms: ['HS256'] }),
    ).toThrow('encrypted');
  });
});

it('tokens that pass here pass jose, too', async () => {
  const verifier = hs({ issuer: 'is', audience: 'me', clockToleranceSeconds: 5, typ: null });
  // A linear congruential generator: the same numbers in every run.
  let state = 42;
  const pick = <T>(from: readonly T[]): T =>
    from[(state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32) % from.length] as T;
  const now = Math.floor(Date.now() / 1000);
  const headers = [
    '{"alg":"HS256"}',
    '{"alg":"HS256","typ":"JWT"}',
    '{"alg":"HS256","kid":"k","cty":"x"}',
    '{"alg":"HS256","crit":["x"],"x":1}',
    '{"alg":"HS384"}',
    '{"alg":"HS256","b64":true}',
  ];
  const values: Record<string, readonly unknown[]> = {
    iss: ['is', 'is', 'is', 'no', ['is'], 5, undefined],
    aud: ['me', 'me', ['me'], ['x', 'me'], 'no', [], 5, undefined],
    exp: [now + 60, now + 60, now + 60, now - 60, '60', undefined],
    nbf: [now - 60, now - 60, now + 60, undefined, undefined, 'x'],
    iat: [now - 60, now - 60, now + 60, undefined],
    sub: ['ann', 5, undefined],
  };
  let accepted = 0;
  for (let round = 0; round < 1000; round++) {
    const made = raw(
      pick(headers),
      JSON.stringify(
        Object.fromEntries(Object.entries(values).map(([name, list]) => [name, pick(list)])),
      ),
    );
    if (!verifier.safeVerify(made).success) continue;
    accepted++;
    await jwtVerify(made, Buffer.from(SECRET), {
      algorithms: ['HS256'],
      issuer: 'is',
      audience: 'me',
      clockTolerance: 5,
    });
  }
  expect(accepted).toBeGreaterThan(20);
});

it('a verifier is a Standard Schema for Elysia', async () => {
  const verifier = hs();
  expect(verifier['~standard']).toMatchObject({ version: 1, vendor: 'portcullis' });
  const app = new Elysia().get('/', ({ query }) => (query as unknown as { sub: string }).sub, {
    query: throughToken(verifier),
  });
  const asked = async (value: string): Promise<[number, string]> => {
    const response = await app.handle(new Request(`http://localhost/?token=${value}`));
    return [response.status, await response.text()];
  };
  expect(await asked(token())).toEqual([200, 'ann']);
  const [status, body] = await asked(token({ exp: 1 }));
  expect(status).toBe(422);
  expect(body).toContain('Token has expired');
});

/** Returns the schema of a verifier, applied to the member `token`. */
function throughToken(verifier: TokenVerifier): never {
  const schema = verifier['~standard'];
  return {
    '~standard': {
      ...schema,
      validate: (value: { token?: unknown }) => schema.validate(value.token),
    },
  } as never;
}

it('a KeyObject made from a JWK is a key', () => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const again = createPublicKey({ key: publicKey.export({ format: 'jwk' }), format: 'jwk' });
  expect(() => new TokenVerifier({ algorithms: ['ES256'], keys: again })).not.toThrow();
});
