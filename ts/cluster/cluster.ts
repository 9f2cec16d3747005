/** One limit over all processes: the end of one JavaScript thread. The work is done in `src/cluster`. */
import { messageOf, outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions, optionsObject, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { type ClusterFigures, NativeCluster } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import { readWakeSocket, type WakeSocket } from '../native/wake-socket.js';
import { TimerManager } from '../timers/manager.js';
import { checkedRate, ClusterLimiter, type ClusterLimiterOptions, RateNames } from './limiter.js';
import { Membership } from './membership.js';
import {
  type CheckedClusterOptions,
  checkedCluster,
  type ClusterOptions,
  withoutUndefined,
} from './options.js';
import {
  BUCKETS,
  type ClusterNode,
  clusterNodesOf,
  merged,
  type OnlineUsers,
  processOf,
  type UserNode,
  userNodesOf,
} from './presence.js';
import { type ClusterManagerStats, type ClusterState, type ClusterStats, STATES } from './stats.js';

/** Answers that one look takes. */
const ANSWERS_MAX = 256;
/** States from the best to the worst. */
const SEVERITY: readonly ClusterState[] = ['up', 'settling', 'joining', 'unreachable', 'closed'];
const CONFIG_CODES = ['ERR_CLUSTER_CONFIG', 'ERR_CLUSTER_INCOMPATIBLE'] as const;

/** Begins the names of members that count no connections: no manager's name holds it. */
const CHANNEL = '\0';
/** Limits of a member that counts no connections. */
const NO_LIMITS: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0];
const REASON_MAX = 256;

/** A process that has joined or left. */
export interface ClusterMember {
  /** Id of the process, as `nodes()` has it. */
  readonly id: string;
  /** Name of the process: its option `nodeName`. */
  readonly name: string;
}

/** Listeners of a `Cluster`, by event. The last argument but one of each is the manager's name. */
export interface ClusterEvents {
  /** The state of a manager has changed; with the problem, if there is one. */
  state: (state: ClusterState, name: string, problem: string | undefined) => void;
  /** A process has joined; or joined again, after the server has lost something. */
  memberJoined: (member: ClusterMember, name: string) => void;
  /** A process has left, or was declared dead: its seats are free. */
  memberLost: (member: ClusterMember, name: string, reason: 'left' | 'dead') => void;
  /** The server had lost or changed so many counts by itself; they were put right. */
  drift: (counts: number, name: string) => void;
  /**
   * More is open than a limit allows, since processes were cut off: connections over the total, or users over their
   * limit among those that this process has just told. Nobody is closed for it.
   */
  overLimit: (over: { readonly connections: number; readonly users: number }, name: string) => void;
}

type Listeners = { readonly [E in keyof ClusterEvents]: Set<ClusterEvents[E]> };

/**
 * Splits `CODE: message` of the core.
 * @param field the option at fault, unless the message names one of TLS
 */
function errorOf(error: unknown, field = 'cluster'): unknown {
  const message = messageOf(error);
  const found =
    /^(ERR_CLUSTER_CONFLICT|ERR_CLUSTER_CONFIG|ERR_CLOSED|ERR_UNSUPPORTED|ERR_NO_THREAD): (.*)$/s.exec(
      message,
    );
  return found === null
    ? error
    : new PortcullisError(found[1] as 'ERR_CLUSTER_CONFLICT', found[2] ?? '', {
        field: /\btls\.\w+/.exec(found[2] ?? '')?.[0] ?? field,
      });
}

/**
 * Counts connections over all processes that name the same server, prefix and manager name, on one Redis (6.2 or
 * newer) or Valkey server. The seats of a process that dies are free after `leaseMs`. Give it to a manager or a
 * guard as `cluster`, with a `name`; the adapters then ask it before each upgrade.
 *
 * Connecting and joining happen in the background and never throw; see `ready` and `snapshot`. The methods act
 * for the managers of this process that use the cluster. Without one, `count` returns 0, `nodes` returns an empty list,
 * and `drain` and `resume` reject.
 *
 * @example
 * const cluster = new Cluster({ url: 'redis://127.0.0.1:6379' });
 * const manager = new ConnectionManager({ maxConnectionsPerUser: 5 }, { name: 'chat', cluster });
 * await cluster.ready({ timeoutMs: 10_000 });
 * const lease = await manager.admit(ip, userId);
 * if (lease.success) manager.commit(lease, id, socket);
 */
