/** The validators as Standard Schemas, for Elysia and other frameworks. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { ValidationResult } from './failure.js';
import type { FailureCode } from './failure-codes.js';
import type { HeaderValues } from './header-collector.js';
import type { HeaderLimits } from './header-limits.js';
import { checkHeaders } from './headers.js';
import { type JsonInput, safeParseJson } from './json.js';
import { checkedJsonLimits, type JsonLimits } from './json-limits.js';
import { checkPayload } from './payload.js';
import { checkToken } from './token.js';
import { checkLink, checkUrl } from './url.js';
import { checkedUrlOptions, type UrlOptions } from './url-options.js';

/** The reason for a refusal: an issue of Standard Schema with a stable code. */
export interface InputSchemaIssue extends StandardSchemaV1.Issue {
  /** The stable code, as in `ValidationFailure`. */
  readonly code: FailureCode;
  /** Position in the JSON: keys and indexes, the outermost first. */
  readonly path?: readonly (string | number)[];
}

/** Result of a schema: the value, or the issues. */
export type InputSchemaResult<Output> =
  StandardSchemaV1.SuccessResult<Output> | { readonly issues: readonly InputSchemaIssue[] };

/** Result of a schema that may have to wait, such as for a fetched key set. */
export type InputSchemaAnswer<Output> =
  InputSchemaResult<Output> | Promise<InputSchemaResult<Output>>;

interface InputSchemaProps<
  Input,
  Output,
  Answer extends InputSchemaAnswer<Output>,
> extends StandardSchemaV1.Props<Input, Output> {
  readonly vendor: 'portcullis';
  readonly validate: (value: unknown) => Answer;
}

/**
 * A Standard Schema, version 1 (https://standardschema.dev). Elysia and other frameworks take it
 * in place of a schema of their own. `Answer` is the type that `validate` returns.
 *
 * @example
 * const body: InputSchema<unknown, unknown> = payloadSchema(65_536);
 */
export interface InputSchema<
  Input,
  Output = Input,
  Answer extends InputSchemaAnswer<Output> = InputSchemaResult<Output>,
> extends StandardSchemaV1<Input, Output> {
  /** The validator, in the form of the standard. */
  readonly '~standard': InputSchemaProps<Input, Output, Answer>;
}

function schema<Input, Output>(
  check: (value: unknown) => ValidationResult<Output>,
): InputSchema<Input, Output> {
  const validate = (value: unknown): InputSchemaResult<Output> => {
    const result = check(value);
    if (result.success) return { value: result.value };
    const { reason, code, path } = result.error;
    return { issues: [{ message: reason, code, ...(path !== undefined && { path }) }] };
  };
  return Object.freeze({
    '~standard': Object.freeze({ version: 1, vendor: 'portcullis', validate }),
  });
}

/**
 * Makes a schema of `InputValidator.validateToken`.
 *
 * @returns a schema from a token to the token without `Bearer`
 * @example
 * const result = tokenSchema()['~standard'].validate(token);
 */
export function tokenSchema(): InputSchema<string, string> {
  return schema(checkToken);
}

/**
 * Makes a schema of `InputValidator.validateUrl`. Without a mode, only an absolute URL of `http` or
 * `https` or a path of this site passes, as it came: no `javascript:`, no `//evil.example`.
 *
 * @param options the purpose of the URL and its limits, as for `validateUrl`
 * @returns a schema from a URL to the form to use
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * const result = urlSchema({ mode: 'redirect' })['~standard'].validate(query.next);
 */
export function urlSchema(options?: UrlOptions): InputSchema<string, string> {
  const { mode, maxLength } = checkedUrlOptions(options);
  if (mode === undefined) return schema((value) => checkLink(value, maxLength));
  return schema((value) => {
    const result = checkUrl(value, options);
    return result.success ? { success: true, value: result.value.href } : result;
  });
}

/**
 * Makes a schema of `InputValidator.validateHeaders`.
 *
 * @param limits the limits, as for `validateHeaders`
 * @returns a schema from headers of any shape to the kept ones
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const result = headersSchema({ strict: true })['~standard'].validate(request.headers);
 */
export function headersSchema(limits?: HeaderLimits): InputSchema<object, HeaderValues> {
  checkHeaders({}, limits);
  return schema((value) => {
    const result = checkHeaders(value, limits);
    return result.success ? { success: true, value: result.value.headers } : result;
  });
}

/**
 * Makes a schema of `parseJson`.
 *
 * @param limits the limits, as for `parseJson`
 * @returns a schema from text or bytes to the parsed value
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const result = jsonSchema({ maxDepth: 8 })['~standard'].validate(await request.text());
 */
export function jsonSchema(limits?: JsonLimits): InputSchema<string | Uint8Array, unknown> {
  checkedJsonLimits('limits', limits);
  return schema((value) => {
    return safeParseJson(value as JsonInput, limits);
  });
}

/**
 * Makes a schema of `InputValidator.validateJsonPayload`, for bodies that the framework has parsed.
 *
 * @param maxSizeBytes bytes of the value as JSON: 0 to 2^31 - 1, or Infinity. Default 1,048,576
 * @returns a schema that passes the value on
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the size
 * @example
 * new Elysia().post('/orders', ({ body }) => body, { body: payloadSchema(65_536) });
 */
export function payloadSchema(maxSizeBytes?: number): InputSchema<unknown, unknown> {
  checkPayload(null, maxSizeBytes);
  return schema((value) => checkPayload(value, maxSizeBytes));
}
