/**
 * Ends sockets with their tokens: at `exp`, at a revocation. Sockets whose tokens end in the same
 * second share one timer, and many that end at once are closed in batches, so that the event loop
 * stays free. A message costs nothing.
 */
import { Hooks } from '../base/hooks.js';
import { wallClockMs } from '../base/clock.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { ConnectionToken, TokenRefresh } from '../connections/connection-token.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { deepFreeze } from '../tokens/cache.js';
import type { TokenClaims } from '../tokens/result.js';
import { type HeldToken, mayHold, type VerifiedToken } from '../tokens/verified-token.js';
import type { IsRevoked } from '../tokens/verifier.js';
import { failure, ValidationFailure } from '../validators/failure.js';
import { type AuthConnection, type CheckedAuth, userOf } from './bearer.js';

/** Reason for the end of a token. @internal */
export type TokenEnd = 'token_expired' | 'token_revoked';

/** Sockets of one turn: the rest waits for the next one. */
const BATCH = 256;
/** Width of a bucket, ms. */
const BUCKET_MS = 1000;
/** Buckets of a grace, at least, so that its tokens do not end at once. */
const GRACE_BUCKETS = 32;
/** Longest delay of a timer, ms. Timers stand still while a machine sleeps, and the wall clock goes on. */
const LOOK_MS = 30_000;

const REVOKED = failure('ERR_TOKEN_REVOKED', { field: 'token' });
const GONE: TokenRefresh = Object.freeze({
  success: false,
  error: Object.freeze({ code: 'stale', reason: 'The connection has ended' }),
});

/**
 * The token of one connection, which keeps nothing else of its handshake. Without `#private` methods: one is made for each
 * socket. Eight fields: with a ninth, JavaScriptCore would take 112 bytes in the place of 80.
 */
class WatchedToken implements ConnectionToken, HeldToken {
  /** The claims, or their text until they are first read. */
  private given: TokenClaims | string;
  revision: number | undefined;
  /** The bucket that it stands in, with its neighbours there; none once it is not watched. */
  bucket: Bucket | undefined;
  before: WatchedToken | undefined;
  after: WatchedToken | undefined;
  /** The reason of its end, from its end on and until a new token takes its place. */
  ending: TokenEnd | undefined;

  constructor(
    private readonly watch: TokenWatch,
    readonly connection: ManagedConnection,
    { given, revision }: VerifiedToken,
  ) {
    this.given = given;
    this.revision = revision;
  }

  get claims(): TokenClaims {
    const { given } = this;
    if (typeof given !== 'string') return deepFreeze(given);
    const claims = deepFreeze(JSON.parse(given) as TokenClaims);
    this.given = claims;
    return claims;
  }

  mayHold(quoted: string): boolean {
    return mayHold(this.given, quoted);
  }

  replace({ given, revision }: VerifiedToken): void {
    this.given = given;
    this.revision = revision;
    this.ending = undefined;
  }

  refresh(token: string): Promise<TokenRefresh> {
    return this.watch.refresh(this, token);
  }

  released(): void {
    this.watch.remove(this);
  }
}

/**
 * Tokens that end within one second, or within a part of their grace, and their timer. A list by links, in the order of
 * arrival: in a set of all sockets, each of them would cost several cache misses more.
 */
class Bucket {
  timer: TimerHandle | undefined;
  first: WatchedToken | undefined;
  last: WatchedToken | undefined;

  /** @param line the line that it stands in; `undefined` for tokens that wait for no time */
  constructor(
    readonly line: Line | undefined,
    readonly atMs: number,
  ) {}

  add(token: WatchedToken): void {
    token.bucket = this;
    token.before = this.last;
    if (this.last === undefined) this.first = token;
    else this.last.after = token;
    this.last = token;
  }

  remove(token: WatchedToken): void {
    const { before, after } = token;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    token.bucket = token.before = token.after = undefined;
  }
}

/** Buckets by their times, of one clock. */
interface Line {
  readonly buckets: Map<number, Bucket>;
  readonly nowMs: () => number;
}

