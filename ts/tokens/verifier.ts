/** Verification of signed tokens: policy and keys in the core, results and waiting here. */
import os from 'node:os';
import { wallClockMs } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import { TokenCore } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import {
  failure,
  InputValidationError,
  numbered,
  type ValidationFailure,
} from '../validators/failure.js';
import { type FailureCode, FAILURES } from '../validators/failures.js';
import type { InputSchema, InputSchemaAnswer, InputSchemaResult } from '../validators/schema.js';
import { Cache, deepFreeze } from './cache.js';
import { type JwksSnapshot, type RemoteJwks, RemoteKeys } from './jwks.js';
import {
  invalidKey,
  jwkOf,
  keyOf,
  type TokenAlgorithm,
  type TokenJwkSet,
  type TokenKey,
} from './keys.js';
import {
  algorithmsOf,
  barePolicy,
  checkedPolicy,
  seconds,
  text,
  type TokenVerifierOptions,
} from './policy.js';

/** The claims of a token (RFC 7519). */
export interface TokenClaims {
  readonly iss?: string;
  readonly sub?: string;
  readonly aud?: string | readonly string[];
  /** Seconds since 1970, as all dates of a token. */
  readonly exp: number;
  readonly nbf?: number;
  readonly iat?: number;
  readonly jti?: string;
  readonly [claim: string]: unknown;
}

/** The claims of a good token, or why it was refused. Refusals are frozen and shared. */
export type TokenResult<C = TokenClaims> =
  | { readonly success: true; readonly claims: C }
  | { readonly success: false; readonly error: ValidationFailure };

type Refusal = Extract<TokenResult, { success: false }>;

/** Every check that a token fails. */
export interface TokenExplanation {
  readonly success: boolean;
  readonly errors: readonly ValidationFailure[];
}

/** A token to take back. */
export interface TokenRevocation {
  /** Its `iss`; absent for tokens without one. */
  readonly issuer?: string | undefined;
  /** Its `jti`. */
  readonly jti: string;
  /** Its `exp`, seconds: it is forgotten then. */
  readonly exp: number;
}

/** What a verifier holds. */
export interface TokenVerifierSnapshot {
  readonly keys: number;
  /** Keys of the last set that were left out, by their place in it. */
  readonly skippedKeys: readonly { readonly index: number; readonly problem: string }[];
  readonly cached: number;
  readonly revocations: number;
  /** Of a fetched set. */
  readonly jwks: JwksSnapshot | undefined;
}

const BATCH_MAX = 16_384;
/** A task of the host's thread pool is given at least this many tokens: it costs the loop some microseconds. */
const TASK_MIN = 64;
/** The pool has four threads; one core is the loop's. */
const TASKS_MAX = Math.min(4, Math.max(1, os.availableParallelism() - 1));

const codeNumber = (code: FailureCode): number => FAILURES.findIndex(([one]) => one === code) + 1;
const TOKEN_TYPE = codeNumber('ERR_TOKEN_TYPE');
const KEY_UNKNOWN = codeNumber('ERR_TOKEN_KEY_UNKNOWN');
const KEYS_UNAVAILABLE = codeNumber('ERR_TOKEN_KEYS_UNAVAILABLE');
const NO_TOKEN: Refusal = Object.freeze({
  success: false,
  error: failure('ERR_TOKEN_REQUIRED', { field: 'token' }),
});

