/**
 * The graceful end of a server: a state machine over drainables. It knows no host, and adapters
 * make the drainables.
 *
 *     running -> notReady -> draining -> closing -> forced? -> stopped
 */
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { TimerManager } from '../timers/manager.js';
import { resolveTimers } from '../timers/ownership.js';
import { ClosingSockets } from './closing.js';
import { Deadline, deferred } from './deadline.js';
import type { Drainable, ShutdownSocket } from './drainable.js';
import { ErrorCollector } from './errors.js';
import { type HealthAnswer, healthy } from './health.js';
import { checkedHook, HookRunner, type ShutdownHook } from './hooks.js';
import {
  checkSignal,
  type Plan,
  planOf,
  shutdownOptions,
  type ShutdownOptions,
  SIGNAL_NUMBERS,
} from './options.js';
import { Readiness } from './readiness.js';
import type { ShutdownLeftover, ShutdownPhase, ShutdownResult } from './result.js';

/** Time that the drain leaves for aborted requests to answer, ms. */
const ABORT_GRACE_MS = 500;
/** Time for `destroy`, which may be past the deadline, ms. */
const DESTROY_MS = 50;

/** Shutdowns that a signal has begun: how many run, whether all were graceful, whether the process exits after them. */
const signalled = { running: 0, isGraceful: true, exits: false };
const DRAINABLE = 'guard.drainable(server) of an adapter, or an object with a name';
const DRAINABLE_METHODS = [
  'notReady',
  'drain',
  'requests',
  'whenIdle',
  'sockets',
  'watchSockets',
  'abort',
  'stop',
  'destroy',
] as const;
type AwaitedMethod = 'drain' | 'whenIdle' | 'stop' | 'destroy';

/**
 * Ends a server gracefully. It reports at once that the server is not ready, refuses new clients,
 * lets requests finish, closes WebSockets one after the other, runs hooks, and clears timers last.
 * One deadline bounds the whole shutdown.
 *
 * @example
 * const shutdown = new GracefulShutdown({ timers, signals: ['SIGTERM', 'SIGINT'] });
 * shutdown.add(guard.drainable(server));
 * shutdown.onShutdown('database', () => database.close());
 */
export class GracefulShutdown {
  /** The server's timers, which the shutdown clears last. */
  readonly #serverTimers: TimerManager;
  /** Whether `close()` closes `#serverTimers` too. */
  readonly #ownsTimers: boolean;
  /** Timers of the shutdown itself, on the same clock: they outlive the server's. */
  readonly #timers: TimerManager;
  readonly #plan: Plan;
  readonly #onPhase: ShutdownOptions['onPhase'];
  /** Whether the process exits after a shutdown that a signal began. */
  readonly #exits: boolean;
  readonly #drainables: Drainable[] = [];
  /** Methods of drainables that have not settled. */
  readonly #pending = new Set<{ readonly drainable: Drainable; readonly method: AwaitedMethod }>();
  readonly #errors: ErrorCollector;
  readonly #hooks: HookRunner;
  readonly #readiness: Readiness;
  /** Names of the held promises that have not settled, by a key for each. */
  readonly #holds = new Map<object, string>();
  #resolveHolds: (() => void) | undefined;
  readonly #listeners = new Map<NodeJS.Signals, () => void>();
  readonly #phaseMs = { notReady: 0, draining: 0, closing: 0, forced: 0 };
  #phase: ShutdownPhase = 'running';
  #phaseSinceMs = 0;
  #startMs = 0;
  #result: Promise<ShutdownResult> | undefined;
  /**
   * Whether a signal has come. The first one never exits at once: `shutdown()` may have been called
   * before it, as by a `preStop` hook of Kubernetes.
   */
  #isSignalled = false;
  #isSimulated = false;

