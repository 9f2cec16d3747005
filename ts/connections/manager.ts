/**
 * The connection manager: admission, the end of connections, limits and counts. It stands on
 * `seats.ts` (the core's table), `live-connections.ts`, `sweep.ts` (idle connections),
 * `socket-closer.ts` and `refusal.ts`.
 *
 * A closed socket and a hook are the application's code and may call back into the manager. So every
 * step leaves seats, slots and ids in agreement before it closes a socket or calls a hook, and looks
 * again afterwards. Long for its doc comments: it is the public class.
 */
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions } from '../base/options.js';
import type { LazyTrace, RequestTrace } from '../base/trace.js';
import type { Cluster } from '../cluster/cluster.js';
import {
  ABANDONED,
  CODES,
  LEFT,
  type Membership,
  OVERLOADED,
  UNREACHABLE,
} from '../cluster/membership.js';
import { type ClusterNode, clusterNodesOf } from '../cluster/presence.js';
import { type ClusterManagerStats, STATES } from '../cluster/stats.js';
import { parseIpv4 } from '../native/strings.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import { type AdmissionResult, checkedLease, HeldLease, type Lease } from './lease.js';
import type { Ban, ConnectionManagerEvents } from './ban.js';
import { Bans } from './bans.js';
import { checkConnection, checkedOptionalUser, checkedUser } from './arguments.js';
import { checkCloseCode, cutReason } from './close-frame.js';
import { clusterNumbers, inForceNumbers, withClusterLimits } from './cluster-limits.js';
import { ManagedConnection, type ManagedSocket } from './connection.js';
import type { CheckedBans } from './ban-options.js';
import { isExempt } from './exempt-clients.js';
import { hashOf } from './id-index.js';
import {
  checkedLimits,
  CLEANUP_INTERVAL_MS,
  type ConnectionLimits,
  frozenLimits,
} from './limits.js';
import { LiveConnections } from './live-connections.js';
import { LoopClock } from './loop-clock.js';
import { type CheckedMessageRates, type ExceededRate, MessageRateLimiter } from './message-rate.js';
import type { MetadataInput } from './metadata.js';
import { MoveQueue } from './move-queue.js';
import { checkedArguments, type CheckedOptions, type ConnectionManagerOptions } from './options.js';
import type { SocketHost } from './open-socket.js';
import type { ConnectionOwner } from './owner.js';
import { checkedControlRate, checkedMessageRate, type RateAction } from './rates.js';
import { type Refusal, type RefusalCode, Refusals } from './refusal.js';
import { Reading } from './reading.js';
import { RetryEstimate, type SeatCounts, seatsOf } from './retry.js';
import { ASK_CORE, refusalCodeOf, REPLACED, Seats, slotOf, SLOTS_MAX, STALE } from './seats.js';
import { type Closable, SocketCloser } from './socket-closer.js';
import type { ConnectionStats } from './stats.js';
import { Sweep } from './sweep.js';

// Answers of `#take`, besides those of the core.
const OVERLOAD = -102;
const CLOSED = -103;

/** Refusals of a cluster that are no limit's. */
const CLUSTER_CODES: Readonly<Record<number, RefusalCode>> = {
  [UNREACHABLE]: 'cluster_unreachable',
  [OVERLOADED]: 'overload',
  [LEFT]: 'closed',
  [ABANDONED]: 'client_left',
  [STALE]: 'stale_lease',
};

/** Limits of one client: their late refusals close with 1008. */
const CLIENT_CODES: ReadonlySet<RefusalCode> = new Set([
  'prefix_limit',
  'ip_limit',
  'user_limit',
  'anonymous_ip_limit',
  'ip_rate',
  'user_rate',
]);

const RATE_REASONS: Readonly<Record<ExceededRate, string>> = {
  message_rate: 'Message rate exceeded',
  user_message_rate: 'Message rate per user exceeded',
  ip_message_rate: 'Message rate per IP exceeded',
  byte_rate: 'Byte rate exceeded',
  control_rate: 'Control frame rate exceeded',
};

const NO_RATES: CheckedMessageRates = {
  messages: undefined,
  bytes: undefined,
  control: undefined,
  perUser: undefined,
  perIp: undefined,
};

const CLOSE_USER_CODE = 4003;
const REPLACED_CODE = 4001;
const REPLACED_REASON = 'Replaced by a newer connection';

/** The client that the cluster was asked about. */
interface AskedClient {
  readonly ip: string;
  readonly userId: string | undefined;
  readonly trace?: RequestTrace | undefined;
}