/**
 * Verifies signed tokens: form, algorithm, key, signature, claims, revocation, in about a
 * microsecond for HMAC.
 *
 * The algorithm comes from the key and never from the token. Tokens have to expire. What is
 * refused says why by a code of `docs/errors.md`, and no message holds any text of the token.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options; ERR_INVALID_KEY for
 *   a weak or contradictory key, or one that fits none or several of the algorithms
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
  readonly #refusals = new Map<number, Refusal>();
  readonly #claimNames: readonly string[];
  readonly #maxTokenBytes: number;
  readonly #cache: Cache<TokenResult> | undefined;
  readonly #remote: RemoteKeys | undefined;
  #skipped: TokenVerifierSnapshot['skippedKeys'] = [];
  #isClosed = false;
  /** The verifier as a Standard Schema, which Elysia and others take in the place of their own. */
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

  constructor(options: TokenVerifierOptions) {
    const { policy, algorithms, claimNames, cacheSize } = checkedPolicy(options);
    this.#core = new TokenCore(policy);
    this.#algorithms = algorithms;
    this.#claimNames = claimNames;
    this.#maxTokenBytes = policy.maxTokenBytes;
    const bound = this.#core.bound();
    this.#verify = bound.verify;
    this.#check = bound.check;
    this.#deadline = bound.deadline;
    this.#cache = cacheSize === 0 ? undefined : new Cache(cacheSize);
    this.#remote = this.#loadKeys(options);
  }

  /**
   * Its claims.
   * @throws InputValidationError with the code of the first check that fails
   */
  verify<C = TokenClaims>(token: string | undefined): C {
    const result = this.safeVerify<C>(token);
    if (result.success) return result.claims;
    throw new InputValidationError(result.error);
  }

  /**
   * Its claims, or why it is refused; never throws. A fetched key set is not waited for: see
   * `ready` and `authenticate`.
   */
  safeVerify<C = TokenClaims>(token: unknown): TokenResult<C> {
    const nowMs = wallClockMs();
    const cache = this.#cache;
    if (cache !== undefined && typeof token === 'string') {
      const kept = cache.get(token, nowMs);
      if (kept !== undefined) return kept as TokenResult<C>;
    }
    const answer = this.#verify(token, nowMs / 1000);
    if (typeof answer === 'number') return this.#refuse(answer, token);
    const claims = JSON.parse(answer) as C;
    if (cache === undefined) return { success: true, claims };
    const result: TokenResult<C> = Object.freeze({ success: true, claims: deepFreeze(claims) });
    cache.add(token as string, nowMs, this.#deadline() * 1000, result as TokenResult);
    return result;
  }

  /** The code of the first check that fails, or `undefined`; never throws. The claims are not read. */
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

  /** As `safeVerify`, but waits for a fetched key set where that may help. Never rejects. */
  async authenticate<C = TokenClaims>(token: unknown): Promise<TokenResult<C>> {
    const result = this.safeVerify<C>(token);
    if (this.#remote === undefined || result.success || !isAboutKeys(result.error)) return result;
    return (await this.#remote.lookFor(kidOf(token))) ? this.safeVerify<C>(token) : result;
  }

  /**
   * Verifies up to 16,384 tokens off this thread; the results are in their order. The cache is
   * not asked.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE (as rejections) for what is no such array
   */
  async verifyBatch<C = TokenClaims>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    if (!Array.isArray(tokens)) throw wrongType('tokens', tokens, 'an array of tokens');
    if (tokens.length > BATCH_MAX)
      throw outOfRange('tokens.length', tokens.length, `at most ${BATCH_MAX}`);
    // A copy: while this waits, the caller may use the array for others, whose claims these are not.
    const given = Array.from(tokens as readonly unknown[]);
    if (this.#remote !== undefined) await this.#remote.ready();
    const share = Math.max(TASK_MIN, Math.ceil(given.length / TASKS_MAX));
    const tasks: Promise<TokenResult<C>[]>[] = [];
    for (let at = 0; at < given.length; at += share)
      tasks.push(this.#verifySome<C>(given.slice(at, at + share)));
    const results = (await Promise.all(tasks)).flat();
    if (this.#remote === undefined) return results;
    // Tokens of a key that was published meanwhile.
    return Promise.all(
      results.map((result, at) =>
        !result.success && isAboutKeys(result.error) ? this.authenticate<C>(given[at]) : result,
      ),
    );
  }

  /** Every check that a token fails, not only the first; for logs and tests, not for the hot path. */
  explain(token: unknown): TokenExplanation {
    let numbers = [TOKEN_TYPE];
    if (typeof token === 'string')
      numbers = this.#core.explain(token.slice(0, this.#maxTokenBytes + 1), wallClockMs() / 1000);
    const errors = numbers.map((number) => this.#refusal(number, token).error);
    return { success: errors.length === 0, errors };
  }

  /**
   * Takes a token back, until it would have expired.
   * @throws ERR_TOO_MANY_REVOCATIONS when `maxRevocations` are held: none is dropped for it
   */
  revoke(token: TokenRevocation): void {
    if (typeof token !== 'object' || token === null)
      throw wrongType('token', token, 'an object with jti and exp');
    knownOptions('a revocation', token, ['issuer', 'jti', 'exp']);
    const issuer = token.issuer === undefined ? '' : text('issuer', token.issuer);
    const exp = seconds('exp', token.exp);
    this.#revoked(this.#core.revoke(issuer, text('jti', token.jti), exp, wallClockMs() / 1000));
  }

  /**
   * Takes back all tokens of a subject that were issued before `issuedBefore` (seconds), and those
   * that do not say when. The entry is kept until `until`, by which they have expired; else for
   * `maxAgeSeconds`; else for good.
   * @throws ERR_TOO_MANY_REVOCATIONS when `maxRevocations` are held: none is dropped for it
   */
  notBefore(subject: string, issuedBefore: number, until?: number): void {
    const limit = until === undefined ? undefined : seconds('until', until);
    this.#revoked(
      this.#core.notBefore(
        text('subject', subject),
        seconds('issuedBefore', issuedBefore),
        limit,
        wallClockMs() / 1000,
      ),
    );
  }

  /** Whether its keys are fetched: then `authenticate` may be worth waiting for. */
  get isRemote(): boolean {
    return this.#remote !== undefined;
  }

  /** Waits for the first keys of a fetched set; `false` if there are none. */
  async ready(): Promise<boolean> {
    return this.#remote === undefined || (await this.#remote.ready());
  }

  /**
   * Exchanges the keys, all at once.
   * @throws ERR_INVALID_KEY as the constructor; the old keys stay
   */
  setKeys(keys: TokenKey | readonly TokenKey[]): void {
    if (this.#remote !== undefined)
      throw new PortcullisError('ERR_UNSUPPORTED', 'the keys of this verifier are fetched', {
        field: 'jwks',
      });
    this.#load('keys', keys, keySet('keys', keys, this.#algorithms), 'nothing');
  }

  /** What it holds. */
  snapshot(): TokenVerifierSnapshot {
    return {
      keys: this.#core.keyCount(),
      skippedKeys: this.#skipped,
      cached: this.#cache?.size ?? 0,
      revocations: this.#core.revocationCount(wallClockMs() / 1000),
      jwks: this.#remote?.snapshot(),
    };
  }

  /** Ends the fetching of keys. Those it has stay in use. */
  close(): void {
    this.#isClosed = true;
    this.#remote?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #loadKeys({ keys, jwks, timers }: TokenVerifierOptions): RemoteKeys | undefined {
    if ((keys === undefined) === (jwks === undefined))
      throw wrongType('keys', keys, 'given, or jwks, and not both');
    if (keys !== undefined) {
      this.#load('keys', keys, keySet('keys', keys, this.#algorithms), 'nothing');
      return undefined;
    }
    if (typeof jwks !== 'object' || jwks === null)
      throw wrongType('jwks', jwks, '{ keys: […] } or { url }');
    if (!('url' in jwks)) {
      const set = (jwks as Partial<TokenJwkSet>).keys;
      if (!Array.isArray(set)) throw wrongType('jwks.keys', set, 'an array of JWKs');
      this.#load(
        'jwks.keys',
        set,
        JSON.stringify({ keys: set.map((key: unknown) => (isObject(key) ? jwkOf(key) : null)) }),
        'foreign',
      );
      return undefined;
    }
    const owner = timers ?? new TimerManager({ name: 'portcullis jwks', context: 'none' });
    return new RemoteKeys(jwks as RemoteJwks, owner, owner.driver.clock, (set) => {
      if (set === undefined) {
        this.#core.forgetKeys();
        this.#cache?.clear();
        return undefined;
      }
      const loaded = this.#core.load(set, 'unusable');
      if (loaded.problem !== undefined) return loaded.problem;
      this.#cache?.clear();
      this.#skipped = loaded.skipped;
      return undefined;
    });
  }

  #load(field: string, keys: unknown, set: string, tolerance: 'nothing' | 'foreign'): void {
    const { problem, index, skipped } = this.#core.load(set, tolerance);
    if (problem !== undefined) throw invalidKey(fieldOf(field, keys, index), problem);
    this.#skipped = skipped;
    this.#cache?.clear();
  }

  #revoked(isDone: boolean): void {
    if (!isDone)
      throw new PortcullisError('ERR_TOO_MANY_REVOCATIONS', 'no more revocations can be held', {
        field: 'maxRevocations',
      });
    this.#cache?.clear();
  }

  /** The result of a refusal, after a hint to a fetched set that a key is missing. */
  #refuse(number: number, token: unknown): Refusal {
    if (this.#remote !== undefined && !this.#isClosed) {
      const code = number & 0xff;
      if (code === KEY_UNKNOWN || code === KEYS_UNAVAILABLE)
        void this.#remote.lookFor(kidOf(token));
    }
    return this.#refusal(number, token);
  }

  #refusal(number: number, token: unknown): Refusal {
    if (number === TOKEN_TYPE && (token === undefined || token === null)) return NO_TOKEN;
    let result = this.#refusals.get(number);
    if (result === undefined) {
      const claim = this.#claimNames[(number >> 8) - 1];
      const error = numbered(number & 0xff, {
        field: 'token',
        ...(claim !== undefined && { claim }),
      });
      result = Object.freeze({ success: false, error });
      this.#refusals.set(number, result);
    }
    return result;
  }

  async #verifySome<C>(tokens: readonly unknown[]): Promise<TokenResult<C>[]> {
    const lengths = new Uint32Array(tokens.length);
    let all = '';
    for (let at = 0; at < tokens.length; at++) {
      const token = tokens[at];
      // Beyond the most it is refused all the same, and need not be copied.
      if (typeof token !== 'string') continue;
      const part =
        token.length > this.#maxTokenBytes ? token.slice(0, this.#maxTokenBytes + 1) : token;
      lengths[at] = part.length;
      all += part;
    }
    const good = JSON.parse(
      await this.#core.batch(all, lengths, wallClockMs() / 1000),
    ) as unknown[];
    const numbers = good.pop() as number[];
    let next = 0;
    // `map` would skip the holes of a sparse array, and shift all that follow.
    return Array.from(tokens, (token, at): TokenResult<C> => {
      const number = typeof token === 'string' ? (numbers[at] ?? TOKEN_TYPE) : TOKEN_TYPE;
      return number === 0
        ? { success: true, claims: good[next++] as C }
        : this.#refuse(number, token);
    });
  }
}

