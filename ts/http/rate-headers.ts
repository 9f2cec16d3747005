/** The header fields that tell clients their rates. */
import { wallClockMs, wholeMs } from '../base/clock.js';
import type { RateLimiter } from '../limiter/limiter.js';
import type { RateLimitResult } from '../limiter/result.js';
import type { RateHeaders, RateScope } from './rate-options.js';

/** Characters of a policy's name. */
const NAME_MAX = 128;

/**
 * Returns a name as a string of structured fields (RFC 9651, section 3.3.3), which has printable ASCII only: routes may
 * have other characters.
 */
function quoted(name: string): string {
  const ascii = name.replaceAll(/[^\x20-\x7e]+/g, (part) => encodeURI(part.toWellFormed()));
  return `"${ascii.slice(0, NAME_MAX).replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** A limiter of requests, and its scope. @internal */
export class RequestLimit {
  /** Name of its policy: a client tells limits apart by it. */
  name = '';
  /** The name, as header fields have it. */
  item = '';
  /** Its part of the field `RateLimit-Policy`, which is the same for all requests. */
  policy = '';

  constructor(
    readonly scope: RateScope,
    readonly limiter: RateLimiter,
    name: string = scope,
  ) {
    this.rename(name);
  }

  /** Names the policy. */
  rename(name: string): void {
    const { limit, windowMs } = this.limiter;
    // `w` is whole seconds, and optional: a shorter window has none.
    const window = windowMs % 1000 === 0 ? `;w=${windowMs / 1000}` : '';
    this.name = name;
    this.item = quoted(name);
    this.policy = `${this.item};q=${limit}${window}`;
  }
}

/** A limit that a request has met. @internal */
export interface MetLimit {
  readonly limit: RequestLimit;
  readonly key: string;
  readonly cost: number;
  readonly result: RateLimitResult;
}

/**
 * Returns the units that are left, as clients are told: at most the quota. A burst above the limit is admitted once, not
 * in each window, and a policy has no place for it.
 */
const unitsLeft = ({ remaining, limit }: RateLimitResult): number => Math.min(remaining, limit);

const seconds = (ms: number): number => Math.ceil(wholeMs(ms) / 1000);

/**
 * Returns header fields with names in lower case.
 * @param kinds the fields that are asked for
 * @param met the limits in their order; without any there are no fields
 * @param retrySeconds value of `Retry-After` of the answer, if it has one
 * @internal
 */
export function rateHeaders(
  kinds: ReadonlySet<RateHeaders>,
  met: readonly MetLimit[],
  retrySeconds = Infinity,
): Record<string, string> {
  if (kinds.size === 0 || met.length === 0) return {};
  const headers = kinds.has('ratelimit') ? listed(met, retrySeconds) : {};
  if (kinds.has('ratelimit-legacy')) addNumbers(headers, 'ratelimit', met, 0);
  if (kinds.has('x-ratelimit')) addNumbers(headers, 'x-ratelimit', met, seconds(wallClockMs()));
  return headers;
}

/**
 * The lists of the draft: the policies, and for each the units that are left and the seconds until there are more.
 * These are left out where there will not be more, and where `Retry-After` would point before them: it should not
 * (version 10, section "Server Behavior"), and it tells of the limit that has refused.
 */
function listed(met: readonly MetLimit[], retrySeconds: number): Record<string, string> {
  let policies = '';
  let left = '';
  for (const { limit, key, cost, result } of met) {
    const comma = left === '' ? '' : ', ';
    const moreMs = limit.limiter.moreMs(key, cost, result);
    const more = seconds(moreMs);
    const time = moreMs !== Infinity && more <= retrySeconds ? `;t=${more}` : '';
    policies += `${comma}${limit.policy}`;
    left += `${comma}${limit.item};r=${unitsLeft(result)}${time}`;
  }
  return { 'ratelimit-policy': policies, ratelimit: left };
}

/** The fields of the draft: lists of limits. */
const LISTS: ReadonlySet<string> = new Set(['ratelimit', 'ratelimit-policy']);

/**
 * Returns the value of a field on an answer that other limits have written to, too: the fields of the draft list all
 * limits, the older ones tell the limit with the least left.
 * @param own the fields of our limits
 * @param other value that the field has without us
 * @param remainingOf returns the value that another field has without us
 * @internal
 */
export function besideOthers(
  name: string,
  own: Readonly<Record<string, string>>,
  other: string,
  remainingOf: (name: string) => string | null | undefined,
): string {
  if (LISTS.has(name)) return `${other}, ${own[name]!}`;
  const remaining = `${name.slice(0, name.lastIndexOf('-'))}-remaining`;
  const isLess = Number(remainingOf(remaining) ?? NaN) < Number(own[remaining]);
  return isLess ? other : own[name]!;
}

/** The fields of a single limit: the one of which least is left. */
function addNumbers(
  headers: Record<string, string>,
  prefix: string,
  met: readonly MetLimit[],
  since: number,
): void {
  const { result } = met.reduce((least, next) =>
    unitsLeft(next.result) < unitsLeft(least.result) ? next : least,
  );
  headers[`${prefix}-limit`] = String(result.limit);
  headers[`${prefix}-remaining`] = String(unitsLeft(result));
  headers[`${prefix}-reset`] = String(since + seconds(result.resetMs));
}
