/** Bearer tokens: where a handshake carries one, and the user that it names. */
import { UnauthorizedError, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import { ID_MAX } from '../connections/arguments.js';
import type { TokenResult } from '../tokens/result.js';
import { TokenVerifier } from '../tokens/verifier.js';
import { failure, type ValidationFailure } from '../validators/failure.js';

/** Places of a client's token besides its `Authorization` header. */
export interface TokenAuth {
  /** Verifies the token. */
  readonly verifier: TokenVerifier;
  /**
   * Also takes the token from the subprotocol that follows this one, for browsers:
   * `new WebSocket(url, ['bearer', token])`. Hosts answer with the first subprotocol.
   */
  readonly subprotocol?: string | undefined;
  /** Also takes the token from this query parameter. URLs end up in logs: prefer the subprotocol. */
  readonly queryParameter?: string | undefined;
}

/** Checks the option `auth`. @internal */
export function authOf({
  auth,
  identify,
}: {
  readonly auth?: TokenVerifier | TokenAuth;
  readonly identify?: unknown;
}): TokenAuth | undefined {
  if (auth === undefined) return undefined;
  if (identify !== undefined)
    throw wrongType(
      'identify',
      identify,
      'absent when auth is given: the user is the sub of the token',
    );
  if (auth instanceof TokenVerifier) return { verifier: auth };
  if (typeof auth !== 'object' || auth === null)
    throw wrongType('auth', auth, 'a TokenVerifier, or { verifier }');
  knownOptions('auth', auth, ['verifier', 'subprotocol', 'queryParameter']);
  if (!(auth.verifier instanceof TokenVerifier))
    throw wrongType('auth.verifier', auth.verifier, 'a TokenVerifier');
  for (const name of ['subprotocol', 'queryParameter'] as const) {
    const value: unknown = auth[name];
    if (value !== undefined && (typeof value !== 'string' || value === ''))
      throw wrongType(`auth.${name}`, value, 'a name');
  }
  return auth;
}

/** Returns the client's token: from `Authorization`, else from the places of the options. @internal */
export function tokenOf(
  { subprotocol, queryParameter }: TokenAuth,
  header: (name: string) => string,
  url: string,
): string | undefined {
  const authorization = header('authorization');
  if (authorization.slice(0, 7).toLowerCase() === 'bearer ') return authorization.slice(7).trim();
  if (subprotocol !== undefined) {
    const [first, second] = header('sec-websocket-protocol').split(',', 2);
    if (first?.trim() === subprotocol && second !== undefined) return second.trim();
  }
  const query = url.indexOf('?');
  if (queryParameter !== undefined && query >= 0)
    return new URLSearchParams(url.slice(query)).get(queryParameter) ?? undefined;
  return undefined;
}

/** Refuses a token whose `sub` is longer than a user id. */
const LONG_SUBJECT = failure('ERR_TOKEN_CLAIM_INVALID', { field: 'token', claim: 'sub' });
const NO_SUBJECT = failure('ERR_TOKEN_CLAIM_MISSING', { field: 'token', claim: 'sub' });

/** Returns the user that a token names, or the failure that refuses its client. @internal */
export function userOf(result: TokenResult): string | ValidationFailure {
  if (!result.success) return result.error;
  const { sub } = result.claims;
  // An empty `sub` names no user, and would have no limit of its own.
  if (!sub) return NO_SUBJECT;
  // A valid token may have a `sub` that no user id can hold: refuse it, since the manager would throw.
  return sub.length > ID_MAX ? LONG_SUBJECT : sub;
}

/** Result of a verifier for one token. */
type TokenVerdict =
  | { readonly success: true; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly success: false; readonly error: { readonly code: string } };

/** Any other token verifier, which may answer later. */
export interface BearerVerifier {
  safeVerify(token: string): TokenVerdict | Promise<TokenVerdict>;
}

const TOKEN_MAX = 8192;

/** Returns a function from an `Authorization` header to the token's `sub`. */
function bearer(verifier: BearerVerifier): (authorization: string) => Promise<string> {
  if (
    typeof verifier !== 'object' ||
    verifier === null ||
    typeof verifier.safeVerify !== 'function'
  ) {
    throw wrongType('auth', verifier, 'an object with safeVerify(token)');
  }
  return async (authorization) => {
    const token = authorization.slice(7).trim();
    if (authorization.slice(0, 7).toLowerCase() !== 'bearer ' || token === '')
      throw new UnauthorizedError('missing_token');
    if (token.length > TOKEN_MAX) throw new UnauthorizedError('token_too_long');
    const verdict = await verifier.safeVerify(token);
    if (!verdict.success) throw new UnauthorizedError(verdict.error.code);
    const { sub } = verdict.claims;
    if (typeof sub !== 'string' || sub === '' || sub.length > ID_MAX)
      throw new UnauthorizedError('missing_sub');
    return sub;
  };
}

/**
 * Returns the options of a guard for an `auth` that may be any verifier.
 * @throws ERR_INVALID_ARG_TYPE
 * @internal
 */
export function authOptions(auth: TokenVerifier | TokenAuth | BearerVerifier | undefined): {
  readonly auth?: TokenVerifier | TokenAuth;
  readonly identify?: (request: Request) => Promise<string>;
} {
  if (auth === undefined) return {};
  if (
    auth instanceof TokenVerifier ||
    (typeof auth === 'object' && auth !== null && 'verifier' in auth)
  ) {
    authOf({ auth });
    return { auth };
  }
  const verify = bearer(auth);
  return { identify: (request) => verify(request.headers.get('authorization') ?? '') };
}