const prepared = new WeakMap<object, { readonly name: string; readonly core: TokenCore }>();

/**
 * The payload of a signed token, whatever it is: for JWS that are no JWT. Nothing of the payload
 * is looked at, `typ` neither.
 *
 * @throws InputValidationError for the token; the errors of `TokenVerifier` for key and algorithms
 * @example
 * const bytes = verifyJws(compact, jwk, { algorithms: ['ES256'] });
 */
export function verifyJws(
  compact: string,
  key: TokenKey | readonly TokenKey[],
  options: { readonly algorithms: readonly TokenAlgorithm[] },
): Uint8Array {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object with algorithms');
  knownOptions('verifyJws', options, ['algorithms']);
  const algorithms = algorithmsOf(options.algorithms);
  const set = keySet('key', key, algorithms);
  // Prepared once for each key object, as long as it says the same.
  const name = `${algorithms.join()} ${set}`;
  const known = typeof key === 'string' ? undefined : prepared.get(key);
  let core = known?.core;
  if (core === undefined || known?.name !== name) {
    core = new TokenCore(barePolicy(algorithms));
    const { problem, index } = core.load(set, 'nothing');
    if (problem !== undefined) throw invalidKey(fieldOf('key', key, index), problem);
    if (typeof key !== 'string') prepared.set(key, { name, core });
  }
  if (typeof compact !== 'string')
    throw new InputValidationError(
      failure(compact === undefined || compact === null ? 'ERR_TOKEN_REQUIRED' : 'ERR_TOKEN_TYPE'),
    );
  const payload = core.payload(compact.slice(0, 2 ** 16 + 1));
  if (typeof payload === 'number')
    throw new InputValidationError(numbered(payload & 0xff, { field: 'token' }));
  return payload;
}

