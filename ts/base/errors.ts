/**
 * Codes of the errors that this package throws. A code is stable; the text of its message is not.
 */
export type ErrorCode =
  | 'ERR_INVALID_ARG_TYPE'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_UNKNOWN_OPTION'
  | 'ERR_LIMITS_CONFLICT'
  | 'ERR_ASYNC_REQUIRED'
  | 'ERR_CLUSTER_CONFIG'
  | 'ERR_CLUSTER_CONFLICT'
  | 'ERR_CLUSTER_FULL'
  | 'ERR_CLUSTER_INCOMPATIBLE'
  | 'ERR_CLUSTER_UNREACHABLE'
  | 'ERR_HOST_FILE'
  | 'ERR_NO_THREAD'
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
  | 'ERR_UNAUTHORIZED'
  | 'ERR_NO_RESPONSE'
  | 'ERR_RUNTIME_TOO_OLD'
  | 'ERR_PLATFORM_UNSUPPORTED'
  | 'ERR_ADDON_MISSING'
  | 'ERR_ADDON_UNUSABLE'
  | 'ERR_INTERNAL';

/** Fields of a `PortcullisError` besides its code and message. */
export interface ErrorDetails {
  /** Name of the option or argument at fault. */
  readonly field?: string | undefined;
  /** The value at fault, shortened. Never a secret. */
  readonly value?: string | undefined;
  /** Description of the allowed values. */
  readonly allowed?: string | undefined;
}

/**
 * Reports a mistake of the caller. Outcomes, such as a refused connection, are values and are never
 * thrown.
 *
 * An error about a type or an unknown option is also a `TypeError`, an error about a range also a
 * `RangeError`. `instanceof PortcullisError` is true for all of them.
 *
 * @example
 * try {
 *   new ConnectionManager({ maxConnectionsPerIp: -1 }, timers);
 * } catch (error) {
 *   if (error instanceof PortcullisError) console.error(error.code, error.field, error.allowed);
 * }
 */
export class PortcullisError extends Error {
  override readonly name = 'PortcullisError';
  /** Stable code, such as `ERR_OUT_OF_RANGE`. */
  readonly code: ErrorCode;
  /** Name of the option or argument at fault. */
  readonly field: string | undefined;
  /** The value at fault, shortened. Never a secret. */
  readonly value: string | undefined;
  /** Description of the allowed values. */
  readonly allowed: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    this.code = code;
    this.field = details.field;
    this.value = details.value;
    this.allowed = details.allowed;
  }

  /** True also for the errors of this package that are a `TypeError` or a `RangeError`. */
  static [Symbol.hasInstance](value: unknown): boolean {
    if (
      this === PortcullisError &&
      (value instanceof ArgumentTypeError || value instanceof ArgumentRangeError)
    )
      return true;
    return Function.prototype[Symbol.hasInstance].call(this, value);
  }
}

/** A `PortcullisError` about a type or an unknown option. @internal */
export class ArgumentTypeError extends TypeError implements PortcullisError {
  override readonly name = 'PortcullisError';
  readonly field: string | undefined;
  readonly value: string | undefined;
  readonly allowed: string | undefined;

  constructor(
    readonly code: 'ERR_INVALID_ARG_TYPE' | 'ERR_UNKNOWN_OPTION',
    message: string,
    { field, value, allowed }: ErrorDetails = {},
  ) {
    super(message);
    this.field = field;
    this.value = value;
    this.allowed = allowed;
  }
}

/** A `PortcullisError` about a range. @internal */
export class ArgumentRangeError extends RangeError implements PortcullisError {
  override readonly name = 'PortcullisError';
  readonly code = 'ERR_OUT_OF_RANGE';
  readonly field: string | undefined;
  readonly value: string | undefined;
  readonly allowed: string | undefined;

  constructor(message: string, { field, value, allowed }: ErrorDetails = {}) {
    super(message);
    this.field = field;
    this.value = value;
    this.allowed = allowed;
  }
}

/**
 * Refuses a client with 401 and a challenge when `identify` throws it. Any other error refuses the
 * client with 500.
 *
 * @example
 * identify: (request) => {
 *   const user = sessions.get(request.headers.get('cookie') ?? '');
 *   if (user === undefined) throw new UnauthorizedError('no_session');
 *   return user;
 * }
 */
export class UnauthorizedError extends Error {
  override readonly name = 'UnauthorizedError';
  /** Stable code. */
  readonly code = 'ERR_UNAUTHORIZED';
  /** Reason that the client gets: `error_description` of the challenge and `reason` of the body. */
  readonly reason: string;

  /**
   * @param reason a word such as `expired`: 1 to 64 letters, digits, `_`, `-` and `.`; any other
   * text becomes `invalid_token`. Never a part of the token
   */
  constructor(reason = 'invalid_token') {
    // Callers without types pass other values, too.
    const text = typeof reason === 'string' ? reason : 'invalid_token';
    super(`unauthorized: ${text}`);
    this.reason = /^[\w.-]{1,64}$/.test(text) ? text : 'invalid_token';
  }
}

/**
 * Returns the message of an error of the core, the host or a package. It does not use `instanceof`: in another realm,
 * such as that of a test file of Jest, errors of the core and the host have other classes.
 * @internal
 */
export function messageOf(error: unknown): string {
  const { message } = Object(error) as Partial<Error>;
  return typeof message === 'string' ? message : String(error);
}

