import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Guard } from '../dist/guard/guard.js';
import { wsSockets } from '../dist/adapters/ws-sockets.js';
import {
  type ManagedConnection,
  TimerManager,
  type TokenAuth,
  TokenVerifier,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { SECRET, token } from './fixtures/sign.js';

const START = 1_000_000;
let clock: ManualClock;
let timers: TimerManager;
let verifier: TokenVerifier;
const guards: Guard<unknown>[] = [];

/** Passes time on both clocks, step by step. */
function pass(steps: number, stepMs = 1000): void {
  for (let at = 0; at < steps; at++) {
    vi.setSystemTime(Date.now() + stepMs);
    clock.advance(stepMs);
  }
}
const now = (): number => Date.now() / 1000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: START });
  clock = new ManualClock();
  timers = new TimerManager({ clock });
  verifier = new TokenVerifier({
    algorithms: ['HS256'],
    keys: { secret: SECRET },
    clockToleranceSeconds: 0,
  });
});
afterEach(() => {
  for (const guard of guards.splice(0)) guard.close();
  // Closed sockets have a timer until their peers answer.
  expect(tokenTimers()).toBe(0);
  timers.close();
  vi.useRealTimers();
});

function guardOf(auth: Partial<TokenAuth> = {}, limits: object = {}): Guard<unknown> {
  const guard = new Guard<unknown>(
    'test',
    {
      limits: { connectionTimeoutMs: Infinity, ...limits },
      timers,
      auth: { verifier, ...auth },
    } as never,
    wsSockets,
  );
  guards.push(guard);
  return guard;
}
const tokenTimers = (): number =>
  timers.snapshot().timers.filter(({ name }) => name?.startsWith('token') === true).length;
let ids = 0;
function open(
  guard: Guard<unknown>,
  claims: object,
): { socket: FakeSocket; connection: ManagedConnection } {
  const header = (name: string): string =>
    name === 'authorization' ? `Bearer ${token(claims)}` : '';
  const admission = guard.admit('192.0.2.1', header, '/');
  const socket = new FakeSocket();
  const connection = admission.open(String(ids++), socket);
  if (connection === undefined) throw new Error('refused');
  return { socket, connection };
}

