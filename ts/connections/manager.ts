/**
 * Admission, the live connections, and the sweep that closes the quiet ones. One file and one class: a seat, a slot's columns,
 * the ids and the core's table change together, in steps that no callback may come between.
 */
import { hostClock } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { createConnections } from '../native/addon.js';
import { encodeName, isDottedQuad, TEXT_MAX, parseIpv4 } from '../native/strings.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import {
  type AdmissionResult,
  checkConnection,
  checkedLease,
  checkedOptionalUser,
  givesWay,
  HeldLease,
  type Lease,
} from './admission.js';
import { ByUser } from './by-user.js';
import {
  type ConnectionOwner,
  ManagedConnection,
  type ManagedSocket,
  Segment,
  SEGMENT,
  SEGMENT_BITS,
  TICK_MAX_MS,
} from './connection.js';
import { hashOf, IdIndex } from './id-index.js';
import {
  checkedLimits,
  checkedMessageRate,
  type ConnectionLimits,
  frozenLimits,
  NEVER,
  type RateAction,
} from './limits.js';
import { LoopClock } from './loop-clock.js';
import { type ExceededRate, MessageRateLimiter } from './message-rate.js';
import type { MetadataInput } from './metadata.js';
import { checkedOptions, type ConnectionManagerOptions } from './options.js';
import { NATIVE_CODES, REASONS, type Refusal, type RefusalCode } from './refusal.js';
import { SocketCloser } from './socket-closer.js';
import { ConnectionView } from './view.js';

/** Counts at one moment. The first four are those of the index, which managers of one name share. */
export interface ConnectionStats {
  readonly totalConnections: number;
  /** Addresses with a connection. */
  readonly connectionsByIp: number;
  /** Users with a connection. */
  readonly connectionsByUser: number;
  readonly anonymousConnections: number;
  /** Connections this manager has admitted. */
  readonly admitted: number;
  /** Refusals of this manager by their code; codes that never came up are absent. */
  readonly refused: Readonly<Partial<Record<RefusalCode, number>>>;
  /** Connections this manager has closed because they were quiet. */
  readonly evicted: number;
  /** Messages over a rate, whatever was done with them. */
  readonly messagesOverRate: number;
  /** A frozen copy. */
  readonly limits: Readonly<ConnectionLimits>;
}

/** Leases are looked after no more often than this. */
const LEASE_SWEEP_MIN_MS = 100;

const SLOTS_MAX = 2 ** 22;
const FULL = -100;
const NEED_TIME = -101;
const OVERLOAD = -102;
/** Slots left before the core is called for them. */
const LEFT_MAX = 64;
/** Evictions in one turn. */
const EVICT_BATCH = 64;
const REPLACED = 4001;
const REPLACED_REASON = 'Replaced by a newer connection';
const RETRY_MS = 1000;

type NativeTable = ReturnType<typeof createConnections>;

function openTable(name: string | undefined, numbers: number[]): NativeTable {
  try {
    return createConnections(name, numbers);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (message.startsWith('ERR_LIMITS_CONFLICT: '))
      throw new PortcullisError('ERR_LIMITS_CONFLICT', message.slice(21), { field: 'name' });
    throw error;
  }
}

/**
 * Decides who may connect, counts what connections do, and closes those that have gone quiet.
 *
 * Every limit is checked and taken in one step. Idle time is the loop's own: a process that was
 * stopped does not find its clients idle. Nobody is closed early, and at most `cleanupIntervalMs`
 * and a few ticks late.
 *
 * @example
 * const manager = new ConnectionManager({ maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 }, new TimerManager());
 * const result = manager.addConnection('c1', socket, '192.0.2.1', 'user-1');
 * if (!result.success) socket.close(1013, result.reason);
 */
