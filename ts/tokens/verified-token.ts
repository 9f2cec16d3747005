/**
 * A token that was found good: its user, and its claims, which are parsed when they are first read. An
 * admission needs the subject alone, and `JSON.parse` of the claims costs as much as the signature.
 */
import type { TokenClaims } from './result.js';

/** A good token, in the form that a verifier checks for a later revocation. @internal */
export interface HeldToken {
  readonly claims: TokenClaims;
  /** Revision of the verifier, at which it was not revoked; `undefined` if that is not known. */
  readonly revision: number | undefined;
  /** False if no claim can have this value. @param quoted the value, as `JSON.stringify` writes it */
  mayHold(quoted: string): boolean;
}

/**
 * False if no claim can have a value. Without its quotes a short one would be found in nearly every text.
 * @param given claims, or their text
 * @param quoted the value, as `JSON.stringify` writes it
 * @internal
 */
export function mayHold(given: TokenClaims | string, quoted: string): boolean {
  // Behind an escape the same value may be written otherwise.
  return typeof given !== 'string' || given.includes(quoted) || given.includes('\\');
}

/** A good token. Without `#private` fields: one is made for each handshake. @internal */
export class VerifiedToken implements HeldToken {
  /** The claims, or their text until they are first read. */
  given: TokenClaims | string;

  /**
   * @param user its `sub`; empty without one
   * @param claims its claims, or their text
   * @param deadlineMs time at which it becomes invalid, if that is known: wall-clock milliseconds since 1970
   * @param revision of the verifier, at which it was not revoked
   */
  constructor(
    readonly user: string,
    claims: TokenClaims | string,
    readonly deadlineMs?: number,
    readonly revision: number | undefined = undefined,
  ) {
    this.given = claims;
  }

  /** Returns the good token of these claims. */
  static of(claims: TokenClaims, deadlineMs?: number): VerifiedToken {
    return new VerifiedToken(claims.sub ?? '', claims, deadlineMs);
  }

  /** The claims. */
  get claims(): TokenClaims {
    const { given } = this;
    if (typeof given !== 'string') return given;
    return (this.given = JSON.parse(given) as TokenClaims);
  }

  mayHold(quoted: string): boolean {
    return mayHold(this.given, quoted);
  }
}
