/**
 * The seats of one manager that has a cluster: the cluster is asked for each of them, before the client
 * is admitted (`admit`, `move`) or afterwards (`reserve`, `add`, `bind`). A client that is refused
 * afterwards is closed. Also the news of the cluster, and the requests to it.
 */
import { PortcullisError } from '../base/errors.js';
import { randomUUID } from '../base/random.js';
import type { RequestTrace } from '../base/trace.js';
import type { Cluster } from '../cluster/cluster.js';
import { ABANDONED, CODES, LEFT, OVERLOADED, UNREACHABLE } from '../cluster/codes.js';
import type { Membership } from '../cluster/membership.js';
import { type ClusterNode, clusterNodesOf } from '../cluster/presence.js';
import type { ClusterManagerStats } from '../cluster/stats.js';
import type { Admissions } from './admissions.js';
import { clusterNumbers, withClusterLimits } from './cluster-limits.js';
import type { HostId, ManagedConnection, ManagedSocket } from './connection.js';
import type { AdmissionResult, HeldLease } from './lease.js';
import { checkedLimits, type ConnectionLimits, frozenLimits } from './limits.js';
import type { LiveConnections } from './live-connections.js';
import type { GivenMetadata } from './metadata.js';
import { MoveQueue } from './move-queue.js';
import type { Refusal, RefusalCode } from './refusal.js';
import type { Refusals } from './refusals.js';
import { refusalCodeOf, type Seats, STALE } from './seats.js';

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

/** The parts of a manager that its shared seats change. @internal */
export interface SharedSeatsParts<S extends ManagedSocket> {
  readonly seats: Seats<ManagedConnection<S>>;
  readonly live: LiveConnections<S>;
  readonly admissions: Admissions<S>;
  readonly refusals: Refusals;
}

/** Asks the cluster for the seats of one manager. @internal */
export class SharedSeats<S extends ManagedSocket> {
  readonly #cluster: Cluster;
  readonly #member: Membership;
  readonly #seats: Seats<ManagedConnection<S>>;
  readonly #live: LiveConnections<S>;
  readonly #admissions: Admissions<S>;
  readonly #refusals: Refusals;
  /** Tells this manager from all others of the name. */
  readonly #id = randomUUID();
  /** Connections whose admission or user the cluster has not confirmed yet. */
  readonly #unconfirmed = new MoveQueue<ManagedConnection<S>>();

  constructor(
    cluster: Cluster,
    member: Membership,
    { seats, live, admissions, refusals }: SharedSeatsParts<S>,
  ) {
    this.#cluster = cluster;
    this.#member = member;
    this.#seats = seats;
    this.#live = live;
    this.#admissions = admissions;
    this.#refusals = refusals;
  }

