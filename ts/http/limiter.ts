/**
 * Limits of HTTP requests, decided in one place; adapters translate. A ticket is one request in flight:
 * it holds its seat, its deadline and its signal.
 */
import { PortcullisError } from '../base/errors.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { Checked } from '../resources/limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { type Answer, answerWith } from './answer.js';

/** Why a request was refused or ended. */
export type RequestRefusalCode =
  | 'draining'
  | 'overload'
  | 'too_many_requests_in_flight'
  | 'payload_too_large'
  | 'headers_too_large'
  | 'request_timeout'
  | 'handler_timeout';

/** How requests fared. */
export interface RequestStats {
  readonly active: number;
  readonly served: number;
  /** Refused or ended, by code; codes that never came up are absent. */
  readonly refused: Readonly<Partial<Record<RequestRefusalCode, number>>>;
}

const REFUSALS: Readonly<Record<RequestRefusalCode, readonly [status: number, message: string]>> = {
  draining: [503, 'Server is draining'],
  overload: [503, 'Server is overloaded'],
  too_many_requests_in_flight: [503, 'Max concurrent requests exceeded'],
  payload_too_large: [413, 'Payload too large'],
  headers_too_large: [431, 'Headers too large'],
  request_timeout: [408, 'Request was not received in time'],
  handler_timeout: [503, 'Request took too long'],
};
const RETRY_MS = 1000;

/** A handler that takes too long has failed; all else is refused before it has begun. @internal */
export function isFailure(code: RequestRefusalCode): boolean {
  return code === 'handler_timeout';
}

/** One request in flight. @internal */
export class InFlightRequest {
  readonly #limiter: RequestLimiter;
  readonly #maxBodyBytes: number;
  readonly #timer: TimerHandle | undefined;
  #controller: AbortController | undefined;
  #joined: AbortSignal | undefined;
  #refusal: RequestRefusalCode | undefined;
  #reason: PortcullisError | undefined;
  #bytes = 0;
  #isOver = false;
  /** Whether the handler waits for the body, which has not come whole. */
  waitsForBody: () => boolean = () => false;
  /** Whether the client has gone, on hosts that say so only when they are asked. */
  isGone: () => boolean = () => false;
  /** Called when the time is over of a request whose client has gone: neither is its handler late, nor does anybody wait for an answer. */
  onGone: (() => void) | undefined;
  /** Called once when the request is to be ended before its handler has. */
  onRefused: ((code: RequestRefusalCode) => void) | undefined;

