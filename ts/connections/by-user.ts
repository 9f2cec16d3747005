/** The connections of each user, in the order in which they became the user's. */

/** Finds the oldest connection of a user. Kept with `onFull: 'closeOldest'`, and once somebody asks for the connections of a user. @internal */
export class ByUser<C> {
  readonly #connections = new Map<string, Set<C>>();

  add(userId: string, connection: C): void {
    const present = this.#connections.get(userId);
    if (present === undefined) this.#connections.set(userId, new Set([connection]));
    else present.add(connection);
  }

  remove(userId: string, connection: C): void {
    const present = this.#connections.get(userId);
    if (present?.delete(connection) === true && present.size === 0)
      this.#connections.delete(userId);
  }

  /** Returns the connections of a user at this moment. */
  of(userId: string): C[] {
    return [...(this.#connections.get(userId) ?? [])];
  }

  /** Returns the number of connections of a user. */
  countOf(userId: string): number {
    return this.#connections.get(userId)?.size ?? 0;
  }

  /** Returns the connection that was added first of those that are left. */
  oldest(userId: string): C | undefined {
    return this.#connections.get(userId)?.values().next().value;
  }
}
