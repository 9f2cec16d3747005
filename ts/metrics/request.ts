/** Details of a request, its timer, and the errors for wrong ones. */
import { outOfRange, type PortcullisError, wrongType } from '../base/errors.js';

/** Details of a request that ended. */
export interface RequestDetails {
  /**
   * Pattern of the route, such as `/users/:id`; never the path, which the client chose. Cut to 200
   * characters.
   */
  readonly route?: string | undefined;
  /** HTTP method, such as `GET`; an unknown method counts as `_OTHER`. */
  readonly method?: string | undefined;
  /** Status of the response: 100 to 599; 500 and above is an error. */
  readonly status?: number | undefined;
  /**
   * Marks an error whatever the status, such as a timeout; a string of at least 1 character is also counted
   * as the error's kind.
   */
  readonly error?: boolean | string | undefined;
}

/** End of a request. */
export interface RequestEnd extends RequestDetails {
  /**
   * Code of the limit that refused the request: counted as a refusal only, neither as a request nor
   * as an error.
   */
  readonly refused?: string | undefined;
}

/** @internal */
export const NO_DETAILS: RequestEnd = Object.freeze({});

/** Counts the requests that a timer begins and ends. @internal */
export interface RequestSink {
  /** Counts one more request in flight; returns the time at its start. */
  begin(row: number, notifiesMonitor: boolean): number;
  /** Counts the end of a request. */
  end(startMs: number, row: number, details: RequestEnd): void;
}

/**
 * Timer of one request, from `ProductionMetrics.startRequest()`.
 *
 * @example
 * using request = metrics.startRequest({ route: '/import', method: 'POST' });
 * await work();
 * request.end({ status: 200 });
 */
export class RequestTimer {
  readonly #sink: RequestSink;
  readonly #startMs: number;
  readonly #row: number;
  #hasEnded = false;

  /** @internal */
  constructor(sink: RequestSink, row: number) {
    this.#sink = sink;
    this.#row = row;
    this.#startMs = sink.begin(row, true);
  }

  /**
   * Records the request with its duration. Only the first call counts.
   * @param details see `RequestEnd`; route and method may be given here, too
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for wrong details; the request has ended all the
   *   same, and is not in flight any more
   */
  end(details: RequestEnd = NO_DETAILS): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#sink.end(this.#startMs, this.#row, details);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** Makes the error for a wrong duration. @internal */
export function wrongDuration(durationMs: unknown): PortcullisError {
  const allowed = 'a finite number of milliseconds of at least 0';
  return typeof durationMs === 'number'
    ? outOfRange('durationMs', durationMs, allowed)
    : wrongType('durationMs', durationMs, allowed);
}

/** @throws ERR_INVALID_ARG_TYPE unless the details of a request are an object @internal */
export function checkDetails(details: unknown): void {
  if (typeof details !== 'object' || details === null)
    throw wrongType('details', details, 'an object');
}

/**
 * Returns the status of a request, or 0 for none.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function statusOf(status: RequestDetails['status']): number {
  if (status === undefined) return 0;
  return typeof status === 'number' && (status | 0) === status && status >= 100 && status <= 599
    ? status
    : wrongStatus(status);
}

/**
 * Tells whether the details mark a request as failed.
 * @throws ERR_INVALID_ARG_TYPE for anything but a boolean and a text
 * @internal
 */
export function isFailed(error: RequestDetails['error']): boolean {
  if (error === undefined || typeof error === 'boolean') return error === true;
  if (typeof error === 'string' && error !== '') return true;
  throw wrongType('error', error, 'true, false or a string that is not empty');
}

/** Throws the error for a wrong status. */
function wrongStatus(status: unknown): never {
  const allowed = 'a whole number from 100 to 599';
  throw typeof status === 'number'
    ? outOfRange('status', status, allowed)
    : wrongType('status', status, allowed);
}
