/** What runs around one request of the server, and what becomes of its response. */
import { answerWith } from '../http/answer.js';
import { responseOf, signalOf } from '../http/fetch.js';
import type { MiddlewareItem } from '../middleware/contract.js';

/** Headers by name. Cookies, one or several, are added to those that the response has; all others take the place of what it has. */
export type HeadersToSet = Record<string, string> & { 'set-cookie'?: string | readonly string[] };

/** What runs around a request: middleware reads and sets it. */
export interface RequestContext {
  readonly request: Request;
  /** Put on the response, whoever makes it. */
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet };
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
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet } = { headers: {} };
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
    return (this.#signal ??= signalOf(this.request));
  }
  set signal(signal: AbortSignal) {
    this.#signal = signal;
  }
}

export const internalError = (): Response =>
  responseOf(answerWith(500, { code: 'internal_error', message: 'Internal error' }));

/**
 * An answer of the server's own in the place of Elysia's, which tells clients the message of what a route has thrown.
 * There is no later place for it: a hook that answers takes the word from the application's own.
 */
export function sanitized(
  { thrown }: Context,
  response: Response | undefined,
): Response | undefined | Promise<Response> {
  if (thrown === undefined || response === undefined || response.status < 500) return response;
  const told = response.clone().text();
  return told.then((text) => (text === thrown ? internalError() : response));
}

/** Puts what layers have set on a response; an upgrade has none. */
export function settings(context: Context, response: Response | undefined): Response | undefined {
  if (response === undefined) return undefined;
  const { status, headers } = context.set;
  const all = Object.entries(headers) as [string, string | readonly string[]][];
  const isCookie = (name: string): boolean => name.toLowerCase() === 'set-cookie';
  // Cookies are added: a response that a layer gives again and again must not gather those of everybody.
  const isChanged =
    (status !== undefined && status !== response.status) || all.some(([name]) => isCookie(name));
  const told = isChanged
    ? new Response(response.body, { status: status ?? response.status, headers: response.headers })
    : response;
  for (const [name, value] of all) {
    if (!isCookie(name)) told.headers.set(name, String(value));
    else
      for (const cookie of typeof value === 'string' ? [value] : value)
        told.headers.append(name, cookie);
  }
  return told;
}
