/** One fetch of a key set: its timeout, the limit of its body, its caching headers. */
import type { TimerManager } from '../timers/manager.js';

/** A checked address, and how to fetch it. */
export interface JwksRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** A good answer. */
export interface JwksResponse {
  /** The body; `undefined` for 304 (RFC 9110, section 15.4.5). */
  readonly text: string | undefined;
  readonly etag: string | undefined;
  /** The `max-age` of `Cache-Control`; 0 if the answer must not be stored. */
  readonly maxAgeSeconds: number | undefined;
}

/** A failed fetch. Its message holds nothing of the answer. */
export class JwksProblem extends Error {}

/**
 * Fetches a key set.
 * @param etag of the keys in use, for a conditional request (RFC 9110, section 13.1.2)
 * @param abort aborted by the caller, by the timeout, and at the end of the fetch
 * @throws JwksProblem, or any error of `fetch`
 */
export async function fetchJwks(
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
      ...request.headers,
    };
    if (etag !== undefined) headers['if-none-match'] = etag;
    const fetched = globalThis.fetch(request.url, {
      headers,
      redirect: 'manual',
      signal: abort.signal,
    });
    const response = await Promise.race([fetched, aborted]);
    const maxAgeSeconds = maxAgeOf(response.headers.get('cache-control'));
    if (response.status === 304 && etag !== undefined)
      return { text: undefined, etag, maxAgeSeconds };
    if (response.status !== 200)
      throw new JwksProblem(`was answered with status ${response.status}`);
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
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new JwksProblem('is not UTF-8');
  }
}
