/** Options of `validateUrl`. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';

/**
 * The purpose of a URL: the target of a request, the target of a redirect, or a URL that the server
 * fetches.
 */
export type UrlMode = 'request-target' | 'redirect' | 'outbound';

/** Options of `validateUrl`. */
export interface UrlOptions {
  /**
   * The purpose of the URL. Without one, any URL or path passes that the engine can parse. Default:
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
   * `redirect`: origins that are allowed besides paths of the server itself, as
   * `https://example.com`. Default none.
   */
  readonly allowedOrigins?: readonly string[] | undefined;
  /** `outbound`: the allowed schemes. Default `['https']`. */
  readonly schemes?: readonly string[] | undefined;
  /** `outbound`: the allowed ports, each 1 to 65535. Default `[80, 443]`. */
  readonly allowedPorts?: readonly number[] | undefined;
  /**
   * `outbound`: the only allowed hosts, which may lie on the own network. Default: any on the
   * public internet.
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
export function checkedUrlOptions(options: UrlOptions | undefined): UrlRules {
  if (options === undefined) return DEFAULTS;
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
    checkList(field, options[field], 'string');
  checkList('allowedPorts', options.allowedPorts, 'number');
  for (const port of options.allowedPorts ?? []) wholeNumber('allowedPorts', port, 1, 65_535);
  checkOrigins(options);
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

function checkOrigins({ mode, allowedOrigins }: UrlOptions): void {
  if (allowedOrigins === undefined) return;
  // The mode ignores origins: the caller would believe in a limit that does not exist.
  if (mode === 'outbound')
    throw wrongType(
      'allowedOrigins',
      allowedOrigins,
      'absent in the mode outbound, which takes allowedHosts',
    );
  for (const origin of allowedOrigins) {
    if (!URL.canParse(origin) || new URL(origin).origin === 'null')
      throw outOfRange('allowedOrigins', origin, 'origins as https://example.com');
  }
}
