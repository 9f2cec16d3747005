/**
 * Admissions of one manager: seats are taken, opened as connections, and given back; every refusal on
 * the way. Arguments are checked by the manager. The parts of a cluster are in `shared-seats.ts`.
 *
 * A closed socket and a hook are the application's code and may call back into the manager. So every
 * step leaves seats, slots and ids in agreement before it closes a socket or calls a hook, and looks
 * again afterwards.
 */
import type { Hooks } from '../base/hooks.js';
import type { LazyTrace, RequestTrace } from '../base/trace.js';
import type { Membership } from '../cluster/membership.js';
import { STATES } from '../cluster/stats.js';
import { parseIpv4 } from '../native/strings.js';
import type { HostId, ManagedConnection, ManagedSocket } from './connection.js';
import { isExempt } from './exempt-clients.js';
import { hashOf } from './id-index.js';
import { type AdmissionResult, HeldLease } from './lease.js';
import type { LiveConnections } from './live-connections.js';
import type { GivenMetadata } from './metadata.js';
import type { CheckedOptions } from './options.js';
import type { Refusal, RefusalCode } from './refusal.js';
import type { Refusals } from './refusals.js';
import { ASK_CORE, refusalCodeOf, type Seats, slotOf, SLOTS_MAX, STALE } from './seats.js';
import type { SocketCloser } from './socket-closer.js';

// Answers of `#take`, besides those of the core.
const OVERLOAD = -102;
const CLOSED = -103;

const REPLACED_CODE = 4001;
const REPLACED_REASON = 'Replaced by a newer connection';

/** The parts of a manager that its admissions change. @internal */
export interface AdmissionParts<S extends ManagedSocket> {
  readonly options: CheckedOptions<S>;
  /** Counts the seats outside of this process, too. */
  readonly member: Membership | undefined;
  readonly seats: Seats<ManagedConnection<S>>;
  readonly live: LiveConnections<S>;
  readonly closer: SocketCloser;
  readonly refusals: Refusals;
  readonly hooks: Hooks;
}

/** Takes and opens the seats of one manager, and closes its connections. @internal */
export class Admissions<S extends ManagedSocket> {
  readonly #options: CheckedOptions<S>;
  readonly #member: Membership | undefined;
  readonly #seats: Seats<ManagedConnection<S>>;
  readonly #live: LiveConnections<S>;
  readonly #closer: SocketCloser;
  readonly #refusals: Refusals;
  readonly #hooks: Hooks;
  /** True if only the limits decide: no monitor, no exempt clients, nothing to replace or to observe. */
  #isPlain = false;
  #isObserving = false;
  /** Sockets closed so far: each of them may have called back. */
  #closes = 0;
  /** Retry time of the latest refusal for short memory, ms. */
  #shedMs = 0;
  #isClosed = false;
  #opened = 0;
  /** Called with the user of every connection that opens or logs in. */
  readonly userListeners = new Set<(userId: string) => void>();

  constructor(parts: AdmissionParts<S>) {
    this.#options = parts.options;
    this.#member = parts.member;
    this.#seats = parts.seats;
    this.#live = parts.live;
    this.#closer = parts.closer;
    this.#refusals = parts.refusals;
    this.#hooks = parts.hooks;
  }

  /** Connections opened so far. */
  get opened(): number {
    return this.#opened;
  }

  /** True after `end()`. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Refuses every newcomer from now on. */
  end(): void {
    this.#isClosed = true;
  }

  /** @param isObserving true if the limits refuse nobody, and are only observed */
  setMode(isObserving: boolean): void {
    const { monitor, exempt, closesOldest } = this.#options;
    this.#isObserving = isObserving;
    this.#isPlain = monitor === undefined && exempt === undefined && !closesOldest && !isObserving;
  }

