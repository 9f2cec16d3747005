/**
 * Verification of signed tokens. The core holds policy, keys and revocations; this class waits for
 * fetched keys and shapes results.
 *
 * Long, because all methods of the public class stand here, each with its documentation.
 */
import { wallClockMs } from '../base/clock.js';
import {
  outOfRange,
  PortcullisError,
  underPath,
  wrongSecretType,
  wrongType,
} from '../base/errors.js';
import { ExpiryClock } from '../base/expiry-clock.js';
import { knownOptions, optionsObject } from '../base/options.js';
import { TokenCore, type TokenPolicy } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import { TimerManager } from '../timers/manager.js';
import { InputValidationError, numberOf, type ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failure-codes.js';
import type { InputSchema, InputSchemaAnswer, InputSchemaResult } from '../validators/schema.js';
import { BATCH_MAX, inTurns, tasksOf, verifyOnPool } from './batch.js';
import { deepFreeze, ResultCache } from './cache.js';
import { accepts, type ClaimMatcher, type ClaimRules, matchersOf } from './claim-rules.js';
import { IssuerList, sumOf } from './issuers.js';
import { refuseKeySet, type RemoteJwks } from './jwks-options.js';
import { RemoteKeySet } from './jwks.js';
import {
  coreJwkSet,
  coreKeySet,
  fieldOfKey,
  invalidKey,
  type TokenAlgorithm,
  type TokenJwkSet,
  type TokenKey,
} from './keys.js';
import {
  checkedIssuers,
  checkedOptions,
  CLOCK_TOLERANCE_SECONDS,
  MAX_REVOCATIONS,
  seconds,
  text,
  type TokenVerifierOptions,
  verifierOptions,
} from './policy.js';
import type { ReplayList } from './replay.js';
import { type SharedRevocation, SharedRevocations } from './shared-revocations.js';
import {
  isAboutKeys,
  TOKEN_TYPE,
  type TokenClaims,
  type TokenExplanation,
  type TokenRefusal,
  TokenRefusals,
  type TokenResult,
  type TokenRevocation,
  type TokenVerifierSnapshot,
} from './result.js';
import { type HeldToken, VerifiedToken } from './verified-token.js';

/** Tells whether a revocation revokes a token. @internal */
export type IsRevoked = (token: HeldToken) => boolean;
/** Called with each revocation. @internal */
export type RevocationListener = (isRevoked: IsRevoked) => void;

const KEY_UNKNOWN = numberOf('ERR_TOKEN_KEY_UNKNOWN');
const KEYS_UNAVAILABLE = numberOf('ERR_TOKEN_KEYS_UNAVAILABLE');
const REVOKED = numberOf('ERR_TOKEN_REVOKED');
/** The number of the core for `iss`, the first claim. */
const WRONG_ISSUER = numberOf('ERR_TOKEN_ISSUER') | (1 << 8);
/** Places in the cells that the core writes for a token. */
const DEADLINE = 0;
const SUBJECT_LENGTH = 1;
/** Characters of the longest subject that the core copies: no user has a longer id. */
const SUBJECT_MAX = 1024;
/** Most keys of a set that the application gives itself. */
const KEYS_MAX = 1000;

/**
 * Verifies signed tokens (JWT, RFC 7519): form, algorithm, key, signature, claims, revocation. A
 * token signed by HMAC takes about a microsecond (`node bench/tokens.mjs`).
 *
 * The algorithm comes from the key, never from the token, and tokens must expire. A refusal has a
 * code of `docs/errors.md`; no message holds any text of the token.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options;
 *   ERR_INVALID_KEY for a weak or contradictory key, and for a key that fits none or several of the
 *   algorithms
 * @example
 * const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret }, issuer: 'https://issuer.example' });
 * const result = verifier.safeVerify(token);
 * if (result.success) console.log(result.claims.sub);
 * else console.log(result.error.code); // such as ERR_TOKEN_EXPIRED
 */
export class TokenVerifier<C extends TokenClaims = TokenClaims> implements InputSchema<
  string,
  C,
  InputSchemaAnswer<C>
> {
  readonly #core: TokenCore;
  readonly #algorithms: readonly TokenAlgorithm[];
  readonly #verify: (token: unknown, nowSeconds: number) => string | number;
  readonly #check: (token: unknown, nowSeconds: number) => number;
  /**
   * The core writes two numbers here for each token that it verifies: the deadline, s, and the length of the
   * subject, or -1.
   */
  readonly #verified = sharedArray(Float64Array, 2);
  /** The subject, if it is ASCII, has no escapes and is no longer than a user's id. */
  readonly #subject = Buffer.from(sharedArray(Uint8Array, SUBJECT_MAX).buffer);
  readonly #refusals: TokenRefusals;
  readonly #maxTokenBytes: number;
  readonly #cache: ResultCache<TokenResult> | undefined;
  readonly #remote: RemoteKeySet | undefined;
  readonly #issuers: IssuerList<TokenVerifier> | undefined;
  /** Accepted issuers; `undefined` for any. */
  readonly #issuer: readonly ClaimMatcher[] | undefined;
  readonly #rules: ClaimRules | undefined;
  readonly #replay: ReplayList | undefined;
  /** True if claims have to be parsed for more checks than those of the core. */
  readonly #judgesClaims: boolean;
  #lenientKeys = 0;
  readonly #times: Pick<TokenPolicy, 'maxAgeSeconds' | 'toleranceSeconds'>;
  readonly #listeners = new Set<RevocationListener>();
  /** Changes with each revocation: a token that was verified at this number is not revoked. */
  #revision = 0;
  /** By it revocations are forgotten; tokens are judged by the wall clock. */
  readonly #expiry = new ExpiryClock();
  readonly #shared: SharedRevocations | undefined;
  #skippedKeys: TokenVerifierSnapshot['skippedKeys'] = [];
  #isClosed = false;
  /**
   * The verifier as a Standard Schema, from a token to its claims; Elysia and other frameworks take
   * it in place of a schema of their own.
   */
  readonly '~standard': InputSchema<string, C, InputSchemaAnswer<C>>['~standard'] = Object.freeze({
    version: 1,
    vendor: 'portcullis',
    validate: (token: unknown) =>
      this.isRemote
        ? this.authenticate(token).then((result) => schemaResult(result))
        : schemaResult(this.safeVerify(token)),
  });

  /** @param options the keys and the policy */
  constructor(options: TokenVerifierOptions) {
    const given = verifierOptions(options);
    const issuers = issuersOf(given);
    // First, so that each option is checked where it stands.
    this.#issuers = issuers === undefined ? undefined : listOf(issuers, given.issuers ?? []);
    const checked = checkedOptions(issuers === undefined ? given : sharedOptions(issuers));
    const { policy, algorithms, claimNames, cacheSize, rules, replay } = checked;
    this.#rules = rules;
    this.#replay = replay;
    this.#judgesClaims = rules !== undefined || replay !== undefined;
    this.#issuer = checked.issuer;
    this.#core = new TokenCore(policy);
    this.#algorithms = algorithms;
    this.#refusals = new TokenRefusals(claimNames);
    this.#maxTokenBytes = policy.maxTokenBytes;
    this.#times = policy;
    const bound = this.#core.bound();
    this.#verify = bound.verify;
    this.#check = bound.check;
    bound.share(this.#verified, this.#subject);
    this.#cache = cacheSize === 0 ? undefined : new ResultCache(cacheSize);
    this.#remote = issuers === undefined ? this.#loadKeys(given) : undefined;
    try {
      this.#shared =
        given.cluster === undefined
          ? undefined
          : new SharedRevocations(
              given.cluster,
              policy.maxRevocations,
              policy.toleranceSeconds,
              () => this.#expiry.nowMs(),
              (revocation) => void this.#hold(revocation, true),
            );
    } catch (error) {
      // A closed cluster: nobody gets this verifier, so nobody would close its issuers.
      this.close();
      throw error;
    }
  }

  /**
   * Holds a revocation, and ends the sockets of its tokens.
   * @param isForeign whether it is another process's, and counted there: a full list takes it, too
   * @returns `false` if a list of revocations is full
   */
  #hold(revocation: SharedRevocation, isForeign: boolean): boolean {
    // A template or a function may need more claims than the issuer: all issuers may be meant.
    const verifiers: readonly TokenVerifier[] = this.#issuers?.verifiers ?? [this];
    const held = verifiers.map((one) => one.#holdHere(revocation, isForeign));
    if (revocation[0] === 'token') {
      const [, issuer, id] = revocation;
      const quoted = JSON.stringify(id);
      this.#tell((token) => token.mayHold(quoted) && isToken(token.claims, issuer, id));
    } else {
      const [, subject, before] = revocation;
      const quoted = JSON.stringify(subject);
      this.#tell((token) => token.mayHold(quoted) && isBefore(token.claims, subject, before));
    }
    return held.every(Boolean);
  }

  #holdHere(revocation: SharedRevocation, isForeign: boolean): boolean {
    this.#revision++;
    this.#cache?.clear();
    this.#core.purgeRevocations(this.#expiry.settledMs() / 1000);
    const now = this.#expiry.nowMs() / 1000;
    if (revocation[0] === 'token') {
      const [, issuer, id, exp] = revocation;
      return this.#core.revoke(issuer, id, exp, now, isForeign);
    }
    const [, subject, before, until] = revocation;
    return this.#core.notBefore(subject, before, until ?? undefined, now, isForeign);
  }

  /** Holds a revocation of this process, and tells the others. */
  #revoke(revocation: SharedRevocation): void {
    if (!this.#hold(revocation, false))
      throw new PortcullisError('ERR_TOO_MANY_REVOCATIONS', 'no more revocations can be held', {
        field: 'maxRevocations',
      });
    this.#shared?.share(revocation);
  }

  /**
   * Verifies a token, and throws if it is refused.
   * @param token the token, without `Bearer`
   * @returns the claims
   * @throws InputValidationError with the code of the first check that fails
   * @example
   * const { sub } = verifier.verify(token);
   */
  verify<T = C>(token: string | undefined): T {
    const result = this.safeVerify<T>(token);
    if (result.success) return result.claims;
    throw new InputValidationError(result.error);
  }

  /**
   * Verifies a token. Never throws. It does not wait for a fetched key set: see `ready` and
   * `authenticate`.
   * @param token the token, without `Bearer`; any type
   * @returns the claims, or the first failure
   * @example
   * const result = verifier.safeVerify(token);
   */
  safeVerify<T = C>(token: unknown): TokenResult<T> {
    const nowMs = wallClockMs();
    // First: keys that are too old take the cached results with them.
    this.#remote?.use();
    const cache = this.#cache;
    if (cache !== undefined && typeof token === 'string') {
      const cached = cache.get(token, nowMs);
      if (cached !== undefined) return cached as TokenResult<T>;
    }
    if (this.#issuers !== undefined)
      return this.#select(token)?.safeVerify<T>(token) ?? this.#refusals.of(WRONG_ISSUER, token);
    const answer = this.#verify(token, nowMs / 1000);
    if (typeof answer === 'number') return this.#refuse(answer, token);
    // Now: a function of the application may verify another token.
    const deadlineSeconds = this.#verified[DEADLINE]!;
    const claims = JSON.parse(answer) as T;
    if (this.#judgesClaims) {
      const number = this.#judge(claims as TokenClaims, deadlineSeconds);
      if (number !== 0) return this.#refusals.of(number, token);
    }
    if (cache === undefined) return { success: true, claims };
    const result: TokenResult<T> = Object.freeze({ success: true, claims: deepFreeze(claims) });
    cache.add(token as string, nowMs, deadlineSeconds * 1000, result as TokenResult);
    return result;
  }

  /**
   * Verifies a token as `safeVerify` does, and leaves its claims unparsed where no check needs them. Never throws.
   * @internal
   */
  verifyLazily(token: unknown): VerifiedToken | ValidationFailure {
    // A subclass, or who has replaced the method, may check more.
    const isOwn = this.safeVerify === SAFE_VERIFY;
    if (!isOwn || this.#cache !== undefined || this.#judgesClaims || this.#issuers !== undefined) {
      const result = this.safeVerify<TokenClaims>(token);
      return result.success ? VerifiedToken.of(result.claims) : result.error;
    }
    this.#remote?.use();
    const answer = this.#verify(token, wallClockMs() / 1000);
    if (typeof answer === 'number') return this.#refuse(answer, token).error;
    const deadlineMs = this.#verified[DEADLINE]! * 1000;
    const length = this.#verified[SUBJECT_LENGTH]!;
    if (length < 0) return VerifiedToken.of(JSON.parse(answer) as TokenClaims, deadlineMs);
    // A string of its own: a slice would keep the text of all claims as long as somebody keeps the user.
    const user = this.#subject.toString('latin1', 0, length);
    return new VerifiedToken(user, answer, deadlineMs, this.#revision);
  }

  /**
   * Verifies a token without parsing its claims. Never throws.
   * @param token the token, without `Bearer`; any type
   * @returns the code of the first check that fails, or `undefined` for a good token
   * @example
   * if (verifier.check(token) !== undefined) return new Response(null, { status: 401 });
   */
  check(token: unknown): FailureCode | undefined {
    if (this.#judgesClaims || this.#issuers !== undefined) {
      const result = this.safeVerify(token);
      return result.success ? undefined : result.error.code;
    }
    const nowMs = wallClockMs();
    this.#remote?.use();
    if (
      this.#cache !== undefined &&
      typeof token === 'string' &&
      this.#cache.get(token, nowMs) !== undefined
    )
      return undefined;
    const number = this.#check(token, nowMs / 1000);
    return number === 0 ? undefined : this.#refuse(number, token).error.code;
  }

  /**
   * Verifies a token as `safeVerify` does, and waits for a fetch of the key set if that may help.
   * Never rejects.
   * @param token the token, without `Bearer`; any type
   * @returns the claims, or the first failure
   * @example
   * const result = await verifier.authenticate(token);
   */
  async authenticate<T = C>(token: unknown): Promise<TokenResult<T>> {
    if (this.#issuers !== undefined)
      return this.#select(token)?.authenticate<T>(token) ?? this.safeVerify<T>(token);
    const renewal = this.#remote?.renew();
    if (renewal !== undefined) await renewal;
    const result = this.safeVerify<T>(token);
    if (this.#remote === undefined || result.success || !isAboutKeys(result.error)) return result;
    return (await this.#remote.refreshForToken()) ? this.safeVerify<T>(token) : result;
  }

  /**
   * Verifies many tokens on the thread pool of the host. The cache is not used.
   * @param tokens at most 16,384 tokens, without `Bearer`; any type
   * @returns the results, in the order of the tokens
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE (as rejections) for any other argument
   * @example
   * const results = await verifier.verifyBatch(tokens);
   */
  async verifyBatch<T = C>(tokens: readonly unknown[]): Promise<TokenResult<T>[]> {
    if (!Array.isArray(tokens)) throw wrongType('tokens', tokens, 'an array of tokens');
    if (tokens.length > BATCH_MAX)
      throw outOfRange('tokens.length', tokens.length, `at most ${BATCH_MAX}`);
    // A copy: the caller may change the array before the results are there.
    const given = Array.from(tokens as readonly unknown[]);
    const revision = this.#revision;
    const results = await (this.#issuers === undefined
      ? this.#verifyOwn<T>(given)
      : this.#verifyBySelection<T>(given));
    if (this.#revision === revision) return results;
    return results.map((result, at) => {
      // The token may have been revoked after its verification.
      const isRevoked = result.success && this.#isRevokedNow(result.claims as TokenClaims);
      return isRevoked ? this.#refusals.of(REVOKED, given[at]) : result;
    });
  }

  /**
   * Finds every check that a token fails, not only the first. For logs and tests: it is slower than
   * `safeVerify`.
   * @param token the token, without `Bearer`; any type
   * @returns the failures
   * @example
   * console.log(verifier.explain(token).errors.map(({ code, claim }) => `${code} ${claim ?? ''}`));
   */
  explain(token: unknown): TokenExplanation {
    const selected = this.#issuers === undefined ? this : this.#select(token);
    if (selected !== this)
      return (
        selected?.explain(token) ?? {
          success: false,
          errors: [this.#refusals.of(WRONG_ISSUER, token).error],
        }
      );
    let numbers = [TOKEN_TYPE];
    if (typeof token === 'string')
      numbers = this.#core.explain(token.slice(0, this.#maxTokenBytes + 1), wallClockMs() / 1000);
    if (numbers.length === 0 && this.#rules !== undefined) {
      const answer = this.#verify(token, wallClockMs() / 1000);
      numbers =
        typeof answer === 'number'
          ? [answer]
          : this.#rules.judgeAll(JSON.parse(answer) as TokenClaims);
    }
    const errors = numbers.map((number) => this.#refusals.of(number, token).error);
    return { success: errors.length === 0, errors };
  }

  /**
   * Revokes one token. The revocation is held until the token expires.
   * @param token issuer, id and expiry of the token
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the argument;
   *   ERR_TOO_MANY_REVOCATIONS when `maxRevocations` are held: none is dropped for a new one
   * @example
   * verifier.revoke({ issuer: claims.iss, jti: claims.jti, exp: claims.exp });
   */
  revoke(token: TokenRevocation): void {
    optionsObject('token', token, 'an object with jti and exp');
    knownOptions('a revocation', token, ['issuer', 'jti', 'exp']);
    const issuer = token.issuer === undefined ? '' : text('issuer', token.issuer);
    const exp = seconds('exp', token.exp);
    this.#revoke(['token', issuer, text('jti', token.jti), exp]);
  }

  /**
   * Revokes all tokens of a subject that were issued before a time, and those without `iat`.
   * @param subject the `sub` of the tokens
   * @param issuedBefore the time, in seconds since 1970
   * @param until when to drop the revocation, in seconds since 1970: by then the tokens must have
   *   expired. Default: after `maxAgeSeconds`, or never without it
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the arguments; ERR_TOO_MANY_REVOCATIONS when
   *   `maxRevocations` are held: none is dropped for a new one
   * @example
   * verifier.notBefore('ann', Date.now() / 1000);
   */
  notBefore(subject: string, issuedBefore: number, until?: number): void {
    const limit = until === undefined ? undefined : seconds('until', until);
    const name = text('subject', subject);
    const before = seconds('issuedBefore', issuedBefore);
    const { maxAgeSeconds, toleranceSeconds } = this.#times;
    const agesOut = maxAgeSeconds === undefined ? null : before + maxAgeSeconds + toleranceSeconds;
    this.#revoke(['subject', name, before, limit ?? agesOut]);
  }

  /** Whether the keys are fetched, so that `authenticate` may have to wait. */
  get isRemote(): boolean {
    return (
      this.#remote !== undefined || (this.#issuers?.verifiers.some((one) => one.isRemote) ?? false)
    );
  }

  /**
   * Waits for the first keys of a fetched set, and with a cluster for the revocations of the other processes, at most
   * three times its `leaseMs` for these. Never rejects.
   * @returns false if there are no keys, or if the revocations are not known yet
   * @example
   * if (!(await verifier.ready())) console.warn('no keys yet: tokens are refused with 503');
   */
  async ready(): Promise<boolean> {
    const all = await Promise.all([
      this.#remote === undefined || this.#remote.ready(),
      this.#shared === undefined || this.#shared.ready(),
      ...(this.#issuers?.verifiers.map((one) => one.ready()) ?? []),
    ]);
    return all.every(Boolean);
  }

  /**
   * Replaces all keys at once. If it throws, the old keys stay.
   * @param keys the new key or keys
   * @throws ERR_INVALID_ARG_TYPE, ERR_INVALID_KEY as the constructor; ERR_UNSUPPORTED if the keys
   *   are fetched
   * @example
   * verifier.setKeys([{ secret: newSecret, kid: '2' }, { secret: oldSecret, kid: '1' }]);
   */
  setKeys(keys: TokenKey | readonly TokenKey[]): void {
    if (this.#remote !== undefined || this.#issuers !== undefined)
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        this.#issuers === undefined
          ? 'the keys of this verifier are fetched'
          : 'each issuer of this verifier has its own keys',
        { field: this.#issuers === undefined ? 'jwks' : 'issuers' },
      );
    this.#load('keys', keys, coreKeySet('keys', keys, this.#algorithms), 'chosen');
  }

  /**
   * Counts keys, cached results, revocations and fetches.
   * @returns the state of the verifier
   * @example
   * console.log(verifier.snapshot().jwks?.lastError);
   */
  snapshot(): TokenVerifierSnapshot {
    if (this.#issuers !== undefined)
      return {
        ...sumOf(this.#issuers.verifiers.map((one) => one.snapshot())),
        shared: this.#sharedFigures(),
      };
    return {
      keys: this.#core.keyCount(),
      lenientKeys: this.#lenientKeys,
      skippedKeys: this.#skippedKeys,
      cached: this.#cache?.size ?? 0,
      revocations: this.#core.purgeRevocations(this.#expiry.settledMs() / 1000),
      usedTokens: this.#replay?.size ?? 0,
      jwks: this.#remote?.snapshot(this.#lenientKeys),
      shared: this.#sharedFigures(),
      issuers: undefined,
    };
  }

  /**
   * Returns the claims of a connection's token, with the type of this verifier's claims.
   * @param connection a connection of a guard whose `auth` has this verifier
   * @returns `undefined` for a connection without a token
   * @throws ERR_INVALID_ARG_TYPE for a value that is no object
   * @example
   * const tenant = verifier.claimsOf(connection)?.tenant;
   */
  claimsOf(connection: { readonly claims: unknown }): C | undefined {
    if (typeof connection !== 'object' || connection === null)
      throw wrongType('connection', connection, 'a connection');
    return connection.claims as C | undefined;
  }

  /**
   * Returns the time from which claims are no longer valid, in milliseconds since 1970. @internal
   */
  deadlineOf(claims: TokenClaims): number {
    const { exp, iat, iss = '' } = claims;
    const selected = this.#issuers?.of(iss, claims);
    if (selected !== undefined) return selected.deadlineOf(claims);
    const { maxAgeSeconds = Infinity, toleranceSeconds } = this.#times;
    return (Math.min(exp, (iat ?? Infinity) + maxAgeSeconds) + toleranceSeconds) * 1000;
  }

  /** True if a token that was verified before has been revoked since. @internal */
  isRevoked(token: HeldToken): boolean {
    if (this.#revision === 0 || token.revision === this.#revision) return false;
    const { claims } = token;
    const selected = this.#issuers?.of(claims.iss ?? '', claims);
    return selected?.isRevoked(token) ?? this.#isRevokedNow(claims);
  }

  #isRevokedNow(claims: TokenClaims): boolean {
    const { iss, jti, sub, iat } = claims;
    const selected: TokenVerifier = this.#issuers?.of(iss ?? '', claims) ?? this;
    return selected.#core.isRevoked(iss, jti, sub, iat);
  }

  /**
   * Calls a listener with each revocation from now on.
   * @returns a function that ends it
   * @internal
   */
  onRevocation(listener: RevocationListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Stops fetching keys; the present ones stay in use. May be called again. */
  close(): void {
    this.#isClosed = true;
    this.#shared?.close();
    this.#remote?.close();
    for (const one of this.#issuers?.verifiers ?? []) one.close();
  }

  /** Calls `close()` at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #loadKeys({ keys, jwks, timers }: TokenVerifierOptions): RemoteKeySet | undefined {
    if ((keys === undefined) === (jwks === undefined))
      throw wrongSecretType('keys', keys, 'given, or jwks, and not both');
    if (keys !== undefined) {
      this.#load('keys', keys, coreKeySet('keys', keys, this.#algorithms), 'chosen');
      return undefined;
    }
    optionsObject('jwks', jwks, '{ keys: […] } or { url }');
    if (!('url' in jwks) && !('discovery' in jwks)) {
      const set = (jwks as Partial<TokenJwkSet>).keys;
      if (!Array.isArray(set)) refuseKeySet(jwks);
      this.#load('jwks.keys', set, coreJwkSet(set), 'published');
      return undefined;
    }
    if ('discovery' in jwks && this.#issuer === undefined)
      throw wrongType(
        'issuer',
        undefined,
        'given with jwks.discovery: the metadata must be its own',
      );
    const owner = timers ?? new TimerManager({ name: 'portcullis jwks', context: 'none' });
    return new RemoteKeySet(jwks as RemoteJwks, owner, owner.driver.clock, {
      install: (set, maxKeys) => this.#installFetched(set, maxKeys),
      accepts: (issuer) => this.#acceptsMetadata(issuer),
    });
  }

  #load(field: string, keys: unknown, set: string, source: 'chosen' | 'published'): void {
    const { problem, index, skipped, lenient } = this.#core.load(set, source, KEYS_MAX);
    if (problem !== undefined) throw invalidKey(fieldOfKey(field, keys, index), problem);
    this.#lenientKeys = lenient;
    this.#skippedKeys = skipped;
    this.#cache?.clear();
  }

  /**
   * Replaces the keys by a fetched set, or drops them; returns the problem of a set that is
   * refused.
   */
  #installFetched(set: string | undefined, maxKeys: number): string | undefined {
    if (set === undefined) {
      this.#core.forgetKeys();
      this.#lenientKeys = 0;
    } else {
      const { problem, skipped, lenient } = this.#core.load(set, 'fetched', maxKeys);
      if (problem !== undefined) return problem;
      this.#lenientKeys = lenient;
      this.#skippedKeys = skipped;
    }
    this.#cache?.clear();
    return undefined;
  }

  /** True if metadata of this issuer may name the keys. A function needs claims: it accepts any. */
  #acceptsMetadata(issuer: string): boolean {
    const matchers = this.#issuer ?? [];
    return (
      matchers.includes(issuer) ||
      matchers.some((one) => typeof one === 'function') ||
      accepts(matchers, issuer, { exp: 0 })
    );
  }

  /** Returns the verifier of the issuer that a token names. */
  #select(token: unknown): TokenVerifier | undefined {
    return this.#issuers?.select(token, this.#maxTokenBytes);
  }

  /** Judges claims by the rules that the core does not know; returns 0 or a number of a refusal. */
  #judge(claims: TokenClaims, deadlineSeconds: number): number {
    const number = this.#rules?.judge(claims) ?? 0;
    return number === 0 && this.#replay !== undefined
      ? this.#replay.use(claims, deadlineSeconds)
      : number;
  }

  #sharedFigures(): TokenVerifierSnapshot['shared'] {
    const shared = this.#shared;
    return shared === undefined ? undefined : { isRead: shared.isRead, unsaved: shared.unsaved };
  }

  #tell(isRevoked: IsRevoked): void {
    this.#revision++;
    for (const listener of this.#listeners) listener(isRevoked);
  }

  /** Returns the refusal of a token, and starts a fetch if its key is missing. */
  #refuse(number: number, token: unknown): TokenRefusal {
    if (this.#remote !== undefined && !this.#isClosed) {
      const failure = number & 0xff;
      if (failure === KEY_UNKNOWN || failure === KEYS_UNAVAILABLE)
        void this.#remote.refreshForToken();
    }
    return this.#refusals.of(number, token);
  }

  async #verifyOwn<C>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    if (this.#remote !== undefined) await this.#remote.ready();
    const tasks = tasksOf(tokens, this.#maxTokenBytes);
    const results = (await inTurns(tasks, (task) => this.#verifyTask<C>(task))).flat();
    if (this.#remote === undefined) return results;
    // The key of a token may have been published meanwhile.
    return Promise.all(
      results.map((result, at) =>
        !result.success && isAboutKeys(result.error) ? this.authenticate<C>(tokens[at]) : result,
      ),
    );
  }

  /** Verifies the tokens of each issuer as a batch of its verifier. */
  async #verifyBySelection<C>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    const results: TokenResult<C>[] = [];
    const places = new Map<TokenVerifier, number[]>();
    for (const [at, token] of tokens.entries()) {
      const selected = this.#select(token);
      const its = selected && places.get(selected);
      if (selected === undefined) results[at] = this.#refusals.of(WRONG_ISSUER, token);
      else if (its === undefined) places.set(selected, [at]);
      else its.push(at);
    }
    const batches = [...places].map(async ([verifier, its]) => {
      const found = await verifier.verifyBatch<C>(its.map((at) => tokens[at]));
      for (const [index, result] of found.entries()) results[its[index]!] = result;
    });
    await Promise.all(batches);
    return results;
  }

  async #verifyTask<C>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    const { numbers, claims } = await verifyOnPool(
      this.#core,
      tokens,
      this.#maxTokenBytes,
      wallClockMs() / 1000,
    );
    let next = 0;
    return tokens.map((token, at): TokenResult<C> => {
      const number = typeof token === 'string' ? (numbers[at] ?? TOKEN_TYPE) : TOKEN_TYPE;
      if (number !== 0) return this.#refuse(number, token);
      const good = claims[next++] as C;
      // With `replay` the token is used here, on this thread: the pool only checked it.
      if (this.#replay !== undefined) return this.safeVerify<C>(token);
      const refused = this.#rules?.judge(good as TokenClaims) ?? 0;
      return refused === 0 ? { success: true, claims: good } : this.#refusals.of(refused, token);
    });
  }
}

const issuersOf = (options: TokenVerifierOptions): readonly TokenVerifierOptions[] | undefined =>
  typeof options === 'object' && options !== null && options.issuers !== undefined
    ? checkedIssuers(options)
    : undefined;

/**
 * Returns the options for checks before the issuer is known, and for shared revocations. Every issuer keeps each shared
 * revocation, so the lowest `maxRevocations` and the longest lifetime of a token apply.
 */
function sharedOptions(issuers: readonly TokenVerifierOptions[]): TokenVerifierOptions {
  const limits = issuers.map(({ maxTokenBytes = 2048 }) => maxTokenBytes);
  const ages = issuers.map(({ maxAgeSeconds = Infinity }) => maxAgeSeconds);
  const lists = issuers.map(({ maxRevocations = MAX_REVOCATIONS }) => maxRevocations);
  const maxAgeSeconds = Math.max(...ages);
  return {
    algorithms: [...new Set(issuers.flatMap(({ algorithms = [] }) => algorithms))],
    maxTokenBytes: Math.max(...limits),
    ...(Number.isFinite(maxAgeSeconds) && { maxAgeSeconds }),
    clockToleranceSeconds: Math.max(...issuers.map(toleranceOf)),
    maxRevocations: Math.min(...lists),
  };
}

/** Time for which an expired token may still be accepted, in seconds. */
const toleranceOf = ({
  clockToleranceSeconds = CLOCK_TOLERANCE_SECONDS,
}: TokenVerifierOptions): number => clockToleranceSeconds;

/**
 * Makes the verifier of each issuer; if one cannot be made, none stays open.
 * @param issuers the options of each, complete
 * @param given those that stand at the issuer itself: an error names an option where it stands
 */
function listOf(
  issuers: readonly TokenVerifierOptions[],
  given: readonly object[],
): IssuerList<TokenVerifier> {
  const made: TokenVerifier[] = [];
  const entries = issuers.map((options, at) => {
    try {
      const verifier = new TokenVerifier(options);
      made.push(verifier);
      return { matchers: matchersOf('issuer', options.issuer) ?? [], verifier };
    } catch (error) {
      for (const verifier of made) verifier.close();
      const [name = ''] = /^\w+/.exec((error as { readonly field?: string }).field ?? '') ?? [];
      const isShared = name in options && !(name in (given[at] ?? {}));
      throw isShared ? error : underPath(`issuers[${at}].`, error);
    }
  });
  return new IssuerList(entries);
}

/** The method of this class: a verifier that has another one was replaced by a subclass, a test or a spy. */
const SAFE_VERIFY = TokenVerifier.prototype.safeVerify;

const isToken = ({ iss = '', jti }: TokenClaims, issuer: string, id: string): boolean =>
  iss === issuer && jti === id;
const isBefore = ({ sub, iat }: TokenClaims, subject: string, before: number): boolean =>
  sub === subject && (iat === undefined || iat < before);

const schemaResult = <C>(result: TokenResult<C>): InputSchemaResult<C> =>
  result.success
    ? { value: result.claims }
    : { issues: [{ message: result.error.reason, code: result.error.code }] };
