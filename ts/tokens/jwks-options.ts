/** Options of a fetched key set, checked. */
import {
  outOfRange,
  type PortcullisError,
  secretOutOfRange,
  wrongSecretType,
  wrongType,
} from '../base/errors.js';
import { requestHeaders } from '../base/header-fields.js';
import { knownOptions, wholeNumber } from '../base/options.js';

/** A `fetch` of the application's own: with a proxy, a certificate authority or an agent. */
export type JwksFetch = (
  url: string,
  init: {
    readonly headers: Record<string, string>;
    readonly redirect: 'manual';
    readonly signal: AbortSignal;
  },
) => Promise<Response>;

/** The address of a key set, and how to keep the keys fresh. */
export interface RemoteJwks {
  /**
   * An `https:` address of a JWK set, or of a map from key ids to certificates, as Firebase has it;
   * `http:` for loopback addresses only. Redirects are not followed. Either `url` or `discovery` is
   * required. Default: none.
   */
  readonly url?: string | URL | undefined;
  /**
   * The address of the issuer's metadata, which names the address of the key set: an `https:`
   * address such as `https://issuer.example/.well-known/openid-configuration`. Its `issuer` must be
   * one that the verifier's `issuer` accepts, which it needs. Default: none.
   */
  readonly discovery?: string | URL | undefined;
  /**
   * Allows `http:` for any address: anyone on the way can replace the keys. For networks that are
   * encrypted otherwise. Default `false`.
   */
  readonly allowInsecure?: boolean | undefined;
  /** Replaces the host's `fetch`, for a proxy, a certificate authority or an agent. Default: the host's. */
  readonly fetch?: JwksFetch | undefined;
  /** Shortest time between two fetches that tokens cause, ms: 0 to 2^30. Default 30,000. */
  readonly cooldownMs?: number | undefined;
  /**
   * Longest time until the next fetch, ms: 1,000 to 2^30. A `max-age` of `Cache-Control` may
   * shorten it. Without tokens meanwhile, the next token causes the fetch. Default 600,000.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * How long the keys stay in use after that while fetches fail, ms: 0 to 2^31-1. Default
   * 86,400,000.
   */
  readonly staleIfErrorMs?: number | undefined;
  /** Timeout of one fetch with its body, ms: 1 to 2^30. Default 5,000. */
  readonly timeoutMs?: number | undefined;
  /** Longest body, in bytes: 64 to 1,048,576. Default 65,536. */
  readonly maxBytes?: number | undefined;
  /** Most keys of a set, 1 to 1,000: a larger set is refused as a whole. Default 100. */
  readonly maxKeys?: number | undefined;
  /**
   * Headers of the request: strings without line ends, by name in any letter case. They are sent to the origin of `url`
   * or `discovery` only: a key set at another origin, which the metadata may name, is fetched without them. An `Accept`
   * replaces the one that is sent otherwise; `If-None-Match`, and headers that `fetch` or the connection writes, such as
   * `Host`, are refused. Errors do not show values. Default: none besides `Accept` and `If-None-Match`.
   */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Called for every failed fetch, with `ERR_JWKS`; the message holds nothing of the answer. */
  readonly onError?: ((error: PortcullisError) => void) | undefined;
}

/**
 * Headers that this package, `fetch` or the connection writes. Of those of the application `fetch` fails for some, drops
 * some, and sends some on one host only.
 */
const NOT_SENT: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'if-none-match',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const OPTIONS = [
  'url',
  'discovery',
  'allowInsecure',
  'fetch',
  'cooldownMs',
  'maxAgeMs',
  'staleIfErrorMs',
  'timeoutMs',
  'maxBytes',
  'maxKeys',
  'headers',
  'onError',
] as const;

/**
 * Refuses a key set that is neither written out nor fetched.
 * @throws ERR_INVALID_ARG_TYPE; ERR_UNKNOWN_OPTION for a misspelled option
 * @internal
 */
export function refuseKeySet(set: object): never {
  if (!('keys' in set)) {
    knownOptions('jwks', set, [...OPTIONS, 'keys'], 'jwks.');
    throw wrongType('jwks', set, `with one of keys, url and discovery`);
  }
  throw wrongSecretType('jwks.keys', set.keys, 'an array of JWKs');
}

