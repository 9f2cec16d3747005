/** Options of `validateUrl`. */
import { outOfRange, wrongType } from '../base/errors.js';
import { optionsObject, readOptions, wholeNumber } from '../base/options.js';
import { canParseUrl } from '../base/parsable.js';
import { bareHost } from './host.js';

/**
 * The purpose of a URL: the target of a request, the target of a redirect, or a URL that the server
 * fetches.
 */
export type UrlMode = 'request-target' | 'redirect' | 'outbound';

/** Options of `validateUrl`. */
export interface UrlOptions {
  /**
   * The purpose of the URL. Without one, `validateUrl` passes any URL or path that the engine can
   * parse, and `urlSchema` an absolute URL of `http` or `https`, or a path of this site. Default:
   * none.
   */
  readonly mode?: UrlMode | undefined;
  /** The longest URL, in UTF-16 units: 1 to 65,536. Default 2048. */
  readonly maxLength?: number | undefined;
  /**
   * The treatment of paths that climb or hide that they do, and of malformed percent codes:
   * `refuse` them, or `flag` them and let them pass. Default `refuse`.
   */
  readonly suspicious?: 'refuse' | 'flag' | undefined;
  /** `request-target`: the method of the request; `OPTIONS` allows `*`. Default: none. */
  readonly method?: string | undefined;
  /**
   * `request-target`: the `Host` header, which an absolute URL must name; without it, absolute URLs
   * are refused. Default: none.
   */
  readonly host?: string | undefined;
  /**
   * `redirect`: origins of `http` or `https` that are allowed besides paths of the server itself, as
   * `https://example.com`. Default none.
   */
  readonly allowedOrigins?: readonly string[] | undefined;
  /** `outbound`: the allowed schemes. Default `['https']`. */
  readonly schemes?: readonly string[] | undefined;
  /** `outbound`: the allowed ports, each 1 to 65535. Default `[80, 443]`. */
  readonly allowedPorts?: readonly number[] | undefined;
  /**
   * `outbound`: the only allowed hosts, which may lie on the own network, as `example.com`,
   * `10.0.0.5` or `[::1]`. Letters beyond ASCII stand as `xn--`. Default: any on the public
   * internet.
   */
  readonly allowedHosts?: readonly string[] | undefined;
}

/** Longest URL by default, in UTF-16 units. */
export const URL_LENGTH_MAX = 2048;

/** Checked options. */
export interface UrlRules {
  readonly mode: UrlMode | undefined;
  readonly maxLength: number;
  /** True if suspicious URLs pass with a flag. */
  readonly mayFlag: boolean;
  readonly given: UrlOptions;
}

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

/** Options that one mode reads. Another mode would ignore them: a limit that does not exist. */
const OPTIONS_OF_MODE = [
  ['method', 'request-target'],
  ['host', 'request-target'],
  ['allowedOrigins', 'redirect'],
  ['schemes', 'outbound'],
  ['allowedPorts', 'outbound'],
  ['allowedHosts', 'outbound'],
] as const;

const DEFAULTS: UrlRules = {
  mode: undefined,
  maxLength: URL_LENGTH_MAX,
  mayFlag: true,
  given: {},
};

/**
 * Checks options.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 */
export function checkedUrlOptions(given: UrlOptions | undefined): UrlRules {
  if (given === undefined) return DEFAULTS;
  optionsObject('options', given);
  const options = readOptions('UrlOptions', given, OPTIONS);
  const { mode, suspicious = 'refuse' } = options;
  if (mode !== undefined && !MODES.includes(mode)) throw outOfRange('mode', mode, MODES.join(', '));
  if (suspicious !== 'refuse' && suspicious !== 'flag')
    throw outOfRange('suspicious', suspicious, "'refuse' or 'flag'");
  for (const field of ['method', 'host'] as const)
    if (options[field] !== undefined && typeof options[field] !== 'string')
      throw wrongType(field, options[field], 'a string');
  for (const field of ['allowedOrigins', 'schemes', 'allowedHosts'] as const)
    checkList(field, options[field], 'string');
  checkList('allowedPorts', options.allowedPorts, 'number');
  for (const port of options.allowedPorts ?? []) wholeNumber('allowedPorts', port, 1, 65_535);
  checkModeOf(options);
  for (const origin of options.allowedOrigins ?? []) checkOrigin(origin);
  for (const host of options.allowedHosts ?? []) checkHost(host);
  return {
    mode,
    maxLength: wholeNumber('maxLength', options.maxLength, 1, 65_536, URL_LENGTH_MAX),
    mayFlag: suspicious === 'flag',
    given: options,
  };
}

function checkList(field: string, value: unknown, kind: 'string' | 'number'): void {
  if (value === undefined) return;
  if (!Array.isArray(value) || value.some((item) => typeof item !== kind))
    throw wrongType(field, value, `an array of ${kind}s`);
}

/** Refuses options that the mode ignores. */
function checkModeOf(options: UrlOptions): void {
  for (const [field, mode] of OPTIONS_OF_MODE) {
    if (options[field] === undefined || options.mode === mode) continue;
    const others = OPTIONS_OF_MODE.filter((row) => row[1] === options.mode).map(([name]) => name);
    const instead = others.length > 0 ? `, which takes ${others.join(', ')}` : '';
    const where = options.mode === undefined ? 'without a mode' : `in the mode ${options.mode}`;
    throw wrongType(field, options[field], `absent ${where}${instead}`);
  }
}

/** Entries that passed, since options are checked at each call. */
const knownEntries = new Set<string>();
const KNOWN_ENTRIES_MAX = 1000;

/** Checks an entry of a list once: an entry that can match no URL is a mistake. */
function checkEntry(field: string, entry: string, isValid: boolean, allowed: string): void {
  if (!isValid) throw outOfRange(field, entry, allowed);
  if (knownEntries.size >= KNOWN_ENTRIES_MAX) knownEntries.clear();
  knownEntries.add(`${field} ${entry}`);
}

function checkOrigin(origin: string): void {
  if (knownEntries.has(`allowedOrigins ${origin}`)) return;
  const parsed = canParseUrl(origin) ? new URL(origin) : undefined;
  const isOrigin =
    parsed !== undefined &&
    /^https?:$/.test(parsed.protocol) &&
    !parsed.hostname.includes('*') &&
    // A path, a query or credentials would be ignored.
    parsed.href === `${parsed.origin}/`;
  checkEntry('allowedOrigins', origin, isOrigin, 'origins as https://example.com');
}

function checkHost(host: string): void {
  if (knownEntries.has(`allowedHosts ${host}`)) return;
  const bare = bareHost(host.toLowerCase());
  const url = `http://${bare.includes(':') ? `[${bare}]` : bare}/`;
  const isHost =
    !bare.includes('*') && canParseUrl(url) && bareHost(new URL(url).hostname) === bare;
  checkEntry(
    'allowedHosts',
    host,
    isHost,
    'hosts as example.com, 10.0.0.5 or [::1], without scheme, port, path and wildcard',
  );
}
