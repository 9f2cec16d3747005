/** Options of a shutdown, checked, and the times that follow from them. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import type { ShutdownPhase } from './result.js';

/** Options of a shutdown. Times are whole milliseconds. */
export interface ShutdownOptions {
  /** Its timers are cleared last, and its clock is used. Default: a manager of its own, which `close()` closes. */
  readonly timers?: TimerManager | undefined;
  /** For everything together: 1 to 2^30. Default 25000, below the 30 s that Kubernetes grants. */
  readonly deadlineMs?: number | undefined;
  /**
   * How long to go on serving while not ready, until load balancers have noticed: 0 to 2^30 ms. Default 0, or
   * where `KUBERNETES_SERVICE_HOST` is set 5000 and at most a quarter of the deadline.
   */
  readonly preDrainDelayMs?: number | undefined;
  /** Over how long the closes of WebSockets are spread: 0 to 2^30 ms. Default: 5 for each, at most 5000 and a quarter of the deadline. */
  readonly drainWindowMs?: number | undefined;
  /** How long a client may take to answer a close: 1 to 2^30 ms. Default 1000, at most a quarter of the deadline. */
  readonly closeTimeoutMs?: number | undefined;
  /** How long a hook may take that has no time of its own: 1 to 2^30 ms. Default 5000. */
  readonly hookTimeoutMs?: number | undefined;
  /** 1001 (going away) or 1012 (restart). Default 1001. */
  readonly closeCode?: 1001 | 1012 | undefined;
  /** Reason of those closes. Default "Server shutdown". */
  readonly closeReason?: string | undefined;
  /** Signals that start it, such as `['SIGTERM', 'SIGINT']`; a second one exits at once. Default: none. */
  readonly signals?: readonly NodeJS.Signals[] | undefined;
  /** Whether the process exits after a shutdown that a signal began: with 0 if it was graceful, else 1. Default `true`. */
  readonly exit?: boolean | undefined;
  /** Told of every phase as it begins. */
  readonly onPhase?: ((phase: ShutdownPhase) => void) | undefined;
  /** Told of every error as it comes; all are in the result, too, except those of work held before the shutdown. */
  readonly onError?: ((error: unknown, name: string) => void) | undefined;
}

const OPTIONS = [
  'timers',
  'deadlineMs',
  'preDrainDelayMs',
  'drainWindowMs',
  'closeTimeoutMs',
  'hookTimeoutMs',
  'closeCode',
  'closeReason',
  'signals',
  'exit',
  'onPhase',
  'onError',
] as const;
export const SIGNAL_NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
  SIGBREAK: 21,
};

/** The times and words of one shutdown. */
export interface Plan {
  readonly deadlineMs: number;
  readonly preDrainDelayMs: number;
  /** `undefined`: so much for each socket. */
  readonly drainWindowMs: number | undefined;
  readonly closeTimeoutMs: number;
  readonly hookTimeoutMs: number;
  /** What delay, window and close take: the drain gets no less. */
  readonly leastMs: number;
  readonly closeCode: 1001 | 1012;
  readonly closeReason: string;
}

export function planOf(options: ShutdownOptions): Plan {
  checkOptions(options);
  const deadlineMs = wholeNumber('deadlineMs', options.deadlineMs, 1, TIME_MAX_MS, 25_000);
  const quarter = Math.floor(deadlineMs / 4);
  const delay = process.env['KUBERNETES_SERVICE_HOST'] === undefined ? 0 : Math.min(5000, quarter);
  const preDrainDelayMs = wholeNumber(
    'preDrainDelayMs',
    options.preDrainDelayMs,
    0,
    TIME_MAX_MS,
    delay,
  );
  const closeTimeoutMs = wholeNumber(
    'closeTimeoutMs',
    options.closeTimeoutMs,
    1,
    TIME_MAX_MS,
    Math.max(1, Math.min(1000, quarter)),
  );
  const hookTimeoutMs = wholeNumber('hookTimeoutMs', options.hookTimeoutMs, 1, TIME_MAX_MS, 5000);
  const window = wholeNumber('drainWindowMs', options.drainWindowMs, 0, TIME_MAX_MS, 0);
  const leastMs = preDrainDelayMs + window + closeTimeoutMs;
  if (leastMs > deadlineMs)
    throw outOfRange(
      'deadlineMs',
      deadlineMs,
      `at least ${leastMs}: preDrainDelayMs, drainWindowMs and closeTimeoutMs together`,
    );
  const { drainWindowMs, closeCode = 1001, closeReason = 'Server shutdown' } = options;
  return {
    deadlineMs,
    preDrainDelayMs,
    drainWindowMs,
    closeTimeoutMs,
    hookTimeoutMs,
    leastMs,
    closeCode,
    closeReason,
  };
}

function checkOptions(options: ShutdownOptions): void {
  knownOptions('GracefulShutdown', options, OPTIONS);
  const { closeCode, closeReason, signals, exit } = options;
  if (closeCode !== undefined && closeCode !== 1001 && closeCode !== 1012)
    throw outOfRange('closeCode', closeCode, '1001 or 1012');
  if (closeReason !== undefined && typeof closeReason !== 'string')
    throw wrongType('closeReason', closeReason, 'a string');
  if (exit !== undefined && typeof exit !== 'boolean')
    throw wrongType('exit', exit, 'true or false');
  for (const hook of ['onPhase', 'onError'] as const) {
    if (options[hook] !== undefined && typeof options[hook] !== 'function')
      throw wrongType(hook, options[hook], 'a function');
  }
  if (signals === undefined) return;
  const allowed = `an array of ${Object.keys(SIGNAL_NUMBERS).join(', ')}`;
  if (!Array.isArray(signals)) throw wrongType('signals', signals, allowed);
  for (const [index, signal] of signals.entries()) {
    if (typeof signal !== 'string' || !Object.hasOwn(SIGNAL_NUMBERS, signal))
      throw outOfRange(`signals[${index}]`, signal, allowed);
  }
}
