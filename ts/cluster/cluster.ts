/** One limit over all processes: the end of one JavaScript thread. The work is done in `src/cluster`. */
import { PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { type ClusterFigures, NativeCluster } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import { readWakeSocket, type WakeSocket } from '../native/wake-socket.js';
import { TimerManager } from '../timers/manager.js';
import {
  type CheckedClusterOptions,
  checkedCluster,
  type ClusterOptions,
  withoutUndefined,
} from './options.js';
import { type ClusterManagerStats, type ClusterState, type ClusterStats, STATES } from './stats.js';

// Answers of the core besides 0 (granted) and the codes of limits.
/** The answer comes later. @internal */
export const WAIT = -1;
/** The policy refuses. @internal */
export const UNREACHABLE = 64;
/** Too many clients wait. @internal */
export const OVERLOADED = 65;
/** The cluster is closed. @internal */
export const LEFT = 66;
/** The seat was given back before the answer came. @internal */
export const ABANDONED = 67;

/** Answers that one look takes. */
const ANSWERS_MAX = 256;
/** States from the best to the worst. */
const SEVERITY: readonly ClusterState[] = ['up', 'settling', 'joining', 'unreachable', 'closed'];
const CONFIG_CODES = ['ERR_CLUSTER_CONFIG', 'ERR_CLUSTER_INCOMPATIBLE'] as const;

type StateListener = (state: ClusterState, name: string, problem: string | undefined) => void;

/** Splits `CODE: message` of the core. */
function errorOf(error: unknown): unknown {
  const message = error instanceof Error ? error.message : String(error);
  const found =
    /^(ERR_CLUSTER_CONFLICT|ERR_CLUSTER_CONFIG|ERR_CLOSED|ERR_UNSUPPORTED|ERR_INTERNAL): (.*)$/s.exec(
      message,
    );
  return found === null
    ? error
    : new PortcullisError(found[1] as 'ERR_CLUSTER_CONFLICT', found[2] ?? '', { field: 'cluster' });
}

/** The share of one manager name in a cluster. @internal */
export class Membership {
  /** Number of the member, for the core's table. */
  readonly id: number;
  readonly name: string;
  /** Its limits, as a text. */
  readonly limits: string;
  readonly admitTimeoutMs: number;
  readonly #waiting = new Map<number, (code: number) => void>();
  readonly #hold: (isHeld: boolean) => void;

  constructor(
    id: number,
    name: string,
    limits: string,
    admitTimeoutMs: number,
    hold: (isHeld: boolean) => void,
  ) {
    this.id = id;
    this.name = name;
    this.limits = limits;
    this.admitTimeoutMs = admitTimeoutMs;
    this.#hold = hold;
  }

  /** Waits for the answer to a ticket. */
  answer(ticket: number): Promise<number> {
    return new Promise((resolve) => {
      if (this.#waiting.size === 0) this.#hold(true);
      this.#waiting.set(ticket, resolve);
    });
  }

  /** Takes an answer. */
  answered(ticket: number, code: number): void {
    const resolve = this.#waiting.get(ticket);
    if (resolve === undefined) return;
    this.#waiting.delete(ticket);
    if (this.#waiting.size === 0) this.#hold(false);
    resolve(code);
  }

  /** Answers everybody who waits. */
  close(): void {
    for (const ticket of this.#waiting.keys()) this.answered(ticket, LEFT);
  }
}

/**
 * Counts connections over all processes that name the same server, prefix and manager name, on one Redis (6.2 or
 * newer) or Valkey server. The seats of a process that dies are free after `leaseMs`. Give it to a manager or a
 * guard as `cluster`, with a `name`; the adapters then ask it before each upgrade.
 *
 * Connecting and joining happen in the background and never throw; see `ready` and `snapshot`.
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
  readonly #hooks = new Hooks();
  readonly #listeners = new Set<StateListener>();
  #held = 0;
  #isClosed = false;

  /**
   * @param options see `ClusterOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_CLUSTER_CONFIG for TLS or a URL that
   * cannot be used; ERR_UNSUPPORTED on Windows
   */
  constructor(options: ClusterOptions) {
    this.#options = checkedCluster(options);
    const { urls, ...rest } = this.#options;
    try {
      this.#native = new NativeCluster(this.#answers, {
        urls: [...urls],
        ...withoutUndefined(rest),
      });
    } catch (error) {
      throw errorOf(error);
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
   * @throws ERR_CLOSED; ERR_CLUSTER_CONFLICT if the name is in use with other limits, or by another thread with
   * other options
   * @internal
   */
  join(name: string, limits: number[]): Membership {
    if (this.#isClosed) throw new PortcullisError('ERR_CLOSED', 'the cluster is closed');
    const numbers = limits.join();
    for (const member of this.#members.values()) {
      if (member.name !== name) continue;
      if (member.limits === numbers) return member;
      throw new PortcullisError(
        'ERR_CLUSTER_CONFLICT',
        'the cluster counts managers of that name with other limits: close it first',
        { field: 'limits' },
      );
    }
    let id: number;
    try {
      id = this.#native.join(name, limits);
    } catch (error) {
      throw errorOf(error);
    }
    const member = new Membership(id, name, numbers, this.#options.admitTimeoutMs, (isHeld) =>
      this.#hold(isHeld),
    );
    this.#members.set(id, member);
    return member;
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
  }

  #tell(member: Membership | undefined, state: ClusterState | undefined): void {
    if (member === undefined || state === undefined) return;
    const problem = this.#figures(member)?.problem;
    for (const listener of this.#listeners)
      this.#hooks.run('stateListener', () =>
        listener(state, member.name, problem === '' ? undefined : problem),
      );
  }

  #figures(member: Membership): ClusterFigures | undefined {
    return this.#native.figures(member.id) ?? undefined;
  }

  /**
   * Calls `listener` after each change of state of a manager: with the state, the manager's name, and the problem
   * if there is one. It is the place for a log line and an alert.
   * @param event `state`
   * @returns a function that removes the listener
   * @throws ERR_INVALID_ARG_TYPE
   */
  on(event: 'state', listener: StateListener): () => void {
    if (event !== 'state') throw wrongType('event', event, "'state'");
    if (typeof listener !== 'function') throw wrongType('listener', listener, 'a function');
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The worst state of all managers; `joining` before the first manager. */
  get state(): ClusterState {
    return this.snapshot().state;
  }

  /**
   * Waits until every manager of this cluster is `up`. Servers may admit before: `onUnreachable` decides then. The
   * first process of a new cluster waits for `leaseMs`, in case that others hold seats.
   * @param options `timeoutMs`: 1 to 2^30, default 30000
   * @throws ERR_TIMEOUT; ERR_CLUSTER_CONFIG and ERR_CLUSTER_INCOMPATIBLE for a server that cannot be used;
   * ERR_CLOSED
   */
  async ready(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions('ready', options, ['timeoutMs']);
    const timeoutMs = wholeNumber('timeoutMs', options.timeoutMs, 1, TIME_MAX_MS, 30_000);
    const timers = new TimerManager({ name: 'cluster.ready' });
    const waiting = new Promise<void>((resolve, reject) => {
      const look = (): boolean => {
        const { state, managers } = this.snapshot();
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
      if (look()) return;
      const stop = this.on('state', () => {
        if (look()) end();
      });
      // Closing tells nobody, and a problem may come without a change of state.
      const interval = timers.setInterval(() => look() && end(), { delayMs: 50 });
      const timer = timers.setTimeout(
        () => {
          end();
          const problem = this.snapshot().managers.find(
            (one) => one.problem !== undefined,
          )?.problem;
          reject(
            new PortcullisError(
              'ERR_TIMEOUT',
              `the cluster is ${this.state} after ${timeoutMs} ms${problem === undefined ? '' : `: ${problem}`}`,
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
    const figures = this.#figures(member);
    return figures === undefined ? undefined : statsOf(member.name, figures);
  }

  /** Returns the figures at this moment. */
  snapshot(): ClusterStats {
    const managers: ClusterManagerStats[] = [];
    for (const member of this.#members.values()) {
      const stats = this.statsOf(member);
      if (stats !== undefined) managers.push(stats);
    }
    const worst = managers.reduce<ClusterState>(
      (state, manager) =>
        SEVERITY.indexOf(manager.state) > SEVERITY.indexOf(state) ? manager.state : state,
      'up',
    );
    const state = this.#isClosed ? 'closed' : managers.length === 0 ? 'joining' : worst;
    return { state, managers };
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
  };
}
