/** The hooks of a shutdown, and how they share its time. */
import { PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import { Deadline } from './deadline.js';
import type { ErrorCollector } from './errors.js';
import type { ShutdownLeftover } from './result.js';

/** Argument of a hook. */
export interface ShutdownContext {
  /** Cause of the shutdown: the name of a signal, or the argument of `shutdown()`. */
  readonly reason: string;
  /** Aborts when the hook's time is over. */
  readonly signal: AbortSignal;
}

/**
 * Hook of a shutdown. Called once, after the requests have ended and before the timers are cleared.
 */
export type ShutdownHook = (context: ShutdownContext) => unknown;

interface Hook {
  readonly name: string;
  readonly timeoutMs: number;
  readonly run: ShutdownHook;
}

/**
 * Checks the arguments of `onShutdown` and returns the hook.
 * @param hookTimeoutMs its time where the options have none
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function checkedHook(
  name: string,
  run: ShutdownHook,
  options: { readonly timeoutMs?: number | undefined },
  hookTimeoutMs: number,
): Hook {
  if (typeof name !== 'string' || name === '') throw wrongType('name', name, 'a name');
  if (typeof run !== 'function') throw wrongType('hook', run, 'a function');
  optionsObject('options', options);
  knownOptions('onShutdown', options, ['timeoutMs']);
  const timeoutMs = wholeNumber('timeoutMs', options.timeoutMs, 1, TIME_MAX_MS, hookTimeoutMs);
  return { name, timeoutMs, run };
}

/** Runs hooks, the last added first. */
export class HookRunner {
  readonly #hooks: Hook[] = [];
  readonly #leftovers: ShutdownLeftover[] = [];
  readonly #timers: TimerManager;
  readonly #errors: ErrorCollector;

  constructor(timers: TimerManager, errors: ErrorCollector) {
    this.#timers = timers;
    this.#errors = errors;
  }

  add(hook: Hook): void {
    this.#hooks.push(hook);
  }

  /** Time that all hooks together may take, ms. */
  get totalMs(): number {
    return sumOf(this.#hooks);
  }

  /** Hooks that did not end in time, or did not run. */
  get leftovers(): readonly ShutdownLeftover[] {
    return this.#leftovers;
  }

  /** Runs all hooks, one after the other, until `deadline`, which is at `endMs`. */
  async run(reason: string, deadline: Deadline, endMs: number): Promise<void> {
    const hooks = this.#hooks.toReversed();
    for (const [index, hook] of hooks.entries()) {
      const timeoutMs = shareOf(hook, hooks.slice(index + 1), endMs - this.#timers.driver.now());
      if (timeoutMs <= 0 || deadline.isPast)
        this.#leave(hook, 'was not run: the deadline had passed');
      else await this.#runHook(hook, reason, timeoutMs);
    }
  }

  async #runHook(hook: Hook, reason: string, timeoutMs: number): Promise<void> {
    const controller = new AbortController();
    const deadline = new Deadline(this.#timers, timeoutMs);
    let isDone = false;
    const run = this.#errors
      .settle(hook.name, () => hook.run({ reason, signal: controller.signal }), deadline)
      .then(() => (isDone = true));
    await deadline.race(run);
    deadline.cancel();
    if (isDone) return;
    this.#leave(hook, `took more than ${timeoutMs} ms`);
    controller.abort();
  }

  /** Notes a hook that has not ended. */
  #leave({ name }: Hook, problem: string): void {
    this.#errors.collect(
      name,
      new PortcullisError('ERR_TIMEOUT', `the hook ${name} ${problem}`, { field: name }),
    );
    this.#leftovers.push({ kind: 'hook', name, count: 1 });
  }
}

const sumOf = (hooks: readonly Hook[]): number =>
  hooks.reduce((sum, { timeoutMs }) => sum + timeoutMs, 0);

/**
 * Returns the time for a hook, ms: at most its own timeout, and as much of it as the later hooks
 * leave over. If there is not enough for all, each gets an equal share of what is left.
 */
function shareOf(hook: Hook, later: readonly Hook[], leftMs: number): number {
  const spareMs = leftMs - sumOf(later);
  return Math.floor(Math.min(hook.timeoutMs, Math.max(spareMs, leftMs / (later.length + 1))));
}
