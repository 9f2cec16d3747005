/** Options of a shutdown, and the checks of them. */
import { outOfRange, wrongSecretType, wrongType } from '../base/errors.js';
import { readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import {
  checkedChecks,
  checkedClusterState,
  type ReadinessCheck,
  type ReadinessSettings,
  type ReportsClusterState,
} from './readiness.js';
import type { ShutdownPhase } from './result.js';

/** Options of a shutdown. Times are whole milliseconds. */
export interface ShutdownOptions {
  /**
   * Manager whose timers are cleared last, and whose clock is used. Default: a manager of the
   * shutdown's own, which `close()` closes.
   */
  readonly timers?: TimerManager | undefined;
  /**
   * Time for the whole shutdown: 1 to 2^30 ms. Default 25000, below the 30 s that Kubernetes
   * grants.
   */
  readonly deadlineMs?: number | undefined;
  /**
   * Time for which the server goes on serving while it is not ready, until load balancers have
   * noticed: 0 to 2^30 ms. Default 0, or where `KUBERNETES_SERVICE_HOST` is set 5000, at most a quarter of the
   * deadline and what `drainWindowMs` and `closeTimeoutMs` leave of it.
   */
  readonly preDrainDelayMs?: number | undefined;
  /**
   * Time over which the closes of WebSockets are spread: 0 to 2^30 ms. Default: 5 for each, at most
   * 5000 and a quarter of the deadline.
   */
  readonly drainWindowMs?: number | undefined;
  /**
   * Time that a client has to answer a close: 1 to 2^30 ms. Default 1000, at most a quarter of the
   * deadline.
   */
  readonly closeTimeoutMs?: number | undefined;
  /** Timeout of a hook that has none of its own: 1 to 2^30 ms. Default 5000. */
  readonly hookTimeoutMs?: number | undefined;
  /** Close code of WebSockets: 1001 (going away) or 1012 (service restart). Default 1001. */
  readonly closeCode?: 1001 | 1012 | undefined;
  /** Close reason of WebSockets. Default "Server shutdown". */
  readonly closeReason?: string | undefined;
  /**
   * Signals that begin the shutdown, such as `['SIGTERM', 'SIGINT']`. A second signal exits at
   * once. With `exit`, they are listened to until `close()`, also once the shutdown has ended. Default: none.
   */
  readonly signals?: readonly NodeJS.Signals[] | undefined;
  /**
   * Whether the process exits after a shutdown that a signal began: with 0 if it was graceful, else
   * with 1. It waits for the other shutdowns of the process that the signal began. Default `true`.
   */
  readonly exit?: boolean | undefined;
  /**
   * Checks of what the server needs, by name: `{ database: (signal) => database.ping({ signal }) }`.
   * `checkReadiness()` runs them. At most 32, with names of 1 to 64 letters, digits, ".", "_" and
   * "-". Default: none.
   */
  readonly checks?: Readonly<Record<string, ReadinessCheck>> | undefined;
  /** Timeout of a check: 1 to 2^30 ms. Default 1000. */
  readonly checkTimeoutMs?: number | undefined;
  /** Age up to which the outcome of a check is used again: 0 to 2^30 ms. Default 1000. */
  readonly checkCacheMs?: number | undefined;
  /** Whether the server is ready before `ready()` is called. Default `true`. */
  readonly startsReady?: boolean | undefined;
  /** Cluster whose state the answers of `readiness` tell, as `cluster: { state, sinceMs }`. Default: none. */
  readonly cluster?: ReportsClusterState | undefined;
  /**
   * Whether the server is ready only while its `cluster` is `up`. With `onUnreachable` `share` and `open` a server
   * admits without it, and should stay in the load balancer. Default `false`.
   */
  readonly readyNeedsCluster?: boolean | undefined;
  /** Called at the beginning of every phase. */
  readonly onPhase?: ((phase: ShutdownPhase) => void) | undefined;
  /**
   * Called with every error as it comes. The result has all of them, except those of `checks`, of work held before the
   * shutdown, and of what comes too late. Without `onError` those are process warnings, once for each name; a failed
   * check is named in the answer of `readiness()` only.
   */
  readonly onError?: ((error: unknown, name: string) => void) | undefined;
}

/** Names of the options. */
export const SHUTDOWN_OPTIONS = [
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
  'checks',
  'checkTimeoutMs',
  'checkCacheMs',
  'startsReady',
  'cluster',
  'readyNeedsCluster',
  'onPhase',
  'onError',
] as const;

/**
 * Numbers of the signals that can begin a shutdown. A second signal exits with 128 plus its number.
 */
export const SIGNAL_NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
  SIGBREAK: 21,
};

const SIGNALS = Object.keys(SIGNAL_NUMBERS).join(', ');