export class ConnectionManager<S extends ManagedSocket = ManagedSocket> {
  readonly #timers: TimerManager;
  readonly #table: NativeTable;
  readonly #scratch = new Float64Array(EVICT_BATCH);
  readonly #text = new Uint16Array(TEXT_MAX);
  /** Slots left since the last call of the core, which gives their seats back first; the count is in front. */
  readonly #left = new Uint32Array(1 + LEFT_MAX);
  readonly #segments: Segment[] = [];
  readonly #ids = new IdIndex(this.#segments);
  readonly #byUser: ByUser<S> | undefined;
  readonly #owner: ConnectionOwner & { messageRate: MessageRateLimiter | undefined };
  readonly #options: ConnectionManagerOptions<S>;
  readonly #hooks = new Hooks();
  readonly #isNamed: boolean;
  readonly #leaseTimeoutMs: number;
  readonly #refused: Partial<Record<RefusalCode, number>> = {};
  #admitted = 0;
  #evicted = 0;
  #overRate = 0;
  /** For how long the newcomer that was refused last is to stay away. */
  #shedMs = 0;
  readonly #closer: SocketCloser;
  /** Sockets closed so far: each may have called back. */
  #closes = 0;
  #limits: Readonly<ConnectionLimits>;
  /** Added to the timers' time for connect rates: threads that share a name share a clock. */
  readonly #epochMs: number;
  #timeoutMs = NEVER;
  readonly #loop: LoopClock;
  #sweepMs = 0;
  #tick: TimerHandle | undefined;
  #cleanup: TimerHandle | undefined;
  /** Whether the latest batch ended before the last slot. */
  #isMidway = false;
  #isClosed = false;
  /** The live connections, by id: a view that cannot be written to. Iterates in no order of arrival. */
  readonly connections: ReadonlyMap<string, ManagedConnection<S>> = new ConnectionView(
    this.#ids,
    this.#segments,
  );
  /** What all connections have received and sent: messages, bytes, messages, bytes. @internal */
  readonly traffic = new Float64Array(4);
  /** Told of the user of every connection that opens or logs in. @internal */
  readonly userListeners = new Set<(userId: string) => void>();

