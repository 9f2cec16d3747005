/**
 * Meters that adapters put around requests: each request is recorded with its route, status and
 * duration.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { onClientGone } from '../base/socket-close.js';
import type { RequestTrace, Tracer } from '../base/trace.js';
import { RunningRequest } from '../resources/running.js';
import type { ProductionMetrics } from './metrics.js';

const refusedAnswers = new WeakSet<object>();

/**
 * Marks the answer (a `Response`, or a `ServerResponse`) to a request that a limit refused. The
 * limit has counted the refusal, so a meter does not record the request.
 * @internal
 */
export function markRefused<T extends object>(answer: T): T {
  refusedAnswers.add(answer);
  return answer;
}

/**
 * Returns the status that a client sees: a host answers 500 in the place of a response that it cannot send,
 * `Response.error()` or one whose body was read.
 * @internal
 */
export function sentStatus(response: Response): number {
  const { status } = response;
  return status === 0 || isRead(response) ? 500 : status;
}

/**
 * True if the body of a response was read. A response of `srvx` counts as unread: reading `bodyUsed` would turn it into
 * a response of the engine, which is sent without `Content-Length`.
 */
const isRead = (response: Response): boolean =>
  Object.getPrototypeOf(response) === Response.prototype && response.bodyUsed;

/** A request that is measured. */
class MeteredRequest extends RunningRequest {
  startMs = 0;
  isDropped = false;
  readonly #tracer: Tracer;

  constructor(
    /** Row of its route in the ledger. */
    public row: number,
    tracer: Tracer,
    readonly request: object,
  ) {
    super();
    this.#tracer = tracer;
  }

  get trace(): RequestTrace {
    return this.#tracer.of(this.request);
  }
}

/** A request of `FetchMeter`, which is told its answer. @internal */
export class FetchedRequest extends MeteredRequest {
  readonly #meter: FetchMeter;

  constructor(row: number, tracer: Tracer, request: Request, meter: FetchMeter) {
    super(row, tracer, request);
    this.#meter = meter;
  }

  /** Records the answer, or that of its promise; a request that became a WebSocket is none. */
  answered(answer: unknown): void {
    if (answer instanceof Promise) this.awaits(answer);
    else this.#meter.answered(this, answer);
  }

  private awaits(answer: Promise<unknown>): void {
    answer.then(
      (given: unknown) => this.#meter.answered(this, given),
      () => this.failed(),
    );
  }

  /** Records that the handler has thrown. */
  failed(): void {
    this.#meter.failed(this);
  }
}

/** Requests of hosts with `Request` and `Response`. @internal */
export class FetchMeter {
  readonly #metrics: ProductionMetrics;
  /**
   * Property of a request that holds its `MeteredRequest`. An entry in a WeakMap would be visited
   * by every garbage collection. One symbol per meter, so that two meters can measure one request.
   */
  readonly #key = Symbol('portcullis.metered');
  readonly #tracer: Tracer;
  readonly #notifiesMonitor: boolean;

  /** @param notifiesMonitor false if the adapter itself reports requests to the monitor */
  constructor(metrics: ProductionMetrics, tracer: Tracer, notifiesMonitor: boolean) {
    this.#metrics = metrics;
    this.#tracer = tracer;
    this.#notifiesMonitor = notifiesMonitor;
  }

  #properties(request: object): { [key: symbol]: FetchedRequest | undefined } {
    return request as { [key: symbol]: FetchedRequest | undefined };
  }

  /** Notes the pattern that the router found for a request in flight. */
  found(request: Request, route: string, method: string): void {
    const metered = this.#properties(request)[this.#key];
    if (metered !== undefined)
      metered.row = this.#metrics.routeFound(route, method, this.#notifiesMonitor);
  }

  /** Leaves a request out of the records: it became a WebSocket, or a limit refused it. */
  drop(request: Request): void {
    const metered = this.#properties(request)[this.#key];
    if (metered !== undefined) metered.isDropped = true;
  }

  /** Begins to measure a request, which is then told its answer. */
  begin(request: Request): FetchedRequest {
    const row = this.#metrics.routeFound('', request.method, false);
    const metered = new FetchedRequest(row, this.#tracer, request, this);
    metered.startMs = this.#metrics.begin(0, this.#notifiesMonitor, metered);
    this.#properties(request)[this.#key] = metered;
    return metered;
  }

  /** Runs `handle`, and records the request unless it became a WebSocket. */
  around<T>(request: Request, handle: () => T): T {
    const metered = this.begin(request);
    try {
      const result = handle();
      // Throws for a proxy that cannot be read.
      metered.answered(result);
      return result;
    } catch (error) {
      metered.failed();
      throw error;
    }
  }

  /** Called by a request. */
  answered(metered: FetchedRequest, answer: unknown): void {
    this.#properties(metered.request)[this.#key] = undefined;
    if (answer instanceof Response && !metered.isDropped)
      record(this.#metrics, metered, answer, sentStatus(answer), false, this.#notifiesMonitor);
    else this.#metrics.leave(this.#notifiesMonitor, metered);
  }

  /** Called by a request. */
  failed(metered: FetchedRequest): void {
    const { startMs, row } = metered;
    this.#properties(metered.request)[this.#key] = undefined;
    this.#metrics.finish(startMs, row, 500, false, this.#notifiesMonitor, metered);
  }
}

/**
 * Returns a function that meters a request of a `node:http` server from its start; a request that
 * is passed again is not counted again. Requests have no route, because `node:http` has no router.
 * @param notifiesMonitor false if the adapter itself reports requests to the monitor
 * @param isLeftOut returns true for requests that are not the application's
 * @internal
 */
export function nodeMeter(
  metrics: ProductionMetrics,
  tracer: Tracer,
  notifiesMonitor: boolean,
  isLeftOut: (request: IncomingMessage) => boolean,
): (request: IncomingMessage, response: ServerResponse) => void {
  const seen = new WeakSet<IncomingMessage>();
  return (request, response) => {
    if (seen.has(request) || isLeftOut(request)) return;
    seen.add(request);
    const row = metrics.routeFound('', request.method ?? '', false);
    const metered = new MeteredRequest(row, tracer, request);
    metered.startMs = metrics.begin(row, notifiesMonitor, metered);
    let hasEnded = false;
    const end = (isAborted: boolean): void => {
      if (hasEnded) return;
      hasEnded = true;
      forget();
      record(metrics, metered, response, response.statusCode, isAborted, notifiesMonitor);
    };
    // The client went away before the response: neither a failure of the server nor a response.
    const close = (): void => end(!response.writableFinished);
    const forget = onClientGone(request, close);
    response.once('finish', () => end(false));
    response.once('close', close);
  };
}

/** Records a request that was answered, unless a limit refused it. */
function record(
  metrics: ProductionMetrics,
  metered: MeteredRequest,
  answer: object,
  status: number,
  isAborted: boolean,
  notifiesMonitor: boolean,
): void {
  const { startMs, row } = metered;
  if (status >= 400 && refusedAnswers.has(answer)) metrics.leave(notifiesMonitor, metered);
  else metrics.finish(startMs, row, status, isAborted, notifiesMonitor, metered);
}
