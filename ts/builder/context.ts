/** What runs around one request of the server, and what becomes of its response. */
import { responseOf } from '../fetching.js';
import type { MiddlewareItem } from '../middleware/contract.js';
import { answerWith } from '../requests.js';

/** What runs around a request: middleware reads and sets it. */
export interface RequestContext {
  readonly request: Request;
  /** Put on the response, whoever makes it. */
  readonly set: { status?: number | undefined; readonly headers: Record<string, string> };
  /** The response so far: what the route made, or what a layer gives instead of calling `next`. */
  response: Response | undefined;
  /** Aborts when the request's time is over, its client gone or the server forced down. */
  signal: AbortSignal;
  /** For whatever layers and routes hand to each other; routes find it as `requestContext.store`. */
  readonly store: Record<string, unknown>;
}

/** A layer around every request. It may answer by itself: by returning a response, or setting `context.response`. */
export type ServerMiddleware = MiddlewareItem<RequestContext, Response | undefined>;

export class Context implements RequestContext {
  readonly request: Request;
  readonly set: { status?: number | undefined; readonly headers: Record<string, string> } = { headers: {} };
  response: Response | undefined;
  readonly store: Record<string, unknown> = {};
  /** What a route has thrown: of an error nobody meant for the client, its message. */
  thrown: string | undefined;
  #signal: AbortSignal | undefined;

  constructor(request: Request) {
    this.request = request;
  }
  // Made when it is first asked for.
  get signal(): AbortSignal {
    return (this.#signal ??= this.request.signal);
  }
  set signal(signal: AbortSignal) {
    this.#signal = signal;
  }
}

export const internalError = (): Response => responseOf(answerWith(500, { code: 'internal_error', message: 'Internal error' }));

/**
 * An answer of the server's own in the place of Elysia's, which tells clients the message of what a route has thrown.
 * There is no later place for it: a hook that answers takes the word from the application's own.
 */
export function hushed({ thrown }: Context, response: Response | undefined): Response | undefined | Promise<Response> {
  if (thrown === undefined || response === undefined || response.status < 500) return response;
  const told = response.clone().text();
  return told.then((text) => (text === thrown ? internalError() : response));
}

/** Puts what layers have set on a response; an upgrade has none. */
export function settings(context: Context, response: Response | undefined): Response | undefined {
  if (response === undefined) return undefined;
  const { status, headers } = context.set;
  const names = Object.keys(headers);
  if (status !== undefined && status !== response.status) {
    const changed = new Response(response.body, { status, headers: response.headers });
    for (const name of names) changed.headers.set(name, headers[name]!);
    return changed;
  }
  for (const name of names) response.headers.set(name, headers[name]!);
  return response;
}
