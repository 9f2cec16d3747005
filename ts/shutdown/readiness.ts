/** Whether a server may get new clients: the application's word, its checks, and the shutdown. */
import { wrongSecretType } from '../base/errors.js';
import { namedFunctions } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import type { ErrorCollector } from './errors.js';
import { type ClusterHealth, type HealthAnswer, healthy, unready } from './health.js';
import type { ShutdownPhase } from './result.js';

/**
 * A check of something that the server needs, such as its database. It fails if it returns `false`
 * or a promise of `false`, if it throws or rejects, and if it takes too long: then `signal` aborts.
 */
export type ReadinessCheck = (signal: AbortSignal) => unknown;

/** Outcome of a check: `pending` until it has ended for the first time. */
export type CheckOutcome = 'ok' | 'failed' | 'timeout' | 'pending';

/** One named check with its last outcome. */
class Check {
  outcome: CheckOutcome = 'pending';
  /** When it ended last, on the clock of the shutdown; `-Infinity` before. */
  endedMs = -Infinity;
  /** The run under way: who asks meanwhile waits for the same one. */
  running: Promise<void> | undefined;
  /** Ends the wait for the run under way. */
  giveUp: () => void = () => undefined;
  /** Whether a run that was given up has not returned yet; no other begins beside it. */
  isStuck = false;

  constructor(
    readonly name: string,
    readonly run: ReadinessCheck,
  ) {}
}

/** Throws unless the option `checks` holds functions by name. */
export function checkedChecks(checks: unknown): readonly Check[] {
  return namedFunctions('checks', checks).map(
    ([name, run]) => new Check(name, run as ReadinessCheck),
  );
}

/** The part of a `Cluster` that a health answer tells. */
export interface ReportsClusterState {
  snapshot(): { readonly state: string; readonly sinceMs: number };
}

/** Throws unless the option `cluster` is one. */
export function checkedClusterState(cluster: unknown): ReportsClusterState | undefined {
  const { snapshot } = (cluster ?? {}) as { snapshot?: unknown };
  if (cluster !== undefined && typeof snapshot !== 'function')
    throw wrongSecretType('cluster', cluster, 'a Cluster');
  return cluster as ReportsClusterState | undefined;
}

/** The checked options of a readiness. */
export interface ReadinessSettings {
  readonly checks: readonly Check[];
  readonly checkTimeoutMs: number;
  readonly checkCacheMs: number;
  readonly startsReady: boolean;
  readonly cluster: ReportsClusterState | undefined;
  readonly needsCluster: boolean;
}

/** The readiness of one server. */
export class Readiness {
  readonly #timers: TimerManager;
  readonly #errors: ErrorCollector;
  readonly #settings: ReadinessSettings;
  readonly #checks: readonly Check[];
  /** Why the application wants no new clients; `undefined` if it does. */
  #reason: string | undefined;
  #hasStarted = false;

  /**
   * @param timers for timeouts and the age of outcomes
   * @param errors reports the errors of checks
   */
  constructor(timers: TimerManager, errors: ErrorCollector, settings: ReadinessSettings) {
    this.#timers = timers;
    this.#errors = errors;
    this.#settings = settings;
    this.#checks = settings.checks;
    if (!settings.startsReady) this.#reason = 'The server is starting';
    this.#noteStart();
  }

  /** Whether the server has been ready. */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  ready(): void {
    this.#reason = undefined;
    this.#noteStart();
  }

  notReady(reason: string): void {
    this.#reason = reason;
  }

  /** True if nothing is known that speaks against new clients. A check that has not ended yet does. */
  isReadyIn(phase: ShutdownPhase): boolean {
    return (
      phase === 'running' &&
      this.#reason === undefined &&
      this.#checks.every(({ outcome }) => outcome === 'ok') &&
      (!this.#settings.needsCluster || this.#cluster()?.state === 'up')
    );
  }

  /** Returns the state of the cluster, if there is one and if it can be read. */
  #cluster(): ClusterHealth | undefined {
    try {
      const stats = this.#settings.cluster?.snapshot();
      return stats === undefined
        ? undefined
        : { state: stats.state, sinceMs: Math.round(stats.sinceMs) };
    } catch (error) {
      // The application's own object: an answer to a probe must not fail with it.
      this.#errors.report('cluster', error);
      return undefined;
    }
  }

  #noteStart(): void {
    this.#hasStarted ||= this.isReadyIn('running');
  }

  /** Returns the answer of a readiness endpoint by the last outcomes. */
  answerIn(phase: ShutdownPhase): HealthAnswer {
    const checks = this.#checks;
    const outcomes =
      checks.length === 0
        ? undefined
        : Object.fromEntries(checks.map(({ name, outcome }) => [name, outcome]));
    const cluster = this.#cluster();
    if (this.isReadyIn(phase)) return healthy('ready', outcomes, cluster);
    if (phase !== 'running') return unready('The server is shutting down', phase);
    const isOk = checks.every(({ outcome }) => outcome === 'ok');
    const detail = isOk ? 'The cluster is not up' : 'A check has failed';
    return unready(this.#reason ?? detail, phase, outcomes, cluster);
  }

  /** Returns the answer of a startup endpoint: 200 once the server has been ready. */
  startupAnswerIn(phase: ShutdownPhase): HealthAnswer {
    // The cluster comes up by itself.
    this.#noteStart();
    return this.#hasStarted ? healthy('started') : this.answerIn(phase);
  }

  /** Gives up the checks under way: the timers end with the shutdown. */
  stop(): void {
    for (const { giveUp } of this.#checks) giveUp();
  }

  /** Runs the checks whose outcomes are too old, and waits for those under way. */
  async refresh(phase: ShutdownPhase): Promise<void> {
    if (phase !== 'running') return;
    await Promise.all(this.#checks.map((check) => this.#refresh(check)));
  }

  #refresh(check: Check): Promise<void> | undefined {
    if (check.running !== undefined) return check.running;
    if (check.isStuck) return undefined;
    const ageMs = this.#timers.driver.now() - check.endedMs;
    if (check.outcome !== 'pending' && ageMs < this.#settings.checkCacheMs) return undefined;
    return (check.running = this.#run(check).finally(() => (check.running = undefined)));
  }

  async #run(check: Check): Promise<void> {
    const controller = new AbortController();
    const late = Symbol('late');
    const timedOut = new Promise<symbol>((resolve) => (check.giveUp = () => resolve(late)));
    const timer = this.#timers.setTimeout(check.giveUp, this.#settings.checkTimeoutMs);
    check.isStuck = true;
    const run = (async () => check.run(controller.signal))().finally(() => (check.isStuck = false));
    try {
      const value = await Promise.race([run, timedOut]);
      check.outcome = value === late ? 'timeout' : value === false ? 'failed' : 'ok';
    } catch (error) {
      check.outcome = 'failed';
      this.#errors.tell(`check ${check.name}`, error);
    }
    timer.close();
    check.endedMs = this.#timers.driver.now();
    this.#noteStart();
    if (check.outcome === 'timeout') {
      // Its error comes after its verdict, and nobody waits for it.
      run.catch((error: unknown) => this.#errors.tell(`check ${check.name}`, error));
      controller.abort(new DOMException('The check took too long', 'TimeoutError'));
    }
  }
}
