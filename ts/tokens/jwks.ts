/** A key set behind an address: fetched when needed, kept fresh, and never fetched at a stranger's will. */
import type { Clock } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';

/** Where a key set is, and how it is kept. */
export interface RemoteJwks {
  /** `https:`; `http:` for loopback addresses only. Redirects are not followed. */
  readonly url: string | URL;
  /** The least time between two fetches that tokens cause, milliseconds: 0 to 2^30. Default 30,000. */
  readonly cooldownMs?: number | undefined;
  /** After which time the set is fetched anew, unless `Cache-Control` says sooner: 1,000 to 2^30. Default 600,000. */
  readonly maxAgeMs?: number | undefined;
  /** How long the keys are still used after that while the address fails: 0 to 2^31-1. Default 86,400,000. */
  readonly staleIfErrorMs?: number | undefined;
  /** For one fetch with its body, milliseconds: 1 to 2^30. Default 5,000. */
  readonly timeoutMs?: number | undefined;
  /** The longest body: 64 to 1,048,576. Default 65,536. */
  readonly maxBytes?: number | undefined;
  /** Headers to send. Default: none besides `Accept` and those of caching. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Told of every fetch that failed; the message holds nothing of the answer. */
  readonly onError?: ((error: PortcullisError) => void) | undefined;
}

