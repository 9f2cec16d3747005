/** Context of the middleware around one request, and the settings that it puts on the response. */
import type { RequestTrace, Tracer } from '../base/trace.js';
import { answerWith } from '../http/answer.js';
import { responseOf, signalOf } from '../http/fetch.js';
import type { MiddlewareItem } from '../middleware/contract.js';

/** Type that Bun sends with a text that has none. */
const TEXT_TYPE = 'text/plain;charset=utf-8';
/** Statuses of responses without a body, which have no type. */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** Headers by name. Cookies are added to those of the response; all other headers replace those of the response. */
export type HeadersToSet = Record<string, string> & { 'set-cookie'?: string | readonly string[] };

/** Context of a request, which middleware reads and sets. */
export interface RequestContext extends RequestTrace {
  readonly request: Request;
  /** Status and headers for the response, from any layer. */
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet };
  /** Response so far: that of the route, or of a layer that does not call `next`. */
  response: Response | undefined;
  /** Aborts at the request's timeout, when its client is gone, and when the server is forced down. */
  signal: AbortSignal;
  /** Values that layers and routes share; routes see it as `requestContext.store`. */
  readonly store: Record<string, unknown>;
}

/** A middleware layer around every request. It answers by returning a response or setting `context.response`. */
export type ServerMiddleware = MiddlewareItem<RequestContext, Response | undefined>;

export class Context implements RequestContext {
  readonly request: Request;
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet } = { headers: {} };
  response: Response | undefined;
  readonly store: Record<string, unknown> = {};
  thrown: Thrown | undefined;
  /** Whether the route has answered with a text. Bun sets the type of a text only when it sends the response. */
  isText = false;
  /** The response of the route. Layers may replace it. */
  routed: Response | undefined;
  readonly #tracer: Tracer;
  #signal: AbortSignal | undefined;

  constructor(request: Request, tracer: Tracer) {
    this.request = request;
    this.#tracer = tracer;
  }
  get requestId(): string {
    return this.#tracer.of(this.request).requestId;
  }
  get traceparent(): string | undefined {
    return this.#tracer.of(this.request).traceparent;
  }
  // Made on first use.
  get signal(): AbortSignal {
    return (this.#signal ??= signalOf(this.request));
  }
  set signal(signal: AbortSignal) {
    this.#signal = signal;
  }
}

export const internalError = (): Response =>
  responseOf(answerWith(500, { code: 'internal_error', message: 'Internal error' }));

/** Elysia's context of a request, as far as it tells who answered an error. */
export interface ElysiaAnswer {
  response?: unknown;
  responseValue?: unknown;
}

/** An error that a route threw and that is not meant for the client. */
export class Thrown {
  readonly #message: unknown;
  /** Answer that Elysia has noted in its context. It does not note its own answer to an `Error`. */
  #answer: unknown;
  /** Whether Elysia has taken what was thrown, or its message, for the answer. Hooks may have mapped that since. */
  #isShown = false;

  constructor(error: unknown, context: ElysiaAnswer) {
    const { message } = error as { readonly message?: unknown };
    this.#message = message;
    // Drops the answer that a later hook has thrown over: beside one, Elysia shows more of the error.
    context.responseValue = undefined;
    Object.defineProperty(context, 'response', {
      configurable: true,
      enumerable: true,
      get: () => this.#answer,
      set: (answer: unknown) => {
        this.#isShown ||= answer !== undefined && (answer === error || answer === message);
        this.#answer = answer;
      },
    });
  }

  /** Replaces Elysia's own answer, which shows the error. An answer of the application stays. */
  async hidden(response: Response): Promise<Response> {
    if (this.#isShown) return internalError();
    if (this.#answer !== undefined) return response;
    const text = await response.clone().text();
    return text === String(this.#message) || text === JSON.stringify(this.#message)
      ? internalError()
      : response;
  }
}

/**
 * Hides an error from the client. This is the last place for it: an `onError` hook of ours that answers would run in
 * the place of the application's own hook.
 */
export function sanitized(
  { thrown }: Context,
  response: Response | undefined,
): Response | undefined | Promise<Response> {
  return thrown === undefined || response === undefined
    ? response
    : thrown.hidden(response).catch(internalError);
}

/** Reports that an application has returned a response whose body was sent before. The message is Bun's. */
export class SentBefore extends TypeError {
  constructor() {
    super(
      'Response body already used. A Response body can only be sent once; create a new Response for each request.',
    );
  }
}

/** Returns a response with the status and headers that layers have set; an upgrade has no response. */
export function settings(context: Context, response: Response | undefined): Response | undefined {
  if (response === undefined) return undefined;
  const { status = response.status, headers } = context.set;
  const all = Object.entries(headers) as [string, string | readonly string[]][];
  if (all.length === 0 && status === response.status) return response;
  // Bun reports this for the original response, and not for a copy.
  if (response.bodyUsed) throw new SentBefore();
  const told = copied(response, status);
  const isText = context.isText && response === context.routed && !BODILESS.has(status);
  if (isText && status !== response.status && !told.headers.has('content-type'))
    told.headers.set('content-type', TEXT_TYPE);
  for (const [name, value] of all) {
    if (name.toLowerCase() !== 'set-cookie') told.headers.set(name, String(value));
    else
      for (const cookie of typeof value === 'string' ? [value] : value)
        told.headers.append(name, cookie);
  }
  return told;
}

/**
 * Copies a response. An application may return one response for many requests: the headers of one client must not
 * reach the next.
 */
function copied(response: Response, status: number): Response {
  const { headers } = response;
  if (status !== response.status || headers.has('content-type'))
    return new Response(response.body, { status, headers });
  // Bun derives the type from a text body when it sends the response. A clone keeps the text as its body.
  const copy = response.clone() as Response;
  // The clone and the original share a stream, which would buffer the whole body for an unread original.
  void response.body?.cancel().catch(() => undefined);
  return copy;
}
