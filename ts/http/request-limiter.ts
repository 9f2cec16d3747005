/**
 * Limits of HTTP requests, decided in one place; `fetch.ts` and `node.ts` translate for the two kinds of
 * hosts. A request in flight holds its seat, its deadline and its signal.
 */
import type { AsyncResource } from 'node:async_hooks';
import { clientKeyOf } from '../base/address.js';
import { wholeMs } from '../base/clock.js';
import { ArgumentRangeError, PortcullisError } from '../base/errors.js';
import type { RequestTrace, Tracer } from '../base/trace.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { Checked } from '../resources/resource-limits.js';
import { RetryEstimate } from '../connections/retry.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { PressureCause } from '../resources/pressure.js';
import { RunningRequest } from '../resources/running.js';
import { captureContext } from '../timers/driver.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { type Answer, answerWith } from './answer.js';
import type {
  RatedOutcome,
  RatedRequest,
  RateRefusalCode,
  RequestRateLimiter,
} from './request-rates.js';
import type { RefusalShape } from './refusal-shape.js';

/** Reason for refusing a request or ending it early. */
export type RequestRefusalCode =
  | 'draining'
  | 'overload'
  | 'too_many_requests_in_flight'
  | 'too_many_requests_of_ip'
  | 'payload_too_large'
  | 'headers_too_large'
  | 'request_timeout'
  | 'handler_timeout'
  | 'ip_request_rate'
  | 'route_request_rate'
  | 'key_request_rate'
  | 'user_request_rate';

/** Code of a refusal with the answer that belongs to it, or the code alone. @internal */
export type RequestRefusal =
  RequestRefusalCode | { readonly code: RequestRefusalCode; readonly answer: Answer };

/** Returns the code of a refusal. @internal */
export const codeOfRefusal = (refusal: RequestRefusal): RequestRefusalCode =>
  typeof refusal === 'string' ? refusal : refusal.code;

/** Returns the error for a reader of a body beyond `maxPayloadSize`. @internal */
export const bodyTooLarge = (): Error =>
  new ArgumentRangeError('the body is larger than maxPayloadSize', { field: 'body' });

/** Counts of requests. */
export interface RequestStats {
  /** Requests in flight. */
  readonly active: number;
  /** Requests that ended, early or not. */
  readonly served: number;
  /** Requests refused or ended early, by code; codes without one are absent. */
  readonly refused: Readonly<Partial<Record<RequestRefusalCode, number>>>;
}

const REFUSALS: Readonly<
  Record<Exclude<RequestRefusalCode, RateRefusalCode>, readonly [status: number, message: string]>
> = {
  draining: [503, 'Server is draining'],
  overload: [503, 'Server is overloaded'],
  too_many_requests_in_flight: [503, 'Max concurrent requests exceeded'],
  too_many_requests_of_ip: [429, 'Max concurrent requests per IP exceeded'],
  payload_too_large: [413, 'Payload too large'],
  headers_too_large: [431, 'Headers too large'],
  request_timeout: [408, 'Request was not received in time'],
  handler_timeout: [503, 'Request took too long'],
};
/** Default of the questions to a host; one function for all requests. */
const no = (): boolean => false;
/** Interval at which a request under way asks its host whether the client is gone. */
const CLIENT_CHECK_MS = 1000;
/** Of these intervals, those between two calls of `checkClient`: it costs a ping. */
const CHECK_EVERY = 30;
/** Most requests are answered within this time, and need no timer of their own. */
const WATCH_AFTER_MS = 50;

/** Refusals after which a client may use its connection further. */
const KEEPS_CONNECTION: ReadonlySet<RequestRefusalCode> = new Set([
  'too_many_requests_in_flight',
  'too_many_requests_of_ip',
  'overload',
]);

/** True for an error of the handler; all other codes refuse a request before the handler runs. @internal */
export function isFailure(code: RequestRefusalCode): boolean {
  return code === 'handler_timeout';
}