  /**
   * @param limits what may be; see `ConnectionLimits`
   * @param timerManager owns the two timers of this manager; its `cleanup()` ends idle eviction
   * @param options see `ConnectionManagerOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_LIMITS_CONFLICT when an
   * index of that name is open that was first opened with other limits
   */
  constructor(
    limits: ConnectionLimits,
    timerManager: TimerManager,
    options: ConnectionManagerOptions<S> = {},
  ) {
    this.#limits = frozenLimits(limits);
    const numbers = checkedLimits(this.#limits);
    if (!(timerManager instanceof TimerManager))
      throw wrongType('timerManager', timerManager, 'a TimerManager');
    const given = checkedOptions(options);
    this.#options = given;
    this.#leaseTimeoutMs = wholeNumber(
      'leaseTimeoutMs',
      given.leaseTimeoutMs,
      1,
      TIME_MAX_MS,
      10_000,
    );
    this.#closer = new SocketCloser(
      timerManager,
      wholeNumber('closeTimeoutMs', given.closeTimeoutMs, 1, TIME_MAX_MS, 5000),
    );
    this.#isNamed = given.name !== undefined;
    this.#timers = timerManager;
    this.#byUser = given.onFull === 'closeOldest' ? new ByUser() : undefined;
    const { driver } = timerManager;
    const loop = new LoopClock(driver);
    this.#loop = loop;
    this.#table = openTable(given.name, numbers);
    this.#table.share(this.#scratch, this.#text, this.#left);
    this.#epochMs = driver.clock === hostClock ? this.#table.processNowMs() - driver.now() : 0;
    this.#owner = {
      traffic: this.traffic,
      messageRate: undefined,
      loopNow: () => loop.now(),
      nowMs: () => timerManager.driver.now(),
      bindConnection: (connection, slot, userId) =>
        this.#bind(connection as unknown as ManagedConnection<S>, slot, userId),
      closeConnection: (connection, code, reason) =>
        void this.#close(connection as unknown as ManagedConnection<S>, code, reason),
      rateExceeded: (connection, rate, action) =>
        this.#rateExceeded(connection as unknown as ManagedConnection<S>, rate, action),
    };
    try {
      this.#apply();
      given.monitor?.attach(this as unknown as ConnectionManager);
    } catch (error) {
      // Strict timers that were cleaned up, a monitor that was stopped: neither name nor timers stay taken.
      this.#tick?.close();
      this.#cleanup?.close();
      this.#table.close();
      throw error;
    }
  }

  /** Puts the limits into effect that JavaScript keeps. */
  #apply(): void {
    const {
      connectionTimeoutMs: timeout = Infinity,
      cleanupIntervalMs = 5000,
      messageRate,
      byteRate,
    } = this.#limits;
    const [messages, bytes] = [
      checkedMessageRate('messageRate', messageRate),
      checkedMessageRate('byteRate', byteRate),
    ];
    // What was spent at another rate means nothing at this one.
    for (const segment of this.#segments) segment.arrivals?.fill(0);
    this.#owner.messageRate =
      messages === undefined && bytes === undefined
        ? undefined
        : new MessageRateLimiter(messages, bytes);
    this.#timeoutMs = timeout === Infinity ? NEVER : timeout;
    // What has passed is booked at the old tick. The timers go on where they can: limits that change
    // often must not put off the sweep.
    this.#advance();
    const tickMs = Math.min(TICK_MAX_MS, Math.max(5, Math.ceil(timeout / 64)));
    this.#loop.allow(tickMs);
    // Once the timers were cleaned up, idle eviction has ended.
    if (this.#tick !== undefined && !this.#timers.isOpen()) return;
    if (this.#tick === undefined || tickMs !== this.#loop.tickMs) {
      this.#loop.tickMs = tickMs;
      this.#tick?.close();
      this.#tick = this.#timers.setInterval(() => this.#advance(), {
        delayMs: tickMs,
        ref: false,
        name: 'connections.tick',
      });
    }
    // Leases end at a sweep, too.
    const sweepMs = Math.min(cleanupIntervalMs, Math.max(LEASE_SWEEP_MIN_MS, this.#leaseTimeoutMs));
    if (this.#cleanup === undefined || sweepMs !== this.#sweepMs) {
      this.#sweepMs = sweepMs;
      this.#cleanup?.close();
      this.#cleanup = this.#timers.setInterval(() => this.#sweep(true), {
        delayMs: sweepMs,
        ref: false,
        name: 'connections.cleanup',
      });
    }
  }

  #advance(): void {
    const ticked = this.#loop.tick();
    for (const segment of this.#segments) segment.stamps[SEGMENT] = ticked;
  }

  /**
   * Takes a seat for a connection that is to open, in all counts or none.
   * @param ip the client's address, in any usual notation; what is none counts as unknown
   * @param userId the user, if known; an empty one is none
   * @returns a lease, which expires by itself after `leaseTimeoutMs`, or a refusal
   * @throws ERR_INVALID_ARG_TYPE
   */
  reserve(ip: string, userId?: string): Lease | Refusal {
    const user = checkedOptionalUser(userId);
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    const handle = this.#admit(this.#table.reserve, ip, parseIpv4(ip), user);
    return handle < 0 ? this.#refusal(handle, ip, user) : new HeldLease(this, handle, ip, user);
  }

  /** Calls the core; a handle, or what it refused with. */
  #admit(take: NativeTable['reserve'], ip: string, v4: number, user: string | undefined): number {
    if (this.#isClosed) return 0 - NATIVE_CODES.length - 1;
    if (this.#options.monitor !== undefined && (this.#shedMs = this.#options.monitor.shedMs()) > 0)
      return OVERLOAD;
    const where = v4 < 0 ? ip : v4;
    const who = user === undefined ? undefined : encodeName(user, this.#text);
    const loopNow = this.#loop.ticked;
    let handle = take(where, who, loopNow);
    if (handle >= 0) return handle;
    if (handle === FULL && this.#grow()) handle = take(where, who, loopNow);
    let now: number | undefined;
    // Only a rate needs the time, and reading it costs: the core asks for it.
    if (handle === NEED_TIME) {
      now = this.#timers.driver.now() + this.#epochMs;
      // Crossed again: a clock of the user's may have admitted others meanwhile.
      handle = take(
        where,
        user === undefined ? undefined : encodeName(user, this.#text),
        loopNow,
        now,
      );
    }
    if (
      this.#byUser !== undefined &&
      user !== undefined &&
      NATIVE_CODES[-handle - 1] === 'user_limit' &&
      this.#closeOldest(user)
    ) {
      // Once more: the socket that was closed may have called back and admitted others.
      handle = take(where, encodeName(user, this.#text), loopNow, now);
    }
    return handle;
  }

  /** Room for a segment more; `false` at the most that a table holds. */
  #grow(): boolean {
    if (this.#segments.length * SEGMENT >= SLOTS_MAX) return false;
    const segment = new Segment(this.#owner);
    segment.stamps[SEGMENT] = this.#loop.ticked;
    this.#table.grow(segment.stamps.subarray(0, SEGMENT));
    this.#segments.push(segment);
    return true;
  }

  #closeOldest(user: string): boolean {
    const oldest = this.#byUser?.oldest(user);
    return oldest !== undefined && this.#close(oldest, REPLACED, REPLACED_REASON);
  }

  #refusal(handle: number, ip: string, user: string | undefined): Refusal {
    if (handle === FULL) return this.#refuse('total_limit', RETRY_MS, ip, user);
    if (handle === OVERLOAD) return this.#refuse('overload', this.#shedMs, ip, user);
    const code = NATIVE_CODES[-handle - 1] ?? 'closed';
    return this.#refuse(
      code,
      code === 'ip_rate' || code === 'user_rate' ? this.#table.retryAfterMs() : RETRY_MS,
      ip,
      user,
    );
  }

  #refuse(
    code: RefusalCode,
    retryAfterMs: number,
    ip: string,
    userId: string | undefined,
  ): Refusal {
    this.#refused[code] = (this.#refused[code] ?? 0) + 1;
    const refusal: Refusal = {
      success: false,
      reason: REASONS[code],
      code,
      retryAfterMs: Math.max(1, Math.ceil(retryAfterMs)),
    };
    if (this.#options.onRefuse !== undefined)
      this.#hooks.run('onRefuse', () => this.#options.onRefuse?.(refusal, ip, userId));
    return refusal;
  }

  #segmentOf(slot: number): Segment {
    const segment = this.#segments[slot >>> SEGMENT_BITS];
    if (segment === undefined)
      throw new PortcullisError('ERR_INTERNAL', 'a slot outside of all segments');
    return segment;
  }

  /**
   * Opens a leased connection.
   * @param lease from `reserve`
   * @param id 1 to 1024 characters, unique among the live connections
   * @param socket what `close(code, reason)` is called on
   * @throws ERR_INVALID_ARG_TYPE; then the lease is as it was
   */
  commit(lease: Lease, id: string, socket: S, metadata?: MetadataInput): AdmissionResult<S> {
    checkConnection(id, socket, metadata);
    const { handle, ip, userId } = checkedLease(lease, this);
    if (this.#table.commit(handle) === 0) return this.#refuse('stale_lease', RETRY_MS, ip, userId);
    return this.#seat(handle % SLOTS_MAX, id, socket, ip, parseIpv4(ip), userId, metadata);
  }

  /** Opens a slot that was taken, or gives it back: to make room closes sockets, which may call back. */
  #seat(
    slot: number,
    id: string,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: MetadataInput | undefined,
  ): AdmissionResult<S> {
    const closes = this.#closes;
    const hash = hashOf(id);
    const isFree = !this.#isClosed && this.#makeRoom(id, hash);
    if (
      isFree &&
      (closes === this.#closes || (!this.#isClosed && this.#ids.find(id, hash) === undefined))
    )
      return {
        success: true,
        connection: this.#open(
          slot,
          id,
          hash,
          socket,
          isDottedQuad(ip, v4) ? v4 | 0 : ip,
          userId,
          metadata,
        ),
      };
    this.#table.release(slot);
    return this.#refuse(this.#isClosed ? 'closed' : 'duplicate_id', RETRY_MS, ip, userId);
  }

  /** Whether the id is free, or was made so. */
  #makeRoom(id: string, hash: number): boolean {
    const present = this.#ids.find(id, hash);
    if (present === undefined) return true;
    return (
      this.#options.onDuplicateId === 'takeover' &&
      this.#close(present as unknown as ManagedConnection<S>, REPLACED, REPLACED_REASON)
    );
  }

  #open(
    slot: number,
    id: string,
    hash: number,
    socket: S,
    ip: string | number,
    userId: string | undefined,
    metadata: MetadataInput | undefined,
  ): ManagedConnection<S> {
    const segment = this.#segmentOf(slot);
    const connection = new ManagedConnection<S>(id, socket, ip, userId, segment, slot, metadata);
    const place = slot & (SEGMENT - 1);
    segment.connections[place] = connection as unknown as ManagedConnection;
    segment.hashes[place] = hash;
    this.#ids.add(hash, slot);
    if (this.#byUser !== undefined && userId !== undefined) this.#byUser.add(userId, connection);
    this.#admitted++;
    if (userId !== undefined) this.#tellUser(userId);
    return connection;
  }

  /**
   * Gives a lease back; `false` if it was used or has expired.
   * @throws ERR_INVALID_ARG_TYPE
   */
  abort(lease: Lease): boolean {
    return this.#table.abort(checkedLease(lease, this).handle) === 1;
  }

  /**
   * Admits a connection in one step.
   * @param id 1 to 1024 characters, unique among the live connections
   * @param socket what `close(code, reason)` is called on
   * @param ip the client's address, in any usual notation
   * @param userId the user, if known; an empty one is none
   * @returns the connection, or a refusal with `reason`, `code` and `retryAfterMs`
   * @throws ERR_INVALID_ARG_TYPE for an empty id, a socket without `close`, an `ip` or `userId` that is no string
   */
  addConnection(
    id: string,
    socket: S,
    ip: string,
    userId?: string,
    metadata?: MetadataInput,
  ): AdmissionResult<S> {
    checkConnection(id, socket, metadata);
    const user = checkedOptionalUser(userId);
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    const closes = this.#closes;
    const hash = hashOf(id);
    const present = this.#ids.find(id, hash) as ManagedConnection<S> | undefined;
    if (present !== undefined && this.#options.onDuplicateId !== 'takeover')
      return this.#refuse('duplicate_id', RETRY_MS, ip, user);
    const v4 = parseIpv4(ip);
    let slot = this.#admit(this.#table.admit, ip, v4, user);
    // Its own seat may be what is missing; else it stays, for a newcomer that is refused takes nothing over.
    if (slot < 0 && present !== undefined && givesWay(NATIVE_CODES[-slot - 1], present, ip, user)) {
      this.#close(present, REPLACED, REPLACED_REASON);
      slot = this.#admit(this.#table.admit, ip, v4, user);
    }
    if (slot < 0) return this.#refusal(slot, ip, user);
    if (present === undefined && closes === this.#closes)
      return {
        success: true,
        connection: this.#open(
          slot,
          id,
          hash,
          socket,
          isDottedQuad(ip, v4) ? v4 | 0 : ip,
          user,
          metadata,
        ),
      };
    return this.#seat(slot, id, socket, ip, v4, user, metadata);
  }

  /** Gives a connection's seat back; `false` if there is none of that id. The socket is not touched. */
  removeConnection(id: string): boolean {
    const connection = this.connections.get(id);
    return connection !== undefined && this.#release(connection);
  }

  /**
   * Gives the seat of this very connection back, and not that of a later one of the same id.
   * The socket is not touched.
   * @throws ERR_INVALID_ARG_TYPE
   */
  release(connection: ManagedConnection<S>): boolean {
    if (!ManagedConnection.is(connection))
      throw wrongType('connection', connection, 'a ManagedConnection');
    const { slot } = connection;
    // Another manager's connection may have the same slot.
    const isOurs =
      slot >= 0 &&
      this.#segments[slot >>> SEGMENT_BITS]?.connections[slot & (SEGMENT - 1)] ===
        (connection as unknown as ManagedConnection);
    if (isOurs) return this.#release(connection);
    // Closed from here.
    this.#closer.released(connection);
    return false;
  }

  #release(connection: ManagedConnection<S>): boolean {
    const slot = connection.detach();
    const segment = this.#segmentOf(slot);
    const place = slot & (SEGMENT - 1);
    this.#ids.remove(segment.hashes[place]!, slot);
    segment.connections[place] = undefined;
    if (this.#byUser !== undefined && connection.userId !== undefined)
      this.#byUser.remove(connection.userId, connection);
    // Other threads must not be refused for a seat that is free: the index of a name is told at once.
    if (this.#isNamed) return this.#table.release(slot) === 1;
    const left = this.#left;
    const count = left[0]! + 1;
    left[count] = slot;
    left[0] = count;
    if (count === LEFT_MAX) this.#table.settle();
    return true;
  }

  /** Marks a connection active; an unknown id is ignored. */
  updateActivity(id: string): void {
    this.connections.get(id)?.touch();
  }

  #bind(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): { readonly success: true } | Refusal {
    if (slot < 0 || this.#isClosed) return this.#refuse('closed', RETRY_MS, connection.ip, userId);
    const outcome = this.#table.bindUser(slot, userId);
    if (outcome !== 1) return this.#refusal(outcome, connection.ip, userId);
    if (this.#byUser !== undefined) {
      if (connection.userId !== undefined) this.#byUser.remove(connection.userId, connection);
      this.#byUser.add(userId, connection);
    }
    connection.bound(userId);
    this.#tellUser(userId);
    return { success: true };
  }

  #tellUser(userId: string): void {
    // The seat is taken: what a listener throws must not come between it and who asked for it.
    for (const listener of this.userListeners)
      this.#hooks.run('userListener', () => listener(userId));
  }

  #rateExceeded(connection: ManagedConnection<S>, rate: ExceededRate, action: RateAction): void {
    this.#overRate++;
    if (this.#options.onRateExceeded !== undefined)
      this.#hooks.run('onRateExceeded', () =>
        this.#options.onRateExceeded?.(connection, rate, action),
      );
    if (action === 'close')
      this.#close(
        connection,
        1008,
        rate === 'message_rate' ? 'Message rate exceeded' : 'Byte rate exceeded',
      );
  }

  /** Gives the seat back, then closes the socket, with force if the peer does not answer. */
  #close(connection: ManagedConnection<S>, code: number, reason: string): boolean {
    if (!connection.isAlive) return false;
    this.#closes++;
    this.#release(connection);
    this.#closer.close(connection, code, reason);
    return true;
  }

  /**
   * Closes the connections that have been idle for more than `connectionTimeoutMs`, all at once.
   * The timer does the same in batches.
   * @returns how many were closed
   */
  cleanupStaleConnections(): number {
    const before = this.#evicted;
    // A pass that the timer has begun leaves out what lies behind it.
    for (let passes = this.#isMidway ? 2 : 1; passes > 0;) if (!this.#sweep(false)) passes--;
    return this.#evicted - before;
  }

  /** One batch; whether there may be more, which then comes in the next turn if `goOn` says so. */
  #sweep(goOn: boolean): boolean {
    if (this.#isClosed) return false;
    const idleMs = this.#timeoutMs === NEVER ? NEVER : this.#timeoutMs + this.#loop.graceMs;
    const found = this.#table.sweep(
      this.#loop.now(),
      idleMs,
      this.#leaseTimeoutMs + this.#loop.graceMs,
    );
    // A copy: a socket's close may add and sweep.
    for (const slot of this.#scratch.slice(0, found)) {
      const connection = this.#segmentOf(slot).connections[slot & (SEGMENT - 1)] as
        ManagedConnection<S> | undefined;
      if (connection === undefined || connection.slot !== slot) continue;
      this.#close(connection, 1001, 'Connection timeout');
      this.#evicted++;
      if (this.#options.onEvict !== undefined)
        this.#hooks.run('onEvict', () => this.#options.onEvict?.(connection));
    }
    const isMore = found === EVICT_BATCH;
    this.#isMidway = isMore;
    // A hook may have ended the manager, or its timers.
    if (isMore && goOn && !this.#isClosed && this.#timers.isOpen())
      this.#timers.setTimeout(() => this.#sweep(true), {
        delayMs: 1,
        ref: false,
        name: 'connections.cleanup',
      });
    return isMore;
  }

  /** Connections and leases of the index. @internal */
  get total(): number {
    return this.#isClosed ? 0 : this.#table.total();
  }

  /** What counts its connections. @internal */
  get monitor(): ResourceMonitor | undefined {
    return this.#options.monitor;
  }

  /** Owner of its timers. @internal */
  get timers(): TimerManager {
    return this.#timers;
  }

  /** Whether it was not cleaned up. @internal */
  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /** The index may be open still, for others of its name. */
  #checkOpen(consequence: string): void {
    if (this.#isClosed)
      throw new PortcullisError(
        'ERR_CLOSED',
        `the connection manager was cleaned up: ${consequence}`,
      );
  }

  /** Counts, and a frozen copy of the limits. */
  getStats(): ConnectionStats {
    this.#table.counts();
    const [
      totalConnections = 0,
      connectionsByIp = 0,
      connectionsByUser = 0,
      anonymousConnections = 0,
    ] = this.#scratch;
    return {
      totalConnections,
      connectionsByIp,
      connectionsByUser,
      anonymousConnections,
      admitted: this.#admitted,
      refused: { ...this.#refused },
      evicted: this.#evicted,
      messagesOverRate: this.#overRate,
      limits: this.#limits,
    };
  }

  /**
   * Replaces some limits; the counts stay, nobody is thrown out.
   * @throws as the constructor; ERR_OUT_OF_RANGE for another `ipv6PrefixBits`; ERR_CLOSED after `cleanup()`. Then nothing has changed.
   */
  updateLimits(changes: ConnectionLimits): void {
    if (typeof changes !== 'object' || changes === null)
      throw wrongType('limits', changes, 'an object');
    const merged = frozenLimits({ ...this.#limits, ...changes });
    const numbers = checkedLimits(merged);
    const bits = this.#limits.ipv6PrefixBits ?? 64;
    if ((merged.ipv6PrefixBits ?? 64) !== bits)
      throw outOfRange(
        'ipv6PrefixBits',
        merged.ipv6PrefixBits,
        `${bits}: it cannot change while the index is open`,
      );
    this.#checkOpen('its limits cannot change');
    this.#scratch.set(numbers);
    this.#table.setLimits();
    this.#limits = merged;
    this.#apply();
  }

  /**
   * Refuses newcomers from now on (or, with `false`, no longer), in every manager of the name.
   * @throws ERR_INVALID_ARG_TYPE; ERR_CLOSED after `cleanup()`
   */
  drain(on = true): void {
    if (typeof on !== 'boolean') throw wrongType('on', on, 'a boolean');
    this.#checkOpen('it refuses everybody');
    this.#table.setDraining(on ? 1 : 0);
  }

  /**
   * Closes every connection with 1001 and refuses newcomers; what shares the name counts without this
   * manager from then on. May be called again.
   */
  cleanup(): void {
    if (this.#isClosed) return;
    this.#tick?.close();
    this.#cleanup?.close();
    this.#isClosed = true;
    for (const connection of this.connections.values())
      this.#close(connection, 1001, 'Server shutdown');
    this.#table.close();
    this.#options.monitor?.detach(this as unknown as ConnectionManager);
  }

  [Symbol.dispose](): void {
    this.cleanup();
  }
}

export { ConnectionManager as ProductionConnectionManager };
