/**
 * A key set behind an address. It is fetched when a token needs it and before it expires; clients
 * cannot make it be fetched more than once per cooldown.
 */
import type { Clock } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { fetchJwks, JwksProblem, type JwksRequest } from './jwks-fetch.js';

/** The address of a key set, and how to keep the keys fresh. */
export interface RemoteJwks {
  /** An `https:` address; `http:` for loopback addresses only. Redirects are not followed. */
  readonly url: string | URL;
  /** Shortest time between two fetches that tokens cause, ms: 0 to 2^30. Default 30,000. */
  readonly cooldownMs?: number | undefined;
  /**
   * Longest time until the next fetch, ms: 1,000 to 2^30. A `max-age` of `Cache-Control` may
   * shorten it. Default 600,000.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * How long the keys stay in use after that while fetches fail, ms: 0 to 2^31-1. Default
   * 86,400,000.
   */
  readonly staleIfErrorMs?: number | undefined;
  /** Timeout of one fetch with its body, ms: 1 to 2^30. Default 5,000. */
  readonly timeoutMs?: number | undefined;
  /** Longest body, in bytes: 64 to 1,048,576. Default 65,536. */
  readonly maxBytes?: number | undefined;
  /** Headers of the request. Default: none besides `Accept` and `If-None-Match`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Called for every failed fetch, with `ERR_JWKS`; the message holds nothing of the answer. */
  readonly onError?: ((error: PortcullisError) => void) | undefined;
}

/** State of a fetched key set. */
export interface JwksSnapshot {
  /** Fetches so far. */
  readonly fetches: number;
  /** Fetches that failed. */
  readonly failures: number;
  /** Fetches that were answered with 304. */
  readonly notModified: number;
  /** The problem of the last fetch; `undefined` if it was good. */
  readonly lastError: string | undefined;
  /** Key ids that the set lacks, of recent tokens. */
  readonly unknownKids: number;
}

const OPTIONS = [
  'url',
  'cooldownMs',
  'maxAgeMs',
  'staleIfErrorMs',
  'timeoutMs',
  'maxBytes',
  'headers',
  'onError',
] as const;
const UNKNOWN_KIDS_MAX = 1000;
/**
 * Cooldowns during which a missing key id causes no fetch. Not longer: an issuer may use a key
 * before it is published everywhere.
 */
const UNKNOWN_FOR_COOLDOWNS = 4;
/** First delay after a failed fetch. Without any keys it may be shorter than the cooldown. */
const RETRY_FIRST_MS = 1000;

/** Checked options. */
interface JwksOptions {
  readonly request: JwksRequest;
  readonly cooldownMs: number;
  readonly maxAgeMs: number;
  readonly staleIfErrorMs: number;
  readonly onError: ((error: PortcullisError) => void) | undefined;
}

/** The keys of a `RemoteJwks`. @internal */
export class RemoteKeySet {
  readonly #options: JwksOptions;
  readonly #timers: TimerManager;
  readonly #clock: Clock;
  /** Replaces the keys, or drops them for `undefined`. Returns the problem of a refused set. */
  readonly #install: (text: string | undefined) => string | undefined;
  /** Times until which missing key ids cause no fetch. */
  readonly #unknownKids = new Map<string, number>();
  #fetchUnderWay: Promise<boolean> | undefined;
  #abort: AbortController | undefined;
  #nextFetchAt = -Infinity;
  /** Time at which the keys are dropped if fetches keep failing. */
  #staleAt = Infinity;
  #refreshTimer: TimerHandle | undefined;
  #etag: string | undefined;
  #isLoaded = false;
  #isClosed = false;
  #failuresInRow = 0;
  #fetches = 0;
  #failures = 0;
  #notModified = 0;
  #lastError: string | undefined;

  constructor(
    options: RemoteJwks,
    timers: TimerManager,
    clock: Clock,
    install: (text: string | undefined) => string | undefined,
  ) {
    this.#options = checkedOptions(options);
    this.#timers = timers;
    this.#clock = clock;
    this.#install = install;
  }

  /** Waits for the first keys; resolves with false if there are none. */
  async ready(): Promise<boolean> {
    return this.#isLoaded || (await this.#refresh());
  }

