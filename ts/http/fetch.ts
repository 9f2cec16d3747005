/** Limits of requests on hosts with `Request` and `Response`: Bun and Elysia. */
import { lazily } from '../base/builtin.js';
import { ArgumentRangeError } from '../base/errors.js';
import { markRefused } from '../metrics/meters.js';
import type { Answer } from './answer.js';
import { isHandshake, lengthOf, type WaitingClient } from './handshake.js';
import type { RatedOutcome, RatedRequest } from './request-rates.js';
import {
  codeOfRefusal,
  isFailure,
  type RequestLimiter,
  type RequestRefusal,
  InFlightRequest,
} from './limiter.js';

const http = lazily(() => process.getBuiltinModule('node:http'));

/** Returns an answer as a `Response`. @internal */
export function responseOf(answer: Answer): Response {
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
}

/** Knowledge of a host about a request before it is served. @internal */
export interface Passing {
  /** True for a request that the host may upgrade. Only its answer shows that it was none. */
  readonly isHandshake: boolean;
  /** URL of the request as the host's router reads it, where a server could read it otherwise. */
  readonly routedUrl?: string | undefined;
}

/** A request that cannot become a WebSocket. @internal */
export const PLAIN: Passing = Object.freeze({ isHandshake: false });
/** A request that the host may upgrade. @internal */
export const HANDSHAKE: Passing = Object.freeze({ isHandshake: true });

/** Answers a refused request: a host may pass the answer through hooks of its own. @internal */
export type Respond = (answer: Answer) => Response | Promise<Response>;

function refusalOf(
  limiter: RequestLimiter,
  refusal: RequestRefusal,
  request: Request,
  respond: Respond,
): Response | Promise<Response> {
  const mark = (response: Response): Response =>
    isFailure(codeOfRefusal(refusal)) ? response : markRefused(response);
  const response = respond(limiter.answer(refusal, request));
  return response instanceof Promise ? response.then(mark) : mark(response);
}

/** Key of a request's body state. */
const BODY = Symbol('portcullis.body');
/** State of a request's body. */
interface Body {
  /** True while the handler waits for a read. */
  isAwaited: boolean;
  /** Reads the body through the counting stream, where its length is unknown. */
  readonly counted: Response | undefined;
}
/** Key of a request's seat. Stored on the request: every garbage collection would visit the entry of a WeakMap. */
const IN_FLIGHT = Symbol('portcullis.inFlight');
type WatchedRequest = Request & { [BODY]?: Body; [IN_FLIGHT]?: InFlightRequest | undefined };
type Read = (this: Request | Response) => Promise<unknown>;

/**
 * Returns a signal that aborts at the timeout of the request, when its client is gone, and when the server is
 * forced down.
 * @param request a request of a guarded server
 * @example
 * app.get('/report', ({ request }) => fetch(upstream, { signal: signalOf(request) }));
 */
export function signalOf(request: Request): AbortSignal {
  const inFlight = (request as WatchedRequest)[IN_FLIGHT];
  return inFlight === undefined ? request.signal : inFlight.signalWith(ownSignal(request));
}

/**
 * Adds `Connection: close` to a response, or to that of a promise, so that the client opens its next
 * connection elsewhere. Bun closes the connection behind it.
 * @internal
 */
export function lastAnswer(result: unknown): unknown {
  if (result instanceof Promise) return result.then(lastAnswer);
  if (!(result instanceof Response)) return result;
  try {
    result.headers.set('connection', 'close');
    return result;
  } catch {
    // The headers of a response that `fetch` returned cannot be changed.
    const last = new Response(result.body, result);
    last.headers.set('connection', 'close');
    return last;
  }
}

/** True if a request asks for a WebSocket, and the host may open one. @internal */
export function asksForWebSocket(request: Request): boolean {
  return request.method === 'GET' && isHandshake('GET', request.headers.get('upgrade'));
}

// Shared by all requests: closures for each request cost more than the read.
const READERS = Object.fromEntries(
  (['text', 'json', 'arrayBuffer', 'blob', 'formData', 'bytes'] as const).map((name) => {
    const fromResponse = (Response.prototype as unknown as Record<string, Read>)[name];
    return [
      name,
      async function (this: WatchedRequest): Promise<unknown> {
        const body = this[BODY];
        // The host's own: on Node a request of srvx is none of the engine's, though it inherits from it.
        const read = (Object.getPrototypeOf(this) as Record<string, Read>)[name];
        if (body === undefined) return read?.call(this);
        body.isAwaited = true;
        const value = await (body.counted === undefined
          ? read?.call(this)
          : fromResponse?.call(body.counted));
        body.isAwaited = false;
        return value;
      },
    ];
  }),
);

/** Returns the host's own signal, behind ours. */
const ownSignal = (request: Request): AbortSignal =>
  Reflect.get(Object.getPrototypeOf(request) as object, 'signal', request) as AbortSignal;

// A getter, since few handlers use the signal and the host makes its own lazily.
const SIGNAL = {
  configurable: true,
  get(this: Request): AbortSignal {
    return signalOf(this);
  },
};

/** Returns the client behind a handshake that waits: the host aborts the request once it has left. @internal */
export function waitingOn(request: Request): WaitingClient {
  return {
    onGone(listener) {
      const signal = ownSignal(request);
      // An aborted signal does not fire again.
      if (signal.aborted) listener();
      signal.addEventListener('abort', listener);
      return () => signal.removeEventListener('abort', listener);
    },
  };
}

