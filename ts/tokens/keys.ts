/** Keys of a token verifier, as they are given, made into the one form that the core reads. */
import { KeyObject } from 'node:crypto';
import { PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';

/** The signature algorithms of RFC 7518 and 8037; `EdDSA` and `Ed25519` (RFC 9864) are one, for Ed25519 keys. */
export type TokenAlgorithm =
  | 'HS256'
  | 'HS384'
  | 'HS512'
  | 'RS256'
  | 'RS384'
  | 'RS512'
  | 'PS256'
  | 'PS384'
  | 'PS512'
  | 'ES256'
  | 'ES384'
  | 'ES512'
  | 'EdDSA'
  | 'Ed25519';

/** An HMAC secret: at least as long as its hash. */
export interface TokenSecret {
  /** Bytes, or text that stands for its UTF-8. */
  readonly secret: Uint8Array | string;
  readonly algorithm?: TokenAlgorithm | undefined;
  readonly kid?: string | undefined;
}

/** A public key in PEM: `PUBLIC KEY` or `RSA PUBLIC KEY`. */
export interface TokenPem {
  readonly pem: string;
  readonly algorithm?: TokenAlgorithm | undefined;
  readonly kid?: string | undefined;
}

/** A key as RFC 7517 writes it. Private members are not looked at. */
export interface TokenJwk {
  readonly kty?: string | undefined;
  readonly alg?: string | undefined;
  readonly use?: string | undefined;
  readonly key_ops?: readonly string[] | undefined;
  readonly kid?: string | undefined;
  readonly crv?: string | undefined;
  readonly n?: string | undefined;
  readonly e?: string | undefined;
  readonly x?: string | undefined;
  readonly y?: string | undefined;
  readonly k?: string | undefined;
  readonly [member: string]: unknown;
}

/** A set of keys (RFC 7517, section 5). */
export interface TokenJwkSet {
  readonly keys: readonly TokenJwk[];
}

/**
 * A key that verifies tokens. Bare text or bytes are a secret where all algorithms are HMAC's, PEM
 * where none is, and refused where some are: what a key is must not be guessed from its looks.
 */
export type TokenKey = TokenSecret | TokenPem | TokenJwk | KeyObject | Uint8Array | string;

const JWK_MEMBERS = [
  'kty',
  'alg',
  'use',
  'key_ops',
  'kid',
  'crv',
  'n',
  'e',
  'x',
  'y',
  'k',
] as const;
const ALLOWED = 'a key: { secret }, { pem }, a JWK or a KeyObject';
const ALLOWED_BARE = `${ALLOWED}; bare text can be either where algorithms of HMAC and others are allowed`;

/** The members of a JWK that are looked at; `undefined` counts as absent. @internal */
export function jwkOf(jwk: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    JWK_MEMBERS.filter((name) => jwk[name] !== undefined).map((name) => [name, written(jwk[name])]),
  );
}

/** What a member can be; anything else is `false`, which no member can be. */
function written(value: unknown): unknown {
  const isRight =
    typeof value === 'string' ||
    (Array.isArray(value) && value.every((one) => typeof one === 'string'));
  return isRight ? value : false;
}

/** One key in the core's form: a JWK, or `{ pem }` with some of its members. @internal */
export function keyOf(
  field: string,
  key: unknown,
  algorithms: readonly TokenAlgorithm[],
): Record<string, unknown> {
  if (key instanceof KeyObject) return ofKeyObject(field, key);
  if (typeof key === 'string' || key instanceof Uint8Array) {
    const hmacs = algorithms.filter((name) => name.startsWith('HS')).length;
    if (hmacs === algorithms.length)
      return { kty: 'oct', k: Buffer.from(key as string).toString('base64url') };
    if (hmacs === 0) return { pem: Buffer.from(key as string).toString() };
    throw refusedType(field, key, ALLOWED_BARE);
  }
  if (typeof key !== 'object' || key === null || Array.isArray(key)) throw refusedType(field, key);
  const given = key as Readonly<Record<string, unknown>>;
  if ('secret' in given) {
    const { secret } = given;
    knownOptions(field, given, ['secret', 'algorithm', 'kid']);
    if (typeof secret !== 'string' && !(secret instanceof Uint8Array))
      throw refusedType(`${field}.secret`, secret, 'bytes or text');
    return { kty: 'oct', k: Buffer.from(secret as string).toString('base64url'), ...named(given) };
  }
  if ('pem' in given) {
    const { pem } = given;
    knownOptions(field, given, ['pem', 'algorithm', 'kid']);
    if (typeof pem !== 'string') throw refusedType(`${field}.pem`, pem, 'text');
    return { pem, ...named(given) };
  }
  if ('kty' in given) return jwkOf(given);
  throw refusedType(field, key);
}

function named({ algorithm, kid }: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return {
    ...(algorithm !== undefined && { alg: written(algorithm) }),
    ...(kid !== undefined && { kid: written(kid) }),
  };
}

function ofKeyObject(field: string, key: KeyObject): Record<string, unknown> {
  if (key.type === 'private')
    throw invalidKey(field, 'is a private key: verifiers need the public one only');
  try {
    return jwkOf(key.export({ format: 'jwk' }) as Readonly<Record<string, unknown>>);
  } catch {
    throw invalidKey(field, 'is of a type that cannot be written as a JWK');
  }
}

/** As `wrongType`, without the value: it may be a secret. */
function refusedType(field: string, value: unknown, allowed = ALLOWED): PortcullisError {
  return wrongType(field, typeof value === 'string' ? { hidden: true } : value, allowed);
}

/** @internal */
export function invalidKey(field: string, problem: string): PortcullisError {
  return new PortcullisError('ERR_INVALID_KEY', `${field} ${problem}`, { field });
}