/** Returns the kind of an object. Of a promise and a collection the mistake is easier to see than of an object. */
function kindOf(value: object): string {
  try {
    if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array';
    if (value instanceof Promise) return 'a promise';
    if (value instanceof Map) return 'a Map';
    if (value instanceof Set) return 'a Set';
    if (!ArrayBuffer.isView(value)) return 'an object';
    return Buffer.isBuffer(value) ? 'a Buffer' : 'a typed array';
  } catch {
    // A proxy that is revoked, or whose traps throw, does not tell what it is.
    return 'an object';
  }
}

/**
 * Returns a short text of a secret for messages: its type and length, never its characters.
 * @internal
 */
export function describeSecret(value: unknown): string {
  if (typeof value === 'string')
    return value === ''
      ? 'an empty string'
      : `a string of ${value.length} ${value.length === 1 ? 'character' : 'characters'}`;
  if (value === null || value === undefined || typeof value === 'function') return describe(value);
  return typeof value === 'object' ? kindOf(value) : `a ${typeof value}`;
}

/** Matches the scheme of a URL. */
const SCHEME = /^\s*[a-z][\w+.-]*:\/\//i;
/** Matches in text before an `@` what makes it a user and a password rather than a name. */
const CREDENTIALS = /:|[/\\]{2}/;

/**
 * Returns a text without what may be the user and the password of a URL, also of one that does not parse: a password
 * with a slash is one reason for that. Hence everything before the last `@` is left out, except for the scheme.
 */
function withoutCredentials(text: string): string {
  const at = text.lastIndexOf('@');
  if (at === -1 || !CREDENTIALS.test(text.slice(0, at))) return text;
  return `${SCHEME.exec(text)?.[0] ?? ''}…${text.slice(at)}`;
}

/**
 * Returns a short text of a value for messages. A string is quoted and cut after 40 characters, a URL without its
 * user and password; an object is named by its kind alone.
 * @internal
 */
export function describe(value: unknown): string {
  if (typeof value === 'string') {
    const shown = withoutCredentials(value);
    return JSON.stringify(shown.length > 40 ? `${shown.slice(0, 40)}…` : shown);
  }
  if (typeof value === 'object' && value !== null) return kindOf(value);
  // As it is written, so that it looks unlike a number.
  if (typeof value === 'bigint') return `${value}n`;
  return typeof value === 'function' ? 'a function' : String(value);
}

/** Returns the error for a value of the wrong type. @internal */
export function wrongType(field: string, value: unknown, allowed: string): PortcullisError {
  return typeError(field, describe(value), allowed);
}

/** Returns the error for a secret of the wrong type. @internal */
export function wrongSecretType(field: string, value: unknown, allowed: string): PortcullisError {
  return typeError(field, describeSecret(value), allowed);
}

/** Returns the error for a value of the wrong type, which `got` describes. @internal */
export function typeError(field: string, got: string, allowed: string): PortcullisError {
  return new ArgumentTypeError('ERR_INVALID_ARG_TYPE', `${field} must be ${allowed}, got ${got}`, {
    field,
    value: got,
    allowed,
  });
}

/** Returns the error for a value outside of its range. @internal */
export function outOfRange(field: string, value: unknown, allowed: string): PortcullisError {
  return rangeError(field, describe(value), allowed);
}

/** Returns the error for a secret outside of its range. @internal */
export function secretOutOfRange(field: string, value: unknown, allowed: string): PortcullisError {
  return rangeError(field, describeSecret(value), allowed);
}

/** Returns the error for a value outside of its range, which `got` describes. */
function rangeError(field: string, got: string, allowed: string): PortcullisError {
  return new ArgumentRangeError(`${field} must be ${allowed}, got ${got}`, {
    field,
    value: got,
    allowed,
  });
}

/** Words of the core for the things that are shared by a name, and the words that callers know, before the name. */
const SHARED = [
  ['the limiter', 'a rate limiter of the name'],
  ['the index', 'a connection manager of the name'],
  ['the bans of that name', 'bans of the name'],
  ['the name', 'the name'],
] as const;

/**
 * Returns the error for a name that is open with other options.
 * @param text message of the core, which names the first option that differs
 * @internal
 */
export function nameConflict(
  name: string | undefined,
  text: string,
  field = 'name',
): PortcullisError {
  const value = describe(name);
  const option = /another ([\w.]+)/.exec(text)?.[1] ?? 'options';
  const [words, known] = SHARED.find(([begin]) => text.startsWith(begin)) ?? ['', ''];
  const message = words === '' ? text : `${known} ${value}${text.slice(words.length)}`;
  return new PortcullisError('ERR_LIMITS_CONFLICT', message, {
    field,
    value,
    allowed: `the same ${option} wherever this name is opened, or another name`,
  });
}

/**
 * Returns an error about an option as one about the option at a path, such as `issuers[0].`. Any
 * other error is returned as it is.
 * @internal
 */
export function underPath(path: string, error: unknown): unknown {
  return renamedField(error, (field) => path + field);
}

/**
 * Returns an error about an option with another name of the option, in its message, too. Any other error is
 * returned as it is.
 * @internal
 */
export function renamedField(error: unknown, rename: (field: string) => string): unknown {
  if (!(error instanceof PortcullisError) || error.field === undefined) return error;
  const { code, field: was, value, allowed, message } = error;
  const field = rename(was);
  if (field === was) return error;
  const details: ErrorDetails = { field, value, allowed };
  const text = message.startsWith(was) ? field + message.slice(was.length) : `${field}: ${message}`;
  if (code === 'ERR_OUT_OF_RANGE') return new ArgumentRangeError(text, details);
  return code === 'ERR_INVALID_ARG_TYPE' || code === 'ERR_UNKNOWN_OPTION'
    ? new ArgumentTypeError(code, text, details)
    : new PortcullisError(code, text, details);
}
