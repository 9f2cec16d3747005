/**
 * Rules about claims that the core cannot judge: regular expressions, functions, templates, nonces,
 * scopes and roles. They see the claims of tokens that passed every other check.
 */
import { outOfRange, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { checkWellFormed } from '../native/strings.js';
import { numberOf } from '../validators/failure.js';
import type { TokenClaims } from './result.js';

/**
 * An accepted value of a claim: the value itself; a regular expression, which has to match all of
 * it; or a function of the value and the claims, of which only `true` accepts. A function that throws or returns a
 * promise accepts nothing, and its first error is a process warning.
 */
export type ClaimMatcher = string | RegExp | ((value: string, claims: TokenClaims) => boolean);

/** Tokens of clients reach the functions of matchers: their errors must not end the process. */
const hooks = new Hooks();

/** The tenant's place in an issuer, as the metadata of Microsoft Entra has it. */
const TENANT = '{tenantid}';
const IS_TENANT = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Rules that the core does not judge, checked. @internal */
export interface ClaimRuleOptions {
  readonly issuer?: readonly ClaimMatcher[] | undefined;
  readonly audience?: readonly ClaimMatcher[] | undefined;
  readonly subject?: readonly ClaimMatcher[] | undefined;
  readonly nonce?: readonly ClaimMatcher[] | undefined;
  readonly scope?: readonly string[] | undefined;
  readonly roles?: readonly string[] | undefined;
  readonly rolesPath: readonly string[];
}

/**
 * Checks matchers of a claim.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the field
 * @internal
 */
export function matchersOf(field: string, given: unknown): readonly ClaimMatcher[] | undefined {
  if (given === undefined) return undefined;
  const allowed = 'text, a RegExp, a function, or an array of them';
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (list.length === 0) throw outOfRange(field, given, allowed);
  return list.map((one, at): ClaimMatcher => {
    const isMatcher =
      (typeof one === 'string' && one !== '') || one instanceof RegExp || typeof one === 'function';
    const place = Array.isArray(given) ? `${field}[${at}]` : field;
    if (!isMatcher) throw wrongType(place, one, allowed);
    if (typeof one === 'string') checkWellFormed(place, one);
    return one instanceof RegExp ? wholeOf(one) : (one as ClaimMatcher);
  });
}

/** True if the core can judge the matchers: all are plain text. @internal */
export const isPlain = (matchers: readonly ClaimMatcher[]): matchers is readonly string[] =>
  matchers.every((one) => typeof one === 'string' && !one.includes(TENANT));

/** True if one of the matchers accepts the value; a function that throws accepts nothing. @internal */
export function accepts(
  matchers: readonly ClaimMatcher[],
  value: string,
  claims: TokenClaims,
): boolean {
  return matchers.some((one) => {
    if (typeof one === 'string') return value === one || value === ofTenant(one, claims);
    if (one instanceof RegExp) return one.test(value);
    return hooks.ask('a function of claims', () => one(value, claims)) === true;
  });
}

/** Fills the tenant of the claims into an issuer; `undefined` without one. */
function ofTenant(template: string, { tid }: TokenClaims): string | undefined {
  return template.includes(TENANT) && typeof tid === 'string' && IS_TENANT.test(tid)
    ? template.replaceAll(TENANT, tid)
    : undefined;
}

/**
 * Returns an expression that matches whole values only. The flags `g` and `y` would make the result
 * depend on the match before, and `m` would let the anchors match within the value.
 */
const wholeOf = ({ source, flags }: RegExp): RegExp =>
  new RegExp(`^(?:${source})$`, flags.replaceAll(/[gym]/g, ''));

/** True if the claims have every one of the scopes, in `scope` (RFC 8693, section 4.2) or `scp`. @internal */
export function hasScopes(claims: TokenClaims, scopes: readonly string[]): boolean {
  const granted = [...listOf(claims['scope'], ' '), ...listOf(claims['scp'], ' ')];
  return scopes.every((scope) => granted.includes(scope));
}

/** True if the claims have at least one of the roles, at a path. @internal */
export function hasRole(
  claims: TokenClaims,
  path: readonly string[],
  roles: readonly string[],
): boolean {
  let value: unknown = claims;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return false;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return listOf(value, undefined).some((role) => roles.includes(role));
}

/** Returns the texts of a claim: an array of them, or one text with a separator. */
function listOf(value: unknown, separator: string | undefined): readonly string[] {
  if (typeof value === 'string') return separator === undefined ? [value] : value.split(separator);
  if (!Array.isArray(value)) return [];
  return value.filter((one): one is string => typeof one === 'string');
}

/** Judges claims by rules. Results are numbers as those of the core. @internal */
export class ClaimRules {
  readonly #rules: readonly ((claims: TokenClaims) => number)[];

  /** @param claimNames names of claims, in the order of their numbers */
  constructor(options: ClaimRuleOptions, claimNames: readonly string[]) {
    const about = (failure: string, claim?: string): number =>
      numberOf(failure as 'ERR_TOKEN_ISSUER') |
      ((claim === undefined ? 0 : claimNames.indexOf(claim) + 1) << 8);
    const rules: ((claims: TokenClaims) => number)[] = [];
    for (const [matchers, claim, failure] of [
      [options.issuer, 'iss', 'ERR_TOKEN_ISSUER'],
      [options.audience, 'aud', 'ERR_TOKEN_AUDIENCE'],
      [options.subject, 'sub', 'ERR_TOKEN_SUBJECT'],
      [options.nonce, 'nonce', 'ERR_TOKEN_NONCE'],
    ] as const) {
      if (matchers === undefined) continue;
      const number = about(failure, claim);
      rules.push((claims) =>
        listOf(claims[claim], undefined).some((value) => accepts(matchers, value, claims))
          ? 0
          : number,
      );
    }
    const { scope, roles, rolesPath } = options;
    if (scope !== undefined) {
      const number = about('ERR_TOKEN_SCOPE');
      rules.push((claims) => (hasScopes(claims, scope) ? 0 : number));
    }
    if (roles !== undefined) {
      const number = about('ERR_TOKEN_ROLE');
      rules.push((claims) => (hasRole(claims, rolesPath, roles) ? 0 : number));
    }
    this.#rules = rules;
  }

  /** True if there is nothing to judge. */
  get isEmpty(): boolean {
    return this.#rules.length === 0;
  }

  /** Returns 0, or the number of the first refusal. */
  judge(claims: TokenClaims): number {
    for (const rule of this.#rules) {
      const number = rule(claims);
      if (number !== 0) return number;
    }
    return 0;
  }

  /** Returns the numbers of all refusals. */
  judgeAll(claims: TokenClaims): number[] {
    return this.#rules.map((rule) => rule(claims)).filter((number) => number !== 0);
  }
}
