/** Options of a verifier, checked and converted to the core's policy. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { Cluster } from '../cluster/cluster.js';
import { tokenAlgorithms, type TokenPolicy } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import type { RemoteJwks } from './jwks.js';
import type { TokenAlgorithm, TokenJwkSet, TokenKey } from './keys.js';

/** Options of a verifier. A claim that an option names must be present. */
export interface TokenVerifierOptions {
  /**
   * Algorithms that keys may be used with. Each key is used with one of them only: that of its
   * type, its `alg` or its `algorithm` (RFC 8725, section 3.1).
   */
  readonly algorithms: readonly TokenAlgorithm[];
  /** The keys. Either `keys` or `jwks` is required. Default: none. */
  readonly keys?: TokenKey | readonly TokenKey[] | undefined;
  /**
   * A key set, of which keys for other purposes are skipped; or the address to fetch it from.
   * Default: none.
   */
  readonly jwks?: TokenJwkSet | RemoteJwks | undefined;
  /** Accepted values of `iss`. Default: `iss` is not checked. */
  readonly issuer?: string | readonly string[] | undefined;
  /**
   * Accepted values of `aud`; `null` accepts any. Default: a token with an `aud` is refused (RFC
   * 7519, section 4.1.3).
   */
  readonly audience?: string | readonly string[] | null | undefined;
  /** Accepted value of `sub`. Default: `sub` is not checked. */
  readonly subject?: string | undefined;
  /**
   * Claims that must be present besides `exp` and those of other options; at most 32. Default:
   * none.
   */
  readonly requiredClaims?: readonly string[] | undefined;
  /** Greatest age since `iat`, in seconds: 1 to 2^31. Default: any age. */
  readonly maxAgeSeconds?: number | undefined;
  /** Tolerated difference between clocks, in seconds: 0 to 300. Default 0. */
  readonly clockToleranceSeconds?: number | undefined;
  /**
   * Accepted values of the header's `typ`, as media types such as `at+jwt` (RFC 8725, section
   * 3.11); `null` accepts any. Default: `JWT`, or a header without `typ`.
   */
  readonly typ?: string | readonly string[] | null | undefined;
  /**
   * Extensions that `crit` may name, since the application handles them (RFC 7515, section 4.1.11).
   * Default: none.
   */
  readonly allowedCritical?: readonly string[] | undefined;
  /**
   * Whether a token with a key of its own (`jwk`, `jku`, `x5u`, `x5c`) is refused. Such a key is
   * never used. Default `false`.
   */
  readonly refuseEmbeddedKeys?: boolean | undefined;
  /** Longest token, in bytes: 64 to 8,192. Default 2,048. */
  readonly maxTokenBytes?: number | undefined;
  /** Deepest nesting of claims: 1 to 64. Default 32. */
  readonly maxClaimsDepth?: number | undefined;
  /**
   * Number of cached results: 0 to 1,000,000. With a cache, all callers share the claims, which are
   * deeply frozen. A result is cached until its token expires, the keys change or anything is
   * revoked. Default 0.
   */
  readonly cacheSize?: number | undefined;
  /** Number of revocations that can be held: 0 to 10,000,000. Default 100,000. */
  readonly maxRevocations?: number | undefined;
  /**
   * Shares revocations with the verifiers of all processes of the cluster: `revoke` and `notBefore` reach all of them.
   * The server holds them until they expire; after it has lost them, each process writes back those that it still
   * holds. `ready()` waits for those of the others. Default: none.
   */
  readonly cluster?: Cluster | undefined;
  /** Owner of the timers of a fetched key set. Default: a manager of the verifier's own. */
  readonly timers?: TimerManager | undefined;
}

const OPTIONS = [
  'algorithms',
  'keys',
  'jwks',
  'issuer',
  'audience',
  'subject',
  'requiredClaims',
  'maxAgeSeconds',
  'clockToleranceSeconds',
  'typ',
  'allowedCritical',
  'refuseEmbeddedKeys',
  'maxTokenBytes',
  'maxClaimsDepth',
  'cacheSize',
  'maxRevocations',
  'cluster',
  'timers',
] as const;
/** Claims of RFC 7519, section 4.1, in the core's order. */
const REGISTERED_CLAIMS = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti'];
/**
 * Header parameters of RFC 7515, 7516, 7518 and 7797. `crit` must not name those of the first three
 * (RFC 7515, section 4.1.11); `b64` of the last changes the signed bytes, and is not supported.
 */
const NO_EXTENSIONS = [
  'alg',
  'jku',
  'jwk',
  'kid',
  'x5u',
  'x5c',
  'x5t',
  'x5t#S256',
  'typ',
  'cty',
  'crit',
  'enc',
  'zip',
  'b64',
];
const ALGORITHMS: readonly string[] = tokenAlgorithms();
const TOKEN_BYTES_MAX = 8192;
const REQUIRED_MAX = 32;
const SECONDS_MAX = 2 ** 53;

/** Checked options, without the keys. */
interface CheckedOptions {
  readonly policy: TokenPolicy;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Names of the claims that a refusal can name, by the core's numbers. */
  readonly claimNames: readonly string[];
  readonly cacheSize: number;
}