/** Returns a stream that counts a body of unknown length as it is read. */
function counted(
  body: ReadableStream<Uint8Array>,
  inFlight: InFlightRequest,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      if (inFlight.countBody(value.byteLength)) return controller.enqueue(value);
      await reader.cancel().catch(() => undefined);
      controller.error(
        new ArgumentRangeError('the body is larger than maxPayloadSize', {
          field: 'body',
        }),
      );
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** Puts our signal and our counting body readers in front of the request's own. */
function watch(
  request: WatchedRequest,
  inFlight: InFlightRequest,
  hasBody: boolean,
  isCounted: boolean,
  { isHandshake }: Passing,
): void {
  request[IN_FLIGHT] = inFlight;
  // Upgrades keep the host's signal (refusals come in floods, sockets live long); `signalOf` returns the combined one.
  if (isHandshake) return;
  Object.defineProperty(request, 'signal', SIGNAL);
  if (!hasBody) return;
  let response: Response | undefined;
  if (isCounted && request.body !== null) {
    const type = request.headers.get('content-type');
    response = new Response(
      counted(request.body, inFlight),
      type === null ? {} : { headers: { 'content-type': type } },
    );
    Object.defineProperty(request, 'body', { configurable: true, get: () => response?.body });
    Object.defineProperty(request, 'bodyUsed', {
      configurable: true,
      get: () => response?.bodyUsed,
    });
  }
  const body: Body = { isAwaited: false, counted: response };
  request[BODY] = body;
  inFlight.waitsForBody = () => body.isAwaited;
  Object.assign(request, READERS);
}

/**
 * Detaches the seat from a handshake that the guard has decided: it became a WebSocket, which may keep the request
 * for days, or was refused. Any other one was a request, and spends the rates of requests.
 * @internal
 */
export function unwatch(request: WatchedRequest): void {
  request[IN_FLIGHT] = undefined;
}

/** Returns the bytes of all headers; 0 where the host's own limit is lower, since it has refused larger ones. */
function headerBytes(request: Request, maxBytes: number): number {
  if (maxBytes >= http().maxHeaderSize) return 0;
  let bytes = 0;
  for (const [name, value] of request.headers) bytes += name.length + Buffer.byteLength(value) + 4;
  return bytes;
}

/** Rates a handshake whose answer has shown that it was a request: a socket has rates of its own. */
function ratedLate(
  limiter: RequestLimiter,
  request: WatchedRequest,
  inFlight: InFlightRequest,
  asked: RatedRequest | undefined,
): RatedOutcome | undefined {
  return request[IN_FLIGHT] === inFlight ? limiter.rateLate(asked) : undefined;
}

/**
 * Runs `handle` within the limits. Answers after the timeout are dropped.
 * @param clientOf returns the address of the client
 * @param respond answers a refused request
 * @param passing what the host knows of the request
 *
 * Beyond forty lines, since a synchronous and an asynchronous handler share the refusal and the seat.
 * @internal
 */
export function withinLimits<T>(
  limiter: RequestLimiter,
  request: Request,
  clientOf: () => string,
  handle: () => T,
  respond: Respond = responseOf,
  passing: Passing = asksForWebSocket(request) ? HANDSHAKE : PLAIN,
): T | Response | Promise<Response | Awaited<T>> {
  const hasBody = request.method !== 'GET' && request.method !== 'HEAD';
  const contentLength = hasBody ? request.headers.get('content-length') : null;
  const length = lengthOf(contentLength);
  const asked = limiter.rates && {
    request,
    method: request.method,
    url: request.url,
    routedUrl: passing.routedUrl,
    clientOf,
    traced: request,
  };
  // Shedding an upgrade is the manager's decision; it may refuse by close code.
  const admitted = limiter.admit(
    headerBytes(request, limiter.limits.maxHeaderSize),
    length,
    clientOf,
    asked,
    passing.isHandshake,
    request,
  );
  if (!(admitted instanceof InFlightRequest)) return refusalOf(limiter, admitted, request, respond);
  const inFlight = admitted;
  const rated = (): RatedOutcome | undefined =>
    passing.isHandshake ? ratedLate(limiter, request, inFlight, asked) : inFlight.rated;
  const refused = (): Response | Promise<Response> | undefined =>
    inFlight.refusal === undefined
      ? undefined
      : refusalOf(limiter, inFlight.refusal, request, respond);
  const finished = <V>(value: V): V | Response | Promise<Response> => {
    const outcome = rated();
    if (outcome === undefined) return value;
    if (outcome.refusal === undefined) return outcome.finish(value);
    // Nobody reads the response of the handler: its stream would stay open.
    if (value instanceof Response) value.body?.cancel().catch(() => undefined);
    return refusalOf(limiter, outcome.refusal, request, respond);
  };
  let result: T;
  try {
    watch(
      request,
      inFlight,
      hasBody && (contentLength !== null || request.headers.has('transfer-encoding')),
      length === undefined,
      passing,
    );
    result = handle();
  } catch (error) {
    inFlight.end();
    rated()?.settle(500);
    const response = refused();
    if (response !== undefined) return response;
    throw error;
  }
  if (!(result instanceof Promise)) {
    inFlight.end();
    return refused() ?? finished(result);
  }
  return new Promise<Response | Awaited<T>>((resolve, reject) => {
    inFlight.watchClient(
      () => ownSignal(request).aborted,
      () => {
        inFlight.end();
        inFlight.rated?.settle(503);
        resolve(markRefused(new Response(null, { status: 503 })));
      },
    );
    inFlight.onRefused = (code) => {
      // Frees the seat now: a handler that never ends would keep it.
      inFlight.end();
      inFlight.rated?.settle(503);
      resolve(refusalOf(limiter, code, request, respond));
    };
    (result as Promise<Awaited<T>>).then(
      (value) => {
        inFlight.end();
        resolve(refused() ?? finished(value));
      },
      (error: unknown) => {
        inFlight.end();
        rated()?.settle(500);
        const response = refused();
        if (response === undefined) reject(error);
        else resolve(response);
      },
    );
  });
}
