/** Masks clients: an address becomes its network, a user a pseudonym. */
import { maskedNetwork } from '../base/address.js';
import { lazily } from '../base/builtin.js';

const crypto = lazily(() => process.getBuiltinModule('node:crypto'));

/** Names of clients, as the page shows them. @internal */
export interface ClientNames {
  address(address: string): string;
  user(user: string): string;
  /** Names a key of a rate limiter, which may be an address. */
  key(key: string): string;
}

/** Shows clients as they are. @internal */
export const SHOWN: ClientNames = {
  address: (address) => address,
  user: (user) => user,
  key: (key) => key,
};

/**
 * Masks clients. A user's pseudonym is the same as long as the page lives, so that one busy user
 * stays recognisable; the key of its hash is random, so that no list of names finds the user.
 * @internal
 */
export function masked(): ClientNames {
  const { createHmac, randomBytes } = crypto();
  const secret = randomBytes(32);
  const hashOf = (text: string): string =>
    createHmac('sha256', secret).update(text).digest('hex').slice(0, 8);
  return {
    address: maskedNetwork,
    user: (user) => `user ${hashOf(user)}`,
    key: (key) => maskedNetwork(key) || `key ${hashOf(key)}`,
  };
}
