/** Every stable error code of this package. */
export type ErrorCode =
  | 'ERR_INVALID_ARG_TYPE'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_UNKNOWN_OPTION'
  | 'ERR_LIMITS_CONFLICT'
  | 'ERR_CLOSED'
  | 'ERR_TOO_MANY_TIMERS'
  | 'ERR_TIMER_LEAK'
  | 'ERR_TIMEOUT'
  | 'ERR_UNSUPPORTED'
  | 'ERR_DUPLICATE_NAME'
  | 'ERR_UNKNOWN_NAME'
  | 'ERR_NEXT_CALLED_TWICE'
  | 'ERR_MIDDLEWARE_TIMEOUT'
  | 'ERR_INVALID_KEY'
  | 'ERR_JWKS'
  | 'ERR_TOO_MANY_REVOCATIONS'
  | 'ERR_IDENTIFY_TIMEOUT'
  | 'ERR_NO_RESPONSE'
  | 'ERR_RUNTIME_TOO_OLD'
  | 'ERR_PLATFORM_UNSUPPORTED'
  | 'ERR_ADDON_MISSING'
  | 'ERR_ADDON_UNUSABLE'
  | 'ERR_INTERNAL';

/** What an error of this package says besides its message. */
export interface ErrorDetails {
  /** The option or argument. */
  readonly field?: string;
  /** What was given, shortened; never a secret. */
  readonly value?: string;
  /** What would have been right. */
  readonly allowed?: string;
}

/** A caller's mistake. Outcomes, such as a refused connection, are values and never thrown. */
export class PortcullisError extends Error {
  override readonly name = 'PortcullisError';
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly value: string | undefined;
  readonly allowed: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    this.code = code;
    this.field = details.field;
    this.value = details.value;
    this.allowed = details.allowed;
  }
}

/** Thrown by `identify`: the client is refused with 401 and a challenge, instead of with 500. */
export class UnauthorizedError extends Error {
  override readonly name = 'UnauthorizedError';
  /** Said to the client as `error_description` of the challenge and as `reason` of the body. */
  readonly reason: string;

  /** @param reason a word such as `expired`: letters, digits, `_`, `-` and `.`; never anything of the token */
  constructor(reason = 'invalid_token') {
    super(`unauthorized: ${reason}`);
    this.reason = /^[\w.-]{1,64}$/.test(reason) ? reason : 'invalid_token';
  }
}

/** A value as messages show it. @internal */
export function describe(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === 'object' && value !== null)
    return Array.isArray(value) ? 'an array' : 'an object';
  return typeof value === 'function' ? 'a function' : String(value);
}

/** @internal */
export function wrongType(field: string, value: unknown, allowed: string): PortcullisError {
  const got = describe(value);
  return new PortcullisError('ERR_INVALID_ARG_TYPE', `${field} must be ${allowed}, got ${got}`, {
    field,
    value: got,
    allowed,
  });
}

/** @internal */
export function outOfRange(field: string, value: unknown, allowed: string): PortcullisError {
  const got = describe(value);
  return new PortcullisError('ERR_OUT_OF_RANGE', `${field} must be ${allowed}, got ${got}`, {
    field,
    value: got,
    allowed,
  });
}