  /**
   * Fetches the set for a token whose key is missing, if a fetch is allowed. Never rejects.
   * @returns true if the keys are now fresh
   */
  async refreshFor(token: unknown): Promise<boolean> {
    const kid = unverifiedKid(token);
    if (kid !== undefined && this.#isKnownToLack(kid)) return false;
    if (!(await this.#refresh())) return false;
    // If the fresh set has the key, no token will miss it again. Otherwise the id causes no fetch
    // for some time.
    if (kid !== undefined) this.#rememberUnknown(kid);
    return true;
  }

  snapshot(): JwksSnapshot {
    return {
      fetches: this.#fetches,
      failures: this.#failures,
      notModified: this.#notModified,
      lastError: this.#lastError,
      unknownKids: this.#unknownKids.size,
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#refreshTimer?.close();
    this.#abort?.abort();
  }

  #isKnownToLack(kid: string): boolean {
    const until = this.#unknownKids.get(kid);
    if (until === undefined) return false;
    if (until > this.#clock.now()) return true;
    this.#unknownKids.delete(kid);
    return false;
  }

  #rememberUnknown(kid: string): void {
    if (this.#unknownKids.size >= UNKNOWN_KIDS_MAX) {
      const [oldest] = this.#unknownKids.keys();
      this.#unknownKids.delete(oldest as string);
    }
    const { maxAgeMs, cooldownMs } = this.#options;
    const forMs = Math.min(maxAgeMs, UNKNOWN_FOR_COOLDOWNS * cooldownMs);
    this.#unknownKids.set(kid, this.#clock.now() + forMs);
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
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const etag = this.#isLoaded ? this.#etag : undefined;
      const response = await fetchJwks(this.#options.request, etag, this.#timers, abort);
      if (response.text === undefined) this.#notModified++;
      if (this.#isClosed) return false;
      if (response.text !== undefined) {
        const problem = this.#install(response.text);
        if (problem !== undefined) throw new JwksProblem(problem);
        this.#isLoaded = true;
        this.#unknownKids.clear();
        this.#etag = response.etag;
      }
      this.#succeed(response.maxAgeSeconds);
      return true;
    } catch (error) {
      this.#fail(error instanceof JwksProblem ? error.message : 'could not be fetched');
      return false;
    }
  }

  /** Notes a good fetch, and schedules the next one. */
  #succeed(maxAgeSeconds: number | undefined): void {
    this.#failuresInRow = 0;
    this.#lastError = undefined;
    const { maxAgeMs, cooldownMs, staleIfErrorMs } = this.#options;
    const askedMs = maxAgeSeconds === undefined ? maxAgeMs : maxAgeSeconds * 1000;
    const freshMs = Math.max(Math.min(askedMs, maxAgeMs), cooldownMs, 1000);
    this.#staleAt = this.#clock.now() + freshMs + staleIfErrorMs;
    this.#refreshIn(freshMs);
  }

  /** Notes a failed fetch; retries, or drops keys that are too old. */
  #fail(problem: string): void {
    if (this.#isClosed) return;
    this.#failures++;
    this.#failuresInRow++;
    this.#lastError = problem;
    const { cooldownMs, maxAgeMs, onError } = this.#options;
    const now = this.#clock.now();
    const backoffMs = RETRY_FIRST_MS * 2 ** Math.min(this.#failuresInRow - 1, 20);
    if (!this.#isLoaded) this.#nextFetchAt = now + Math.min(backoffMs, cooldownMs);
    else if (now >= this.#staleAt) {
      this.#isLoaded = false;
      this.#etag = undefined;
      this.#install(undefined);
    } else
      this.#refreshIn(Math.min(Math.max(backoffMs, cooldownMs), maxAgeMs, this.#staleAt - now));
    try {
      onError?.(new PortcullisError('ERR_JWKS', `the key set ${problem}`, { field: 'jwks' }));
    } catch {
      // A throwing hook must not stop the refreshes.
    }
  }

  /** Schedules a fetch without a token. The timer does not keep the process alive. */
  #refreshIn(delayMs: number): void {
    this.#refreshTimer?.close();
    this.#refreshTimer = this.#timers.setTimeout(
      () => {
        this.#nextFetchAt = -Infinity;
        void this.#refresh();
      },
      { delayMs: Math.max(1, Math.ceil(delayMs)), name: 'jwks', ref: false },
    );
  }
}

function checkedOptions(options: RemoteJwks): JwksOptions {
  knownOptions('jwks', options, OPTIONS);
  const { headers = {}, onError } = options;
  if (typeof headers !== 'object' || headers === null)
    throw wrongType('jwks.headers', headers, 'an object');
  if (onError !== undefined && typeof onError !== 'function')
    throw wrongType('jwks.onError', onError, 'a function');
  const number = (
    field: 'cooldownMs' | 'maxAgeMs' | 'staleIfErrorMs' | 'timeoutMs' | 'maxBytes',
    min: number,
    max: number,
    fallback: number,
  ): number => wholeNumber(`jwks.${field}`, options[field], min, max, fallback);
  return {
    request: {
      url: checkedUrl(options.url),
      headers: { ...headers },
      timeoutMs: number('timeoutMs', 1, 2 ** 30, 5000),
      maxBytes: number('maxBytes', 64, 2 ** 20, 65_536),
    },
    cooldownMs: number('cooldownMs', 0, 2 ** 30, 30_000),
    maxAgeMs: number('maxAgeMs', 1000, 2 ** 30, 600_000),
    staleIfErrorMs: number('staleIfErrorMs', 0, 2 ** 31 - 1, 86_400_000),
    onError,
  };
}

function checkedUrl(url: unknown): string {
  const allowed = 'an https URL without credentials (http for loopback addresses only)';
  if (typeof url !== 'string' && !(url instanceof URL)) throw wrongType('jwks.url', url, allowed);
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw outOfRange('jwks.url', String(url), allowed);
  }
  const isSafe =
    parsed.protocol === 'https:' || (parsed.protocol === 'http:' && isLoopback(parsed.hostname));
  if (!isSafe || parsed.username !== '' || parsed.password !== '')
    throw outOfRange('jwks.url', `${parsed.protocol}//${parsed.host}`, allowed);
  return parsed.href;
}

/** True for a host on this machine, which needs no encryption. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** Returns the key id in the header of a token, whose signature is not verified. */
function unverifiedKid(token: unknown): string | undefined {
  try {
    const [header = ''] = String(token).split('.', 1);
    const parsed: unknown = JSON.parse(Buffer.from(header, 'base64url').toString());
    if (typeof parsed !== 'object' || parsed === null) return undefined;
    const { kid } = parsed as { kid?: unknown };
    return typeof kid === 'string' ? kid : undefined;
  } catch {
    return undefined;
  }
}
