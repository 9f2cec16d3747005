/** Limits of requests on hosts with `Request` and `Response`: Bun and Elysia. */
import { lazily } from '../base/builtin.js';
import { type FetchedRequest, type FetchMeter, markRefused } from '../metrics/meters.js';
import type { Answer } from './answer.js';
import { isHandshake, lengthOf, type WaitingClient } from './handshake.js';
import type { RatedOutcome, RatedRequest } from './request-rates.js';
import {
  bodyTooLarge,
  codeOfRefusal,
  InFlightRequest,
  isFailure,
  type RequestLimiter,
  type RequestRefusal,
  type RequestRefusalCode,
  type RequestWaiter,
} from './request-limiter.js';

const http = lazily(() => process.getBuiltinModule('node:http'));

/** Returns an answer as a `Response`. @internal */
export function responseOf(answer: Answer): Response {
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
}

/**
 * A host, as the limits of its requests see it. One object serves all requests of a kind: functions made for each request
 * would be garbage that leaves gaps between long-lived objects.
 * @internal
 */
export interface FetchHost {
  /** True for requests that the host may upgrade. Only the answer shows that one was none. */
  readonly isHandshake: boolean;
  /** Returns the address of the client. */
  clientOf(request: Request): string;
  /** Has a request served by its handler. */
  serve(request: Request, handle: Handle): unknown;
  /** Answers a refused request: a host may pass the answer through hooks of its own. */
  respond(answer: Answer, request: Request, handle: Handle): Response | Promise<Response>;
  /** Returns the URL of a request as the host's router reads it, where a server could read it otherwise. */
  routedUrlOf?(request: Request): string | undefined;
  /** Meter of requests, if there are metrics. */
  readonly meter?: FetchMeter | undefined;
  /**
   * Called with the answer, or a promise of it, once the request has given its seat back. Returns it, or a promise of it
   * where it is delayed.
   */
  readonly answered?: ((request: Request, answer: unknown) => unknown) | undefined;
  /**
   * True if the client is gone, where the request's own signal tells it only to those who have asked for it before;
   * `undefined` for a request of another host.
   */
  readonly isGone?: ((request: Request) => boolean | undefined) | undefined;
}

/** Serves a request. @internal */
export type Handle = (request: Request) => unknown;

/** The part of a host that serves by the handler itself, and answers without hooks. @internal */
export const DIRECT: Pick<FetchHost, 'serve' | 'respond'> = {
  serve: (request, handle) => handle(request),
  respond: responseOf,
};

function refusalOf(
  limiter: RequestLimiter,
  refusal: RequestRefusal,
  request: Request,
  handle: Handle,
  host: FetchHost,
): Response | Promise<Response> {
  const mark = (response: Response): Response =>
    isFailure(codeOfRefusal(refusal)) ? response : markRefused(response);
  const response = host.respond(limiter.answer(refusal, request), request, handle);
  return response instanceof Promise ? response.then(mark) : mark(response);
}

/** Key of a request's body state. */
const BODY = Symbol('portcullis.body');
/** State of a request's body. */
interface Body {
  /** True while the handler waits for a read. */
  isAwaited: boolean;
  /** Reads the body through the counting stream, where its length is unknown. */
  counted: Response | undefined;
  /** Stream of a body of known length, once the handler has asked for it. */
  stream: ReadableStream<Uint8Array> | null | undefined;
}
/** Key of a request's seat. Stored on the request: every garbage collection would visit the entry of a WeakMap. */
const IN_FLIGHT = Symbol('portcullis.inFlight');
/** Key of a handshake that was answered, or whose client has left: no seat is to be taken for it any more. */
const OVER = Symbol('portcullis.over');
/** Key of a handshake that a guard has decided: it became a WebSocket, or was refused. */
const DECIDED = Symbol('portcullis.decided');
type WatchedRequest = Request & {
  [BODY]?: Body;
  [IN_FLIGHT]?: InFlightRequest | undefined;
  [OVER]?: true;
  [DECIDED]?: true;
};
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
    return copiedLast(result);
  }
}

/** The headers of a response that `fetch` returned cannot be changed. */
function copiedLast(result: Response): Response {
  try {
    const last = new Response(result.body, result);
    last.headers.set('connection', 'close');
    return last;
  } catch {
    // Its body was read, or it is an error: the host answers as it would without us.
    return result;
  }
}

