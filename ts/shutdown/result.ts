/** How a shutdown went. */

/** Where a shutdown is. */
export type ShutdownPhase = 'running' | 'notReady' | 'draining' | 'closing' | 'forced' | 'stopped';

/** Something that went wrong, and where. */
export interface ShutdownError {
  readonly name: string;
  readonly error: unknown;
}

/** What was still there at the end. */
export interface ShutdownLeftover {
  readonly kind: 'request' | 'websocket' | 'hold' | 'hook';
  readonly name: string;
  readonly count: number;
}

/** How it went. */
export interface ShutdownResult {
  /** Whether nothing was cut off and nothing failed. */
  readonly graceful: boolean;
  /** What began it: a signal's name, or what `shutdown()` was given. */
  readonly reason: string;
  /** Milliseconds spent in each phase. */
  readonly phaseMs: Readonly<Record<'notReady' | 'draining' | 'closing' | 'forced', number>>;
  readonly totalMs: number;
  /** Requests still in flight when their time was over. */
  readonly requestsAborted: number;
  /** `acknowledged`: the client answered the close; `forced`: it did not, and was cut off or was gone. */
  readonly websocketsClosed: { readonly acknowledged: number; readonly forced: number };
  readonly timersCleared: number;
  readonly hookErrors: readonly ShutdownError[];
  readonly leftovers: readonly ShutdownLeftover[];
}
