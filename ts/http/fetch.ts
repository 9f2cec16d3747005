/** Requests of hosts that speak `Request` and `Response`: Bun and Elysia. */
import { maxHeaderSize } from 'node:http';
import { ArgumentRangeError } from '../base/errors.js';
import { markRefused } from '../metrics/meters.js';
import type { Answer } from './answer.js';
import {
  isFailure,
  type RequestLimiter,
  type RequestRefusalCode,
  InFlightRequest,
} from './limiter.js';

/** @internal */
export function responseOf(answer: Answer): Response {
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
}

function refusalOf(gate: RequestLimiter, code: RequestRefusalCode): Response {
  const response = responseOf(gate.answer(code));
  return isFailure(code) ? response : markRefused(response);
}

const BODY = Symbol('portcullis.body');
/** The body of a request, as far as it has been asked for. */
interface Body {
  isAwaited: boolean;
  /** Reads it counted, where its length is not known. */
  readonly counted: Response | undefined;
}
/** The ticket of a request: on itself, since an entry in a weak map is one more thing for each collection to visit. */
const TICKET = Symbol('portcullis.ticket');
type Watched = Request & { [BODY]?: Body; [TICKET]?: InFlightRequest | undefined };
type Read = (this: Request | Response) => Promise<unknown>;

/** Aborts when the time of the request is over, its client gone or the server forced down. */
export function signalOf(request: Request): AbortSignal {
  const ticket = (request as Watched)[TICKET];
  return ticket === undefined ? request.signal : ticket.signalWith(ownSignal.call(request));
}

/** Whether a request asks for a WebSocket. @internal */
export function isUpgrade(request: Request): boolean {
  return request.headers.get('upgrade')?.toLowerCase() === 'websocket';
}

// Shared by all requests: closures for each would cost more than the reading.
const READERS = Object.fromEntries(
  (['text', 'json', 'arrayBuffer', 'blob', 'formData', 'bytes'] as const).map((name) => {
    const read = (Request.prototype as unknown as Record<string, Read>)[name];
    const fromResponse = (Response.prototype as unknown as Record<string, Read>)[name];
    return [
      name,
      async function (this: Watched): Promise<unknown> {
        const body = this[BODY];
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

const ownSignal = Object.getOwnPropertyDescriptor(Request.prototype, 'signal')!.get as (
  this: Request,
) => AbortSignal;

// Few handlers ask for it, and the host makes its own when it is asked.
const SIGNAL = {
  configurable: true,
  get(this: Request): AbortSignal {
    return signalOf(this);
  },
};

/** A body of unknown length, counted as it is read. */
function counted(
  body: ReadableStream<Uint8Array>,
  ticket: InFlightRequest,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      if (ticket.countBody(value.byteLength)) return controller.enqueue(value);
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

/** Puts the ticket's signal, and what counts and times the body, in front of the request's own. */
function watch(
  request: Watched,
  ticket: InFlightRequest,
  hasBody: boolean,
  isCounted: boolean,
): void {
  request[TICKET] = ticket;
  // Those of clients that are refused come in floods, and those of WebSockets stay: they keep the host's own, and `signalOf` knows better.
  if (isUpgrade(request)) return;
  Object.defineProperty(request, 'signal', SIGNAL);
  if (!hasBody) return;
  let response: Response | undefined;
  if (isCounted && request.body !== null) {
    const type = request.headers.get('content-type');
    response = new Response(
      counted(request.body, ticket),
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
  ticket.waitsForBody = () => body.isAwaited;
  Object.assign(request, READERS);
}

/** Takes the ticket from a request that has become a WebSocket, which may keep it for days. @internal */
export function unwatch(request: Watched): void {
  request[TICKET] = undefined;
}

function headerBytes(request: Request, most: number): number {
  // The host has refused what is above its own limit.
  if (most >= maxHeaderSize) return 0;
  let bytes = 0;
  for (const [name, value] of request.headers) bytes += name.length + Buffer.byteLength(value) + 4;
  return bytes;
}

/**
 * Runs `handle` within the limits; what it answers after its time was over is dropped.
 * @internal
 */
export function withinLimits<T>(
  gate: RequestLimiter,
  request: Request,
  handle: () => T,
): T | Response | Promise<Response | Awaited<T>> {
  const hasBody = request.method !== 'GET' && request.method !== 'HEAD';
  const length = hasBody ? request.headers.get('content-length') : null;
  // Of an upgrade the manager decides, who may refuse by a close code.
  const entered = gate.admit(headerBytes(request, gate.limits.maxHeaderSize), length, () =>
    isUpgrade(request),
  );
  if (!(entered instanceof InFlightRequest)) return refusalOf(gate, entered);
  const ticket = entered;
  const refused = (): Response | undefined =>
    ticket.refusal === undefined ? undefined : refusalOf(gate, ticket.refusal);
  let result: T;
  try {
    watch(
      request,
      ticket,
      hasBody && (length !== null || request.headers.has('transfer-encoding')),
      length === null,
    );
    result = handle();
  } catch (error) {
    ticket.end();
    const response = refused();
    if (response !== undefined) return response;
    throw error;
  }
  if (!(result instanceof Promise)) {
    ticket.end();
    return refused() ?? result;
  }
  return new Promise<Response | Awaited<T>>((resolve, reject) => {
    ticket.isGone = () => ownSignal.call(request).aborted;
    ticket.onGone = () => {
      ticket.end();
      resolve(markRefused(new Response(null, { status: 503 })));
    };
    ticket.onRefused = (code) => {
      // The seat is free again: a handler that never ends must not keep it.
      ticket.end();
      resolve(refusalOf(gate, code));
    };
    (result as Promise<Awaited<T>>).then(
      (value) => {
        ticket.end();
        resolve(refused() ?? value);
      },
      (error: unknown) => {
        ticket.end();
        const response = refused();
        if (response === undefined) reject(error);
        else resolve(response);
      },
    );
  });
}
