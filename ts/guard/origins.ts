/**
 * Origins: which pages may open a WebSocket. Browsers let every page connect to every server, and send
 * the visitor's cookies along; they always say in `Origin` which page it was (RFC 6455, section 4.1),
 * and no page can change that header. A handshake without `Origin` comes from no browser.
 */
import { lazily } from '../base/builtin.js';
import { describe, outOfRange, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import type { TrustedProxies } from '../native/addon.js';
import { parseIpv4 } from '../native/strings.js';
import type { GuardOptions } from './options.js';
import type { AuthDenial } from './denial.js';

const net = lazily(() => process.getBuiltinModule('node:net'));

type Headers = (name: string) => string;

const ORIGINS_MAX = 1000;
/** Origins that are warned about: a stranger can make up any number of them. */
const WARNINGS_MAX = 8;
const SAME_HOST = 'same-host';
const ALLOWED =
  "an origin such as 'https://app.example', a pattern such as 'https://*.example.com', or 'same-host'";

/** Denial of a handshake from a page of another origin. @internal */
const DENIED: AuthDenial = {
  code: 'origin_not_allowed',
  reason: 'Origin not allowed',
  retryAfterMs: 0,
};

/** `https://app.example:8443`, in its parts. */
interface Origin {
  readonly scheme: string;
  readonly host: string;
  /** Empty for the default port of the scheme. */
  readonly port: string;
}

/**
 * A serialized origin (RFC 6454, section 6.1): no user, no path. Hosts are of ASCII, as browsers write
 * them, or an IPv6 address in brackets. 253 characters are the longest name in the DNS, and a dot.
 */
const ORIGIN = /^([a-z][a-z0-9+.-]{0,63}):\/\/(.*)$/;
const HOST = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,254})(?::(\d{0,5}))?$/;
const PORT_OF: Readonly<Record<string, number>> = { http: 80, https: 443, ws: 80, wss: 443 };
/** The last label of a name that the URL standard reads as an IPv4 address. */
const NUMERIC = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/;

/**
 * Reads an authority, in lower case, as one of that scheme: its host and its port.
 * @returns `undefined` for anything else, such as a list or one with a user
 */
function authorityOf(scheme: string, text: string): Omit<Origin, 'scheme'> | undefined {
  const [, host, digits = ''] = HOST.exec(text) ?? [];
  if (host === undefined) return undefined;
  // An IPv4 address in any other notation would be another host to a browser than it is here.
  if (
    host[0] === '[' ? !net().isIPv6(host.slice(1, -1)) : NUMERIC.test(host) && parseIpv4(host) < 0
  )
    return undefined;
  const port = Number(digits);
  if (port > 65_535) return undefined;
  return { host, port: digits === '' || port === PORT_OF[scheme] ? '' : String(port) };
}

/** Reads an `Origin` header; `undefined` for `null` and for anything that is no single origin. @internal */
export function originOf(text: string): Origin | undefined {
  const [, scheme, rest] = ORIGIN.exec(text.toLowerCase()) ?? [];
  if (scheme === undefined || rest === undefined) return undefined;
  const authority = authorityOf(scheme, rest);
  return authority === undefined ? undefined : { scheme, ...authority };
}

/** True if a page of `origin` was loaded from `host`, a `Host` header. @internal */
export function isSameHost({ scheme, host, port }: Origin, header: string): boolean {
  if (scheme !== 'http' && scheme !== 'https') return false;
  const authority = authorityOf(scheme, header.toLowerCase());
  return authority?.host === host && authority.port === port;
}

const textOf = ({ scheme, host, port }: Origin): string =>
  `${scheme}://${host}${port === '' ? '' : `:${port}`}`;

/** True for a `Host` of this machine, which no visitor has typed: a proxy has set it. */
const isLoopback = (host: string): boolean =>
  /^(?:localhost|[\w.-]+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])\.?(?::\d*)?$/i.test(host);

/** Credentials that browsers attach by themselves, whichever page connects. */
const isAmbient = (authorization: string): boolean =>
  /^(?:basic|digest|negotiate|ntlm)\b/i.test(authorization);

/** Judges the origins of handshakes, for one guard. @internal */
export class Origins {
  readonly #proxies: TrustedProxies | undefined;
  readonly #hooks = new Hooks();
  readonly #decide: ((origin: string, host: string) => unknown) | undefined;
  readonly #exact = new Set<string>();
  /** Origins of which any subdomain is allowed, with the dot in front of their host. */
  readonly #parents: Origin[] = [];
  #allowsSameHost = false;
  readonly #warned = new Set<string>();
  /** True if the option was given: without it only handshakes with credentials are judged. */
  readonly isStrict: boolean;

