/** The outcome of a shutdown. */

/** Phase of a shutdown. */
export type ShutdownPhase = 'running' | 'notReady' | 'draining' | 'closing' | 'forced' | 'stopped';

/** One error of a shutdown. */
export interface ShutdownError {
  /** Name of the hook, of the held work, or of the drainable and its method. */
  readonly name: string;
  /** The error itself. */
  readonly error: unknown;
}

/** Work that a shutdown did not bring to an end. */
export interface ShutdownLeftover {
  /**
   * Kind of work. `step`: a method of a drainable whose promise has not settled, such as `queue.drain`; `whenIdle` only
   * if the drainable tells of no request and no socket.
   */
  readonly kind: 'request' | 'websocket' | 'hold' | 'hook' | 'step';
  /** Name of the drainable, of the held work, of the hook, or of the drainable and its method. */
  readonly name: string;
  /** Number of requests, sockets, promises, hooks or steps. */
  readonly count: number;
}

/** Outcome of a shutdown. */
export interface ShutdownResult {
  /** True if nothing was cut off and nothing failed. */
  readonly graceful: boolean;
  /** Cause of the shutdown: the name of a signal, or the argument of `shutdown()`. */
  readonly reason: string;
  /** Milliseconds spent in each phase. */
  readonly phaseMs: Readonly<Record<'notReady' | 'draining' | 'closing' | 'forced', number>>;
  /** Milliseconds from the first phase to the last. */
  readonly totalMs: number;
  /** Requests that were still in flight at the end of the drain. */
  readonly requestsAborted: number;
  /** WebSockets that the shutdown closed. */
  readonly websocketsClosed: {
    /** Sockets whose client answered the close. */
    readonly acknowledged: number;
    /** Sockets whose client did not answer: terminated, or gone without an answer. */
    readonly forced: number;
  };
  /** Timers of the server that were pending at the end. */
  readonly timersCleared: number;
  /** Errors of hooks, drainables, held work and `onPhase`. */
  readonly hookErrors: readonly ShutdownError[];
  /** Work that was left at the end. */
  readonly leftovers: readonly ShutdownLeftover[];
}