/** The adapter of a host, which waits for the answer to a request. @internal */
export interface RequestWaiter {
  /** Called once, when the request has to end before its handler does. */
  refused(code: RequestRefusalCode): void;
  /** True if the client is gone, on hosts that tell only on demand. Asked once a second. */
  isGone?(): boolean;
  /** Called once, after `isGone` has returned `true`: no client waits for an answer. */
  left?(): void;
  /**
   * Ends the connection of a client that has left unnoticed. Called at the timeout, after a second, and then every
   * `CHECK_EVERY` seconds, also of a response that has begun.
   */
  checkClient?: (() => void) | undefined;
}

/** One request in flight. @internal */
export class InFlightRequest extends RunningRequest {
  readonly #limiter: RequestLimiter;
  readonly #timers: TimerManager;
  readonly #maxBodyBytes: number;
  /** Key of its client; `undefined` without a limit for each. */
  readonly client: string | undefined;
  /** Time until the timeout, from the next alarm of the timer on. */
  #leftMs: number;
  readonly #admittedMs: number;
  #timer: TimerHandle | undefined;
  #controller: AbortController | undefined;
  #joined: AbortSignal | undefined;
  #refusal: RequestRefusalCode | undefined;
  #reason: PortcullisError | undefined;
  #bytes = 0;
  #isOver = false;
  /** Intervals since the last call of `checkClient`. */
  #unchecked = CHECK_EVERY;
  /** True while the handler waits for a body that has not arrived whole. */
  waitsForBody: () => boolean = no;
  /** True once the client has the beginning of the response: the timeout is over. */
  hasBegun: () => boolean = no;
  #waiter: RequestWaiter | undefined;
  #context: AsyncResource | undefined;
  /** Costs that its rates admitted; `undefined` without rates. */
  rated: RatedOutcome | undefined;
  /** Request of the adapter. */
  readonly #request: object | undefined;

  constructor(
    limiter: RequestLimiter,
    limits: Checked<'requests'>,
    timers: TimerManager,
    client: string | undefined,
    request?: object,
  ) {
    super();
    this.#request = request;
    this.#limiter = limiter;
    this.#timers = timers;
    this.client = client;
    this.#maxBodyBytes = limits.maxPayloadSize;
    this.#leftMs = limits.timeoutMs;
    this.#admittedMs = limits.timeoutMs === Infinity ? 0 : timers.driver.now();
  }

