/** Masks clients: an address becomes its network, a user a pseudonym. */
import { parseAddress } from '../base/address.js';
import { lazily } from '../base/builtin.js';

const crypto = lazily(() => process.getBuiltinModule('node:crypto'));

/** Groups of an IPv6 address that a network keeps: 48 of 128 bits. */
const GROUPS_KEPT = 3;

/**
 * Returns the network of an address: `192.0.2.0/24`, `2001:db8:1::/48`. Text that is no address
 * becomes `''`.
 * @internal
 */
export function networkOf(address: string): string {
  const parsed = parseAddress(address);
  if (parsed === undefined) return '';
  if (typeof parsed === 'string') return `${parsed.slice(0, parsed.lastIndexOf('.'))}.0/24`;
  const kept = parsed.slice(0, GROUPS_KEPT).map((group) => group.toString(16));
  while (kept.at(-1) === '0') kept.pop();
  return `${kept.join(':')}::/48`;
}

/** Names of clients, as the page shows them. @internal */
export interface ClientNames {
  address(address: string): string;
  user(user: string): string;
}

/** Shows clients as they are. @internal */
export const SHOWN: ClientNames = { address: (address) => address, user: (user) => user };

/**
 * Masks clients. A user's pseudonym is the same as long as the page lives, so that one busy user
 * stays recognisable; the key of its hash is random, so that no list of names finds the user.
 * @internal
 */
export function masked(): ClientNames {
  const { createHmac, randomBytes } = crypto();
  const key = randomBytes(32);
  return {
    address: networkOf,
    user: (user) => `user ${createHmac('sha256', key).update(user).digest('hex').slice(0, 8)}`,
  };
}
