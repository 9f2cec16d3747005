/** Signed data that is no JWT: `verifyJws`. */
import { knownOptions, optionsObject } from '../base/options.js';
import { TokenCore } from '../native/addon.js';
import { failure, failureByNumber, InputValidationError } from '../validators/failure.js';
import { coreKeySet, fieldOfKey, invalidKey, type TokenAlgorithm, type TokenKey } from './keys.js';
import { checkedAlgorithms, signaturePolicy } from './policy.js';

/** Prepared keys by key object, with the algorithms and the key's content at that time. */
const prepared = new WeakMap<object, { readonly content: string; readonly core: TokenCore }>();

/** Longest compact form, in characters. */
const LENGTH_MAX = 2 ** 16;

/**
 * Verifies a JWS in compact form (RFC 7515, section 7.1) whose payload need not be a JWT. Neither
 * the payload nor `typ` is checked.
 *
 * @param compact the JWS, at most 65,536 characters
 * @param key the key or keys; a key object is prepared once as long as its content stays the same
 * @param options `algorithms`: the algorithms that the keys may be used with
 * @returns the payload
 * @throws InputValidationError for the JWS; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE,
 *   ERR_UNKNOWN_OPTION, ERR_INVALID_KEY for key and algorithms
 * @example
 * const bytes = verifyJws(compact, jwk, { algorithms: ['ES256'] });
 */
export function verifyJws(
  compact: string,
  key: TokenKey | readonly TokenKey[],
  options: { readonly algorithms: readonly TokenAlgorithm[] },
): Uint8Array {
  optionsObject('options', options, 'an object with algorithms');
  knownOptions('verifyJws', options, ['algorithms']);
  const core = coreOf(key, checkedAlgorithms(options.algorithms));
  if (typeof compact !== 'string')
    throw new InputValidationError(
      failure(compact === undefined || compact === null ? 'ERR_TOKEN_REQUIRED' : 'ERR_TOKEN_TYPE'),
    );
  const payload = core.payload(compact.slice(0, LENGTH_MAX + 1));
  if (typeof payload === 'number')
    throw new InputValidationError(failureByNumber(payload & 0xff, { field: 'token' }));
  return payload;
}

/** Returns the core that holds a key, prepared now or by an earlier call. */
function coreOf(
  key: TokenKey | readonly TokenKey[],
  algorithms: readonly TokenAlgorithm[],
): TokenCore {
  const set = coreKeySet('key', key, algorithms);
  const content = `${algorithms.join()} ${set}`;
  const known = typeof key === 'string' ? undefined : prepared.get(key);
  if (known?.content === content) return known.core;
  const core = new TokenCore(signaturePolicy(algorithms));
  const { problem, index } = core.load(set, 'chosen', 100);
  if (problem !== undefined) throw invalidKey(fieldOfKey('key', key, index), problem);
  if (typeof key !== 'string') prepared.set(key, { content, core });
  return core;
}