  /**
   * Notes who waits for the answer. The timeout counts from the admission. Where the waiter can tell that the client is
   * gone, it ends the request within a second.
   */
  awaitedBy(waiter: RequestWaiter): void {
    if (this.#isOver) return;
    this.#waiter = waiter;
    if (this.#leftMs === Infinity && !waiter.isGone && !waiter.checkClient) return;
    // Its timeout runs in the AsyncLocalStorage context in which it came in, not in that of another request.
    this.#context = captureContext();
    this.#limiter.watchLater(this);
  }

  /** Time of the admission, ms; 0 without a timeout. */
  get admittedMs(): number {
    return this.#admittedMs;
  }

  /** Returns the time until the timeout of a request without a timer, ms: at least 0. */
  remainingMs(): number {
    if (this.#leftMs === Infinity) return Infinity;
    return Math.max(0, this.#leftMs - (this.#timers.driver.now() - this.#admittedMs));
  }

  /** Sets the timer of a request that has waited for a while. */
  watch(): void {
    if (this.#isOver || this.#timer !== undefined) return;
    this.#leftMs = this.remainingMs();
    this.#context?.runInAsyncScope(() => {
      if (this.#leftMs === 0) this.#onTimer();
      else this.#arm(CLIENT_CHECK_MS - WATCH_AFTER_MS);
    });
  }

  #arm(checkMs: number): void {
    const delayMs = Math.min(this.#leftMs, checkMs);
    this.#leftMs -= delayMs;
    try {
      this.#timer = this.#timers.setTimeout(() => this.#onTimer(), {
        delayMs,
        ref: false,
        name: 'requests.timeout',
      });
    } catch {
      // ERR_CLOSED or ERR_TOO_MANY_TIMERS: the request is served without a timeout.
      this.#leftMs = Infinity;
    }
  }

  get trace(): RequestTrace | undefined {
    return this.#request === undefined ? undefined : this.#limiter.tracer?.of(this.#request);
  }

  /** Aborts at the timeout, when the client is gone, and when the server is forced down. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Returns a signal that aborts with this one or with the host's own. */
  signalWith(own: AbortSignal): AbortSignal {
    return (this.#joined ??= AbortSignal.any([own, this.signal]));
  }

  /** Code of the refusal, once there is one. */
  get refusal(): RequestRefusalCode | undefined {
    return this.#refusal;
  }

  /** Counts bytes of the body. Returns `false` above the limit: the caller then fails the body. */
  countBody(bytes: number): boolean {
    this.#bytes += bytes;
    if (this.#bytes <= this.#maxBodyBytes) return true;
    this.refuse('payload_too_large');
    return false;
  }

  #onTimer(): void {
    const waiter = this.#waiter;
    if (++this.#unchecked >= CHECK_EVERY || this.#leftMs === 0) {
      this.#unchecked = 0;
      waiter?.checkClient?.();
    }
    if (waiter?.isGone?.() === true) {
      this.abort('The client is gone');
      waiter.left?.();
    } else if (this.#leftMs > 0) this.#arm(CLIENT_CHECK_MS);
    else if (!this.hasBegun())
      this.refuse(this.waitsForBody() ? 'request_timeout' : 'handler_timeout');
    else if (waiter?.checkClient !== undefined) {
      this.#leftMs = Infinity;
      this.#arm(CLIENT_CHECK_MS);
    }
  }

  /** Ends the request before its handler does. */
  refuse(code: Exclude<RequestRefusalCode, RateRefusalCode>): void {
    if (this.#isOver || this.#refusal !== undefined) return;
    this.#refusal = code;
    this.#limiter.count(code);
    this.abort(REFUSALS[code][1]);
    this.#waiter?.refused(code);
  }

  /** Aborts the signal; `message` is that of its reason. */
  abort(message: string): void {
    if (this.#isOver || this.#reason !== undefined) return;
    this.#reason = new PortcullisError('ERR_TIMEOUT', message);
    this.#controller?.abort(this.#reason);
  }

  /** Gives the seat back. May be called again. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#waiter = undefined;
    this.#context?.emitDestroy();
    this.#context = undefined;
    this.#timer?.close();
    this.#limiter.ended(this);
  }
}

/** Enforces the limits of the requests of one guard. @internal */
export class RequestLimiter {
  readonly #limits: Checked<'requests'>;
  /** Bits of an IPv6 address that make one client. */
  readonly #prefixBits: number;
  readonly #timers: TimerManager;
  readonly #inFlight = new Set<InFlightRequest>();
  /** Requests in flight by their client; a client without one has no entry. */
  readonly #byClient = new Map<string, number>();
  readonly #refused: Partial<Record<RequestRefusalCode, number>> = {};
  readonly #idle: (() => void)[] = [];
  /** Requests that wait since a moment ago, and the timer that they share. */
  #unwatched: InFlightRequest[] = [];
  #watching: TimerHandle | undefined;
  /** Time at which that timer was set, ms. */
  #watchingSinceMs = 0;
  readonly #retry = new RetryEstimate();
  #served = 0;
  readonly #monitor: ResourceMonitor | undefined;
  readonly #metrics: ProductionMetrics | undefined;
  #shedMs = 0;
  #shedCause: PressureCause | undefined;
  #isDraining = false;
  /** Rates of requests; `undefined` without any. */
  readonly rates: RequestRateLimiter | undefined;
  /** Reads the traces of requests. */
  readonly tracer: Tracer | undefined;

  constructor(
    limits: Checked<'requests'>,
    timers: TimerManager,
    monitor?: ResourceMonitor,
    metrics?: ProductionMetrics,
    rates?: RequestRateLimiter,
    tracer?: Tracer,
    ipv6PrefixBits = 64,
  ) {
    this.rates = rates;
    this.#prefixBits = ipv6PrefixBits;
    this.tracer = tracer;
    this.#metrics = metrics;
    this.#limits = limits;
    this.#timers = timers;
    this.#monitor = monitor;
  }

  /** Requests in flight. */
  get active(): number {
    return this.#inFlight.size;
  }

  /** Clients with requests in flight that are counted by address. */
  get clients(): number {
    return this.#byClient.size;
  }

  get limits(): Checked<'requests'> {
    return this.#limits;
  }

  /** True if the requests of each client are limited. */
  get limitsClients(): boolean {
    return this.#limits.maxConcurrentPerIp !== Infinity;
  }

  /** Counts at this moment. */
  snapshot(): RequestStats {
    return { active: this.#inFlight.size, served: this.#served, refused: { ...this.#refused } };
  }

  /**
   * Admits a request, or returns the reason for refusing it.
   * @param headerBytes bytes of all headers; 0 where the host has limited them already
   * @param bodyBytes length of the body, if a header says so
   * @param address of the client; needed where `limitsClients` is true
   * @param rated the request, where there are rates
   * @param isHandshake true for an upgrade: draining, shedding and rates are the manager's decisions, which must not be made twice
   * @param request of the adapter, for its trace
   */
  admit(
    headerBytes: number,
    bodyBytes: number | undefined,
    address: string | undefined,
    rated: RatedRequest | undefined,
    isHandshake = false,
    request?: object,
  ): InFlightRequest | RequestRefusal {
    // Clients whose address is not known share one key: the limit holds for all of them together.
    const client = this.limitsClients ? clientKeyOf(address ?? '', this.#prefixBits) : undefined;
    const code = this.#judge(headerBytes, bodyBytes, client, isHandshake);
    if (code !== undefined) {
      this.count(code);
      return code;
    }
    // Last: a request that the server cannot serve spends nothing.
    const outcome = rated === undefined || isHandshake ? undefined : this.rates?.judge(rated);
    if (outcome?.refusal !== undefined) {
      this.count(outcome.refusal.code);
      return outcome.refusal;
    }
    const inFlight = new InFlightRequest(this, this.#limits, this.#timers, client, request);
    inFlight.rated = outcome;
    this.#inFlight.add(inFlight);
    if (client !== undefined) this.#byClient.set(client, this.#of(client) + 1);
    this.#monitor?.requestStarted(0, inFlight);
    return inFlight;
  }

  /** Watches a request that waits, once it has waited for a while: its timer is set then. */
  watchLater(inFlight: InFlightRequest): void {
    // Without timers, requests are served without a timeout.
    if (!this.#timers.isOpen()) return;
    // A request that was admitted before the shared timer was set may time out before it fires, and gets a timer of its
    // own. One without a timeout does not need that.
    if (
      this.#watching !== undefined &&
      inFlight.admittedMs < this.#watchingSinceMs &&
      inFlight.remainingMs() !== Infinity
    )
      return inFlight.watch();
    this.#unwatched.push(inFlight);
    if (this.#watching === undefined)
      this.#setTimer(Math.min(inFlight.remainingMs(), WATCH_AFTER_MS));
  }

  #setTimer(delayMs: number): void {
    try {
      this.#watching = this.#timers.setTimeout(() => this.#watchAll(), {
        delayMs,
        ref: false,
        name: 'requests.timeout',
      });
      this.#watchingSinceMs = this.#timers.driver.now();
    } catch {
      // ERR_TOO_MANY_TIMERS: the request is served without a timeout.
      this.#unwatched = [];
    }
  }

  #watchAll(): void {
    const waiting = this.#unwatched;
    this.close();
    let watched = 0;
    try {
      for (const inFlight of waiting) {
        watched++;
        inFlight.watch();
      }
    } finally {
      // A host that throws for one of them keeps its error for itself.
      for (const inFlight of waiting.slice(watched)) this.watchLater(inFlight);
    }
  }

  /** Ends the shared timer. Requests under way end with their handlers. */
  close(): void {
    this.#watching?.close();
    this.#watching = undefined;
    this.#unwatched = [];
  }

  /** Judges the rates of a handshake that was answered in the place of a socket, and counts a refusal. */
  rateLate(rated: RatedRequest | undefined): RatedOutcome | undefined {
    const outcome = rated === undefined ? undefined : this.rates?.judge(rated);
    if (outcome?.refusal !== undefined) this.count(outcome.refusal.code);
    return outcome;
  }

  #of(client: string): number {
    return this.#byClient.get(client) ?? 0;
  }

  #judge(
    headerBytes: number,
    bodyBytes: number | undefined,
    client: string | undefined,
    isHandshake: boolean,
  ): RequestRefusalCode | undefined {
    // The manager of a guard refuses handshakes while it drains, by status or by close code.
    if (this.#isDraining && !isHandshake) return 'draining';
    if (headerBytes > this.#limits.maxHeaderSize) return 'headers_too_large';
    if (bodyBytes !== undefined && bodyBytes > this.#limits.maxPayloadSize)
      return 'payload_too_large';
    if (this.#inFlight.size >= this.#limits.maxConcurrent) return 'too_many_requests_in_flight';
    if (client !== undefined && this.#of(client) >= this.#limits.maxConcurrentPerIp)
      return 'too_many_requests_of_ip';
    // Last: a request that another limit refuses is no part of the share that is shed.
    if (this.#monitor === undefined || this.#monitor.isPressed === false || isHandshake)
      return undefined;
    this.#shedMs = this.#monitor.shedMs();
    this.#shedCause = this.#monitor.shedCause;
    return this.#shedMs > 0 ? 'overload' : undefined;
  }

  /** Shapes answers as the application wants them; `undefined` for the standard shape. */
  shape: RefusalShape<never> | undefined;

  /** Returns the HTTP answer of a refusal. @param request of the adapter */
  answer(refusal: RequestRefusal, request: unknown): Answer {
    const answer =
      typeof refusal === 'string'
        ? this.#standard(refusal as Exclude<RequestRefusalCode, RateRefusalCode>)
        : refusal.answer;
    return this.shape === undefined ? answer : this.shape.shaped(answer, request as never);
  }

  #standard(code: Exclude<RequestRefusalCode, RateRefusalCode>): Answer {
    const [status, message] = REFUSALS[code];
    const retry = status === 503 || status === 429 || status === 408;
    const retryAfterMs = wholeMs(this.#retryAfterMs(code));
    const headers: Record<string, string> = retry
      ? { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }
      : {};
    // The rest of the connection may be a body that no handler reads.
    if (!KEEPS_CONNECTION.has(code)) headers['connection'] = 'close';
    const body = {
      code,
      message,
      ...(retry ? { retryAfterMs } : {}),
      ...(code === 'overload' ? { cause: this.#shedCause } : {}),
    };
    return answerWith(status, body, headers);
  }

  /** Returns the time until a refused client may be served, ms: an estimate, from the rate of answers. */
  #retryAfterMs(code: RequestRefusalCode): number {
    if (code === 'overload') return this.#shedMs;
    const { maxConcurrent, maxConcurrentPerIp } = this.#limits;
    const limit =
      code === 'too_many_requests_in_flight'
        ? maxConcurrent
        : code === 'too_many_requests_of_ip'
          ? maxConcurrentPerIp
          : undefined;
    if (limit === undefined) return this.#retry.withoutSeats();
    return this.#retry.forSeats(limit, this.#timers.driver.now(), () => {
      const total = this.#inFlight.size;
      return { admitted: this.#served + total, total };
    });
  }

  /** Counts a refusal. */
  count(code: RequestRefusalCode): void {
    this.#refused[code] = (this.#refused[code] ?? 0) + 1;
    if (!isFailure(code)) this.#metrics?.recordRefusal(code);
  }

  /** Called by a request that has given its seat back. */
  ended(inFlight: InFlightRequest): void {
    this.#inFlight.delete(inFlight);
    const { client } = inFlight;
    if (client !== undefined) {
      const left = this.#of(client) - 1;
      if (left > 0) this.#byClient.set(client, left);
      else this.#byClient.delete(client);
    }
    this.#served++;
    this.#monitor?.requestEnded(inFlight);
    if (this.#inFlight.size > 0) return;
    this.#unwatched.length = 0;
    if (this.#idle.length > 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Refuses new requests from now on. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Resolves when no request is in flight. */
  whenIdle(): Promise<void> {
    return this.#inFlight.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => void this.#idle.push(resolve));
  }

  /** Aborts the signals of all requests in flight. */
  abort(): void {
    for (const inFlight of this.#inFlight) inFlight.abort('The server is shutting down');
  }
}