/**
 * Checks all options but the keys.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedOptions(options: TokenVerifierOptions): CheckedOptions {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('TokenVerifier', options, OPTIONS);
  const { timers } = options;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (options.cluster !== undefined && !(options.cluster instanceof Cluster))
    throw wrongType('cluster', options.cluster, 'a Cluster');
  const required = [...new Set(texts('requiredClaims', options.requiredClaims))];
  const own = required.filter((name) => !REGISTERED_CLAIMS.includes(name));
  if (own.length > REQUIRED_MAX)
    throw outOfRange('requiredClaims', own.length, `at most ${REQUIRED_MAX} names`);
  const algorithms = checkedAlgorithms(options.algorithms);
  return {
    policy: policyOf(options, algorithms, required),
    algorithms,
    claimNames: [...REGISTERED_CLAIMS, ...own],
    cacheSize: wholeNumber('cacheSize', options.cacheSize, 0, 1_000_000, 0),
  };
}

function policyOf(
  options: TokenVerifierOptions,
  algorithms: readonly TokenAlgorithm[],
  required: string[],
): TokenPolicy {
  const { issuer, audience, subject, typ, maxAgeSeconds, clockToleranceSeconds } = options;
  const types = textsOrNull('typ', typ);
  return {
    algorithms: [...algorithms],
    issuers: oneOrMoreTexts('issuer', issuer, 'text or an array of texts') ?? [],
    audiences: textsOrNull('audience', audience) ?? [],
    anyAudience: audience === null,
    ...(subject !== undefined && { subject: text('subject', subject) }),
    required,
    ...(maxAgeSeconds !== undefined && {
      maxAgeSeconds: wholeNumber('maxAgeSeconds', maxAgeSeconds, 1, 2 ** 31),
    }),
    toleranceSeconds: wholeNumber('clockToleranceSeconds', clockToleranceSeconds, 0, 300, 0),
    ...(types !== undefined && { types }),
    anyType: typ === null,
    critical: checkedCritical(options.allowedCritical),
    refuseEmbeddedKeys: flag('refuseEmbeddedKeys', options.refuseEmbeddedKeys),
    maxTokenBytes: wholeNumber('maxTokenBytes', options.maxTokenBytes, 64, TOKEN_BYTES_MAX, 2048),
    maxDepth: wholeNumber('maxClaimsDepth', options.maxClaimsDepth, 1, 64, 32),
    maxRevocations: wholeNumber('maxRevocations', options.maxRevocations, 0, 10_000_000, 100_000),
  };
}

/**
 * Returns a policy that checks the signature only: any type, a payload of up to 64 KiB. @internal
 */
export function signaturePolicy(algorithms: readonly TokenAlgorithm[]): TokenPolicy {
  return {
    algorithms: [...algorithms],
    issuers: [],
    audiences: [],
    anyAudience: true,
    required: [],
    toleranceSeconds: 0,
    anyType: true,
    critical: [],
    refuseEmbeddedKeys: false,
    maxTokenBytes: 2 ** 16,
    maxDepth: 1,
    maxRevocations: 0,
  };
}

/** Checks a list of algorithms, which must not be empty. @internal */
export function checkedAlgorithms(given: unknown): readonly TokenAlgorithm[] {
  const allowed = `a list of ${ALGORITHMS.join(', ')}`;
  const list = texts('algorithms', given, allowed);
  if (list === undefined || list.length === 0) throw wrongType('algorithms', given, allowed);
  for (const [at, name] of list.entries()) {
    if (!ALGORITHMS.includes(name))
      throw outOfRange(`algorithms[${at}]`, name, `one of ${ALGORITHMS.join(', ')}`);
  }
  return list as readonly TokenAlgorithm[];
}

function checkedCritical(given: unknown): string[] {
  const list = texts('allowedCritical', given) ?? [];
  for (const [at, name] of list.entries()) {
    if (NO_EXTENSIONS.includes(name))
      throw outOfRange(`allowedCritical[${at}]`, name, 'the name of an extension');
  }
  return list;
}

/** Checks a text, which must not be empty. @internal */
export function text(field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '')
    throw wrongType(field, value, 'a text that is not empty');
  return value;
}

function texts(field: string, value: unknown, allowed = 'an array of texts'): string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw wrongType(field, value, allowed);
  return value.map((item: unknown, at) => text(`${field}[${at}]`, item));
}

function oneOrMoreTexts(field: string, value: unknown, allowed: string): string[] | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') return [text(field, value)];
  const list = texts(field, value, allowed);
  if (list?.length === 0) throw outOfRange(field, 'an empty array', allowed);
  return list;
}

function textsOrNull(field: string, value: unknown): string[] | undefined {
  return value === null
    ? undefined
    : oneOrMoreTexts(field, value, 'text, an array of texts, or null');
}

function flag(field: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== 'boolean')
    throw wrongType(field, value, 'true or false');
  return value === true;
}

/** Checks a date of a token (NumericDate of RFC 7519, section 2). @internal */
export function seconds(field: string, value: unknown): number {
  const allowed = 'seconds since 1970';
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!(value >= 0 && value <= SECONDS_MAX)) throw outOfRange(field, value, allowed);
  return value;
}
