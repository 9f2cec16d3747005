import { describe, expect, it, vi } from 'vitest';
import { Guard } from '../dist/guard/guard.js';
import { wsSockets } from '../dist/adapters/ws-sockets.js';
import { TokenVerifier } from '../dist/index.js';
import { VerifiedToken } from '../dist/tokens/verified-token.js';
import { FakeSocket } from '../dist/testing.js';
import { randomOf } from '../load/interval.mjs';
import { raw, SECRET } from './fixtures/sign.js';

const exp = Math.floor(Date.now() / 1000) + 600;
const options = { algorithms: ['HS256'], keys: { secret: SECRET } } as const;
const HEADER = '{"alg":"HS256"}';
const tokenOf = (claims: string): string => raw(HEADER, claims);

describe('a token whose claims are not parsed', () => {
  const verifier = new TokenVerifier(options);

  it.each([
    ['as it is', '{"sub":"ann","exp":EXP}'],
    ['behind other claims', '{"jti":"sub","exp":EXP,"sub":"ann"}'],
    ['with escapes', '{"sub":"\\u0061nn","exp":EXP}'],
    ['behind an escaped name', '{"\\u0073ub":"ann","exp":EXP}'],
    ['behind other characters than ASCII', '{"name":"Zoë","sub":"ann","exp":EXP}'],
    ['of other characters than ASCII', '{"sub":"Zoë 😀","exp":EXP}'],
    ['before other characters than ASCII', '{"sub":"ann","name":"Zoë","exp":EXP}'],
    ['with blanks around it', ' { "exp" : EXP , "sub" : "ann" } '],
    ['empty', '{"sub":"","exp":EXP}'],
    ['absent', '{"exp":EXP}'],
  ])('has the user of one whose claims are: %s', (_, text) => {
    const token = tokenOf(text.replace('EXP', String(exp)));
    const result = verifier.safeVerify(token);
    const lazy = verifier.verifyLazily(token);
    if (!result.success || !(lazy instanceof VerifiedToken)) throw new Error('refused');
    expect([lazy.user, lazy.claims]).toEqual([result.claims.sub ?? '', result.claims]);
    expect(lazy.deadlineMs).toBe(verifier.deadlineOf(result.claims));
    expect(lazy.claims).toBe(lazy.claims);
  });

  it('agrees with safeVerify for a thousand random tokens, good and bad', () => {
    const next = randomOf(20261130);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
    const letters = ['a', 'é', '"', '\\', '/', '\u0000', '😀', ' ', 'sub', ','];
    const text = (): string =>
      Array.from({ length: Math.floor(next() * 5) }, () => pick(letters)).join('');
    for (let round = 0; round < 1000; round++) {
      const claims: Record<string, unknown> = {};
      for (const name of ['jti', 'name', 'sub', 'iss', 'x'].toSorted(() => next() - 0.5))
        if (next() < 0.7) claims[name] = name === 'x' && next() < 0.3 ? 7 : text();
      if (next() < 0.9) claims['exp'] = exp - (next() < 0.1 ? 10_000 : 0);
      let written = JSON.stringify(claims);
      if (next() < 0.3) written = written.replaceAll('a', '\\u0061').replaceAll('/', '\\/');
      const held = new VerifiedToken('', written);
      for (const value of Object.values(claims))
        if (typeof value === 'string') expect(held.mayHold(JSON.stringify(value))).toBe(true);
      const token = tokenOf(written);
      const result = verifier.safeVerify(token);
      const lazy = verifier.verifyLazily(token);
      if (lazy instanceof VerifiedToken)
        expect([true, lazy.user, lazy.claims]).toEqual([
          result.success,
          claims['sub'] ?? '',
          claims,
        ]);
      else expect(result).toEqual({ success: false, error: lazy });
    }
  });

  it('is not taken for the token of a user whose short name is part of other claims', () => {
    const held = new VerifiedToken('70', '{"sub":"70","roles":["admin 7"],"iat":1717,"exp":1777}');
    expect([held.mayHold('"7"'), held.mayHold('"admin"'), held.mayHold('"70"')]).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('is no way past a subclass that checks more', () => {
    class Stricter extends TokenVerifier {
      override safeVerify(token: unknown): never {
        const result = super.safeVerify(token);
        return (
          result.success
            ? new TokenVerifier({ ...options, issuer: 'other' }).safeVerify(token)
            : result
        ) as never;
      }
    }
    const guard = new Guard<unknown>(
      'test',
      { limits: {}, auth: new Stricter(options) } as never,
      wsSockets,
    );
    const token = tokenOf(`{"sub":"ann","exp":${exp}}`);
    const admission = guard.admit(
      '192.0.2.1',
      (name) => (name === 'authorization' ? `Bearer ${token}` : ''),
      '/',
    );
    expect(admission.denial?.code).toBe('ERR_TOKEN_CLAIM_MISSING');
    guard.close();
  });
});

describe('a revocation ends the socket of a token', () => {
  it.each([
    ['as it is', '{"sub":"ann","jti":"t/1","exp":EXP}'],
    ['with an escaped id', '{"sub":"ann","jti":"t\\/1","exp":EXP}'],
    ['with an escaped letter', '{"sub":"ann","jti":"\\u0074/1","exp":EXP}'],
  ])('whose claims are not parsed: %s', async (_, text) => {
    const verifier = new TokenVerifier(options);
    const guard = new Guard<unknown>('test', { limits: {}, auth: verifier } as never, wsSockets);
    const open = (claims: string): FakeSocket => {
      const bearer = `Bearer ${tokenOf(claims.replace('EXP', String(exp)))}`;
      const socket = new FakeSocket();
      guard
        .admit('192.0.2.1', (name) => (name === 'authorization' ? bearer : ''), '/')
        .open(undefined, socket);
      return socket;
    };
    const revoked = open(text);
    const other = open('{"sub":"ann","jti":"t/2","exp":EXP}');
    verifier.revoke({ jti: 't/1', exp });
    await expect.poll(() => revoked.closed[0]?.code).toBe(1008);
    expect(other.closed).toEqual([]);
    guard.close();
  });
});

describe('a token that is revoked between its handshake and its opening', () => {
  it.each([
    ['one issuer', options],
    [
      'several issuers',
      {
        issuers: [
          { ...options, issuer: 'a' },
          { ...options, issuer: 'b' },
        ],
      },
    ],
  ])('ends its socket: %s', async (_, given) => {
    const verifier = new TokenVerifier(given as never);
    const guard = new Guard<unknown>('test', { limits: {}, auth: verifier } as never, wsSockets);
    const admitted = (id: string): { open(): FakeSocket } => {
      const bearer = `Bearer ${tokenOf(`{"iss":"a","sub":"ann","jti":"${id}","exp":${exp}}`)}`;
      const header = (name: string): string => (name === 'authorization' ? bearer : '');
      const admission = guard.admit('192.0.2.1', header, '/');
      const socket = new FakeSocket();
      return { open: () => (admission.open(undefined, socket), socket) };
    };
    const [first, second] = [admitted('1'), admitted('2')];
    verifier.revoke({ issuer: 'a', jti: '1', exp });
    const [revoked, other] = [first.open(), second.open()];
    const later = admitted('3').open();
    await expect.poll(() => revoked.closed[0]?.code).toBe(1008);
    expect([other.closed, later.closed]).toEqual([[], []]);
    guard.close();
  });
});

it('a replaced safeVerify judges handshakes, too', () => {
  const { safeVerify } = TokenVerifier.prototype;
  const verifier = new TokenVerifier(options);
  const guard = new Guard<unknown>('test', { limits: {}, auth: verifier } as never, wsSockets);
  const seen: unknown[] = [];
  TokenVerifier.prototype.safeVerify = function (token) {
    seen.push(token);
    return safeVerify.call(this, token) as never;
  };
  try {
    const token = tokenOf(`{"sub":"ann","exp":${exp}}`);
    const header = (name: string): string => (name === 'authorization' ? `Bearer ${token}` : '');
    expect([guard.admit('192.0.2.1', header, '/').userId, seen]).toEqual(['ann', [token]]);
  } finally {
    TokenVerifier.prototype.safeVerify = safeVerify;
    guard.close();
  }
});

it('a function that verifies another token does not lengthen the life of a cached one', () => {
  const long = tokenOf(`{"sub":"bob","exp":${exp}}`);
  const short = tokenOf(`{"sub":"ann","exp":${exp - 300}}`);
  let inner: TokenVerifier | undefined;
  const verifier = new TokenVerifier({
    ...options,
    cacheSize: 10,
    clockToleranceSeconds: 0,
    subject: (subject) => {
      if (subject === 'ann') inner?.safeVerify(long);
      return true;
    },
  });
  inner = verifier;
  expect(verifier.safeVerify(short).success).toBe(true);
  vi.useFakeTimers({ toFake: ['Date'], now: (exp - 200) * 1000 });
  try {
    expect(verifier.safeVerify(short)).toMatchObject({ error: { code: 'ERR_TOKEN_EXPIRED' } });
  } finally {
    vi.useRealTimers();
  }
});
