/** The attached connection managers: their connections, messages, refusals and users. */
import type { ClusterManagerStats } from '../cluster/stats.js';
import { wrongType } from '../base/errors.js';
import { ConnectionManager } from '../connections/manager.js';
import { type BanCounts, BanLists } from './ban-lists.js';
import { REFUSED } from './ledger.js';

/** Ticks in which the scan visits every connected user once. */
const SCAN_TICKS = 240;

type Refusals = Readonly<Record<string, number>>;

/** One manager, with the counts at the last reading. */
interface Source {
  readonly manager: ConnectionManager;
  readonly traffic: Float64Array;
  refused: number;
  /** Its refusals before it was attached, which do not count. */
  readonly refusedBefore: Refusals;
  /** Where the scan of its users stands. */
  users: Iterator<{ readonly userId: string | undefined }> | undefined;
}

const sum = (counts: Refusals): number =>
  Object.values(counts).reduce((total, count) => total + count, 0);

/** @internal */
export class Sources {
  readonly #sources = new Map<ConnectionManager, Source>();
  /** Refusals of detached managers, by code: a counter must not fall. */
  readonly #detachedRefusals = new Map<string, number>();
  readonly #bans = new BanLists();
  readonly #onUser: (userId: string) => void;

  /** @param onUser called with each user who connects, and again while the user stays connected */
  constructor(onUser: (userId: string) => void) {
    this.#onUser = onUser;
  }

  /**
   * Adds a manager; repeated calls have no effect.
   * @throws ERR_INVALID_ARG_TYPE
   */
  attach(manager: ConnectionManager): void {
    if (!(manager instanceof ConnectionManager))
      throw wrongType('connections', manager, 'a ConnectionManager, or an array of them');
    if (this.#sources.has(manager)) return;
    const refusedBefore = { ...manager.getStats().refused };
    this.#sources.set(manager, {
      manager,
      traffic: manager.traffic.slice(),
      refused: sum(refusedBefore),
      refusedBefore,
      users: undefined,
    });
    this.#bans.attach(manager);
    manager.userListeners.add(this.#onUser);
    for (const { userId } of manager.connections.values())
      if (userId !== undefined) this.#onUser(userId);
  }

  /** Removes a manager after a last reading into `traffic`; unknown ones are ignored. */
  detach(manager: ConnectionManager, traffic: Float64Array): void {
    const source = this.#sources.get(manager);
    if (source === undefined) return;
    this.#readSource(source, traffic);
    addRefusals(this.#detachedRefusals, source);
    this.#bans.detach(manager);
    this.#sources.delete(manager);
    manager.userListeners.delete(this.#onUser);
  }

  /** Unsubscribes from the users of all managers; their other counts can still be read. */
  close(): void {
    for (const manager of this.#sources.keys()) manager.userListeners.delete(this.#onUser);
  }

  /** Adds the counts since the last reading to `traffic`. */
  read(traffic: Float64Array): void {
    for (const source of this.#sources.values()) this.#readSource(source, traffic);
  }

  #readSource(source: Source, traffic: Float64Array): void {
    const { manager, traffic: before } = source;
    for (let at = 0; at < before.length; at++) {
      const now = manager.traffic[at]!;
      traffic[at]! += now - before[at]!;
      before[at] = now;
    }
    const refused = sum(manager.getStats().refused);
    traffic[REFUSED]! += refused - source.refused;
    source.refused = refused;
  }

  /**
   * Reports a part of the connected users as seen. Called once a second, so that every connected
   * user is reported within `SCAN_TICKS` seconds.
   */
  scanUsers(): void {
    for (const source of this.#sources.values()) {
      const { connections } = source.manager;
      let left = Math.ceil(connections.size / SCAN_TICKS);
      while (left-- > 0) {
        source.users ??= connections.values();
        const { done, value } = source.users.next();
        if (done === true) source.users = undefined;
        else if (value.userId !== undefined) this.#onUser(value.userId);
      }
    }
  }

  /** Open connections and leases, those of the managers of one name once. */
  get connections(): number {
    let total = 0;
    const named = new Map<string, number>();
    for (const manager of this.#sources.keys()) {
      const { indexName } = manager;
      if (indexName === undefined) total += manager.total;
      // A closed manager reports 0, while other managers of its name continue.
      else named.set(indexName, Math.max(named.get(indexName) ?? 0, manager.total));
    }
    for (const count of named.values()) total += count;
    return total;
  }

  /** Share of the connection limit in use, of the fullest manager; `null` without a limit. */
  get saturation(): number | null {
    let highest: number | null = null;
    for (const manager of this.#sources.keys()) {
      const { totalConnections, limits } = manager.snapshot();
      const { maxTotalConnections = Infinity } = limits;
      if (maxTotalConnections !== Infinity && maxTotalConnections > 0)
        highest = Math.max(highest ?? 0, totalConnections / maxTotalConnections);
    }
    return highest;
  }

  /** Figures of the managers' clusters; one for each name, since the managers of a name share them. */
  clusters(): ClusterManagerStats[] {
    const all = new Map<string, ClusterManagerStats>();
    for (const manager of this.#sources.keys()) {
      const stats = manager.clusterStats();
      if (stats !== undefined) all.set(stats.name, stats);
    }
    return [...all.values()];
  }

  /** Returns the sums of the managers' bans while they were attached; `undefined` if none bans. */
  bans(): BanCounts | undefined {
    return this.#bans.counts();
  }

  /** Returns `entries` plus the managers' refusals by code, while they were attached. */
  refusals(entries: readonly [string, number][]): [string, number][] {
    const all = new Map(entries);
    for (const [code, count] of this.#detachedRefusals) all.set(code, (all.get(code) ?? 0) + count);
    for (const source of this.#sources.values()) addRefusals(all, source);
    return [...all];
  }
}

/** Adds the refusals of a manager since it was attached. */
function addRefusals(all: Map<string, number>, { manager, refusedBefore }: Source): void {
  for (const [code, count] of Object.entries(manager.getStats().refused)) {
    const added = count - (refusedBefore[code] ?? 0);
    if (added > 0) all.set(code, (all.get(code) ?? 0) + added);
  }
}