  constructor(gate: RequestLimiter, limits: Checked<'requests'>, timers: TimerManager) {
    this.#limiter = gate;
    this.#maxBodyBytes = limits.maxPayloadSize;
    if (limits.timeoutMs === Infinity) return;
    this.#timer = timers.setTimeout(() => this.#timeIsOver(), {
      delayMs: limits.timeoutMs,
      ref: false,
      name: 'requests.timeout',
    });
  }

  /** Aborts when the request is ended: its time is over, the client gone, the server forced down. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The same, and when the host's own does. */
  signalWith(own: AbortSignal): AbortSignal {
    return (this.#joined ??= AbortSignal.any([own, this.signal]));
  }

  get refusal(): RequestRefusalCode | undefined {
    return this.#refusal;
  }

  /** Counts bytes of the body; `false` once they are too many. */
  countBody(bytes: number): boolean {
    this.#bytes += bytes;
    if (this.#bytes <= this.#maxBodyBytes) return true;
    this.refuse('payload_too_large');
    return false;
  }

  #timeIsOver(): void {
    if (!this.isGone())
      return this.refuse(this.waitsForBody() ? 'request_timeout' : 'handler_timeout');
    this.abort('The client is gone');
    this.onGone?.();
  }

  /** Ends the request before its handler has. */
  refuse(code: RequestRefusalCode): void {
    if (this.#isOver || this.#refusal !== undefined) return;
    this.#refusal = code;
    this.#limiter.count(code);
    this.abort(REFUSALS[code][1]);
    this.onRefused?.(code);
  }

  abort(why: string): void {
    if (this.#isOver || this.#reason !== undefined) return;
    this.#reason = new PortcullisError('ERR_TIMEOUT', why);
    this.#controller?.abort(this.#reason);
  }

  /** Gives the seat back; may be called again. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.close();
    this.#limiter.ended(this);
  }
}

/** @internal */
export class RequestLimiter {
  readonly #limits: Checked<'requests'>;
  readonly #timers: TimerManager;
  readonly #inFlight = new Set<InFlightRequest>();
  readonly #refused: Partial<Record<RequestRefusalCode, number>> = {};
  readonly #idle: (() => void)[] = [];
  #served = 0;
  readonly #monitor: ResourceMonitor | undefined;
  readonly #metrics: ProductionMetrics | undefined;
  #shedMs = 0;
  #isDraining = false;

  constructor(
    limits: Checked<'requests'>,
    timers: TimerManager,
    monitor?: ResourceMonitor,
    metrics?: ProductionMetrics,
  ) {
    this.#metrics = metrics;
    this.#limits = limits;
    this.#timers = timers;
    this.#monitor = monitor;
  }

  get active(): number {
    return this.#inFlight.size;
  }

  get limits(): Checked<'requests'> {
    return this.#limits;
  }

  stats(): RequestStats {
    return { active: this.#inFlight.size, served: this.#served, refused: { ...this.#refused } };
  }

  /**
   * Lets a request in, or says why not.
   * @param headerBytes of all headers; 0 where the host has judged them
   * @param contentLength as it was sent, if it was
   * @param isJudgedLater whether what it asks for decides about load: it must not be asked twice
   */
  admit(
    headerBytes: number,
    contentLength: string | null | undefined,
    isJudgedLater?: () => boolean,
  ): InFlightRequest | RequestRefusalCode {
    const code = this.#judge(headerBytes, contentLength, isJudgedLater);
    if (code !== undefined) {
      this.count(code);
      return code;
    }
    const ticket = new InFlightRequest(this, this.#limits, this.#timers);
    this.#inFlight.add(ticket);
    this.#monitor?.requestStarted();
    return ticket;
  }

  #judge(
    headerBytes: number,
    contentLength: string | null | undefined,
    isJudgedLater?: () => boolean,
  ): RequestRefusalCode | undefined {
    if (this.#isDraining) return 'draining';
    if (headerBytes > this.#limits.maxHeaderSize) return 'headers_too_large';
    if (typeof contentLength === 'string' && Number(contentLength) > this.#limits.maxPayloadSize)
      return 'payload_too_large';
    if (this.#inFlight.size >= this.#limits.maxConcurrent) return 'too_many_requests_in_flight';
    // Last: what is refused anyway is no part of what is shed.
    if (
      this.#monitor === undefined ||
      this.#monitor.isPressed === false ||
      isJudgedLater?.() === true
    )
      return undefined;
    this.#shedMs = this.#monitor.shedMs();
    return this.#shedMs > 0 ? 'overload' : undefined;
  }

  /** What to tell the client. */
  answer(code: RequestRefusalCode): Answer {
    const [status, message] = REFUSALS[code];
    const retry = status === 503 || status === 408;
    const retryAfterMs = code === 'overload' ? this.#shedMs : RETRY_MS;
    const headers: Record<string, string> = retry
      ? { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }
      : {};
    // What follows on this connection may be the rest of a body that nobody reads.
    if (code !== 'too_many_requests_in_flight' && code !== 'overload')
      headers['connection'] = 'close';
    return answerWith(status, { code, message, ...(retry ? { retryAfterMs } : {}) }, headers);
  }

  count(code: RequestRefusalCode): void {
    this.#refused[code] = (this.#refused[code] ?? 0) + 1;
    if (!isFailure(code)) this.#metrics?.recordRefusal(code);
  }

  ended(ticket: InFlightRequest): void {
    this.#inFlight.delete(ticket);
    this.#served++;
    this.#monitor?.requestEnded();
    if (this.#inFlight.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Refuses newcomers from now on. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Resolves when no request is in flight. */
  whenIdle(): Promise<void> {
    return this.#inFlight.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => void this.#idle.push(resolve));
  }

  abort(): void {
    for (const ticket of this.#inFlight) ticket.abort('The server is shutting down');
  }
}