/** A checked way to fetch. @internal */
export interface JwksRequest {
  /** The application's headers, by names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The origin that gets `headers`. */
  readonly origin: string;
  readonly timeoutMs: number;
  readonly maxBytes: number;
  /** The application's `fetch`; `undefined` for the host's at the time of the call. */
  readonly fetch: JwksFetch | undefined;
}

/** Checked options. @internal */
export interface JwksOptions {
  readonly request: JwksRequest;
  /** The address of the set; `undefined` if the metadata names it. */
  readonly url: string | undefined;
  readonly discovery: string | undefined;
  readonly allowInsecure: boolean;
  readonly cooldownMs: number;
  readonly maxAgeMs: number;
  readonly staleIfErrorMs: number;
  readonly maxKeys: number;
  readonly onError: ((error: PortcullisError) => void) | undefined;
}

/**
 * Checks the options of a fetched key set.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedJwks(options: RemoteJwks): JwksOptions {
  knownOptions('jwks', options, OPTIONS, 'jwks.');
  const { url, discovery, headers = {}, onError, fetch, allowInsecure } = options;
  for (const [field, hook] of Object.entries({ onError, fetch })) {
    if (hook !== undefined && typeof hook !== 'function')
      throw wrongType(`jwks.${field}`, hook, 'a function');
  }
  if (allowInsecure !== undefined && typeof allowInsecure !== 'boolean')
    throw wrongType('jwks.allowInsecure', allowInsecure, 'true or false');
  if ((url === undefined) === (discovery === undefined))
    throw wrongSecretType('jwks.url', url, 'given, or jwks.discovery, and not both');
  const isInsecure = allowInsecure === true;
  const field = url === undefined ? 'jwks.discovery' : 'jwks.url';
  const address = checkedUrl(field, url === undefined ? discovery : url, isInsecure);
  const number = (
    field: 'cooldownMs' | 'maxAgeMs' | 'staleIfErrorMs' | 'timeoutMs' | 'maxBytes' | 'maxKeys',
    min: number,
    max: number,
    fallback: number,
  ): number => wholeNumber(`jwks.${field}`, options[field], min, max, fallback);
  return {
    request: {
      headers: requestHeaders('jwks.headers', headers, NOT_SENT),
      origin: new URL(address).origin,
      timeoutMs: number('timeoutMs', 1, 2 ** 30, 5000),
      maxBytes: number('maxBytes', 64, 2 ** 20, 65_536),
      fetch,
    },
    url: url === undefined ? undefined : address,
    discovery: discovery === undefined ? undefined : address,
    allowInsecure: isInsecure,
    cooldownMs: number('cooldownMs', 0, 2 ** 30, 30_000),
    maxAgeMs: number('maxAgeMs', 1000, 2 ** 30, 600_000),
    staleIfErrorMs: number('staleIfErrorMs', 0, 2 ** 31 - 1, 86_400_000),
    maxKeys: number('maxKeys', 1, 1000, 100),
    onError,
  };
}

/** Checks an address: `https:`, or `http:` where that is allowed. @internal */
export function checkedUrl(field: string, url: unknown, allowInsecure: boolean): string {
  const allowed = allowInsecure
    ? 'an http or https URL without credentials'
    : 'an https URL without credentials (http for loopback addresses, or with allowInsecure)';
  if (typeof url !== 'string' && !(url instanceof URL)) throw wrongSecretType(field, url, allowed);
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    // Where its user and password end cannot be known.
    throw secretOutOfRange(field, url, allowed);
  }
  const isSafe =
    parsed.protocol === 'https:' ||
    (parsed.protocol === 'http:' && (allowInsecure || isLoopback(parsed.hostname)));
  if (isSafe && parsed.username === '' && parsed.password === '') return parsed.href;
  // Without its host, or with an `@` behind it, a part of a password may stand in the place of the host.
  const isTold =
    parsed.host !== '' && !`${parsed.pathname}${parsed.search}${parsed.hash}`.includes('@');
  throw isTold
    ? outOfRange(field, `${parsed.protocol}//${parsed.host}`, allowed)
    : secretOutOfRange(field, String(url), allowed);
}

/** True for a host on this machine, which needs no encryption. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
