/** Denials of handshakes, and their answers. */
import type { RefusalCode } from '../connections/refusal.js';
import { type Answer, answerWith, answerWithText } from '../http/answer.js';
import type { ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failure-codes.js';

/** Code of a denial by authentication. */
export type AuthDenialCode =
  | 'identify_failed'
  | 'unauthorized'
  | 'not_judged'
  | 'origin_not_allowed'
  | 'malformed_handshake'
  | 'invalid_host'
  | 'invalid_target'
  | FailureCode;

/** Reason for refusing a handshake. @internal */
export interface Denial {
  readonly code: RefusalCode | AuthDenialCode;
  readonly reason: string;
  readonly retryAfterMs: number;
  /** Cause of `overload`. */
  readonly cause?: string;
  /** Failure of the client's token. */
  readonly failure?: ValidationFailure;
}

/** A denial by authentication, which the manager does not count. @internal */
export type AuthDenial = Denial & { readonly code: AuthDenialCode };

/** Time after which a failure of the server may be over, ms. @internal */
export const RETRY_AFTER_MS = 1000;

/** Denial of a client whose `identify` failed. @internal */
export const IDENTIFY_FAILED: AuthDenial = {
  code: 'identify_failed',
  reason: 'Could not identify the client',
  retryAfterMs: RETRY_AFTER_MS,
};

/**
 * Denial of a socket that opens without a judged handshake, in front of a guard that has to judge it. The
 * application upgraded it past the guard, or registered the guard too late.
 * @internal
 */
export const NOT_JUDGED: AuthDenial = {
  code: 'not_judged',
  reason: 'The handshake was not judged',
  retryAfterMs: 0,
};

/** Denial of a handshake that no host could complete, where such handshakes count towards a ban. @internal */
export const MALFORMED: AuthDenial = {
  code: 'malformed_handshake',
  reason: 'Malformed WebSocket handshake',
  retryAfterMs: 0,
};

/** Denial of a handshake whose `Host` is no host. @internal */
export const INVALID_HOST: AuthDenial = {
  code: 'invalid_host',
  reason: 'The request needs a valid Host',
  retryAfterMs: 0,
};

/** Denial of a handshake whose target is no URL, such as `//`. @internal */
export const INVALID_TARGET: AuthDenial = {
  code: 'invalid_target',
  reason: 'The request needs a valid target',
  retryAfterMs: 0,
};

/**
 * Returns the HTTP status of a denial before the upgrade, and the close code after it: 503 and 1013 for the
 * server's own state, 429 and 1008 for one client's limit, 429 and 1013 for its rate.
 * @internal
 */
export function codesOf({ code, failure }: Denial): readonly [status: number, close: number] {
  if (failure !== undefined) return [failure.status, failure.status === 503 ? 1013 : 1008];
  switch (code) {
    case 'identify_failed':
      return [500, 1011];
    case 'unauthorized':
      return [401, 1008];
    case 'malformed_handshake':
    case 'invalid_host':
    case 'invalid_target':
      return [400, 1008];
    case 'not_judged':
    case 'origin_not_allowed':
      return [403, 1008];
    case 'ip_rate':
    case 'user_rate':
      return [429, 1013];
    case 'banned':
    case 'ip_limit':
    case 'unknown_ip_limit':
    case 'prefix_limit':
    case 'user_limit':
    case 'anonymous_ip_limit':
    case 'pending_ip_limit':
      return [429, 1008];
    default:
      return [503, 1013];
  }
}

/** True for a denial that counts towards a ban of its client's address. @internal */
export function isFailure(denial: AuthDenial): boolean {
  const [status] = codesOf(denial);
  return status === 401 || status === 400;
}

/** The part of an answer that depends on the code alone. */
interface Form {
  /** The body up to the milliseconds, with which it ends. */
  readonly bodyStart: string;
  /** The whole answer, where no time is part of it. */
  readonly fixed: Answer | undefined;
}

/** Made once for each code: a flood of refusals pays for no JSON. */
const forms = new Map<Denial['code'], Form>();

function formOf({ code, reason, failure }: Denial, status: number): Form {
  const known = forms.get(code);
  if (known !== undefined) return known;
  // RFC 6750, section 3.1: 401 for no good token, 403 for a good token that lacks a right.
  const isChallenged = status === 401 || failure?.status === 403;
  const body = { code, message: reason, retryAfterMs: 0 };
  const challenge = { 'www-authenticate': failure?.toWwwAuthenticate() ?? 'Bearer' };
  const form = {
    bodyStart: JSON.stringify(body).slice(0, -'0}'.length),
    fixed: isChallenged ? Object.freeze(answerWith(status, body, challenge)) : undefined,
  };
  forms.set(code, form);
  return form;
}

/** Returns the HTTP answer of a denial. @internal */
export function answerOf(denial: Denial): Answer {
  const [status] = codesOf(denial);
  const { code, reason, retryAfterMs, cause } = denial;
  if (code === 'unauthorized') {
    // RFC 6750, section 3.1: a request without a token gets the scheme only, no error code.
    const challenge =
      reason === 'missing_token'
        ? 'Bearer'
        : `Bearer error="invalid_token", error_description="${reason}"`;
    return answerWith(
      status,
      { code, message: 'Unauthorized', reason },
      { 'www-authenticate': challenge },
    );
  }
  // Where no retry helps, a client that is told of one would come back for ever.
  const retryAfter = retryAfterMs > 0 ? String(Math.ceil(retryAfterMs / 1000)) : undefined;
  if (cause !== undefined)
    return answerWith(
      status,
      { code, message: reason, retryAfterMs, cause },
      retryAfter === undefined ? {} : { 'retry-after': retryAfter },
    );
  const { bodyStart, fixed } = formOf(denial, status);
  return fixed ?? answerWithText(status, `${bodyStart}${retryAfterMs}}`, retryAfter);
}
