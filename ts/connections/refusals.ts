/** The refusals of one manager: their retry times, their counts, and the hooks that hear of them. */
import { wholeMs } from '../base/clock.js';
import type { Hooks } from '../base/hooks.js';
import type { RequestTrace } from '../base/trace.js';
import type { PressureCause } from '../resources/pressure.js';
import { REASONS, type Refusal, type RefusalCode, type TracedRefusal } from './refusal.js';
import type { RetryTimes } from './retry.js';

type OnRefuse = (refusal: TracedRefusal, ip: string, userId: string | undefined) => void;

/** Receives the refusals of one manager. @internal */
export interface RefusalListeners {
  readonly onRefuse: OnRefuse | undefined;
  readonly onObserve: OnRefuse | undefined;
  /** Called before each refusal by a connect rate, with the client's address. */
  readonly onRate: (ip: string) => void;
}

/** The refusal of a hook: most hooks never read the trace, which is looked for in the headers. */
class HookRefusal implements TracedRefusal {
  readonly success = false;
  declare readonly reason: string;
  declare readonly code: RefusalCode;
  declare readonly retryAfterMs: number;
  readonly #trace: RequestTrace | undefined;

  constructor(refusal: Refusal, trace: RequestTrace | undefined) {
    Object.assign(this, refusal);
    this.#trace = trace;
  }

  get requestId(): string | undefined {
    return this.#trace?.requestId;
  }

  get traceparent(): string | undefined {
    return this.#trace?.traceparent;
  }
}

/** Makes the refusals of one manager, counts them and reports them. @internal */
export class Refusals {
  readonly #counts: Partial<Record<RefusalCode, number>> = {};
  readonly #observed: Partial<Record<RefusalCode, number>> = {};
  readonly #hooks: Hooks;
  readonly #listeners: RefusalListeners;
  readonly #retry: RetryTimes;

  constructor(hooks: Hooks, listeners: RefusalListeners, retry: RetryTimes) {
    this.#hooks = hooks;
    this.#listeners = listeners;
    this.#retry = retry;
  }

  /**
   * Makes a refusal and counts it, also towards a ban if a connect rate refuses.
   * @param retryMs time until a retry may succeed, if it is known; otherwise that of the code
   * @param trace of the handshake
   */
  refuse(
    code: RefusalCode,
    ip: string,
    userId: string | undefined,
    trace?: RequestTrace,
    retryMs?: number,
    isLate = false,
  ): Refusal {
    if (code === 'ip_rate' || code === 'user_rate') this.#listeners.onRate(ip);
    return this.make(code, ip, userId, retryMs ?? this.#retry.of(code), undefined, isLate, trace);
  }

  /**
   * Makes a refusal and counts it; not towards a ban.
   * @param retryMs rounded up to whole milliseconds, at least 1
   * @param cause of `overload`
   * @param trace of the handshake
   */
  make(
    code: RefusalCode,
    ip: string,
    userId: string | undefined,
    retryMs: number,
    cause?: PressureCause,
    isLate = false,
    trace?: RequestTrace,
  ): Refusal {
    this.#counts[code] = (this.#counts[code] ?? 0) + 1;
    const made = refusalOf(code, retryMs, cause);
    const refusal: Refusal = isLate ? { ...made, late: true } : made;
    const { onRefuse } = this.#listeners;
    if (onRefuse !== undefined)
      this.#hooks.run('onRefuse', () => onRefuse(new HookRefusal(refusal, trace), ip, userId));
    return refusal;
  }

  /**
   * Counts and reports an admission that a limit would have refused, were it not only observed.
   * @param retryMs as in `refuse`
   */
  observe(
    code: RefusalCode,
    ip: string,
    userId: string | undefined,
    trace?: RequestTrace,
    retryMs = this.#retry.of(code),
  ): void {
    this.#observed[code] = (this.#observed[code] ?? 0) + 1;
    const { onObserve } = this.#listeners;
    if (onObserve === undefined) return;
    const refusal = new HookRefusal(refusalOf(code, retryMs), trace);
    this.#hooks.run('onObserve', () => onObserve(refusal, ip, userId));
  }

  /** Returns a copy of the counts; codes that never came up are absent. */
  snapshot(): Partial<Record<RefusalCode, number>> {
    return { ...this.#counts };
  }

  /** Returns a copy of the counts of observed limits; codes that never came up are absent. */
  observed(): Partial<Record<RefusalCode, number>> {
    return { ...this.#observed };
  }
}

function refusalOf(code: RefusalCode, retryMs: number, cause?: PressureCause): Refusal {
  return {
    success: false,
    reason: REASONS[code],
    code,
    retryAfterMs: Math.max(1, wholeMs(retryMs)),
    ...(cause === undefined ? {} : { cause }),
  };
}
