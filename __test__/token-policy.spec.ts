import { afterEach, describe, expect, it, vi } from 'vitest';
import { type TokenResult, TokenVerifier, type TokenVerifierOptions } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';
import { encode, inAnHour, raw, SECRET, token } from './fixtures/sign.js';

const hs = (options: Partial<TokenVerifierOptions> = {}): TokenVerifier =>
  new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET }, ...options });
const codeOf = (result: TokenResult): string => (result.success ? 'accepted' : result.error.code);
const code = (options: Partial<TokenVerifierOptions>, claims: object, head: object = {}): string =>
  codeOf(hs(options).safeVerify(token(claims, SECRET, 'HS256', head)));

afterEach(() => vi.useRealTimers());

it('refuses rights that no token can have, in a verifier and in a guard', () => {
  for (const [rights, field] of [
    [{ scope: 'chat:read chat:write' }, 'scope'],
    [{ roles: 'a', rolesPath: '' }, 'rolesPath'],
    [{ roles: 'a', rolesPath: 'realm_access.' }, 'rolesPath'],
    [{ roles: 'a', rolesPath: '\ud800' }, 'rolesPath'],
    [{ roles: 'a', rolesPath: [] }, 'rolesPath'],
  ] as const) {
    expect(() => hs(rights)).toThrow(expect.objectContaining({ field }));
    expect(() => portcullis({ limits: {}, auth: { verifier: hs(), ...rights } })).toThrow(
      expect.objectContaining({ field: `auth.${field}` }),
    );
  }
});

describe('matchers', () => {
  it('are texts, expressions of the whole value, and functions', async () => {
    const tenant = '9188040d-6c67-4c5b-b112-36a304b66dad';
    const entra = `https://login.microsoftonline.com/{tenantid}/v2.0`;
    const rows: readonly (readonly [object, object, string])[] = [
      [{ subject: ['ann', 'bob'] }, { sub: 'bob' }, 'accepted'],
      [{ subject: ['ann', 'bob'] }, { sub: 'eve' }, 'ERR_TOKEN_SUBJECT'],
      [{ subject: /user-\d+/ }, { sub: 'user-5' }, 'accepted'],
      [{ subject: /user-\d+/gy }, { sub: 'user-5' }, 'accepted'],
      [{ subject: /user-\d+/m }, { sub: 'user-5\nx' }, 'ERR_TOKEN_SUBJECT'],
      [{ subject: /user-\d+/ }, { sub: 'xuser-5' }, 'ERR_TOKEN_SUBJECT'],
      [{ subject: /a|b/ }, { sub: 'ab' }, 'ERR_TOKEN_SUBJECT'],
      [{ subject: /.*/ }, { sub: undefined }, 'ERR_TOKEN_CLAIM_MISSING'],
      [{ issuer: (iss: string) => iss.endsWith('/') }, { iss: 'https://a/' }, 'accepted'],
      [{ issuer: () => 1 }, { iss: 'https://a/' }, 'ERR_TOKEN_ISSUER'],
      [
        {
          issuer: () => {
            throw new Error('x');
          },
        },
        { iss: 'https://a/' },
        'ERR_TOKEN_ISSUER',
      ],
      // Its rejection would end the process.
      [{ issuer: () => Promise.reject(new Error('x')) }, { iss: 'https://a/' }, 'ERR_TOKEN_ISSUER'],
      [{ issuer: entra }, { iss: entra.replace('{tenantid}', tenant), tid: tenant }, 'accepted'],
      [{ issuer: entra }, { iss: entra.replace('{tenantid}', tenant) }, 'ERR_TOKEN_ISSUER'],
      [
        { issuer: entra },
        { iss: entra.replace('{tenantid}', 'evil'), tid: 'evil' },
        'ERR_TOKEN_ISSUER',
      ],
      [
        { issuer: entra },
        { iss: entra.replace('{tenantid}', tenant), tid: tenant.replace('9', '8') },
        'ERR_TOKEN_ISSUER',
      ],
      [{ audience: [/api:.*/, 'me'] }, { aud: ['x', 'api:1'] }, 'accepted'],
      [{ audience: [/api:.*/, 'me'] }, { aud: 'me' }, 'accepted'],
      [{ audience: [/api:.*/, 'me'] }, { aud: ['x'] }, 'ERR_TOKEN_AUDIENCE'],
      [{ audience: /api:.*/ }, { aud: 5 }, 'ERR_TOKEN_CLAIM_INVALID'],
      [{ nonce: 'n1' }, { nonce: 'n1' }, 'accepted'],
      [{ nonce: 'n1' }, { nonce: 'n2' }, 'ERR_TOKEN_NONCE'],
      [{ nonce: 'n1' }, { nonce: 5 }, 'ERR_TOKEN_NONCE'],
      [{ nonce: 'n1' }, {}, 'ERR_TOKEN_CLAIM_MISSING'],
    ];
    for (const [options, claims, expected] of rows) {
      const verifier = hs(options as TokenVerifierOptions);
      const made = token(claims);
      const label = JSON.stringify([claims, expected]);
      expect(codeOf(verifier.safeVerify(made)), label).toBe(expected);
      // Twice: an expression with the flag `g` has a state.
      expect(verifier.check(made) ?? 'accepted', label).toBe(expected);
      expect(codeOf((await verifier.verifyBatch([made]))[0]!), label).toBe(expected);
      expect(verifier.explain(made).errors.map((error) => error.code)).toEqual(
        expected === 'accepted' ? [] : expect.arrayContaining([expected]),
      );
    }
  });
});