/** True if a request asks for a WebSocket, and the host may open one. @internal */
export function asksForWebSocket(request: Request): boolean {
  return request.method === 'GET' && isHandshake('GET', request.headers.get('upgrade'));
}

// Shared by all requests: closures for each request cost more than the read.
// Nothing of `Response` is read here: on Node that would load the host's `fetch` with this module, and
// `fetch` does not load without WebAssembly (`--jitless`).
const READERS = Object.fromEntries(
  (['text', 'json', 'arrayBuffer', 'blob', 'formData', 'bytes'] as const).map((name) => [
    name,
    async function (this: WatchedRequest): Promise<unknown> {
      const body = this[BODY];
      // The host's own: on Node a request of srvx is none of the engine's, though it inherits from it.
      const read = (Object.getPrototypeOf(this) as Record<string, Read>)[name];
      if (body === undefined) return read?.call(this);
      body.isAwaited = true;
      try {
        return await (body.counted === undefined
          ? read?.call(this)
          : (body.counted as unknown as Record<string, Read>)[name]?.call(body.counted));
      } finally {
        // A text that is no JSON has arrived, too.
        body.isAwaited = false;
      }
    },
  ]),
);

/** Returns a property of the host's own, behind ours. */
const ownOf = (request: Request, name: 'body' | 'signal'): unknown =>
  Reflect.get(Object.getPrototypeOf(request) as object, name, request);
const ownSignal = (request: Request): AbortSignal => ownOf(request, 'signal') as AbortSignal;
const ownBody = (request: Request): ReadableStream<Uint8Array> | null =>
  ownOf(request, 'body') as ReadableStream<Uint8Array> | null;

// A getter, since few handlers use the signal and the host makes its own lazily.
const SIGNAL = {
  configurable: true,
  get(this: Request): AbortSignal {
    return signalOf(this);
  },
};

const { setImmediate } = globalThis;
/** Handshakes that began to wait in this turn of the event loop. Most are answered within it. */
let unwatched: WaitingRequest[] = [];

function watchAll(): void {
  const waiting = unwatched;
  unwatched = [];
  let watched = 0;
  try {
    for (const client of waiting) {
      watched++;
      client.watch();
    }
  } finally {
    // A listener that throws keeps its error for itself.
    unwatched.push(...waiting.slice(watched));
    if (watched < waiting.length) setImmediate(watchAll);
  }
}

/** The client of a handshake that waits. Its signal is made once the turn is over, since it costs much. */
class WaitingRequest {
  private signal: AbortSignal | undefined;
  private listener: (() => void) | undefined;

  constructor(
    private readonly request: Request,
    private gone: ((request: Request) => void) | undefined,
  ) {}

  watch(): void {
    const { request, gone } = this;
    if (gone === undefined) return;
    this.signal = ownSignal(request);
    // An aborted signal does not fire again.
    if (this.signal.aborted) gone(request);
    this.listener = () => gone(request);
    this.signal.addEventListener('abort', this.listener);
  }

  /** Ends the watch. */
  forget(): void {
    if (this.listener !== undefined) this.signal?.removeEventListener('abort', this.listener);
    this.gone = undefined;
  }
}

/**
 * Watches the client of a handshake that waits: the host aborts the request once it has left. One that has left already is
 * told at the end of the turn.
 * @param gone is called once the client has left, unless `forget()` was called before
 * @internal
 */
export function whileWaiting(
  request: Request,
  gone: (request: Request) => void,
): { forget(): void } {
  const waiting = new WaitingRequest(request, gone);
  if (unwatched.push(waiting) === 1) setImmediate(watchAll);
  return waiting;
}

/** Returns the client behind a handshake that waits, as `whileWaiting` watches it. @internal */
export function waitingOn(request: Request): WaitingClient {
  return {
    onGone(listener) {
      const waiting = whileWaiting(request, listener);
      return () => waiting.forget();
    },
  };
}

/** A reader of the host, whose types differ between the hosts. */
interface BodyReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(reason?: unknown): Promise<void>;
}

/**
 * Returns a stream that notes when its reader waits for a body.
 * @param source returns the reader of the host's stream; called at the first read
 * @param counting counts the bytes as they are read, where the length is unknown
 */
