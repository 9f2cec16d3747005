/** Checks of a URL for its purpose. The engine parses it; this is the policy before and after. */
import { domainToUnicode } from 'node:url';
import { canParseUrl } from '../base/parsable.js';
import { failure, refused, type ValidationResult } from './failure.js';
import type { FailureCode } from './failure-codes.js';
import { bareHost, flagHost, isIpv4, isPublicHost, type UrlFlag } from './host.js';
import {
  checkedUrlOptions,
  URL_LENGTH_MAX,
  type UrlOptions,
  type UrlRules,
} from './url-options.js';
import {
  checkAuthority,
  checkPath,
  findBadCharacter,
  schemeOf,
  splitPath,
  splitUrl,
  type UrlParts,
  type UrlPath,
  writtenHost,
} from './url-parts.js';

/** A URL that was accepted. */
export interface JudgedUrl {
  /** The URL as the engine writes it; for a path, the path as it came. Use this one. */
  readonly href: string;
  /** Scheme, host and port; empty for a path. */
  readonly origin: string;
  /** The host without port, brackets and trailing dot; empty for a path. */
  readonly host: string;
  /** The host with the letters that `xn--` labels stand for; otherwise as `host`. */
  readonly unicodeHost: string;
  /** The path. */
  readonly path: string;
  /** The query with its question mark, or empty. */
  readonly query: string;
  /** The oddities of the URL. */
  readonly flags: readonly UrlFlag[];
}

const REQUIRED = refused('ERR_URL_REQUIRED', { field: 'url' });
const TYPE = refused('ERR_URL_TYPE', { field: 'url' });
const FORMAT = refused('ERR_URL_FORMAT', { field: 'url' });

function refusal(code: FailureCode, offset?: number): ValidationResult<never> {
  return {
    success: false,
    error: failure(code, offset === undefined ? { field: 'url' } : { field: 'url', offset }),
  };
}

/** Refuses input of another type than text, and text beyond the limit. */
function checkLength(url: unknown, limit: number): ValidationResult<never> | undefined {
  if (!url) return REQUIRED;
  if (typeof url !== 'string') return TYPE;
  if (url.length <= limit) return undefined;
  return {
    success: false,
    error: failure('ERR_URL_TOO_LONG', { field: 'url', limit, actual: url.length }),
  };
}

/** Checks a URL for the purpose that the options name. @internal */
export function checkUrl(url: unknown, options?: UrlOptions): ValidationResult<JudgedUrl> {
  const rules = checkedUrlOptions(options);
  const wrong = checkLength(url, rules.maxLength);
  if (wrong !== undefined) return wrong;
  const text = url as string;
  if (rules.mode === undefined) return checkWithoutMode(text);
  const bad = findBadCharacter(text);
  if (bad !== undefined) return refusal(bad.code, bad.offset);
  if (rules.mode === 'request-target') return checkRequestTarget(text, rules);
  return rules.mode === 'redirect' ? checkRedirect(text, rules) : checkOutbound(text, rules);
}

/** Checks that the engine can parse a URL, and returns the text as it came. @internal */
export function checkPlainUrl(url: unknown): ValidationResult<string> {
  const wrong = checkLength(url, URL_LENGTH_MAX);
  if (wrong !== undefined) return wrong;
  const text = url as string;
  return canParseUrl(text, 'http://localhost') ? { success: true, value: text } : FORMAT;
}

/** The origin that stands for this site. The name is reserved (RFC 2606, section 2). */
const THIS_SITE = 'http://this-site.invalid';

/**
 * Checks that a URL is an absolute one of `http` or `https`, or a path of this site, and returns
 * the text as it came. The engine judges, since it skips tabs and line breaks and reads a backslash
 * as a slash.
 * @internal
 */
export function checkLink(url: unknown, maxLength: number): ValidationResult<string> {
  const wrong = checkLength(url, maxLength);
  if (wrong !== undefined) return wrong;
  const text = url as string;
  if (!canParseUrl(text, THIS_SITE)) return FORMAT;
  const { protocol, origin } = new URL(text, THIS_SITE);
  if (protocol !== 'http:' && protocol !== 'https:') return refusal('ERR_URL_SCHEME');
  if (text.startsWith('/'))
    return origin === THIS_SITE ? { success: true, value: text } : refusal('ERR_URL_NETWORK_PATH');
  return /^https?:\/\//i.test(text) ? { success: true, value: text } : refusal('ERR_URL_FORM');
}

function checkWithoutMode(url: string): ValidationResult<JudgedUrl> {
  if (!canParseUrl(url, 'http://localhost')) return FORMAT;
  const { href, origin, hostname, pathname, search } = new URL(url, 'http://localhost');
  const host = bareHost(hostname);
  return {
    success: true,
    value: { href, origin, host, unicodeHost: host, path: pathname, query: search, flags: [] },
  };
}

