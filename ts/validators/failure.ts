/** Refused input: as a value (`ValidationFailure`) and as an error (`InputValidationError`). */
import { type FailureCode, FAILURES } from './failure-codes.js';

/** Details of a failure besides its code. */
export interface FailureDetails {
  /** The checked input: `token`, `url`, `payload`, `headers`, or the name of a header. */
  readonly field?: string | undefined;
  /** Position in the input, in bytes from its start. */
  readonly offset?: number | undefined;
  /** Position in the JSON: keys and indexes, the outermost first. The keys come from the client. */
  readonly path?: readonly (string | number)[] | undefined;
  /** The limit that the input exceeds. */
  readonly limit?: number | undefined;
  /** The size that was found, where it is known. */
  readonly actual?: number | undefined;
  /** The claim of a token. */
  readonly claim?: string | undefined;
}

/** Problem details (RFC 9457), for a body of type `application/problem+json`. */
export interface ProblemDetails {
  /** Always `about:blank`: the problem is that of the HTTP status (RFC 9457, section 4.2.1). */
  readonly type: 'about:blank';
  /** The reason phrase of the status. */
  readonly title: string;
  /** The HTTP status. */
  readonly status: number;
  /** The meaning of the code. */
  readonly detail: string;
  /** The stable code. */
  readonly code: FailureCode;
  /** The checked input. */
  readonly field?: string;
  /** The claim of a token. */
  readonly claim?: string;
  /** Position in the input, in bytes from its start. */
  readonly offset?: number;
  /** The limit that the input exceeds. */
  readonly limit?: number;
  /** The size that was found. */
  readonly actual?: number;
  /** Position in the payload, as a JSON Pointer in a URI fragment (RFC 6901, section 6). */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

/** The accepted value, or the failure. */
export type ValidationResult<T> =
  | { readonly success: true; readonly value: T }
  | { readonly success: false; readonly error: ValidationFailure };

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  413: 'Content Too Large',
  414: 'URI Too Long',
  431: 'Request Header Fields Too Large',
  503: 'Service Unavailable',
};

/**
 * The reason for a refusal, as a frozen value. It costs little, since it has no stack. Its texts
 * hold nothing of the input except `path` and `field`, which name members and headers.
 */
export class ValidationFailure {
  /** The stable code, as listed in `docs/errors.md`. */
  readonly code: FailureCode;
  /** The HTTP status for an answer. */
  readonly status: number;
  /** The meaning of the code; the same text for every failure of the code. */
  readonly reason: string;
  /** The checked input: `token`, `url`, `payload`, `headers`, or the name of a header. */
  readonly field: string | undefined;
  /** Position in the input, in bytes from its start. */
  readonly offset: number | undefined;
  /** Position in the JSON: keys and indexes, the outermost first. The keys come from the client. */
  readonly path: readonly (string | number)[] | undefined;
  /** The limit that the input exceeds. */
  readonly limit: number | undefined;
  /** The size that was found, where it is known. */
  readonly actual: number | undefined;
  /** The claim of a token. */
  readonly claim: string | undefined;

  /** @internal */
  constructor(number: number, details: FailureDetails) {
    const row = FAILURES[number - 1];
    if (row === undefined) throw new RangeError(`no failure has the number ${number}`);
    [this.code, this.status, this.reason] = row;
    this.field = details.field;
    this.offset = details.offset;
    this.path = details.path;
    this.limit = details.limit;
    this.actual = details.actual;
    this.claim = details.claim;
    Object.freeze(this);
  }

  /**
   * Makes the body of an answer.
   * @returns problem details (RFC 9457)
   */
  toProblem(): ProblemDetails {
    const { code, status, reason, field, claim, offset, limit, actual, path } = this;
    return {
      type: 'about:blank',
      title: TITLES[status] ?? 'Error',
      status,
      detail: reason,
      code,
      ...(field !== undefined && { field }),
      ...(claim !== undefined && { claim }),
      ...(offset !== undefined && { offset }),
      ...(limit !== undefined && { limit }),
      ...(actual !== undefined && { actual }),
      ...(path !== undefined && { errors: [{ pointer: pointerOf(path), detail: reason }] }),
    };
  }