  /**
   * @param options see `ShutdownOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION, ERR_OUT_OF_RANGE; the last also if delay,
   * window and close timeout together exceed the deadline
   */
  constructor(options?: ShutdownOptions);
  /**
   * The same, with the manager as an argument in the place of the option `timers`.
   *
   * @param timerManager its timers are cleared last, and its clock is used
   * @param options see `ShutdownOptions`
   * @throws as above; ERR_INVALID_ARG_TYPE also for an option `timers`
   */
  constructor(timerManager: TimerManager, options?: Omit<ShutdownOptions, 'timers'>);
  constructor(
    timersOrOptions?: TimerManager | ShutdownOptions,
    positionalOptions?: ShutdownOptions,
  ) {
    const owned = resolveTimers(timersOrOptions, positionalOptions, 'server');
    const { timers, isOwn } = owned;
    const options = shutdownOptions(owned.options);
    this.#plan = planOf(options);
    const { onPhase, onError, exit = true, signals = [] } = options;
    this.#onPhase = onPhase;
    this.#exits = exit;
    this.#serverTimers = timers;
    this.#ownsTimers = isOwn;
    this.#timers = new TimerManager({ clock: timers.driver.clock, name: 'shutdown' });
    this.#errors = new ErrorCollector(onError);
    this.#hooks = new HookRunner(this.#timers, this.#errors);
    this.#readiness = new Readiness(this.#timers, this.#errors, this.#plan.readiness);
    for (const signal of new Set(signals)) {
      const listener = (): void => this.#onSignal(signal);
      this.#listeners.set(signal, listener);
      process.on(signal, listener);
    }
  }

  /** Phase of the shutdown. */
  get phase(): ShutdownPhase {
    return this.#phase;
  }

  /**
   * Whether load balancers may send new clients: until the shutdown begins, unless `notReady()` was
   * called or a check has not ended well.
   */
  get isReady(): boolean {
    return this.#readiness.isReadyIn(this.#phase);
  }

  /** Says that the server may get new clients: undoes `notReady()`, and ends a start with `startsReady: false`. */
  ready(): void {
    this.#readiness.ready();
  }

  /**
   * Says that the server wants no new clients for now, as during a migration. Nothing is refused:
   * the readiness endpoint answers 503 until `ready()` is called.
   *
   * @param reason a sentence for the answer, which may be public: 1 to 200 characters
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  notReady(reason: string): void {
    if (typeof reason !== 'string') throw wrongType('reason', reason, 'a string');
    if (reason.length < 1 || reason.length > 200)
      throw outOfRange('reason', reason, 'a string of 1 to 200 characters');
    this.#readiness.notReady(reason);
  }

  /**
   * Returns the answer of a readiness endpoint: 200, or 503 with problem details (RFC 9457) since
   * the turn of the event loop in which the shutdown began. It has the last outcomes of `checks`;
   * `checkReadiness()` runs them.
   */
  readiness(): HealthAnswer {
    return this.#readiness.answerIn(this.#phase);
  }

  /**
   * Runs the checks whose last outcome is older than `checkCacheMs`, and returns the answer of a
   * readiness endpoint. Callers at the same time share one run, and a check that hangs is not begun
   * again. Errors of checks go to `onError`; the answer has their names only.
   *
   * @returns a promise of the answer, which never rejects, within `checkTimeoutMs`
   * @example
   * const shutdown = new GracefulShutdown({ checks: { database: () => database.ping() } });
   * const { status, headers, body } = await shutdown.checkReadiness();
   */
  async checkReadiness(): Promise<HealthAnswer> {
    await this.#readiness.refresh(this.#phase);
    return this.readiness();
  }

