/**
 * Ends a server without losing anybody: a machine of phases over parts that can be drained. It knows
 * no host; adapters make the parts.
 *
 *     running -> notReady -> draining -> closing -> forced? -> stopped
 */
import { PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { TimerManager } from '../timers/manager.js';
import { resolveTimers } from '../timers/ownership.js';
import { closeSockets, type Closing } from './closing.js';
import { deferred, Deadline } from './deadline.js';
import { type Plan, planOf, type ShutdownOptions, SIGNAL_NUMBERS } from './options.js';
import type { Drainable } from './drainable.js';
import type { ShutdownError, ShutdownLeftover, ShutdownPhase, ShutdownResult } from './result.js';

/** What a hook is given. */
export interface ShutdownContext {
  readonly reason: string;
  /** Aborts when the hook's time is over. */
  readonly signal: AbortSignal;
}

/** Called once, after the requests and before the timers end. */
export type ShutdownHook = (context: ShutdownContext) => unknown;

/** An HTTP answer of a health endpoint. */
export interface HealthAnswer {
  readonly status: 200 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

interface Hook {
  readonly name: string;
  readonly timeoutMs: number;
  readonly run: ShutdownHook;
}

const ABORT_GRACE_MS = 500;

/**
 * Ends a server gracefully: not ready at once, then nobody new, requests finish, WebSockets are closed
 * one after the other, hooks run, timers end last. One deadline bounds it all.
 *
 * @example
 * const shutdown = new GracefulShutdown({ timers, signals: ['SIGTERM', 'SIGINT'] });
 * shutdown.add(guard.drainable(server));
 * shutdown.onShutdown('database', () => database.close());
 */
export class GracefulShutdown {
  /** The server's timers, which the shutdown clears last. */
  readonly #cleared: TimerManager;
  /** Whether `close()` closes `#cleared` too. */
  readonly #ownsTimers: boolean;
  /** Timers of the shutdown itself, on the same clock: they outlive the server's. */
  readonly #timers: TimerManager;
  readonly #options: ShutdownOptions;
  readonly #plan: Plan;
  readonly #drainables: Drainable[] = [];
  readonly #hooks: Hook[] = [];
  readonly #holds = new Map<object, string>();
  readonly #errors: ShutdownError[] = [];
  readonly #hookLeftovers: ShutdownLeftover[] = [];
  readonly #listeners = new Map<NodeJS.Signals, () => void>();
  readonly #phaseMs = { notReady: 0, draining: 0, closing: 0, forced: 0 };
  #phase: ShutdownPhase = 'running';
  #phaseSinceMs = 0;
  #result: Promise<ShutdownResult> | undefined;
  #holdsOver: (() => void) | undefined;

  /**
   * @param options see `ShutdownOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION, ERR_OUT_OF_RANGE; the last also if delay, window and close timeout together exceed the deadline
   */
  constructor(options?: ShutdownOptions);
  /**
   * The same, with the manager as an argument in the place of the option `timers`.
   *
   * @param timerManager its timers are cleared last, and its clock is used
   * @param options see `ShutdownOptions`
   * @throws as above; ERR_INVALID_ARG_TYPE also if `options.timers` is given too
   */
  constructor(timerManager: TimerManager, options?: Omit<ShutdownOptions, 'timers'>);
  constructor(
    timersOrOptions?: TimerManager | ShutdownOptions,
    positionalOptions?: ShutdownOptions,
  ) {
    const { timers, isOwn, options } = resolveTimers(timersOrOptions, positionalOptions, 'server');
    this.#plan = planOf(options);
    this.#options = options;
    this.#cleared = timers;
    this.#ownsTimers = isOwn;
    this.#timers = new TimerManager({ clock: timers.driver.clock, name: 'shutdown' });
    for (const signal of options.signals ?? []) {
      const listener = (): void => this.#onSignal(signal);
      this.#listeners.set(signal, listener);
      process.on(signal, listener);
    }
  }

  /** Where it is. */
  get phase(): ShutdownPhase {
    return this.#phase;
  }

  /** Whether load balancers may send anybody: until the shutdown begins. */
  get isReady(): boolean {
    return this.#phase === 'running';
  }

  /** The answer of a readiness endpoint: 200, or 503 with problem details (RFC 9457) from the turn on in which the shutdown began. */
  readiness(): HealthAnswer {
    if (this.isReady)
      return {
        status: 200,
        headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
        body: '{"status":"ready"}',
      };
    const body = {
      type: 'about:blank',
      title: 'Service Unavailable',
      status: 503,
      detail: 'The server is shutting down',
      phase: this.#phase,
    };
    const headers = {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'retry-after': '1',
    };
    return { status: 503, headers, body: JSON.stringify(body) };
  }

  /** The answer of a liveness endpoint: 200 as long as there is a process to give it. */
  liveness(): HealthAnswer {
    return {
      status: 200,
      headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
      body: '{"status":"live"}',
    };
  }

  /**
   * Adds a server, or anything else that is to be drained.
   *
   * @param drainable `guard.drainable(server)` of an adapter, or an object with some of the methods of `Drainable`
   * @returns this shutdown
   * @throws ERR_INVALID_ARG_TYPE; ERR_CLOSED once the shutdown has begun
   */
  add(drainable: Drainable): this {
    if (typeof drainable !== 'object' || drainable === null)
      throw wrongType('drainable', drainable, 'a Drainable');
    if (typeof drainable.name !== 'string' || drainable.name === '')
      throw wrongType('drainable.name', drainable.name, 'a name');
    for (const name of [
      'drain',
      'requests',
      'whenIdle',
      'sockets',
      'watchSockets',
      'abort',
      'stop',
      'destroy',
    ] as const) {
      if (drainable[name] !== undefined && typeof drainable[name] !== 'function')
        throw wrongType(`drainable.${name}`, drainable[name], 'a function');
    }
    this.#checkRunning();
    this.#drainables.push(drainable);
    return this;
  }

  /**
   * Adds a hook. They run after the requests, the last added first; one that throws or takes too long does not stop the others.
   * @param name shown with its error
   * @param options `timeoutMs`: 1 to 2^30, default `hookTimeoutMs`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; ERR_CLOSED once the shutdown has begun
   */
  onShutdown(
    name: string,
    hook: ShutdownHook,
    options: { readonly timeoutMs?: number } = {},
  ): this {
    if (typeof name !== 'string' || name === '') throw wrongType('name', name, 'a name');
    if (typeof hook !== 'function') throw wrongType('hook', hook, 'a function');
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions('onShutdown', options, ['timeoutMs']);
    const timeoutMs = wholeNumber(
      'timeoutMs',
      options.timeoutMs,
      1,
      TIME_MAX_MS,
      this.#plan.hookTimeoutMs,
    );
    this.#checkRunning();
    this.#hooks.push({ name, timeoutMs, run: hook });
    return this;
  }

  #checkRunning(): void {
    if (this.#result !== undefined)
      throw new PortcullisError('ERR_CLOSED', 'the shutdown has begun');
  }

  /**
   * Keeps the server up until `work` has settled, or the deadline. If it rejects, `onError` is told, and the result if it is under way.
   * @returns `work`
   * @throws ERR_INVALID_ARG_TYPE unless `work` is a promise
   */
  hold<T>(work: PromiseLike<T>, name = 'work'): PromiseLike<T> {
    if (typeof work !== 'object' || work === null || typeof work.then !== 'function')
      throw wrongType('work', work, 'a promise');
    const key = {};
    this.#holds.set(key, String(name));
    const over = (): void => {
      this.#holds.delete(key);
      if (this.#holds.size === 0) this.#holdsOver?.();
    };
    Promise.resolve(work).then(over, (error: unknown) => {
      if (this.#result === undefined) this.#tell(error, name);
      else this.#fail(name, error);
      over();
    });
    return work;
  }

  /**
   * Begins the shutdown; it is not ready when this returns. Never rejects.
   * @param reason shown in the result
   * @returns the same promise however often it is called
   */
  shutdown(reason = 'shutdown'): Promise<ShutdownResult> {
    if (this.#result === undefined) {
      // Known before it begins: a listener of the first phase may ask for it.
      const { promise, resolve } = deferred<ShutdownResult>();
      this.#result = promise;
      resolve(this.#run(String(reason)));
    }
    return this.#result;
  }

  /** The whole sequence as a signal would begin it, for tests: without a signal, and the process goes on. */
  simulate(signal: NodeJS.Signals = 'SIGTERM'): Promise<ShutdownResult> {
    return this.shutdown(signal);
  }

  /**
   * Takes the signal listeners away without shutting down, and closes a manager of its own. A
   * shutdown does so at its end; one that runs goes on, and `shutdown()` can still be called. May be
   * called again.
   */
  close(): void {
    this.#removeSignals();
    if (this.#ownsTimers) this.#cleared.close();
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Runs `shutdown('disposed')`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown('disposed');
  }

  #removeSignals(): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
    this.#listeners.clear();
  }

  #onSignal(signal: NodeJS.Signals): void {
    if (this.#result !== undefined) process.exit(128 + (SIGNAL_NUMBERS[signal] ?? 0));
    void this.shutdown(signal).then((result) => {
      if (this.#options.exit !== false) process.exit(result.graceful ? 0 : 1);
    });
  }

  async #run(reason: string): Promise<ShutdownResult> {
    const startMs = this.#now();
    this.#enter('notReady');
    const deadline = new Deadline(this.#timers, this.#plan.deadlineMs);
    if (this.#plan.preDrainDelayMs > 0) await deadline.race(this.#wait(this.#plan.preDrainDelayMs));
    this.#enter('draining');
    const sockets = this.#closeSockets();
    const { idle } = await this.#drain(sockets.done, deadline, startMs);
    sockets.stop();
    this.#enter('closing');
    const cut = this.#cutOff();
    await this.#runHooks(reason, deadline, startMs);
    if (cut.some(({ kind }) => kind === 'request')) await deadline.race(idle);
    await this.#each('stop', deadline);
    if (deadline.isPast || this.#leftovers().length > 0) {
      this.#enter('forced');
      // Destroying is the last resort: it gets a moment past the deadline, and no more.
      await new Deadline(this.#timers, 50).race(this.#each('destroy'));
    }
    const { acknowledged, forced } = sockets.end();
    const leftovers = [
      ...cut.filter(({ kind }) => kind === 'hold'),
      ...this.#leftovers(),
      ...this.#hookLeftovers,
    ];
    const cleared = this.#attempt('timers', () => this.#cleared.close()) ?? {
      timeouts: 0,
      intervals: 0,
    };
    deadline.cancel();
    const requestsAborted = cut
      .filter(({ kind }) => kind === 'request')
      .reduce((sum, { count }) => sum + count, 0);
    const totalMs = this.#now() - startMs;
    const wasForced = this.#phase === 'forced';
    this.#enter('stopped');
    this.#timers.close();
    this.#removeSignals();
    return {
      graceful: !wasForced && cut.length === 0 && forced === 0 && this.#errors.length === 0,
      reason,
      phaseMs: { ...this.#phaseMs },
      totalMs,
      requestsAborted,
      websocketsClosed: { acknowledged, forced },
      timersCleared: cleared.timeouts + cleared.intervals,
      hookErrors: [...this.#errors],
      leftovers,
    };
  }

  /** Until requests and held work are over and sockets are closed, or the time for that is. */
  async #drain(
    closed: Promise<void>,
    deadline: Deadline,
    startMs: number,
  ): Promise<{ readonly idle: Promise<unknown> }> {
    const idle = this.#drainables.map((drainable) =>
      Promise.resolve(
        this.#attempt(`${drainable.name}.whenIdle`, () => drainable.whenIdle?.()),
      ).catch(this.#failing(drainable.name)),
    );
    // Hooks must not go short because a client does, and who is aborted may still answer: up to a quarter of the time is theirs.
    const needed = this.#hooks.reduce((sum, hook) => sum + hook.timeoutMs, ABORT_GRACE_MS);
    const most = Math.max(
      this.#plan.leastMs,
      this.#plan.deadlineMs - Math.min(needed, Math.floor(this.#plan.deadlineMs / 4)),
    );
    const until = new Deadline(this.#timers, Math.max(0, startMs + most - this.#now()));
    const settled = Promise.all(idle);
    // A request in flight may still begin what is to be held.
    await until.race(deadline.race(Promise.all([settled, closed]).then(() => this.#heldOver())));
    until.cancel();
    return { idle: settled };
  }

  #heldOver(): Promise<void> {
    return this.#holds.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => (this.#holdsOver = resolve));
  }

  /** Closes the open sockets. Nobody new first: a quick client would else be back before it is over. */
  #closeSockets(): Closing {
    for (const drainable of this.#drainables)
      void this.#settle(`${drainable.name}.drain`, () => drainable.drain?.());
    return closeSockets(this.#drainables, this.#plan, this.#timers, (name, step) =>
      this.#attempt(name, step),
    );
  }

  /** What the drain has not brought to an end: signals abort, sockets are cut off. */
  #cutOff(): ShutdownLeftover[] {
    const cut = this.#leftovers();
    for (const [name, count] of countBy(this.#holds.values()))
      cut.push({ kind: 'hold', name, count });
    if (cut.length === 0) return cut;
    for (const drainable of this.#drainables) {
      this.#attempt(`${drainable.name}.abort`, () => drainable.abort?.());
      for (const socket of this.#attempt(`${drainable.name}.sockets`, () =>
        drainable.sockets?.(),
      ) ?? []) {
        this.#attempt('close', () => socket.close(this.#plan.closeCode, this.#plan.closeReason));
        this.#attempt('terminate', () => socket.terminate());
      }
    }
    return cut;
  }

  #leftovers(): ShutdownLeftover[] {
    return this.#drainables.flatMap((drainable): ShutdownLeftover[] => {
      const requests =
        this.#attempt(`${drainable.name}.requests`, () => drainable.requests?.()) ?? 0;
      const sockets = [
        ...(this.#attempt(`${drainable.name}.sockets`, () => drainable.sockets?.()) ?? []),
      ].length;
      return [
        ...(requests > 0
          ? [{ kind: 'request', name: drainable.name, count: requests } as const]
          : []),
        ...(sockets > 0
          ? [{ kind: 'websocket', name: drainable.name, count: sockets } as const]
          : []),
      ];
    });
  }

  async #runHooks(reason: string, deadline: Deadline, startMs: number): Promise<void> {
    const hooks = this.#hooks.toReversed();
    for (const [index, hook] of hooks.entries()) {
      const left = startMs + this.#plan.deadlineMs - this.#now();
      // What the others need is theirs; if there is not enough for all, each has its share.
      const others = hooks.slice(index + 1);
      const spare = left - others.reduce((sum, { timeoutMs }) => sum + timeoutMs, 0);
      const mostMs = Math.floor(
        Math.min(hook.timeoutMs, Math.max(spare, left / (others.length + 1))),
      );
      const over = (why: string): void => {
        this.#fail(
          hook.name,
          new PortcullisError('ERR_TIMEOUT', `the hook ${hook.name} ${why}`, { field: hook.name }),
        );
        this.#hookLeftovers.push({ kind: 'hook', name: hook.name, count: 1 });
      };
      if (mostMs <= 0 || deadline.isPast) {
        over('was not run: the deadline had passed');
        continue;
      }
      const controller = new AbortController();
      const moment = new Deadline(this.#timers, mostMs);
      let isDone = false;
      const run = this.#settle(
        hook.name,
        () => hook.run({ reason, signal: controller.signal }),
        moment,
      ).then(() => (isDone = true));
      await moment.race(run);
      moment.cancel();
      if (isDone) continue;
      over(`took more than ${mostMs} ms`);
      controller.abort();
    }
  }

  async #each(step: 'stop' | 'destroy', deadline?: Deadline): Promise<void> {
    const all = Promise.all(
      this.#drainables.map((drainable) =>
        this.#settle(`${drainable.name}.${step}`, () => drainable[step]?.()),
      ),
    );
    await (deadline === undefined ? all : deadline.race(all));
  }

  /** Runs a step; an error is noted, and one that comes after its time was over only told. */
  async #settle(name: string, step: () => unknown, moment?: Deadline): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (moment?.isPast === true) this.#tell(error, name);
      else this.#fail(name, error);
    }
  }

  #attempt<T>(name: string, step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#fail(name, error);
      return undefined;
    }
  }

  #failing(name: string): (error: unknown) => void {
    return (error) => this.#fail(name, error);
  }

  #fail(name: string, error: unknown): void {
    if (this.#phase !== 'stopped') this.#errors.push({ name, error });
    this.#tell(error, name);
  }

  #tell(error: unknown, name: string): void {
    try {
      this.#options.onError?.(error, name);
    } catch {
      // The last one to be told has failed: nobody is left to tell.
    }
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
    if (this.#options.onPhase !== undefined)
      this.#attempt('onPhase', () => this.#options.onPhase?.(phase));
  }
}

function countBy(names: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
