/**
 * Scans all connections for the busiest addresses and users, and for silent connections. A scan is
 * cut into steps, so that no step holds the event loop for long.
 */
import type { ManagedConnection } from '../connections/connection.js';
import { HeavyHitters } from './heavy-hitters.js';
import type { ClientNames } from './mask.js';
import type { PageShare } from './snapshot.js';

/** Connections per step, which takes half a millisecond. */
const STEP = 2500;
const TOP = 8;
const KEY_SHOWN = 64;
/** A connection is active for so long after its last activity. */
const ACTIVE_MS = 10_000;

/** One pass over all connections. */
class Pass {
  readonly addresses = new HeavyHitters();
  readonly users = new HeavyHitters();
  active = 0;
  quiet = 0;
  readonly #rest: Iterator<ManagedConnection>;

  constructor(connections: ReadonlyMap<string, ManagedConnection>) {
    this.#rest = connections.values();
  }

  /** Visits up to `STEP` connections; returns true after the last one. */
  step(now: number): boolean {
    for (let i = 0; i < STEP; i++) {
      const { done, value } = this.#rest.next();
      if (done === true) return true;
      this.addresses.add(value.ip);
      if (value.userId !== undefined) this.users.add(value.userId);
      if (now - value.lastActivity <= ACTIVE_MS) this.active++;
      else this.quiet++;
    }
    return false;
  }
}

interface ScanResult {
  readonly active: number;
  readonly quiet: number;
  readonly topAddresses: readonly PageShare[];
  readonly topUsers: readonly PageShare[];
  readonly topError: number;
}

/** @internal */
export class ConnectionScan {
  readonly #connections: ReadonlyMap<string, ManagedConnection>;
  readonly #names: ClientNames;
  #pass: Pass | undefined;
  #result: ScanResult | undefined;

  constructor(connections: ReadonlyMap<string, ManagedConnection>, names: ClientNames) {
    this.#connections = connections;
    this.#names = names;
  }

  /**
   * Makes one step; returns the result of the last complete pass, `undefined` before there is one.
   */
  step(now: number): ScanResult | undefined {
    this.#pass ??= new Pass(this.#connections);
    if (this.#pass.step(now)) {
      const { active, quiet, addresses, users } = this.#pass;
      this.#result = {
        active,
        quiet,
        topAddresses: sharesOf(addresses, (address) => this.#names.address(address)),
        topUsers: sharesOf(users, (user) => this.#names.user(user)),
        topError: Math.max(addresses.error, users.error),
      };
      this.#pass = undefined;
    }
    return this.#result;
  }

  /** Drops the pass and its result, which would be outdated when the next viewer comes. */
  reset(): void {
    this.#pass = undefined;
    this.#result = undefined;
  }
}

function sharesOf(hitters: HeavyHitters, nameOf: (key: string) => string): readonly PageShare[] {
  return hitters.top(TOP).map(([key, count]) => {
    const name = nameOf(key);
    return { key: name.length > KEY_SHOWN ? `${name.slice(0, KEY_SHOWN)}…` : name, count };
  });
}
