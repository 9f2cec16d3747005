/**
 * The core's table of seats (`src/connections/table.rs`), as JavaScript calls it, and the memory that
 * both share. Owns the segments of columns, which grow with the table; knows no id, socket or hook.
 */
import { hostClock } from '../base/clock.js';
import { nameConflict, PortcullisError } from '../base/errors.js';
import { WAIT } from '../cluster/codes.js';
import type { Membership } from '../cluster/membership.js';
import { createConnections } from '../native/addon.js';
import { type HotCalls, hotCallsOf } from '../native/ffi.js';
import { sharedArray } from '../native/shared-memory.js';
import { encodeName, TEXT_MAX } from '../native/strings.js';
import type { Driver } from '../timers/driver.js';
import type { LoopClock } from './loop-clock.js';
import type { ConnectionOwner } from './owner.js';
import type { HostSizes } from './options.js';
import { NATIVE_CODES, type RefusalCode } from './refusal.js';
import { PLACE_MASK, Segment, SEGMENT_BITS, SEGMENT_SLOTS } from './segment.js';

/** Most slots of one table; a lease's handle is `generation * SLOTS_MAX + slot`. @internal */
export const SLOTS_MAX = 2 ** 22;
/** Most slots that one sweep finds. */
const SWEEP_BATCH = 64;
/** Most slots that are noted before the core is called. */
const NOTED_MAX = 64;

// Answers of the core besides slots, handles and the negated codes of refusals.
const FULL = -100;
const NEED_TIME = -101;
/** Added to a noted slot whose lease is opened; a slot alone is released. */
const OPENED = SLOTS_MAX;
/** Number of sweeps of a lease that only the core can open. @internal */
export const ASK_CORE = -1;
/** Answer for a lease that was used or has expired. @internal */
export const STALE = -104;
/** Added to the number of idle slots where more leases may have expired. */
const MORE = 65_536;
/** Subtracted by `askMove` from the negated code of a limit of this process. */
const OWN_CODES = 200;
// Cells of a call of `take`, and their values besides numbers, lengths and times.
const IS_LEASE = 0;
const IP = 1;
const USER = 2;
const LOOP_NOW = 3;
const NOW = 4;
const ANSWER = 5;
const CALL_CELLS = 6;
const NOBODY = -1;
const BY_VALUE = -2;
/** Minus the length of an address in the second half of the shared text. */
const TEXT = -3;
/** Numbers of `checkedLimits`. */
const LIMIT_NUMBERS = 17;
/** Time of an admission that is exempt. */
const EXEMPT = Infinity;

/** Returns the slot of a lease's handle. `%` would call the library's `fmod`. @internal */
export const slotOf = (handle: number): number => handle & (SLOTS_MAX - 1);

/** Returns the code of a negative answer. @internal */
export function refusalCodeOf(answer: number): RefusalCode {
  return answer === FULL ? 'total_limit' : (NATIVE_CODES[-answer - 1] ?? 'closed');
}

type NativeTable = ReturnType<typeof createConnections>;

/** Codes of the core's errors, and the option at fault. */
const OPEN_ERRORS = {
  ERR_LIMITS_CONFLICT: 'name',
  ERR_UNSUPPORTED: 'cluster',
  ERR_HOST_FILE: 'cluster',
  ERR_NO_THREAD: 'cluster',
  ERR_CLUSTER_INCOMPATIBLE: 'cluster',
  ERR_CLUSTER_FULL: 'hostProcesses',
} as const;

/** @throws those of `OPEN_ERRORS` */
function openTable(
  name: string | undefined,
  limits: number[],
  member: Membership | undefined,
  host: HostSizes | undefined,
): NativeTable {
  try {
    return createConnections(name, limits, member?.id, host && [...host]);
  } catch (error) {
    const [, code, text] = /^(ERR_\w+): (.*)$/s.exec((error as Error).message) ?? [];
    if (code === undefined || text === undefined || !(code in OPEN_ERRORS)) throw error;
    const known = code as keyof typeof OPEN_ERRORS;
    throw known === 'ERR_LIMITS_CONFLICT'
      ? nameConflict(name, text)
      : new PortcullisError(known, text, { field: OPEN_ERRORS[known] });
  }
}