/** The checked options of one shutdown, with their defaults. */
export interface Plan {
  readonly deadlineMs: number;
  readonly preDrainDelayMs: number;
  /** `undefined`: the window depends on the number of sockets. */
  readonly drainWindowMs: number | undefined;
  readonly closeTimeoutMs: number;
  readonly hookTimeoutMs: number;
  /**
   * Delay, window and close timeout together: the drain gets at least this long, whatever the hooks
   * need.
   */
  readonly minDrainMs: number;
  readonly closeCode: 1001 | 1012;
  readonly closeReason: string;
  readonly readiness: ReadinessSettings;
}

/** Returns a plain copy of the options, signals included. Throws for unknown ones. */
export function shutdownOptions(given: ShutdownOptions): ShutdownOptions {
  const options = readOptions('GracefulShutdown', given, SHUTDOWN_OPTIONS);
  const { signals } = options;
  return Array.isArray(signals) ? { ...options, signals: [...signals] } : options;
}

/** Returns the plan for some options, made by `shutdownOptions`. Throws for wrong ones. */
export function planOf(options: ShutdownOptions): Plan {
  checkOptions(options);
  const time = (
    name:
      | 'deadlineMs'
      | 'preDrainDelayMs'
      | 'drainWindowMs'
      | 'closeTimeoutMs'
      | 'hookTimeoutMs'
      | 'checkTimeoutMs'
      | 'checkCacheMs',
    min: number,
    fallback: number,
  ): number => wholeNumber(name, options[name], min, TIME_MAX_MS, fallback);
  const deadlineMs = time('deadlineMs', 1, 25_000);
  const quarterMs = Math.floor(deadlineMs / 4);
  const isInKubernetes = process.env['KUBERNETES_SERVICE_HOST'] !== undefined;
  const closeTimeoutMs = time('closeTimeoutMs', 1, Math.max(1, Math.min(1000, quarterMs)));
  const hookTimeoutMs = time('hookTimeoutMs', 1, 5000);
  const closingMs = time('drainWindowMs', 0, 0) + closeTimeoutMs;
  // The default delay takes only time that the set options leave.
  const leftMs = Math.max(0, deadlineMs - closingMs);
  const preDrainDelayMs = time(
    'preDrainDelayMs',
    0,
    isInKubernetes ? Math.min(5000, quarterMs, leftMs) : 0,
  );
  const minDrainMs = preDrainDelayMs + closingMs;
  if (minDrainMs > deadlineMs)
    throw outOfRange(
      'deadlineMs',
      deadlineMs,
      `at least ${minDrainMs}: preDrainDelayMs, drainWindowMs and closeTimeoutMs together`,
    );
  const { drainWindowMs, closeCode = 1001, closeReason = 'Server shutdown' } = options;
  return {
    deadlineMs,
    preDrainDelayMs,
    drainWindowMs,
    closeTimeoutMs,
    hookTimeoutMs,
    minDrainMs,
    closeCode,
    closeReason,
    readiness: {
      checks: checkedChecks(options.checks),
      checkTimeoutMs: time('checkTimeoutMs', 1, 1000),
      checkCacheMs: time('checkCacheMs', 0, 1000),
      startsReady: options.startsReady ?? true,
      cluster: checkedClusterState(options.cluster),
      needsCluster: options.readyNeedsCluster ?? false,
    },
  };
}

function checkOptions(options: ShutdownOptions): void {
  const { closeCode, closeReason, signals, exit, startsReady, readyNeedsCluster } = options;
  if (closeCode !== undefined && closeCode !== 1001 && closeCode !== 1012)
    throw outOfRange('closeCode', closeCode, '1001 or 1012');
  if (closeReason !== undefined && typeof closeReason !== 'string')
    throw wrongType('closeReason', closeReason, 'a string');
  if (exit !== undefined && typeof exit !== 'boolean')
    throw wrongType('exit', exit, 'true or false');
  if (startsReady !== undefined && typeof startsReady !== 'boolean')
    throw wrongType('startsReady', startsReady, 'true or false');
  if (readyNeedsCluster !== undefined && typeof readyNeedsCluster !== 'boolean')
    throw wrongType('readyNeedsCluster', readyNeedsCluster, 'true or false');
  if (readyNeedsCluster === true && options.cluster === undefined)
    throw wrongSecretType(
      'cluster',
      options.cluster,
      'a Cluster, which readyNeedsCluster is about',
    );
  for (const hook of ['onPhase', 'onError'] as const) {
    if (options[hook] !== undefined && typeof options[hook] !== 'function')
      throw wrongType(hook, options[hook], 'a function');
  }
  if (signals === undefined) return;
  if (!Array.isArray(signals)) throw wrongType('signals', signals, `an array of ${SIGNALS}`);
  for (const [index, signal] of signals.entries()) checkSignal(`signals[${index}]`, signal);
}

/** Throws ERR_OUT_OF_RANGE unless a signal can begin a shutdown. */
export function checkSignal(field: string, signal: unknown): void {
  if (typeof signal !== 'string' || !Object.hasOwn(SIGNAL_NUMBERS, signal))
    throw outOfRange(field, signal, `one of ${SIGNALS}`);
}
