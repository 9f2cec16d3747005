/** Bearer tokens: where a handshake carries one, and the user that it names. */
import { outOfRange, UnauthorizedError, wrongSecretType, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { ID_MAX } from '../connections/arguments.js';
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import { hasRole, hasScopes } from '../tokens/claim-rules.js';
import { checkedRights, type TokenRights } from '../tokens/policy.js';
import type { TokenClaims, TokenResult } from '../tokens/result.js';
import { VerifiedToken } from '../tokens/verified-token.js';
import { TokenVerifier } from '../tokens/verifier.js';
import { failure, type ValidationFailure } from '../validators/failure.js';
import type { TokenPlaces } from './bearer-places.js';
import { HttpTokens } from './http-tokens.js';

/** A connection with the claims of its guard's verifier, whatever their type. @internal */
export type AuthConnection = ManagedConnection<ManagedSocket, TokenClaims>;

/**
 * A verifier, the places of a client's token, and the end of a socket with its token. `C` is the type
 * of the claims.
 */
export interface TokenAuth<C extends TokenClaims = TokenClaims> {
  /** Verifies the token. */
  readonly verifier: TokenVerifier<C>;
  /**
   * Also takes the token from this cookie. Browsers send cookies along with the requests of every
   * page: only pages that `allowedOrigins` allows may connect, by default those of the same host.
   * Default: none.
   */
  readonly cookie?: string | undefined;
  /**
   * Also takes the token from the subprotocols, for browsers: behind this one, or after it and a
   * dot. `bearer` takes `['app', 'bearer', token]` and `['app', 'bearer.' + token]`. With a name
   * that begins with `base64url.`, such as `base64url.bearer.authorization.k8s.io`, the token may
   * stand in base64url. The answer is the first other subprotocol, or else this one; never the
   * token. Default: none.
   */
  readonly subprotocol?: string | readonly string[] | undefined;
  /**
   * Also takes the token from this query parameter. URLs end up in logs, and a warning says so:
   * prefer the subprotocol. Default: none.
   */
  readonly queryParameter?: string | undefined;
  /**
   * HTTP requests that need a token, too: `true` for all, or paths without the segments `.` and `..`, of which
   * `/api/*` stands for all below. A request needs a token if any reading of its path is one of them: whatever its
   * case, encoding, dots, slashes and parameters are, and as `new URL()` reads it. One that cannot be read needs a
   * token. Preflight requests (OPTIONS with `Origin` and `Access-Control-Request-Method`, which anybody can send) and
   * `exemptPaths` need none. A route of Elysia with `requireToken` checks the token again, which `replay` refuses:
   * name it here or there. The adapters for `node:http` servers need `guard.request(handler)`;
   * `@socket.io/bun-engine` cannot have it, and neither can a guard of Elysia with other `scoping` than `global`.
   * Default: none.
   */
  readonly http?: boolean | readonly string[] | undefined;
  /** Scopes that the token must all have, in `scope` or `scp`; others get 403. Default: none. */
  readonly scope?: string | readonly string[] | undefined;
  /** Roles of which the token must have one, at `rolesPath`; others get 403. Default: none. */
  readonly roles?: string | readonly string[] | undefined;
  /** The place of the roles, as the verifier's option of this name. Default `roles`. */
  readonly rolesPath?: string | readonly string[] | undefined;
  /**
   * Treatment of a socket whose token has expired or was revoked: `close` closes it with 1008
   * `token_expired` or `token_revoked`, `notify` only calls `onTokenEnd`, `ignore` does nothing.
   * Default `close`.
   */
  readonly atTokenEnd?: 'close' | 'notify' | 'ignore' | undefined;
  /**
   * Time between the end of a token and the close of its socket, ms: 0 to 2^30. Each socket gets
   * between half and all of it, so that tokens of one time do not end at once. A revoked token gets
   * none. Default 25,000.
   */
  readonly tokenGraceMs?: number | undefined;
  /**
   * Called when the token of an open socket ends, before the grace: the client can be asked for a
   * new token, for `connection.refreshToken()`. Default: none.
   */
  readonly onTokenEnd?:
    | ((
        connection: ManagedConnection<ManagedSocket, C>,
        reason: 'token_expired' | 'token_revoked',
      ) => void)
    | undefined;
}

const OPTIONS = [
  'verifier',
  'cookie',
  'subprotocol',
  'queryParameter',
  'http',
  'scope',
  'roles',
  'rolesPath',
  'atTokenEnd',
  'tokenGraceMs',
  'onTokenEnd',
] as const;
/** A token of RFC 9110, section 5.6.2: the names of cookies and subprotocols. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Checked options of `auth`. @internal */
export interface CheckedAuth {
  readonly verifier: TokenVerifier;
  readonly places: TokenPlaces;
  /** Requests that need a token; `undefined` if none do. */
  readonly http: HttpTokens | undefined;
  readonly rights: TokenRights;
  readonly atTokenEnd: 'close' | 'notify' | 'ignore';
  readonly tokenGraceMs: number;
  readonly onTokenEnd: TokenAuth['onTokenEnd'];
}

/** Checks the option `auth`. @internal */
export function authOf({
  auth,
  identify,
}: {
  readonly auth?: TokenVerifier | TokenAuth | undefined;
  readonly identify?: unknown;
}): CheckedAuth | undefined {
  if (auth === undefined) return undefined;
  if (identify !== undefined)
    throw wrongType(
      'identify',
      identify,
      'absent when auth is given: the user is the sub of the token',
    );
  if (auth instanceof TokenVerifier) return checkedAuth({ verifier: auth });
  optionsObject('auth', auth, 'a TokenVerifier, or { verifier }');
  return checkedAuth(auth);
}

function checkedAuth(auth: TokenAuth): CheckedAuth {
  knownOptions('auth', auth, OPTIONS, 'auth.');
  const { verifier, cookie, subprotocol, queryParameter, atTokenEnd = 'close', onTokenEnd } = auth;
  if (!(verifier instanceof TokenVerifier))
    throw wrongSecretType('auth.verifier', verifier, 'a TokenVerifier');
  checkName('auth.cookie', cookie);
  if (queryParameter !== undefined && (typeof queryParameter !== 'string' || queryParameter === ''))
    throw wrongType('auth.queryParameter', queryParameter, 'a name');
  if (Array.isArray(subprotocol))
    for (const [at, one] of subprotocol.entries()) checkName(`auth.subprotocol[${at}]`, one);
  else checkName('auth.subprotocol', subprotocol);
  if (atTokenEnd !== 'close' && atTokenEnd !== 'notify' && atTokenEnd !== 'ignore')
    throw outOfRange('auth.atTokenEnd', atTokenEnd, "'close', 'notify' or 'ignore'");
  if (onTokenEnd !== undefined && typeof onTokenEnd !== 'function')
    throw wrongType('auth.onTokenEnd', onTokenEnd, 'a function');
  const http = new HttpTokens(auth.http);
  const checked: CheckedAuth = {
    verifier,
    http: http.isEmpty ? undefined : http,
    places: { cookie, subprotocol, queryParameter },
    rights: checkedRights('auth.', auth),
    atTokenEnd,
    tokenGraceMs: wholeNumber('auth.tokenGraceMs', auth.tokenGraceMs, 0, TIME_MAX_MS, 25_000),
    onTokenEnd,
  };
  if (queryParameter !== undefined)
    process.emitWarning(
      'auth.queryParameter takes tokens from URLs, which end up in the logs of proxies and servers: prefer auth.subprotocol',
      { type: 'PortcullisWarning', code: 'PORTCULLIS_TOKEN_IN_QUERY' },
    );
  return checked;
}

function checkName(field: string, value: unknown): void {
  const allowed = 'a name of letters, digits and the other characters of a token';
  if (value === undefined) return;
  if (typeof value !== 'string' || !NAME.test(value)) throw wrongType(field, value, allowed);
}

const NO_SCOPE = failure('ERR_TOKEN_SCOPE', { field: 'token' });
const NO_ROLE = failure('ERR_TOKEN_ROLE', { field: 'token' });

/** Returns the failure of a good token that lacks a right. @internal */
export function lackOf(
  { scope, roles, rolesPath }: TokenRights,
  token: VerifiedToken,
): ValidationFailure | undefined {
  if (scope !== undefined && !hasScopes(token.claims, scope)) return NO_SCOPE;
  return roles !== undefined && !hasRole(token.claims, rolesPath, roles) ? NO_ROLE : undefined;
}

/** Refuses a token whose `sub` is longer than a user id. */
const LONG_SUBJECT = failure('ERR_TOKEN_CLAIM_INVALID', { field: 'token', claim: 'sub' });
const NO_SUBJECT = failure('ERR_TOKEN_CLAIM_MISSING', { field: 'token', claim: 'sub' });

/**
 * Returns a token whose user may connect, or the failure that refuses its client.
 * @param token good, or refused already
 * @internal
 */
export function admissible(
  token: VerifiedToken | ValidationFailure,
  rights: TokenRights,
): VerifiedToken | ValidationFailure {
  if (!(token instanceof VerifiedToken)) return token;
  // An empty `sub` names no user, and would have no limit of its own.
  if (token.user === '') return NO_SUBJECT;
  // A valid token may have a `sub` that no user id can hold: refuse it, since the manager would throw.
  if (token.user.length > ID_MAX) return LONG_SUBJECT;
  return lackOf(rights, token) ?? token;
}

/** Returns the token of a result, or the failure that refuses its client. @internal */
export function userOf(
  result: TokenResult,
  rights: TokenRights,
): VerifiedToken | ValidationFailure {
  return admissible(result.success ? VerifiedToken.of(result.claims) : result.error, rights);
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
    throw wrongSecretType('auth', verifier, 'an object with safeVerify(token)');
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
