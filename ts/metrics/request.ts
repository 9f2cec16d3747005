/** One request: what is known of it at its end, and its timer until then. */
import { outOfRange, type PortcullisError, wrongType } from '../base/errors.js';

/** What is known of a request at its end. */
export interface RequestDetails {
  /** The pattern, such as `/users/:id`; never the path, which the client chose. Cut to 200 characters. */
  readonly route?: string | undefined;
  /** Such as `GET`; what is no method of HTTP counts as `_OTHER`. */
  readonly method?: string | undefined;
  /** Status of the response: 100 to 599; from 500 on it is an error. */
  readonly status?: number | undefined;
  /** An error whatever the status, such as a timeout; a text is counted as its kind, too. */
  readonly error?: boolean | string | undefined;
}

/** How a request ended. */
export interface RequestEnd extends RequestDetails {
  /** It was turned away by a limit: counted by this code, and neither as a request nor as an error. */
  readonly refused?: string | undefined;
}

export const NO_DETAILS: RequestEnd = Object.freeze({});

/** Counts the requests that a timer begins and ends. @internal */
export interface RequestSink {
  /** Counts one more request in flight; returns the time at its start. */
  begin(id: number, tells: boolean): number;
  /** Counts the end of a request. */
  end(startMs: number, id: number, details: RequestEnd): void;
}

/** A request under way. */
export class RequestTimer {
  readonly #sink: RequestSink;
  readonly #startMs: number;
  readonly #id: number;
  #isOver = false;

  /** @internal */
  constructor(sink: RequestSink, id: number) {
    this.#sink = sink;
    this.#id = id;
    this.#startMs = sink.begin(id, true);
  }

  /**
   * Counts the request with the time it took. Calls too many are ignored.
   * @throws as `recordRequest`; the request is over all the same
   */
  end(details: RequestEnd = NO_DETAILS): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sink.end(this.#startMs, this.#id, details);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

export function wrongDuration(durationMs: unknown): PortcullisError {
  const allowed = 'a finite number of milliseconds of at least 0';
  return typeof durationMs === 'number'
    ? outOfRange('durationMs', durationMs, allowed)
    : wrongType('durationMs', durationMs, allowed);
}

export function wrongStatus(status: unknown): never {
  const allowed = 'a whole number from 100 to 599';
  throw typeof status === 'number'
    ? outOfRange('status', status, allowed)
    : wrongType('status', status, allowed);
}
