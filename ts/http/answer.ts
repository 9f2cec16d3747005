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
 * Returns path and query of a URL. The authority ends at the first `/`, `?` or `#` (RFC 3986, section 3.2):
 * the path of `http://h:80?/healthz` is `/`, and its query `/healthz`. A target without an authority, such
 * as `/healthz` or `*`, stays as it is: Bun leaves it so in a request without a valid `Host`.
 * @internal
 */
export function targetOf(url: string): string {
  const scheme = url.indexOf('://');
  if (scheme === -1 || url.startsWith('/')) return url;
  const authority = scheme + 3;
  const end = url.slice(authority).search(/[/?#]/);
  if (end === -1) return '/';
  const target = url.slice(authority + end);
  return target.startsWith('/') ? target : `/${target}`;
}
