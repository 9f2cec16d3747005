/** Clients for which the limits of one client do not hold: monitors, internal services. */
import { outOfRange, wrongType } from '../base/errors.js';
import type { Hooks } from '../base/hooks.js';
import { TrustedProxies } from '../native/addon.js';

type Predicate = (ip: string) => boolean;

const CLIENTS_MAX = 1000;

/**
 * Checks the option `exempt`; `undefined` if no client is exempt.
 * @returns a predicate of a client's address
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function exemptClients(
  exempt: readonly string[] | Predicate | undefined,
): Predicate | undefined {
  if (exempt === undefined || typeof exempt === 'function') return exempt;
  const allowed = 'a network such as "10.0.0.0/8", an address, or "unix"';
  if (!Array.isArray(exempt))
    throw wrongType('exempt', exempt, 'an array of networks such as "10.0.0.0/8", or a function');
  if (exempt.length > CLIENTS_MAX)
    throw outOfRange('exempt', exempt.length, `at most ${CLIENTS_MAX} networks`);
  // The core's only list of networks: what is trusted as a proxy elsewhere is exempt here.
  const networks = new TrustedProxies();
  for (const [index, network] of exempt.entries()) {
    const field = `exempt[${index}]`;
    if (typeof network !== 'string') throw wrongType(field, network, allowed);
    if (!networks.add(network)) throw outOfRange(field, network, allowed);
  }
  return exempt.length === 0 ? undefined : (ip) => networks.trusts(ip);
}

/** Asks the predicate of the application; a client is limited if it fails, or returns anything but `true`. @internal */
export function isExempt(predicate: Predicate, ip: string, hooks: Hooks): boolean {
  return hooks.ask('exempt', () => predicate(ip)) === true;
}