  /**
   * Returns the answer of a startup endpoint: 503 until the server has been ready for the first
   * time, and 200 from then on.
   *
   * @returns a promise of the answer, which never rejects, within `checkTimeoutMs`
   */
  async checkStartup(): Promise<HealthAnswer> {
    if (!this.#readiness.hasStarted) await this.#readiness.refresh(this.#phase);
    return this.#readiness.startupAnswerIn(this.#phase);
  }

  /** Returns the answer of a liveness endpoint: 200 as long as the process runs. */
  liveness(): HealthAnswer {
    return healthy('live');
  }

  /**
   * Adds a server, or anything else that is to be drained. One that was added already counts once.
   *
   * @param drainable `guard.drainable(server)` of an adapter, or an object of your own
   * @returns this shutdown
   * @throws ERR_INVALID_ARG_TYPE; ERR_CLOSED once the shutdown has begun
   */
  add(drainable: Drainable): this {
    if (typeof drainable !== 'object' || drainable === null)
      throw wrongType('drainable', drainable, DRAINABLE);
    if (typeof drainable.name !== 'string' || drainable.name === '')
      throw wrongType('drainable.name', drainable.name, `a name: pass ${DRAINABLE}`);
    for (const name of DRAINABLE_METHODS) {
      if (drainable[name] !== undefined && typeof drainable[name] !== 'function')
        throw wrongType(`drainable.${name}`, drainable[name], 'a function');
    }
    this.#checkRunning();
    if (!this.#drainables.includes(drainable)) this.#drainables.push(drainable);
    return this;
  }

  /**
   * Adds a hook. Hooks run after the requests have ended, the last added first. A hook that throws
   * or exceeds its time does not stop the others.
   *
   * @param name name in errors and leftovers
   * @param hook the function to call
   * @param options `timeoutMs`: time for the hook, 1 to 2^30 ms; default `hookTimeoutMs`
   * @returns this shutdown
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_CLOSED once the
   * shutdown has begun
   */
  onShutdown(
    name: string,
    hook: ShutdownHook,
    options: { readonly timeoutMs?: number | undefined } = {},
  ): this {
    const checked = checkedHook(name, hook, options, this.#plan.hookTimeoutMs);
    this.#checkRunning();
    this.#hooks.add(checked);
    return this;
  }

  #checkRunning(): void {
    if (this.#result !== undefined)
      throw new PortcullisError('ERR_CLOSED', 'the shutdown has begun');
  }

  /**
   * Keeps the server up until some work has settled, but not beyond the deadline. Work that begins once the drain is
   * over, as in a hook, is waited for after the hooks. A rejection goes to `onError`, and during the shutdown into its
   * result too; before it and without `onError`, it is a process warning.
   *
   * @param work a promise of the work
   * @param name name in errors and leftovers; default `work`
   * @returns `work`
   * @throws ERR_INVALID_ARG_TYPE unless `work` is a promise
   */
  hold<T>(work: PromiseLike<T>, name = 'work'): PromiseLike<T> {
    if (typeof work !== 'object' || work === null || typeof work.then !== 'function')
      throw wrongType('work', work, 'a promise');
    const key = {};
    const text = textOf(name);
    this.#holds.set(key, text);
    const release = (): void => {
      this.#holds.delete(key);
      if (this.#holds.size === 0) this.#resolveHolds?.();
    };
    Promise.resolve(work).then(release, (error: unknown) => {
      if (this.#result === undefined) this.#errors.report(text, error);
      else this.#errors.collect(text, error);
      release();
    });
    return work;
  }

  /**
   * Begins the shutdown. The server is not ready when this returns.
   *
   * @param reason text for the result; any other value, such as an error, counts by its text. Default `shutdown`
   * @returns a promise of the result, which never rejects: the same one however often this is
   * called
   */
  shutdown(reason = 'shutdown'): Promise<ShutdownResult> {
    if (this.#result === undefined) {
      const text = textOf(reason);
      // Set before the shutdown begins: the listener of its first phase may call this again.
      const { promise, resolve } = deferred<ShutdownResult>();
      this.#result = promise;
      resolve(this.#run(text));
    }
    return this.#result;
  }

  /**
   * Runs the sequence that a signal begins, for tests: no signal is sent, and the process does not
   * exit. The signal listeners are removed at its end.
   *
   * @param signal name of the signal, one that the option `signals` takes; default `SIGTERM`
   * @returns a promise of the result
   * @throws ERR_OUT_OF_RANGE
   */
  simulate(signal: NodeJS.Signals = 'SIGTERM'): Promise<ShutdownResult> {
    checkSignal('signal', signal);
    this.#isSimulated = true;
    return this.shutdown(signal);
  }

  /**
   * Removes the signal listeners without shutting down, and closes the manager if it is the
   * shutdown's own. A shutdown under way goes on, and `shutdown()` can still be called. May be
   * called again.
   */
  close(): void {
    this.#removeListeners();
    if (this.#ownsTimers) this.#serverTimers.close();
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Calls `shutdown('disposed')`, waits for its result and calls `close()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown('disposed');
    this.close();
  }

  #removeListeners(): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
    this.#listeners.clear();
  }

  #onSignal(signal: NodeJS.Signals): void {
    if (this.#isSignalled) process.exit(128 + (SIGNAL_NUMBERS[signal] ?? 0));
    this.#isSignalled = true;
    // The process may have several shutdowns of this signal: the last one to end lets it exit, if any of them does.
    signalled.exits ||= this.#exits;
    signalled.running++;
    void this.shutdown(signal).then(({ graceful }) => {
      signalled.isGraceful &&= graceful;
      if (--signalled.running > 0) return;
      if (signalled.exits) process.exit(signalled.isGraceful ? 0 : 1);
      // The process continues: the next signal gets a result of its own.
      signalled.isGraceful = true;
    });
  }

  async #run(reason: string): Promise<ShutdownResult> {
    const { deadlineMs, preDrainDelayMs } = this.#plan;
    this.#startMs = this.#now();
    this.#enter('notReady');
    this.#readiness.stop();
    for (const drainable of this.#drainables)
      this.#errors.attempt(`${drainable.name}.notReady`, () => drainable.notReady?.());
    const deadline = new Deadline(this.#timers, deadlineMs);
    if (preDrainDelayMs > 0) await deadline.race(this.#wait(preDrainDelayMs));
    this.#enter('draining');
    // The drains come first, or a quick client would reconnect at once. All begin in this turn.
    const idle = Promise.all(this.#drainables.map((drainable) => this.#whenIdle(drainable)));
    const sockets = new ClosingSockets(this.#drainables, this.#plan, this.#timers, this.#errors);
    await this.#drain(Promise.all([idle, sockets.done]), deadline);
    sockets.stop();
    const cut = this.#leftByDrain();
    this.#enter('closing');
    this.#cutOff(cut);
    await this.#hooks.run(reason, deadline, this.#startMs + deadlineMs);
    await deadline.race(this.#whenReleased());
    if (cut.some(({ kind }) => kind === 'request' || kind === 'step')) await deadline.race(idle);
    await deadline.race(this.#onAll('stop'));
    await deadline.race(this.#whenReleased());
    if (deadline.isPast || this.#leftovers().length > 0) {
      this.#enter('forced');
      await new Deadline(this.#timers, DESTROY_MS).race(this.#onAll('destroy'));
    }
    deadline.cancel();
    return this.#end(reason, cut, sockets);
  }

  /** Clears the timers and returns the result. */
  #end(reason: string, cut: readonly ShutdownLeftover[], sockets: ClosingSockets): ShutdownResult {
    const websocketsClosed = sockets.end();
    const leftovers = [
      ...cut.filter(({ kind }) => kind === 'hold'),
      ...this.#heldWork(),
      ...this.#leftovers(),
      ...this.#hooks.leftovers,
    ];
    const cleared = this.#errors.attempt('timers', () => this.#serverTimers.close()) ?? {
      timeouts: 0,
      intervals: 0,
    };
    const totalMs = this.#now() - this.#startMs;
    const wasForced = this.#phase === 'forced';
    this.#enter('stopped');
    this.#timers.close();
    // A signal that comes later, as after a `preStop` hook has ended, still lets the process exit with the result.
    if (!this.#exits || this.#isSimulated) this.#removeListeners();
    const { errors } = this.#errors;
    return {
      graceful:
        !wasForced &&
        cut.length === 0 &&
        this.#holds.size === 0 &&
        websocketsClosed.forced === 0 &&
        errors.length === 0,
      reason,
      phaseMs: { ...this.#phaseMs },
      totalMs,
      requestsAborted: cut
        .filter(({ kind }) => kind === 'request')
        .reduce((sum, { count }) => sum + count, 0),
      websocketsClosed,
      timersCleared: cleared.timeouts + cleared.intervals,
      hookErrors: [...errors],
      leftovers,
    };
  }

  /** Drains a drainable. Resolves when it has no request in flight. */
  async #whenIdle(drainable: Drainable): Promise<void> {
    await this.#settle(drainable, 'drain');
    await this.#settle(drainable, 'whenIdle');
  }

  /** Calls a method of a drainable and awaits it. */
  async #settle(drainable: Drainable, method: AwaitedMethod): Promise<void> {
    const step = { drainable, method };
    this.#pending.add(step);
    await this.#errors.settle(`${drainable.name}.${method}`, () => drainable[method]?.());
    this.#pending.delete(step);
  }

  /**
   * Waits until requests and sockets have ended and held work has settled, or until the drain's
   * time is over.
   */
  async #drain(ended: Promise<unknown>, deadline: Deadline): Promise<void> {
    const { deadlineMs, minDrainMs } = this.#plan;
    // Up to a quarter of the time is kept, so that a slow client does not use up the time of the
    // hooks and aborted requests can still answer.
    const reservedMs = Math.min(this.#hooks.totalMs + ABORT_GRACE_MS, Math.floor(deadlineMs / 4));
    const drainMs = Math.max(minDrainMs, deadlineMs - reservedMs);
    const until = new Deadline(this.#timers, Math.max(0, this.#startMs + drainMs - this.#now()));
    // Held work is last: a request in flight may still begin some.
    await until.race(deadline.race(ended.then(() => this.#whenReleased())));
    until.cancel();
  }

  /** Resolves when all held work has settled, and what began as it did. */
  async #whenReleased(): Promise<void> {
    while (this.#holds.size > 0) {
      await new Promise<void>((resolve) => (this.#resolveHolds = resolve));
      // Code that awaited the work goes on in this turn, and may hold more.
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  }

  /** Returns what the drain has left. Held work of it is waited for no longer. */
  #leftByDrain(): ShutdownLeftover[] {
    const left = [...this.#leftovers(), ...this.#heldWork()];
    this.#holds.clear();
    return left;
  }

  /** Aborts the requests and terminates the sockets that the drain has left. */
  #cutOff(left: readonly ShutdownLeftover[]): void {
    if (left.length === 0) return;
    const { closeCode, closeReason } = this.#plan;
    for (const drainable of this.#drainables) {
      this.#errors.attempt(`${drainable.name}.abort`, () => drainable.abort?.());
      for (const socket of this.#errors.socketsOf(drainable)) {
        this.#errors.attempt('close', () => socket.close(closeCode, closeReason));
        this.#errors.attempt('terminate', () => socket.terminate());
      }
    }
  }

  #heldWork(): ShutdownLeftover[] {
    return Array.from(countBy(this.#holds.values()), ([name, count]) => ({
      kind: 'hold' as const,
      name,
      count,
    }));
  }

  /**
   * Returns the requests and sockets that are left, and the methods of drainables that have not settled. A socket that
   * several drainables name counts once.
   */
  #leftovers(): ShutdownLeftover[] {
    const known = new Set<ShutdownSocket>();
    return this.#drainables.flatMap((drainable): ShutdownLeftover[] => {
      const { name } = drainable;
      const requests = this.#errors.requestsOf(drainable);
      const open = this.#errors.socketsOf(drainable);
      const before = known.size;
      for (const socket of open) known.add(socket);
      const sockets = known.size - before;
      const steps = [...this.#pending].filter(
        // `whenIdle` waits for the requests and sockets, which are named already.
        ({ drainable: one, method }) =>
          one === drainable && (method !== 'whenIdle' || requests + open.length === 0),
      );
      return [
        ...(requests > 0 ? [{ kind: 'request', name, count: requests } as const] : []),
        ...(sockets > 0 ? [{ kind: 'websocket', name, count: sockets } as const] : []),
        ...steps.map(
          ({ method }) => ({ kind: 'step', name: `${name}.${method}`, count: 1 }) as const,
        ),
      ];
    });
  }

  /** Calls `stop` or `destroy` of all drainables at once, and waits for them. */
  async #onAll(step: 'stop' | 'destroy'): Promise<void> {
    await Promise.all(this.#drainables.map((drainable) => this.#settle(drainable, step)));
  }

  #now(): number {
    return this.#timers.driver.now();
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#timers.setTimeout(() => resolve(), ms));
  }

  #enter(phase: ShutdownPhase): void {
    const now = this.#now();
    const last = this.#phase;
    if (last !== 'running' && last !== 'stopped') this.#phaseMs[last] += now - this.#phaseSinceMs;
    this.#phase = phase;
    this.#phaseSinceMs = now;
    if (phase === 'stopped') this.#errors.close();
    if (this.#onPhase !== undefined)
      void this.#errors.settle('onPhase', () => this.#onPhase?.(phase));
  }
}

/** Returns a reason or a name as text; an object that has none by its type. */
function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return typeof value;
  }
}

function countBy(names: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