describe('a socket', () => {
  it('is closed, and its seat is free, if its token cannot be watched', () => {
    const strict = new TimerManager({ clock, strict: true });
    const guard = new Guard<unknown>(
      'test',
      { limits: { connectionTimeoutMs: Infinity }, timers: strict, auth: verifier } as never,
      wsSockets,
    );
    const header = (name: string): string => (name === 'authorization' ? `Bearer ${token()}` : '');
    const admission = guard.admit('192.0.2.1', header, '/');
    strict.close();
    const socket = new FakeSocket();
    expect(admission.open('a', socket)).toBeUndefined();
    expect([socket.closed, guard.manager.snapshot().totalConnections]).toEqual([
      [{ code: 1011, reason: admission.denial?.reason }],
      0,
    ]);
    admission.socketGone();
    expect(guard.manager.snapshot().closing).toBe(0);
    guard.close();
  });

  it('has the frozen claims of its token', () => {
    const { connection } = open(guardOf(), { exp: now() + 60, roles: ['a'] });
    expect(connection.claims).toEqual({ sub: 'ann', exp: now() + 60, roles: ['a'] });
    expect(() => (connection.claims!['roles'] as string[]).push('b')).toThrow(TypeError);
    expect(verifier.claimsOf(connection)?.sub).toBe('ann');
  });

  it('ends at its expiry, after a notice and a grace', () => {
    const told: unknown[] = [];
    const guard = guardOf({
      onTokenEnd: (connection, reason) => told.push([connection.userId, reason, now()]),
    });
    const { socket, connection } = open(guard, { exp: now() + 60 });
    pass(59);
    expect(told).toEqual([]);
    pass(2);
    expect(told).toHaveLength(1);
    expect(told[0]).toEqual(['ann', 'token_expired', START / 1000 + 60]);
    expect(connection.isAlive).toBe(true);
    // Half the grace at least, and all of it at most.
    pass(11);
    expect(connection.isAlive).toBe(true);
    pass(15);
    expect(connection.isAlive).toBe(false);
    expect(socket.closed).toEqual([{ code: 1008, reason: 'token_expired' }]);
    expect(guard.manager.total).toBe(0);
  });

  it('ends soon after its expiry where only the wall clock has gone on: the machine slept', () => {
    const guard = guardOf({ tokenGraceMs: 0 });
    const { socket } = open(guard, { exp: now() + 3600 });
    pass(60);
    vi.setSystemTime(Date.now() + 7_200_000);
    pass(31);
    expect(socket.closed).toEqual([{ code: 1008, reason: 'token_expired' }]);
  });

  it.each([100, 1000])(
    'has a grace of %i ms, and others of its time another one',
    (tokenGraceMs) => {
      const guard = guardOf({ tokenGraceMs });
      const sockets = Array.from({ length: 64 }, () => open(guard, { exp: now() + 60 }).socket);
      pass(60);
      const closed = (): number => sockets.filter((socket) => socket.closed.length > 0).length;
      const counts = Array.from({ length: 10 }, () => {
        pass(1, tokenGraceMs / 10);
        return closed();
      });
      expect([counts[3], counts[9]]).toEqual([0, 64]);
      expect(new Set(counts).size).toBeGreaterThan(3);
    },
  );

  it('has no longer a grace where it began while the wall clock was ahead', () => {
    const guard = guardOf({ tokenGraceMs: 10_000 });
    const { socket } = open(guard, { exp: now() + 3600 });
    vi.setSystemTime(Date.now() + 7_200_000);
    pass(31);
    vi.setSystemTime(Date.now() - 7_200_000);
    pass(10);
    expect(socket.closed).toEqual([{ code: 1008, reason: 'token_expired' }]);
  });

  it('ends at a revocation, without a grace', () => {
    const told: string[] = [];
    const guard = guardOf({ onTokenEnd: (_, reason) => void told.push(reason) });
    const one = open(guard, { exp: now() + 60, jti: '1', iat: now() });
    const two = open(guard, { exp: now() + 60, jti: '2', iat: now(), sub: 'bob' });
    verifier.revoke({ jti: '1', exp: now() + 60 });
    expect([one.connection.isAlive, two.connection.isAlive]).toEqual([false, true]);
    expect(one.socket.closed).toEqual([{ code: 1008, reason: 'token_revoked' }]);
    verifier.notBefore('bob', now());
    expect(two.connection.isAlive).toBe(true);
    verifier.notBefore('bob', now() + 1);
    expect(two.connection.isAlive).toBe(false);
    expect(told).toEqual(['token_revoked', 'token_revoked']);
  });

  it('refuses a new token that is revoked while it is taken, and ends with one that comes too late', async () => {
    const guard = guardOf();
    const { socket, connection } = open(guard, { sub: 'ann', jti: '1', exp: now() + 60 });
    const other = token({ sub: 'ann', jti: '2', exp: now() + 60 });
    const refresh = connection.refreshToken(other);
    verifier.revoke({ jti: '2', exp: now() + 60 });
    expect(await refresh).toMatchObject({ success: false, error: { code: 'ERR_TOKEN_REVOKED' } });
    expect([connection.claims?.['jti'], socket.closed]).toEqual(['1', []]);
    // Revoked while the manager binds the user.
    const identify = connection.identify.bind(connection);
    vi.spyOn(connection, 'identify').mockImplementation(async (user) => {
      const result = await identify(user);
      verifier.revoke({ jti: '3', exp: now() + 60 });
      return result;
    });
    const late = await connection.refreshToken(token({ sub: 'bob', jti: '3', exp: now() + 60 }));
    expect(late).toMatchObject({ success: false, error: { code: 'ERR_TOKEN_REVOKED' } });
    pass(1);
    expect(socket.closed).toEqual([{ code: 1008, reason: 'token_revoked' }]);
  });

  it('is spared, if a good token came before its turn, and is told of a revocation once', async () => {
    const told: string[] = [];
    const guard = guardOf({
      atTokenEnd: 'notify',
      onTokenEnd: ({ claims }) => void told.push(String(claims['jti'])),
    });
    const all = Array.from({ length: 300 }, (_, at) =>
      open(guard, { sub: 'ann', jti: String(at), iat: now() - 10, exp: now() + 60 }),
    );
    verifier.notBefore('ann', now() - 5);
    const last = all.at(-1)!.connection;
    const good = token({ sub: 'ann', jti: 'good', iat: now(), exp: now() + 60 });
    expect((await last.refreshToken(good)).success).toBe(true);
    pass(1);
    verifier.notBefore('ann', now() - 4);
    pass(1);
    expect([told.length, told.includes('good')]).toEqual([299, false]);
  });

  it('ends soon, if its token is revoked between its handshake and its opening', () => {
    const guard = guardOf();
    const made = token({ exp: now() + 60, jti: 'a' });
    const admission = guard.admit(
      '192.0.2.1',
      (name) => (name === 'authorization' ? `Bearer ${made}` : ''),
      '/',
    );
    verifier.revoke({ jti: 'a', exp: now() + 60 });
    const socket = new FakeSocket();
    expect(admission.open('late', socket)?.isAlive).toBe(true);
    pass(1);
    expect(socket.closed).toEqual([{ code: 1008, reason: 'token_revoked' }]);
  });

  it('stays, if its end is only told or ignored', () => {
    let told = 0;
    const notified = open(guardOf({ atTokenEnd: 'notify', onTokenEnd: () => void told++ }), {
      exp: now() + 5,
      jti: 'a',
    });
    const ignored = open(guardOf({ atTokenEnd: 'ignore', onTokenEnd: () => void told++ }), {
      exp: now() + 5,
      jti: 'a',
    });
    pass(60);
    expect(told).toBe(1);
    verifier.revoke({ jti: 'a', exp: now() + 5 });
    expect(told).toBe(2);
    expect([notified.connection.isAlive, ignored.connection.isAlive]).toEqual([true, true]);
    expect(ignored.connection.claims?.['jti']).toBe('a');
  });

  it('stays until the end of a token that takes the place of the first', async () => {
    const { connection } = open(guardOf({ tokenGraceMs: 10_000 }), { exp: now() + 10 });
    pass(12);
    const refreshed = await connection.refreshToken(token({ exp: now() + 100, role: 'x' }));
    expect(refreshed).toMatchObject({ success: true, claims: { role: 'x' } });
    expect(connection.claims?.['role']).toBe('x');
    pass(99);
    expect(connection.isAlive).toBe(true);
    // A bad token changes nothing.
    expect(await connection.refreshToken(token({ exp: 1 }))).toMatchObject({
      success: false,
      error: { code: 'ERR_TOKEN_EXPIRED' },
    });
    pass(12);
    expect(connection.isAlive).toBe(false);
    expect(await connection.refreshToken(token({ exp: now() + 9 }))).toMatchObject({
      error: { code: 'stale' },
    });
  });

  it('moves to the user of its new token, unless that is at its limit', async () => {
    const guard = guardOf({}, { maxConnectionsPerUser: 1 });
    const { connection } = open(guard, { exp: now() + 10 });
    open(guard, { exp: now() + 10, sub: 'bob' });
    const wanted = (sub: string): string => token({ sub, exp: now() + 100 });
    expect(await connection.refreshToken(wanted('bob'))).toMatchObject({
      success: false,
      error: { code: 'user_limit' },
    });
    expect([connection.userId, connection.claims?.['sub']]).toEqual(['ann', 'ann']);
    expect((await connection.refreshToken(wanted('eve'))).success).toBe(true);
    expect(connection.userId).toBe('eve');
  });

  it('without a token cannot be refreshed', async () => {
    const guard = new Guard<unknown>('test', { limits: {}, timers } as never, wsSockets);
    guards.push(guard);
    const connection = guard.admit('192.0.2.1', () => '', '/').open('x', new FakeSocket());
    expect(connection?.claims).toBeUndefined();
    await expect(connection?.refreshToken('x')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });

  it('survives a hook that fails, and ends if the hook closes it', () => {
    const failing = open(
      guardOf({
        tokenGraceMs: 0,
        onTokenEnd: () => {
          throw new Error('a hook failed');
        },
      }),
      { exp: now() + 1 },
    );
    const closing = open(guardOf({ onTokenEnd: (connection) => connection.close(4001, 'x') }), {
      exp: now() + 1,
    });
    pass(3);
    expect(failing.socket.closed).toEqual([{ code: 1008, reason: 'token_expired' }]);
    expect(closing.socket.closed).toEqual([{ code: 4001, reason: 'x' }]);
  });

  it('lives on while the clock is set back, and ends when its time comes', () => {
    const { connection } = open(guardOf({ tokenGraceMs: 0 }), { exp: now() + 10 });
    vi.setSystemTime(START - 100_000);
    clock.advance(20_000);
    expect(connection.isAlive).toBe(true);
    pass(120);
    expect(connection.isAlive).toBe(false);
  });
});

it('thousands of sockets have no more timers than seconds, end apart, and leave no seat', async () => {
  const guard = guardOf();
  const opened = Array.from({ length: 5000 }, (_, at) =>
    open(guard, { exp: now() + 60, sub: `user ${at}`, jti: `${at}`, iat: now() }),
  );
  expect(tokenTimers()).toBe(1);
  // Some leave, some are refreshed, some are revoked.
  for (const { connection } of opened.slice(0, 1000)) connection.close();
  for (const { connection } of opened.slice(1000, 1500))
    await connection.refreshToken(token({ sub: connection.userId, exp: now() + 500 }));
  verifier.notBefore('user 2000', now() + 1);
  expect(guard.manager.total).toBe(3999);
  const ended: number[] = [];
  for (let second = 0; second < 90; second++) {
    const before = guard.manager.total;
    pass(1);
    ended.push(before - guard.manager.total);
    expect(tokenTimers()).toBeLessThanOrEqual(32);
  }
  expect(guard.manager.total).toBe(500);
  // The grace spreads the ends over half of it.
  expect(ended.filter((count) => count > 0).length).toBeGreaterThan(10);
  expect(Math.max(...ended)).toBeLessThan(700);
  pass(600);
  expect(guard.manager.total).toBe(0);
  expect(tokenTimers()).toBe(0);
});