describe('rights', () => {
  it('are scopes in scope or scp, and roles at a path; a token without them gets 403', () => {
    const scoped = { scope: ['chat:read', 'chat:write'] };
    expect(code(scoped, { scope: 'a chat:write chat:read' })).toBe('accepted');
    expect(code(scoped, { scp: ['chat:write', 'chat:read'] })).toBe('accepted');
    expect(code(scoped, { scp: 'chat:write chat:read' })).toBe('accepted');
    expect(code(scoped, { scope: 'chat:write chat:readx' })).toBe('ERR_TOKEN_SCOPE');
    expect(code(scoped, {})).toBe('ERR_TOKEN_SCOPE');
    const roles = { roles: ['admin', 'editor'], rolesPath: 'realm_access.roles' };
    expect(code(roles, { realm_access: { roles: ['x', 'editor'] } })).toBe('accepted');
    expect(code(roles, { realm_access: { roles: 'admin' } })).toBe('accepted');
    expect(code(roles, { realm_access: { roles: ['x'] } })).toBe('ERR_TOKEN_ROLE');
    expect(code(roles, { roles: ['admin'] })).toBe('ERR_TOKEN_ROLE');
    expect(
      code(
        { roles: 'admin', rolesPath: ['https://a.b/roles'] },
        { 'https://a.b/roles': ['admin'] },
      ),
    ).toBe('accepted');
    expect(code({ roles: 'x', rolesPath: 'constructor.name' }, {})).toBe('ERR_TOKEN_ROLE');
    const refused = hs({ scope: 'a' }).safeVerify(token());
    if (refused.success) throw new Error('accepted');
    expect(refused.error.status).toBe(403);
    expect(refused.error.toWwwAuthenticate()).toContain('insufficient_scope');
  });
});

describe('replay', () => {
  it('accepts each token once, over all methods, until it expires', async () => {
    const verifier = hs({ replay: { maxEntries: 2 } });
    const made = (jti: string): string => token({ jti, exp: inAnHour() });
    const a = made('a');
    expect(verifier.explain(a).success).toBe(true);
    expect(codeOf(verifier.safeVerify(a))).toBe('accepted');
    expect(verifier.check(a)).toBe('ERR_TOKEN_REPLAYED');
    expect(codeOf(await verifier.authenticate(a))).toBe('ERR_TOKEN_REPLAYED');
    const b = made('b');
    expect((await verifier.verifyBatch([b, b])).map(codeOf)).toEqual([
      'accepted',
      'ERR_TOKEN_REPLAYED',
    ]);
    expect(codeOf(verifier.safeVerify(made('c')))).toBe('ERR_TOKEN_REPLAY_FULL');
    expect(verifier.snapshot().usedTokens).toBe(2);
    expect(code({ replay: { maxEntries: 1 } }, {})).toBe('ERR_TOKEN_CLAIM_MISSING');
    expect(() => hs({ replay: { maxEntries: 1 }, cacheSize: 1 })).toThrow(/cacheSize/);
  });

  it('forgets expired tokens', () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: 1_000_000 });
    const verifier = hs({ replay: { maxEntries: 1 }, clockToleranceSeconds: 0 });
    expect(codeOf(verifier.safeVerify(token({ jti: 'a', exp: 1010 })))).toBe('accepted');
    const next = token({ jti: 'b', exp: 2000 });
    expect(codeOf(verifier.safeVerify(next))).toBe('ERR_TOKEN_REPLAY_FULL');
    vi.advanceTimersByTime(10_000);
    expect(codeOf(verifier.safeVerify(next))).toBe('accepted');
  });

  it('forgets no used token while the wall clock is ahead for a moment', () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: 1e12 });
    const verifier = hs({ replay: { maxEntries: 1 }, clockToleranceSeconds: 0 });
    const use = (jti: string, exp: number): string =>
      codeOf(verifier.safeVerify(token({ jti, exp: 1e9 + exp })));
    expect(use('a', 10)).toBe('accepted');
    vi.setSystemTime(1e12 + 3_600_000);
    expect(use('b', 7200)).toBe('ERR_TOKEN_REPLAY_FULL');
    vi.setSystemTime(1e12);
    expect(use('a', 10)).toBe('ERR_TOKEN_REPLAYED');
    // The step back does not put off the next purge.
    vi.advanceTimersByTime(10_000);
    expect(use('b', 7200)).toBe('accepted');
  });

  it('keeps issuers apart', () => {
    const verifier = hs({ replay: { maxEntries: 9 } });
    for (const [iss, jti] of [
      ['a', 'bc'],
      ['ab', 'c'],
      [undefined, 'abc'],
    ])
      expect(codeOf(verifier.safeVerify(token({ iss, jti })))).toBe('accepted');
  });
});

