/**
 * The places of a token in a request: `Authorization`, a cookie, a subprotocol, a query parameter.
 * Found tokens are taken out of the subprotocols, so that no host answers with one.
 */

/** Names of the places, checked. @internal */
export interface TokenPlaces {
  readonly cookie?: string | undefined;
  readonly subprotocol?: string | readonly string[] | undefined;
  readonly queryParameter?: string | undefined;
}

/** A token, and the place that it was found in. @internal */
export interface FoundToken {
  readonly token: string | undefined;
  readonly place: 'header' | 'cookie' | 'subprotocol' | 'query' | undefined;
  /** The subprotocol to answer with, for a token among them. */
  readonly subprotocol: string | undefined;
}

const NONE: FoundToken = { token: undefined, place: undefined, subprotocol: undefined };

const foundIn = (place: FoundToken['place'], token: string): FoundToken => ({
  token,
  place,
  subprotocol: undefined,
});

/**
 * Finds the client's token. `Authorization` comes first, then the cookie, the subprotocol and the
 * query.
 * @param header returns a header by its name in lower case, `''` if it is absent
 * @internal
 */
export function findToken(
  { cookie, subprotocol, queryParameter }: TokenPlaces,
  header: (name: string) => string,
  url: string,
): FoundToken {
  const authorization = header('authorization');
  if (authorization.startsWith('Bearer ') || authorization.slice(0, 7).toLowerCase() === 'bearer ')
    return foundIn('header', authorization.slice(7).trim());
  if (cookie !== undefined) {
    const token = cookieOf(header('cookie'), cookie);
    if (token !== undefined) return foundIn('cookie', token);
  }
  if (subprotocol !== undefined) {
    const found = inSubprotocols(header('sec-websocket-protocol'), subprotocol);
    if (found !== undefined) return found;
  }
  const query = url.indexOf('?');
  if (queryParameter !== undefined && query >= 0) {
    const token = new URLSearchParams(url.slice(query)).get(queryParameter);
    if (token !== null) return foundIn('query', token);
  }
  return NONE;
}

/**
 * Returns the value of a cookie (RFC 6265, section 4.2.1). Two different values are none: a page of
 * a subdomain may have set one of them.
 */
function cookieOf(cookies: string, name: string): string | undefined {
  let value: string | undefined;
  for (const pair of cookies.split(';')) {
    const equals = pair.indexOf('=');
    if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
    const text = pair.slice(equals + 1).trim();
    const found =
      text.length > 1 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
    if (value !== undefined && value !== found) return undefined;
    value = found;
  }
  return value;
}

/**
 * Finds a token among subprotocols, behind a name or after it and a dot:
 * `['app', 'bearer', token]`, `['app', 'bearer.' + token]`.
 */
function inSubprotocols(header: string, given: string | readonly string[]): FoundToken | undefined {
  if (header === '') return undefined;
  const offered = header.split(',').map((one) => one.trim());
  const names = typeof given === 'string' ? [given] : given;
  for (const [at, one] of offered.entries()) {
    const name = names.find((name) => one === name || one.startsWith(`${name}.`));
    if (name === undefined) continue;
    const isBehind = one === name;
    const token = isBehind ? offered[at + 1] : one.slice(name.length + 1);
    if (token === undefined) continue;
    const others = offered.filter(
      (other, place) => !(isBehind && place === at + 1) && !isToken(other, names),
    );
    return {
      token: isBehind ? token : unpacked(name, token),
      place: 'subprotocol',
      // A name alone is answered with itself: browsers fail a handshake without any answer.
      subprotocol: others.find((other) => other !== '') ?? name,
    };
  }
  return undefined;
}

/** True for a subprotocol that holds a token, or announces one. */
const isToken = (offered: string, names: readonly string[]): boolean =>
  names.some((name) => offered === name || offered.startsWith(`${name}.`));

/** Decodes the token of names such as Kubernetes', which stands in base64url as a whole. */
function unpacked(name: string, token: string): string {
  return name.startsWith('base64url.') && !token.includes('.')
    ? Buffer.from(token, 'base64url').toString('latin1')
    : token;
}

/** A request whose headers can be changed: that of `fetch`, or that of Node. */
interface ChangeableRequest {
  readonly headers?: { set?: unknown } & Record<string, unknown>;
}

/**
 * Leaves one subprotocol in a request, which its host answers with. Does nothing for a request
 * whose headers cannot be changed. @internal
 */
export function offerOnly(request: unknown, subprotocol: string): void {
  const headers = (request as ChangeableRequest | null | undefined)?.headers;
  if (headers === undefined) return;
  try {
    if (headers instanceof Headers) headers.set('sec-websocket-protocol', subprotocol);
    else headers['sec-websocket-protocol'] = subprotocol;
  } catch {
    // Immutable headers: the host answers with its own choice.
  }
}
