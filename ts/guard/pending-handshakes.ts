/** The handshakes of a guard that wait for their identity: how many, and for how long. */
import { PortcullisError } from '../base/errors.js';
import { clientKeyOf } from '../base/address.js';
import { wholeNumber } from '../base/options.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { WaitingClient } from '../http/handshake.js';
import type { Admission } from './admission.js';

/** Default of `maxPendingHandshakes`. @internal */
export const PENDING_MAX = 1000;

/** Limits of waiting handshakes. @internal */
export interface PendingLimits {
  readonly total: number;
  readonly perIp: number;
}

/** Checks the limits. @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE @internal */
export function pendingLimitsOf({
  maxPendingHandshakes,
  maxPendingHandshakesPerIp,
}: {
  readonly maxPendingHandshakes?: number | undefined;
  readonly maxPendingHandshakesPerIp?: number | undefined;
}): PendingLimits {
  const most = Number.MAX_SAFE_INTEGER;
  return {
    total: wholeNumber('maxPendingHandshakes', maxPendingHandshakes, 0, most, PENDING_MAX),
    perIp: wholeNumber('maxPendingHandshakesPerIp', maxPendingHandshakesPerIp, 0, most, Infinity),
  };
}

/** Rejection of a wait whose admission has ended already: it was denied, or its client has left. @internal */
export const NOT_WAITING = new PortcullisError('ERR_INTERNAL', 'the handshake does not wait');

/** Bounds the handshakes that wait for their identity. @internal */
export class PendingHandshakes {
  readonly #manager: ConnectionManager;
  readonly #timers: TimerManager;
  readonly #timeoutMs: number;
  readonly #limits: PendingLimits;
  readonly #perIp = new Map<string, number>();
  #count = 0;

  constructor(
    manager: ConnectionManager,
    timers: TimerManager,
    timeoutMs: number,
    limits: PendingLimits,
  ) {
    this.#manager = manager;
    this.#timers = timers;
    this.#timeoutMs = timeoutMs;
    this.#limits = limits;
  }

  /** Handshakes that wait. */
  get count(): number {
    return this.#count;
  }

  /** Denies a seated client that may not wait; asked before its identity is. */
  admits(admission: Admission): boolean {
    const { ip, trace } = admission;
    const code =
      this.#count >= this.#limits.total
        ? 'pending_limit'
        : (this.#perIp.get(clientKeyOf(ip, this.#manager.ipv6PrefixBits)) ?? 0) >=
            this.#limits.perIp
          ? 'pending_ip_limit'
          : undefined;
    if (code !== undefined) admission.deny(this.#manager.refuseWaiting(code, ip, trace));
    return code === undefined;
  }

  /**
   * Waits for the identity of a seated client.
   * @param client reports that the client has left; its seat is given back at once
   * @param identity its later rejections are handled, too
   * @returns the identity; rejects with its error, with ERR_IDENTIFY_TIMEOUT, or with `NOT_WAITING`
   */
  wait<T>(
    admission: Admission,
    client: WaitingClient | undefined,
    identity: PromiseLike<T>,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      // First: a rejection must be handled whatever happens below.
      const answer = Promise.resolve(identity);
      answer.then(resolve, reject);
      const key = clientKeyOf(admission.ip, this.#manager.ipv6PrefixBits);
      // Strict timers that are closed throw here: nothing is counted yet.
      const timer = this.#timers.setTimeout(() => end(this.#timedOut()), {
        delayMs: this.#timeoutMs,
        ref: false,
        name: 'identify',
      });
      this.#count++;
      this.#perIp.set(key, (this.#perIp.get(key) ?? 0) + 1);
      let isWaiting = true;
      let stopListening: (() => void) | undefined;
      const end = (error?: PortcullisError): void => {
        if (!isWaiting) return;
        isWaiting = false;
        admission.whenEnded(undefined);
        this.#ended(key, timer);
        stopListening?.();
        if (error !== undefined) reject(error);
      };
      admission.whenEnded(() => end(NOT_WAITING));
      answer.then(
        () => end(),
        () => end(),
      );
      // Last: the client may have left already, and then the host says so at once, or at the end of the turn.
      stopListening = client?.onGone(() => void admission.end('reset'));
      // The application may have drained its guard as it was asked for the identity.
      if (admission.isRefused) end(NOT_WAITING);
    });
  }

  #ended(key: string, timer: TimerHandle): void {
    timer.close();
    this.#count--;
    const left = (this.#perIp.get(key) ?? 1) - 1;
    if (left === 0) this.#perIp.delete(key);
    else this.#perIp.set(key, left);
  }

  #timedOut(): PortcullisError {
    const ms = this.#timeoutMs;
    return new PortcullisError('ERR_IDENTIFY_TIMEOUT', `identify took longer than ${ms} ms`, {
      field: 'identifyTimeoutMs',
      value: String(ms),
    });
  }
}
