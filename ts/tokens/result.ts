/** Results of a token verifier. */
import {
  failure,
  failureByNumber,
  numberOf,
  type ValidationFailure,
} from '../validators/failure.js';
import type { JwksSnapshot } from './jwks.js';

/** The claims of a token (RFC 7519, section 4). Dates are seconds since 1970. */
export interface TokenClaims {
  /** The issuer. */
  readonly iss?: string;
  /** The subject. */
  readonly sub?: string;
  /** The audience. */
  readonly aud?: string | readonly string[];
  /** The time from which the token is no longer valid. */
  readonly exp: number;
  /** The time before which the token is not valid. */
  readonly nbf?: number;
  /** The time of issue. */
  readonly iat?: number;
  /** The id of the token. */
  readonly jti?: string;
  readonly [claim: string]: unknown;
}

/** The claims of a good token, or the reason for its refusal. Refusals are frozen and shared. */
export type TokenResult<C = TokenClaims> =
  | { readonly success: true; readonly claims: C }
  | { readonly success: false; readonly error: ValidationFailure };

/** A result that refuses a token. @internal */
export type TokenRefusal = Extract<TokenResult, { success: false }>;

/** Every check that a token fails. */
export interface TokenExplanation {
  /** True if the token passes every check. */
  readonly success: boolean;
  /** The failures; empty for a good token. */
  readonly errors: readonly ValidationFailure[];
}

/** A token to revoke. */
export interface TokenRevocation {
  /** The token's `iss`. Leave it out for a token without one. */
  readonly issuer?: string | undefined;
  /** The token's `jti`. */
  readonly jti: string;
  /** The token's `exp`, in seconds since 1970. The revocation is dropped then. */
  readonly exp: number;
}

/** State of a verifier. */
export interface TokenVerifierSnapshot {
  /** Keys in use. */
  readonly keys: number;
  /** Keys in use whose form breaks RFC 7518 but has one reading only, such as a padded modulus. */
  readonly lenientKeys: number;
  /** Keys of the last set that were skipped, by their index in it. */
  readonly skippedKeys: readonly { readonly index: number; readonly problem: string }[];
  /** Cached results. */
  readonly cached: number;
  /** Revocations that are held. In the first hour of a verifier those that have expired count, too. */
  readonly revocations: number;
  /** Used tokens that are remembered by `replay`. */
  readonly usedTokens: number;
  /** State of a fetched key set; `undefined` without one. */
  readonly jwks: JwksSnapshot | undefined;
  /** The state of each issuer, with `issuers`; the counts above are their sums then. */
  readonly issuers: readonly TokenVerifierSnapshot[] | undefined;
  /**
   * With a cluster: whether the revocations of the other processes are known here, and those of this process that the
   * server has not confirmed yet.
   */
  readonly shared: { readonly isRead: boolean; readonly unsaved: number } | undefined;
}

/** The core's number for input of another type than text. @internal */
export const TOKEN_TYPE = numberOf('ERR_TOKEN_TYPE');

const NO_TOKEN: TokenRefusal = Object.freeze({
  success: false,
  error: failure('ERR_TOKEN_REQUIRED', { field: 'token' }),
});

/**
 * Frozen refusals, one per number of the core. A number holds the failure in its low byte, and
 * above it the place of a claim's name, counted from 1. @internal
 */
export class TokenRefusals {
  readonly #claimNames: readonly string[];
  readonly #byNumber = new Map<number, TokenRefusal>();

  constructor(claimNames: readonly string[]) {
    this.#claimNames = claimNames;
  }

  /** Returns the refusal of a token. */
  of(number: number, token: unknown): TokenRefusal {
    if (number === TOKEN_TYPE && (token === undefined || token === null)) return NO_TOKEN;
    let refusal = this.#byNumber.get(number);
    if (refusal === undefined) {
      const claim = this.#claimNames[(number >> 8) - 1];
      const details = { field: 'token', ...(claim !== undefined && { claim }) };
      refusal = Object.freeze({ success: false, error: failureByNumber(number & 0xff, details) });
      this.#byNumber.set(number, refusal);
    }
    return refusal;
  }
}

/** True if a fetched key set may lack a key, so that a fetch may help. @internal */
export const isAboutKeys = ({ code }: ValidationFailure): boolean =>
  code === 'ERR_TOKEN_KEY_UNKNOWN' || code === 'ERR_TOKEN_KEYS_UNAVAILABLE';
