/** The validators as Standard Schemas, which Elysia and others take in the place of their own. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { failure, type ValidationResult } from './failure.js';
import type { FailureCode } from './failures.js';
import { type HeaderLimits, type HeaderValues, judgeHeaders } from './headers.js';
import { checkedJsonLimits, type JsonLimits, safeParseJson } from './json.js';
import { judgePayload } from './payload.js';
import { judgeToken } from './token.js';
import { judgePlainUrl, judgeUrl, type UrlOptions } from './url.js';

/** Why a schema refused a value: an issue of Standard Schema with a stable code. */
export interface InputSchemaIssue extends StandardSchemaV1.Issue {
  /** The code, as in `ValidationFailure.code`. */
  readonly code: FailureCode;
  /** Position in the JSON or payload: keys and indexes from the outside in. */
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
  judge: (value: unknown) => ValidationResult<Output>,
): InputSchema<Input, Output> {
  const validate = (value: unknown): InputSchemaResult<Output> => {
    const result = judge(value);
    if (result.success) return { value: result.value };
    const { reason, code, path } = result.error;
    return { issues: [{ message: reason, code, ...(path !== undefined && { path }) }] };
  };
  return Object.freeze({
    '~standard': Object.freeze({ version: 1, vendor: 'portcullis', validate }),
  });
}

/**
 * `InputValidator.validateToken` as a Standard Schema.
 * @example
 * const result = tokenSchema()['~standard'].validate(token);
 */
export function tokenSchema(): InputSchema<string, string> {
  return schema(judgeToken);
}

/** `InputValidator.validateUrl` as a Standard Schema. */
export function urlSchema(options?: UrlOptions): InputSchema<string, string> {
  if (options === undefined) return schema(judgePlainUrl);
  judgeUrl('/', options);
  return schema((value) => {
    const result = judgeUrl(value, options);
    if (!result.success) return result;
    // Without a mode the URL comes back as it came.
    return {
      success: true,
      value: options.mode === undefined ? (value as string) : result.value.href,
    };
  });
}

/** `InputValidator.validateHeaders` as a Standard Schema. */
export function headersSchema(limits?: HeaderLimits): InputSchema<object, HeaderValues> {
  judgeHeaders({}, limits);
  return schema((value) => {
    const result = judgeHeaders(value, limits);
    return result.success ? { success: true, value: result.value.headers } : result;
  });
}

/** `parseJson` as a Standard Schema: from text or bytes to the value. */
export function jsonSchema(limits?: JsonLimits): InputSchema<string | Uint8Array, unknown> {
  checkedJsonLimits('limits', limits);
  return schema((value) => {
    if (typeof value === 'string' || value instanceof ArrayBuffer || ArrayBuffer.isView(value))
      return safeParseJson(value, limits);
    return { success: false, error: failure('ERR_JSON_TYPE', { field: 'payload' }) };
  });
}

/**
 * `InputValidator.validateJsonPayload` as a Standard Schema: for bodies that the framework has parsed.
 * @example
 * new Elysia().post('/orders', ({ body }) => body, { body: payloadSchema(65_536) });
 */
export function payloadSchema(maxSizeBytes?: number): InputSchema<unknown, unknown> {
  judgePayload(null, maxSizeBytes);
  return schema((value) => judgePayload(value, maxSizeBytes));
}