function noted(
  source: () => BodyReader,
  state: Body,
  counting: InFlightRequest | undefined,
): ReadableStream<Uint8Array> {
  let reader: BodyReader | undefined;
  const read = async () => {
    state.isAwaited = true;
    try {
      return await (reader ??= source()).read();
    } finally {
      state.isAwaited = false;
    }
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await read();
        if (done || value === undefined) return controller.close();
        if (counting?.countBody(value.byteLength) !== false) return controller.enqueue(value);
        await reader?.cancel().catch(() => undefined);
        controller.error(bodyTooLarge());
      },
      cancel: (reason) => (reader ?? source()).cancel(reason),
    },
    // Without a queue, each pull is a read of the handler.
    { highWaterMark: 0 },
  );
}

/**
 * Returns the host's stream to read a body from: the first one, until `clone()` has locked it and put another in its place.
 * The first one is kept, since srvx makes a request from `this.body` when it is read: its second stream is ours.
 */
const freeBody = (
  request: Request,
  first: ReadableStream<Uint8Array>,
): ReadableStream<Uint8Array> => (first.locked ? (ownBody(request) ?? first) : first);

// Shared by all requests, as the readers are.
const STREAM = {
  configurable: true,
  get(this: WatchedRequest): ReadableStream<Uint8Array> | null {
    const body = this[BODY];
    const own = ownBody(this);
    if (body === undefined) return own;
    if (body.counted !== undefined) return body.counted.body;
    return (body.stream ??= own && noted(() => freeBody(this, own).getReader(), body, undefined));
  },
};
const BODY_USED = {
  configurable: true,
  get(this: WatchedRequest): boolean {
    return this[BODY]?.counted?.bodyUsed === true;
  },
};

/** `clone()` of a request whose body is counted: the host refuses it, since the counting stream reads its body. */
function cloneCounted(this: WatchedRequest): Request {
  const { url, method, headers, signal } = this;
  const init = { method, headers, signal, body: this[BODY]?.counted?.clone().body ?? null };
  // Node asks for `duplex` with a stream; the types of neither host know it.
  return new Request(url, { ...init, duplex: 'half' } as RequestInit);
}

/** `clone()` of a request whose body has a known length: a host that reads `this.body` for it must find its own. */
function cloneOwn(this: WatchedRequest): unknown {
  const { clone } = Object.getPrototypeOf(this) as Request;
  Reflect.deleteProperty(this, 'body');
  try {
    return Reflect.apply(clone, this, []);
  } finally {
    Object.defineProperty(this, 'body', STREAM);
  }
}

const CLONE = { configurable: true, value: cloneOwn };

/** Ends the stream of an answer that no client gets: it would stay open. */
function drop(answer: unknown): void {
  if (answer instanceof Response) answer.body?.cancel().catch(() => undefined);
}

/** True for a request that may have a body. */
const mayHaveBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD';

/** Puts our signal and our counting body readers in front of the request's own. */
function watch(request: WatchedRequest, inFlight: InFlightRequest, isHandshake: boolean): void {
  request[IN_FLIGHT] = inFlight;
  // Upgrades keep the host's signal (refusals come in floods, sockets live long); `signalOf` returns the combined one.
  if (isHandshake) return;
  Object.defineProperty(request, 'signal', SIGNAL);
  if (mayHaveBody(request)) watchBody(request, inFlight);
}

// A function of its own, as are other branches with closures: an engine makes the scope of a closure where the
// function begins, also if it takes another branch.
function watchBody(request: WatchedRequest, inFlight: InFlightRequest): void {
  const length = request.headers.get('content-length');
  // HTTP/2 has neither header where the client does not know the length.
  const hasBody =
    length !== null || request.headers.has('transfer-encoding') || request.body !== null;
  if (!hasBody) return;
  const body: Body = { isAwaited: false, counted: undefined, stream: undefined };
  const own = lengthOf(length) === undefined ? request.body : null;
  if (own !== null) {
    const type = request.headers.get('content-type');
    // Locks the host's body at once: no copy of the request reads it uncounted.
    const reader = own.getReader();
    body.counted = new Response(
      noted(() => reader, body, inFlight),
      type === null ? {} : { headers: { 'content-type': type } },
    );
    Object.defineProperty(request, 'bodyUsed', BODY_USED);
    Object.defineProperty(request, 'clone', { configurable: true, value: cloneCounted });
  } else Object.defineProperty(request, 'clone', CLONE);
  request[BODY] = body;
  inFlight.waitsForBody = () => body.isAwaited;
  Object.defineProperty(request, 'body', STREAM);
  Object.assign(request, READERS);
}