export class Cluster {
  readonly #options: CheckedClusterOptions;
  readonly #native: NativeCluster;
  readonly #socket: WakeSocket;
  readonly #answers = sharedArray(Float64Array, 3 * ANSWERS_MAX);
  readonly #members = new Map<number, Membership>();
  readonly #rates = new RateNames();
  /** State of the limiters and revocations that was told last. */
  #toldStanding: ClusterState = 'joining';
  readonly #hooks = new Hooks();
  readonly #listeners: Listeners = {
    state: new Set(),
    memberJoined: new Set(),
    memberLost: new Set(),
    drift: new Set(),
    overLimit: new Set(),
  };
  #held = 0;
  #isClosed = false;

  /**
   * @param options see `ClusterOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_CLUSTER_CONFIG for TLS or a URL that
   * cannot be used; ERR_UNSUPPORTED on Windows
   */
  constructor(options: ClusterOptions) {
    this.#options = checkedCluster(options);
    const { urls, strict: _, ...rest } = this.#options;
    try {
      this.#native = new NativeCluster(this.#answers, {
        urls: [...urls],
        ...withoutUndefined(rest),
      });
    } catch (error) {
      throw errorOf(error, options.urls === undefined ? 'url' : 'urls');
    }
    this.#socket = readWakeSocket(this.#native.takeDescriptor(), () => this.#drain());
  }

  /** Counts the managers whose clients wait: the process stays alive for their answers. */
  #hold(isHeld: boolean): void {
    this.#held += isHeld ? 1 : -1;
    if (this.#held === (isHeld ? 1 : 0)) this.#socket.hold(isHeld);
  }

  /**
   * Joins for a manager. Managers of one name have one member, which stays until the cluster is closed.
   * @param limits as `checkedLimits` returns them
   * @param closesOldest whether newcomers replace the oldest connection of their user
   * @throws ERR_CLOSED; ERR_CLUSTER_CONFLICT if the name is in use with other limits, or by another thread with
   * other options; ERR_NO_THREAD
   * @internal
   */
  join(name: string, limits: number[], closesOldest = false): Membership {
    if (this.#isClosed) throw new PortcullisError('ERR_CLOSED', 'the cluster is closed');
    const numbers = `${limits.join()} ${closesOldest}`;
    for (const member of this.#members.values()) {
      if (member.name !== name) continue;
      if (member.limits === numbers) return member;
      throw new PortcullisError(
        'ERR_CLUSTER_CONFLICT',
        'the cluster counts managers of that name with other limits or another `onFull`: close it first',
        { field: 'limits' },
      );
    }
    let id: number;
    try {
      id = this.#native.join(name, limits, closesOldest);
    } catch (error) {
      throw errorOf(error);
    }
    const member = new Membership(
      id,
      name,
      numbers,
      this.#options.admitTimeoutMs,
      this.#options.leaseMs,
      this.#native,
      this.#hooks,
      (isHeld) => this.#hold(isHeld),
    );
    this.#members.set(id, member);
    member.onNews((kind, data) => this.#news(name, kind, data));
    return member;
  }

  /**
   * Joins for a purpose that counts no connections.
   * @throws as `join`
   * @internal
   */
  channel(purpose: 'limits' | 'tokens'): Membership {
    return this.join(CHANNEL + purpose, [...NO_LIMITS]);
  }

  #managers(): Membership[] {
    return [...this.#members.values()].filter(({ name }) => !name.startsWith(CHANNEL));
  }

  /** Tells the listeners of an event. */
  #news(name: string, kind: string, data: readonly string[]): void {
    if (name.startsWith(CHANNEL)) return;
    const [first = '', second = ''] = data;
    const tell = <E extends keyof ClusterEvents>(
      event: E,
      ...args: Parameters<ClusterEvents[E]>
    ): void => {
      for (const listener of this.#listeners[event])
        this.#hooks.run(`${event}Listener`, () =>
          (listener as (...given: Parameters<ClusterEvents[E]>) => void)(...args),
        );
    };
    const space = first.indexOf(' ');
    const member = { id: processOf(first.slice(0, space)), name: first.slice(space + 1) };
    if (kind === 'j') tell('memberJoined', member, name);
    else if (kind === 'l') tell('memberLost', member, name, 'left');
    else if (kind === 'd') tell('memberLost', member, name, 'dead');
    else if (kind === 'drift') tell('drift', Number(first), name);
    else if (kind === 'over')
      tell('overLimit', { connections: Number(first), users: Number(second) }, name);
  }

  #drain(): void {
    const answers = this.#answers;
    for (let count = ANSWERS_MAX; count === ANSWERS_MAX;) {
      count = this.#native.drain();
      // Copied: a listener or a continuation may cause another look.
      const taken = answers.slice(0, count * 3);
      for (let at = 0; at < taken.length; at += 3) {
        const member = this.#members.get(taken[at]!);
        if (taken[at + 1] === 0) this.#tell(member, STATES[taken[at + 2]!]);
        else member?.answered(taken[at + 1]!, taken[at + 2]!);
      }
    }
    for (const mail of this.#native.mail()) this.#members.get(mail.member)?.mailed(mail);
  }

  #tell(member: Membership | undefined, state: ClusterState | undefined): void {
    if (member === undefined || state === undefined) return;
    const isChannel = member.name.startsWith(CHANNEL);
    if (isChannel) {
      // Beside managers it tells nothing new: all have one server. Limiters and revocations have one state.
      const standing = this.#standing().state;
      if (this.#managers().length > 0 || standing === this.#toldStanding) return;
      this.#toldStanding = state = standing;
    }
    // The figures keep the last problem until a beat has been answered.
    const problem = state === 'up' ? '' : member.figures()?.problem;
    for (const listener of this.#listeners.state)
      this.#hooks.run('stateListener', () =>
        listener(state, isChannel ? '' : member.name, problem === '' ? undefined : problem),
      );
  }

  /**
   * Calls `listener` after an event; see `ClusterEvents`. `state` is the place for a log line and an alert.
   * @param event name of the event
   * @returns a function that removes the listener
   * @throws ERR_INVALID_ARG_TYPE
   */
  on<E extends keyof ClusterEvents>(event: E, listener: ClusterEvents[E]): () => void {
    if (typeof event !== 'string' || !Object.hasOwn(this.#listeners, event))
      throw wrongType('event', event, Object.keys(this.#listeners).join(', '));
    if (typeof listener !== 'function') throw wrongType('listener', listener, 'a function');
    const listeners: Set<ClusterEvents[E]> = this.#listeners[event];
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** The lease, ms. @internal */
  get leaseMs(): number {
    return this.#options.leaseMs;
  }

  /** True if calls that cannot wait are refused. @internal */
  get isStrict(): boolean {
    return this.#options.strict;
  }

  /**
   * The worst state of all managers; without managers, that of the limiters and revocations; `joining` before the first
   * of them.
   */
  get state(): ClusterState {
    return this.snapshot().state;
  }

  /**
   * Waits until every manager of this cluster is `up`, and for the first one if there is none yet. Servers may admit
   * before: `onUnreachable` decides then. The first process of a new cluster waits for `leaseMs`, in case that others
   * hold seats.
   * @param options `timeoutMs`: 1 to 2^30, default 30000
   * @throws ERR_TIMEOUT; ERR_CLUSTER_CONFIG and ERR_CLUSTER_INCOMPATIBLE for a server that cannot be used;
   * ERR_CLOSED
   */
  async ready(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    optionsObject('options', options);
    knownOptions('ready', options, ['timeoutMs']);
    const timeoutMs = wholeNumber('timeoutMs', options.timeoutMs, 1, TIME_MAX_MS, 30_000);
    const timers = new TimerManager({ name: 'cluster.ready' });
    const waiting = new Promise<void>((resolve, reject) => {
      const look = (): boolean => {
        const { state, managers } = this.#standing();
        const problem = managers.find((manager) => manager.problem !== undefined)?.problem;
        const fatal = CONFIG_CODES.find((code) => problem?.startsWith(`${code}: `) === true);
        if (state === 'up') resolve();
        else if (state === 'closed')
          reject(new PortcullisError('ERR_CLOSED', 'the cluster is closed'));
        else if (fatal !== undefined)
          reject(new PortcullisError(fatal, problem!.slice(fatal.length + 2), { field: 'url' }));
        else return false;
        return true;
      };
      this.#drain();
      if (look()) return;
      const stop = this.on('state', () => {
        if (look()) end();
      });
      // Closing tells nobody, and a problem may come without a change of state.
      const interval = timers.setInterval(
        () => {
          // The figures may be ahead of the events: the listeners learn of a state before the caller does.
          this.#drain();
          if (look()) end();
        },
        { delayMs: 50 },
      );
      const timer = timers.setTimeout(
        () => {
          end();
          const { managers } = this.#standing();
          const problem =
            managers.length === 0
              ? 'no manager, guard, limiter or verifier uses it'
              : managers.find((one) => one.problem !== undefined)?.problem;
          reject(
            new PortcullisError(
              'ERR_TIMEOUT',
              `the cluster is ${this.#standing().state} after ${timeoutMs} ms${problem === undefined ? '' : `: ${problem}`}`,
              { field: 'timeoutMs' },
            ),
          );
        },
        { delayMs: timeoutMs },
      );
      const end = (): void => {
        stop();
        interval.close();
        timer.close();
      };
    });
    // Not `using`: its helper names a top-level `this`, which the CommonJS build refuses.
    return waiting.finally(() => timers.close());
  }

  /** Returns the figures of one manager; `undefined` once the cluster is closed. @internal */
  statsOf(member: Membership): ClusterManagerStats | undefined {
    const figures = member.figures();
    return figures === undefined ? undefined : statsOf(member.name, figures);
  }

  /** Returns the figures at this moment. */
  snapshot(): ClusterStats {
    const managers = this.#managers();
    // A process that has limiters or revocations only has a state, too.
    if (managers.length > 0 || this.#members.size === 0) return this.#statsOf(managers);
    return { ...this.#standing(), managers: [] };
  }

  /** Returns the figures of all members. Limiters and revocations need no settled counts. */
  #standing(): ClusterStats {
    const { state, sinceMs, managers } = this.#statsOf([...this.#members.values()]);
    const isSettled = managers.every((one) =>
      one.name.startsWith(CHANNEL) ? one.state !== 'joining' : one.state === 'up',
    );
    return { state: state === 'settling' && isSettled ? 'up' : state, sinceMs, managers };
  }

  #statsOf(members: readonly Membership[]): ClusterStats {
    const managers: ClusterManagerStats[] = [];
    for (const member of members) {
      const stats = this.statsOf(member);
      if (stats !== undefined) managers.push(stats);
    }
    const worst = managers.reduce<ClusterState>(
      (state, manager) =>
        SEVERITY.indexOf(manager.state) > SEVERITY.indexOf(state) ? manager.state : state,
      'up',
    );
    const state = this.#isClosed ? 'closed' : managers.length === 0 ? 'joining' : worst;
    const since = managers.filter((one) => one.state === state).map(({ sinceMs }) => sinceMs);
    return { state, sinceMs: Math.max(0, ...since), managers };
  }

  /** Asks every manager's server, and returns the answers. */
  #askAll(
    action: string,
    ask: (member: Membership) => Promise<readonly string[]>,
  ): Promise<(readonly string[])[]> {
    if (this.#isClosed)
      return Promise.reject(new PortcullisError('ERR_CLOSED', `the cluster is closed: ${action}`));
    return Promise.all(this.#managers().map(ask));
  }

  /**
   * Refuses newcomers in all processes, in every manager of this cluster; they admit again by themselves after
   * `ttlMs`. Open connections go on. The others hear of it at once, at the latest with their next beat; while they
   * cannot reach the server, they go on as before. `manager.drain()` is this process's.
   * @param reason for logs: at most 256 characters
   * @param ttlMs 1 to 2^30
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_CLUSTER_UNREACHABLE, ERR_CLOSED; ERR_UNSUPPORTED if no manager
   * of this process uses the cluster. As rejections
   */
  async drain(reason: string, ttlMs: number): Promise<void> {
    if (typeof reason !== 'string') throw wrongType('reason', reason, 'a string');
    if (reason.length > REASON_MAX)
      throw outOfRange('reason', reason, `at most ${REASON_MAX} characters`);
    const ms = wholeNumber('ttlMs', ttlMs, 1, TIME_MAX_MS);
    await this.#setDrain('nobody drains', reason, ms);
  }

  /**
   * Admits newcomers again in all processes, after `drain()`.
   * @throws ERR_CLUSTER_UNREACHABLE, ERR_CLOSED; ERR_UNSUPPORTED if no manager of this process uses the cluster. As
   * rejections
   */
  async resume(): Promise<void> {
    await this.#setDrain('the drain goes on', '', 0);
  }

  /** Sets the drain for the names of all managers of this process. Without a manager, no process would get the event. */
  async #setDrain(action: string, reason: string, ttlMs: number): Promise<void> {
    const asked = await this.#askAll(action, (member) =>
      member.ask(action, 'drain', '', [reason], [ttlMs]),
    );
    if (asked.length === 0)
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        `no manager of this process uses the cluster: ${action}. Give the cluster to a manager or a guard`,
        { field: 'cluster' },
      );
  }

  /**
   * Waits until the changes by `manager.updateLimits()` are in force on the server and in this process; the others
   * take them over with their next beat.
   * @throws ERR_LIMITS_CONFLICT if another process has changed them at the same time; ERR_CLUSTER_UNREACHABLE if the
   * server does not answer, or is lost for `leaseMs` after its answer: they may still be in force; ERR_CLOSED. As
   * rejections, for the first change that has failed
   */
  async settled(): Promise<void> {
    if (this.#isClosed)
      throw new PortcullisError('ERR_CLOSED', 'the cluster is closed: nothing settles');
    await Promise.all(this.#managers().map((member) => member.settled()));
  }

  /**
   * Returns the connections of a user in all processes, leases included.
   * @param userId 1 to 1024 characters
   * @throws ERR_INVALID_ARG_TYPE, ERR_CLUSTER_UNREACHABLE, ERR_CLOSED, as rejections
   */
  async count(userId: string): Promise<number> {
    const nodes = await this.whereIs(userId);
    return nodes.reduce((sum, { connections }) => sum + connections, 0);
  }

  /**
   * Tells whether a user has a connection in any process.
   * @param userId 1 to 1024 characters
   * @throws as `count`
   */
  async isOnline(userId: string): Promise<boolean> {
    return (await this.count(userId)) > 0;
  }

  /**
   * Returns the processes that a user is connected to, in every manager of this cluster.
   * @param userId 1 to 1024 characters
   * @throws as `count`
   * @example
   * for (const { name, connections } of await cluster.whereIs('ada')) console.log(name, connections);
   */
  async whereIs(userId: string): Promise<UserNode[]> {
    if (typeof userId !== 'string' || userId === '' || userId.length > 1024)
      throw wrongType('userId', userId, 'a string of 1 to 1024 characters');
    const action = 'presence is unknown';
    const answers = await this.#askAll(action, (member) => member.ask(action, 'who', userId));
    return merged(answers.map(userNodesOf), ({ node }) => node);
  }

  /**
   * Lists the users that are connected to any process, page by page and in no order, in every manager of this cluster;
   * a user of two managers is listed for each. Needs `presence: 'names'`. A user appears within a second, and is gone
   * with the last connection. One that is there throughout is listed once; others may be missed or listed twice.
   * @param options `cursor`: of the page before, default the first page; `limit`: names wanted, 1 to 1000, default 100:
   * a page may hold a few more
   * @throws ERR_UNSUPPORTED without `presence: 'names'`; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION,
   * ERR_CLUSTER_UNREACHABLE, ERR_CLOSED. As rejections
   * @example
   * let cursor: string | undefined;
   * do {
   *   const page = await cluster.online({ cursor, limit: 500 });
   *   for (const user of page.users) console.log(user);
   *   cursor = page.cursor;
   * } while (cursor !== undefined);
   */
  async online(
    options: { readonly cursor?: string | undefined; readonly limit?: number | undefined } = {},
  ): Promise<OnlineUsers> {
    optionsObject('options', options);
    knownOptions('online', options, ['cursor', 'limit']);
    const { cursor } = options;
    const limit = wholeNumber('limit', options.limit, 1, 1000, 100);
    const found = /^(\d{1,5}):(\d{1,4})$/.exec(cursor === undefined ? '0:0' : cursor);
    if (found === null) throw outOfRange('cursor', cursor, 'the cursor of a page');
    if (!this.#options.keepsNames)
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        "online() needs the option `presence: 'names'` of the cluster: names are not stored without it",
        { field: 'presence' },
      );
    if (this.#isClosed) throw new PortcullisError('ERR_CLOSED', 'the cluster is closed');
    const action = 'the users are unknown';
    const managers = this.#managers();
    const users: string[] = [];
    let [from, at] = [Number(found[1]), Number(found[2])];
    while (at < managers.length && users.length < limit) {
      const wanted = [from, limit - users.length];
      const [read = '0', ...names] = await managers[at]!.ask(action, 'online', '', [], wanted);
      for (const name of names) users.push(name);
      from += Math.max(1, Number(read));
      if (from >= BUCKETS) [from, at] = [0, at + 1];
    }
    return { users, cursor: at < managers.length ? `${from}:${at}` : undefined };
  }

  /**
   * Returns the processes of the cluster.
   * @throws ERR_CLUSTER_UNREACHABLE, ERR_CLOSED, as rejections
   */
  async nodes(): Promise<ClusterNode[]> {
    const action = 'the processes are unknown';
    const answers = await this.#askAll(action, (member) => member.ask(action, 'nodes', ''));
    return merged(answers.map(clusterNodesOf), ({ id }) => id);
  }

  /**
   * Returns a rate over all processes. Limiters of one `name` count together, and need the same options.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_CLOSED; ERR_LIMITS_CONFLICT if a limiter of
   *   this process has the name and another rate
   * @example
   * const limiter = cluster.limiter({ name: 'api', limit: 100, windowMs: 60_000 });
   * const { success, retryAfterMs } = await limiter.take(userId);
   */
  limiter(options: ClusterLimiterOptions): ClusterLimiter {
    const rate = checkedRate(options);
    this.#rates.add(rate);
    return new ClusterLimiter(this.channel('limits'), this.#options, rate);
  }

  /**
   * Leaves the cluster, so that its seats are free at once, and refuses newcomers from then on (`closed`). Close the
   * managers first. Blocks until the server has heard of it, or for 500 ms; not at all if the server is unreachable.
   * May be called again.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#drain();
    this.#isClosed = true;
    this.#native.close();
    for (const member of this.#members.values()) member.close();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function statsOf(name: string, figures: ClusterFigures): ClusterManagerStats {
  return {
    name,
    state: STATES[figures.state] ?? 'unreachable',
    sinceMs: figures.sinceMs,
    members: figures.members,
    seats: figures.seats,
    confirmedSeats: figures.told,
    waiting: figures.waiting,
    limitsRevision: figures.revision,
    limitsDiffer: figures.limitsDiffer,
    problem: figures.problem === '' ? undefined : figures.problem,
    admissions: {
      granted: figures.granted,
      refused: figures.refused,
      refusedByCache: figures.cached,
      grantedAhead: figures.ahead,
      grantedByPolicy: figures.local,
      refusedByPolicy: figures.unreachable,
    },
    calls: figures.calls,
    connects: figures.connects,
    publishedKeys: figures.published,
    drift: figures.drift,
    losses: figures.lost,
    declaredDead: figures.declared,
    drain:
      figures.drainMs > 0 ? { reason: figures.drainReason, leftMs: figures.drainMs } : undefined,
    takeovers: figures.takeovers,
    replaced: figures.replaced,
    containedBugs: figures.contained,
    events: figures.events,
    eventGaps: figures.gaps,
  };
}
