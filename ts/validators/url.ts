/** URLs judged by what they are for. Parsing is the engine's; this is the policy before and after it. */
import { domainToUnicode } from 'node:url';
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { isPublicIp } from '../native/addon.js';
import { failure, type ValidationResult } from './failure.js';
import type { FailureCode } from './failures.js';
import { bareHost, flagHost, isIpv4, isLocalName, type UrlFlag } from './host.js';
import { unwrapped } from './percent.js';

/** What a URL is for: the target of a request, where a client is sent, or what the server fetches. */
export type UrlMode = 'request-target' | 'redirect' | 'outbound';

/** What is allowed. */
export interface UrlOptions {
  /** Default: none, which is the plan's check: any URL or path that the engine can parse. */
  readonly mode?: UrlMode | undefined;
  /** UTF-16 units: 1 to 65,536. Default 2048. */
  readonly maxLength?: number | undefined;
  /**
   * What becomes of paths that climb or hide how, and of malformed percent codes: `refuse`, or
   * `flag`, which lets them through with a flag. Default `refuse`.
   */
  readonly suspicious?: 'refuse' | 'flag' | undefined;
  /** `request-target`: the method, which decides about `*`. Default: none. */
  readonly method?: string | undefined;
  /** `request-target`: the `Host` header, which an absolute URL must name. Absolute URLs are refused without it. Default: none. */
  readonly host?: string | undefined;
  /** `redirect`: origins besides one's own paths, as `https://example.com`. Default none. */
  readonly allowedOrigins?: readonly string[] | undefined;
  /** `outbound`: the schemes that may be fetched. Default `['https']`. */
  readonly schemes?: readonly string[] | undefined;
  /** `outbound`: the ports that may be fetched from, each 1 to 65535. Default `[80, 443]`. */
  readonly allowedPorts?: readonly number[] | undefined;
  /** `outbound`: the only hosts; they may lie on one's own network. Default: any on the public internet. */
  readonly allowedHosts?: readonly string[] | undefined;
}

/** A URL that was let through. */
export interface JudgedUrl {
  /** The URL as the engine writes it; of a path, the path as it came. Use this one. */
  readonly href: string;
  /** Empty for a path. */
  readonly origin: string;
  /** Without port, brackets and trailing dot; empty for a path. */
  readonly host: string;
  /** The host in its own alphabet, where that is another. */
  readonly unicodeHost: string;
  readonly path: string;
  /** With its question mark, or empty. */
  readonly query: string;
  readonly flags: readonly UrlFlag[];
}

const LENGTH_MAX = 2048;
const OPTIONS = [
  'mode',
  'maxLength',
  'suspicious',
  'method',
  'host',
  'allowedOrigins',
  'schemes',
  'allowedPorts',
  'allowedHosts',
] as const;
const MODES = ['request-target', 'redirect', 'outbound'];

/** What must be encoded in any URL: controls, space, DEL, and all that is not ASCII. */
function isRaw(code: number): boolean {
  return code <= 0x20 || code >= 0x7f;
}

