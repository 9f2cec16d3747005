/**
 * The places of a token in a request: `Authorization`, a cookie, a subprotocol, a query parameter.
 * Tokens are taken out of the subprotocols, also where another place has the valid one: no host answers with a token.
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
}

const NONE: FoundToken = { token: undefined, place: undefined };
/** Name of the header with the subprotocols that a client offers. */
const OFFER = 'sec-websocket-protocol';

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
    return { token: authorization.slice(7).trim(), place: 'header' };
  if (cookie !== undefined) {
    const token = cookieOf(header('cookie'), cookie);
    if (token !== undefined) return { token, place: 'cookie' };
  }
  if (subprotocol !== undefined) {
    const token = inSubprotocols(header(OFFER), namesOf(subprotocol));
    if (token !== undefined) return { token, place: 'subprotocol' };
  }
  const query = url.indexOf('?');
  if (queryParameter !== undefined && query >= 0) {
    const token = new URLSearchParams(url.slice(query)).get(queryParameter);
    if (token !== null) return { token, place: 'query' };
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

const namesOf = (given: string | readonly string[]): readonly string[] =>
  typeof given === 'string' ? [given] : given;

const itemsOf = (offer: string): string[] => offer.split(',').map((one) => one.trim());

/** Returns the name that a subprotocol is, or that it begins with before a dot. */
const nameIn = (offered: string, names: readonly string[]): string | undefined =>
  names.find((name) => offered === name || offered.startsWith(`${name}.`));

/**
 * Finds a token among subprotocols, behind a name or after it and a dot:
 * `['app', 'bearer', token]`, `['app', 'bearer.' + token]`.
 */
function inSubprotocols(offer: string, names: readonly string[]): string | undefined {
  if (offer === '') return undefined;
  const offered = itemsOf(offer);
  for (const [at, one] of offered.entries()) {
    const name = nameIn(one, names);
    if (name === undefined) continue;
    if (one !== name) return unpacked(name, one.slice(name.length + 1));
    if (at + 1 < offered.length) return offered[at + 1];
  }
  return undefined;
}

/**
 * Returns the subprotocol for the answer to an offer that announces a token: the first item that neither is nor begins
 * with one of `names`, and that is no token wherever it stands. Returns `undefined` for any other offer.
 * @param offer the header `Sec-WebSocket-Protocol`
 * @internal
 */
export function withoutTokens(
  offer: string,
  names: string | readonly string[],
): string | undefined {
  if (offer === '') return undefined;
  const all = namesOf(names);
  const items = itemsOf(offer);
  let announced: string | undefined;
  const tokens = new Set<string | undefined>(['']);
  for (const [at, one] of items.entries()) {
    const name = nameIn(one, all);
    if (name === undefined) continue;
    announced ??= name;
    tokens.add(one === name ? items[at + 1] : unpacked(name, one.slice(name.length + 1)));
  }
  // A name alone is answered with itself: browsers fail a handshake without any answer.
  return announced === undefined
    ? undefined
    : (items.find((one) => nameIn(one, all) === undefined && !tokens.has(one)) ?? announced);
}

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
 * Removes the tokens from the subprotocols of a handshake: its host answers with the first one. Does nothing for a
 * request whose headers cannot be changed.
 * @param header returns a header by its name in lower case, `''` if it is absent
 * @internal
 */
export function hideTokens(
  { subprotocol }: TokenPlaces,
  header: (name: string) => string,
  request: unknown,
): void {
  if (subprotocol === undefined) return;
  const answered = withoutTokens(header(OFFER), subprotocol);
  const headers = (request as ChangeableRequest | null | undefined)?.headers;
  if (answered === undefined || headers === undefined) return;
  try {
    if (headers instanceof Headers) headers.set(OFFER, answered);
    else headers[OFFER] = answered;
  } catch {
    // Immutable headers: the host answers with its own choice.
  }
}