/** What became of the fetches so far. */
export interface JwksSnapshot {
  readonly fetches: number;
  readonly failures: number;
  /** Fetches that were answered with 304. */
  readonly notModified: number;
  readonly lastError: string | undefined;
  /** Key ids that were asked for in vain lately. */
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
/** How many cooldowns an id that a fresh set lacks is not asked for: a new key may be used before it is published everywhere. */
const UNKNOWN_FOR_COOLDOWNS = 4;
/** While there are no keys at all, a failed fetch is repeated sooner. */
const RETRY_FIRST_MS = 1000;

/** `http:` is for the same machine only. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function addressOf(url: unknown): string {
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

/** The seconds of a `max-age`; 0 where the answer must not be kept. */
function maxAgeOf(cacheControl: string | null): number | undefined {
  let seconds: number | undefined;
  for (const part of (cacheControl ?? '').toLowerCase().split(',')) {
    const [name = '', value = ''] = part.trim().split('=');
    if (name === 'no-store' || name === 'no-cache') return 0;
    const number = Number(value.replaceAll('"', ''));
    if (name === 'max-age' && value !== '' && Number.isFinite(number) && number >= 0)
      seconds = number;
  }
  return seconds;
}

/** A fetch that failed, in words of our own. */
class JwksProblem extends Error {}

/** @internal */
export class RemoteKeys {
  readonly #url: string;
  readonly #cooldownMs: number;
  readonly #maxAgeMs: number;
  readonly #staleIfErrorMs: number;
  readonly #timeoutMs: number;
  readonly #maxBytes: number;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #onError: ((error: PortcullisError) => void) | undefined;
  readonly #timers: TimerManager;
  readonly #clock: Clock;
  /** Puts a set in place, at once, or none; what is wrong with it, if anything. */
  readonly #install: (text: string | undefined) => string | undefined;
  readonly #unknown = new Map<string, number>();
  #flight: Promise<boolean> | undefined;
  #allowedAt = -Infinity;
  #installedAt = -Infinity;
  #staleAt = Infinity;
  #etag: string | undefined;
  #isLoaded = false;
  #isClosed = false;
  #failuresInRow = 0;
  #wake: TimerHandle | undefined;
  #abort: AbortController | undefined;
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
    knownOptions('jwks', options, OPTIONS);
    this.#url = addressOf(options.url);
    this.#cooldownMs = wholeNumber('jwks.cooldownMs', options.cooldownMs, 0, 2 ** 30, 30_000);
    this.#maxAgeMs = wholeNumber('jwks.maxAgeMs', options.maxAgeMs, 1000, 2 ** 30, 600_000);
    this.#staleIfErrorMs = wholeNumber(
      'jwks.staleIfErrorMs',
      options.staleIfErrorMs,
      0,
      2 ** 31 - 1,
      86_400_000,
    );
    this.#timeoutMs = wholeNumber('jwks.timeoutMs', options.timeoutMs, 1, 2 ** 30, 5000);
    this.#maxBytes = wholeNumber('jwks.maxBytes', options.maxBytes, 64, 2 ** 20, 65_536);
    const { headers = {}, onError } = options;
    if (typeof headers !== 'object' || headers === null)
      throw wrongType('jwks.headers', headers, 'an object');
    if (onError !== undefined && typeof onError !== 'function')
      throw wrongType('jwks.onError', onError, 'a function');
    this.#headers = { ...headers };
    this.#onError = onError;
    this.#timers = timers;
    this.#clock = clock;
    this.#install = install;
  }

  /** Waits for the first keys; `false` if there are none. */
  async ready(): Promise<boolean> {
    return this.#isLoaded || (await this.#refresh());
  }

  /** Fetches the set for a token whose key is missing, if that is allowed; whether it was. Never rejects. */
  async lookFor(kid: string | undefined): Promise<boolean> {
    if (kid !== undefined && this.#isKnownToLack(kid)) return false;
    if (!(await this.#refresh())) return false;
    // If the fresh set has it, nobody will ask for it again; else not before some time has passed.
    if (kid !== undefined) this.#remember(kid);
    return true;
  }

  snapshot(): JwksSnapshot {
    return {
      fetches: this.#fetches,
      failures: this.#failures,
      notModified: this.#notModified,
      lastError: this.#lastError,
      unknownKids: this.#unknown.size,
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#wake?.[Symbol.dispose]();
    this.#abort?.abort();
  }

  #isKnownToLack(kid: string): boolean {
    const until = this.#unknown.get(kid);
    if (until === undefined) return false;
    if (until > this.#clock.now()) return true;
    this.#unknown.delete(kid);
    return false;
  }

  #remember(kid: string): void {
    if (this.#unknown.size >= UNKNOWN_KIDS_MAX) {
      const [oldest] = this.#unknown.keys();
      this.#unknown.delete(oldest as string);
    }
    this.#unknown.set(
      kid,
      this.#clock.now() + Math.min(this.#maxAgeMs, UNKNOWN_FOR_COOLDOWNS * this.#cooldownMs),
    );
  }

  /** One fetch at a time, and none within the cooldown; whether the keys are now fresh. Never rejects. */
  #refresh(): Promise<boolean> {
    if (this.#flight !== undefined) return this.#flight;
    const now = this.#clock.now();
    if (this.#isClosed || now < this.#allowedAt) return Promise.resolve(false);
    // Claimed before the fetch, whatever becomes of it.
    this.#allowedAt = now + this.#cooldownMs;
    const flight = this.#fetchAndInstall().finally(() => {
      this.#flight = undefined;
    });
    this.#flight = flight;
    return flight;
  }

  async #fetchAndInstall(): Promise<boolean> {
    this.#fetches++;
    try {
      const answer = await this.#fetch();
      if (this.#isClosed) return false;
      if (answer.text !== undefined) {
        const problem = this.#install(answer.text);
        if (problem !== undefined) throw new JwksProblem(problem);
        this.#isLoaded = true;
        this.#unknown.clear();
        this.#etag = answer.etag;
      }
      this.#settle(answer.maxAgeSeconds);
      return true;
    } catch (error) {
      this.#fail(error instanceof JwksProblem ? error.message : 'could not be fetched');
      return false;
    }
  }

  #settle(maxAgeSeconds: number | undefined): void {
    this.#failuresInRow = 0;
    this.#lastError = undefined;
    this.#installedAt = this.#clock.now();
    const asked = maxAgeSeconds === undefined ? this.#maxAgeMs : maxAgeSeconds * 1000;
    const freshMs = Math.max(Math.min(asked, this.#maxAgeMs), this.#cooldownMs, 1000);
    this.#staleAt = this.#installedAt + freshMs + this.#staleIfErrorMs;
    this.#wakeIn(freshMs);
  }

  #fail(problem: string): void {
    if (this.#isClosed) return;
    this.#failures++;
    this.#failuresInRow++;
    this.#lastError = problem;
    const now = this.#clock.now();
    const backoffMs = RETRY_FIRST_MS * 2 ** Math.min(this.#failuresInRow - 1, 20);
    if (!this.#isLoaded) this.#allowedAt = now + Math.min(backoffMs, this.#cooldownMs);
    else if (now >= this.#staleAt) {
      this.#isLoaded = false;
      this.#etag = undefined;
      this.#install(undefined);
    } else
      this.#wakeIn(
        Math.min(Math.max(backoffMs, this.#cooldownMs), this.#maxAgeMs, this.#staleAt - now),
      );
    try {
      this.#onError?.(new PortcullisError('ERR_JWKS', `the key set ${problem}`, { field: 'jwks' }));
    } catch {
      // A hook must not end the refresh.
    }
  }

  /** Fetches again by itself; does not hold the process. */
  #wakeIn(delayMs: number): void {
    this.#wake?.[Symbol.dispose]();
    this.#wake = this.#timers.setTimeout(
      () => {
        this.#allowedAt = -Infinity;
        void this.#refresh();
      },
      { delayMs: Math.max(1, Math.ceil(delayMs)), name: 'jwks', ref: false },
    );
  }

  async #fetch(): Promise<{
    text: string | undefined;
    etag: string | undefined;
    maxAgeSeconds: number | undefined;
  }> {
    const abort = new AbortController();
    this.#abort = abort;
    let isLate = false;
    const late = (): void => {
      isLate = true;
      abort.abort();
    };
    const timeout = this.#timers.setTimeout(late, {
      delayMs: this.#timeoutMs,
      name: 'jwks timeout',
      ref: false,
    });
    // Some hosts leave a body that trickles in unharmed by the signal.
    const aborted = new Promise<never>((_, reject) => {
      abort.signal.addEventListener('abort', () => reject(new JwksProblem('was given up')), {
        once: true,
      });
    });
    aborted.catch(() => undefined);
    try {
      const headers: Record<string, string> = {
        accept: 'application/jwk-set+json, application/json',
        ...this.#headers,
      };
      const etag = this.#isLoaded ? this.#etag : undefined;
      if (etag !== undefined) headers['if-none-match'] = etag;
      const asked = globalThis.fetch(this.#url, {
        headers,
        redirect: 'manual',
        signal: abort.signal,
      });
      const response = await Promise.race([asked, aborted]);
      const maxAgeSeconds = maxAgeOf(response.headers.get('cache-control'));
      if (response.status === 304 && etag !== undefined) {
        this.#notModified++;
        return { text: undefined, etag, maxAgeSeconds };
      }
      if (response.status !== 200)
        throw new JwksProblem(`was answered with status ${response.status}`);
      const text = await this.#read(response, aborted);
      return { text, etag: response.headers.get('etag') ?? undefined, maxAgeSeconds };
    } catch (error) {
      throw isLate ? new JwksProblem('was not answered in time') : error;
    } finally {
      timeout[Symbol.dispose]();
      // Ends a body that was not read to its end.
      abort.abort();
    }
  }

  /** The body as text, up to the cap. */
  async #read(response: Response, aborted: Promise<never>): Promise<string> {
    const tooLarge = (): JwksProblem => new JwksProblem(`is larger than ${this.#maxBytes} bytes`);
    if (Number(response.headers.get('content-length') ?? 0) > this.#maxBytes) throw tooLarge();
    const chunks: Uint8Array[] = [];
    let length = 0;
    const reader = response.body?.getReader();
    for (;;) {
      const part = await Promise.race([
        reader?.read() ?? { done: true, value: undefined },
        aborted,
      ]);
      if (part.done || part.value === undefined) break;
      length += part.value.byteLength;
      if (length > this.#maxBytes) throw tooLarge();
      chunks.push(part.value);
    }
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
        Buffer.concat(chunks),
      );
    } catch {
      throw new JwksProblem('is not UTF-8');
    }
  }
}
