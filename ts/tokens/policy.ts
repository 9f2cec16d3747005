/** What a verifier asks of tokens: its options, checked and made into the core's policy. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { tokenAlgorithms, type TokenPolicy } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import type { RemoteJwks } from './jwks.js';
import type { TokenAlgorithm, TokenJwkSet, TokenKey } from './keys.js';

/** Options of a verifier. A claim that is configured has to be there. */
export interface TokenVerifierOptions {
  /** The algorithms that keys may be used with. A key is used with one only: that of its type, its `alg` or its `algorithm`. */
  readonly algorithms: readonly TokenAlgorithm[];
  /** The keys; or `jwks`. One of the two is required. Default: none. */
  readonly keys?: TokenKey | readonly TokenKey[] | undefined;
  /** A set of keys, in which those for another purpose are left out; or where to fetch it. Default: none. */
  readonly jwks?: TokenJwkSet | RemoteJwks | undefined;
  /** `iss` is this, or one of these. Default: not looked at. */
  readonly issuer?: string | readonly string[] | undefined;
  /** `aud` is or holds one of these; `null`: any will do. Default: a token that names an audience is refused (RFC 7519, section 4.1.3). */
  readonly audience?: string | readonly string[] | null | undefined;
  /** `sub` is this. Default: not looked at. */
  readonly subject?: string | undefined;
  /** Claims that have to be there besides `exp` and those that another option asks for; at most 32. Default: none. */
  readonly requiredClaims?: readonly string[] | undefined;
  /** How long ago a token may have been issued: 1 to 2^31 seconds. Default: any time. */
  readonly maxAgeSeconds?: number | undefined;
  /** By how much clocks may differ: 0 to 300 seconds. Default 0. */
  readonly clockToleranceSeconds?: number | undefined;
  /** The header's `typ`, as media type (`at+jwt`); `null`: anything. Default: `JWT` or none. */
  readonly typ?: string | readonly string[] | null | undefined;
  /** Extensions that `crit` may name, because you handle them. Default: none. */
  readonly allowedCritical?: readonly string[] | undefined;
  /** Refuses tokens that bring a key (`jwk`, `jku`, `x5u`, `x5c`), which is never used. Default `false`. */
  readonly refuseEmbeddedKeys?: boolean | undefined;
  /** The longest token: 64 to 8,192 bytes. Default 2,048. */
  readonly maxTokenBytes?: number | undefined;
  /** How deep claims may nest: 1 to 64. Default 32. */
  readonly maxClaimsDepth?: number | undefined;
  /**
   * How many results are kept: 0 to 1,000,000. With a cache, claims are deeply frozen, since all
   * callers get the same. A result is kept until its token expires, the keys change or anything is
   * revoked. Default 0.
   */
  readonly cacheSize?: number | undefined;
  /** How many revocations are held: 0 to 10,000,000. Default 100,000. */
  readonly maxRevocations?: number | undefined;
  /** Owner of the timers of a fetched key set. Default: one of its own. */
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
  'timers',
] as const;
const REGISTERED = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti'];
/** Names of RFC 7515, 7516, 7518 and 7797: `crit` must not hold the first, and the last changes what is signed. */
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
const TOKEN_MAX = 8192;
const REQUIRED_MAX = 32;
const SECONDS_MAX = 2 ** 53;

/** What was made of the options. */
interface Checked {
  readonly policy: TokenPolicy;
  readonly algorithms: readonly TokenAlgorithm[];
  /** The claims that a refusal can name, by the core's numbers. */
  readonly claimNames: readonly string[];
  readonly cacheSize: number;
}

