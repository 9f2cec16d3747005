/** Access control of the page: a token, or requests from this machine only. */
import { createHash, timingSafeEqual } from 'node:crypto';

/** A request, reduced to the properties that the page needs. @internal */
export interface PageRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** The socket's address; forwarding headers do not change it. */
  readonly peer: string;
  /** Reads a header by its name in lower case; `''` if absent. */
  readonly header: (name: string) => string;
}

/** Longest `Authorization` header that is read. */
const AUTHORIZATION_MAX = 1024;
/** Headers of a proxy. Behind a proxy on this machine, every client has a loopback address. */
const FORWARDING = [
  'x-forwarded-for',
  'x-forwarded-host',
  'x-real-ip',
  'forwarded',
  'via',
] as const;

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

function isLoopback(address: string): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:/, '');
  return plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain);
}

/** Returns the name in a `Host` header, without the port. */
function nameOf(host: string): string {
  const bracket = /^\[([0-9a-f:.]+)\](?::\d{1,5})?$/i.exec(host)?.[1];
  return bracket ?? host.replace(/:\d{1,5}$/, '').toLowerCase();
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

interface AccessDenial {
  readonly status: 401 | 403;
  readonly message: string;
}

/** @internal */
export class Access {
  /**
   * SHA-256 of the token: digests have one length, so the comparison takes the same time for every
   * input.
   */
  readonly #digest: Buffer | undefined;

  constructor(token: string | undefined) {
    this.#digest = token === undefined ? undefined : digest(token);
  }

  /**
   * Checks a request.
   * @param isData true for the figures, false for the document
   * @returns `undefined` for an allowed request
   */
  check(request: PageRequest, isData: boolean): AccessDenial | undefined {
    // A page of another site must neither read the figures nor take a viewer's place.
    const site = request.header('sec-fetch-site');
    if (isData && site !== '' && site !== 'same-origin' && site !== 'none')
      return { status: 403, message: 'Only the page itself may read the figures.' };
    return this.#digest === undefined ? checkLocal(request) : checkToken(request, this.#digest);
  }
}

function checkToken({ header }: PageRequest, expected: Buffer): AccessDenial | undefined {
  const token = tokenOf(header('authorization'));
  if (token !== undefined && timingSafeEqual(digest(token), expected)) return undefined;
  return {
    status: 401,
    message: 'A token is required: as bearer token, or as the password of any user name.',
  };
}

function checkLocal({ peer, header }: PageRequest): AccessDenial | undefined {
  if (!isLoopback(peer) || FORWARDING.some((name) => header(name) !== '')) {
    return {
      status: 403,
      message:
        'Without a token, the page is available on this machine only. Set page.token to open it to other machines.',
    };
  }
  // DNS rebinding: a foreign name that resolves to this machine makes its site the page's origin.
  const name = nameOf(header('host'));
  if (name === 'localhost' || name.endsWith('.localhost') || isLoopback(name)) return undefined;
  return { status: 403, message: 'Without a token, the page is available at localhost only.' };
}
