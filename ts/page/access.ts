/** Access control of the page: a token, or requests from this machine only. */
import { Guesses } from './guesses.js';
import { cookieValueOf, Expected } from './token.js';

/** A request, reduced to the properties that the page needs. @internal */
export interface PageRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** The socket's address; forwarding headers do not change it. */
  readonly peer: string;
  /** True if the connection to this server uses TLS. */
  readonly isEncrypted: boolean;
  /** Reads a header by its name in lower case; `''` if absent. */
  readonly header: (name: string) => string;
}

/** An answer in the place of the page: a denial, or the redirect of the link. @internal */
export interface AccessReply {
  readonly status: 303 | 401 | 403 | 429;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Decides which requests see the page. @internal */
export interface Access {
  /**
   * Checks a request.
   * @param isData true for the figures, false for the document
   * @returns `undefined` for an allowed request
   */
  check(request: PageRequest, isData: boolean): AccessReply | undefined;
}

/** Longest `Authorization` header that is read. */
const AUTHORIZATION_MAX = 1024;
/** Longest query that is read; each character of a token may be escaped as three. */
const QUERY_MAX = 2048;
/** Longest `Cookie` header that is read. */
const COOKIES_MAX = 16_384;
/** Seconds for which a browser keeps the cookie: twelve hours. */
const COOKIE_S = 43_200;
/** Headers of a proxy. Behind a proxy on this machine, every client has a loopback address. */
const FORWARDING = [
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-port',
  'x-forwarded-server',
  'x-forwarded-prefix',
  'x-forwarded-ssl',
  'x-forwarded-scheme',
  'x-forwarded',
  'forwarded',
  'via',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-original-forwarded-for',
  'x-original-host',
  'x-scheme',
  'x-envoy-external-address',
  'cf-connecting-ip',
  'true-client-ip',
  'fly-client-ip',
  'fastly-client-ip',
  'cdn-loop',
] as const;

const denial = (
  status: AccessReply['status'],
  message: string,
  headers: Readonly<Record<string, string>> = {},
): AccessReply => ({ status, message, headers });

/** Refuses figures to pages of other sites, which must neither read them nor take a viewer's place. */
function checkSite({ header }: PageRequest, isData: boolean): AccessReply | undefined {
  const site = header('sec-fetch-site');
  if (!isData || site === '' || site === 'same-origin' || site === 'none') return undefined;
  return denial(403, 'Only the page itself may read the figures.');
}

function isLoopback(address: string): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:/, '');
  return plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain);
}

/** Returns the name in a `Host` header, without the port. */
function nameOf(host: string): string {
  const bracket = /^\[([0-9a-f:.]+)\](?::\d{1,5})?$/i.exec(host)?.[1];
  return bracket ?? host.replace(/:\d{1,5}$/, '').toLowerCase();
}

/** Access from this machine, without a token. @internal */
export class LocalAccess implements Access {
  check(request: PageRequest, isData: boolean): AccessReply | undefined {
    return checkSite(request, isData) ?? checkLocal(request);
  }
}

function checkLocal({ peer, header }: PageRequest): AccessReply | undefined {
  if (!isLoopback(peer) || FORWARDING.some((name) => header(name) !== '')) {
    return denial(
      403,
      "With access 'local' the page is available on this machine only. Set page.token to open it to other machines.",
    );
  }
  // DNS rebinding: a foreign name that resolves to this machine makes its site the page's origin.
  const name = nameOf(header('host'));
  if (name === 'localhost' || name.endsWith('.localhost') || isLoopback(name)) return undefined;
  return denial(403, "With access 'local' the page is available at localhost only.");
}

/** Access with a token, or with the cookie for which the link exchanges it. @internal */
export class TokenAccess implements Access {
  readonly #path: string;
  readonly #token: Expected;
  readonly #cookieValue: string;
  readonly #cookie: Expected;
  readonly #guesses: Guesses;

  constructor(token: string, path: string, guesses = new Guesses()) {
    this.#path = path;
    this.#token = new Expected(token);
    this.#cookieValue = cookieValueOf(token);
    this.#cookie = new Expected(this.#cookieValue);
    this.#guesses = guesses;
  }

  check(request: PageRequest, isData: boolean): AccessReply | undefined {
    const otherSite = checkSite(request, isData);
    if (otherSite !== undefined) return otherSite;
    const linked = isData ? undefined : linkedToken(request.target);
    if (linked !== undefined) return this.#judge(linked, request) ?? this.#exchange(request);
    // The cookie comes first: a proxy may send credentials of its own, and wrong tokens of others
    // must not lock a browser out.
    if (this.#hasCookie(request)) return undefined;
    const token = tokenOf(request.header('authorization'));
    return token === undefined ? missing() : this.#judge(token, request);
  }

  #judge(token: string, { peer }: PageRequest): AccessReply | undefined {
    const lockedMs = this.#guesses.lockedMs(peer);
    if (lockedMs > 0)
      return denial(429, 'Too many wrong tokens.', {
        'retry-after': String(Math.ceil(lockedMs / 1000)),
      });
    if (this.#token.equals(token)) {
      this.#guesses.right(peer);
      return undefined;
    }
    this.#guesses.wrong(peer);
    return missing();
  }

  /** Answers the link: sets the cookie, and leads to the path without the token. */
  #exchange(request: PageRequest): AccessReply {
    const attributes = [
      `${cookieName(request)}=${this.#cookieValue}`,
      `Path=${this.#path}`,
      `Max-Age=${COOKIE_S}`,
      'HttpOnly',
      'SameSite=Strict',
      // The header may be forged: it only limits the client's own cookie.
      ...(request.isEncrypted || request.header('x-forwarded-proto') === 'https' ? ['Secure'] : []),
    ];
    return denial(303, 'See the page.', {
      location: this.#path,
      'set-cookie': attributes.join('; '),
    });
  }

  #hasCookie(request: PageRequest): boolean {
    const cookies = request.header('cookie');
    const name = `${cookieName(request)}=`;
    if (cookies.length > COOKIES_MAX || !cookies.includes(name)) return false;
    const cookie = cookies
      .split(';')
      .map((pair) => pair.trim())
      .find((pair) => pair.startsWith(name));
    return cookie !== undefined && this.#cookie.equals(cookie.slice(name.length));
  }
}

function missing(): AccessReply {
  return denial(
    401,
    'A token is required: by the link that the server has printed, as bearer token, or as the password of any user name.',
    { 'www-authenticate': 'Basic realm="Portcullis", charset="UTF-8"' },
  );
}

/** Browsers send a cookie to every port of a host, so its name holds the port. */
function cookieName({ header }: PageRequest): string {
  return `portcullis_page_${/:(\d{1,5})$/.exec(header('host'))?.[1] ?? 'default'}`;
}

/** Returns the token in the query of the link. */
function linkedToken(target: string): string | undefined {
  const query = target.indexOf('?');
  if (query === -1 || target.length - query > QUERY_MAX) return undefined;
  return new URLSearchParams(target.slice(query)).get('token') ?? undefined;
}

/**
 * Returns the token of a `Bearer` header, or the password of a `Basic` header, which browsers ask
 * for.
 */
function tokenOf(authorization: string): string | undefined {
  if (authorization.length > AUTHORIZATION_MAX) return undefined;
  const space = authorization.indexOf(' ');
  const scheme = authorization.slice(0, space).toLowerCase();
  const credentials = authorization.slice(space + 1).trim();
  if (scheme === 'bearer') return credentials;
  if (scheme !== 'basic') return undefined;
  const pair = Buffer.from(credentials, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  return colon === -1 ? undefined : pair.slice(colon + 1);
}
