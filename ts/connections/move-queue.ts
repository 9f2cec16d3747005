/** Steps of one connection that wait for a cluster, one after the other. */

/** Runs the steps of each connection in their order; those of different connections do not wait for each other. @internal */
export class MoveQueue<C extends object> {
  /** The last step of each connection that has one under way. */
  readonly #last = new Map<C, Promise<unknown>>();

  /** True while a step of the connection is under way. */
  isBusy(connection: C): boolean {
    return this.#last.has(connection);
  }

  /** Runs a step once the earlier ones of the connection are over: at once, if there is none. `step` must not reject. */
  run<T>(connection: C, step: () => Promise<T>): Promise<T> {
    const before = this.#last.get(connection);
    const own = before === undefined ? step() : before.then(step);
    this.#last.set(connection, own);
    void own.then(() => {
      if (this.#last.get(connection) === own) this.#last.delete(connection);
    });
    return own;
  }
}
