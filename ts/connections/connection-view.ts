/** A read-only view of the live connections. */
import { ID_MAX } from './arguments.js';
import { hashOf } from './id-index.js';
import type { Segment } from './segment.js';

/** The live connections, and their search by id. */
interface LiveById<C> {
  readonly size: number;
  find(id: string, hash: number): C | undefined;
}

/** The live connections by id, as a `ReadonlyMap`. It is no `Map`, so nobody can write to it. @internal */
export class ConnectionView<C extends { readonly id: string }> implements ReadonlyMap<string, C> {
  readonly #live: LiveById<C>;
  readonly #segments: readonly Segment<C>[];

  constructor(live: LiveById<C>, segments: readonly Segment<C>[]) {
    this.#live = live;
    this.#segments = segments;
  }
  get size(): number {
    return this.#live.size;
  }
  get(id: string): C | undefined {
    // A longer id has no keys to be hashed with.
    return typeof id === 'string' && id.length <= ID_MAX
      ? this.#live.find(id, hashOf(id))
      : undefined;
  }
  has(id: string): boolean {
    return this.get(id) !== undefined;
  }
  *keys(): Generator<string, undefined> {
    for (const connection of this.values()) yield connection.id;
  }
  /** Walks the slots in order: a connection that comes or goes meanwhile is seen at most once. */
  *values(): Generator<C, undefined> {
    for (const segment of this.#segments)
      for (const connection of segment.connections) if (connection !== undefined) yield connection;
  }
  *entries(): Generator<[string, C], undefined> {
    for (const connection of this.values()) yield [connection.id, connection];
  }
  forEach(
    callback: (connection: C, id: string, view: ReadonlyMap<string, C>) => void,
    thisArg?: unknown,
  ): void {
    for (const connection of this.values()) callback.call(thisArg, connection, connection.id, this);
  }
  [Symbol.iterator](): Generator<[string, C], undefined> {
    return this.entries();
  }
}
