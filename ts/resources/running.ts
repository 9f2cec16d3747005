/** The requests in flight on one thread, and those that a stall of its event loop is reported with. */
import type { PossibleTrace, RequestTrace } from '../base/trace.js';
import type { StalledRequest } from './figures.js';

/** Requests of a stall. */
const REPORTED = 8;
/** Stalls whose requests are kept, as many as the native side keeps of their figures. */
const STALLS_KEPT = 64;

/** A request in flight: a link of the list, so that counting it allocates nothing. @internal */
export abstract class RunningRequest {
  /** Neighbours in the list, by the time of the start. */
  older: RunningRequest | undefined;
  newer: RunningRequest | undefined;

  /** Its trace, if its adapter knows the request. */
  abstract get trace(): RequestTrace | undefined;
}

/** A list of the requests in flight, the newest first. @internal */
export class RunningRequests implements Iterable<RunningRequest> {
  #newest: RunningRequest | undefined;

  add(request: RunningRequest): void {
    const before = this.#newest;
    request.older = before;
    if (before !== undefined) before.newer = request;
    this.#newest = request;
  }

  /** Does nothing for a request that has left already. */
  remove(request: RunningRequest): void {
    const { older, newer } = request;
    if (newer === undefined && this.#newest !== request) return;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    if (older !== undefined) older.newer = newer;
    request.older = undefined;
    request.newer = undefined;
  }

  *[Symbol.iterator](): Generator<RunningRequest, void, undefined> {
    for (let at = this.#newest; at !== undefined; at = at.older) yield at;
  }
}

/** The requests of the last stalls, by the number of the stall. @internal */
export class StalledRequests {
  readonly #byStall = new Map<number, readonly StalledRequest[]>();

  /**
   * Notes the requests of a stall.
   * @param latest connection of the latest message, or trace of the latest handshake, if it began after all requests
   * @param running requests in flight
   */
  note(stall: number, latest: PossibleTrace | undefined, running: Iterable<RunningRequest>): void {
    const found = new Map<string, StalledRequest>();
    const add = ({ requestId, traceparent }: PossibleTrace): void => {
      // A connection that was added without a guard has none.
      if (requestId === undefined) return;
      // A handshake may also be a request in flight.
      found.set(`${requestId} ${traceparent}`, { requestId, traceparent: traceparent ?? null });
    };
    if (latest !== undefined) add(latest);
    for (const { trace } of running) {
      if (found.size === REPORTED) break;
      if (trace !== undefined) add(trace);
    }
    this.#byStall.set(stall, [...found.values()]);
    for (const old of this.#byStall.keys())
      if (old <= stall - STALLS_KEPT) this.#byStall.delete(old);
  }

  /** Returns the requests of a stall; none for an unknown one. */
  of(stall: number): readonly StalledRequest[] {
    return this.#byStall.get(stall) ?? [];
  }
}
