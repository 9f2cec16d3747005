/** HTTP answers to refused clients, and the targets of requests. */

/** An HTTP answer to a refused client. @internal */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Returns an answer with a JSON body. @internal */
export function answerWith(
  status: number,
  body: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const text = JSON.stringify(body);
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'content-length': String(Buffer.byteLength(text)),
      ...headers,
    },
    body: text,
  };
}

/**
 * Returns an answer with a JSON body that is text already, and a time after which a retry may succeed.
 * @param text ASCII
 * @param retryAfter whole seconds; `undefined` where no retry helps
 * @internal
 */
export function answerWithText(
  status: number,
  text: string,
  retryAfter: string | undefined,
): Answer {
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'content-length': String(text.length),
      ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
    },
    body: text,
  };
}

/** The header field of an answer that ends its connection. @internal */
export const CLOSE = { connection: 'close' };

/**
 * Returns the answer to a refused handshake, which ends its connection: no request follows a handshake, and a host
 * that ends the connection itself need not wait for the client to do so.
 * @internal
 */
export function lastOf({ status, headers, body }: Answer): Answer {
  return { status, headers: Object.assign({}, headers, CLOSE), body };
}

const AUTHORITY_END = /[/?#]/;

/**
 * Returns path and query of a URL. The authority ends at the first `/`, `?` or `#` (RFC 3986, section 3.2):
 * the path of `http://h:80?/healthz` is `/`, and its query `/healthz`. A target without an authority, such
 * as `/healthz` or `*`, stays as it is: Bun leaves it so in a request without a valid `Host`.
 * @internal
 */
export function targetOf(url: string): string {
  const scheme = url.indexOf('://');
  if (scheme === -1 || url.startsWith('/')) return url;
  const authority = scheme + 3;
  const end = url.slice(authority).search(AUTHORITY_END);
  if (end === -1) return '/';
  const target = url.slice(authority + end);
  return target.startsWith('/') ? target : `/${target}`;
}
