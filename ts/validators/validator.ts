/** The plan's `InputValidator`, and its methods' twins that return failures instead of throwing them. */
import { unwrap, type ValidationResult } from './failure.js';
import {
  type HeaderLimits,
  type HeaderReport,
  type HeaderValues,
  judgeHeaders,
} from './headers.js';
import { judgePayload } from './payload.js';
import { judgeToken } from './token.js';
import { type JudgedUrl, judgePlainUrl, judgeUrl, type UrlOptions } from './url.js';

/**
 * Judges what comes in from outside. Every `validate…` throws an `InputValidationError` with a
 * stable `code`; its `safe…` twin returns `{ success, value }` or `{ success, error }` and costs less when
 * it refuses. All methods are static and need no `this`.
 */
export class InputValidator {
  /**
   * The shape of a token: `Bearer` and white space are cut off, then three base64url parts with
   * two dots, 2048 characters at most. Signature and claims are `TokenVerifier`'s affair.
   *
   * @returns the token without `Bearer`
   * @throws InputValidationError ERR_TOKEN_REQUIRED, ERR_TOKEN_TYPE, ERR_TOKEN_TOO_LONG, ERR_TOKEN_FORMAT
   * @example
   * const token = InputValidator.validateToken(request.headers.get('authorization') ?? undefined);
   */
  static validateToken(token: string | undefined): string {
    return unwrap(judgeToken(token));
  }

  /** As `validateToken`, without throwing. */
  static safeValidateToken(token: unknown): ValidationResult<string> {
    return judgeToken(token);
  }

  /**
   * A URL, by what it is for. Without a `mode` it is the plan's check: whatever the engine parses
   * against `http://localhost`, 2048 characters at most, returned as it came. With a mode, the
   * form to use is returned: the URL as the engine writes it, or the path.
   *
   * - `request-target`: what stands in a request line. A path; `*` for OPTIONS; an absolute URL if it names `host`.
   * - `redirect`: where a client may be sent. A path, or a URL of `allowedOrigins`.
   * - `outbound`: what the server fetches for somebody. An absolute URL on the public internet.
   *
   * @throws InputValidationError with one of the ERR_URL_ codes; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
   * @example
   * const next = InputValidator.validateUrl(query.next, { mode: 'redirect' });
   */
  static validateUrl(url: string | undefined, options?: UrlOptions): string {
    return options === undefined ? unwrap(judgePlainUrl(url)) : hrefOf(url, options);
  }

  /** As `validateUrl`, without throwing; with origin, host, path, query, and flags for what is odd but allowed. */
  static safeValidateUrl(url: unknown, options?: UrlOptions): ValidationResult<JudgedUrl> {
    return judgeUrl(url, options);
  }

  /**
   * Headers by the grammar of RFC 9110, with limits. Names become small letters; what does not fit
   * is left out, unless `strict` makes that a failure.
   *
   * @param headers `Headers`, a plain object, a `Map`, pairs, or Node's `rawHeaders`; anything else is no header
   * @returns an object without a prototype
   * @throws InputValidationError for what would be dropped, if `strict`, and ERR_HEADERS_TYPE where a getter or proxy threw; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
   * @example
   * const { authorization } = InputValidator.validateHeaders(request.headers);
   */
  static validateHeaders(headers: unknown, limits?: HeaderLimits): HeaderValues {
    return unwrap(judgeHeaders(headers, limits)).headers;
  }

  /** As `validateHeaders`, without throwing; with a list of what was dropped and why. */
  static safeValidateHeaders(
    headers: unknown,
    limits?: HeaderLimits,
  ): ValidationResult<HeaderReport> {
    return judgeHeaders(headers, limits);
  }

  /**
   * A value that is to be sent or stored as JSON: its size in bytes, and whether JSON can say it.
   * For text or bytes that came in, use `parseJson`, which judges before it parses.
   *
   * @param maxSizeBytes bytes of `JSON.stringify(payload)` in UTF-8: 0 to 2^31 - 1, or Infinity. Default 1,048,576
   * @returns the payload itself; `null` for `null` and `undefined`
   * @throws InputValidationError ERR_PAYLOAD_TOO_LARGE; ERR_PAYLOAD_NOT_JSON for functions, symbols and BigInt; ERR_PAYLOAD_CYCLE; ERR_JSON_DEPTH beyond 512 levels; ERR_PAYLOAD_THROWS
   * @example
   * const body = InputValidator.validateJsonPayload(message, 65_536);
   */
  static validateJsonPayload<T>(payload: T, maxSizeBytes?: number): T | null {
    return unwrap(judgePayload(payload, maxSizeBytes));
  }

  /** As `validateJsonPayload`, without throwing. */
  static safeValidateJsonPayload<T>(payload: T, maxSizeBytes?: number): ValidationResult<T | null> {
    return judgePayload(payload, maxSizeBytes);
  }
}

function hrefOf(url: string | undefined, options: UrlOptions | undefined): string {
  const judged = unwrap(judgeUrl(url, options));
  // Without a mode the URL comes back as it came.
  return options?.mode === undefined && url !== undefined ? url : judged.href;
}