/** CR, LF, NUL; and the letters whose low bytes are CR and LF, which old servers cut to these. */
const LINE_BREAK = /[\r\n\0]|\xe5\x98[\x8a\x8d]/;
const CONTROL = /[^\x20-\x7e\x80-\uffff]/;
/** A segment that climbs or stays, also with a parameter or blanks behind it. */
const CLIMBS = /(?:^|[/\\])\.{1,}(?:$|[/\\;\0 %?#])/;
const CLIMBS_IN_QUERY = /(?:^|[/\\=&;])\.\.[/\\]/;
const NESTED = /^[/\\]*(?:[a-z][a-z0-9+.-]*:)|^[/\\]\.(?!well-known\/)/i;
const NESTED_IN_QUERY = /=(?:[a-z][a-z0-9+.-]*:)?[/\\]{1,2}[/\\]|=(?:javascript|data|vbscript):/i;

type Verdict = FailureCode | undefined;

/** Judges path and query, which hold neither raw controls nor backslashes before the query. */
function judgeParts(
  path: string,
  query: string,
  mode: UrlMode,
  mayFlag: boolean,
  flags: Set<UrlFlag>,
): Verdict {
  const inPath = unwrapped(path);
  const inQuery = unwrapped(query);
  for (const layer of [...inPath.layers, ...inQuery.layers])
    if (LINE_BREAK.test(layer)) return 'ERR_URL_ENCODED_CONTROL';
  for (const layer of inPath.layers) {
    if (CONTROL.test(layer)) return 'ERR_URL_ENCODED_CONTROL';
    // Behind one more decoding, another host. A first layer with two slashes was judged before.
    if (mode === 'redirect' && /^[/\\]{2}/.test(layer)) return 'ERR_URL_NETWORK_PATH';
    if (CLIMBS.test(layer)) flags.add('traversal');
  }
  const separators = (text: string): number => text.split(/[/\\]/).length;
  if (inPath.layers.some((layer) => separators(layer) > separators(path)))
    flags.add('encoded-separator');
  if (flags.has('traversal') && !mayFlag) return 'ERR_URL_TRAVERSAL';
  if (inPath.isMalformed) {
    if (!mayFlag) return 'ERR_URL_PERCENT';
    flags.add('percent');
  }
  if (inQuery.isMalformed) flags.add('percent');
  if (inPath.layers.length > 2 || inQuery.layers.length > 2) flags.add('double-encoding');
  if (inQuery.layers.some((layer) => CONTROL.test(layer))) flags.add('encoded-control');
  if (inQuery.layers.some((layer) => CLIMBS_IN_QUERY.test(layer))) flags.add('traversal');
  if (
    inPath.layers.some((layer) => NESTED.test(layer)) ||
    inQuery.layers.some((layer) => NESTED_IN_QUERY.test(layer))
  )
    flags.add('nested-url');
  return undefined;
}

/** The parts of a URL as it is written. */
interface Written {
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly query: string;
  readonly hasFragment: boolean;
}

/** Splits `scheme://authority/path?query#fragment`; `undefined` for any other form. */
function written(url: string): Written | undefined {
  const colon = url.indexOf('://');
  if (colon < 1 || !/^[a-z][a-z0-9+.-]*$/i.test(url.slice(0, colon))) return undefined;
  const rest = url.slice(colon + 3);
  const end = rest.search(/[/?#]/);
  const authority = end < 0 ? rest : rest.slice(0, end);
  if (authority === '') return undefined;
  return {
    scheme: url.slice(0, colon).toLowerCase(),
    authority,
    ...split(end < 0 ? '' : rest.slice(end)),
  };
}

function split(text: string): { path: string; query: string; hasFragment: boolean } {
  const hash = text.indexOf('#');
  const rest = hash < 0 ? text : text.slice(0, hash);
  const mark = rest.indexOf('?');
  return {
    path: mark < 0 ? rest : rest.slice(0, mark),
    query: mark < 0 ? '' : rest.slice(mark),
    hasFragment: hash >= 0,
  };
}

interface CheckedOptions {
  readonly mode: UrlMode | undefined;
  readonly maxLength: number;
  readonly mayFlag: boolean;
  readonly given: UrlOptions;
}

function listOf(field: string, value: unknown, kind: 'string' | 'number'): void {
  if (value === undefined) return;
  if (!Array.isArray(value) || value.some((one) => typeof one !== kind))
    throw wrongType(field, value, `an array of ${kind}s`);
}

function checkedOptions(options: UrlOptions | undefined): CheckedOptions {
  if (options === undefined) return PLAIN;
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('UrlOptions', options, OPTIONS);
  const { mode, suspicious = 'refuse' } = options;
  if (mode !== undefined && !MODES.includes(mode)) throw outOfRange('mode', mode, MODES.join(', '));
  if (suspicious !== 'refuse' && suspicious !== 'flag')
    throw outOfRange('suspicious', suspicious, "'refuse' or 'flag'");
  for (const field of ['method', 'host'] as const)
    if (options[field] !== undefined && typeof options[field] !== 'string')
      throw wrongType(field, options[field], 'a string');
  for (const field of ['allowedOrigins', 'schemes', 'allowedHosts'] as const)
    listOf(field, options[field], 'string');
  listOf('allowedPorts', options.allowedPorts, 'number');
  for (const port of options.allowedPorts ?? []) wholeNumber('allowedPorts', port, 1, 65_535);
  // Unheeded, it would look like a limit that is none.
  if (mode === 'outbound' && options.allowedOrigins !== undefined)
    throw wrongType(
      'allowedOrigins',
      options.allowedOrigins,
      'absent in the mode outbound, which takes allowedHosts',
    );
  for (const origin of options.allowedOrigins ?? []) {
    if (!URL.canParse(origin) || new URL(origin).origin === 'null')
      throw outOfRange('allowedOrigins', origin, 'origins as https://example.com');
  }
  return {
    mode,
    maxLength: wholeNumber('maxLength', options.maxLength, 1, 65_536, LENGTH_MAX),
    mayFlag: suspicious === 'flag',
    given: options,
  };
}

const PLAIN: CheckedOptions = { mode: undefined, maxLength: LENGTH_MAX, mayFlag: true, given: {} };
const refused = (code: FailureCode): ValidationResult<never> =>
  Object.freeze({ success: false, error: failure(code, { field: 'url' }) });
const REQUIRED = refused('ERR_URL_REQUIRED');
const TYPE = refused('ERR_URL_TYPE');
const FORMAT = refused('ERR_URL_FORMAT');

function refusal(code: FailureCode, offset?: number): ValidationResult<never> {
  return {
    success: false,
    error: failure(code, offset === undefined ? { field: 'url' } : { field: 'url', offset }),
  };
}

function ofPath(
  url: string,
  parts: { path: string; query: string },
  flags: Set<UrlFlag>,
): ValidationResult<JudgedUrl> {
  return {
    success: true,
    value: {
      href: url,
      origin: '',
      host: '',
      unicodeHost: '',
      path: parts.path,
      query: parts.query,
      flags: [...flags],
    },
  };
}

/** What is refused in every mode, whatever the form. */
function judgeCharacters(url: string): ValidationResult<never> | undefined {
  let isBeforeQuery = true;
  for (let at = 0; at < url.length; at++) {
    const code = url.charCodeAt(at);
    if (isRaw(code)) return refusal('ERR_URL_CHARACTER', at);
    if (code === 0x3f || code === 0x23) isBeforeQuery = false;
    else if (code === 0x5c && isBeforeQuery) return refusal('ERR_URL_BACKSLASH', at);
  }
  return undefined;
}

/** Hosts that parsers read differently: with credentials before them, or encoded. */
function judgeAuthority(authority: string): Verdict {
  if (authority.includes('@')) return 'ERR_URL_CREDENTIALS';
  return authority.includes('%') ? 'ERR_URL_PERCENT' : undefined;
}

function judgeAbsolute(
  url: string,
  mode: UrlMode,
  mayFlag: boolean,
  check: (parsed: URL, parts: Written) => Verdict,
): ValidationResult<JudgedUrl> {
  const parts = written(url);
  if (parts === undefined) return refusal('ERR_URL_FORM');
  if (!URL.canParse(url)) return FORMAT;
  const parsed = new URL(url);
  const flags = new Set<UrlFlag>();
  const verdict =
    judgeAuthority(parts.authority) ??
    check(parsed, parts) ??
    judgeParts(parts.path, parts.query, mode, mayFlag, flags);
  if (verdict !== undefined) return refusal(verdict);
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

/** The host of an authority as it is written, in small letters, without its port. */
function writtenHost(authority: string): string {
  const end = authority.startsWith('[') ? authority.indexOf(']') + 1 : authority.search(/:|$/);
  return authority.slice(0, end).toLowerCase();
}

function judgeTarget(url: string, { given, mayFlag }: CheckedOptions): ValidationResult<JudgedUrl> {
  if (url === '*')
    return given.method === 'OPTIONS'
      ? ofPath(url, { path: '*', query: '' }, new Set())
      : refusal('ERR_URL_FORM');
  if (url.includes('#')) return refusal('ERR_URL_FRAGMENT', url.indexOf('#'));
  if (!url.startsWith('/')) {
    if (given.host === undefined) return refusal('ERR_URL_FORM');
    return judgeAbsolute(url, 'request-target', mayFlag, (_, parts) => {
      if (parts.scheme !== 'http' && parts.scheme !== 'https') return 'ERR_URL_SCHEME';
      return parts.authority.toLowerCase() === given.host?.toLowerCase()
        ? undefined
        : 'ERR_URL_HOST';
    });
  }
  // Joined to a base by a URL parser, a second slash would begin a host.
  if (url.startsWith('//')) return refusal('ERR_URL_NETWORK_PATH');
  const parts = split(url);
  const flags = new Set<UrlFlag>();
  if (
    url.includes('%') ||
    url.includes('/.') ||
    url.includes(':') ||
    url.includes('..') ||
    url.includes('=/')
  ) {
    const verdict = judgeParts(parts.path, parts.query, 'request-target', mayFlag, flags);
    if (verdict !== undefined) return refusal(verdict);
  }
  return ofPath(url, parts, flags);
}

function judgeRedirect(
  url: string,
  { given, mayFlag }: CheckedOptions,
): ValidationResult<JudgedUrl> {
  if (url.startsWith('/')) {
    if (url.startsWith('//')) return refusal('ERR_URL_NETWORK_PATH');
    const parts = split(url);
    const flags = new Set<UrlFlag>();
    const verdict = judgeParts(parts.path, parts.query, 'redirect', mayFlag, flags);
    return verdict === undefined ? ofPath(url, parts, flags) : refusal(verdict);
  }
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https')
    return refusal('ERR_URL_SCHEME');
  const origins = (given.allowedOrigins ?? []).map((origin) => dotlessOrigin(new URL(origin)));
  return judgeAbsolute(url, 'redirect', mayFlag, (parsed, parts) => {
    if (isIpv4(parsed.hostname) && writtenHost(parts.authority) !== parsed.hostname)
      return 'ERR_URL_ADDRESS_NOTATION';
    return origins.includes(dotlessOrigin(parsed)) ? undefined : 'ERR_URL_HOST';
  });
}

/** An origin whose host lost its trailing dot, which means the same. */
function dotlessOrigin({ protocol, hostname, port }: URL): string {
  return `${protocol}//${hostname.endsWith('.') ? hostname.slice(0, -1) : hostname}${port && `:${port}`}`;
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  'http:': 80,
  'https:': 443,
  'ws:': 80,
  'wss:': 443,
};

function judgeOutbound(
  url: string,
  { given, mayFlag }: CheckedOptions,
): ValidationResult<JudgedUrl> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  const schemes = (given.schemes ?? ['https']).map((one) => one.toLowerCase().replace(/:$/, ''));
  if (scheme !== undefined && !schemes.includes(scheme)) return refusal('ERR_URL_SCHEME');
  return judgeAbsolute(url, 'outbound', mayFlag, (parsed, parts) => {
    if (parts.hasFragment) return 'ERR_URL_FRAGMENT';
    const port = parsed.port === '' ? DEFAULT_PORTS[parsed.protocol] : Number(parsed.port);
    if (port === undefined || !(given.allowedPorts ?? [80, 443]).includes(port))
      return 'ERR_URL_PORT';
    const host = bareHost(parsed.hostname);
    if (isIpv4(host) && writtenHost(parts.authority) !== host) return 'ERR_URL_ADDRESS_NOTATION';
    if (given.allowedHosts !== undefined)
      return given.allowedHosts.some((one) => bareHost(one.toLowerCase()) === host)
        ? undefined
        : 'ERR_URL_HOST';
    const isAddress = parsed.hostname.startsWith('[') || isIpv4(host);
    return (isAddress ? isPublicIp(host) : !isLocalName(host)) ? undefined : 'ERR_URL_ADDRESS';
  });
}

/** @internal */
export function judgeUrl(url: unknown, options?: UrlOptions): ValidationResult<JudgedUrl> {
  const checked = checkedOptions(options);
  if (!url) return REQUIRED;
  if (typeof url !== 'string') return TYPE;
  if (url.length > checked.maxLength)
    return {
      success: false,
      error: failure('ERR_URL_TOO_LONG', {
        field: 'url',
        limit: checked.maxLength,
        actual: url.length,
      }),
    };
  if (checked.mode === undefined) {
    if (!URL.canParse(url, 'http://localhost')) return FORMAT;
    const { href, origin, hostname, pathname, search } = new URL(url, 'http://localhost');
    const host = bareHost(hostname);
    return {
      success: true,
      value: { href, origin, host, unicodeHost: host, path: pathname, query: search, flags: [] },
    };
  }
  const wrong = judgeCharacters(url);
  if (wrong !== undefined) return wrong;
  if (checked.mode === 'request-target') return judgeTarget(url, checked);
  return checked.mode === 'redirect' ? judgeRedirect(url, checked) : judgeOutbound(url, checked);
}

/** The plan's check, which hands back the text it was given. @internal */
export function judgePlainUrl(url: unknown): ValidationResult<string> {
  if (!url) return REQUIRED;
  if (typeof url !== 'string') return TYPE;
  if (url.length > LENGTH_MAX)
    return {
      success: false,
      error: failure('ERR_URL_TOO_LONG', { field: 'url', limit: LENGTH_MAX, actual: url.length }),
    };
  return URL.canParse(url, 'http://localhost') ? { success: true, value: url } : FORMAT;
}

/**
 * Whether an IP address lies on the public internet: not private, loopback, link-local, reserved,
 * multicast, for documentation, nor an IPv4 address inside IPv6. What is no address in its usual
 * notation is not public. For the `lookup` hook of a client: a name that passed may resolve to
 * anything.
 *
 * @example
 * isPublicAddress('169.254.169.254'); // false: cloud metadata
 */
export function isPublicAddress(ip: string): boolean {
  return typeof ip === 'string' && ip.length <= 45 && isPublicIp(ip);
}
