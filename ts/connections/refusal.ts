/** Refusals: their codes and texts, and their counts. */
import { wholeMs } from '../base/clock.js';
import type { Hooks } from '../base/hooks.js';
import type { RequestTrace } from '../base/trace.js';
import type { PressureCause } from '../resources/pressure.js';

/** Reason of a refusal, as a stable code. */
export type RefusalCode =
  | 'banned'
  | 'draining'
  | 'total_limit'
  | 'prefix_limit'
  | 'ip_limit'
  | 'user_limit'
  | 'anonymous_limit'
  | 'anonymous_ip_limit'
  | 'ip_rate'
  | 'user_rate'
  | 'unknown_ip_limit'
  | 'host_full'
  | 'pending_limit'
  | 'pending_ip_limit'
  | 'overload'
  | 'cluster_unreachable'
  | 'client_left'
  | 'duplicate_id'
  | 'closed'
  | 'stale_lease';

/** A refusal: the outcome of an admission that a limit forbids. */
export interface Refusal {
  readonly success: false;
  /** Text for the client. */
  readonly reason: string;
  /** Stable code. */
  readonly code: RefusalCode;
  /** Milliseconds until a retry may succeed: at least 1. */
  readonly retryAfterMs: number;
  /** Cause of `overload`; absent for other codes. */
  readonly cause?: PressureCause;
  /** `true` for a client that was admitted at once, and that the cluster has refused afterwards. */
  readonly late?: true;
}

/** Text of each code. @internal */
export const REASONS: Readonly<Record<RefusalCode, string>> = {
  banned: 'Address is banned',
  draining: 'Server is draining',
  total_limit: 'Max total connections exceeded',
  prefix_limit: 'Max connections per IP prefix exceeded',
  ip_limit: 'Max connections per IP exceeded',
  user_limit: 'Max connections per user exceeded',
  anonymous_limit: 'Max anonymous connections exceeded',
  anonymous_ip_limit: 'Max anonymous connections per IP exceeded',
  ip_rate: 'Connect rate per IP exceeded',
  user_rate: 'Connect rate per user exceeded',
  unknown_ip_limit: 'Max connections without an IP exceeded',
  host_full: 'Too many clients are counted on this host',
  pending_limit: 'Max pending handshakes exceeded',
  pending_ip_limit: 'Max pending handshakes per IP exceeded',
  overload: 'Server is overloaded',
  cluster_unreachable: 'Connections cannot be counted at the moment',
  client_left: 'Client has left',
  duplicate_id: 'Connection id is in use',
  closed: 'Connection manager is closed',
  stale_lease: 'Lease has expired or was used',
};

/** Codes that the core refuses with: the core's number, from 1, is the place in this list. @internal */
export const NATIVE_CODES: readonly RefusalCode[] = [
  'draining',
  'total_limit',
  'prefix_limit',
  'ip_limit',
  'user_limit',
  'anonymous_limit',
  'anonymous_ip_limit',
  'ip_rate',
  'user_rate',
  'unknown_ip_limit',
  'host_full',
];

/** A refusal with the trace of the refused handshake. */
export interface TracedRefusal extends Refusal {
  /** Id of the handshake; see `RequestTrace`. `undefined` where the manager was called without a guard. */
  readonly requestId: string | undefined;
  /** Its `traceparent`, if it has a valid one. */
  readonly traceparent: string | undefined;
}

type OnRefuse = (refusal: TracedRefusal, ip: string, userId: string | undefined) => void;

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

/** Makes the refusals of one manager, counts them and reports them to its hook. @internal */
export class Refusals {
  readonly #counts: Partial<Record<RefusalCode, number>> = {};
  readonly #hooks: Hooks;
  readonly #onRefuse: OnRefuse | undefined;
  readonly #onObserve: OnRefuse | undefined;
  readonly #observed: Partial<Record<RefusalCode, number>> = {};

  constructor(hooks: Hooks, onRefuse: OnRefuse | undefined, onObserve: OnRefuse | undefined) {
    this.#hooks = hooks;
    this.#onRefuse = onRefuse;
    this.#onObserve = onObserve;
  }

  /**
   * Makes a refusal and counts it.
   * @param retryAfterMs rounded up to whole milliseconds, at least 1
   * @param cause of `overload`
   * @param trace of the handshake
   */
  refuse(
    code: RefusalCode,
    ip: string,
    userId: string | undefined,
    retryAfterMs: number,
    cause?: PressureCause,
    isLate = false,
    trace?: RequestTrace,
  ): Refusal {
    this.#counts[code] = (this.#counts[code] ?? 0) + 1;
    const made = refusalOf(code, retryAfterMs, cause);
    const refusal: Refusal = isLate ? { ...made, late: true } : made;
    if (this.#onRefuse !== undefined)
      this.#hooks.run('onRefuse', () =>
        this.#onRefuse?.(new HookRefusal(refusal, trace), ip, userId),
      );
    return refusal;
  }

  /** Counts and reports an admission that a limit would have refused, were it not only observed. */
  observe(
    code: RefusalCode,
    ip: string,
    userId: string | undefined,
    retryAfterMs: number,
    trace?: RequestTrace,
  ): void {
    this.#observed[code] = (this.#observed[code] ?? 0) + 1;
    if (this.#onObserve === undefined) return;
    const refusal = new HookRefusal(refusalOf(code, retryAfterMs), trace);
    this.#hooks.run('onObserve', () => this.#onObserve?.(refusal, ip, userId));
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

function refusalOf(code: RefusalCode, retryAfterMs: number, cause?: PressureCause): Refusal {
  return {
    success: false,
    reason: REASONS[code],
    code,
    retryAfterMs: Math.max(1, wholeMs(retryAfterMs)),
    ...(cause === undefined ? {} : { cause }),
  };
}
