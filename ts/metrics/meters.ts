/**
 * Meters that adapters put around requests: each request is recorded with its route, status and
 * duration.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { onSocketClose } from '../base/socket-close.js';
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

interface MeteredRequest {
  readonly startMs: number;
  /** Row of its route in the ledger. */
  row: number;
  isDropped: boolean;
}

/** Requests of hosts with `Request` and `Response`. @internal */
export class FetchMeter {
  readonly #metrics: ProductionMetrics;
  /**
   * Property of a request that holds its `MeteredRequest`. An entry in a WeakMap would be visited
   * by every garbage collection. One symbol per meter, so that two meters can measure one request.
   */
  readonly #key = Symbol('portcullis.metered');
  readonly #notifiesMonitor: boolean;

  /** @param notifiesMonitor false if the adapter itself reports requests to the monitor */
  constructor(metrics: ProductionMetrics, notifiesMonitor: boolean) {
    this.#metrics = metrics;
    this.#notifiesMonitor = notifiesMonitor;
  }

  #properties(request: Request): { [key: symbol]: MeteredRequest | undefined } {
    return request as unknown as { [key: symbol]: MeteredRequest | undefined };
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

  /** Runs `handle`, and records the request unless it became a WebSocket. */
  around<T>(request: Request, handle: () => T): T {
    const metered: MeteredRequest = {
      startMs: this.#metrics.begin(0, this.#notifiesMonitor),
      row: this.#metrics.routeFound('', request.method, false),
      isDropped: false,
    };
    this.#properties(request)[this.#key] = metered;
    let result: T;
    try {
      result = handle();
    } catch (error) {
      this.#failed(request, metered);
      throw error;
    }
    if (result instanceof Promise) {
      return result.then(
        (answer: unknown) => {
          this.#answered(request, metered, answer);
          return answer;
        },
        (error: unknown) => {
          this.#failed(request, metered);
          throw error;
        },
      ) as T;
    }
    this.#answered(request, metered, result);
    return result;
  }

  #answered(request: Request, metered: MeteredRequest, answer: unknown): void {
    this.#properties(request)[this.#key] = undefined;
    if (answer instanceof Response && !metered.isDropped)
      record(this.#metrics, metered, answer, answer.status, false, this.#notifiesMonitor);
    else this.#metrics.leave(this.#notifiesMonitor);
  }

  #failed(request: Request, { startMs, row }: MeteredRequest): void {
    this.#properties(request)[this.#key] = undefined;
    this.#metrics.finish(startMs, row, 500, false, this.#notifiesMonitor);
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
  notifiesMonitor: boolean,
  isLeftOut: (request: IncomingMessage) => boolean,
): (request: IncomingMessage, response: ServerResponse) => void {
  const seen = new WeakSet<IncomingMessage>();
  return (request, response) => {
    if (seen.has(request) || isLeftOut(request)) return;
    seen.add(request);
    const row = metrics.routeFound('', request.method ?? '', false);
    const metered = { startMs: metrics.begin(row, notifiesMonitor), row };
    let hasEnded = false;
    const end = (isAborted: boolean): void => {
      if (hasEnded) return;
      hasEnded = true;
      forget();
      record(metrics, metered, response, response.statusCode, isAborted, notifiesMonitor);
    };
    // The client went away before the response: neither a failure of the server nor a response.
    const close = (): void => end(!response.writableFinished);
    const forget = onSocketClose(request.socket, close);
    response.once('finish', () => end(false));
    response.once('close', close);
  };
}

/** Records a request that was answered, unless a limit refused it. */
function record(
  metrics: ProductionMetrics,
  { startMs, row }: Pick<MeteredRequest, 'startMs' | 'row'>,
  answer: object,
  status: number,
  isAborted: boolean,
  notifiesMonitor: boolean,
): void {
  if (status >= 400 && refusedAnswers.has(answer)) metrics.leave(notifiesMonitor);
  else metrics.finish(startMs, row, status, isAborted, notifiesMonitor);
}