/** The seats of one manager, and the segments of their columns. @internal */
export class Seats<C> {
  /** One segment for each 4,096 slots, in the order of the slots. */
  readonly segments: Segment<C>[] = [];
  readonly #table: NativeTable;
  readonly #hot: HotCalls;
  readonly #owner: ConnectionOwner<C>;
  readonly #driver: Driver;
  readonly #loop: LoopClock;
  readonly #isNamed: boolean;
  readonly #member: Membership | undefined;
  /** Added to the timers' time for rates: threads that share a name share a clock. */
  readonly #epochMs: number;
  /** Numbers that cross in bulk: slots found by a sweep, counts, limits. */
  readonly #scratch = sharedArray(Float64Array, SWEEP_BATCH);
  /** A short name, then a short address, on their way to the core; see `native/strings.ts`. */
  readonly #text = sharedArray(Uint16Array, 2 * TEXT_MAX);
  /** Arguments of `take`, and its answer. */
  readonly #call = sharedArray(Float64Array, CALL_CELLS);
  /** Slots opened and released that the core has not looked at yet, with their number in front. */
  readonly #noted = sharedArray(Uint32Array, 1 + NOTED_MAX);
  /** True once the core has asked for the time of an admission. From then on it is passed at once: a call fewer. */
  #hasRates = false;
  /** Sweeps so far: only a sweep ends a lease that its holder has not ended. */
  #sweeps = 0;

  /**
   * @param name of the index; `undefined` for one of its own
   * @param limits as `checkedLimits` returns them
   * @param member counts the seats outside of this process, too
   * @param host counts them over all processes of this host
   * @throws ERR_LIMITS_CONFLICT; with `host` those of the file
   */
  constructor(
    name: string | undefined,
    limits: number[],
    member: Membership | undefined,
    host: HostSizes | undefined,
    owner: ConnectionOwner<C>,
    driver: Driver,
    loop: LoopClock,
  ) {
    this.#owner = owner;
    this.#driver = driver;
    this.#loop = loop;
    this.#isNamed = name !== undefined;
    this.#member = member;
    this.#table = openTable(name, limits, member, host);
    this.#table.share(this.#scratch, this.#text, this.#noted, this.#call);
    this.#call[NOW] = NaN;
    this.#hot = hotCallsOf(this.#table);
    // Uses a custom clock as it is: tests advance it by hand.
    this.#epochMs = driver.clock === hostClock ? this.#table.processNowMs() - driver.now() : 0;
  }

