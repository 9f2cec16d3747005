// Compiled, not run: the schemas are those of the published standard, and their results keep their types.
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { Elysia } from 'elysia';
import {
  headersSchema,
  type InputSchema,
  jsonSchema,
  payloadSchema,
  type TokenClaims,
  TokenVerifier,
  tokenSchema,
  urlSchema,
} from 'portcullis';

export const token: StandardSchemaV1<string, string> = tokenSchema();
export const url: StandardSchemaV1<string, string> = urlSchema({ mode: 'redirect' });
export const headers: StandardSchemaV1<object, object> = headersSchema();
export const json: StandardSchemaV1<string | Uint8Array, unknown> = jsonSchema();

const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret: 's'.repeat(32) } });
export const claims: StandardSchemaV1<string, TokenClaims> = verifier;
export const subject = (
  output: StandardSchemaV1.InferOutput<typeof verifier>,
): string | undefined => output.sub;

// A schema of input answers at once, with codes.
const own: InputSchema<string, string> = tokenSchema();
const result = own['~standard'].validate('x');
export const codes: readonly string[] = result.issues?.map(({ code }) => code) ?? [];

export const app = new Elysia().post('/orders', ({ body }) => body, {
  body: payloadSchema(65_536),
});
