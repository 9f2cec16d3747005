/** Requests of a `node:http` server: limits around its handler, and its end without cutting anybody off. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { markRefused } from '../metrics/meters.js';
import type { Drainable } from '../shutdown/drainable.js';
import {
  isFailure,
  type RequestLimiter,
  type RequestRefusalCode,
  InFlightRequest,
} from './limiter.js';

const TICKETS = new WeakMap<IncomingMessage, InFlightRequest>();

/** Aborts when the time of the request is over, its client gone or the server forced down; needs a guard with `requests`. */
export function signalOf(request: IncomingMessage): AbortSignal | undefined {
  return TICKETS.get(request)?.signal;
}

function headerBytes(request: IncomingMessage): number {
  let bytes = 0;
  // Names and values alternate; each pair is sent with ": " and a line end.
  for (const text of request.rawHeaders) bytes += Buffer.byteLength(text) + 2;
  return bytes;
}

/** A response that has been given by us: its handler may go on, but is not heard. */
function silence(response: ServerResponse): void {
  const chain = (): ServerResponse => response;
  Object.assign(response, {
    writeHead: chain,
    setHeader: chain,
    removeHeader: () => undefined,
    appendHeader: chain,
    flushHeaders: () => undefined,
    write: () => false,
    end: chain,
  });
}

function answer(
  gate: RequestLimiter,
  code: RequestRefusalCode,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  // Half an answer cannot be taken back: the client sees it break off.
  if (response.headersSent) return void request.socket.destroy();
  if (!isFailure(code)) markRefused(response);
  const { status, headers, body } = gate.answer(code);
  for (const name of response.getHeaderNames()) response.removeHeader(name);
  const socket = request.socket;
  const isLast = headers['connection'] === 'close' || !request.complete;
  response.writeHead(status, isLast ? { ...headers, connection: 'close' } : headers);
  response.end(body, () => {
    if (isLast) socket.destroySoon();
  });
  silence(response);
}

/** @internal */
export function guardHandler(
  gate: RequestLimiter,
  handler: (request: IncomingMessage, response: ServerResponse) => unknown,
) {
  return function (this: unknown, request: IncomingMessage, response: ServerResponse): unknown {
    const length = request.headers['content-length'];
    const entered = gate.admit(headerBytes(request), length);
    if (!(entered instanceof InFlightRequest)) return answer(gate, entered, request, response);
    const ticket = entered;
    TICKETS.set(request, ticket);
    ticket.onRefused = (code) => {
      answer(gate, code, request, response);
      ticket.end();
    };
    response.once('close', () => {
      if (!response.writableFinished) ticket.abort('The client is gone');
      ticket.end();
    });
    if (length !== undefined || request.headers['transfer-encoding'] !== undefined) {
      // One that nobody has begun to read is not waited for.
      ticket.waitsForBody = () => !request.complete && request.readableFlowing !== null;
      const push = request.push.bind(request);
      request.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
        // What is too much is dropped: reading on would hold the memory that the limit guards.
        if (chunk !== null && !ticket.countBody((chunk as Buffer).length)) return true;
        return push(chunk, encoding);
      };
    }
    try {
      return handler.call(this, request, response);
    } catch (error) {
      // The host makes an uncaught error of it, and answers nobody.
      ticket.end();
      throw error;
    }
  };
}

/** Follows a server's sockets and requests, from before its first one. */
class HttpDrain {
  readonly #server: Server;
  readonly #sockets = new Map<Socket, number>();
  readonly #idle: (() => void)[] = [];
  #active = 0;
  #isDraining = false;

  constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket: Socket) => {
      this.#sockets.set(socket, 0);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) =>
      this.#follow(request, response),
    );
    // An upgraded socket is a WebSocket's from here on.
    server.prependListener('upgrade', (_request: IncomingMessage, socket: Socket) =>
      this.#sockets.delete(socket),
    );
  }

  get active(): number {
    return this.#active;
  }

  #follow(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    this.#active++;
    this.#sockets.set(socket, (this.#sockets.get(socket) ?? 0) + 1);
    if (this.#isDraining && !response.headersSent) response.shouldKeepAlive = false;
    response.once('close', () => {
      this.#active--;
      const left = (this.#sockets.get(socket) ?? 1) - 1;
      if (this.#sockets.has(socket)) this.#sockets.set(socket, left);
      if (this.#isDraining && left === 0) socket.destroySoon();
      if (this.#active === 0) for (const resolve of this.#idle.splice(0)) resolve();
    });
    this.#responses.add(response);
    response.once('close', () => this.#responses.delete(response));
  }

  readonly #responses = new Set<ServerResponse>();

  drain(): void {
    this.#isDraining = true;
    if (this.#server.listening) this.#server.close(() => undefined);
    for (const response of this.#responses)
      if (!response.headersSent) response.shouldKeepAlive = false;
    // Kept alive, or connected and never heard of: Node waits for both.
    for (const [socket, requests] of this.#sockets) if (requests === 0) socket.destroySoon();
  }

  whenIdle(): Promise<void> {
    return this.#active === 0
      ? Promise.resolve()
      : new Promise((resolve) => void this.#idle.push(resolve));
  }

  destroy(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }
}

/** The HTTP half of a part. @internal */
export function httpDrainable(
  server: Server,
  gate: RequestLimiter | undefined,
): Required<Pick<Drainable, 'drain' | 'requests' | 'whenIdle' | 'abort' | 'destroy'>> {
  const drain = new HttpDrain(server);
  return {
    drain() {
      gate?.drain();
      drain.drain();
    },
    requests: () => drain.active,
    whenIdle: () => drain.whenIdle(),
    abort: () => gate?.abort(),
    destroy: () => drain.destroy(),
  };
}
