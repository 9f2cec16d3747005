/** What adapters put around requests, so that each is counted with its route, its status and its time. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ProductionMetrics } from './metrics.js';

const refused = new WeakSet<object>();

/** Marks the answer (a `Response`, or Node's) of a request that a limit turned away, and that was counted as such: it is no request of the report's. @internal */
export function markRefused<T extends object>(answer: T): T {
  refused.add(answer);
  return answer;
}

interface Begun {
  readonly startMs: number;
  id: number;
  isDropped: boolean;
}

/** How the meter of an adapter counts: `tells` unless the adapter tells the monitor of requests itself. */
function over(
  metrics: ProductionMetrics,
  begun: Begun,
  answer: object,
  status: number,
  isAborted: boolean,
  tells: boolean,
): void {
  if (status >= 400 && refused.has(answer)) metrics.left(tells);
  else metrics.finish(begun.startMs, begun.id, status, isAborted, tells);
}

/** Requests of hosts that speak `Request` and `Response`. @internal */
export class FetchMeter {
  readonly #metrics: ProductionMetrics;
  /** Where a request keeps what has begun with it: an entry in a weak map is one more thing for each collection to visit. Of this meter's own. */
  readonly #key = Symbol('portcullis.begun');
  readonly #tells: boolean;

  constructor(metrics: ProductionMetrics, tells: boolean) {
    this.#metrics = metrics;
    this.#tells = tells;
  }

  #of(request: Request): { [key: symbol]: Begun | undefined } {
    return request as unknown as { [key: symbol]: Begun | undefined };
  }

  /** The pattern that a router found for a request under way. */
  found(request: Request, route: string, method: string): void {
    const begun = this.#of(request)[this.#key];
    if (begun !== undefined) begun.id = this.#metrics.found(route, method, this.#tells);
  }

  /** Leaves a request out: it became a WebSocket, or a limit turned it away. */
  drop(request: Request): void {
    const begun = this.#of(request)[this.#key];
    if (begun !== undefined) begun.isDropped = true;
  }

  /** Runs `handle`, and counts the request unless it became a WebSocket. */
  around<T>(request: Request, handle: () => T): T {
    const metrics = this.#metrics;
    const tells = this.#tells;
    const begun: Begun = {
      startMs: metrics.begin(0, tells),
      id: metrics.found('', request.method, false),
      isDropped: false,
    };
    const marked = this.#of(request);
    marked[this.#key] = begun;
    const answered = (value: unknown): void => {
      marked[this.#key] = undefined;
      if (value instanceof Response && !begun.isDropped)
        over(metrics, begun, value, value.status, false, tells);
      else metrics.left(tells);
    };
    const failed = (error: unknown): never => {
      marked[this.#key] = undefined;
      metrics.finish(begun.startMs, begun.id, 500, false, tells);
      throw error;
    };
    let result: T;
    try {
      result = handle();
    } catch (error) {
      return failed(error);
    }
    if (result instanceof Promise) {
      return result.then((value: unknown) => {
        answered(value);
        return value;
      }, failed) as T;
    }
    answered(result);
    return result;
  }
}

/**
 * Counts requests of `node:http` servers, without a route: they have no router.
 * @param isLeftOut tells of a request whether it is none of the application's
 * @returns what is shown each request at its beginning; one that it has seen already is not counted again
 * @internal
 */
export function nodeMeter(
  metrics: ProductionMetrics,
  tells: boolean,
  isLeftOut: (request: IncomingMessage) => boolean,
): (request: IncomingMessage, response: ServerResponse) => void {
  const seen = new WeakSet<IncomingMessage>();
  return (request, response) => {
    if (seen.has(request) || isLeftOut(request)) return;
    seen.add(request);
    const id = metrics.found('', request.method ?? '', false);
    const begun: Begun = { startMs: metrics.begin(id, tells), id, isDropped: false };
    let isOver = false;
    const end = (isAborted: boolean): void => {
      if (isOver) return;
      isOver = true;
      over(metrics, begun, response, response.statusCode, isAborted, tells);
    };
    response.once('finish', () => end(false));
    // A client that went away is no fault of the server's, and no answer either.
    response.once('close', () => end(!response.writableFinished));
  };
}
