/** Results of a `TimerManager`. */

/** Numbers of timers that `close()` has cleared. */
export interface CleanupResult {
  /** Timeouts. */
  readonly timeouts: number;
  /** Intervals. */
  readonly intervals: number;
}

/** One pending timer of a `TimerSnapshot`. */
export interface TimerSnapshotEntry {
  /** Name from the timer's options. */
  readonly name: string | undefined;
  /** Name of the manager or scope that holds the timer. */
  readonly owner: string;
  /** Kind of timer. */
  readonly kind: 'timeout' | 'interval';
  /** Milliseconds since the timer was set. */
  readonly ageMs: number;
  /** Milliseconds until the timer fires next; 0 if it is due. */
  readonly nextInMs: number;
  /** Whether the timer keeps the process alive. */
  readonly ref: boolean;
}

/** The pending timers of a manager and of its scopes. */
export interface TimerSnapshot {
  /** Number of pending timers. */
  readonly active: number;
  /** Number of pending timeouts. */
  readonly timeouts: number;
  /** Number of pending intervals. */
  readonly intervals: number;
  /** Number of timers that were set after `close()`, and so never fire. */
  readonly inert: number;
  /** Milliseconds until a timer fires next; `null` if none is pending. */
  readonly nextInMs: number | null;
  /** Age of the oldest timer, ms; `null` if none is pending. */
  readonly oldestAgeMs: number | null;
  /** The pending timers, the oldest first; at most 1,000. */
  readonly timers: readonly TimerSnapshotEntry[];
}
