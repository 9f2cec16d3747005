/** The closes of WebSockets, spread over a window, so that not all clients reconnect at once. */
import type { TimerManager } from '../timers/manager.js';
import { deferred } from './deadline.js';
import type { Drainable, ShutdownSocket, SocketWatcher } from './drainable.js';
import type { ErrorCollector } from './errors.js';
import type { Plan } from './options.js';
import type { ShutdownResult } from './result.js';

/** Closes in one turn of the event loop, at most. */
const CLOSE_BATCH = 256;
/** The default window is this long for each socket, ms. */
const CLOSE_STEP_MS = 5;

/**
 * Closes the open sockets one after the other over the window, and those that open meanwhile at
 * once.
 */
export class ClosingSockets {
  /** Resolves when all sockets have ended. */
  readonly done: Promise<void>;
  readonly #resolve: () => void;
  readonly #plan: Plan;
  readonly #timers: TimerManager;
  readonly #errors: ErrorCollector;
  readonly #unwatch: readonly (() => void)[];
  /** Sockets that have not ended. */
  readonly #open = new Set<ShutdownSocket>();
  /** Open sockets that were told to close. One that ends before was not closed by the shutdown. */
  readonly #closing = new Set<ShutdownSocket>();
  /** Sockets that are still to be closed, in random order. */
  readonly #queue: ShutdownSocket[];
  /** Sockets in the queue at first. */
  readonly #total: number;
  /**
   * The window is divided into `#total` steps; the n-th close comes at a random time of the n-th.
   */
  readonly #stepMs: number;
  readonly #startMs: number;
  /** Time of the next close, in steps since `#startMs`. */
  #nextStep = Math.random();
  #acknowledged = 0;
  #forced = 0;
  #isStopped = false;

  constructor(
    drainables: readonly Drainable[],
    plan: Plan,
    timers: TimerManager,
    errors: ErrorCollector,
  ) {
    const { promise, resolve } = deferred<void>();
    this.done = promise;
    this.#resolve = resolve;
    this.#plan = plan;
    this.#timers = timers;
    this.#errors = errors;
    // Arrow functions: a drainable may call them without their object.
    const watcher: SocketWatcher = {
      opened: (socket) => this.#opened(socket),
      gone: (socket) => this.#gone(socket),
    };
    this.#unwatch = drainables.flatMap((drainable) => {
      const { name } = drainable;
      // Two drainables of one guard name the same sockets.
      for (const socket of errors.socketsOf(drainable)) this.#open.add(socket);
      return errors.attempt(`${name}.watchSockets`, () => drainable.watchSockets?.(watcher)) ?? [];
    });
    this.#queue = shuffled(this.#open);
    this.#total = this.#queue.length;
    const quarterMs = Math.floor(plan.deadlineMs / 4);
    const windowMs = plan.drainWindowMs ?? Math.min(this.#total * CLOSE_STEP_MS, 5000, quarterMs);
    this.#stepMs = windowMs / Math.max(1, this.#total);
    this.#startMs = timers.driver.now();
    this.#closeDue();
  }

  #opened(socket: ShutdownSocket): void {
    this.#open.add(socket);
    // The socket is opening. The application's own handler runs first.
    queueMicrotask(() => this.#close(socket));
  }

  #gone(socket: ShutdownSocket): void {
    if (!this.#open.delete(socket)) return;
    if (this.#closing.delete(socket)) {
      if (this.#stateOf(socket) === 'acknowledged') this.#acknowledged++;
      else this.#forced++;
    }
    if (this.#open.size === 0) this.#resolve();
  }

  /** Begins no more closes. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Ends watching. Returns the numbers of closes; sockets that have not ended count as forced. */
  end(): ShutdownResult['websocketsClosed'] {
    for (const unwatch of this.#unwatch) this.#errors.attempt('watchSockets', unwatch);
    return { acknowledged: this.#acknowledged, forced: this.#forced + this.#open.size };
  }

  /** Closes the sockets whose time has come, and sets a timer for the next. */
  #closeDue(): void {
    if (this.#isStopped) return;
    const elapsedMs = this.#elapsedMs();
    for (let closed = 0; this.#queue.length > 0 && closed < CLOSE_BATCH; closed++) {
      if (this.#nextStep * this.#stepMs > elapsedMs) break;
      this.#nextStep = this.#total - this.#queue.length + 1 + Math.random();
      this.#close(this.#queue.pop()!);
    }
    if (this.#queue.length > 0)
      this.#timers.setTimeout(
        () => this.#closeDue(),
        Math.max(1, this.#nextStep * this.#stepMs - this.#elapsedMs()),
      );
    else if (this.#open.size === 0) this.#resolve();
  }

  #elapsedMs(): number {
    return this.#timers.driver.now() - this.#startMs;
  }

  #stateOf(socket: ShutdownSocket): ShutdownSocket['state'] | undefined {
    return this.#errors.attempt('state', () => socket.state);
  }

  #close(socket: ShutdownSocket): void {
    if (!this.#open.has(socket)) return;
    this.#closing.add(socket);
    const { closeCode, closeReason, closeTimeoutMs } = this.#plan;
    if (this.#stateOf(socket) === 'open')
      this.#errors.attempt('beforeClose', () => socket.beforeClose?.());
    this.#errors.attempt('close', () => socket.close(closeCode, closeReason));
    if (!this.#open.has(socket)) return;
    this.#timers.setTimeout(() => {
      const state = this.#stateOf(socket);
      if (state === 'open' || state === 'closing')
        this.#errors.attempt('terminate', () => socket.terminate());
    }, closeTimeoutMs);
  }
}

function shuffled<T>(given: Iterable<T>): T[] {
  const list = [...given];
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
