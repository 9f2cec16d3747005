/** Who a bearer token stands for: any verifier fits that has `safeVerify`. */
import { UnauthorizedError, wrongType } from './errors.js';

/** What a verifier says of a token. */
export type TokenVerdict =
  { readonly ok: true; readonly claims: Readonly<Record<string, unknown>> } | { readonly ok: false; readonly error: { readonly code: string } };

/** Verifies tokens, at once or later. */
export interface TokenVerifier {
  safeVerify(token: string): TokenVerdict | Promise<TokenVerdict>;
}

const TOKEN_MAX = 8192;
const SUBJECT_MAX = 1024;

/**
 * @returns a function from an `Authorization` header to the token's `sub`
 * @throws ERR_INVALID_ARG_TYPE
 * @internal
 */
export function bearer(verifier: TokenVerifier): (authorization: string) => Promise<string> {
  if (typeof verifier !== 'object' || verifier === null || typeof verifier.safeVerify !== 'function') {
    throw wrongType('auth', verifier, 'an object with safeVerify(token)');
  }
  return async (authorization) => {
    const token = authorization.slice(7).trim();
    if (authorization.slice(0, 7).toLowerCase() !== 'bearer ' || token === '') throw new UnauthorizedError('missing_token');
    if (token.length > TOKEN_MAX) throw new UnauthorizedError('token_too_long');
    const verdict = await verifier.safeVerify(token);
    if (!verdict.ok) throw new UnauthorizedError(verdict.error.code);
    const { sub } = verdict.claims;
    if (typeof sub !== 'string' || sub === '' || sub.length > SUBJECT_MAX) throw new UnauthorizedError('missing_sub');
    return sub;
  };
}