  /**
   * Listens to the cluster.
   * @param takeLimits called with the limits that are in force from now on
   * @returns a function that ends it
   */
  listen(takeLimits: (inForce: readonly number[]) => void): () => void {
    const stops = [
      this.#member.onNews((kind, data) => {
        if (kind === 'limits') takeLimits(data.slice(1).map(Number));
        else if (kind === 'k') this.#kicked(JSON.parse(data[0] ?? '') as Kick);
      }),
      this.#member.onReplaced((ticket) => {
        const connection = this.#seats.replaced(ticket);
        if (connection !== undefined) this.#admissions.replace(connection);
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }

  /** @throws ERR_ASYNC_REQUIRED with a strict cluster, which cannot answer at once */
  checkSync(method: string, remedy = 'admit() and commit()'): void {
    if (this.#cluster.isStrict)
      throw new PortcullisError(
        'ERR_ASYNC_REQUIRED',
        `${method}() cannot ask a cluster: use ${remedy}`,
        { field: method },
      );
  }

  /** Asks the cluster for the seat of a lease, once; a refusal has given the seat back. */
  async confirm(lease: HeldLease): Promise<HeldLease | Refusal> {
    const { handle, ip, userId, isExempt, trace } = lease;
    const answer = await this.#seats.ask(handle, userId, isExempt);
    if (answer === 0 && !this.#admissions.isClosed) return lease;
    this.#seats.abort(handle);
    if (this.#admissions.isClosed) return this.#refusals.refuse('closed', ip, userId, trace);
    return this.#refuse(answer, lease);
  }

  /** Confirms a lease unless the client leaves meanwhile: its seat is given back at once. */
  async confirmUnlessAborted(lease: HeldLease, signal: AbortSignal): Promise<HeldLease | Refusal> {
    const { ip, userId } = lease;
    const abandon = (): void => void this.#seats.abort(lease.handle);
    signal.addEventListener('abort', abandon, { once: true });
    try {
      const outcome = await this.confirm(lease);
      // Aborted after the answer: the seat is given back already.
      return outcome.success && signal.aborted
        ? this.#refusals.refuse('client_left', ip, userId)
        : outcome;
    } finally {
      signal.removeEventListener('abort', abandon);
    }
  }

  /** Takes a seat of this process, and asks the cluster afterwards. */
  reserve(ip: string, user: string | undefined): HeldLease | Refusal {
    const lease = this.#admissions.reserve(ip, user);
    if (!lease.success) return lease;
    const answer = this.#seats.ask(lease.handle, lease.userId, lease.isExempt);
    if (typeof answer === 'number') {
      if (answer === 0) return lease;
      this.#seats.abort(lease.handle);
      return this.#refuse(answer, lease);
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
    const { code, reason } = this.#refuse(answer, lease, true);
    if (connection !== undefined) this.#closeLate(connection, code, reason);
  }

  /** Closes a connection that the cluster has refused afterwards. */
  #closeLate(connection: ManagedConnection<S>, code: RefusalCode, reason: string): void {
    this.#admissions.close(connection, CLIENT_CODES.has(code) ? 1008 : 1013, reason);
  }

  /** Refuses by an answer of the cluster. */
  #refuse(answer: number, { ip, userId, trace }: AskedClient, isLate = false): Refusal {
    const number = answer < 0 ? answer : answer % CODES;
    const code = CLUSTER_CODES[number] ?? refusalCodeOf(-number);
    // A rate over all processes knows when it admits again.
    const retryMs = answer >= CODES ? Math.floor(answer / CODES) : undefined;
    return this.#refusals.refuse(code, ip, userId, trace, retryMs, isLate);
  }

  /** Opens a leased connection, which may end once the cluster has answered. */
  commit(
    lease: HeldLease,
    id: string | HostId<S> | undefined,
    socket: S,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    const result = this.#admissions.commit(lease, id, socket, metadata);
    const { confirmation } = lease;
    if (lease.isUnconfirmed && result.connection !== undefined && confirmation !== undefined) {
      lease.opened = result.connection;
      void this.#unconfirmed.run(result.connection, () => confirmation);
    }
    return result;
  }

  /** Takes a seat of this process and opens it, and asks the cluster afterwards. The arguments are checked. */
  add(
    id: string,
    socket: S,
    ip: string,
    user: string | undefined,
    metadata: GivenMetadata | undefined,
  ): AdmissionResult<S> {
    if (this.#admissions.isTaken(id)) return this.#refusals.refuse('duplicate_id', ip, user);
    const lease = this.reserve(ip, user);
    return lease.success ? this.commit(lease, id, socket, metadata) : lease;
  }

  /** Moves a seat, and asks the cluster afterwards. */
  bind(
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
    this.#admissions.bound(connection, userId);
    void this.#unconfirmed.run(connection, () =>
      answer.then((code) => late(this.#moved(connection, userId, code, true))),
    );
    return { success: true };
  }

  /** Moves a seat once the cluster has agreed, after the earlier moves of the connection. */
  move(
    connection: ManagedConnection<S>,
    userId: string,
  ): Promise<{ readonly success: true } | Refusal> {
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
      return this.#refusals.refuse(
        this.#admissions.isClosed ? 'closed' : 'client_left',
        ip,
        userId,
      );
    }
    this.#seats.endMove(connection.slot, answer === 0);
    if (answer > 0) return this.#refuse(answer, { ip, userId, trace }, isLate);
    if (answer < 0) {
      const code = answer === STALE ? 'closed' : refusalCodeOf(answer);
      return this.#refusals.refuse(code, ip, userId, trace, undefined, isLate);
    }
    // An optimistic call has told it already.
    if (connection.userId !== userId) this.#admissions.bound(connection, userId);
    return { success: true };
  }

  /**
   * Closes the connections of a user, in all processes.
   * @returns those that were open
   * @throws ERR_CLUSTER_UNREACHABLE if only those of this manager were closed
   */
  async closeUser(user: string, code: number, reason: string): Promise<number> {
    const kick: Kick = { from: this.#id, user, code, reason };
    // The count before the close: the server's is taken while the seats come back.
    const told = this.#member.ask('only this process closes', 'kick', user, [JSON.stringify(kick)]);
    this.#admissions.closeUser(user, code, reason);
    return Number((await told)[0]);
  }

  #kicked({ from, user, code, reason }: Kick): void {
    if (from !== this.#id) this.#admissions.closeUser(user, code, reason);
  }

  /**
   * Changes the limits of all processes.
   * @param changed names of the limits that change
   * @param merged the limits of this manager with the changes; a limit that is lifted is absent
   * @param current returns the limits of this manager when it is the turn of the change
   * @returns the limits of this manager until then: those that count over all processes stay as they are
   */
  changeLimits(
    changed: readonly string[],
    merged: Readonly<ConnectionLimits>,
    current: () => Readonly<ConnectionLimits>,
  ): Readonly<ConnectionLimits> {
    const inForce = this.#member.figures()?.limits ?? clusterNumbers(checkedLimits(current()));
    // A lifted limit is `undefined` here: it must not stay as it is.
    const given = Object.fromEntries(
      changed.map((name) => [name, merged[name as keyof ConnectionLimits]]),
    );
    // Merged again when it is its turn: another change may be under way.
    this.#member.changeLimits(() =>
      clusterNumbers(checkedLimits(frozenLimits({ ...current(), ...given }))),
    );
    return frozenLimits(withClusterLimits(merged, inForce));
  }

  /** Returns the figures of the cluster; `undefined` once it is closed. */
  stats(): ClusterManagerStats | undefined {
    return this.#cluster.statsOf(this.#member);
  }

  /** Asks for the processes of the cluster. @throws as `cluster.nodes()`, as rejections */
  async nodes(): Promise<ClusterNode[]> {
    return clusterNodesOf(await this.#member.ask('the processes are unknown', 'nodes', ''));
  }
}