/** Watches the tokens of the open sockets of one guard. @internal */
export class TokenWatch {
  readonly #auth: CheckedAuth;
  readonly #timers: TimerManager;
  readonly #hooks = new Hooks();
  /** Tokens until their end, by the wall clock. */
  readonly #ends: Line = { buckets: new Map(), nowMs: wallClockMs };
  /** Tokens in their grace, by the timers' clock: a grace that began at a false time is no longer than others. */
  readonly #graces: Line;
  /** Tokens that have ended, and whose sockets stay open until they get a new one. */
  readonly #ended = new Bucket(undefined, Infinity);
  #size = 0;
  /** Revoked tokens whose sockets are closed in the next turns, each with its revocation. */
  readonly #revoked = new Map<WatchedToken, IsRevoked>();
  #revocation: TimerHandle | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(auth: CheckedAuth, timers: TimerManager) {
    this.#auth = auth;
    this.#timers = timers;
    this.#graces = { buckets: new Map(), nowMs: () => timers.driver.clock.now() };
  }

  /** Open sockets that are watched. */
  get size(): number {
    return this.#size;
  }

  /** Timers that are set: at most one for each socket. */
  get timerCount(): number {
    return (
      this.#ends.buckets.size + this.#graces.buckets.size + (this.#revocation === undefined ? 0 : 1)
    );
  }

  /** Watches a connection that has opened. @throws ERR_CLOSED, ERR_TOO_MANY_TIMERS as `setTimeout` does */
  add(connection: ManagedConnection, given: VerifiedToken): void {
    const token = new WatchedToken(this, connection, given);
    connection.hasToken(token);
    if (this.#auth.atTokenEnd === 'ignore') return;
    // Throws where strict timers are closed: then nothing is watched.
    this.#schedule(token, this.#ends, this.#deadlineOf(given));
    this.#size++;
    if (this.#unsubscribe === undefined) this.#subscribe();
    // Revoked between its handshake and its opening: the listener did not know it yet.
    this.#endIfRevoked(token);
  }

  #subscribe(): void {
    this.#unsubscribe = this.#auth.verifier.onRevocation((isRevoked) => this.#revoke(isRevoked));
  }

  #deadlineOf(token: VerifiedToken): number {
    return token.deadlineMs ?? this.#auth.verifier.deadlineOf(token.claims);
  }

  /** Ends a token soon that was revoked before it was watched; `false` if it is good. */
  #endIfRevoked(token: WatchedToken): boolean {
    const { verifier } = this.#auth;
    if (!verifier.isRevoked(token)) return false;
    if (token.bucket !== undefined) this.#endSoon(token);
    return true;
  }

  #endSoon(token: WatchedToken): void {
    this.#revoked.set(token, (held) => this.#auth.verifier.isRevoked(held));
    this.#revocation ??= this.#endLater();
  }

  /** Forgets a released connection. */
  remove(token: WatchedToken): void {
    if (token.bucket === undefined) return;
    this.#leave(token);
    if (--this.#size > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  /** Verifies a new token of a connection and puts it in the place of the old one. */
  async refresh(token: WatchedToken, text: string): Promise<TokenRefresh> {
    const { verifier, rights } = this.#auth;
    const { connection } = token;
    const judged = userOf(await verifier.authenticate(text), rights);
    if (judged instanceof ValidationFailure) return { success: false, error: judged };
    if (!connection.isAlive) return GONE;
    // Revoked since it was verified. The listener looks only at the tokens that sockets have.
    if (verifier.isRevoked(judged)) return { success: false, error: REVOKED };
    if (judged.user !== connection.userId) {
      const bound = await connection.identify(judged.user);
      if (!bound.success) return { success: false, error: bound };
      if (!connection.isAlive) return GONE;
    }
    token.replace(judged);
    if (token.bucket !== undefined) this.#schedule(token, this.#ends, this.#deadlineOf(judged));
    // Revoked while its user was asked for: the connection is that user's now, and ends with the token.
    if (this.#endIfRevoked(token)) return { success: false, error: REVOKED };
    return { success: true, claims: token.claims };
  }

  /** Puts a token in the bucket of a time, in milliseconds of its line's clock. */
  #schedule(token: WatchedToken, line: Line, atMs: number, widthMs = BUCKET_MS): void {
    const endMs = Math.ceil(atMs / widthMs) * widthMs;
    this.#move(token, line.buckets.get(endMs) ?? this.#bucketOf(line, endMs));
  }

  #bucketOf(line: Line, endMs: number): Bucket {
    const bucket = new Bucket(line, endMs);
    bucket.timer = this.#timerFor(line, endMs);
    line.buckets.set(endMs, bucket);
    return bucket;
  }

  #move(token: WatchedToken, bucket: Bucket): void {
    if (token.bucket === bucket) return;
    this.#leave(token);
    bucket.add(token);
  }

  #leave(token: WatchedToken): void {
    const { bucket } = token;
    bucket?.remove(token);
    if (bucket?.line === undefined || bucket.first !== undefined) return;
    bucket.timer?.close();
    bucket.line.buckets.delete(bucket.atMs);
  }

  #timerFor(line: Line, endMs: number): TimerHandle {
    const delayMs = Math.min(Math.max(1, endMs - line.nowMs()), LOOK_MS);
    return this.#timers.setTimeout(() => this.#due(line, endMs), {
      delayMs: Number.isFinite(delayMs) ? delayMs : 1,
      name: 'token end',
      ref: false,
    });
  }

  /** Ends the tokens of a bucket whose time has come. */
  #due(line: Line, endMs: number): void {
    const bucket = line.buckets.get(endMs);
    if (bucket === undefined) return;
    // The time lies beyond the longest delay, or the wall clock was set back.
    if (line.nowMs() < endMs) {
      bucket.timer = this.#timerFor(line, endMs);
      return;
    }
    for (let left = BATCH; bucket.first !== undefined; left--) {
      if (left === 0) {
        bucket.timer = this.#timerFor(line, endMs);
        return;
      }
      const token = bucket.first;
      this.#move(token, this.#ended);
      this.#end(token);
    }
  }

  /** Ends one token that has expired: first its notice, then its socket. */
  #end(token: WatchedToken): void {
    const { atTokenEnd, tokenGraceMs } = this.#auth;
    if (token.ending === undefined) {
      this.#notify(token, 'token_expired');
      // The hook may have closed the connection.
      if (atTokenEnd !== 'close' || token.ending === undefined || token.bucket === undefined)
        return;
      if (tokenGraceMs > 0 && this.#closesLater(token)) return;
    }
    this.#close(token);
  }

  /** Gives a token its grace; `false` if no timer is left. */
  #closesLater(token: WatchedToken): boolean {
    const { tokenGraceMs } = this.#auth;
    const widthMs = Math.min(Math.max(1, tokenGraceMs / GRACE_BUCKETS), BUCKET_MS);
    try {
      const { nowMs } = this.#graces;
      const endMs = nowMs() + tokenGraceMs * (0.5 + Math.random() / 2);
      this.#schedule(token, this.#graces, endMs, widthMs);
      return true;
    } catch {
      return false;
    }
  }

  #notify(token: WatchedToken, reason: TokenEnd): void {
    token.ending = reason;
    this.#hooks.run('onTokenEnd', () =>
      this.#auth.onTokenEnd?.(token.connection as AuthConnection, reason),
    );
  }

  #close({ connection, ending }: WatchedToken): void {
    this.#hooks.run('close', () => connection.close(1008, ending));
  }

  /** Ends the sockets of revoked tokens, without a grace. */
  #revoke(isRevoked: IsRevoked): void {
    const lines = [this.#ends, this.#graces].flatMap(({ buckets }) => [...buckets.values()]);
    for (const { first } of [...lines, this.#ended])
      for (let token = first; token !== undefined; token = token.after)
        if (isRevoked(token)) this.#revoked.set(token, isRevoked);
    if (this.#revoked.size > 0 && this.#revocation === undefined) this.#endRevoked();
  }

  #endRevoked(): void {
    this.#revocation = undefined;
    let left = BATCH;
    for (const [token, isRevoked] of this.#revoked) {
      if (left-- === 0) break;
      this.#revoked.delete(token);
      // Closed, or refreshed by a token that is not revoked, since.
      if (token.bucket === undefined || !isRevoked(token)) continue;
      // Told already, by an earlier revocation.
      if (token.ending === 'token_revoked') continue;
      this.#move(token, this.#ended);
      this.#notify(token, 'token_revoked');
      if (this.#auth.atTokenEnd === 'close' && token.bucket !== undefined) this.#close(token);
    }
    // A hook may have revoked more, and set the timer.
    if (this.#revoked.size > 0) this.#revocation ??= this.#endLater();
  }

  #endLater(): TimerHandle {
    return this.#timers.setTimeout(() => this.#endRevoked(), {
      delayMs: 1,
      name: 'token revocation',
      ref: false,
    });
  }
}
