/** The connections of each user, in the order in which they came. */
import type { ManagedConnection, ManagedSocket } from './connection.js';

/** Kept for `closeOldest` only. */
export class ByUser<S extends ManagedSocket> {
  readonly #present = new Map<string, Set<ManagedConnection<S>>>();

  add(userId: string, connection: ManagedConnection<S>): void {
    const present = this.#present.get(userId);
    if (present === undefined) this.#present.set(userId, new Set([connection]));
    else present.add(connection);
  }

  remove(userId: string, connection: ManagedConnection<S>): void {
    const present = this.#present.get(userId);
    if (present?.delete(connection) === true && present.size === 0) this.#present.delete(userId);
  }

  oldest(userId: string): ManagedConnection<S> | undefined {
    return this.#present.get(userId)?.values().next().value;
  }
}