/** Checks all options but the keys. @internal */
export function checkedPolicy(options: TokenVerifierOptions): Checked {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('TokenVerifier', options, OPTIONS);
  const { issuer, audience, subject, typ, maxAgeSeconds, timers } = options;
  const required = [...new Set(strings('requiredClaims', options.requiredClaims))];
  const own = required.filter((name) => !REGISTERED.includes(name));
  if (own.length > REQUIRED_MAX)
    throw outOfRange('requiredClaims', own.length, `at most ${REQUIRED_MAX} names`);
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  const algorithms = algorithmsOf(options.algorithms);
  const types =
    typ === null ? undefined : oneOrMore('typ', typ, 'text, an array of texts, or null');
  const policy: TokenPolicy = {
    algorithms: [...algorithms],
    issuers: oneOrMore('issuer', issuer, 'text or an array of texts') ?? [],
    audiences:
      (audience === null
        ? undefined
        : oneOrMore('audience', audience, 'text, an array of texts, or null')) ?? [],
    anyAudience: audience === null,
    ...(subject !== undefined && { subject: text('subject', subject) }),
    required,
    ...(maxAgeSeconds !== undefined && {
      maxAgeSeconds: wholeNumber('maxAgeSeconds', maxAgeSeconds, 1, 2 ** 31),
    }),
    toleranceSeconds: wholeNumber(
      'clockToleranceSeconds',
      options.clockToleranceSeconds,
      0,
      300,
      0,
    ),
    ...(types !== undefined && { types }),
    anyType: typ === null,
    critical: criticalOf(options.allowedCritical),
    refuseEmbeddedKeys: flag('refuseEmbeddedKeys', options.refuseEmbeddedKeys),
    maxTokenBytes: wholeNumber('maxTokenBytes', options.maxTokenBytes, 64, TOKEN_MAX, 2048),
    maxDepth: wholeNumber('maxClaimsDepth', options.maxClaimsDepth, 1, 64, 32),
    maxRevocations: wholeNumber('maxRevocations', options.maxRevocations, 0, 10_000_000, 100_000),
  };
  const cacheSize = wholeNumber('cacheSize', options.cacheSize, 0, 1_000_000, 0);
  return { policy, algorithms, claimNames: [...REGISTERED, ...own], cacheSize };
}

/** No policy: any type, and a payload of up to 64 KiB. @internal */
export function barePolicy(algorithms: readonly TokenAlgorithm[]): TokenPolicy {
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

/** The algorithms of a list, which must not be empty. @internal */
export function algorithmsOf(given: unknown): readonly TokenAlgorithm[] {
  const allowed = `a list of ${ALGORITHMS.join(', ')}`;
  const list = strings('algorithms', given, allowed);
  if (list === undefined || list.length === 0) throw wrongType('algorithms', given, allowed);
  for (const [at, name] of list.entries()) {
    if (!ALGORITHMS.includes(name))
      throw outOfRange(`algorithms[${at}]`, name, `one of ${ALGORITHMS.join(', ')}`);
  }
  return list as readonly TokenAlgorithm[];
}

function criticalOf(given: unknown): string[] {
  const list = strings('allowedCritical', given) ?? [];
  for (const [at, name] of list.entries()) {
    if (NO_EXTENSIONS.includes(name))
      throw outOfRange(`allowedCritical[${at}]`, name, 'the name of an extension');
  }
  return list;
}

/** @internal */
export function text(field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '')
    throw wrongType(field, value, 'a text that is not empty');
  return value;
}

function strings(
  field: string,
  value: unknown,
  allowed = 'an array of texts',
): string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw wrongType(field, value, allowed);
  return value.map((one: unknown, at) => text(`${field}[${at}]`, one));
}

function oneOrMore(field: string, value: unknown, allowed: string): string[] | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') return [text(field, value)];
  const list = strings(field, value, allowed);
  if (list?.length === 0) throw outOfRange(field, 'an empty array', allowed);
  return list;
}

function flag(field: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== 'boolean')
    throw wrongType(field, value, 'true or false');
  return value === true;
}

/** A date of a token. @internal */
export function seconds(field: string, value: unknown): number {
  const allowed = 'seconds since 1970';
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!(value >= 0 && value <= SECONDS_MAX)) throw outOfRange(field, value, allowed);
  return value;
}
