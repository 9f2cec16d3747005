/** The live connections, as anybody may look at them. */
import { ID_MAX, type ManagedConnection, type ManagedSocket, type Segment } from './connection.js';
import { hashOf, type IdIndex } from './id-index.js';

/** Looks at the live connections; changes nothing. */
export class ConnectionView<S extends ManagedSocket> implements ReadonlyMap<
  string,
  ManagedConnection<S>
> {
  readonly #ids: IdIndex;
  readonly #segments: readonly Segment[];
  constructor(ids: IdIndex, segments: readonly Segment[]) {
    this.#ids = ids;
    this.#segments = segments;
  }
  get size(): number {
    return this.#ids.size;
  }
  get(id: string): ManagedConnection<S> | undefined {
    return typeof id === 'string' && id.length <= ID_MAX
      ? (this.#ids.find(id, hashOf(id)) as ManagedConnection<S> | undefined)
      : undefined;
  }
  has(id: string): boolean {
    return this.get(id) !== undefined;
  }
  *keys(): Generator<string, undefined> {
    for (const connection of this.values()) yield connection.id;
  }
  /** In the order of their slots: what comes or goes meanwhile is seen at most once. */
  *values(): Generator<ManagedConnection<S>, undefined> {
    for (const segment of this.#segments)
      for (const connection of segment.connections)
        if (connection !== undefined) yield connection as unknown as ManagedConnection<S>;
  }
  *entries(): Generator<[string, ManagedConnection<S>], undefined> {
    for (const connection of this.values()) yield [connection.id, connection];
  }
  forEach(
    callback: (
      connection: ManagedConnection<S>,
      id: string,
      view: ReadonlyMap<string, ManagedConnection<S>>,
    ) => void,
    thisArg?: unknown,
  ): void {
    for (const connection of this.values()) callback.call(thisArg, connection, connection.id, this);
  }
  [Symbol.iterator](): Generator<[string, ManagedConnection<S>], undefined> {
    return this.entries();
  }
}
