/** The section of bans. */
import type { Ban } from '../connections/ban.js';
import type { ConnectionStats } from '../connections/stats.js';
import type { ClientNames } from './mask.js';
import type { PageSnapshot } from './snapshot.js';

const BANS_SHOWN = 20;

/** The part of a manager that is asked. */
export interface BanSource {
  latestBans(most: number): readonly Ban[];
}

/**
 * Returns the section of bans; `null` for a manager that bans nobody.
 * @param isSeen false without viewers: the bans are not listed
 * @internal
 */
export function bansOf(
  source: BanSource,
  { bans }: ConnectionStats,
  isSeen: boolean,
  names: ClientNames,
): PageSnapshot['bans'] {
  if (bans === undefined) return null;
  const { active, banned, failures, lifted } = bans;
  const latest = isSeen ? source.latestBans(BANS_SHOWN) : undefined;
  return {
    active,
    banned,
    failures,
    lifted,
    latest:
      latest?.map(({ address, since, until, failures, bans }) => ({
        key: nameOf(address, names),
        since,
        until,
        failures,
        bans,
      })) ?? null,
  };
}

/** Returns the name of a banned address or network. */
function nameOf(address: string, names: ClientNames): string {
  const [ip = ''] = address.split('/', 1);
  const name = names.address(ip);
  return name === ip ? address : name;
}