/**
 * Detaches the seat from a handshake that the guard has decided: it became a WebSocket, which may keep the request
 * for days, or was refused. Any other one was a request, and spends the rates of requests.
 * @internal
 */
export function unwatch(request: WatchedRequest): void {
  request[IN_FLIGHT] = undefined;
  request[DECIDED] = true;
}

/** Notes that a handshake is over: it was answered, or its client has left. @internal */
export function handshakeEnds(request: WatchedRequest): void {
  request[OVER] = true;
}

/** True once a handshake is over: it needs no seat. @internal */
export const isOver = (request: WatchedRequest): boolean => request[OVER] === true;

/** Returns the bytes of all headers; 0 where the host's own limit is lower, since it has refused larger ones. */
function headerBytes(request: Request, maxBytes: number): number {
  if (maxBytes >= http().maxHeaderSize) return 0;
  let bytes = 0;
  for (const [name, value] of request.headers) bytes += name.length + Buffer.byteLength(value) + 4;
  return bytes;
}

/**
 * A request that is served within limits, up to its answer. Its methods are no `#private` ones, which engines set up for
 * each object.
 */
class ServedRequest implements RequestWaiter {
  private isAnswered = false;
  private resolve: ((answer: unknown) => void) | undefined;
  private reject: ((error: unknown) => void) | undefined;

  constructor(
    private readonly limiter: RequestLimiter,
    private readonly request: WatchedRequest,
    private readonly inFlight: InFlightRequest,
    /** Address of the client of a handshake that the rates may judge later. */
    private readonly client: string | undefined,
    private readonly handle: Handle,
    private readonly host: FetchHost,
    private readonly metered: FetchedRequest | undefined,
  ) {}

  /** True from the moment on at which the client waits for a promise. */
  get isLate(): boolean {
    return this.resolve !== undefined;
  }

  /** Answers in the place of the handler, where the request was refused meanwhile. */
  private refusal(): Response | Promise<Response> | undefined {
    const { refusal } = this.inFlight;
    return refusal === undefined ? undefined : this.refusalWith(refusal);
  }

  private refusalWith(refusal: RequestRefusal): Response | Promise<Response> {
    return refusalOf(this.limiter, refusal, this.request, this.handle, this.host);
  }

  /** The rates that have admitted the request. A handshake is rated when its answer has shown that it was none. */
  private rated(): RatedOutcome | undefined {
    const { limiter, request, host, client } = this;
    if (!host.isHandshake) return this.inFlight.rated;
    if (request[DECIDED] === true || client === undefined) return undefined;
    return limiter.rateLate(ratedHandshake(request, host, client));
  }

  /** Runs the handler; returns the answer to the client, or a promise of it. */
  run(): unknown {
    const { request, handle, host } = this;
    let result: unknown;
    let isLater: boolean;
    try {
      watch(request, this.inFlight, host.isHandshake);
      result = host.serve(request, handle);
      // Throws for a proxy that cannot be read.
      isLater = result instanceof Promise;
    } catch (error) {
      return this.threw(error);
    }
    return isLater ? this.later(result as Promise<unknown>) : this.answered(result);
  }

  /** Returns the answer to the client, once the handler has answered. */
  private answered(value: unknown): unknown {
    this.inFlight.end();
    const response = this.refusal();
    if (response !== undefined) {
      drop(value);
      return response;
    }
    const outcome = this.rated();
    if (outcome === undefined) return value;
    const refusal = this.rateRefusal(outcome);
    if (refusal === undefined) return outcome.finish(value);
    drop(value);
    return refusal;
  }

  /** Returns the answer to the client, once the handler has thrown; throws its error if there is none. */
  private threw(error: unknown): Response | Promise<Response> {
    this.inFlight.end();
    const outcome = this.rated();
    outcome?.settle(500);
    const response = this.refusal() ?? this.rateRefusal(outcome);
    if (response === undefined) throw error;
    return response;
  }

  /** Returns the answer to a handshake that was a request, and is over its rate. */
  private rateRefusal(outcome: RatedOutcome | undefined): Response | Promise<Response> | undefined {
    return outcome?.refusal === undefined ? undefined : this.refusalWith(outcome.refusal);
  }

