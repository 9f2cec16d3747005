/**
 * The live connections of a manager, by slot, by id and by user: the three change together.
 *
 * The index of ids holds the ids that were given, and those that were read. A connection of an adapter has no id,
 * and costs the index nothing, until its id is first read: before that, no caller can look for it. Ids that a host
 * makes can be looked for earlier: the first search that finds nothing reads them all, and from then on they are
 * read as the connections open.
 */
import { isDottedQuad } from '../native/strings.js';
import { ByUser } from './by-user.js';
import { type HostId, ManagedConnection, type ManagedSocket } from './connection.js';
import { hashOf, IdIndex } from './id-index.js';
import type { GivenMetadata } from './metadata.js';
import type { Seats } from './seats.js';
import { PLACE_MASK } from './segment.js';
import { ConnectionView } from './connection-view.js';

/** Holds the connections of open slots. @internal */
export class LiveConnections<S extends ManagedSocket> {
  readonly #seats: Seats<ManagedConnection<S>>;
  readonly #ids: IdIndex<ManagedConnection<S>>;
  /** Whether connections have ids that their host knows, and whether these are in the index at once. */
  #hostIds: 'none' | 'unread' | 'read' = 'none';
  #size = 0;
  #byUser: ByUser<ManagedConnection<S>> | undefined;
  /** The live connections by id, read-only. */
  readonly view: ReadonlyMap<string, ManagedConnection<S>>;

  /** @param findsOldest true to keep the connections of each user in order, for `oldestOf` */
  constructor(seats: Seats<ManagedConnection<S>>, findsOldest: boolean) {
    this.#seats = seats;
    this.#ids = new IdIndex(seats.segments);
    this.#byUser = findsOldest ? new ByUser() : undefined;
    this.view = new ConnectionView(this, seats.segments);
  }

  /** Live connections. */
  get size(): number {
    return this.#size;
  }

  /** @param hash `hashOf(id)` */
  find(id: string, hash: number): ManagedConnection<S> | undefined {
    const found = this.#ids.find(id, hash);
    if (found !== undefined || this.#hostIds !== 'unread') return found;
    // The caller may know the id from the host.
    this.#hostIds = 'read';
    for (const connection of this.view.values()) void connection.id;
    return this.#ids.find(id, hash);
  }

  /** Notes a connection whose id the host knows. */
  #noteHostId(connection: ManagedConnection<S>): void {
    if (this.#hostIds === 'read') void connection.id;
    else this.#hostIds = 'unread';
  }

  /** Returns the oldest connection of `userId`, if the order is kept. */
  oldestOf(userId: string): ManagedConnection<S> | undefined {
    return this.#byUser?.oldest(userId);
  }

  /**
   * Returns the connections of `userId` at this moment, in the order of their openings. The first call looks at every
   * connection, later ones do not.
   */
  of(userId: string): ManagedConnection<S>[] {
    if (this.#byUser === undefined) {
      this.#byUser = new ByUser();
      for (const connection of this.view.values())
        if (connection.userId !== undefined) this.#byUser.add(connection.userId, connection);
    }
    return this.#byUser.of(userId).sort((a, b) => a.openedAtMs - b.openedAtMs);
  }

  /** Returns the connections of `userId`, if their order is kept; otherwise 0. */
  countOf(userId: string): number {
    return this.#byUser?.countOf(userId) ?? 0;
  }

  /**
   * Adds the connection of a slot that was taken.
   * @param id that no live connection has, if it is a string
   * @param hash of the id
   * @param v4 bits of `ip` as an IPv4 address, or -1
   */
  add(
    slot: number,
    id: string | HostId<S> | undefined,
    hash: number,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: GivenMetadata | undefined,
  ): ManagedConnection<S> {
    const segment = this.#seats.segmentOf(slot);
    const address = isDottedQuad(ip, v4) ? v4 | 0 : ip;
    const connection = new ManagedConnection(id, socket, address, userId, segment, slot, metadata);
    const place = slot & PLACE_MASK;
    segment.connections[place] = connection;
    this.#size++;
    if (typeof id === 'string') {
      segment.hashes[place] = hash;
      this.#ids.add(hash, slot);
    } else if (id !== undefined) this.#noteHostId(connection);
    if (this.#byUser !== undefined && userId !== undefined) this.#byUser.add(userId, connection);
    return connection;
  }

  /** Adds the id of a live connection that had none so far. */
  addId(id: string, slot: number): void {
    const hash = hashOf(id);
    this.#seats.segmentOf(slot).hashes[slot & PLACE_MASK] = hash;
    this.#ids.add(hash, slot);
  }

  /** True for a live connection of this manager: another manager's may have the same slot. */
  has(connection: ManagedConnection<S>): boolean {
    const { slot } = connection;
    return slot >= 0 && this.#seats.at(slot) === connection;
  }

  /** Removes a live connection and gives its seat back. */
  remove(connection: ManagedConnection<S>): void {
    const slot = connection.detach();
    const segment = this.#seats.segmentOf(slot);
    const place = slot & PLACE_MASK;
    if (connection.hasId) this.#ids.remove(segment.hashes[place]!, slot);
    this.#size--;
    segment.connections[place] = undefined;
    if (this.#byUser !== undefined && connection.userId !== undefined)
      this.#byUser.remove(connection.userId, connection);
    this.#seats.release(slot);
  }

  /** Notes the user that a connection's seat was moved to, as the latest connection of this user. */
  bind(connection: ManagedConnection<S>, userId: string): void {
    if (this.#byUser !== undefined) {
      if (connection.userId !== undefined) this.#byUser.remove(connection.userId, connection);
      this.#byUser.add(userId, connection);
    }
    connection.bound(userId);
  }
}