describe('forms', () => {
  it('typ may be of a list that has undefined', () => {
    const typ = ['at+jwt', undefined];
    expect(code({ typ }, {}, { typ: 'at+jwt' })).toBe('accepted');
    expect(code({ typ }, {}, { typ: undefined })).toBe('accepted');
    expect(code({ typ }, {}, { typ: 'JWT' })).toBe('ERR_TOKEN_TYP');
    expect(code({ typ: ['at+jwt'] }, {}, { typ: undefined })).toBe('ERR_TOKEN_TYP');
  });

  it('a member is refused twice at every depth, and a date beyond 2^53 saturates', () => {
    const signed = (claims: string): string =>
      codeOf(hs().safeVerify(raw('{"alg":"HS256"}', claims)));
    expect(signed(`{"exp":${inAnHour()},"a":[{"b":{"c":1,"\\u0063":2}}]}`)).toBe(
      'ERR_TOKEN_CLAIM_DUPLICATE',
    );
    expect(signed(`{"exp":${inAnHour()},"a":[{"b":1},{"b":2}]}`)).toBe('accepted');
    expect(signed('{"exp":1e300}')).toBe('accepted');
    expect(signed('{"exp":99999999999999999999}')).toBe('accepted');
    expect(signed(`{"exp":1e300,"nbf":1e300}`)).toBe('ERR_TOKEN_NOT_YET_VALID');
    expect(signed('{"exp":1e400}')).toBe('ERR_TOKEN_CLAIMS');
  });

  it('tokens of up to 64 KiB are verified, if the option says so', () => {
    const long = token({ groups: Array.from({ length: 1500 }, (_, at) => `group ${at} of many`) });
    expect(long.length).toBeGreaterThan(32_768);
    expect(codeOf(hs().safeVerify(long))).toBe('ERR_TOKEN_TOO_LONG');
    expect(codeOf(hs({ maxTokenBytes: 65_536 }).safeVerify(long))).toBe('accepted');
  });

  it('clocks may differ by five seconds', () => {
    const now = Math.floor(Date.now() / 1000);
    expect(code({}, { exp: now - 3 })).toBe('accepted');
    expect(code({}, { exp: now - 6 })).toBe('ERR_TOKEN_EXPIRED');
    expect(code({}, { nbf: now + 4, iat: now + 4 })).toBe('accepted');
    expect(code({}, { iat: now + 8 })).toBe('ERR_TOKEN_ISSUED_IN_FUTURE');
    expect(code({ clockToleranceSeconds: 0 }, { exp: now - 1 })).toBe('ERR_TOKEN_EXPIRED');
  });
});

it('a clock that shows no number accepts nobody, cached or not', async () => {
  for (const cacheSize of [0, 10]) {
    const verifier = hs({ cacheSize });
    const good = token();
    expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
    const now = vi.spyOn(Date, 'now').mockReturnValue(Number.NaN);
    try {
      expect(codeOf(verifier.safeVerify(good))).toBe('ERR_TOKEN_EXPIRED');
      expect(verifier.check(good)).toBe('ERR_TOKEN_EXPIRED');
      expect(codeOf(await verifier.authenticate(good))).toBe('ERR_TOKEN_EXPIRED');
      expect((await verifier.verifyBatch([good])).map(codeOf)).toEqual(['ERR_TOKEN_EXPIRED']);
      expect(verifier.explain(good).success).toBe(false);
    } finally {
      now.mockRestore();
    }
  }
});

it('changed tokens are refused whichever rules there are', () => {
  const verifier = hs({ issuer: /.*/, audience: /.*/, subject: /.*/, scope: 'a' });
  const good = token({ iss: 'i', aud: 'a', scope: 'a' });
  expect(codeOf(verifier.safeVerify(good))).toBe('accepted');
  const [head = '', , sign = ''] = good.split('.');
  const forged = encode(
    JSON.stringify({ sub: 'eve', exp: inAnHour(), iss: 'i', aud: 'a', scope: 'a' }),
  );
  expect(codeOf(verifier.safeVerify(`${head}.${forged}.${sign}`))).toBe('ERR_TOKEN_SIGNATURE');
});