  /** True for a client that the limits of its address do not refuse. */
  isExempt(ip: string): boolean {
    const { exempt } = this.#options;
    return exempt !== undefined && isExempt(exempt, ip, this.#hooks);
  }

  /** Takes a seat of this process. @param user checked */
  reserve(ip: string, user: string | undefined, trace?: LazyTrace): HeldLease | Refusal {
    const v4 = parseIpv4(ip);
    const handle = this.#take(true, ip, v4, user, undefined, trace);
    if (handle < 0) return this.refuse(handle, ip, user, trace);
    const isFree = this.#member !== undefined && this.isExempt(ip);
    return new HeldLease(this, handle, ip, user, v4, this.#openableSince(), isFree, trace);
  }

  /** Takes the seat of an address, for a client that is not identified yet. */
  arrive(ip: string, trace: LazyTrace | undefined): HeldLease | Refusal {
    const isFree = this.isExempt(ip);
    const v4 = parseIpv4(ip);
    const answer = this.#mayAdmit() ?? this.#seats.arrive(ip, v4, isFree);
    if (answer < 0) return this.refuse(answer, ip, undefined, trace);
    if (this.#isObserving) this.#observe(ip, undefined, trace);
    return new HeldLease(this, answer, ip, undefined, v4, ASK_CORE, isFree, trace);
  }

  /** Identifies the client of a lease of `arrive`; returns the lease. @param user checked */
  identify(lease: HeldLease, user: string | undefined): HeldLease | Refusal {
    const { handle, ip, isExempt: isFree, trace } = lease;
    const answer = this.#isClosed
      ? CLOSED
      : this.#seats.identify(handle, user, this.#claimable(user), isFree);
    if (answer === STALE) return this.#refusals.refuse('stale_lease', ip, user, trace);
    if (answer < 0) return this.refuse(answer, ip, user, trace);
    if (this.#isObserving) this.#observe(ip, user, trace);
    lease.userId = user;
    lease.sweeps = this.#openableSince();
    return lease;
  }

  /** Returns the number of sweeps for a new lease: that of `Seats.commit`. */
  #openableSince(): number {
    return this.#member === undefined && !this.#options.closesOldest
      ? this.#seats.sweeps
      : ASK_CORE;
  }

  /** Gives a lease back; `false` if it was used or has expired. */
  abort(lease: HeldLease): boolean {
    lease.sweeps = ASK_CORE;
    return this.#seats.abort(lease.handle);
  }

  /** Returns the negative answer for every newcomer, or `undefined` while there is none. */
  #mayAdmit(): number | undefined {
    if (this.#isClosed) return CLOSED;
    const { monitor } = this.#options;
    if (monitor === undefined) return undefined;
    this.#shedMs = monitor.shedMs();
    // A client of a draining server is told to go elsewhere, whatever the load is.
    return this.#shedMs > 0 ? (this.#seats.draining() ?? OVERLOAD) : undefined;
  }

  /** Takes a seat; returns the answer of `Seats.take`, `OVERLOAD` or `CLOSED`. */
  #take(
    isLease: boolean,
    ip: string,
    v4: number,
    user: string | undefined,
    replaces?: ManagedConnection<S>,
    trace?: LazyTrace,
  ): number {
    if (this.#isPlain && replaces === undefined)
      return this.#isClosed ? CLOSED : this.#seats.take(isLease, ip, v4, user);
    // First, since the application's function may close this manager.
    const isFree = this.isExempt(ip);
    const answer =
      this.#mayAdmit() ??
      this.#seats.takeFor(isLease, ip, v4, user, isFree, this.#claimable(user), replaces);
    if (this.#isObserving && answer >= 0) this.#observe(ip, user, trace);
    return answer;
  }

  /** Returns how many connections of a user newcomers may close. */
  #claimable(user: string | undefined): number {
    if (user === undefined || !this.#options.closesOldest) return 0;
    // The cluster finds the connection to close.
    return this.#member === undefined ? this.#live.countOf(user) : SLOTS_MAX;
  }

  /** Reports the limit that would have refused the latest admission. */
  #observe(ip: string, user: string | undefined, trace?: RequestTrace): void {
    const code = this.#seats.observed();
    if (code !== undefined) this.#refusals.observe(code, ip, user, trace);
  }

  /** Makes the refusal for a negative answer of the core. @param trace of the handshake, if there was one */
  refuse(answer: number, ip: string, user: string | undefined, trace?: RequestTrace): Refusal {
    if (answer !== OVERLOAD) return this.#refusals.refuse(refusalCodeOf(answer), ip, user, trace);
    const cause = this.#options.monitor?.shedCause;
    return this.#refusals.make('overload', ip, user, this.#shedMs, cause, false, trace);
  }

  /**
   * Opens a leased connection.
   * @param id checked, if it is a string
   */
  commit(
    lease: HeldLease,
    id: string | HostId<S> | undefined,
    socket: S,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    const { handle, ip, v4, userId, trace } = lease;
    // Closing has ended the leases: the core says so.
    const seat = this.#seats.commit(handle, this.#isClosed ? ASK_CORE : lease.sweeps);
    lease.sweeps = ASK_CORE;
    if (seat === 'stale') return this.#refusals.refuse('stale_lease', ip, userId, trace);
    // A cluster that is up has closed the oldest one already, or does so before it confirms the lease.
    const isOver = seat === 'over' && !lease.isUnconfirmed && !this.#isExact;
    const slot = slotOf(handle);
    const result = this.#openOrUndo(slot, isOver, id, socket, ip, v4, userId, metadata, trace);
    const { connection } = result;
    if (trace !== undefined) connection?.hasTrace(trace.keptBy(connection));
    return result;
  }

  /** True while a cluster decides. */
  get #isExact(): boolean {
    return this.#member?.figures()?.state === STATES.indexOf('up');
  }

  /** True if a newcomer with this id is refused: it is in use, and may not be taken over. */
  isTaken(id: string): boolean {
    return !this.#options.takesOver && this.#live.find(id, hashOf(id)) !== undefined;
  }

  /** Takes a seat and opens it, in one native call; without a cluster. The arguments are checked. */
  add(
    id: string,
    socket: S,
    ip: string,
    user: string | undefined,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    const closes = this.#closes;
    const hash = hashOf(id);
    const present = this.#live.find(id, hash);
    if (present !== undefined && !this.#options.takesOver)
      return this.#refusals.refuse('duplicate_id', ip, user);
    const v4 = parseIpv4(ip);
    // The seat of the old connection counts as free: a refused newcomer takes nothing over.
    const taken = this.#take(false, ip, v4, user, present);
    if (taken < 0) return this.refuse(taken, ip, user);
    // The function `exempt` may have added a connection of this id.
    const isSimple = closes === this.#closes && this.#options.exempt === undefined;
    if (taken < SLOTS_MAX && present === undefined && isSimple)
      return this.#open(taken, id, hash, socket, ip, v4, user, metadata);
    const slot = taken % SLOTS_MAX;
    return this.#openOrUndo(slot, taken >= SLOTS_MAX, id, socket, ip, v4, user, metadata);
  }

  /**
   * Opens a taken slot, or gives it back if the id is in use. Making room for the id may close a
   * socket, which may call back and take the id, or close the manager.
   * @param isOver true if the user is over the limit until the oldest connection is closed
   */
  #openOrUndo(
    slot: number,
    isOver: boolean,
    id: string | HostId<S> | undefined,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: GivenMetadata | undefined,
    trace?: LazyTrace,
  ): AdmissionResult<S> {
    const closes = this.#closes;
    const given = typeof id === 'string' ? id : undefined;
    const hash = given === undefined ? 0 : hashOf(given);
    let code: RefusalCode | undefined;
    if (this.#isClosed) code = 'closed';
    else if (given !== undefined && !this.#makeRoom(given, hash)) code = 'duplicate_id';
    // Asked again: the connection of that id may have been the one too many. If the user has none here
    // any more, another manager's connection has taken the place.
    else if (isOver && this.#seats.isOver(slot) && !this.#closeOldest(userId)) code = 'user_limit';
    else if (closes !== this.#closes) {
      if (this.#isClosed) code = 'closed';
      else if (given !== undefined && this.#live.find(given, hash) !== undefined)
        code = 'duplicate_id';
    }
    if (code === undefined) return this.#open(slot, id, hash, socket, ip, v4, userId, metadata);
    this.#seats.undo(slot);
    return this.#refusals.refuse(code, ip, userId, trace);
  }

  /** True if the id is free, or was made free by a takeover. */
  #makeRoom(id: string, hash: number): boolean {
    const present = this.#live.find(id, hash);
    if (present === undefined) return true;
    return this.#options.takesOver && this.replace(present);
  }

  /** Closes the user's oldest connection; `false` if none may be closed. */
  #closeOldest(user: string | undefined): boolean {
    const oldest = user === undefined ? undefined : this.#live.oldestOf(user);
    return oldest !== undefined && this.replace(oldest);
  }

  /** Closes a connection in whose place a newer one comes; `false` if it was released before. */
  replace(connection: ManagedConnection<S>): boolean {
    return this.close(connection, REPLACED_CODE, REPLACED_REASON);
  }

  #open(
    slot: number,
    id: string | HostId<S> | undefined,
    hash: number,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    const connection = this.#live.add(slot, id, hash, socket, ip, v4, userId, metadata);
    this.#opened++;
    if (userId !== undefined && this.userListeners.size > 0) this.#tellUser(userId);
    return { success: true, connection };
  }

  /** Moves the seat of a connection to `userId`; without a cluster. */
  bind(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): { readonly success: true } | Refusal {
    const { ip, trace } = connection;
    const answer = this.#seats.bindUser(slot, userId);
    if (answer !== 1) return this.refuse(answer, ip, userId, trace);
    if (this.#isObserving) this.#observe(ip, userId, trace);
    this.bound(connection, userId);
    return { success: true };
  }

  /** Notes the user to whom the seat of a connection was moved, and tells the listeners. */
  bound(connection: ManagedConnection<S>, userId: string): void {
    this.#live.bind(connection, userId);
    this.#tellUser(userId);
  }

  #tellUser(userId: string): void {
    // The seat is taken: a listener that throws must not fail the call.
    for (const listener of this.userListeners) this.#hooks.tell('userListener', listener, userId);
  }

  /**
   * Gives the seat back, then closes the socket; `false` if the connection was released before.
   * @param isFlood true if nothing that the client still sends is to be read
   */
  close(connection: ManagedConnection<S>, code: number, reason: string, isFlood = false): boolean {
    if (!connection.isAlive) return false;
    this.#closes++;
    this.#live.remove(connection);
    this.#closer.close(connection, code, reason, isFlood);
    return true;
  }

  /** Closes the connections of a user; returns their number. */
  closeUser(userId: string, code: number, reason: string): number {
    let closed = 0;
    for (const connection of this.#live.of(userId))
      if (this.close(connection, code, reason)) closed++;
    return closed;
  }
}
