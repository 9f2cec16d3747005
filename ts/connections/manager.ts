/**
 * The connection manager: the public class, which checks arguments and leads to its parts. Seats are
 * taken and opened in `admissions.ts`, with a cluster in `shared-seats.ts`; idle connections are found
 * by `sweep.ts`, sockets closed by `socket-closer.ts`, bans kept by `bans.ts`. Long for its doc comments.
 */
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions, optionsObject } from '../base/options.js';
import { SharedTexts } from '../base/shared-texts.js';
import type { LazyTrace, RequestTrace } from '../base/trace.js';
import type { Membership } from '../cluster/membership.js';
import type { ClusterNode } from '../cluster/presence.js';
import type { ClusterManagerStats } from '../cluster/stats.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import { Admissions } from './admissions.js';
import { type AdmissionResult, checkedLease, type HeldLease, type Lease } from './lease.js';
import type { Ban, ConnectionManagerEvents } from './ban.js';
import { Bans } from './bans.js';
import { checkedClient, checkedConnection, checkedOptionalUser, checkedUser } from './arguments.js';
import { checkCloseCode, cutReason } from './close-frame.js';
import { CLUSTER_PLACES, inForceNumbers, withClusterLimits } from './cluster-limits.js';
import { type HostId, ManagedConnection, type ManagedSocket } from './connection.js';
import type { CheckedBans } from './ban-options.js';
import {
  checkedLimits,
  CLEANUP_INTERVAL_MS,
  type ConnectionLimits,
  frozenLimits,
  readChanges,
} from './limits.js';
import { checkHostLimits } from './host-limits.js';
import { changedPlaces, withMessageRates, withNumbers } from './in-force.js';
import { LiveConnections } from './live-connections.js';
import { LoopClock } from './loop-clock.js';
import { type ExceededRate, MessageRateLimiter, RATE_REASONS, ratesOf } from './message-rate.js';
import type { GivenMetadata, MetadataInput } from './metadata.js';
import { checkedArguments, type CheckedOptions, type ConnectionManagerOptions } from './options.js';
import type { SocketHost } from './open-socket.js';
import type { ConnectionOwner } from './owner.js';
import type { RateAction } from './connect-rates.js';
import { Reading } from './reading.js';
import type { Refusal } from './refusal.js';
import { Refusals } from './refusals.js';
import { RetryTimes } from './retry.js';
import { Seats } from './seats.js';
import { SharedSeats } from './shared-seats.js';
import { type Closable, SocketCloser } from './socket-closer.js';
import { type ConnectionStats, hostCountsOf } from './stats.js';
import { Sweep } from './sweep.js';

const CLOSE_USER_CODE = 4003;
/**
 * Closing sockets for each seat of an address, on a host that keeps every closed socket for 8 to 16 s: as many
 * honest clients behind one address are closed in that time before one is cut off.
 */
const LINGERING_FACTOR = 8;

/**
 * Decides who may connect, counts the traffic of connections, and closes the idle ones.
 *
 * Every limit is checked and every seat taken in one step. Idle time is event-loop time: a stalled
 * or stopped process does not find its clients idle. No connection is closed early, and none later
 * than `cleanupIntervalMs` and a few ticks.
 *
 * @example
 * const manager = new ConnectionManager({ maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 });
 * const result = manager.addConnection('c1', socket, '192.0.2.1', 'user-1');
 * if (!result.success) socket.close(1013, result.reason);
 */
