/**
 * One fetch of a key set, or of the metadata that names its address: its timeout, the limit of its
 * body, its caching headers.
 */
import { wallClockMs } from '../base/clock.js';
import type { TimerManager } from '../timers/manager.js';
import { checkedUrl, type JwksRequest } from './jwks-options.js';

/** A good answer. */
export interface JwksResponse {
  /** The body; `undefined` for 304 (RFC 9110, section 15.4.5). */
  readonly text: string | undefined;
  readonly etag: string | undefined;
  /** The `max-age` of `Cache-Control`; 0 if the answer must not be stored. */
  readonly maxAgeSeconds: number | undefined;
}

/** A failed fetch. Its message holds nothing of the answer. */
export class JwksProblem extends Error {
  /** The time that the server asks to wait for (RFC 9110, section 10.2.3), ms. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, retryAfterMs?: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Fetches a document.
 * @param url its checked address
 * @param etag of the keys in use, for a conditional request (RFC 9110, section 13.1.2)
 * @param abort aborted by the caller, by the timeout, and at the end of the fetch
 * @throws JwksProblem, or any error of `fetch`
 */
export async function fetchJwks(
  url: string,
  request: JwksRequest,
  etag: string | undefined,
  timers: TimerManager,
  abort: AbortController,
): Promise<JwksResponse> {
  let isLate = false;
  const timeout = timers.setTimeout(
    () => {
      isLate = true;
      abort.abort();
    },
    { delayMs: request.timeoutMs, name: 'jwks timeout', ref: false },
  );
  const aborted = rejectionOf(abort.signal);
  try {
    const headers: Record<string, string> = {
      accept: 'application/jwk-set+json, application/json',
      // The metadata may name a key set elsewhere, which must not get the credentials for this server.
      ...(new URL(url).origin === request.origin ? request.headers : {}),
    };
    if (etag !== undefined) headers['if-none-match'] = etag;
    const fetched = (request.fetch ?? globalThis.fetch)(url, {
      headers,
      redirect: 'manual',
      signal: abort.signal,
    });
    const response = await Promise.race([fetched, aborted]);
    const maxAgeSeconds = maxAgeOf(response.headers.get('cache-control'));
    if (response.status === 304 && etag !== undefined)
      return { text: undefined, etag, maxAgeSeconds };
    if (response.status !== 200)
      throw new JwksProblem(
        `was answered with status ${response.status}`,
        retryAfterOf(response.headers.get('retry-after')),
      );
    const text = await readText(response, request.maxBytes, aborted);
    return { text, etag: response.headers.get('etag') ?? undefined, maxAgeSeconds };
  } catch (error) {
    throw isLate ? new JwksProblem('was not answered in time') : error;
  } finally {
    timeout.close();
    // Ends a body that was not read to its end.
    abort.abort();
  }
}

/**
 * Returns a promise that rejects at the abort. On some hosts the signal of `fetch` does not end a
 * body that trickles in.
 */
function rejectionOf(signal: AbortSignal): Promise<never> {
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new JwksProblem('was aborted')), { once: true });
  });
  aborted.catch(() => undefined);
  return aborted;
}

/** Returns the milliseconds of `Retry-After`, which is a number of seconds or a date. */
function retryAfterOf(value: string | null): number | undefined {
  if (value === null) return undefined;
  const delayMs = /^\d+$/.test(value.trim())
    ? Number(value) * 1000
    : Date.parse(value) - wallClockMs();
  return delayMs > 0 ? delayMs : undefined;
}

/**
 * Fetches the metadata of an issuer (OpenID Connect Discovery 1.0, section 4; RFC 8414, section 3)
 * and returns the address of its key set.
 * @param accepts returns whether the verifier accepts the issuer that the metadata names
 */
export async function discoverJwks(
  url: string,
  request: JwksRequest,
  allowInsecure: boolean,
  accepts: (issuer: string) => boolean,
  timers: TimerManager,
  abort: AbortController,
): Promise<string> {
  const { text } = await fetchJwks(url, request, undefined, timers, abort);
  let metadata: { readonly issuer?: unknown; readonly jwks_uri?: unknown } | null;
  try {
    metadata = JSON.parse(text ?? '') as typeof metadata;
  } catch {
    metadata = null;
  }
  if (typeof metadata?.issuer !== 'string') throw new JwksProblem('has metadata without an issuer');
  // Another issuer's metadata would put its keys in the place of the expected ones.
  if (!accepts(metadata.issuer)) throw new JwksProblem('has metadata of another issuer');
  try {
    return checkedUrl('jwks_uri', metadata.jwks_uri, allowInsecure);
  } catch {
    throw new JwksProblem('has metadata without a jwks_uri that is allowed');
  }
}

/** Returns the seconds of `max-age` (RFC 9111, section 5.2.2); 0 for `no-store` and `no-cache`. */
function maxAgeOf(cacheControl: string | null): number | undefined {
  let seconds: number | undefined;
  for (const directive of (cacheControl ?? '').toLowerCase().split(',')) {
    const [name = '', value = ''] = directive.trim().split('=');
    if (name === 'no-store' || name === 'no-cache') return 0;
    const number = Number(value.replaceAll('"', ''));
    if (name === 'max-age' && value !== '' && Number.isFinite(number) && number >= 0)
      seconds = number;
  }
  return seconds;
}

/** Reads a body as text, up to a limit. */
async function readText(
  response: Response,
  maxBytes: number,
  aborted: Promise<never>,
): Promise<string> {
  const tooLarge = (): JwksProblem => new JwksProblem(`is larger than ${maxBytes} bytes`);
  if (Number(response.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const read = reader?.read() ?? { done: true, value: undefined };
    const { done, value } = await Promise.race([read, aborted]);
    if (done || value === undefined) break;
    bytes += value.byteLength;
    if (bytes > maxBytes) throw tooLarge();
    chunks.push(value);
  }
  try {
    // A byte order mark, as editors write it into files, is skipped.
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new JwksProblem('is not UTF-8');
  }
}
