/**
 * A key set behind an address. It is fetched when a token needs it, and again before it expires
 * while tokens come; clients cannot make it be fetched more than once per cooldown.
 */
import type { Clock } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { discoverJwks, fetchJwks, JwksProblem } from './jwks-fetch.js';
import { checkedJwks, type JwksOptions, type RemoteJwks } from './jwks-options.js';

/** State of a fetched key set. */
export interface JwksSnapshot {
  /** Fetches so far. */
  readonly fetches: number;
  /** Fetches that failed. */
  readonly failures: number;
  /** Fetches that were answered with 304. */
  readonly notModified: number;
  /** Fetches that a token caused whose key the set lacked. */
  readonly unknownKeyFetches: number;
  /** The problem of the last fetch; `undefined` if it was good. */
  readonly lastError: string | undefined;
  /** Keys in use whose form breaks RFC 7518 but has one reading only, such as a padded modulus. */
  readonly lenient: number;
}

/** The holder of the keys. @internal */
export interface KeyHolder {
  /** Replaces the keys, or drops them for `undefined`. Returns the problem of a refused set. */
  install(text: string | undefined, maxKeys: number): string | undefined;
  /** Returns whether tokens of this issuer may be accepted. */
  accepts(issuer: string): boolean;
}

/** First delay after a failed fetch. Without any keys it may be shorter than the cooldown. */
const RETRY_FIRST_MS = 1000;

/** The keys of a `RemoteJwks`. @internal */
export class RemoteKeySet {
  readonly #options: JwksOptions;
  readonly #timers: TimerManager;
  readonly #clock: Clock;
  readonly #holder: KeyHolder;
  readonly #hooks = new Hooks();
  #fetchUnderWay: Promise<boolean> | undefined;
  /** The fetch for the first token after a time without tokens. */
  #renewal: Promise<boolean> | undefined;
  #abort: AbortController | undefined;
  #nextFetchAt = -Infinity;
  /** True if a token came since the last fetch. */
  #isUsed = false;
  /** Time at which the keys are dropped if fetches keep failing. */
  #staleAt = Infinity;
  /**
   * Time at which the keys are dropped in any case. It is `#staleAt`, or later: a fetch on time may
   * take its whole timeout, also if `staleIfErrorMs` is shorter, and is no error until it fails.
   */
  #dropAt = Infinity;
  /** True if the time of the next fetch passed without a token. */
  #isOld = false;
  /** Time of the next fetch if no timer could be set for it: then each token looks at the clock. */
  #untimedAt = Infinity;
  #refreshTimer: TimerHandle | undefined;
  /** The address of the set, once it is known. */
  #url: string | undefined;
  #etag: string | undefined;
  #isLoaded = false;
  #isClosed = false;
  #failuresInRow = 0;
  #fetches = 0;
  #failures = 0;
  #notModified = 0;
  #unknownKeyFetches = 0;
  #lastError: string | undefined;

  constructor(options: RemoteJwks, timers: TimerManager, clock: Clock, holder: KeyHolder) {
    this.#options = checkedJwks(options);
    this.#url = this.#options.url;
    this.#timers = timers;
    this.#clock = clock;
    this.#holder = holder;
  }

  /** Waits for the first keys; resolves with false if there are none. */
  async ready(): Promise<boolean> {
    await this.renew();
    return this.#isLoaded || (await this.#refresh());
  }

  /** Does what `renew` does, and notes that a token came. The verifier calls it for each token. */
  use(): void {
    this.#isUsed = this.#untimedAt === Infinity;
    void this.renew();
  }

  /**
   * Starts the fetch that was put off while no token came, and drops keys that are too old by now.
   * @returns the fetch under way, of which the next tokens should wait; `undefined` without one
   */
  renew(): Promise<boolean> | undefined {
    // The clock, and not a timer: after a pause of the process, tokens come before timers run.
    const now = this.#clock.now();
    if (now >= this.#untimedAt) this.#due();
    this.#dropOld(now);
    if (this.#isOld) {
      this.#isOld = false;
      if (now >= this.#staleAt) this.#drop();
      this.#renewal = this.#refresh().finally(() => {
        this.#renewal = undefined;
      });
    }
    return this.#renewal;
  }

