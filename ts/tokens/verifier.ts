/**
 * Verification of signed tokens. The core holds policy, keys and revocations; this class waits for
 * fetched keys and shapes results.
 */
import { wallClockMs } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import { TokenCore } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import { InputValidationError, numberOf } from '../validators/failure.js';
import type { FailureCode } from '../validators/failures.js';
import type { InputSchema, InputSchemaAnswer, InputSchemaResult } from '../validators/schema.js';
import { BATCH_MAX, tasksOf, verifyOnPool } from './batch.js';
import { deepFreeze, ResultCache } from './cache.js';
import { type RemoteJwks, RemoteKeySet } from './jwks.js';
import {
  coreJwkSet,
  coreKeySet,
  fieldOfKey,
  invalidKey,
  type TokenAlgorithm,
  type TokenJwkSet,
  type TokenKey,
} from './keys.js';
import { checkedOptions, seconds, text, type TokenVerifierOptions } from './policy.js';
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

const KEY_UNKNOWN = numberOf('ERR_TOKEN_KEY_UNKNOWN');
const KEYS_UNAVAILABLE = numberOf('ERR_TOKEN_KEYS_UNAVAILABLE');

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
export class TokenVerifier implements InputSchema<
  string,
  TokenClaims,
  InputSchemaAnswer<TokenClaims>