/** The event that closes a user's connections. */
interface Kick {
  /** The manager that has told it, and has closed its own. */
  readonly from: string;
  readonly user: string;
  readonly code: number;
  readonly reason: string;
}

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
  /** Asked before every admission. */
  readonly #monitor: ResourceMonitor | undefined;
  readonly #cluster: Cluster | undefined;
  /** This manager's share of the cluster. */
  readonly #member: Membership | undefined;
  readonly #seats: Seats<ManagedConnection<S>>;
  readonly #live: LiveConnections<S>;
  readonly #owner: ConnectionOwner<ManagedConnection<S>> & {
    messageRate: MessageRateLimiter | undefined;
    controlRate: MessageRateLimiter;
  };
  /** Tells this manager from all others of the name. */
  readonly #id = crypto.randomUUID();
  readonly #hooks = new Hooks();
  readonly #refusals: Refusals;
  readonly #closer: SocketCloser;
  readonly #sweep: Sweep<ManagedConnection<S>>;
  /** Connections whose admission or user the cluster has not confirmed yet. */
  readonly #unconfirmed = new MoveQueue<ManagedConnection<S>>();
  #limits: Readonly<ConnectionLimits>;
  readonly #retry = new RetryEstimate();
  readonly #loop: LoopClock;
  readonly #counts = (): SeatCounts => ({ admitted: this.#admitted, total: this.#seats.total });
  readonly #reading = new Reading();
  #bans: Bans | undefined;
  /** True if only the limits decide: no monitor, no exempt clients, nothing to replace or to observe. */
  #isPlain = false;
  #admitted = 0;
  #evicted = 0;
  #overRate = 0;
  /** Sockets closed so far: each of them may have called back. */
  #closes = 0;
  /** Retry time of the latest refusal for short memory, ms. */
  #shedMs = 0;
  #isClosed = false;
  #stopNews: (() => void) | undefined;
  /** The live connections by id: a read-only view, iterated in the order of slots. */
  readonly connections: ReadonlyMap<string, ManagedConnection<S>>;
  /** Messages and bytes received, messages and bytes sent: sums over all connections. @internal */
  readonly traffic = new Float64Array(4);
  /** Called with the user of every connection that opens or logs in. @internal */
  readonly userListeners = new Set<(userId: string) => void>();

  /**
   * @param limits see `ConnectionLimits`
   * @param options see `ConnectionManagerOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_LIMITS_CONFLICT if the
   * index of that name is open with other limits; ERR_CLOSED for strict timers that are closed
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
    this.#monitor = given.monitor;
    this.#timers = given.timers;
    this.#refusals = new Refusals(this.#hooks, given.onRefuse, given.onObserve);
    this.#closer = new SocketCloser(given.timers, given.closeTimeoutMs);
    const { driver } = given.timers;
    const loop = new LoopClock(driver);
    this.#loop = loop;
    this.#owner = {
      traffic: this.traffic,
      messageRate: undefined,
      controlRate: new MessageRateLimiter(NO_RATES, false),
      loopNow: () => loop.now(),
      nowMs: () => driver.now(),
      sharedNowMs: () => this.#seats.sharedNowMs(),
      spendShared: (slot, nowMs) => this.#seats.spendMessage(slot, nowMs),
      idMade: (connection, slot) => {
        if (slot >= 0) this.#live.addId(connection.id, slot);
      },
      bindConnection: (connection, slot, userId) => this.#bind(connection, slot, userId),
      identifyConnection: (connection, slot, userId) => this.#login(connection, slot, userId),
      closeConnection: (connection, code, reason) => void this.#close(connection, code, reason),
      releaseConnection: (connection) => void this.release(connection),
      rateExceeded: (connection, rate, action) => this.#rateExceeded(connection, rate, action),
    };
    if (given.cluster !== undefined && this.#isObserving)
      throw outOfRange('mode', 'observe', "'enforce' with a cluster");
    const member = given.cluster?.join(given.name ?? '', numbers, given.closesOldest);
    this.#cluster = given.cluster;
    this.#member = member;
    // Those in force in this process, which other threads of the name have opened the index with.
    const inForce = member?.figures()?.limits;
    if (inForce !== undefined)
      this.#limits = frozenLimits(withClusterLimits(this.#limits, inForce));
    const opened = inForce === undefined ? numbers : inForceNumbers(numbers, inForce);
    this.#seats = new Seats(given.name, opened, member, this.#owner, driver, loop);
    this.#live = new LiveConnections(this.#seats, given.closesOldest);
    this.connections = this.#live.view;
    // A lease lasts from the cluster's answer on.
    const leaseMs = given.leaseTimeoutMs + (member?.admitTimeoutMs ?? 0);
    this.#sweep = new Sweep(given.timers, this.#seats, loop, leaseMs, (connection) =>
      this.#evict(connection),
    );
    try {
      this.#applyLimits();
      if (given.bans !== undefined) this.#bans = this.#openBans(given.bans);
      this.#stopNews = this.#listen(member);
      this.#monitor?.attach(this);
    } catch (error) {
      // Strict timers or a monitor that are closed: neither the name nor timers may stay taken.
      this.#stopNews?.();
      this.#bans?.close();
      this.#sweep.close();
      this.#seats.close();
      throw error;
    }
  }

  /** @throws ERR_LIMITS_CONFLICT */
  #openBans(options: CheckedBans): Bans {
    const { ipv6PrefixBits = 64 } = this.#limits;
    const { driver } = this.#timers;
    const bans = new Bans(options, this.#options.name, ipv6PrefixBits, driver, this.#hooks);
    bans.spare((ip) => this.#isExempt(ip));
    if (this.#cluster !== undefined && this.#member !== undefined)
      bans.join(this.#cluster, this.#member);
    return bans;
  }

  /** Listens to the cluster; returns a function that ends it. */
  #listen(member: Membership | undefined): (() => void) | undefined {
    if (member === undefined) return undefined;
    const stops = [
      member.onNews((kind, data) => this.#news(kind, data)),
      member.onReplaced((ticket) => {
        const connection = this.#seats.replaced(ticket);
        if (connection !== undefined) this.#close(connection, REPLACED_CODE, REPLACED_REASON);
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }

  /** Puts the limits into effect that JavaScript enforces. */
  #applyLimits(): void {
    const limits = this.#limits;
    const rates: CheckedMessageRates = {
      messages: checkedMessageRate('messageRate', limits.messageRate),
      bytes: checkedMessageRate('byteRate', limits.byteRate),
      control: checkedControlRate(limits.controlRate),
      perUser: checkedMessageRate('messageRatePerUser', limits.messageRatePerUser),
      perIp: checkedMessageRate('messageRatePerIp', limits.messageRatePerIp),
    };
    // Arrival times of the old rates mean nothing to the new ones.
    for (const segment of this.#seats.segments) segment.forgetArrivals();
    const limiter = new MessageRateLimiter(rates, this.#isObserving);
    this.#owner.controlRate = limiter;
    const { exempt, closesOldest } = this.#options;
    this.#isPlain =
      this.#monitor === undefined && exempt === undefined && !closesOldest && !this.#isObserving;
    this.#owner.messageRate = limiter.limitsMessages ? limiter : undefined;
    this.#closer.setLimits(
      limits.maxClosingPerIp ?? limits.maxConnectionsPerIp ?? Infinity,
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
    if (this.#cluster === undefined) return this.#reserve(ip, userId);
    this.#checkSync('reserve');
    return this.#reserveOptimistic(ip, userId);
  }

  /** Takes a seat of this process, and asks the cluster afterwards. */
  #reserveOptimistic(
    ip: string,
    userId: string | undefined,
    trace?: LazyTrace,
  ): HeldLease | Refusal {
    const lease = this.#reserve(ip, userId, trace);
    if (!lease.success) return lease;
    const answer = this.#seats.ask(lease.handle, lease.userId, lease.isExempt);
    if (typeof answer === 'number') {
      if (answer === 0) return lease;
      this.#seats.abort(lease.handle);
      return this.#refuseShared(answer, lease);
    }
    lease.isUnconfirmed = true;
    lease.confirmation = answer.then((code) => this.#confirmed(lease, code));
    return lease;
  }

  /** Takes the cluster's answer to an optimistic admission. */
  #confirmed(lease: HeldLease, answer: number): void {
    const connection = lease.opened as ManagedConnection<S> | undefined;
    lease.isUnconfirmed = false;
    lease.opened = undefined;
    if (answer === 0) return;
    // Given back already, or never opened.
    if (connection === undefined ? !this.#seats.abort(lease.handle) : !this.#live.has(connection))
      return;
    const { code, reason } = this.#refuseShared(answer, lease, true);
    if (connection !== undefined) this.#closeLate(connection, code, reason);
  }

  /** Closes a connection that the cluster has refused afterwards. */
  #closeLate(connection: ManagedConnection<S>, code: RefusalCode, reason: string): void {
    this.#close(connection, CLIENT_CODES.has(code) ? 1008 : 1013, reason);
  }

  /** Refuses by an answer of the cluster. */
  #refuseShared(answer: number, { ip, userId, trace }: AskedClient, isLate = false): Refusal {
    const number = answer < 0 ? answer : answer % CODES;
    const code = CLUSTER_CODES[number] ?? refusalCodeOf(-number);
    // A rate over all processes knows when it admits again.
    this.#countRate(code, ip);
    const retryMs = answer >= CODES ? Math.floor(answer / CODES) : this.#retryAfterMs(code);
    return this.#refusals.refuse(code, ip, userId, retryMs, undefined, isLate, trace);
  }

  #reserve(ip: string, userId: string | undefined, trace?: LazyTrace): HeldLease | Refusal {
    const user = checkedOptionalUser(userId);
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    return this.refuseBanned(ip, user, trace) ?? this.#reserveUnbanned(ip, user, trace);
  }

  /**
   * Takes a seat as `reserve` does, for a client that its guard has judged by `refuseBanned`; without a cluster.
   * @internal
   */
  reserveJudged(ip: string, trace: LazyTrace | undefined): Lease | Refusal {
    return this.#reserveUnbanned(ip, undefined, trace);
  }

  #reserveUnbanned(
    ip: string,
    user: string | undefined,
    trace: LazyTrace | undefined,
  ): HeldLease | Refusal {
    const v4 = parseIpv4(ip);
    const handle = this.#take(true, ip, v4, user, undefined, trace);
    if (handle < 0) return this.#refuse(handle, ip, user, trace);
    const isFree = this.#cluster !== undefined && this.#isExempt(ip);
    return new HeldLease(this, handle, ip, user, v4, this.#openableSince(), isFree, trace);
  }

  /** Returns the number of sweeps for a new lease: that of `Seats.commit`. */
  #openableSince(): number {
    return this.#cluster === undefined && !this.#options.closesOldest
      ? this.#seats.sweeps
      : ASK_CORE;
  }

  /** @throws ERR_ASYNC_REQUIRED with a strict cluster, which cannot answer at once */
  #checkSync(method: string, remedy = 'admit() and commit()'): void {
    if (this.#cluster?.isStrict === true)
      throw new PortcullisError(
        'ERR_ASYNC_REQUIRED',
        `${method}() cannot ask a cluster: use ${remedy}`,
        { field: method },
      );
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
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions('admit', options, ['signal']);
    const { signal } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal))
      throw wrongType('signal', signal, 'an AbortSignal');
    const user = checkedOptionalUser(userId);
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    if (signal?.aborted === true) return this.#told('client_left', ip, user);
    const lease = this.#reserve(ip, userId);
    if (!lease.success || this.#cluster === undefined) return lease;
    if (signal === undefined) return this.confirm(lease);
    const abandon = (): void => void this.#seats.abort(lease.handle);
    signal.addEventListener('abort', abandon, { once: true });
    try {
      const outcome = await this.confirm(lease);
      // Aborted after the answer: the seat is given back already.
      return outcome.success && signal.aborted ? this.#told('client_left', ip, user) : outcome;
    } finally {
      signal.removeEventListener('abort', abandon);
    }
  }

  /** Returns the figures of this manager's cluster, if it has one that is open. @internal */
  clusterStats(): ClusterManagerStats | undefined {
    return this.#member === undefined ? undefined : this.#cluster?.statsOf(this.#member);
  }

  /** Asks for the processes of this manager's cluster. @throws as `cluster.nodes()`, as rejections @internal */
  async clusterNodes(): Promise<ClusterNode[]> {
    const parts = await this.#member?.ask('the processes are unknown', 'nodes', '');
    return clusterNodesOf(parts ?? []);
  }

  /** True if admissions wait for a cluster. @internal */
  get isClustered(): boolean {
    return this.#cluster !== undefined;
  }

  /**
   * Asks the cluster for the seat of a lease of `identify`, once. A lease that is given back meanwhile is refused.
   * @returns the lease, or a refusal, which has given the seat back; never rejects
   * @internal
   */
  async confirm(lease: Lease): Promise<Lease | Refusal> {
    const held = checkedLease(lease, this);
    const { handle, ip, userId, isExempt, trace } = held;
    const answer = await this.#seats.ask(handle, userId, isExempt);
    if (answer === 0 && !this.#isClosed) return lease;
    this.#seats.abort(handle);
    if (this.#isClosed) return this.#told('closed', ip, userId, trace);
    return this.#refuseShared(answer, held);
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
    const isFree = this.#isExempt(ip);
    const v4 = parseIpv4(ip);
    const answer = this.#mayAdmit() ?? this.#seats.arrive(ip, v4, isFree);
    if (answer < 0) return this.#refuse(answer, ip, undefined, trace);
    if (this.#isObserving) this.#observe(ip, undefined, trace);
    return new HeldLease(this, answer, ip, undefined, v4, ASK_CORE, isFree, trace);
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
    const held = checkedLease(lease, this);
    const { handle, ip, v4, isExempt, trace } = held;
    const answer = this.#isClosed
      ? CLOSED
      : this.#seats.identify(handle, user, this.#claimable(user), isExempt);
    if (answer === STALE) return this.#told('stale_lease', ip, user, trace);
    if (answer < 0) return this.#refuse(answer, ip, user, trace);
    if (this.#isObserving) this.#observe(ip, user, trace);
    held.sweeps = REPLACED;
    return new HeldLease(this, handle, ip, user, v4, this.#openableSince(), isExempt, trace);
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
    if (!host.waitsForAnswer) this.#closer.terminatesFloods = true;
    this.#reading.add(host);
  }

  /** Returns the negative answer for every newcomer, or `undefined` while there is none. */
  #mayAdmit(): number | undefined {
    if (this.#isClosed) return CLOSED;
    if (this.#monitor === undefined) return undefined;
    this.#shedMs = this.#monitor.shedMs();
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
    const isFree = this.#isExempt(ip);
    const answer =
      this.#mayAdmit() ??
      this.#seats.takeFor(isLease, ip, v4, user, isFree, this.#claimable(user), replaces);
    if (this.#isObserving && answer >= 0) this.#observe(ip, user, trace);
    return answer;
  }

  /** True for a client that the limits of its address do not refuse. */
  #isExempt(ip: string): boolean {
    const { exempt } = this.#options;
    return exempt !== undefined && isExempt(exempt, ip, this.#hooks);
  }

  /** Returns how many connections of a user newcomers may close. */
  #claimable(user: string | undefined): number {
    if (user === undefined || !this.#options.closesOldest) return 0;
    // The cluster finds the connection to close.
    return this.#cluster === undefined ? this.#live.countOf(user) : SLOTS_MAX;
  }

  get #isObserving(): boolean {
    return this.#limits.mode === 'observe';
  }

  /** Reports the limit that would have refused the latest admission. */
  #observe(ip: string, user: string | undefined, trace?: RequestTrace): void {
    const code = this.#seats.observed();
    if (code !== undefined) this.#refusals.observe(code, ip, user, this.#retryAfterMs(code), trace);
  }

  /** Closes the user's oldest connection; `false` if none may be closed. */
  #closeOldest(user: string | undefined): boolean {
    const oldest = user === undefined ? undefined : this.#live.oldestOf(user);
    return oldest !== undefined && this.#close(oldest, REPLACED_CODE, REPLACED_REASON);
  }

  /** Makes the refusal for a negative answer of `#take`. */
  #refuse(answer: number, ip: string, user: string | undefined, trace?: RequestTrace): Refusal {
    if (answer !== OVERLOAD) return this.#told(refusalCodeOf(answer), ip, user, trace);
    const cause = this.#monitor?.shedCause;
    return this.#refusals.refuse('overload', ip, user, this.#shedMs, cause, false, trace);
  }

  /** Makes, counts and reports a refusal. @param trace of the handshake, if there was one */
  #told(code: RefusalCode, ip: string, user: string | undefined, trace?: RequestTrace): Refusal {
    this.#countRate(code, ip);
    const retryMs = this.#retryAfterMs(code);
    return this.#refusals.refuse(code, ip, user, retryMs, undefined, false, trace);
  }

  /** Returns the time until a client refused with `code` may be admitted, ms: an estimate unless a rate knows it. */
  #retryAfterMs(code: RefusalCode): number {
    if (code === 'ip_rate' || code === 'user_rate') return this.#seats.retryAfterMs;
    const limit = seatsOf(code, this.#limits);
    return limit === undefined || this.#isClosed
      ? this.#retry.withoutSeats()
      : this.#retry.forSeats(limit, this.#loop.ticked, this.#counts);
  }

  #countRate(code: RefusalCode, ip: string): void {
    if (code === 'ip_rate' || code === 'user_rate') this.rateRefused(ip);
  }

  /** True if addresses can be banned. @internal */
  get hasBans(): boolean {
    return this.#bans !== undefined;
  }

  /**
   * Refuses a client whose address is banned; asked first of all.
   * @returns `undefined` for all others
   * @internal
   */
  refuseBanned(ip: string, user?: string, trace?: RequestTrace): Refusal | undefined {
    const leftMs = this.#isClosed ? 0 : (this.#bans?.leftMs(ip) ?? 0);
    if (leftMs === 0) return undefined;
    if (!this.#isObserving)
      return this.#refusals.refuse('banned', ip, user, leftMs, undefined, false, trace);
    this.#refusals.observe('banned', ip, user, leftMs, trace);
    return undefined;
  }

  /** Counts a failure of a client towards a ban. @internal */
  failed(ip: string): void {
    if (!this.#isClosed) this.#bans?.failed(ip);
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
   * Refuses a handshake that may not wait for its identity, as a limit of its guard.
   * @internal
   */
  refusePending(
    code: 'pending_limit' | 'pending_ip_limit',
    ip: string,
    trace?: LazyTrace,
  ): Refusal {
    return this.#told(code, ip, undefined, trace);
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
   * @throws ERR_INVALID_ARG_TYPE; the lease is then as it was
   */
  commit(lease: Lease, id: string, socket: S, metadata?: MetadataInput): AdmissionResult<S> {
    checkConnection(id, socket, metadata);
    return this.#commit(lease, id, socket, metadata);
  }

  /**
   * Opens a leased connection as `commit` does, without an id: one is made when it is first read.
   * @internal
   */
  commitUnnamed(lease: Lease, socket: S, metadata: MetadataInput): AdmissionResult<S> {
    return this.#commit(lease, undefined, socket, metadata);
  }

  #commit(
    lease: Lease,
    id: string | undefined,
    socket: S,
    metadata: MetadataInput | undefined,
  ): AdmissionResult<S> {
    const held = checkedLease(lease, this);
    const { handle, ip, v4, userId, trace } = held;
    // Closing has ended the leases: the core says so.
    const seat = this.#seats.commit(handle, this.#isClosed ? ASK_CORE : held.sweeps);
    held.sweeps = ASK_CORE;
    if (seat === 'stale') return this.#told('stale_lease', ip, userId, trace);
    const slot = slotOf(handle);
    // A cluster that is up has closed the oldest one already, or does so before it confirms the lease.
    const isOver = seat === 'over' && !held.isUnconfirmed && !this.#isExact;
    const result = this.#openOrUndo(slot, isOver, id, socket, ip, v4, userId, metadata, trace);
    // The values: a connection must not keep the request of its handshake.
    if (trace !== undefined) result.connection?.hasTrace(trace.values);
    const { confirmation } = held;
    if (held.isUnconfirmed && result.connection !== undefined && confirmation !== undefined) {
      held.opened = result.connection;
      void this.#unconfirmed.run(result.connection, () => confirmation);
    }
    return result;
  }

  /** True while a cluster decides. */
  get #isExact(): boolean {
    return this.#member?.figures()?.state === STATES.indexOf('up');
  }

  /**
   * Opens a taken slot, or gives it back if the id is in use. Making room for the id may close a
   * socket, which may call back and take the id, or close the manager.
   * @param isOver true if the user is over the limit until the oldest connection is closed
   */
  #openOrUndo(
    slot: number,
    isOver: boolean,
    id: string | undefined,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: MetadataInput | undefined,
    trace?: LazyTrace,
  ): AdmissionResult<S> {
    const closes = this.#closes;
    const hash = id === undefined ? 0 : hashOf(id);
    let code: RefusalCode | undefined;
    if (this.#isClosed) code = 'closed';
    else if (id !== undefined && !this.#makeRoom(id, hash)) code = 'duplicate_id';
    // Asked again: the connection of that id may have been the one too many. If the user has none here
    // any more, another manager's connection has taken the place.
    else if (isOver && this.#seats.isOver(slot) && !this.#closeOldest(userId)) code = 'user_limit';
    else if (closes !== this.#closes) {
      if (this.#isClosed) code = 'closed';
      else if (id !== undefined && this.#live.find(id, hash) !== undefined) code = 'duplicate_id';
    }
    if (code === undefined) return this.#open(slot, id, hash, socket, ip, v4, userId, metadata);
    this.#seats.undo(slot);
    return this.#told(code, ip, userId, trace);
  }

  /** True if the id is free, or was made free by a takeover. */
  #makeRoom(id: string, hash: number): boolean {
    const present = this.#live.find(id, hash);
    if (present === undefined) return true;
    return this.#options.takesOver && this.#close(present, REPLACED_CODE, REPLACED_REASON);
  }

  #open(
    slot: number,
    id: string | undefined,
    hash: number,
    socket: S,
    ip: string,
    v4: number,
    userId: string | undefined,
    metadata: MetadataInput | undefined,
  ): AdmissionResult<S> {
    const connection = this.#live.add(slot, id, hash, socket, ip, v4, userId, metadata);
    this.#admitted++;
    if (userId !== undefined) this.#tellUser(userId);
    return { success: true, connection };
  }

  /**
   * Gives a lease back before its connection has opened.
   * @returns `false` if the lease was used or has expired
   * @throws ERR_INVALID_ARG_TYPE
   */
  abort(lease: Lease): boolean {
    const held = checkedLease(lease, this);
    if (held.sweeps === REPLACED) return false;
    held.sweeps = ASK_CORE;
    return this.#seats.abort(held.handle);
  }

  /**
   * Admits a connection in one step: `reserve` and `commit` in one native call.
   * @param id 1 to 1024 characters, unique among the live connections
   * @param socket an object with a method `close(code, reason)`
   * @param ip address of the client, in any usual notation; anything else counts as unknown
   * @param userId the user, if known: up to 1024 characters, empty for none
   * @param metadata further data on the client
   * @returns the connection, or a refusal with `reason`, `code` and `retryAfterMs`
   * @throws ERR_INVALID_ARG_TYPE; ERR_ASYNC_REQUIRED with a cluster that is `strict`: use `admit` and `commit`; see
   * `reserve` for others
   */
  addConnection(
    id: string,
    socket: S,
    ip: string,
    userId?: string,
    metadata?: MetadataInput,
  ): AdmissionResult<S> {
    if (this.#cluster !== undefined) this.#checkSync('addConnection');
    checkConnection(id, socket, metadata);
    const user = checkedOptionalUser(userId);
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    const banned = this.refuseBanned(ip, user);
    if (banned !== undefined) return banned;
    const closes = this.#closes;
    const hash = hashOf(id);
    const present = this.#live.find(id, hash);
    if (present !== undefined && !this.#options.takesOver)
      return this.#told('duplicate_id', ip, user);
    if (this.#cluster !== undefined) {
      const lease = this.#reserveOptimistic(ip, user);
      return lease.success ? this.commit(lease, id, socket, metadata) : lease;
    }
    const v4 = parseIpv4(ip);
    // The seat of the old connection counts as free: a refused newcomer takes nothing over.
    const taken = this.#take(false, ip, v4, user, present);
    if (taken < 0) return this.#refuse(taken, ip, user);
    // The function `exempt` may have added a connection of this id.
    const isSimple = closes === this.#closes && this.#options.exempt === undefined;
    if (taken < SLOTS_MAX && present === undefined && isSimple)
      return this.#open(taken, id, hash, socket, ip, v4, user, metadata);
    const slot = taken % SLOTS_MAX;
    return this.#openOrUndo(slot, taken >= SLOTS_MAX, id, socket, ip, v4, user, metadata);
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
    const { ip, trace } = connection;
    if (this.#cluster !== undefined) this.#checkSync('bindUser', 'identify()');
    if (slot < 0 || this.#isClosed) return this.#told('closed', ip, userId, trace);
    if (this.#cluster !== undefined) return this.#bindOptimistic(connection, slot, userId);
    const answer = this.#seats.bindUser(slot, userId);
    if (answer !== 1) return this.#refuse(answer, ip, userId, trace);
    if (this.#isObserving) this.#observe(ip, userId, trace);
    this.#live.bind(connection, userId);
    this.#tellUser(userId);
    return { success: true };
  }

  /** Moves a seat, and asks the cluster afterwards. */
  #bindOptimistic(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): { readonly success: true } | Refusal {
    const late = (outcome: { readonly success: true } | Refusal): void => {
      if (!outcome.success && this.#live.has(connection))
        this.#closeLate(connection, outcome.code, outcome.reason);
    };
    if (this.#unconfirmed.isBusy(connection)) {
      void this.#unconfirmed.run(connection, () => this.#move(connection, userId, true).then(late));
      return { success: true };
    }
    const answer = this.#seats.askMove(slot, userId);
    if (typeof answer === 'number') return this.#moved(connection, userId, answer, false);
    this.#live.bind(connection, userId);
    this.#tellUser(userId);
    void this.#unconfirmed.run(connection, () =>
      answer.then((code) => late(this.#moved(connection, userId, code, true))),
    );
    return { success: true };
  }

  /** Moves a seat once the cluster has agreed, if there is one. */
  async #login(
    connection: ManagedConnection<S>,
    slot: number,
    userId: string,
  ): Promise<{ readonly success: true } | Refusal> {
    if (this.#cluster === undefined) return this.#bind(connection, slot, userId);
    if (slot < 0) return this.#told('closed', connection.ip, userId);
    return this.#unconfirmed.run(connection, () => this.#move(connection, userId, false));
  }

  /** Asks the cluster to move a seat. */
  async #move(
    connection: ManagedConnection<S>,
    userId: string,
    isLate: boolean,
  ): Promise<{ readonly success: true } | Refusal> {
    const { slot } = connection;
    // Closed while it waited for its turn.
    const answer = this.#live.has(connection) ? await this.#seats.askMove(slot, userId) : STALE;
    return this.#moved(connection, userId, answer, isLate);
  }

  /** Takes the answer to a move. A connection that has ended meanwhile holds no seat of either user. */
  #moved(
    connection: ManagedConnection<S>,
    userId: string,
    answer: number,
    isLate: boolean,
  ): { readonly success: true } | Refusal {
    const { ip, trace } = connection;
    if (!this.#live.has(connection)) {
      // No caller waits for the outcome of a late move.
      if (isLate) return { success: true };
      return this.#told(this.#isClosed ? 'closed' : 'client_left', ip, userId);
    }
    this.#seats.endMove(connection.slot, answer === 0);
    if (answer > 0) return this.#refuseShared(answer, { ip, userId, trace }, isLate);
    if (answer < 0) {
      const code = answer === STALE ? 'closed' : refusalCodeOf(answer);
      return this.#refusals.refuse(
        code,
        ip,
        userId,
        this.#retryAfterMs(code),
        undefined,
        isLate,
        trace,
      );
    }
    // An optimistic call has told it already.
    if (connection.userId !== userId) {
      this.#live.bind(connection, userId);
      this.#tellUser(userId);
    }
    return { success: true };
  }

  #tellUser(userId: string): void {
    // The seat is taken: a listener that throws must not fail the call.
    for (const listener of this.userListeners)
      this.#hooks.run('userListener', () => listener(userId));
  }

  #rateExceeded(connection: ManagedConnection<S>, rate: ExceededRate, action: RateAction): void {
    this.#overRate++;
    const { onRateExceeded } = this.#options;
    if (onRateExceeded !== undefined)
      this.#hooks.run('onRateExceeded', () => onRateExceeded(connection, rate, action));
    if (action === 'close') this.#close(connection, 1008, RATE_REASONS[rate], true);
  }

  /**
   * Gives the seat back, then closes the socket; `false` if the connection was released before.
   * @param isFlood true if nothing that the client still sends is to be read
   */
  #close(connection: ManagedConnection<S>, code: number, reason: string, isFlood = false): boolean {
    if (!connection.isAlive) return false;
    this.#closes++;
    this.#live.remove(connection);
    this.#closer.close(connection, code, reason, isFlood);
    return true;
  }

  /**
   * Closes all connections that have been idle for longer than `connectionTimeoutMs`, at once. The
   * timer does the same in batches.
   * @returns the number of connections closed
   */
  cleanupStaleConnections(): number {
    const before = this.#evicted;
    this.#sweep.runAll();
    return this.#evicted - before;
  }

  /**
   * Closes an idle connection, unless the eviction of another one has closed it, or it is not the client
   * who is silent.
   */
  #evict(connection: ManagedConnection<S>): void {
    if (connection.isAlive && this.#reading.isBusy(connection)) return void connection.touch();
    if (!this.#close(connection, 1001, 'Connection timeout')) return;
    this.#evicted++;
    const { onEvict } = this.#options;
    if (onEvict !== undefined) this.#hooks.run('onEvict', () => onEvict(connection));
  }

  /** Open connections and leases of the index. @internal */
  get total(): number {
    return this.#isClosed ? 0 : this.#seats.total;
  }

  /** Monitor that counts the connections, if there is one. @internal */
  get monitor(): ResourceMonitor | undefined {
    return this.#monitor;
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
    return !this.#isClosed;
  }

  /** @throws ERR_CLOSED after `close()`: the index may still be open, for others of its name */
  #checkOpen(consequence: string): void {
    if (this.#isClosed)
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
    return {
      totalConnections: total,
      connectionsByIp: addresses,
      connectionsByUser: users,
      anonymousConnections: anonymous,
      admitted: this.#admitted,
      refused: this.#refusals.snapshot(),
      observed: this.#refusals.observed(),
      closing: this.#closer.closing,
      terminated: this.#closer.terminated,
      evicted: this.#evicted,
      messageRateKeys: keys,
      messagesOverRate: this.#overRate,
      bans: this.#bans?.stats(),
      limits: this.#limits,
    };
  }

  /** The same as `snapshot()`. */
  getStats(): ConnectionStats {
    return this.snapshot();
  }

  /**
   * Replaces some limits. Counts stay, and no connection is closed for a lower limit; rates of
   * messages and bytes begin anew.
   *
   * With a cluster, the limits that count over all processes change on all of them; see `await cluster.settled()`. The
   * other limits are this process's and change at once.
   * @param changes limits to replace; `undefined` lifts one
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; ERR_OUT_OF_RANGE, also for another
   * `ipv6PrefixBits`, and `mode: 'observe'` with a cluster; ERR_CLOSED after `close()`. Nothing has changed then.
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
    if (this.#member !== undefined && merged.mode === 'observe')
      throw outOfRange('mode', 'observe', "'enforce' with a cluster");
    this.#checkOpen('its limits cannot change');
    if (this.#member !== undefined) return this.#updateShared(this.#member, changes, merged);
    this.#seats.setLimits(numbers);
    this.#limits = merged;
    this.#applyLimits();
  }

  /** Changes the limits of all processes, and those of this one alone at once. */
  #updateShared(
    member: Membership,
    changes: ConnectionLimits,
    merged: Readonly<ConnectionLimits>,
  ): void {
    const inForce = member.figures()?.limits ?? clusterNumbers(checkedLimits(this.#limits));
    const given = frozenLimits(changes);
    // Merged again when it is its turn: another change may be under way.
    member.changeLimits(() =>
      clusterNumbers(checkedLimits(frozenLimits({ ...this.#limits, ...given }))),
    );
    this.#limits = frozenLimits(withClusterLimits(merged, inForce));
    this.#applyLimits();
  }

  /** Puts limits into effect that the cluster has in force. */
  #takeLimits(inForce: readonly number[]): void {
    this.#limits = frozenLimits(withClusterLimits(this.#limits, inForce));
    this.#seats.setLimits(inForceNumbers(checkedLimits(this.#limits), inForce));
    this.#applyLimits();
  }

  #news(kind: string, data: readonly string[]): void {
    if (kind === 'limits') this.#takeLimits(data.slice(1).map(Number));
    else if (kind === 'k') {
      const kick = JSON.parse(data[0] ?? '') as Kick;
      if (kick.from !== this.#id) this.#closeHere(kick.user, kick.code, kick.reason);
    }
  }

  /**
   * Returns the connections of a user in this manager, oldest first. The first call looks at every connection; later
   * ones do not.
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
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions('closeUser', options, ['code', 'reason']);
    const code = options.code ?? CLOSE_USER_CODE;
    checkCloseCode(code);
    const reason = cutReason(options.reason ?? '');
    // The count before the close: the server's is taken while the seats come back.
    const kick: Kick = { from: this.#id, user: userId, code, reason };
    const told = this.#member?.ask('only this process closes', 'kick', userId, [
      JSON.stringify(kick),
    ]);
    const closed = this.#closeHere(userId, code, reason);
    if (told === undefined) return { connections: closed };
    return { connections: Number((await told)[0]) };
  }

  #closeHere(userId: string, code: number, reason: string): number {
    let closed = 0;
    for (const connection of this.#live.of(userId))
      if (this.#close(connection, code, reason)) closed++;
    return closed;
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
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopNews?.();
    this.#bans?.close();
    this.#sweep.close();
    for (const connection of this.connections.values())
      this.#close(connection, 1001, 'Server shutdown');
    this.#seats.close();
    this.#monitor?.detach(this);
    if (this.#options.ownsTimers) this.#closer.whenDone(() => void this.#timers.cleanup());
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
