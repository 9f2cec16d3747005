/** Why input was refused: as a value (`ValidationFailure`), and as an error (`InputValidationError`). */
import { type FailureCode, FAILURES } from './failures.js';

/** What a failure knows besides its code. */
export interface FailureDetails {
  /** What was judged: `token`, `url`, `payload`, `headers`, or the name of a header. */
  readonly field?: string | undefined;
  /** Where in the input, in bytes from its start. */
  readonly offset?: number | undefined;
  /** Where in the JSON: keys and indexes from the outside in. Holds names that came from outside. */
  readonly path?: readonly (string | number)[] | undefined;
  /** The limit that was passed. */
  readonly limit?: number | undefined;
  /** How much there was, where that is known. */
  readonly actual?: number | undefined;
  /** The claim of a token. */
  readonly claim?: string | undefined;
}

/** Problem details of RFC 9457, for a body of type `application/problem+json`. */
export interface ProblemDetails {
  readonly type: 'about:blank';
  /** The phrase of the status. */
  readonly title: string;
  readonly status: number;
  /** The reason. */
  readonly detail: string;
  readonly code: FailureCode;
  readonly field?: string;
  readonly claim?: string;
  readonly offset?: number;
  readonly limit?: number;
  readonly actual?: number;
  /** Where in the payload, as a JSON pointer in a fragment. */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

/** What was accepted, or why it was not. */
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
 * Why input was refused, as a value: it has no stack and costs little. Its texts hold nothing of
 * the input but `path` and `field`, which name members and headers.
 */
export class ValidationFailure {
  /** The stable code. */
  readonly code: FailureCode;
  /** The HTTP status that answers it. */
  readonly status: number;
  /** What the code means, in words; the same for every failure of the code. */
  readonly reason: string;
  /** What was judged: `token`, `url`, `payload`, `headers`, or the name of a header. */
  readonly field: string | undefined;
  /** Where in the input, in bytes from its start. */
  readonly offset: number | undefined;
  /** Where in the JSON: keys and indexes from the outside in. Holds names that came from outside. */
  readonly path: readonly (string | number)[] | undefined;
  /** The limit that was passed. */
  readonly limit: number | undefined;
  /** How much there was, where that is known. */
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

  /** Problem details of RFC 9457. */
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
   * The `WWW-Authenticate` header of RFC 6750: `invalid_token` for 401, `insufficient_scope` for
   * 403, no error where no token was sent or the server is at fault, else `invalid_request`.
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

function pointerOf(path: readonly (string | number)[]): string {
  return `#${path.map((part) => `/${encodeURIComponent(String(part).replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('')}`;
}

const NUMBERS = new Map(FAILURES.map(([code], index) => [code, index + 1]));
const PLAIN: (ValidationFailure | undefined)[] = [];
const NO_DETAILS: FailureDetails = {};

/** The failure of a number of the core; one frozen object per number where there are no details. @internal */
export function numbered(number: number, details?: FailureDetails): ValidationFailure {
  if (details !== undefined) return new ValidationFailure(number, details);
  return (PLAIN[number] ??= new ValidationFailure(number, NO_DETAILS));
}

/** The failure of a code; one frozen object per code where there are no details. @internal */
export function failure(code: FailureCode, details?: FailureDetails): ValidationFailure {
  return numbered(NUMBERS.get(code) ?? 0, details);
}

/**
 * Input that a `validate…` or `verify` method refused. Everything it says stands in `failure` too,
 * which the `safe…` methods return without throwing.
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
  /** The class's name, as errors have it. */
  override readonly name = 'InputValidationError';
  /** The stable code. */
  readonly code: FailureCode;
  /** The HTTP status that answers it. */
  readonly status: number;
  /** What was judged. */
  readonly field: string | undefined;
  /** Where in the input, in bytes. */
  readonly offset: number | undefined;
  /** Where in the JSON. */
  readonly path: readonly (string | number)[] | undefined;
  /** The claim of a token. */
  readonly claim: string | undefined;
  /** All of it as a value, with the limit that was passed. */
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

  /** Problem details of RFC 9457. */
  toProblem(): ProblemDetails {
    return this.failure.toProblem();
  }

  /** The `WWW-Authenticate` header of RFC 6750. */
  toWwwAuthenticate(): string {
    return this.failure.toWwwAuthenticate();
  }
}

/** The value, or the failure thrown. @internal */
export function unwrap<T>(result: ValidationResult<T>): T {
  if (result.success) return result.value;
  throw new InputValidationError(result.error);
}
