/** Keys of a token verifier in all their forms, and their conversion to the core's form. */
import type { KeyObject } from 'node:crypto';
import { lazily } from '../base/builtin.js';
import { PortcullisError, wrongSecretType, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';

const crypto = lazily(() => process.getBuiltinModule('node:crypto'));

/**
 * The signature algorithms of RFC 7518, RFC 8037 and RFC 8812. `EdDSA` and `Ed25519` (RFC 9864) are
 * the same, for Ed25519 keys: each stands for both.
 */
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
  | 'ES256K'
  | 'EdDSA'
  | 'Ed25519';

/** An HMAC secret, at least as long as its hash (RFC 7518, section 3.2). */
export interface TokenSecret {
  /** Bytes, or text of which the UTF-8 is used. */
  readonly secret: Uint8Array | string;
  /** The algorithm of the key. Optional if the verifier allows one HMAC algorithm only. */
  readonly algorithm?: TokenAlgorithm | undefined;
  /** The key id, which a token may name. */
  readonly kid?: string | undefined;
}

/**
 * A public key in PEM: `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`. A certificate only carries
 * its key: names, dates and signature are not checked.
 */
export interface TokenPem {
  /** The text of the key, with its first and last line. */
  readonly pem: string;
  /** The algorithm of the key. Without it, all algorithms of the verifier that fit the key. */
  readonly algorithm?: TokenAlgorithm | undefined;
  /** The key id, which a token may name. */
  readonly kid?: string | undefined;
}

/**
 * A JSON Web Key (RFC 7517, section 4). Members that are not listed, private ones among them, are
 * ignored.
 */
export interface TokenJwk {
  /** The key type: `RSA`, `EC`, `OKP` or `oct`. */
  readonly kty?: string | undefined;
  /** The algorithm. */
  readonly alg?: string | undefined;
  /** The purpose, which has to be `sig`. */
  readonly use?: string | undefined;
  /** The operations, which have to name `verify`. */
  readonly key_ops?: readonly string[] | undefined;
  /** The key id. */
  readonly kid?: string | undefined;
  /** The curve of a key of type `EC` or `OKP`. */
  readonly crv?: string | undefined;
  /** The modulus of an RSA key. */
  readonly n?: string | undefined;
  /** The exponent of an RSA key. */
  readonly e?: string | undefined;
  /** The x coordinate of a key of type `EC`, or the key of type `OKP`. */
  readonly x?: string | undefined;
  /** The y coordinate of a key of type `EC`. */
  readonly y?: string | undefined;
  /** The secret of a key of type `oct`. */
  readonly k?: string | undefined;
  /** Certificates, of which the first has the key if no other member does. */
  readonly x5c?: readonly string[] | undefined;
  readonly [member: string]: unknown;
}

/** A JWK set (RFC 7517, section 5). */
export interface TokenJwkSet {
  /** The keys. */
  readonly keys: readonly TokenJwk[];
}

/**
 * A key that verifies tokens. Bare text or bytes are a secret if all algorithms are HMAC, and PEM
 * if none is. They are refused if some are: the type of a key must not be guessed from its content.
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
  'x5c',
] as const;
const ALLOWED = 'a key: { secret }, { pem }, a JWK or a KeyObject';
const ALLOWED_BARE = `${ALLOWED}; bare text is ambiguous if HMAC and other algorithms are allowed`;

/** A key in the core's form: a JWK, or `{ pem }` with some members of one. */
type CoreKey = Readonly<Record<string, unknown>>;

/**
 * Converts keys to the text of a set in the core's form.
 * @throws ERR_INVALID_ARG_TYPE, ERR_INVALID_KEY, naming the field
 * @internal
 */
export function coreKeySet(
  field: string,
  keys: unknown,
  algorithms: readonly TokenAlgorithm[],
): string {
  const list: readonly unknown[] = Array.isArray(keys) ? keys : [keys];
  if (list.length === 0) throw wrongType(field, keys, 'at least one key');
  return JSON.stringify({
    keys: list.map((key, at) => coreKey(fieldOfKey(field, keys, at), key, algorithms)),
  });
}

/** Converts the keys of a JWK set to the core's form. @internal */
export function coreJwkSet(keys: readonly unknown[]): string {
  return JSON.stringify({ keys: keys.map((key) => (isObject(key) ? coreJwk(key) : null)) });
}

/** Returns the field of one key, with its index if it stands in a list. @internal */
export function fieldOfKey(field: string, keys: unknown, index: number | undefined): string {
  return Array.isArray(keys) && index !== undefined ? `${field}[${index}]` : field;
}

/** Makes the error for a weak or contradictory key. @internal */
export function invalidKey(field: string, problem: string): PortcullisError {
  return new PortcullisError('ERR_INVALID_KEY', `${field} ${problem}`, { field });
}

function coreKey(field: string, key: unknown, algorithms: readonly TokenAlgorithm[]): CoreKey {
  if (key instanceof crypto().KeyObject) return keyOfKeyObject(field, key);
  if (typeof key === 'string' || key instanceof Uint8Array)
    return keyOfBareText(field, key, algorithms);
  if (!isObject(key) || Array.isArray(key)) throw wrongKeyType(field, key);
  if ('secret' in key) {
    const { secret } = key;
    knownOptions(field, key, ['secret', 'algorithm', 'kid'], `${field}.`);
    if (typeof secret !== 'string' && !(secret instanceof Uint8Array))
      throw wrongKeyType(`${field}.secret`, secret, 'bytes or text');
    return { ...secretKey(secret), ...algorithmAndId(field, key) };
  }
  if ('pem' in key) {
    const { pem } = key;
    knownOptions(field, key, ['pem', 'algorithm', 'kid'], `${field}.`);
    if (typeof pem !== 'string') throw wrongKeyType(`${field}.pem`, pem, 'text');
    return { pem, ...algorithmAndId(field, key) };
  }
  if ('kty' in key) return coreJwk(key);
  throw wrongKeyType(field, key);
}

function keyOfKeyObject(field: string, key: KeyObject): CoreKey {
  if (key.type === 'private')
    throw invalidKey(field, 'is a private key: verifiers need the public one only');
  // RSASSA-PSS keys have no JWK that keeps their restrictions.
  if (key.asymmetricKeyType === 'rsa-pss')
    return { pem: key.export({ type: 'spki', format: 'pem' }) };
  try {
    return coreJwk(key.export({ format: 'jwk' }) as CoreKey);
  } catch {
    throw invalidKey(field, 'is of a type that cannot be written as a JWK');
  }
}

function keyOfBareText(
  field: string,
  key: string | Uint8Array,
  algorithms: readonly TokenAlgorithm[],
): CoreKey {
  const hmacs = algorithms.filter((name) => name.startsWith('HS')).length;
  if (hmacs === algorithms.length) return secretKey(key);
  if (hmacs === 0) return { pem: Buffer.from(key as string).toString() };
  throw wrongKeyType(field, key, ALLOWED_BARE);
}

function secretKey(secret: string | Uint8Array): CoreKey {
  return { kty: 'oct', k: Buffer.from(secret as string).toString('base64url') };
}

/** Returns the members of a JWK that the core reads; `undefined` counts as absent. */
function coreJwk(jwk: CoreKey): CoreKey {
  return Object.fromEntries(
    JWK_MEMBERS.filter((name) => jwk[name] !== undefined).map((name) => [
      name,
      checkedMember(jwk[name]),
    ]),
  );
}

function algorithmAndId(field: string, { algorithm, kid }: CoreKey): CoreKey {
  for (const [name, value] of Object.entries({ algorithm, kid }))
    if (value !== undefined && typeof value !== 'string')
      throw wrongKeyType(`${field}.${name}`, value, 'text');
  return {
    ...(algorithm !== undefined && { alg: algorithm }),
    ...(kid !== undefined && { kid }),
  };
}

/** Returns a member of type text or list of texts; otherwise `false`, which the core refuses. */
function checkedMember(value: unknown): unknown {
  const isValid =
    typeof value === 'string' ||
    (Array.isArray(value) && value.every((item) => typeof item === 'string'));
  return isValid ? value : false;
}

/** Makes an error as `wrongType` does, without the value, which may be a secret. */
function wrongKeyType(field: string, value: unknown, allowed = ALLOWED): PortcullisError {
  return wrongSecretType(field, value, allowed);
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;