const schemaResult = (result: TokenResult): InputSchemaResult<TokenClaims> =>
  result.success
    ? { value: result.claims }
    : { issues: [{ message: result.error.reason, code: result.error.code }] };
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;
const isAboutKeys = ({ code }: ValidationFailure): boolean =>
  code === 'ERR_TOKEN_KEY_UNKNOWN' || code === 'ERR_TOKEN_KEYS_UNAVAILABLE';

/** The field of one key: with its place, where it stands in a list. */
const fieldOf = (field: string, keys: unknown, index: number | undefined): string =>
  Array.isArray(keys) && index !== undefined ? `${field}[${index}]` : field;

function keySet(field: string, keys: unknown, algorithms: readonly TokenAlgorithm[]): string {
  const list: readonly unknown[] = Array.isArray(keys) ? keys : [keys];
  if (list.length === 0) throw wrongType(field, keys, 'at least one key');
  return JSON.stringify({
    keys: list.map((key, at) => keyOf(fieldOf(field, keys, at), key, algorithms)),
  });
}

/** The key id that a token names, of one that was refused for it. */
function kidOf(token: unknown): string | undefined {
  try {
    const header: unknown = JSON.parse(
      Buffer.from(String(token).split('.', 1)[0] ?? '', 'base64url').toString(),
    );
    const kid = isObject(header) ? header['kid'] : undefined;
    return typeof kid === 'string' ? kid : undefined;
  } catch {
    return undefined;
  }
}
