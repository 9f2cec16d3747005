/** Who may look at the page. */
import { createHash, timingSafeEqual } from 'node:crypto';

/** A request, as far as the page needs it. @internal */
export interface PageRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** The socket's address, whatever headers say. */
  readonly peer: string;
  /** Reads a header by its name in lower case; `''` if absent. */
  readonly header: (name: string) => string;
}

/** Longest `Authorization` that is looked at. */
const AUTHORIZATION_MAX = 1024;
/** A proxy on the same machine makes everybody look local. */
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

/** The name in a `Host` header, without its port. */
function nameOf(host: string): string {
  const bracket = /^\[([0-9a-f:.]+)\](?::\d{1,5})?$/i.exec(host)?.[1];
  return bracket ?? host.replace(/:\d{1,5}$/, '').toLowerCase();
}

/** The token in `Bearer token` or, as browsers ask for it, in the password of `Basic`. */
function presented(authorization: string): string | undefined {
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

/** Why somebody may not look. */
interface Denied {
  readonly status: 401 | 403;
  readonly message: string;
}

/** @internal */
export class Access {
  /** Of the token: the comparison takes the same time whatever is presented. */
  readonly #digest: Buffer | undefined;

  constructor(token: string | undefined) {
    this.#digest = token === undefined ? undefined : digest(token);
  }

  /**
   * @param isData whether figures are asked for, and not the page itself
   * @returns why not, or `undefined`
   */
  judge({ peer, header }: PageRequest, isData: boolean): Denied | undefined {
    // Another site's page must neither read the figures nor take a viewer's place.
    const site = header('sec-fetch-site');
    if (isData && site !== '' && site !== 'same-origin' && site !== 'none')
      return { status: 403, message: 'Figures are for the page itself.' };
    if (this.#digest !== undefined) {
      const token = presented(header('authorization'));
      if (token !== undefined && timingSafeEqual(digest(token), this.#digest)) return undefined;
      return {
        status: 401,
        message: 'A token is needed: as bearer token, or as the password of any user name.',
      };
    }
    if (!isLoopback(peer) || FORWARDING.some((name) => header(name) !== '')) {
      return {
        status: 403,
        message:
          'Without a token the page is for this machine only. Set page.token to open it to others.',
      };
    }
    // A foreign name that resolves to this machine (DNS rebinding) is not ours.
    const name = nameOf(header('host'));
    if (name === 'localhost' || name.endsWith('.localhost') || isLoopback(name)) return undefined;
    return { status: 403, message: 'Without a token the page is at localhost only.' };
  }
}