/** Checks the target of a request line (RFC 9112, section 3.2). */
function checkRequestTarget(url: string, rules: UrlRules): ValidationResult<JudgedUrl> {
  const { method, host } = rules.given;
  if (url === '*')
    return method === 'OPTIONS'
      ? acceptedPath(url, { path: '*', query: '', hasFragment: false }, new Set())
      : refusal('ERR_URL_FORM');
  if (url.includes('#')) return refusal('ERR_URL_FRAGMENT', url.indexOf('#'));
  if (!url.startsWith('/')) {
    if (host === undefined) return refusal('ERR_URL_FORM');
    return checkAbsolute(url, rules, (_, parts) => {
      if (parts.scheme !== 'http' && parts.scheme !== 'https') return 'ERR_URL_SCHEME';
      return parts.authority.toLowerCase() === host.toLowerCase() ? undefined : 'ERR_URL_HOST';
    });
  }
  // A URL parser that joins the path to a base reads a host behind two slashes.
  if (url.startsWith('//')) return refusal('ERR_URL_NETWORK_PATH');
  const parts = splitPath(url);
  const flags = new Set<UrlFlag>();
  // Without one of these, a path passes every check.
  const isSuspicious =
    url.includes('%') ||
    url.includes('/.') ||
    url.includes(':') ||
    url.includes('..') ||
    url.includes('=/');
  const code = isSuspicious ? checkPath(parts, rules, flags) : undefined;
  return code === undefined ? acceptedPath(url, parts, flags) : refusal(code);
}

/** Checks the target of a redirect: a path, or a URL of an allowed origin. */
function checkRedirect(url: string, rules: UrlRules): ValidationResult<JudgedUrl> {
  if (url.startsWith('/')) {
    if (url.startsWith('//')) return refusal('ERR_URL_NETWORK_PATH');
    const parts = splitPath(url);
    const flags = new Set<UrlFlag>();
    const code = checkPath(parts, rules, flags);
    return code === undefined ? acceptedPath(url, parts, flags) : refusal(code);
  }
  const scheme = schemeOf(url);
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https')
    return refusal('ERR_URL_SCHEME');
  const origins = (rules.given.allowedOrigins ?? []).map((origin) =>
    dotlessOrigin(new URL(origin)),
  );
  return checkAbsolute(url, rules, (parsed, parts) => {
    if (isIpv4(parsed.hostname) && writtenHost(parts.authority) !== parsed.hostname)
      return 'ERR_URL_ADDRESS_NOTATION';
    return origins.includes(dotlessOrigin(parsed)) ? undefined : 'ERR_URL_HOST';
  });
}

/** Returns an origin without the trailing dot of its host, which does not change its meaning. */
function dotlessOrigin({ protocol, hostname, port }: URL): string {
  const host = hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
  return `${protocol}//${host}${port && `:${port}`}`;
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  'http:': 80,
  'https:': 443,
  'ws:': 80,
  'wss:': 443,
};

/**
 * Checks a URL that the server fetches: an absolute one, of the public internet or an allowed host.
 */
function checkOutbound(url: string, rules: UrlRules): ValidationResult<JudgedUrl> {
  const { given } = rules;
  const scheme = schemeOf(url);
  const schemes = (given.schemes ?? ['https']).map((name) => name.toLowerCase().replace(/:$/, ''));
  if (scheme !== undefined && !schemes.includes(scheme)) return refusal('ERR_URL_SCHEME');
  return checkAbsolute(url, rules, (parsed, parts) => {
    if (parts.hasFragment) return 'ERR_URL_FRAGMENT';
    const port = parsed.port === '' ? DEFAULT_PORTS[parsed.protocol] : Number(parsed.port);
    if (port === undefined || !(given.allowedPorts ?? [80, 443]).includes(port))
      return 'ERR_URL_PORT';
    const host = bareHost(parsed.hostname);
    if (isIpv4(host) && writtenHost(parts.authority) !== host) return 'ERR_URL_ADDRESS_NOTATION';
    if (given.allowedHosts !== undefined)
      return given.allowedHosts.some((name) => bareHost(name.toLowerCase()) === host)
        ? undefined
        : 'ERR_URL_HOST';
    return isPublicHost(parsed.hostname) ? undefined : 'ERR_URL_ADDRESS';
  });
}

/** Checks an absolute URL: its form, `check` of the mode, then path, query and host. */
function checkAbsolute(
  url: string,
  rules: UrlRules,
  check: (parsed: URL, parts: UrlParts) => FailureCode | undefined,
): ValidationResult<JudgedUrl> {
  const parts = splitUrl(url);
  if (parts === undefined) return refusal('ERR_URL_FORM');
  if (!canParseUrl(url)) return FORMAT;
  const parsed = new URL(url);
  const flags = new Set<UrlFlag>();
  const code =
    checkAuthority(parts.authority) ?? check(parsed, parts) ?? checkPath(parts, rules, flags);
  if (code !== undefined) return refusal(code);
  const host = bareHost(parsed.hostname);
  const unicodeHost = host.includes('xn--') ? domainToUnicode(host) || host : host;
  flagHost(unicodeHost, host, flags);
  return {
    success: true,
    value: {
      href: parsed.href,
      origin: parsed.origin,
      host,
      unicodeHost,
      path: parsed.pathname,
      query: parsed.search,
      flags: [...flags],
    },
  };
}

function acceptedPath(
  url: string,
  { path, query }: UrlPath,
  flags: Set<UrlFlag>,
): ValidationResult<JudgedUrl> {
  return {
    success: true,
    value: { href: url, origin: '', host: '', unicodeHost: '', path, query, flags: [...flags] },
  };
}