  /**
   * Fetches the set for a token whose key is missing, if a fetch is allowed. Never rejects.
   * @returns true if the keys are now fresh
   */
  refreshForToken(): Promise<boolean> {
    const before = this.#fetches;
    const refresh = this.#refresh();
    if (this.#fetches > before && this.#isLoaded) this.#unknownKeyFetches++;
    return refresh;
  }

  /** @param lenient keys that were read leniently */
  snapshot(lenient: number): JwksSnapshot {
    return {
      fetches: this.#fetches,
      failures: this.#failures,
      notModified: this.#notModified,
      unknownKeyFetches: this.#unknownKeyFetches,
      lastError: this.#lastError,
      lenient,
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#refreshTimer?.close();
    this.#abort?.abort();
  }

  /**
   * Fetches the keys: one fetch at a time, and none within the cooldown. Never rejects.
   * @returns true if the keys are now fresh
   */
  #refresh(): Promise<boolean> {
    if (this.#fetchUnderWay !== undefined) return this.#fetchUnderWay;
    const now = this.#clock.now();
    if (this.#isClosed || now < this.#nextFetchAt) return Promise.resolve(false);
    // Set before the fetch, so that its outcome does not matter.
    this.#nextFetchAt = now + this.#options.cooldownMs;
    this.#fetchUnderWay = this.#fetchAndInstall().finally(() => {
      this.#fetchUnderWay = undefined;
    });
    return this.#fetchUnderWay;
  }

  async #fetchAndInstall(): Promise<boolean> {
    this.#fetches++;
    const { request, maxKeys } = this.#options;
    try {
      const url = (this.#url ??= await this.#discover());
      const etag = this.#isLoaded ? this.#etag : undefined;
      const response = await fetchJwks(url, request, etag, this.#timers, this.#newAbort());
      if (response.text === undefined) this.#notModified++;
      if (this.#isClosed) return false;
      // The keys that have not changed are too old meanwhile, and were dropped.
      if (response.text === undefined && !this.#isLoaded) return await this.#fetchAndInstall();
      if (response.text !== undefined) {
        const problem = this.#holder.install(response.text, maxKeys);
        if (problem !== undefined) throw new JwksProblem(problem);
        this.#isLoaded = true;
        this.#etag = response.etag;
      }
      this.#succeed(response.maxAgeSeconds);
      return true;
    } catch (error) {
      const isKnown = error instanceof JwksProblem;
      this.#fail(
        isKnown ? error.message : 'could not be fetched',
        isKnown ? error.retryAfterMs : undefined,
      );
      return false;
    }
  }

  async #discover(): Promise<string> {
    const { discovery = '', request, allowInsecure } = this.#options;
    return discoverJwks(
      discovery,
      request,
      allowInsecure,
      (issuer) => this.#holder.accepts(issuer),
      this.#timers,
      this.#newAbort(),
    );
  }

  /** Returns the controller of the next fetch, aborted already after `close()`. */
  #newAbort(): AbortController {
    this.#abort = new AbortController();
    if (this.#isClosed) this.#abort.abort();
    return this.#abort;
  }

  /** Notes a good fetch, and schedules the next one. */
  #succeed(maxAgeSeconds: number | undefined): void {
    this.#failuresInRow = 0;
    this.#lastError = undefined;
    const { maxAgeMs, cooldownMs, staleIfErrorMs, request } = this.#options;
    const askedMs = maxAgeSeconds === undefined ? maxAgeMs : maxAgeSeconds * 1000;
    const freshMs = Math.max(Math.min(askedMs, maxAgeMs), cooldownMs, 1000);
    const oldAt = this.#clock.now() + freshMs;
    this.#staleAt = oldAt + staleIfErrorMs;
    this.#dropAt = oldAt + Math.max(staleIfErrorMs, request.timeoutMs);
    this.#refreshIn(freshMs);
  }

  /**
   * Notes a failed fetch; retries, or drops keys that are too old. A `Retry-After` is obeyed up to
   * `maxAgeMs`.
   */
  #fail(problem: string, retryAfterMs = 0): void {
    if (this.#isClosed) return;
    this.#failures++;
    this.#failuresInRow++;
    this.#lastError = problem;
    const { cooldownMs, maxAgeMs, onError, url } = this.#options;
    // The metadata may name another address by now.
    this.#url = url;
    this.#dropAt = this.#staleAt;
    const now = this.#clock.now();
    const askedMs = Math.min(retryAfterMs, maxAgeMs);
    const backoffMs = RETRY_FIRST_MS * 2 ** Math.min(this.#failuresInRow - 1, 20);
    if (!this.#isLoaded) this.#nextFetchAt = now + Math.min(backoffMs, cooldownMs);
    this.#nextFetchAt = Math.max(this.#nextFetchAt, now + askedMs);
    if (this.#isLoaded && now >= this.#staleAt) this.#drop();
    else if (this.#isLoaded) {
      const delayMs = Math.max(Math.min(Math.max(backoffMs, cooldownMs), maxAgeMs), askedMs);
      this.#refreshIn(Math.min(delayMs, this.#staleAt - now));
    }
    const error = new PortcullisError('ERR_JWKS', `the key set ${problem}`, { field: 'jwks' });
    this.#hooks.run('jwks.onError', () => onError?.(error));
  }

  #dropOld(now: number): void {
    if (this.#isLoaded && now >= this.#dropAt) this.#drop();
  }

  #drop(): void {
    this.#isLoaded = false;
    this.#etag = undefined;
    this.#holder.install(undefined, 0);
  }

  /**
   * Schedules a fetch without a token, which is put off if no token has come by then. The timer
   * does not keep the process alive.
   */
  #refreshIn(delayMs: number): void {
    this.#refreshTimer?.close();
    this.#untimedAt = Infinity;
    const options = { delayMs: Math.max(1, Math.ceil(delayMs)), name: 'jwks', ref: false };
    try {
      this.#refreshTimer = this.#timers.setTimeout(() => this.#due(), options);
      if (this.#timers.isOpen()) return;
    } catch {
      // Strict timers that are closed throw, and so does a thread without a free timer.
    }
    this.#refreshTimer = undefined;
    this.#untimedAt = this.#clock.now() + delayMs;
    this.#isUsed = false;
  }

  #due(): void {
    this.#untimedAt = Infinity;
    this.#nextFetchAt = -Infinity;
    if (this.#isUsed) {
      this.#isUsed = false;
      this.#dropOld(this.#clock.now());
      void this.#refresh();
    } else this.#isOld = true;
  }
}