  /**
   * Makes the value of a `WWW-Authenticate` header (RFC 6750, section 3).
   * @returns a challenge with `invalid_token` for 401, `insufficient_scope` for 403 and
   *   `invalid_request` for other statuses; without an error if no token was sent or the server is
   *   at fault
   */
  toWwwAuthenticate(): string {
    if (this.code === 'ERR_TOKEN_REQUIRED' || this.status >= 500) return 'Bearer';
    const error =
      this.status === 401
        ? 'invalid_token'
        : this.status === 403
          ? 'insufficient_scope'
          : 'invalid_request';
    return `Bearer error="${error}", error_description="${this.reason}"`;
  }
}

/** Returns a path as a JSON Pointer in a URI fragment (RFC 6901, section 6). */
function pointerOf(path: readonly (string | number)[]): string {
  const tokens = path.map((part) => String(part).replaceAll('~', '~0').replaceAll('/', '~1'));
  return `#${tokens.map((token) => `/${encodeURIComponent(token)}`).join('')}`;
}

const NUMBER_OF_CODE = new Map(FAILURES.map(([code], index) => [code, index + 1]));
const NO_DETAILS: FailureDetails = {};
/** Failures without details, by number. */
const shared: (ValidationFailure | undefined)[] = [];

/**
 * Returns the core's failure of a number; without details, one frozen object per number. @internal
 */
export function failureByNumber(number: number, details?: FailureDetails): ValidationFailure {
  if (details !== undefined) return new ValidationFailure(number, details);
  return (shared[number] ??= new ValidationFailure(number, NO_DETAILS));
}

/** Returns the failure of a code; without details, one frozen object per code. @internal */
export function failure(code: FailureCode, details?: FailureDetails): ValidationFailure {
  return failureByNumber(numberOf(code), details);
}

/** Returns the core's number of a code. @internal */
export function numberOf(code: FailureCode): number {
  return NUMBER_OF_CODE.get(code) ?? 0;
}

/** Returns a frozen result that refuses an input. @internal */
export function refused(
  code: FailureCode,
  details: FailureDetails,
): Extract<ValidationResult<never>, { success: false }> {
  return Object.freeze({ success: false, error: failure(code, details) });
}

/**
 * Thrown by the `validate…` and `verify` methods for refused input. The `safe…` methods return the
 * same facts as a `ValidationFailure`.
 *
 * @example
 * try {
 *   InputValidator.validateToken(token);
 * } catch (error) {
 *   if (error instanceof InputValidationError) return Response.json(error.toProblem(), { status: error.status });
 *   throw error;
 * }
 */
export class InputValidationError extends Error {
  /** The name of the class. */
  override readonly name = 'InputValidationError';
  /** The stable code. */
  readonly code: FailureCode;
  /** The HTTP status for an answer. */
  readonly status: number;
  /** The checked input: `token`, `url`, `payload`, `headers`, or the name of a header. */
  readonly field: string | undefined;
  /** Position in the input, in bytes from its start. */
  readonly offset: number | undefined;
  /** Position in the JSON: keys and indexes, the outermost first. The keys come from the client. */
  readonly path: readonly (string | number)[] | undefined;
  /** The claim of a token. */
  readonly claim: string | undefined;
  /** The whole failure as a value, with `limit` and `actual`. */
  readonly failure: ValidationFailure;

  /** @internal */
  constructor(failure: ValidationFailure) {
    super(failure.reason);
    this.code = failure.code;
    this.status = failure.status;
    this.field = failure.field;
    this.offset = failure.offset;
    this.path = failure.path;
    this.claim = failure.claim;
    this.failure = failure;
  }

  /**
   * Makes the body of an answer.
   * @returns problem details (RFC 9457)
   */
  toProblem(): ProblemDetails {
    return this.failure.toProblem();
  }

  /**
   * Makes the value of a `WWW-Authenticate` header (RFC 6750, section 3).
   * @returns a challenge, as `ValidationFailure.toWwwAuthenticate` makes it
   */
  toWwwAuthenticate(): string {
    return this.failure.toWwwAuthenticate();
  }
}

/** Returns the value of a result, or throws its failure. @internal */
export function valueOrThrow<T>(result: ValidationResult<T>): T {
  if (result.success) return result.value;
  throw new InputValidationError(result.error);
}