  /**
   * Takes a seat, in all counts or in none.
   * @param isLease true to hold the seat as a lease, false to open it at once
   * @param v4 bits of `ip` as an IPv4 address, or -1
   * @returns a lease's handle, an open slot, or a negative answer for `refusalCodeOf`
   */
  take(isLease: boolean, ip: string, v4: number, user: string | undefined): number {
    const time = this.#time(false);
    let answer = this.#takeOnce(isLease, ip, v4, user, time);
    if (answer === FULL && this.#grow()) answer = this.#takeOnce(isLease, ip, v4, user, time);
    return answer === NEED_TIME ? this.#takeOnce(isLease, ip, v4, user, this.#needed()) : answer;
  }

  #takeOnce(
    isLease: boolean,
    ip: string,
    v4: number,
    user: string | undefined,
    now: number,
  ): number {
    const call = this.#call;
    const text = this.#text;
    const name = user === undefined ? NOBODY : encodeName(user, text);
    const where = v4 < 0 ? encodeName(ip, text, TEXT_MAX) : v4;
    call[IS_LEASE] = isLease ? 1 : 0;
    call[LOOP_NOW] = this.#loop.ticked;
    call[NOW] = now;
    call[USER] = typeof name === 'number' ? name : BY_VALUE;
    call[IP] = v4 >= 0 ? v4 : typeof where === 'number' ? TEXT - where : BY_VALUE;
    this.#hot.take(
      typeof name === 'string' ? name : undefined,
      typeof where === 'string' ? where : undefined,
    );
    return call[ANSWER]!;
  }

  /**
   * Takes a seat as `take` does, for a client that is no ordinary one.
   * @param isExempt true to count it without its own limits: only totals and its user's can refuse
   * @param claimable connections of the user, one of which may be closed for this one
   * @param replaces connection that is closed if this one is admitted: its seat counts as free
   * @returns as `take`; an open slot plus `SLOTS_MAX` if the user is over the limit until the oldest
   * connection is closed
   */
  takeFor(
    isLease: boolean,
    ip: string,
    v4: number,
    user: string | undefined,
    isExempt: boolean,
    claimable: number,
    replaces: { readonly slot: number } | undefined,
  ): number {
    const native = isLease ? this.#table.reserve : this.#table.admit;
    const where = v4 < 0 ? ip : v4;
    const loopNow = this.#loop.ticked;
    // Each time anew: the clock may have admitted other connections, or closed the replaced one.
    const take = (time: number): number => {
      const name = user === undefined ? undefined : encodeName(user, this.#text);
      return native(where, name, loopNow, time, claimable, replaces?.slot);
    };
    const time = this.#time(isExempt);
    let answer = take(time);
    if (answer === FULL && this.#grow()) answer = take(time);
    return answer === NEED_TIME ? take(this.#needed()) : answer;
  }

  /** Returns the time for an admission: NaN before the core has asked for one, since reading the clock costs. */
  #time(isExempt: boolean): number {
    return isExempt ? EXEMPT : this.#hasRates ? this.#now() : NaN;
  }

  /** Returns the time that the core has asked for. */
  #needed(): number {
    this.#hasRates = true;
    return this.#now();
  }

  /** Time for connect rates, ms. */
  #now(): number {
    return this.#driver.now() + this.#epochMs;
  }

  /**
   * Takes the seat of an address, for a client that is not identified yet.
   * @param v4 bits of `ip` as an IPv4 address, or -1
   * @param isExempt as in `take`
   * @returns a lease's handle, or a negative answer for `refusalCodeOf`
   */
  arrive(ip: string, v4: number, isExempt: boolean): number {
    const { arrive } = this.#table;
    const where = v4 < 0 ? ip : v4;
    const loopNow = this.#loop.ticked;
    const time = this.#time(isExempt);
    let answer = arrive(where, loopNow, time);
    if (answer === FULL && this.#grow()) answer = arrive(where, loopNow, time);
    return answer === NEED_TIME ? arrive(where, loopNow, this.#needed()) : answer;
  }

  /**
   * Identifies the client of a lease that `arrive` gave. A refusal gives the seat back.
   * @param claimable as in `take`
   * @param isExempt as in `take`
   * @returns the handle, `STALE`, or a negative answer for `refusalCodeOf`
   */
  identify(handle: number, user: string | undefined, claimable: number, isExempt: boolean): number {
    const { identify } = this.#table;
    const text = this.#text;
    const loopNow = this.#loop.ticked;
    // Before the name is copied: a clock of the application may admit other connections.
    const time = this.#time(isExempt);
    const name = user === undefined ? undefined : encodeName(user, text);
    const answer = identify(handle, name, loopNow, time, claimable);
    if (answer !== NEED_TIME) return answer;
    const now = this.#needed();
    const again = user === undefined ? undefined : encodeName(user, text);
    return identify(handle, again, loopNow, now, claimable);
  }

  /**
   * Asks the cluster for the seat of a lease, once. A refusal that comes at once gives the lease back; after
   * one that comes later the caller does.
   * @returns 0 if it is granted; a positive code: a limit's, or one of `cluster/cluster.ts`; or `STALE`
   */
  ask(handle: number, user: string | undefined, isExempt: boolean): number | Promise<number> {
    const name = user === undefined ? undefined : encodeName(user, this.#text);
    const code = this.#table.ask(handle, name, isExempt ? 1 : 0);
    return code === WAIT && this.#member !== undefined
      ? this.#member.answer(this.#table.askedTicket())
      : code;
  }

  /** Returns the limit that would have refused the latest admission, and forgets it. */
  observed(): RefusalCode | undefined {
    const code = this.#table.observed();
    return code === 0 ? undefined : refusalCodeOf(-code);
  }

  /** Adds a segment; `false` if the table has all its slots. */
  #grow(): boolean {
    if (this.segments.length * SEGMENT_SLOTS >= SLOTS_MAX) return false;
    const segment = new Segment<C>(this.#owner);
    segment.tick(this.#loop.ticked);
    this.#table.grow(segment.sharedStamps());
    this.segments.push(segment);
    return true;
  }

  /** Returns the segment of a slot that was taken. */
  segmentOf(slot: number): Segment<C> {
    const segment = this.segments[slot >>> SEGMENT_BITS];
    if (segment === undefined)
      throw new PortcullisError('ERR_INTERNAL', 'a slot outside of all segments');
    return segment;
  }

  /** Returns the connection of a slot, if it has one. */
  at(slot: number): C | undefined {
    return this.segments[slot >>> SEGMENT_BITS]?.connections[slot & PLACE_MASK];
  }

  /** Sweeps so far. */
  get sweeps(): number {
    return this.#sweeps;
  }

  /**
   * Opens a lease. Only notes the slot, which saves a native call, if no sweep has come since the lease was taken:
   * then it has not expired.
   * @param sweeps `sweeps` when the lease was taken; `ASK_CORE` if it may have been used, or may be one beyond its
   * user's limit
   * @returns `stale` if it was used or has expired; `over` if the user is over the limit until the
   * oldest connection is closed
   */
  commit(handle: number, sweeps: number): 'stale' | 'open' | 'over' {
    if (sweeps === this.#sweeps) {
      this.#note(slotOf(handle) + OPENED);
      return 'open';
    }
    const answer = this.#table.commit(handle);
    return answer === 1 ? 'open' : answer === 2 ? 'over' : 'stale';
  }

  /** True if the user of an open slot has more seats than the limit allows. */
  isOver(slot: number): boolean {
    return this.#table.isOver(slot) === 1;
  }

  /** Gives a lease back; `false` if it was used or has expired. */
  abort(handle: number): boolean {
    return this.#table.abort(handle) === 1;
  }

  /**
   * Gives the seat of an open slot back. The slot of a private index is only noted, which saves a
   * native call: the core looks at noted slots before any other call, before it refuses, and once there are 64. A named index gets it back at
   * once, since another thread must not be refused for a seat that is free.
   */
  release(slot: number): void {
    if (this.#isNamed) {
      this.#hot.release(slot);
      return;
    }
    this.#note(slot);
  }

  /** Notes a slot for the core. */
  #note(entry: number): void {
    const noted = this.#noted;
    const count = noted[0]! + 1;
    noted[count] = entry;
    noted[0] = count;
    if (count === NOTED_MAX) this.#hot.settle();
  }

  /** Gives a slot back that was taken but never had a connection. */
  undo(slot: number): void {
    this.#table.release(slot);
  }

  /**
   * Spends one message of the user and of the network of an open slot, or of neither.
   * @param nowMs of the timers' clock
   * @returns 0, or the number of the exceeded rate, as `ConnectionOwner.spendShared`
   */
  spendMessage(slot: number, nowMs: number): number {
    return this.#hot.message(slot, nowMs + this.#epochMs);
  }

  /** Moves a seat to `user`. @returns 1, or an answer for `refusalCodeOf` */
  bindUser(slot: number, user: string): number {
    return this.#table.bindUser(slot, user);
  }

  /**
   * Asks the cluster to move the seat of an open slot to `user`; until `endMove` both users have a seat.
   * @returns 0 if it has moved; a positive code of the cluster; a negative answer for `refusalCodeOf`; or `STALE`, also
   * while another move of the slot is under way
   */
  askMove(slot: number, user: string): number | Promise<number> {
    const code = this.#table.askMove(slot, user);
    if (code === WAIT && this.#member !== undefined)
      return this.#member.answer(this.#table.askedTicket());
    return code <= -OWN_CODES ? code + OWN_CODES : code;
  }

  /** Returns the connection whose seat in the cluster has this ticket; a lease of it is given back. */
  replaced(ticket: number): C | undefined {
    const slot = this.#table.replaced(ticket);
    return slot < 0 ? undefined : this.at(slot);
  }

  /** Ends a move: the seat is the new user's, or stays where it was. Does nothing if none is under way. */
  endMove(slot: number, isGranted: boolean): void {
    this.#table.endMove(slot, isGranted ? 1 : 0);
  }

  /** Milliseconds until the connect rate that has just refused admits again. */
  get retryAfterMs(): number {
    return this.#table.retryAfterMs();
  }

  /**
   * Gives the seats of expired leases back, and scans for idle connections from the end of the last
   * scan.
   * @param idleMs idle timeout, or `NEVER`
   * @param leaseMs time for which a lease holds its seat
   * @param pendingMs the same for a client that is not identified yet
   * @returns at most `SWEEP_BATCH` connections, and whether there may be more of them or of expired
   * leases. Connections and no slots, since closing one may call back and give the slot of the next to
   * a newcomer. `undefined` for a slot that is taken but not open yet, of an admission whose takeover
   * sweeps.
   */
  sweep(
    idleMs: number,
    leaseMs: number,
    pendingMs: number,
  ): { readonly idle: readonly (C | undefined)[]; readonly hasMore: boolean } {
    this.#sweeps++;
    const answer = this.#table.sweep(this.#loop.now(), idleMs, leaseMs, pendingMs);
    const found = answer % MORE;
    return {
      idle: Array.from(this.#scratch.subarray(0, found), (slot) => this.at(slot)),
      hasMore: found === SWEEP_BATCH || answer >= MORE,
    };
  }

  /** Counts the connections that a scan of all slots would find idle. @param idleMs idle timeout, or `NEVER` */
  idle(idleMs: number): number {
    return this.#table.idle(this.#loop.now(), idleMs);
  }

  /** Open connections and leases of the index. */
  get total(): number {
    return this.#table.total();
  }

  /**
   * Counts of the index: connections in all, addresses, users, connections without a user, users and
   * addresses whose messages are counted.
   */
  counts(): readonly number[] {
    this.#table.counts();
    return [...this.#scratch.subarray(0, 5)];
  }

  /** Seats, seats without a user and processes of the host, if it counts the seats. */
  host(): readonly number[] | undefined {
    return this.#table.host() === 1 ? [...this.#scratch.subarray(0, 3)] : undefined;
  }

  /** Returns the limits in force, whichever manager of the index has set them, in the order of `checkedLimits`. */
  limits(): readonly number[] {
    this.#table.limits();
    return [...this.#scratch.subarray(0, LIMIT_NUMBERS)];
  }

  /**
   * Replaces limits in force.
   * @param limits as `checkedLimits` returns them
   * @param places those that are replaced, as bits: others may have changed the rest
   */
  setLimits(limits: readonly number[], places: number): void {
    this.#scratch.set(limits);
    this.#table.setLimits(places);
  }

  /** Answer for every newcomer while the index refuses all, for `refusalCodeOf`; else `undefined`. */
  draining(): number | undefined {
    return this.#table.isDraining() === 1 ? -1 - NATIVE_CODES.indexOf('draining') : undefined;
  }

  /** Refuses newcomers of the index, or admits them again. */
  setDraining(isDraining: boolean): void {
    this.#table.setDraining(isDraining ? 1 : 0);
  }

  /** Gives all seats back, those of leases included, and closes the index. */
  close(): void {
    this.#table.close();
  }
}
