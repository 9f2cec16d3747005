/** The validators as Standard Schemas, which Elysia and others take in the place of their own. */
import { failure, type Validated } from './failure.js';
import { type HeaderLimits, type HeaderValues, judgeHeaders } from './headers.js';
import { checkedJsonLimits, type JsonLimits, safeParseJson } from './json.js';
import { judgePayload } from './payload.js';
import { judgeToken } from './token.js';
import { judgePlainUrl, judgeUrl, type UrlOptions } from './url.js';

/** What a Standard Schema (version 1) says of a value. */
export type SchemaResult<T> =
  { readonly value: T; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

/** Why a value was refused. */
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  /** The stable code. */
  readonly code: string;
}

/** A Standard Schema, version 1. */
export interface Schema<Input, Output> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: 'portcullis';
    readonly validate: (value: unknown) => SchemaResult<Output>;
    readonly types?: { readonly input: Input; readonly output: Output };
  };
}

function schema<Input, Output>(
  judge: (value: unknown) => Validated<Output>,
): Schema<Input, Output> {
  const validate = (value: unknown): SchemaResult<Output> => {
    const result = judge(value);
    if (result.ok) return { value: result.value };
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
export function tokenSchema(): Schema<string, string> {
  return schema(judgeToken);
}

/** `InputValidator.validateUrl` as a Standard Schema. */
export function urlSchema(options?: UrlOptions): Schema<string, string> {
  if (options === undefined) return schema(judgePlainUrl);
  judgeUrl('/', options);
  return schema((value) => {
    const result = judgeUrl(value, options);
    if (!result.ok) return result;
    // Without a mode the URL comes back as it came.
    return { ok: true, value: options.mode === undefined ? (value as string) : result.value.href };
  });
}

/** `InputValidator.validateHeaders` as a Standard Schema. */
export function headersSchema(limits?: HeaderLimits): Schema<object, HeaderValues> {
  judgeHeaders({}, limits);
  return schema((value) => {
    const result = judgeHeaders(value, limits);
    return result.ok ? { ok: true, value: result.value.headers } : result;
  });
}

/** `parseJson` as a Standard Schema: from text or bytes to the value. */
export function jsonSchema(limits?: JsonLimits): Schema<string | Uint8Array, unknown> {
  checkedJsonLimits('limits', limits);
  return schema((value) => {
    if (typeof value === 'string' || value instanceof ArrayBuffer || ArrayBuffer.isView(value))
      return safeParseJson(value, limits);
    return { ok: false, error: failure('ERR_JSON_TYPE', { field: 'payload' }) };
  });
}

/**
 * `InputValidator.validateJsonPayload` as a Standard Schema: for bodies that the framework has parsed.
 * @example
 * new Elysia().post('/orders', ({ body }) => body, { body: payloadSchema(65_536) });
 */
export function payloadSchema(maxSizeBytes?: number): Schema<unknown, unknown> {
  judgePayload(null, maxSizeBytes);
  return schema((value) => judgePayload(value, maxSizeBytes));
}