  /** Returns a promise of the answer to the client, for a handler that answers later. */
  private later(result: Promise<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
      this.inFlight.awaitedBy(this);
      result.then(
        (value) => (this.isAnswered ? drop(value) : this.answer(this.answered, value)),
        (error: unknown) => void (this.isAnswered || this.answer(this.threw, error)),
      );
    });
  }

  /** Answers with what a method returns for a value. */
  private answer<V>(method: (value: V) => unknown, value: V): void {
    const { request, host } = this;
    this.isAnswered = true;
    if (host.isHandshake) handshakeEnds(request);
    try {
      const answer = method.call(this, value);
      this.metered?.answered(answer);
      this.resolve?.(told(answer, request, host));
    } catch (error) {
      this.metered?.failed();
      this.reject?.(error);
    }
  }

  refused(code: RequestRefusalCode): void {
    this.answer(this.refusedWith, code);
  }

  private refusedWith(code: RequestRefusalCode): Response | Promise<Response> {
    // Frees the seat now: a handler that never ends would keep it.
    this.inFlight.end();
    const outcome = this.rated();
    outcome?.settle(503);
    return this.rateRefusal(outcome) ?? this.refusalWith(code);
  }

  isGone(): boolean {
    return this.host.isGone?.(this.request) ?? ownSignal(this.request).aborted;
  }

  /** Its cost stays spent, since no status has decided about it: a client could get each of them back. */
  left(): void {
    this.answer(this.withoutClient, undefined);
  }

  private withoutClient(): Response {
    this.inFlight.end();
    // A handshake has spent nothing yet.
    if (this.host.isHandshake) this.rated();
    return markRefused(new Response(null, { status: 503 }));
  }
}

/** Tells the host the answer; returns it, or a promise of it where it is delayed. */
const told = (answer: unknown, request: Request, host: FetchHost): unknown =>
  host.answered === undefined ? answer : host.answered(request, answer);

function ratedRequest(request: Request, host: FetchHost, clientOf: () => string): RatedRequest {
  const { method, url } = request;
  return {
    request,
    method,
    url,
    routedUrl: host.routedUrlOf?.(request),
    clientOf,
    traced: request,
  };
}

const ratedHandshake = (request: Request, host: FetchHost, client: string): RatedRequest =>
  ratedRequest(request, host, () => client);

/** Returns a request for the rates; `undefined` without rates, and for a handshake, which is rated after its answer. */
function ratedOf({ rates }: RequestLimiter, request: Request, host: FetchHost) {
  return rates === undefined || host.isHandshake ? undefined : ratedNow(request, host);
}

const ratedNow = (request: Request, host: FetchHost): RatedRequest =>
  ratedRequest(request, host, () => host.clientOf(request));

/** Admits a request, or returns its refusal. */
function admit(
  limiter: RequestLimiter,
  request: Request,
  handle: Handle,
  host: FetchHost,
  metered: FetchedRequest | undefined,
): ServedRequest | Response | Promise<Response> {
  const { isHandshake } = host;
  const length = mayHaveBody(request) ? lengthOf(request.headers.get('content-length')) : undefined;
  // A handshake is rated after its answer, and the host may know no address of a client that has left.
  const isRatedLater = isHandshake && limiter.rates !== undefined;
  const client = limiter.limitsClients || isRatedLater ? host.clientOf(request) : undefined;
  const bytes = headerBytes(request, limiter.limits.maxHeaderSize);
  const rated = ratedOf(limiter, request, host);
  // Shedding an upgrade is the manager's decision; it may refuse by close code.
  const admitted = limiter.admit(bytes, length, client, rated, isHandshake, request);
  if (!(admitted instanceof InFlightRequest))
    return refusalOf(limiter, admitted, request, handle, host);
  return new ServedRequest(limiter, request, admitted, client, handle, host, metered);
}

/**
 * Has a host serve a request within the limits. Answers after the timeout are dropped.
 * @param handle serves the request
 * @returns the answer, or a promise of it
 * @throws the error of the handler
 * @internal
 */
export function withinLimits(
  limiter: RequestLimiter,
  request: Request,
  handle: Handle,
  host: FetchHost,
): unknown {
  const metered = host.meter?.begin(request);
  try {
    const served = admit(limiter, request, handle, host, metered);
    const isServed = served instanceof ServedRequest;
    const answer = isServed ? served.run() : served;
    // A late answer is recorded and told when it is there.
    if (isServed && served.isLate) return answer;
    metered?.answered(answer);
    return told(answer, request, host);
  } catch (error) {
    metered?.failed();
    throw error;
  }
}
