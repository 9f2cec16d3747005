/** The bans of the attached managers, from their attachment on. Managers of one name have one list, which counts once. */
import type { BanStats } from '../connections/ban.js';
import type { ConnectionManager } from '../connections/manager.js';

/** Counts of bans that are exposed. @internal */
export type BanCounts = Pick<BanStats, 'active' | 'banned' | 'failures'>;

/** One list of bans, with its attached managers and its counts before the first of them. */
interface BanList {
  readonly managers: Set<ConnectionManager>;
  readonly before: BanCounts;
}

/** @internal */
export class BanLists {
  /** By the name of the managers, or by the one manager without a name. */
  readonly #lists = new Map<string | ConnectionManager, BanList>();
  /** Counts of lists without an attached manager: a counter must not fall. */
  #detached: BanCounts | undefined;

  /** Adds the list of a manager, if it bans. */
  attach(manager: ConnectionManager): void {
    const { bans } = manager.snapshot();
    if (bans === undefined) return;
    const key = manager.indexName ?? manager;
    const list = this.#lists.get(key);
    if (list === undefined)
      this.#lists.set(key, { managers: new Set([manager]), before: { ...bans, active: 0 } });
    else list.managers.add(manager);
  }

  /** Removes a manager; its list goes with the last one of its name, and leaves its counts. */
  detach(manager: ConnectionManager): void {
    const key = manager.indexName ?? manager;
    const list = this.#lists.get(key);
    if (list === undefined || !list.managers.has(manager)) return;
    if (list.managers.size === 1) {
      this.#detached = { ...sumOf([this.#detached, countsOf(list)]), active: 0 };
      this.#lists.delete(key);
    }
    list.managers.delete(manager);
  }

  /** Returns the sums of all lists; `undefined` if no manager bans. */
  counts(): BanCounts | undefined {
    const all = [this.#detached, ...[...this.#lists.values()].map(countsOf)];
    const known = all.filter((counts) => counts !== undefined);
    return known.length === 0 ? undefined : sumOf(known);
  }
}

function countsOf({ managers, before }: BanList): BanCounts | undefined {
  const [manager] = managers;
  const bans = manager?.snapshot().bans;
  return (
    bans && {
      active: bans.active,
      banned: bans.banned - before.banned,
      failures: bans.failures - before.failures,
    }
  );
}

function sumOf(all: readonly (BanCounts | undefined)[]): BanCounts {
  const sum = (field: keyof BanCounts): number =>
    all.reduce((total, bans) => total + (bans?.[field] ?? 0), 0);
  return { active: sum('active'), banned: sum('banned'), failures: sum('failures') };
}
