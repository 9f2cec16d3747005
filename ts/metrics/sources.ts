/** The managers whose connections, messages, refusals and users are counted. */
import { wrongType } from '../base/errors.js';
import { ConnectionManager } from '../connections/manager.js';
import { REFUSED } from './ledger.js';

/** Seconds in which all connected users are gone through. */
const SWEEP_TICKS = 240;

/** What was last read of a manager, and where the round over its users is. */
interface Source {
  readonly manager: ConnectionManager;
  readonly traffic: Float64Array;
  refused: number;
  users: Iterator<{ readonly userId: string | undefined }> | undefined;
}

function refusedBy(manager: ConnectionManager): number {
  let sum = 0;
  for (const count of Object.values(manager.snapshot().refused)) sum += count;
  return sum;
}

/** @internal */
export class Sources {
  readonly #sources = new Map<ConnectionManager, Source>();
  readonly #seen: (userId: string) => void;

  /** @param seen is told of users as they come, and again as long as they stay */
  constructor(seen: (userId: string) => void) {
    this.#seen = seen;
  }

  /** @throws ERR_INVALID_ARG_TYPE */
  attach(manager: ConnectionManager): void {
    if (!(manager instanceof ConnectionManager))
      throw wrongType('connections', manager, 'a ConnectionManager, or an array of them');
    if (this.#sources.has(manager)) return;
    this.#sources.set(manager, {
      manager,
      traffic: manager.traffic.slice(),
      refused: refusedBy(manager),
      users: undefined,
    });
    manager.userListeners.add(this.#seen);
    for (const { userId } of manager.connections.values())
      if (userId !== undefined) this.#seen(userId);
  }

  detach(): void {
    for (const manager of this.#sources.keys()) manager.userListeners.delete(this.#seen);
  }

  /** Adds to `traffic` what the managers have counted since the last time. */
  read(traffic: Float64Array): void {
    for (const source of this.#sources.values()) {
      const { manager, traffic: before } = source;
      for (let at = 0; at < before.length; at++) {
        const now = manager.traffic[at]!;
        traffic[at]! += now - before[at]!;
        before[at] = now;
      }
      const refused = refusedBy(manager);
      traffic[REFUSED]! += refused - source.refused;
      source.refused = refused;
    }
  }

  /** A part of the connected users, asked for each second: all within four minutes. */
  sweep(): void {
    for (const source of this.#sources.values()) {
      const { connections } = source.manager;
      let left = Math.ceil(connections.size / SWEEP_TICKS);
      while (left-- > 0) {
        source.users ??= connections.values();
        const { done, value } = source.users.next();
        if (done === true) source.users = undefined;
        else if (value.userId !== undefined) this.#seen(value.userId);
      }
    }
  }

  get connections(): number {
    let sum = 0;
    for (const manager of this.#sources.keys()) sum += manager.snapshot().totalConnections;
    return sum;
  }

  /** The share of its limit that the fullest has taken; `null` without a limit. */
  get saturation(): number | null {
    let worst: number | null = null;
    for (const manager of this.#sources.keys()) {
      const { totalConnections, limits } = manager.snapshot();
      const { maxTotalConnections = Infinity } = limits;
      if (maxTotalConnections !== Infinity && maxTotalConnections > 0)
        worst = Math.max(worst ?? 0, totalConnections / maxTotalConnections);
    }
    return worst;
  }

  /** Adds the managers' refusals since the beginning to those by code. */
  refusals(entries: readonly [string, number][]): [string, number][] {
    const all = new Map(entries);
    for (const manager of this.#sources.keys()) {
      for (const [code, count] of Object.entries(manager.snapshot().refused))
        all.set(code, (all.get(code) ?? 0) + count);
    }
    return [...all];
  }
}