export class ConnectionManager<S extends ManagedSocket = ManagedSocket> {
  readonly #timers: TimerManager;
  readonly #options: CheckedOptions<S>;
  /** The part that asks the cluster, if there is one. */
  readonly #shared: SharedSeats<S> | undefined;
  readonly #admissions: Admissions<S>;
  readonly #seats: Seats<ManagedConnection<S>>;
  readonly #live: LiveConnections<S>;
  readonly #owner: ConnectionOwner<ManagedConnection<S>> & {
    messageRate: MessageRateLimiter | undefined;
    controlRate: MessageRateLimiter;
  };
  readonly #hooks = new Hooks();
  readonly #refusals: Refusals;
  readonly #closer: SocketCloser;
  readonly #sweep: Sweep<ManagedConnection<S>>;
  #limits: Readonly<ConnectionLimits>;
  /** The limits at the start, as `checkedLimits` returns them. */
  readonly #counted: readonly number[];
  readonly #retry: RetryTimes;
  readonly #reading = new Reading();
  /** User agents of connections of adapters: most clients have one of a few. */
  readonly #userAgents = new SharedTexts();
  #bans: Bans | undefined;
  #evicted = 0;
  #overRate = 0;
  #stopNews: (() => void) | undefined;
  /** The live connections by id: a read-only view, iterated in the order of slots. */
  readonly connections: ReadonlyMap<string, ManagedConnection<S>>;
  /** Messages and bytes received, messages and bytes sent: sums over all connections. @internal */
  readonly traffic = new Float64Array(4);
  /** Called with the user of every connection that opens or logs in. @internal */
  readonly userListeners: Set<(userId: string) => void>;

  /**
   * @param limits see `ConnectionLimits`
   * @param options see `ConnectionManagerOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_LIMITS_CONFLICT if the
   * index of that name is open with other limits; ERR_CLOSED for strict timers that are closed. With `cluster: 'host'`
   * also ERR_UNSUPPORTED on other systems than Linux, ERR_HOST_FILE, ERR_CLUSTER_INCOMPATIBLE and ERR_CLUSTER_FULL;
   * with any `cluster` ERR_NO_THREAD if the system starts no further thread
   */
  constructor(limits: ConnectionLimits, options?: ConnectionManagerOptions<S>);
  /**
   * The same with the timers in front. Timers in the options as well are ERR_INVALID_ARG_TYPE.
   * @param limits see `ConnectionLimits`
   * @param timerManager owner of the manager's timers; once it is closed, idle eviction has ended
   * @param options see `ConnectionManagerOptions`
   */
  constructor(
    limits: ConnectionLimits,
    timerManager: TimerManager,
    options?: ConnectionManagerOptions<S>,
  );
  constructor(
    limits: ConnectionLimits,
    second?: TimerManager | ConnectionManagerOptions<S>,
    third?: ConnectionManagerOptions<S>,
  ) {
    this.#limits = frozenLimits(limits);
    const numbers = checkedLimits(this.#limits);
    const given = checkedArguments(second, third);
    this.#options = given;
    this.#timers = given.timers;
    this.#closer = new SocketCloser(given.timers, given.closeTimeoutMs);
    const { driver } = given.timers;
    const loop = new LoopClock(driver);
    this.#owner = {
      traffic: this.traffic,
      messageRate: undefined,
      controlRate: new MessageRateLimiter(ratesOf({}), false),
      loopNow: () => loop.now(),
      nowMs: () => driver.now(),
      spendShared: (slot, nowMs) => this.#seats.spendMessage(slot, nowMs),
      idMade: (connection, slot) => {
        if (slot >= 0) this.#live.addId(connection.id, slot);
      },
      bindConnection: (connection, slot, userId) => this.#bind(connection, slot, userId),
      identifyConnection: (connection, slot, userId) => this.#login(connection, slot, userId),
      closeConnection: (connection, code, reason) =>
        void this.#admissions.close(connection, code, reason),
      releaseConnection: (connection) => void this.release(connection),
      rateExceeded: (connection, rate, action) => this.#rateExceeded(connection, rate, action),
    };
    if (given.cluster !== undefined && this.#isObserving)
      throw outOfRange('mode', 'observe', "'enforce' with a cluster");
    const member = given.cluster?.join(given.name ?? '', numbers, given.closesOldest);
    // Those in force in all processes. Managers of the name are compared by the limits that they were made with.
    const inForce = member?.figures()?.limits;
    this.#counted = numbers;
    this.#seats = new Seats(given.name, numbers, member, given.host, this.#owner, driver, loop);
    this.#live = new LiveConnections(this.#seats, given.closesOldest);
    this.connections = this.#live.view;
    this.#retry = new RetryTimes(this.#seats, loop, () => ({
      admitted: this.#admissions.opened,
      total: this.#seats.total,
    }));
    const { onRefuse, onObserve } = given;
    const listeners = { onRefuse, onObserve, onRate: (ip: string) => this.rateRefused(ip) };
    this.#refusals = new Refusals(this.#hooks, listeners, this.#retry);
    const parts = {
      options: given,
      member,
      seats: this.#seats,
      live: this.#live,
      closer: this.#closer,
      refusals: this.#refusals,
      hooks: this.#hooks,
    };
    this.#admissions = new Admissions(parts);
    this.userListeners = this.#admissions.userListeners;
    if (given.cluster !== undefined && member !== undefined)
      this.#shared = new SharedSeats(given.cluster, member, {
        ...parts,
        admissions: this.#admissions,
      });
    // A lease lasts from the cluster's answer on.
    const leaseMs = given.leaseTimeoutMs + (member?.admitTimeoutMs ?? 0);
    this.#sweep = new Sweep(given.timers, this.#seats, loop, leaseMs, (connection) =>
      this.#evict(connection),
    );
    try {
      if (inForce === undefined) this.#applyLimits();
      else this.#takeLimits(inForce);
      if (given.bans !== undefined) this.#bans = this.#openBans(given.bans, member);
      this.#stopNews = this.#shared?.listen((inForce) => this.#takeLimits(inForce));
      given.monitor?.attach(this);
    } catch (error) {
      // Strict timers or a monitor that are closed: neither the name nor timers may stay taken.
      this.#stopNews?.();
      this.#bans?.close();
      this.#sweep.close();
      this.#seats.close();
      throw error;
    }
  }

  /** Bits of an IPv6 address that make one client. @internal */
  get ipv6PrefixBits(): number {
    return this.#limits.ipv6PrefixBits ?? 64;
  }

  /** @throws ERR_LIMITS_CONFLICT */
  #openBans(options: CheckedBans, member: Membership | undefined): Bans {
    const { name, cluster } = this.#options;
    const bans = new Bans(options, name, this.ipv6PrefixBits, this.#timers.driver, this.#hooks);
    bans.spare((ip) => this.#admissions.isExempt(ip));
    if (cluster !== undefined && member !== undefined) bans.join(cluster, member);
    return bans;
  }

  /** Puts the limits into effect that JavaScript enforces. */
  #applyLimits(): void {
    const limits = this.#limits;
    // Arrival times of the old rates mean nothing to the new ones.
    for (const segment of this.#seats.segments) segment.forgetArrivals();
    const limiter = new MessageRateLimiter(ratesOf(limits), this.#isObserving);
    this.#owner.controlRate = limiter;
    this.#admissions.setMode(this.#isObserving);
    this.#retry.setLimits(limits);
    this.#owner.messageRate = limiter.limitsMessages ? limiter : undefined;
    const perIp = limits.maxConnectionsPerIp ?? Infinity;
    this.#closer.setLimits(
      this.ipv6PrefixBits,
      limits.maxClosingPerIp ?? perIp,
      limits.maxClosingPerIp ?? perIp * LINGERING_FACTOR,
      limits.maxClosingConnections ?? limits.maxTotalConnections ?? Infinity,
    );
    this.#sweep.setLimits(
      limits.connectionTimeoutMs ?? Infinity,
      limits.cleanupIntervalMs ?? CLEANUP_INTERVAL_MS,
    );
  }

  /**
   * Takes a seat for a connection before it opens, in all counts or in none.
   * @param ip address of the client, in any usual notation; anything else counts as unknown
   * @param userId the user, if known: up to 1024 characters, empty for none
   * @returns a lease, which expires by itself after `leaseTimeoutMs`, or a refusal
   * @throws ERR_INVALID_ARG_TYPE; ERR_ASYNC_REQUIRED with a cluster that is `strict`: use `admit`. With any other cluster
   * the limits of this process decide, and a client that the cluster refuses afterwards is closed with 1008, or with
   * 1013 if it is not this client's limit; `onRefuse` is called with `late: true`
   * @example
   * const lease = manager.reserve(ip);
   * if (!lease.success) return refuse(503, lease.reason);
   * upgrade((socket) => manager.commit(lease, id, socket));
   */
  reserve(ip: string, userId?: string): Lease | Refusal {
    this.#shared?.checkSync('reserve');
    const user = checkedClient(ip, userId);
    return (
      this.refuseBanned(ip, user) ??
      (this.#shared === undefined
        ? this.#admissions.reserve(ip, user)
        : this.#shared.reserve(ip, user))
    );
  }

  /**
   * Takes a seat as `reserve` does, for a client that its guard has judged by `refuseBanned`; without a cluster.
   * @internal
   */
  reserveJudged(ip: string, trace: LazyTrace | undefined): Lease | Refusal {
    return this.#admissions.reserve(ip, undefined, trace);
  }

  /**
   * Takes a seat for a connection before it opens, as `reserve` does; with a `cluster`, in the counts of all
   * processes. It asks the limits of this process first, then the cluster, once, and waits for at most its
   * `admitTimeoutMs`. Without a cluster it answers at once.
   * @param ip address of the client, in any usual notation; anything else counts as unknown
   * @param userId the user, if known: up to 1024 characters, empty for none
   * @param options `signal`: aborted when the client has left; its seat is given back at once
   * @returns a lease for `commit`, or a refusal; never rejects for an outcome
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION
   * @example
   * const lease = await manager.admit(ip, userId);
   * if (!lease.success) return refuse(503, lease.reason);
   * upgrade((socket) => manager.commit(lease, id, socket));
   */
  async admit(
    ip: string,
    userId?: string,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Lease | Refusal> {
    optionsObject('options', options);
    knownOptions('admit', options, ['signal']);
    const { signal } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal))
      throw wrongType('signal', signal, 'an AbortSignal');
    const user = checkedClient(ip, userId);
    const hasLeft = (): boolean => signal?.aborted === true;
    if (hasLeft()) return this.#refusals.refuse('client_left', ip, user);
    const lease = this.refuseBanned(ip, user) ?? this.#admissions.reserve(ip, user);
    if (!lease.success) return lease;
    // A hook of the admission may have aborted it.
    if (hasLeft()) {
      this.#admissions.abort(lease);
      return this.#refusals.refuse('client_left', ip, user);
    }
    if (this.#shared === undefined) return lease;
    return signal === undefined
      ? this.#shared.confirm(lease)
      : this.#shared.confirmUnlessAborted(lease, signal);
  }

  /** Returns the figures of this manager's cluster, if it has one that is open. @internal */
  clusterStats(): ClusterManagerStats | undefined {
    return this.#shared?.stats();
  }

  /** Asks for the processes of this manager's cluster. @throws as `cluster.nodes()`, as rejections @internal */
  async clusterNodes(): Promise<ClusterNode[]> {
    return (await this.#shared?.nodes()) ?? [];
  }

  /** True if admissions wait for a cluster. @internal */
  get isClustered(): boolean {
    return this.#shared !== undefined;
  }

  /**
   * Asks the cluster for the seat of a lease of `identify`, once. A lease that is given back meanwhile is refused.
   * @returns the lease, or a refusal, which has given the seat back; never rejects
   * @internal
   */
  async confirm(lease: Lease): Promise<Lease | Refusal> {
    const held = this.#held(lease);
    return this.#shared === undefined ? held : this.#shared.confirm(held);
  }

  /** @throws ERR_INVALID_ARG_TYPE for a lease that this manager has not given */
  #held(lease: Lease): HeldLease {
    return checkedLease(lease, this.#admissions);
  }

  /**
   * Takes the seat of an address for a client that is not identified yet: the limits that need no
   * identity are checked, and the connect rate of the address is spent. `identify` checks the others.
   * @param ip as in `reserve`
   * @param trace of the handshake
   * @returns a lease that `identify` takes, or a refusal
   * @internal
   */
  arrive(ip: string, trace?: LazyTrace): Lease | Refusal {
    return this.#admissions.arrive(ip, trace);
  }

  /**
   * Identifies the client of a lease that `arrive` gave.
   * @param userId the user, or `undefined` for an anonymous client
   * @returns a lease that `commit` takes, or a refusal, which gives the seat back
   * @throws ERR_INVALID_ARG_TYPE; the lease is then as it was
   * @internal
   */
  identify(lease: Lease, userId: string | undefined): Lease | Refusal {
    const user = checkedOptionalUser(userId);
    return this.#admissions.identify(this.#held(lease), user);
  }

  /**
   * Sets the time that a client has to be identified: a lease of `arrive` lasts no shorter.
   * @internal
   */
  allowPending(ms: number): void {
    this.#sweep.pendingTimeoutMs = Math.max(this.#sweep.pendingTimeoutMs, ms);
  }

  /** Notes a host whose sockets the manager closes. @internal */
  uses(host: SocketHost): void {
    this.#closer.uses(host);
    this.#reading.add(host);
  }

  get #isObserving(): boolean {
    return this.#limits.mode === 'observe';
  }

  /** True if addresses can be banned. @internal */
  get hasBans(): boolean {
    return this.#bans !== undefined;
  }

  /** Returns the time that the ban of an address lasts, ms; 0 without one. @internal */
  bannedForMs(ip: string): number {
    return this.isOpen ? (this.#bans?.leftMs(ip) ?? 0) : 0;
  }

  /**
   * Refuses a client whose address is banned; asked first of all.
   * @param leftMs `bannedForMs` of the address
   * @returns `undefined` for all others
   * @internal
   */
  refuseBanned(
    ip: string,
    user?: string,
    trace?: RequestTrace,
    leftMs = this.bannedForMs(ip),
  ): Refusal | undefined {
    if (leftMs === 0) return undefined;
    if (!this.#isObserving) return this.#refusals.refuse('banned', ip, user, trace, leftMs);
    this.#refusals.observe('banned', ip, user, trace, leftMs);
    return undefined;
  }

  /** Counts a failure of a client towards a ban. @internal */
  failed(ip: string): void {
    if (this.isOpen) this.#bans?.failed(ip);
  }

  /** True for a client that the option `exempt` names. @internal */
  isExempt(ip: string): boolean {
    return this.#admissions.isExempt(ip);
  }

  /** Counts a refusal by rate, if such refusals are failures. @internal */
  rateRefused(ip: string): void {
    if (this.#bans?.countsRates === true) this.failed(ip);
  }

  /** Adds a test for addresses that are never banned. @internal */
  neverBan(test: (ip: string) => boolean): void {
    this.#bans?.spare(test);
  }

  /**
   * Returns the active bans, the latest first; with a `name`, those of all threads.
   * @example
   * for (const { address, until } of manager.bans()) console.log(address, new Date(until));
   */
  bans(): Ban[] {
    return this.#bans?.list() ?? [];
  }

  /** Returns the latest active bans. @internal */
  latestBans(most: number): Ban[] {
    return this.#bans?.list(most) ?? [];
  }

  /** @throws ERR_INVALID_ARG_TYPE without `banAfter`; ERR_CLOSED after `close()` */
  #openedBans(): Bans {
    this.#checkOpen('it bans nobody');
    if (this.#bans === undefined)
      throw wrongType('banAfter', undefined, 'given to the manager, or nobody is banned');
    return this.#bans;
  }

  /**
   * Bans an address, in the place of an active ban; with a cluster in all processes. Open connections stay.
   * @param address IPv4 or IPv6, or a network as `bans()` has it. Of IPv6 the network of `ipv6PrefixBits` is banned
   * @param forMs length of the ban: 1 to 2^30 ms. Default: `banMs`
   * @returns the ban
   * @throws ERR_INVALID_ARG_TYPE, also without `banAfter`; ERR_OUT_OF_RANGE, also for an address that is never
   * banned; ERR_CLOSED after `close()`
   * @example
   * manager.ban('192.0.2.1', 3_600_000);
   */
  ban(address: string, forMs?: number): Ban {
    return this.#openedBans().ban(address, forMs);
  }

  /**
   * Lifts the ban of an address, and forgets its failures and earlier bans; with a cluster in all processes.
   * @param address as in `ban()`
   * @returns whether the address was banned here
   * @throws ERR_INVALID_ARG_TYPE, also without `banAfter`; ERR_OUT_OF_RANGE; ERR_CLOSED after `close()`
   */
  unban(address: string): boolean {
    return this.#openedBans().lift(address);
  }

  /**
   * Calls `listener` after an event; see `ConnectionManagerEvents`. An error of it is a process warning.
   * @param event name of the event
   * @returns a function that removes the listener
   * @throws ERR_INVALID_ARG_TYPE, also without `banAfter`; ERR_CLOSED after `close()`
   * @example
   * manager.on('banned', ({ address, failures }) => console.warn(address, failures));
   */
  on<E extends keyof ConnectionManagerEvents>(
    event: E,
    listener: ConnectionManagerEvents[E],
  ): () => void {
    return this.#openedBans().on(event, listener);
  }

  /**
   * Refuses a handshake that may not wait for its identity: for a limit of its guard, or since the guard is drained.
   * @internal
   */
  refuseWaiting(
    code: 'pending_limit' | 'pending_ip_limit' | 'draining',
    ip: string,
    trace?: LazyTrace,
  ): Refusal {
    return this.#refusals.refuse(code, ip, undefined, trace);
  }

  /**
   * Closes a socket that was refused after it opened. It is counted while it is closing, as those
   * are that held a seat.
   * @returns a token for `isClosing` and `goneRefused`
   * @internal
   */
  closeRefused(socket: S, ip: string, code: number, reason: string): object {
    const closable = { socket, ip };
    this.#closer.close(closable, code, reason);
    return closable;
  }

  /** Notes that the socket of `closeRefused` has ended. @internal */
  goneRefused(closable: object): void {
    this.#closer.released(closable as Closable);
  }

  /** True for a connection, or for an answer of `closeRefused`, whose socket is closing. @internal */
  isClosing(closable: object): boolean {
    return this.#closer.isClosing(closable as Closable);
  }

  /**
   * Opens a leased connection.
   * @param lease from `reserve`
   * @param id 1 to 1024 characters, unique among the live connections
   * @param socket an object with a method `close(code, reason)`
   * @param metadata further data on the client
   * @returns the connection, or a refusal: `stale_lease` if the lease was used or has expired
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION for `metadata`; the lease is then as it was
   */
  commit(lease: Lease, id: string, socket: S, metadata?: MetadataInput): AdmissionResult<S> {
    return this.#commit(lease, id, socket, checkedConnection(id, socket, metadata));
  }

  /**
   * Opens a leased connection as `commit` does, without an id.
   * @param userAgent of the client
   * @param idOf reads the id of the host's socket when the connection's is first read; without it one is made then
   * @internal
   */
  commitUnnamed(lease: Lease, socket: S, userAgent: string, idOf?: HostId<S>): AdmissionResult<S> {
    return this.#commit(lease, idOf, socket, this.#userAgents.of(userAgent));
  }

  #commit(
    lease: Lease,
    id: string | HostId<S> | undefined,
    socket: S,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    const held = this.#held(lease);
    return this.#shared === undefined
      ? this.#admissions.commit(held, id, socket, metadata)
      : this.#shared.commit(held, id, socket, metadata);
  }

  /**
   * Gives a lease back before its connection has opened.
   * @returns `false` if the lease was used or has expired
   * @throws ERR_INVALID_ARG_TYPE
   */
  abort(lease: Lease): boolean {
    return this.#admissions.abort(this.#held(lease));
  }

  /**
   * Admits a connection in one step: `reserve` and `commit` in one native call.
   * @param id 1 to 1024 characters, unique among the live connections
   * @param socket an object with a method `close(code, reason)`
   * @param ip address of the client, in any usual notation; anything else counts as unknown
   * @param userId the user, if known: up to 1024 characters, empty for none
   * @param metadata further data on the client
   * @returns the connection, or a refusal with `reason`, `code` and `retryAfterMs`
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION for `metadata`; ERR_ASYNC_REQUIRED with a cluster that is
   *   `strict`: use `admit` and `commit`; see `reserve` for others
   */
  addConnection(
    id: string,
    socket: S,
    ip: string,
    userId?: string,
    metadata?: MetadataInput,
  ): AdmissionResult<S> {
    this.#shared?.checkSync('addConnection');
    const kept = checkedConnection(id, socket, metadata);
    const user = checkedClient(ip, userId);
    const banned = this.refuseBanned(ip, user);
    if (banned !== undefined) return banned;
    return this.#shared === undefined
      ? this.#admissions.add(id, socket, ip, user, kept)
      : this.#shared.add(id, socket, ip, user, kept);
  }

  /**
   * Gives the seat of a connection back. Does not touch the socket.
   * @returns `false` if there is no connection of that id
   */
  removeConnection(id: string): boolean {
    const connection = this.connections.get(id);
    if (connection === undefined) return false;
    this.#live.remove(connection);
    return true;
  }

  /**
   * Gives the seat of this very connection back, never that of a later one with the same id. Does
   * not touch the socket. Call it when the host reports that the socket has closed.
   * @returns `false` if the connection is released already, or is another manager's
   * @throws ERR_INVALID_ARG_TYPE
   */
  release(connection: ManagedConnection<S>): boolean {
    if (!ManagedConnection.is(connection))
      throw wrongType('connection', connection, 'a ManagedConnection');
    if (this.#live.has(connection)) {
      this.#live.remove(connection);
      return true;
    }
    // The manager may have closed it, and wait for the end of its socket.
    this.#closer.released(connection);
    return false;
  }

  /** Marks a connection active; ignores an unknown id. */
  updateActivity(id: string): void {
    this.connections.get(id)?.touch();
  }

  #bind(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): { readonly success: true } | Refusal {
    this.#shared?.checkSync('bindUser', 'identify()');
    if (slot < 0 || !this.isOpen) return this.#tooLate(connection, userId);
    return this.#shared === undefined
      ? this.#admissions.bind(connection, slot, userId)
      : this.#shared.bind(connection, slot, userId);
  }

  /** Moves a seat once the cluster has agreed, if there is one. */
  async #login(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): Promise<{ readonly success: true } | Refusal> {
    if (this.#shared === undefined) return this.#bind(connection, slot, userId);
    if (slot < 0) return this.#tooLate(connection, userId);
    return this.#shared.move(connection, userId);
  }

  /** Refuses the login of a connection that has ended, or whose manager has. */
  #tooLate({ ip, trace }: ManagedConnection<S>, userId: string): Refusal {
    return this.#refusals.refuse(this.isOpen ? 'client_left' : 'closed', ip, userId, trace);
  }

  #rateExceeded(connection: ManagedConnection<S>, rate: ExceededRate, action: RateAction): void {
    this.#overRate++;
    const { onRateExceeded } = this.#options;
    if (onRateExceeded !== undefined)
      this.#hooks.run('onRateExceeded', () => onRateExceeded(connection, rate, action));
    if (action === 'close') this.#admissions.close(connection, 1008, RATE_REASONS[rate], true);
  }

  /**
   * Closes the connections that have been idle for longer than `connectionTimeoutMs`, without waiting for
   * the timer. Up to 64 of them are closed before it returns, the others in the next turns of the event
   * loop, 64 in each: a client that sends something before its turn stays connected. Once the timers of the
   * manager are closed, all of them are closed at once.
   * @returns the number of idle connections
   * @throws ERR_TOO_MANY_TIMERS if the thread has no free timer for the next turn: the others are closed by
   * the next sweep
   * @example
   * const idle = manager.cleanupStaleConnections();
   * console.log(`closing ${idle} idle connections`);
   */
  cleanupStaleConnections(): number {
    return this.#sweep.runNow();
  }

  /**
   * Closes an idle connection, unless the eviction of another one has closed it, or it is not the client
   * who is silent.
   */
  #evict(connection: ManagedConnection<S>): void {
    if (connection.isAlive && this.#reading.isBusy(connection)) return void connection.touch();
    if (!this.#admissions.close(connection, 1001, 'Connection timeout')) return;
    this.#evicted++;
    const { onEvict } = this.#options;
    if (onEvict !== undefined) this.#hooks.run('onEvict', () => onEvict(connection));
  }

  /** Open connections and leases of the index. @internal */
  get total(): number {
    return this.isOpen ? this.#seats.total : 0;
  }

  /** Name of the index that is counted, if it has one: managers of a name share its total. @internal */
  get indexName(): string | undefined {
    return this.#options.name;
  }

  /** Monitor that counts the connections, if there is one. @internal */
  get monitor(): ResourceMonitor | undefined {
    return this.#options.monitor;
  }

  /** Whether the limits refuse, or are only observed. @internal */
  get mode(): ConnectionLimits['mode'] {
    return this.#limits.mode;
  }

  /** Owner of the timers. @internal */
  get timers(): TimerManager {
    return this.#timers;
  }

  /** True until `close()`. @internal */
  get isOpen(): boolean {
    return !this.#admissions.isClosed;
  }

  /** @throws ERR_CLOSED after `close()`: the index may still be open, for others of its name */
  #checkOpen(consequence: string): void {
    if (!this.isOpen)
      throw new PortcullisError('ERR_CLOSED', `the connection manager is closed: ${consequence}`);
  }

  /**
   * Returns the counts at this moment and a frozen copy of the limits. Also `getStats()`.
   * @example
   * const { totalConnections, refused } = manager.snapshot();
   * console.log(totalConnections, refused.ip_limit ?? 0);
   */
  snapshot(): ConnectionStats {
    const [total = 0, addresses = 0, users = 0, anonymous = 0, keys = 0] = this.#seats.counts();
    const host = this.#seats.host();
    return {
      totalConnections: total,
      connectionsByIp: addresses,
      connectionsByUser: users,
      anonymousConnections: anonymous,
      admitted: this.#admissions.opened,
      refused: this.#refusals.snapshot(),
      observed: this.#refusals.observed(),
      closing: this.#closer.closing,
      terminated: this.#closer.terminated,
      evicted: this.#evicted,
      messageRateKeys: keys,
      messagesOverRate: this.#overRate,
      bans: this.#bans?.stats(),
      host: host && hostCountsOf(host),
      limits: this.#limitsInForce(),
    };
  }

  /** The same as `snapshot()`. */
  getStats(): ConnectionStats {
    return this.snapshot();
  }

  /**
   * Replaces some limits. Counts stay, and no connection is closed for a lower limit; rates of
   * messages and bytes begin anew. Managers of one name share the limits that the core counts: those that are named
   * change for all of them, and the others stay, whichever manager has set them.
   *
   * With a cluster, the limits that count over all processes change on all of them; see `await cluster.settled()`. The
   * other limits are this process's and change at once. With `cluster: 'host'` limits of counts change in all processes at
   * once; a limit of counts other than a total that no process began with cannot be
   * set.
   * @param changes limits to replace; `undefined` lifts one
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; ERR_OUT_OF_RANGE, also for another
   * `ipv6PrefixBits`, and `mode: 'observe'` with a cluster; ERR_CLOSED after `close()`. Nothing has changed then.
   */
  updateLimits(changes: ConnectionLimits): void {
    optionsObject('limits', changes);
    const given = readChanges(changes);
    const base = this.#sharesLimits
      ? withNumbers(this.#limits, this.#seats.limits())
      : this.#limits;
    const merged = frozenLimits({ ...base, ...given });
    const numbers = checkedLimits(merged);
    const bits = this.ipv6PrefixBits;
    if ((merged.ipv6PrefixBits ?? 64) !== bits)
      throw outOfRange(
        'ipv6PrefixBits',
        merged.ipv6PrefixBits,
        `${bits}: it cannot change while the index is open`,
      );
    if (this.#shared !== undefined && merged.mode === 'observe')
      throw outOfRange('mode', 'observe', "'enforce' with a cluster");
    this.#checkOpen('its limits cannot change');
    if (this.#options.host !== undefined) checkHostLimits(this.#counted, numbers);
    const places = changedPlaces(given, merged);
    if (this.#shared === undefined || (places & CLUSTER_PLACES) === 0) {
      this.#seats.setLimits(numbers, places);
      this.#limits = merged;
    } else {
      this.#limits = this.#shared.changeLimits(Object.keys(given), merged, () => this.#limits);
      this.#seats.setLimits(numbers, places & ~CLUSTER_PLACES);
    }
    this.#applyLimits();
  }

  /** True while others may change the limits in force. */
  get #sharesLimits(): boolean {
    return this.#options.name !== undefined && this.isOpen;
  }

  /** Returns the limits in force, whichever manager of the name has set them; once it is closed, those of this one. */
  #limitsInForce(): Readonly<ConnectionLimits> {
    if (!this.#sharesLimits) return this.#limits;
    const numbers = this.#seats.limits();
    const own = checkedLimits(this.#limits);
    if (own.every((number, place) => number === numbers[place])) return this.#limits;
    return frozenLimits(withMessageRates(withNumbers(this.#limits, numbers), numbers));
  }

  /** Puts limits into effect that the cluster has in force. */
  #takeLimits(inForce: readonly number[]): void {
    this.#limits = frozenLimits(withClusterLimits(this.#limits, inForce));
    const numbers = inForceNumbers(checkedLimits(this.#limits), inForce);
    this.#seats.setLimits(numbers, CLUSTER_PLACES);
    this.#applyLimits();
  }

  /**
   * Returns the connections of a user in this manager, in the order of their openings, whenever each of them logged in.
   * The first call looks at every connection; later ones do not.
   * @param userId 1 to 1024 characters
   * @throws ERR_INVALID_ARG_TYPE
   */
  connectionsOf(userId: string): ManagedConnection<S>[] {
    checkedUser(userId);
    return this.#live.of(userId);
  }

  /**
   * Closes all connections of a user: in this manager, and with a cluster in the managers of the name in all
   * processes. Connections that open meanwhile may be closed, too; later ones are not. A process that is cut off closes
   * them once it is back, unless the server has lost the event by then.
   * @param userId 1 to 1024 characters
   * @param options `code`: close code that may be sent, default 4003; `reason`: cut to 123 bytes, default none
   * @returns `connections`: those that were open, leases of other processes included
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_CLUSTER_UNREACHABLE if only those of this
   * manager were closed. As rejections
   * @example
   * await manager.closeUser('ada', { reason: 'Signed out' });
   */
  async closeUser(
    userId: string,
    options: { readonly code?: number | undefined; readonly reason?: string | undefined } = {},
  ): Promise<{ readonly connections: number }> {
    checkedUser(userId);
    optionsObject('options', options);
    knownOptions('closeUser', options, ['code', 'reason']);
    const { code = CLOSE_USER_CODE, reason: given = '' } = options;
    checkCloseCode(code);
    const reason = cutReason(given);
    return {
      connections:
        this.#shared === undefined
          ? this.#admissions.closeUser(userId, code, reason)
          : await this.#shared.closeUser(userId, code, reason),
    };
  }

  /**
   * Refuses newcomers from now on, in every manager of the name. Open connections go on.
   * @throws ERR_CLOSED after `close()`
   */
  drain(): void {
    this.#checkOpen('it admits nobody');
    this.#seats.setDraining(true);
  }

  /**
   * Admits newcomers again after `drain()`, in every manager of the name.
   * @throws ERR_CLOSED after `close()`
   */
  resume(): void {
    this.#checkOpen('it admits nobody');
    this.#seats.setDraining(false);
  }

  /**
   * Closes every connection with 1001 and refuses newcomers from then on. Gives all seats back, so
   * that other managers of the name count without this one. May be called again. Also `cleanup()`.
   *
   * The manager's own timers end once the last socket has answered its close or was terminated.
   */
  close(): void {
    if (!this.isOpen) return;
    this.#admissions.end();
    // No seat becomes free any more.
    this.#retry.setLimits({});
    this.#stopNews?.();
    this.#bans?.close();
    this.#sweep.close();
    for (const connection of this.connections.values())
      this.#admissions.close(connection, 1001, 'Server shutdown');
    this.#seats.close();
    this.#options.monitor?.detach(this);
    if (this.#options.ownsTimers) this.whenSocketsEnd(() => void this.#timers.cleanup());
  }

  /**
   * Calls `onEnd` once no closing socket needs the timers any more: each has answered or was terminated. A later call
   * replaces it.
   * @internal
   */
  whenSocketsEnd(onEnd: () => void): void {
    if (typeof onEnd !== 'function') throw wrongType('onEnd', onEnd, 'a function');
    this.#closer.whenDone(onEnd);
  }

  /** The same as `close()`. */
  cleanup(): void {
    this.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export { ConnectionManager as ProductionConnectionManager };
