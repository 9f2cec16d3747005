/** Options of a verifier, checked and converted to the core's policy. */
import { outOfRange, underPath, wrongSecretType, wrongType } from '../base/errors.js';
import { optionsObject, readOptions, wholeNumber } from '../base/options.js';
import { checkWellFormed } from '../native/strings.js';
import { Cluster } from '../cluster/cluster.js';
import { tokenAlgorithms, type TokenPolicy } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import {
  type ClaimMatcher,
  type ClaimRuleOptions,
  ClaimRules,
  isPlain,
  matchersOf,
} from './claim-rules.js';
import type { RemoteJwks } from './jwks-options.js';
import type { TokenAlgorithm, TokenJwkSet, TokenKey } from './keys.js';
import { ReplayList, type ReplayOptions } from './replay.js';

/**
 * Options of a verifier. A claim that an option names must be present.
 * @typeParam C the claims, as `verify` and `connection.claims` return them
 */
export interface TokenVerifierOptions {
  /**
   * Algorithms that keys may be used with. A key is used with its `alg` or `algorithm`; else with
   * that of its type, of RSA with all that stand here. Required, except beside `issuers` that have
   * their own. Default: none.
   */
  readonly algorithms?: readonly TokenAlgorithm[] | undefined;
  /** The keys. One of `keys`, `jwks` and `issuers` is required. Default: none. */
  readonly keys?: TokenKey | readonly TokenKey[] | undefined;
  /**
   * A key set, or the address to fetch it from. Keys that cannot be used are skipped, and
   * `snapshot().skippedKeys` says why. Default: none.
   */
  readonly jwks?: TokenJwkSet | RemoteJwks | undefined;
  /**
   * Several issuers, at most 100, each with its own `issuer`, keys and policy; the options beside
   * them are their defaults. The `iss` of a token selects one before any key is fetched. Default:
   * none.
   */
  readonly issuers?: readonly TokenVerifierOptions[] | undefined;
  /**
   * Accepted values of `iss`. In text, `{tenantid}` stands for the `tid` of the token, as in the
   * issuer of Microsoft Entra for all tenants. With `issuers`, a function also sees claims that are
   * not verified yet. Default: `iss` is not checked.
   */
  readonly issuer?: ClaimMatcher | readonly ClaimMatcher[] | undefined;
  /**
   * Accepted values of `aud`; `null` accepts any. Default: a token with an `aud` is refused (RFC
   * 7519, section 4.1.3).
   */
  readonly audience?: ClaimMatcher | readonly ClaimMatcher[] | null | undefined;
  /** Accepted values of `sub`. Default: `sub` is not checked. */
  readonly subject?: ClaimMatcher | readonly ClaimMatcher[] | undefined;
  /** Accepted values of `nonce`. Default: `nonce` is not checked. */
  readonly nonce?: ClaimMatcher | readonly ClaimMatcher[] | undefined;
  /**
   * Scopes that the token must all have, in `scope` or `scp`; otherwise it is refused with 403.
   * Default: none.
   */
  readonly scope?: string | readonly string[] | undefined;
  /**
   * Roles of which the token must have one, at `rolesPath`; otherwise it is refused with 403.
   * Default: none.
   */
  readonly roles?: string | readonly string[] | undefined;
  /**
   * The place of the roles: names with dots between them, such as `realm_access.roles`, or a list
   * of names. Default `roles`.
   */
  readonly rolesPath?: string | readonly string[] | undefined;
  /**
   * Accepts each token once, by its `jti`, which is required then. Each check of a token uses it,
   * except `explain`. Excludes `cacheSize`. Default: tokens can be used again.
   */
  readonly replay?: ReplayOptions | undefined;
  /**
   * Claims that must be present besides `exp` and those of other options; at most 32. Default:
   * none.
   */
  readonly requiredClaims?: readonly string[] | undefined;
  /** Greatest age since `iat`, in seconds: 1 to 2^31. Default: any age. */
  readonly maxAgeSeconds?: number | undefined;
  /** Tolerated difference between clocks, for `exp`, `nbf` and `iat`, in seconds: 0 to 300. Default 5. */
  readonly clockToleranceSeconds?: number | undefined;
  /**
   * Accepted values of the header's `typ`, as media types such as `at+jwt` (RFC 8725, section
   * 3.11). In a list, `undefined` accepts a header without `typ`; `null` alone accepts any. Default:
   * `JWT`, or a header without `typ`.
   */
  readonly typ?: string | readonly (string | undefined)[] | null | undefined;
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
  /** Longest token, in bytes: 64 to 65,536. Default 2,048. */
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
  'issuers',
  'issuer',
  'audience',
  'subject',
  'nonce',
  'scope',
  'roles',
  'rolesPath',
  'replay',
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
const TOKEN_BYTES_MAX = 65_536;
const ISSUERS_MAX = 100;
const REQUIRED_MAX = 32;
const SECONDS_MAX = 2 ** 53;

/** Checked options, without the keys. */
interface CheckedOptions {
  readonly policy: TokenPolicy;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Names of the claims that a refusal can name, by the core's numbers. */
  readonly claimNames: readonly string[];
  readonly cacheSize: number;
  /** Accepted issuers; `undefined` for any. */
  readonly issuer: readonly ClaimMatcher[] | undefined;
  /** Rules that the core does not judge; `undefined` if there are none. */
  readonly rules: ClaimRules | undefined;
  readonly replay: ReplayList | undefined;
}

/** The matchers of claims, as given. */
interface Matchers {
  readonly issuer: readonly ClaimMatcher[] | undefined;
  readonly audience: readonly ClaimMatcher[] | undefined;
  readonly subject: readonly ClaimMatcher[] | undefined;
  readonly nonce: readonly ClaimMatcher[] | undefined;
}

/** Default of `clockToleranceSeconds`. @internal */
export const CLOCK_TOLERANCE_SECONDS = 5;
/** Default of `maxRevocations`. @internal */
export const MAX_REVOCATIONS = 100_000;

/**
 * Returns a plain copy of the options of a verifier; see `readOptions`.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function verifierOptions(given: TokenVerifierOptions): TokenVerifierOptions {
  optionsObject('options', given);
  return readOptions('TokenVerifier', given, OPTIONS);
}

function issuerOptions(given: TokenVerifierOptions, at: number): TokenVerifierOptions {
  try {
    return verifierOptions(given);
  } catch (error) {
    throw underPath(`issuers[${at}].`, error);
  }
}

/**
 * Checks all options but the keys.
 * @param options made by `verifierOptions`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedOptions(options: TokenVerifierOptions): CheckedOptions {
  const { timers } = options;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  checkCluster(options.cluster);
  const matchers: Matchers = {
    issuer: matchersOf('issuer', options.issuer),
    audience: matchersOf('audience', options.audience ?? undefined),
    subject: matchersOf('subject', options.subject),
    nonce: matchersOf('nonce', options.nonce),
  };
  const required = requiredOf(options, matchers);
  const own = required.filter((name) => !REGISTERED_CLAIMS.includes(name));
  if (own.length > REQUIRED_MAX)
    throw outOfRange('requiredClaims', own.length, `at most ${REQUIRED_MAX} names`);
  const algorithms = checkedAlgorithms(options.algorithms);
  const claimNames = [...REGISTERED_CLAIMS, ...own];
  const rules = new ClaimRules(ruleOptions(options, matchers), claimNames);
  return {
    policy: policyOf(options, algorithms, required, matchers),
    algorithms,
    claimNames,
    cacheSize: wholeNumber('cacheSize', options.cacheSize, 0, 1_000_000, 0),
    issuer: matchers.issuer,
    rules: rules.isEmpty ? undefined : rules,
    replay:
      options.replay === undefined ? undefined : new ReplayList(options.replay, options.cacheSize),
  };
}

function checkCluster(cluster: unknown): void {
  if (cluster !== undefined && !(cluster instanceof Cluster))
    throw wrongSecretType('cluster', cluster, 'a Cluster');
}

/** Returns the options of each issuer, complete but for the cluster: one verifier shares for all. @internal */
export function checkedIssuers({
  issuers,
  cluster,
  ...shared
}: TokenVerifierOptions): readonly TokenVerifierOptions[] {
  checkCluster(cluster);
  for (const name of ['keys', 'jwks', 'issuer'] as const) {
    if (shared[name] !== undefined)
      throw wrongSecretType(name, shared[name], 'absent beside issuers: each has its own');
  }
  if (!Array.isArray(issuers)) throw wrongSecretType('issuers', issuers, 'an array of options');
  if (issuers.length === 0 || issuers.length > ISSUERS_MAX)
    throw outOfRange('issuers', issuers.length, `1 to ${ISSUERS_MAX} issuers`);
  return issuers.map((one: unknown, at) => {
    optionsObject(`issuers[${at}]`, one, 'an object with the options of an issuer');
    const options = { ...shared, ...issuerOptions(one, at) };
    if (options.issuer === undefined)
      throw wrongType(
        `issuers[${at}].issuer`,
        options.issuer,
        'the issuer that selects these options',
      );
    if (options.cluster !== undefined)
      throw wrongType(
        `issuers[${at}].cluster`,
        options.cluster,
        'absent: it stands beside issuers',
      );
    if (options.issuers !== undefined)
      throw wrongType(`issuers[${at}].issuers`, options.issuers, 'absent: issuers do not nest');
    return options;
  });
}

/** Returns the names of all claims that must be present, `exp` and those of the core's own options aside. */
function requiredOf(options: TokenVerifierOptions, matchers: Matchers): string[] {
  const required = new Set(texts('requiredClaims', options.requiredClaims));
  if (matchers.issuer !== undefined) required.add('iss');
  if (matchers.audience !== undefined) required.add('aud');
  if (matchers.subject !== undefined) required.add('sub');
  if (matchers.nonce !== undefined) required.add('nonce');
  if (options.replay !== undefined) required.add('jti');
  return [...required];
}

function ruleOptions(options: TokenVerifierOptions, matchers: Matchers): ClaimRuleOptions {
  const { issuer, audience, subject, nonce } = matchers;
  return {
    issuer: issuer === undefined || isPlain(issuer) ? undefined : issuer,
    audience: audience === undefined || isPlain(audience) ? undefined : audience,
    subject: subject === undefined || isOnePlain(subject) ? undefined : subject,
    nonce,
    ...checkedRights('', options),
  };
}

/** Rights that a token must have, checked. @internal */
export interface TokenRights {
  readonly scope: readonly string[] | undefined;
  readonly roles: readonly string[] | undefined;
  readonly rolesPath: readonly string[];
}

/**
 * Checks scopes and roles.
 * @param prefix of the fields' names
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function checkedRights(
  prefix: string,
  {
    scope,
    roles,
    rolesPath = 'roles',
  }: Pick<TokenVerifierOptions, 'scope' | 'roles' | 'rolesPath'>,
): TokenRights {
  const allowed = 'text or an array of texts';
  const scopes = oneOrMoreTexts(`${prefix}scope`, scope, allowed);
  // A space separates scopes (RFC 6749, section 3.3), so no scope contains one.
  const spaced = scopes?.find((one) => one.includes(' '));
  if (spaced !== undefined)
    throw outOfRange(`${prefix}scope`, spaced, 'a scope without spaces, or an array of scopes');
  const field = `${prefix}rolesPath`;
  const path = oneOrMoreTexts(field, rolesPath, 'a path, or an array of names') ?? [];
  const names = typeof rolesPath === 'string' ? rolesPath.split('.') : path;
  if (names.includes(''))
    throw outOfRange(field, rolesPath, "a path of names with a dot between two, such as 'a.roles'");
  return {
    scope: scopes,
    roles: oneOrMoreTexts(`${prefix}roles`, roles, allowed),
    rolesPath: names,
  };
}

/** True if the core can judge a subject: it compares with one text. */
const isOnePlain = (matchers: readonly ClaimMatcher[]): matchers is readonly [string] =>
  matchers.length === 1 && isPlain(matchers);

function policyOf(
  options: TokenVerifierOptions,
  algorithms: readonly TokenAlgorithm[],
  required: string[],
  { issuer, audience, subject }: Matchers,
): TokenPolicy {
  const { typ, maxAgeSeconds, clockToleranceSeconds } = options;
  const types = typesOf(typ);
  return {
    algorithms: [...algorithms],
    issuers: issuer !== undefined && isPlain(issuer) ? [...issuer] : [],
    audiences: audience !== undefined && isPlain(audience) ? [...audience] : [],
    anyAudience: options.audience === null || (audience !== undefined && !isPlain(audience)),
    ...(subject !== undefined && isOnePlain(subject) && { subject: subject[0] }),
    required,
    ...(maxAgeSeconds !== undefined && {
      maxAgeSeconds: wholeNumber('maxAgeSeconds', maxAgeSeconds, 1, 2 ** 31),
    }),
    toleranceSeconds: wholeNumber(
      'clockToleranceSeconds',
      clockToleranceSeconds,
      0,
      300,
      CLOCK_TOLERANCE_SECONDS,
    ),
    ...(types !== undefined && { types: types.filter((one) => one !== undefined) }),
    typeMayBeAbsent: types?.includes(undefined) ?? false,
    anyType: typ === null,
    critical: checkedCritical(options.allowedCritical),
    refuseEmbeddedKeys: flag('refuseEmbeddedKeys', options.refuseEmbeddedKeys),
    maxTokenBytes: wholeNumber('maxTokenBytes', options.maxTokenBytes, 64, TOKEN_BYTES_MAX, 2048),
    maxDepth: wholeNumber('maxClaimsDepth', options.maxClaimsDepth, 1, 64, 32),
    maxRevocations: wholeNumber(
      'maxRevocations',
      options.maxRevocations,
      0,
      10_000_000,
      MAX_REVOCATIONS,
    ),
  };
}

/** Checks `typ`. */
function typesOf(typ: unknown): (string | undefined)[] | undefined {
  if (typ === undefined || typ === null) return undefined;
  const allowed = 'text, an array of texts, of which one may be undefined, or null';
  if (!Array.isArray(typ)) return oneOrMoreTexts('typ', typ, allowed);
  if (typ.length === 0) throw outOfRange('typ', typ, allowed);
  return typ.map((one: unknown, at) => (one === undefined ? one : text(`typ[${at}]`, one)));
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
    typeMayBeAbsent: true,
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
  checkWellFormed(field, value);
  return value;
}

function texts(field: string, value: unknown, allowed = 'an array of texts'): string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw wrongType(field, value, allowed);
  return value.map((item: unknown, at) => text(`${field}[${at}]`, item));
}

/** Checks one or more texts. @internal */
export function oneOrMoreTexts(
  field: string,
  value: unknown,
  allowed: string,
): string[] | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') return [text(field, value)];
  const list = texts(field, value, allowed);
  if (list?.length === 0) throw outOfRange(field, list, allowed);
  return list;
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
