/** `InputValidator`: the public methods over the checks of this folder. */
import { type ValidationResult, valueOrThrow } from './failure.js';
import type { HeaderReport, HeaderValues } from './header-collector.js';
import type { HeaderLimits } from './header-limits.js';
import { checkHeaders } from './headers.js';
import { checkPayload } from './payload.js';
import { checkToken } from './token.js';
import { checkPlainUrl, checkUrl, type JudgedUrl } from './url.js';
import type { UrlOptions } from './url-options.js';

/**
 * Validates untrusted input. Every `validate…` method throws an `InputValidationError` with a
 * stable `code`. Its `safe…` twin returns `{ success, value }` or `{ success, error }`, which costs
 * less for a refusal. All methods are static and need no `this`.
 *
 * @example
 * const result = InputValidator.safeValidateUrl(query.next, { mode: 'redirect' });
 * if (result.success) response.writeHead(303, { location: result.value.href }).end();
 */
export class InputValidator {
  /**
   * Checks the shape of a token: three base64url parts with two dots, at most 2048 characters,
   * after `Bearer` and white space are cut off. `TokenVerifier` checks signature and claims.
   *
   * @param token the token, or the value of an `Authorization` header
   * @returns the token without `Bearer`
   * @throws InputValidationError ERR_TOKEN_REQUIRED, ERR_TOKEN_TYPE, ERR_TOKEN_TOO_LONG,
   *   ERR_TOKEN_FORMAT
   * @example
   * const token = InputValidator.validateToken(request.headers.get('authorization') ?? undefined);
   */
  static validateToken(token: string | undefined): string {
    return valueOrThrow(checkToken(token));
  }

  /**
   * Checks as `validateToken` does, without throwing.
   * @param token the token, or the value of an `Authorization` header; any type
   * @returns the token without `Bearer`, or the failure
   */
  static safeValidateToken(token: unknown): ValidationResult<string> {
    return checkToken(token);
  }

  /**
   * Checks a URL for its purpose, the `mode`:
   *
   * - `request-target`: the target of a request line. A path; `*` for OPTIONS; an absolute URL if
   *   it names `host`.
   * - `redirect`: the target of a redirect. A path, or a URL of `allowedOrigins`.
   * - `outbound`: a URL that the server fetches for a client. An absolute URL on the public
   *   internet.
   *
   * Without a `mode`, any URL of at most 2048 characters passes that the engine can parse against
   * `http://localhost`.
   *
   * @param url the URL
   * @param options mode and limits
   * @returns the form to use: the URL as the engine writes it, or the path; without a mode, the URL
   *   as it came
   * @throws InputValidationError with one of the ERR_URL_ codes; ERR_INVALID_ARG_TYPE,
   *   ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
   * @example
   * const next = InputValidator.validateUrl(query.next, { mode: 'redirect' });
   */
  static validateUrl(url: string | undefined, options?: UrlOptions): string {
    if (options === undefined) return valueOrThrow(checkPlainUrl(url));
    const { href } = valueOrThrow(checkUrl(url, options));
    return options.mode === undefined && url !== undefined ? url : href;
  }

  /**
   * Checks as `validateUrl` does, without throwing for the URL.
   * @param url the URL; any type
   * @param options mode and limits
   * @returns the parts of the URL, with flags for its oddities, or the failure
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
   */
  static safeValidateUrl(url: unknown, options?: UrlOptions): ValidationResult<JudgedUrl> {
    return checkUrl(url, options);
  }

  /**
   * Checks headers by the grammar of RFC 9110, section 5, and by limits. Names are turned into
   * small letters. Headers that do not fit are dropped, or refused with `strict`.
   *
   * @param headers `Headers`, a plain object, a `Map`, pairs, or Node's `rawHeaders`; any other
   *   value counts as no headers
   * @param limits the limits
   * @returns the kept headers, as an object without a prototype
   * @throws InputValidationError for a header that would be dropped, with `strict`, and
   *   ERR_HEADERS_TYPE if a getter or proxy threw; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE,
   *   ERR_UNKNOWN_OPTION for the limits
   * @example
   * const { authorization } = InputValidator.validateHeaders(request.headers);
   */
  static validateHeaders(headers: unknown, limits?: HeaderLimits): HeaderValues {
    return valueOrThrow(checkHeaders(headers, limits)).headers;
  }

  /**
   * Checks as `validateHeaders` does, without throwing for the headers.
   * @param headers headers of any shape
   * @param limits the limits
   * @returns the kept headers and a list of the dropped ones, or the failure
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
   */
  static safeValidateHeaders(
    headers: unknown,
    limits?: HeaderLimits,
  ): ValidationResult<HeaderReport> {
    return checkHeaders(headers, limits);
  }

  /**
   * Checks a value before it is sent or stored as JSON: its size, and that JSON can hold it. For
   * text or bytes from a client use `parseJson`, which checks before it parses.
   *
   * @param payload the value
   * @param maxSizeBytes bytes of `JSON.stringify(payload)` in UTF-8: 0 to 2^31 - 1, or Infinity.
   *   Default 1,048,576
   * @returns the payload itself; `null` for `null` and `undefined`
   * @throws InputValidationError ERR_PAYLOAD_TOO_LARGE; ERR_PAYLOAD_NOT_JSON for functions, symbols
   *   and BigInt; ERR_PAYLOAD_CYCLE; ERR_JSON_DEPTH beyond 512 levels; ERR_PAYLOAD_THROWS;
   *   ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the size
   * @example
   * const body = InputValidator.validateJsonPayload(message, 65_536);
   */
  static validateJsonPayload<T>(payload: T, maxSizeBytes?: number): T | null {
    return valueOrThrow(checkPayload(payload, maxSizeBytes));
  }

  /**
   * Checks as `validateJsonPayload` does, without throwing for the payload.
   * @param payload the value
   * @param maxSizeBytes bytes of the value as JSON: 0 to 2^31 - 1, or Infinity. Default 1,048,576
   * @returns the payload, or the failure
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the size
   */
  static safeValidateJsonPayload<T>(payload: T, maxSizeBytes?: number): ValidationResult<T | null> {
    return checkPayload(payload, maxSizeBytes);
  }
}