> {
  readonly #core: TokenCore;
  readonly #algorithms: readonly TokenAlgorithm[];
  readonly #verify: (token: unknown, nowSeconds: number) => string | number;
  readonly #check: (token: unknown, nowSeconds: number) => number;
  readonly #deadline: () => number;
  readonly #refusals: TokenRefusals;
  readonly #maxTokenBytes: number;
  readonly #cache: ResultCache<TokenResult> | undefined;
  readonly #remote: RemoteKeySet | undefined;
  readonly #shared: SharedRevocations | undefined;
  /** Time for which a subject's revocation is needed if no other is given, in seconds. */
  readonly #maxAge: number | undefined;
  #skippedKeys: TokenVerifierSnapshot['skippedKeys'] = [];
  #isClosed = false;
  /**
   * The verifier as a Standard Schema, from a token to its claims; Elysia and other frameworks take
   * it in place of a schema of their own.
   */
  readonly '~standard': InputSchema<
    string,
    TokenClaims,
    InputSchemaAnswer<TokenClaims>
  >['~standard'] = Object.freeze({
    version: 1,
    vendor: 'portcullis',
    validate: (token: unknown) =>
      this.isRemote
        ? this.authenticate(token).then(schemaResult)
        : schemaResult(this.safeVerify(token)),
  });

  /** @param options the keys and the policy */
  constructor(options: TokenVerifierOptions) {
    const { policy, algorithms, claimNames, cacheSize } = checkedOptions(options);
    this.#core = new TokenCore(policy);
    this.#algorithms = algorithms;
    this.#refusals = new TokenRefusals(claimNames);
    this.#maxTokenBytes = policy.maxTokenBytes;
    const bound = this.#core.bound();
    this.#verify = bound.verify;
    this.#check = bound.check;
    this.#deadline = bound.deadline;
    this.#cache = cacheSize === 0 ? undefined : new ResultCache(cacheSize);
    this.#remote = this.#loadKeys(options);
    const tolerance = options.clockToleranceSeconds ?? 0;
    this.#maxAge =
      options.maxAgeSeconds === undefined ? undefined : options.maxAgeSeconds + tolerance;
    this.#shared =
      options.cluster === undefined
        ? undefined
        : new SharedRevocations(
            options.cluster,
            policy.maxRevocations,
            tolerance,
            wallClockMs,
            (revocation) => this.#learn(revocation),
          );
  }

  /** Takes a revocation of another process. One that does not fit any more is held by the server. */
  #learn(revocation: SharedRevocation): void {
    const now = wallClockMs() / 1000;
    if (revocation[0] === 'token') {
      const [, issuer, jti, exp] = revocation;
      this.#core.revoke(issuer, jti, exp, now);
    } else {
      const [, subject, issuedBefore, until] = revocation;
      this.#core.notBefore(subject, issuedBefore, until ?? undefined, now);
    }
    this.#cache?.clear();
  }

  /**
   * Verifies a token, and throws if it is refused.
   * @param token the token, without `Bearer`
   * @returns the claims
   * @throws InputValidationError with the code of the first check that fails
   * @example
   * const { sub } = verifier.verify(token);
   */
  verify<C = TokenClaims>(token: string | undefined): C {
    const result = this.safeVerify<C>(token);
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
  safeVerify<C = TokenClaims>(token: unknown): TokenResult<C> {
    const nowMs = wallClockMs();
    const cache = this.#cache;
    if (cache !== undefined && typeof token === 'string') {
      const cached = cache.get(token, nowMs);
      if (cached !== undefined) return cached as TokenResult<C>;
    }
    const answer = this.#verify(token, nowMs / 1000);
    if (typeof answer === 'number') return this.#refuse(answer, token);
    const claims = JSON.parse(answer) as C;
    if (cache === undefined) return { success: true, claims };
    const result: TokenResult<C> = Object.freeze({ success: true, claims: deepFreeze(claims) });
    cache.add(token as string, nowMs, this.#deadline() * 1000, result as TokenResult);
    return result;
  }

  /**
   * Verifies a token without parsing its claims. Never throws.
   * @param token the token, without `Bearer`; any type
   * @returns the code of the first check that fails, or `undefined` for a good token
   * @example
   * if (verifier.check(token) !== undefined) return new Response(null, { status: 401 });
   */
  check(token: unknown): FailureCode | undefined {
    const nowMs = wallClockMs();
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
  async authenticate<C = TokenClaims>(token: unknown): Promise<TokenResult<C>> {
    const result = this.safeVerify<C>(token);
    if (this.#remote === undefined || result.success || !isAboutKeys(result.error)) return result;
    return (await this.#remote.refreshFor(token)) ? this.safeVerify<C>(token) : result;
  }

  /**
   * Verifies many tokens on the thread pool of the host. The cache is not used.
   * @param tokens at most 16,384 tokens, without `Bearer`; any type
   * @returns the results, in the order of the tokens
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE (as rejections) for any other argument
   * @example
   * const results = await verifier.verifyBatch(tokens);
   */
  async verifyBatch<C = TokenClaims>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    if (!Array.isArray(tokens)) throw wrongType('tokens', tokens, 'an array of tokens');
    if (tokens.length > BATCH_MAX)
      throw outOfRange('tokens.length', tokens.length, `at most ${BATCH_MAX}`);
    // A copy: the caller may change the array before the results are there.
    const given = Array.from(tokens as readonly unknown[]);
    if (this.#remote !== undefined) await this.#remote.ready();
    const tasks = tasksOf(given).map((task) => this.#verifyTask<C>(task));
    const results = (await Promise.all(tasks)).flat();
    if (this.#remote === undefined) return results;
    // The key of a token may have been published meanwhile.
    return Promise.all(
      results.map((result, at) =>
        !result.success && isAboutKeys(result.error) ? this.authenticate<C>(given[at]) : result,
      ),
    );
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
    let numbers = [TOKEN_TYPE];
    if (typeof token === 'string')
      numbers = this.#core.explain(token.slice(0, this.#maxTokenBytes + 1), wallClockMs() / 1000);
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
    if (typeof token !== 'object' || token === null)
      throw wrongType('token', token, 'an object with jti and exp');
    knownOptions('a revocation', token, ['issuer', 'jti', 'exp']);
    const issuer = token.issuer === undefined ? '' : text('issuer', token.issuer);
    const exp = seconds('exp', token.exp);
    const jti = text('jti', token.jti);
    this.#afterRevocation(this.#core.revoke(issuer, jti, exp, wallClockMs() / 1000));
    this.#shared?.share(['token', issuer, jti, exp]);
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
    this.#afterRevocation(this.#core.notBefore(name, before, limit, wallClockMs() / 1000));
    const kept = limit ?? (this.#maxAge === undefined ? null : before + this.#maxAge);
    this.#shared?.share(['subject', name, before, kept]);
  }

  /** Whether the keys are fetched, so that `authenticate` may have to wait. */
  get isRemote(): boolean {
    return this.#remote !== undefined;
  }

  /**
   * Waits for the first keys of a fetched set, and with a cluster for the revocations of the other processes, at most
   * three times its `leaseMs` for these. Never rejects.
   * @returns false if there are no keys, or if the revocations are not known yet
   * @example
   * if (!(await verifier.ready())) console.warn('no keys yet: tokens are refused with 503');
   */
  async ready(): Promise<boolean> {
    const [hasKeys, hasRevocations] = await Promise.all([
      this.#remote === undefined || this.#remote.ready(),
      this.#shared === undefined || this.#shared.ready(),
    ]);
    return hasKeys && hasRevocations;
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
    if (this.#remote !== undefined)
      throw new PortcullisError('ERR_UNSUPPORTED', 'the keys of this verifier are fetched', {
        field: 'jwks',
      });
    this.#load('keys', keys, coreKeySet('keys', keys, this.#algorithms), 'nothing');
  }

  /**
   * Counts keys, cached results, revocations and fetches.
   * @returns the state of the verifier
   * @example
   * console.log(verifier.snapshot().jwks?.lastError);
   */
  snapshot(): TokenVerifierSnapshot {
    return {
      keys: this.#core.keyCount(),
      skippedKeys: this.#skippedKeys,
      cached: this.#cache?.size ?? 0,
      revocations: this.#core.revocationCount(wallClockMs() / 1000),
      jwks: this.#remote?.snapshot(),
      shared:
        this.#shared === undefined
          ? undefined
          : { isRead: this.#shared.isRead, unsaved: this.#shared.unsaved },
    };
  }

  /** Stops fetching keys; the present ones stay in use. May be called again. */
  close(): void {
    this.#isClosed = true;
    this.#shared?.close();
    this.#remote?.close();
  }

  /** Calls `close()` at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #loadKeys({ keys, jwks, timers }: TokenVerifierOptions): RemoteKeySet | undefined {
    if ((keys === undefined) === (jwks === undefined))
      throw wrongType('keys', keys, 'given, or jwks, and not both');
    if (keys !== undefined) {
      this.#load('keys', keys, coreKeySet('keys', keys, this.#algorithms), 'nothing');
      return undefined;
    }
    if (typeof jwks !== 'object' || jwks === null)
      throw wrongType('jwks', jwks, '{ keys: […] } or { url }');
    if (!('url' in jwks)) {
      const set = (jwks as Partial<TokenJwkSet>).keys;
      if (!Array.isArray(set)) throw wrongType('jwks.keys', set, 'an array of JWKs');
      this.#load('jwks.keys', set, coreJwkSet(set), 'foreign');
      return undefined;
    }
    const owner = timers ?? new TimerManager({ name: 'portcullis jwks', context: 'none' });
    return new RemoteKeySet(jwks as RemoteJwks, owner, owner.driver.clock, (set) =>
      this.#installFetched(set),
    );
  }

  #load(field: string, keys: unknown, set: string, tolerance: 'nothing' | 'foreign'): void {
    const { problem, index, skipped } = this.#core.load(set, tolerance);
    if (problem !== undefined) throw invalidKey(fieldOfKey(field, keys, index), problem);
    this.#skippedKeys = skipped;
    this.#cache?.clear();
  }

  /**
   * Replaces the keys by a fetched set, or drops them; returns the problem of a set that is
   * refused.
   */
  #installFetched(set: string | undefined): string | undefined {
    if (set === undefined) this.#core.forgetKeys();
    else {
      const { problem, skipped } = this.#core.load(set, 'unusable');
      if (problem !== undefined) return problem;
      this.#skippedKeys = skipped;
    }
    this.#cache?.clear();
    return undefined;
  }

  #afterRevocation(isHeld: boolean): void {
    if (!isHeld)
      throw new PortcullisError('ERR_TOO_MANY_REVOCATIONS', 'no more revocations can be held', {
        field: 'maxRevocations',
      });
    this.#cache?.clear();
  }

  /** Returns the refusal of a token, and starts a fetch if its key is missing. */
  #refuse(number: number, token: unknown): TokenRefusal {
    if (this.#remote !== undefined && !this.#isClosed) {
      const failure = number & 0xff;
      if (failure === KEY_UNKNOWN || failure === KEYS_UNAVAILABLE)
        void this.#remote.refreshFor(token);
    }
    return this.#refusals.of(number, token);
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
      return number === 0
        ? { success: true, claims: claims[next++] as C }
        : this.#refuse(number, token);
    });
  }
}

const schemaResult = (result: TokenResult): InputSchemaResult<TokenClaims> =>
  result.success
    ? { value: result.claims }
    : { issues: [{ message: result.error.reason, code: result.error.code }] };
