/**
 * Who has the most connections, and how many are silent. All connections are looked at, some in each
 * step, so that no step takes long; memory is bounded however many keys there are.
 */
import type { ManagedConnection } from '../connections/connection.js';
import type { PageShare } from './snapshot.js';

/** Keys kept apart. */
const KEYS_MAX = 2048;
/** Connections in a step: half a millisecond. */
const STEP = 2500;
const TOP = 8;
const KEY_SHOWN = 64;
const ACTIVE_MS = 10_000;

/**
 * Counts keys in bounded memory (Misra and Gries, 1982): a count is too low by at most `error`, and
 * exact while there are no more keys than are kept.
 */
class Heavy {
  readonly #counts = new Map<string, number>();
  #error = 0;

  add(key: string): void {
    const count = this.#counts.get(key);
    if (count !== undefined) this.#counts.set(key, count + 1);
    else if (this.#counts.size < KEYS_MAX) this.#counts.set(key, 1);
    else this.#makeRoom();
  }

  #makeRoom(): void {
    this.#error++;
    for (const [key, count] of this.#counts) {
      if (count === 1) this.#counts.delete(key);
      else this.#counts.set(key, count - 1);
    }
  }

  get error(): number {
    return this.#error;
  }

  top(): readonly PageShare[] {
    return [...this.#counts]
      .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
      .slice(0, TOP)
      .map(([key, count]) => ({
        key: key.length > KEY_SHOWN ? `${key.slice(0, KEY_SHOWN)}…` : key,
        count,
      }));
  }
}

/** One look at all connections. */
class Pass {
  readonly addresses = new Heavy();
  readonly users = new Heavy();
  active = 0;
  quiet = 0;
  readonly #left: Iterator<ManagedConnection>;

  constructor(connections: ReadonlyMap<string, ManagedConnection>) {
    this.#left = connections.values();
  }

  /** Whether it is over. */
  step(now: number): boolean {
    for (let i = 0; i < STEP; i++) {
      const { done, value } = this.#left.next();
      if (done === true) return true;
      this.addresses.add(value.ip);
      if (value.userId !== undefined) this.users.add(value.userId);
      if (now - value.lastActivity <= ACTIVE_MS) this.active++;
      else this.quiet++;
    }
    return false;
  }
}

/** What the last whole look has found. */
interface TallyResult {
  readonly active: number;
  readonly quiet: number;
  readonly topAddresses: readonly PageShare[];
  readonly topUsers: readonly PageShare[];
  readonly topError: number;
}

/** @internal */
export class Tally {
  readonly #connections: ReadonlyMap<string, ManagedConnection>;
  #pass: Pass | undefined;
  #result: TallyResult | undefined;

  constructor(connections: ReadonlyMap<string, ManagedConnection>) {
    this.#connections = connections;
  }

  /** Looks at some more; what the last whole look has found. */
  step(now: number): TallyResult | undefined {
    this.#pass ??= new Pass(this.#connections);
    if (this.#pass.step(now)) {
      const { active, quiet, addresses, users } = this.#pass;
      this.#result = {
        active,
        quiet,
        topAddresses: addresses.top(),
        topUsers: users.top(),
        topError: Math.max(addresses.error, users.error),
      };
      this.#pass = undefined;
    }
    return this.#result;
  }

  /** Forgets everything: what nobody looks at need not be known. */
  reset(): void {
    this.#pass = undefined;
    this.#result = undefined;
  }
}