  /**
   * @param proxies whose `X-Forwarded-Host` counts
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for `allowedOrigins`
   */
  constructor(allowed: GuardOptions<never>['allowedOrigins'], proxies: TrustedProxies | undefined) {
    this.#proxies = proxies;
    this.isStrict = allowed !== undefined;
    if (typeof allowed === 'function') {
      this.#decide = allowed;
      return;
    }
    if (allowed === undefined) {
      this.#allowsSameHost = true;
      return;
    }
    if (typeof allowed !== 'string' && !Array.isArray(allowed))
      throw wrongType('allowedOrigins', allowed, `${ALLOWED}, an array of them, or a function`);
    const list: readonly unknown[] = typeof allowed === 'string' ? [allowed] : allowed;
    if (list.length > ORIGINS_MAX)
      throw outOfRange('allowedOrigins', list.length, `at most ${ORIGINS_MAX} origins`);
    for (const [index, entry] of list.entries())
      this.#add(typeof allowed === 'string' ? 'allowedOrigins' : `allowedOrigins[${index}]`, entry);
  }

  #add(field: string, entry: unknown): void {
    if (typeof entry !== 'string') throw wrongType(field, entry, ALLOWED);
    if (entry === SAME_HOST) {
      this.#allowsSameHost = true;
      return;
    }
    const [, scheme, name] = /^([^:]+:\/\/)\*\.(.+)$/.exec(entry) ?? [];
    const origin = originOf(scheme === undefined ? entry : `${scheme}${name}`);
    const isPattern = scheme !== undefined;
    // An address has no subdomains.
    if (
      origin === undefined ||
      (isPattern && (origin.host[0] === '[' || NUMERIC.test(origin.host)))
    )
      throw outOfRange(field, entry, ALLOWED);
    if (isPattern) this.#parents.push({ ...origin, host: `.${origin.host}` });
    else this.#exact.add(textOf(origin));
  }

  /**
   * Judges a handshake: the denial of one from a page that may not connect.
   * @param peer address of the socket's peer
   * @param header returns a header by its name in lower case, `''` if it is absent
   */
  judge(peer: string, header: Headers): AuthDenial | undefined {
    const origin = header('origin');
    if (origin === '') return undefined;
    if (!this.isStrict && header('cookie') === '' && !isAmbient(header('authorization')))
      return undefined;
    const host = this.#hostOf(peer, header);
    if (this.#allows(origin, host)) return undefined;
    this.#warn(origin, host);
    return DENIED;
  }

  #allows(text: string, host: string): boolean {
    const decide = this.#decide;
    if (decide !== undefined)
      return this.#hooks.ask('allowedOrigins', () => decide(text, host)) === true;
    const origin = originOf(text);
    if (origin === undefined) return false;
    return (
      this.#exact.has(textOf(origin)) ||
      this.#parents.some((parent) => isBelow(origin, parent)) ||
      (this.#allowsSameHost && isSameHost(origin, host))
    );
  }

  /** Returns the host that the client asked for, as its first proxy saw it. */
  #hostOf(peer: string, header: Headers): string {
    const host = header('host');
    if (this.#proxies?.trusts(peer) !== true) return host;
    const first = header('x-forwarded-host')
      .split(',')
      .find((one) => one.trim() !== '');
    return first?.trim() ?? host;
  }

  /** Warns of an origin once, with the line that allows it. Shows nothing of a header that is no origin. */
  #warn(text: string, host: string): void {
    const origin = originOf(text);
    const name = origin === undefined ? (text === 'null' ? 'null' : '') : textOf(origin);
    if (this.#warned.has(name) || this.#warned.size >= WARNINGS_MAX) return;
    this.#warned.add(name);
    process.emitWarning(this.#textFor(name, host), {
      type: 'PortcullisWarning',
      code: 'PORTCULLIS_ORIGIN_NOT_ALLOWED',
    });
  }

  /** @param name the origin, `null`, or '' for no origin */
  #textFor(name: string, host: string): string {
    if (name === '')
      return 'refused a handshake whose Origin is no origin. Only a function as allowedOrigins can allow it';
    if (name === 'null')
      return 'refused a handshake from the origin null, such as a sandboxed frame or a file. Only a function as allowedOrigins can allow it';
    const refused = `refused a handshake from the origin '${name}'`;
    if (this.#decide !== undefined) return `${refused}, as the function allowedOrigins decided`;
    const remedy = this.isStrict
      ? `To allow it, add '${name}' to allowedOrigins`
      : `To allow it, set allowedOrigins: ['${SAME_HOST}', '${name}']`;
    const isProxied =
      this.#allowsSameHost && isLoopback(host) && !isLoopback(name.slice(name.indexOf('//') + 2));
    return isProxied
      ? `${refused}, since Host is ${describe(host)}, a loopback address. Behind a proxy, let it pass the client's host on (nginx: proxy_set_header Host $host;), or send X-Forwarded-Host and have its address in trustedProxies. ${remedy}`
      : `${refused}. ${remedy}`;
  }
}

function isBelow(origin: Origin, parent: Origin): boolean {
  return (
    origin.scheme === parent.scheme &&
    origin.port === parent.port &&
    origin.host.length > parent.host.length &&
    origin.host.endsWith(parent.host)
  );
}
