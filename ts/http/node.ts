/** Limits of requests on a `node:http` server, and its graceful end. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import type { Socket } from 'node:net';
import { PortcullisError } from '../base/errors.js';
import { isHttp2, onClientGone } from '../base/socket-close.js';
import { markRefused } from '../metrics/meters.js';
import type { Drainable } from '../shutdown/drainable.js';
import type { Answer } from './answer.js';
import { lengthOf } from './handshake.js';
import { endIfStuck, type Http2Stream, type Session, streamOf } from './http2-session.js';
import { endUpload, mayHaveBody, sendAnswer } from './node-answer.js';
import { besideOthers } from './rate-headers.js';
import type { RatedOutcome } from './request-rates.js';
import {
  bodyTooLarge,
  codeOfRefusal,
  isFailure,
  type RequestLimiter,
  type RequestRefusal,
  InFlightRequest,
  type RequestRefusalCode,
} from './request-limiter.js';

const IN_FLIGHT = new WeakMap<IncomingMessage, InFlightRequest>();

/**
 * Returns a signal that aborts at the timeout of the request, when its client is gone, and when the server is
 * forced down; `undefined` without a guard that has `requests`.
 * @param request a request whose handler `guard.request()` wraps
 */
export function signalOf(request: IncomingMessage | Http2ServerRequest): AbortSignal | undefined {
  return IN_FLIGHT.get(request as IncomingMessage)?.signal;
}

/** Returns the bytes of all headers. Names and values alternate in `rawHeaders`; a pair adds ": " and a line end. */
function headerBytes(request: IncomingMessage): number {
  let bytes = 0;
  for (const text of request.rawHeaders) bytes += Buffer.byteLength(text) + 2;
  return bytes;
}

/** The part of a response that is no documented API. */
interface Internals {
  /** False until the head is on its way; `headersSent` is true from `writeHead()` on. HTTP/2 has none. */
  readonly _headerSent?: boolean;
}
const isBun = 'bun' in process.versions;

/** True once a response is on its way to the client. Bun's `_headerSent` is always false. */
const hasBegun = (response: ServerResponse & Internals): boolean =>
  // A complete response may wait behind another one of its connection, and has sent nothing then.
  response.writableEnded || (response.headersSent && (isBun || response._headerSent !== false));

/** Fields of a head, by names in any case. */
type Fields = Readonly<Record<string, unknown>>;

/**
 * Sets the header fields of an outcome, and settles it by the status of the head. Hosts write each head by
 * `writeHead()`, also where the application calls only `write()` or `end()`. A later `statusCode` is never sent.
 */
function rate(response: ServerResponse, outcome: RatedOutcome): void {
  const { headers: own } = outcome;
  let isEmpty = !outcome.givesBack;
  for (const name in own) {
    response.setHeader(name, own[name]!);
    isEmpty = false;
  }
  if (isEmpty) return;
  const writeHead = response.writeHead as (...given: unknown[]) => ServerResponse;
  response.writeHead = function (this: ServerResponse, ...given: unknown[]): ServerResponse {
    // The host throws for a second head.
    if (this.headersSent) return writeHead.apply(this, given);
    const at = given.findLastIndex((one) => typeof one === 'object' && one !== null);
    const list = given[at];
    // Behind fields that were set before, Node writes a list field by field, each over the one before of its name:
    // `Set-Cookie` lines of a proxy would be lost. In an object, repeated fields are arrays.
    const fields = Array.isArray(list) ? joined(list) : (list as Fields | undefined);
    const others = Array.isArray(fields) ? fields : besideRates(this, own, fields as Fields);
    const head = writeHead.apply(this, at === -1 ? given : given.with(at, others));
    outcome.settle(this.statusCode);
    return head;
  };
}

/** Returns the text of a field that the application has set; `undefined` if there is nothing beside our value. */
function otherThan(own: string, value: unknown): string | undefined {
  const others = (Array.isArray(value) ? value : [value]).filter(
    // A head that the host has refused has joined them before.
    (one) => one !== undefined && one !== null && one !== own && !String(one).endsWith(`, ${own}`),
  );
  return others.length === 0 ? undefined : others.join(', ');
}

/**
 * Writes our fields beside those of their names that the application has set, or gives to `writeHead()`.
 * @param fields the given ones
 * @returns the given ones without ours
 */
function besideRates(
  response: ServerResponse,
  own: Readonly<Record<string, string>>,
  fields: Fields | undefined,
): Fields | undefined {
  const others: Record<string, string> = {};
  for (const name in own) {
    const other = otherThan(own[name]!, response.getHeader(name));
    if (other !== undefined) others[name] = other;
  }
  let rest = fields;
  for (const name in fields) {
    const key = name.toLowerCase();
    if (!Object.hasOwn(own, key)) continue;
    const { [name]: value, ...remaining } = rest ?? {};
    rest = remaining;
    const other = otherThan(own[key]!, value);
    if (other !== undefined) others[key] = other;
  }
  for (const name in others)
    response.setHeader(
      name,
      besideOthers(name, own, others[name]!, (one) => others[one]),
    );
  return rest;
}

/**
 * Returns a list of fields, pairs or flat, as an object. A value may be an array, each element of which is a field of
 * its own. A flat list with a name too many stays as it is: the host tells of it.
 */
function joined(list: readonly unknown[]): Record<string, unknown> | readonly unknown[] {
  const isOfPairs = Array.isArray(list[0]);
  if (!isOfPairs && list.length % 2 === 1) return list;
  const found = new Map<string, [name: string, values: unknown[]]>();
  const add = (name: unknown, value: unknown): void => {
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    const key = String(name).toLowerCase();
    const known = found.get(key);
    if (known === undefined) found.set(key, [String(name), [...values]]);
    else known[1].push(...values);
  };
  if (isOfPairs) for (const pair of list) add(...(pair as [name: unknown, value: unknown]));
  else for (let at = 0; at < list.length; at += 2) add(list[at], list[at + 1]);
  return Object.fromEntries(
    Array.from(found.values(), ([name, values]) => [
      name,
      values.length === 1 ? values[0] : values,
    ]),
  );
}

/** Answers a refused request, or breaks its response off. */
function answer(
  limiter: RequestLimiter,
  refusal: RequestRefusal,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const code = codeOfRefusal(refusal);
  const failBody = (): void => breakOff(request, problemOf(code));
  if (response.headersSent) {
    // The client gets a response that is complete.
    const end = (): void => endUpload(request, failBody);
    if (response.writableFinished) return end();
    if (response.writableEnded) return void response.once('finish', end);
    // A response that has begun cannot be replaced: the client sees it break off.
    if (isHttp2(request)) failBody();
    return void request.socket.destroy();
  }
  if (!isFailure(code)) markRefused(response);
  dropFields(response);
  sendAnswer(limiter.answer(refusal, request), request, response, failBody);
  // Fastify drops the stream of a late answer, open, if the response has ended, and cancels it if the client has left.
  Object.defineProperty(response, 'writableEnded', { value: false });
}

/** Returns the error for the reader of a body that is not taken any further. */
const problemOf = (code: RequestRefusalCode): Error =>
  code === 'payload_too_large'
    ? bodyTooLarge()
    : new PortcullisError('ERR_TIMEOUT', `the request was refused with ${code}`, { field: 'body' });

/**
 * Fails the body of a request for a handler that still reads it: the received part must not look like the whole body.
 */
function breakOff(request: IncomingMessage, problem: Error): void {
  if (request.readableEnded || request.destroyed) return;
  // With HTTP/2, an error without a listener would be an uncaught exception.
  request.destroy(request.listenerCount('error') > 0 ? problem : undefined);
}

/** Removes the fields that a handler has set for another answer. */
function dropFields(response: ServerResponse): void {
  for (const name of response.getHeaderNames()) response.removeHeader(name);
}

/** Answers a request that is refused before its handler runs. @internal */
export function refuseRequest(
  given: Answer,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  if (response.headersSent) return;
  dropFields(response);
  refuseBeside(given, request, response);
}

/** Answers a request that is refused. The fields that are set already stay: those of rates, or of CORS. @internal */
export function refuseBeside(
  given: Answer,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  if (response.headersSent) return;
  markRefused(response);
  sendAnswer(given, request, response);
}

/**
 * Wraps a request handler in the limits.
 * @param clientOf returns the address of a request's client
 * @internal
 */
export function guardHandler(
  limiter: RequestLimiter,
  clientOf: (request: IncomingMessage) => string,
  handler: (request: IncomingMessage, response: ServerResponse) => unknown,
) {
  return function (this: unknown, request: IncomingMessage, response: ServerResponse): unknown {
    const admitted = admitRequest(limiter, clientOf, request);
    if (!(admitted instanceof InFlightRequest)) return answer(limiter, admitted, request, response);
    const forget = watch(limiter, admitted, request, response);
    if (mayHaveBody(request)) countBody(admitted, request);
    try {
      return handler.call(this, request, response);
    } catch (error) {
      // The host turns it into an uncaught exception, and sends no response.
      forget();
      admitted.end();
      throw error;
    }
  };
}

/** Admits a request, or returns its refusal. @internal */
export function admitRequest(
  limiter: RequestLimiter,
  clientOf: (request: IncomingMessage) => string,
  request: IncomingMessage,
): InFlightRequest | RequestRefusal {
  const rated = limiter.rates && {
    request,
    method: request.method ?? '',
    url: request.url ?? '',
    clientOf: () => clientOf(request),
    traced: request,
  };
  const length = lengthOf(request.headers['content-length']);
  const address = limiter.limitsClients ? clientOf(request) : undefined;
  return limiter.admit(headerBytes(request), length, address, rated, undefined, request);
}

/** Ends a request with its response, or with its client. Returns a function that ends this. */
function watch(
  limiter: RequestLimiter,
  inFlight: InFlightRequest,
  request: IncomingMessage,
  response: ServerResponse,
): () => void {
  const stream = streamOf(request);
  inFlight.hasBegun = () => hasBegun(response);
  IN_FLIGHT.set(request, inFlight);
  inFlight.awaitedBy({
    refused(code) {
      answer(limiter, code, request, response);
      inFlight.end();
    },
    // The sessions of Bun tell when their client has left.
    checkClient:
      stream === undefined || isBun ? undefined : () => endIfStuck(stream.session, stream),
  });
  const over = (): void => {
    forget();
    // The answer to a HEAD is its head.
    const isAnswered = request.method === 'HEAD' && response.headersSent;
    if (!isComplete(response) && !isAnswered) inFlight.abort('The client is gone');
    // Without a head there is no status, and the cost stays spent: a client that leaves could get each of them back.
    inFlight.rated = undefined;
    inFlight.end();
  };
  if (inFlight.rated !== undefined) rate(response, inFlight.rated);
  const forget = onClientGone(request, over);
  response.once('close', over);
  if (stream !== undefined) onAnswered(stream, request, response, over);
  return forget;
}

/** True once all of a response is on its way. HTTP/2 also finishes a response whose client has left. */
const isComplete = (response: ServerResponse): boolean =>
  response.writableEnded && response.writableFinished;

/**
 * Calls `end` once a stream has carried its response: it may stay open for as long as the client sends a body. With
 * HTTP/1 a response closes then.
 */
function onAnswered(
  stream: Http2Stream,
  request: IncomingMessage,
  response: ServerResponse,
  end: () => void,
): void {
  stream.once('finish', () => {
    if (!isComplete(response)) return;
    end();
    // Node ends a stream whose handler does not read the body. Bun does so only if a part of the body has arrived.
    if (!request.complete && request.readableFlowing === null) stream.close();
  });
}

/** Counts the bytes of a body as they arrive. */
function countBody(inFlight: InFlightRequest, request: IncomingMessage): void {
  // A handler that has not begun to read the body does not wait for it.
  inFlight.waitsForBody = () => !request.complete && request.readableFlowing !== null;
  const push = request.push.bind(request);
  let isCut = false;
  request.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    // Bytes beyond the limit are dropped: keeping them would take the memory that the limit protects. The end of a cut
    // body is dropped, too, and the body fails (`breakOff`).
    if (chunk !== null && !isCut) {
      isCut = !inFlight.countBody((chunk as Buffer).length);
      // It was answered, and its handler reads on: nothing refuses it any more.
      if (isCut && inFlight.refusal === undefined) breakOff(request, bodyTooLarge());
    }
    return isCut || push(chunk, encoding);
  };
}

/** Key of the mark on a socket that carries a session of HTTP/2. */
const CARRIES_SESSION = Symbol('portcullis.carriesSession');

/** Listeners of `listenBeside()`. */
const beside = new WeakSet<object>();

/**
 * Calls `listener` before the others of an event, as long as there are others: a server serves such a request itself
 * where nobody listens.
 */
function listenBeside(
  server: Server,
  event: 'checkContinue' | 'checkExpectation' | 'connect',
  listener: (request: IncomingMessage, other: never) => void,
): void {
  const own = listener as (...given: unknown[]) => void;
  beside.add(own);
  const listen = (): void => {
    if (!server.listeners(event).includes(own)) server.prependListener(event, own);
  };
  if (server.listenerCount(event) > 0) listen();
  server.on('newListener', (name: string, added: object) => {
    if (name === event && !beside.has(added)) listen();
  });
  server.on('removeListener', (name: string, removed: object) => {
    if (name !== event || beside.has(removed)) return;
    if (server.listeners(event).every((one) => beside.has(one))) server.off(event, own);
  });
}

/**
 * Calls `onUpgrade` before the listeners of `upgrade`. It wraps `emit`: with a listener, a server without WebSockets would
 * no longer serve requests that offer another protocol, such as `Upgrade: h2c`, and Hono leaves the answer to a refused
 * handshake to others where it is not the only one.
 */
function beforeUpgrades(
  server: Server,
  onUpgrade: (request: IncomingMessage, socket: Socket) => void,
): void {
  const emit = server.emit as (
    this: Server,
    event: string | symbol,
    ...given: unknown[]
  ) => boolean;
  server.emit = function (this: Server, event: string | symbol): boolean {
    const given = arguments as unknown as Parameters<typeof emit>;
    if (event === 'upgrade') onUpgrade(given[1] as IncomingMessage, given[2] as Socket);
    return Reflect.apply(emit, this, given);
  } as typeof server.emit;
}

/** A TLS socket of a server. */
type SecureSocket = Socket & {
  /** The socket below it; undocumented, but in every version of Node. */
  readonly _parent?: Socket | null;
};

/** Tracks the sockets and requests of a server, from before its first one. */
class HttpDrain {
  readonly #server: Server;
  /** Responses that have not ended, by their socket. */
  readonly #sockets = new Map<Socket, Set<ServerResponse>>();
  /** Sockets in their TLS handshake. Peers of a Unix socket have no address that could tell them apart. */
  readonly #handshakes = new Set<Socket>();
  /** Sessions of HTTP/2, whose sockets are not among the others. */
  readonly #sessions = new Set<Session>();
  /** Responses that have not ended, with their requests. */
  readonly #responses = new Map<ServerResponse, IncomingMessage>();
  /** Sockets that have left HTTP, by `upgrade` or `connect`, and the bytes that each had sent before. */
  readonly #upgraded = new Map<Socket, number>();
  /** Responses that were told to be the last of their connection. */
  readonly #last = new WeakSet<ServerResponse>();
  readonly #idle: (() => void)[] = [];
  /** Whether each answer tells its client that the connection ends. */
  #isLast = false;
  #isDraining = false;

  constructor(server: Server) {
    this.#server = server;
    // Requests come on the TLS socket. The raw one below it never shows a request: to end it would
    // cut the requests off.
    if ('setSecureContext' in server) {
      server.on('connection', (socket: Socket) => this.#shakeHands(socket));
      server.on('secureConnection', (socket: SecureSocket) => {
        this.#shookHands(socket);
        this.#accept(socket);
      });
    } else server.on('connection', (socket: Socket) => this.#accept(socket));
    server.on('session', (session: Session) => {
      // `socket` is a proxy, which sets the property on the socket itself.
      Object.assign(session.socket, { [CARRIES_SESSION]: true });
      this.#sessions.add(session);
      session.once('close', () => this.#sessions.delete(session));
    });
    const onRequest = (request: IncomingMessage, response: ServerResponse): void =>
      this.#follow(request, response);
    server.prependListener('request', onRequest);
    listenBeside(server, 'checkContinue', onRequest);
    listenBeside(server, 'checkExpectation', onRequest);
    // An upgraded socket belongs to a WebSocket from now on, and that of CONNECT to a tunnel.
    const onUpgrade = (request: IncomingMessage, socket: Socket): void => {
      // With HTTP/2, `connect` has a response, whose stream goes on.
      if (!isHttp2(request)) this.#upgrade(socket);
    };
    beforeUpgrades(server, onUpgrade);
    listenBeside(server, 'connect', onUpgrade);
  }

  #accept(socket: Socket): void {
    // The session of HTTP/2 begins before this.
    if (CARRIES_SESSION in socket) return;
    this.#sockets.set(socket, new Set());
    this.#forgetClosed(socket);
  }

  #forgetClosed(socket: Socket): void {
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#upgraded.delete(socket);
    });
  }

  #upgrade(socket: Socket): void {
    // A socket that is older than this has no listener yet.
    if (!this.#sockets.delete(socket)) this.#forgetClosed(socket);
    this.#upgraded.set(socket, socket.bytesWritten);
  }

  #shakeHands(socket: Socket): void {
    this.#handshakes.add(socket);
    socket.once('close', () => this.#handshakes.delete(socket));
  }

  #shookHands(socket: SecureSocket): void {
    if (this.#handshakes.delete(socket._parent ?? socket)) return;
    // The application has emitted `connection` with a stream that is no socket. Node wraps such a stream.
    const peer = peerOf(socket);
    for (const raw of this.#handshakes) if (peerOf(raw) === peer) this.#handshakes.delete(raw);
  }

  get active(): number {
    return this.#responses.size;
  }

  #follow(request: IncomingMessage, response: ServerResponse): void {
    // The application may pass a request of `checkContinue` on to `request`.
    if (this.#responses.has(response)) return;
    this.#responses.set(response, request);
    const socket = isHttp2(request) ? undefined : request.socket;
    if (socket === undefined) {
      streamOf(request)?.once('finish', () => this.#answered(request, response));
      // The stream of this request goes on; the client opens the next one elsewhere.
      if (this.#isLast) this.#closeSessions();
    } else {
      const responses = this.#sockets.get(socket) ?? new Set();
      this.#sockets.set(socket, responses.add(response));
      if (this.#isLast) this.#endWith(responses);
    }
    const over = (): void => {
      forget();
      this.#ended(socket, response);
    };
    const forget = onClientGone(request, over);
    response.once('close', over);
  }

  /** Ends the stream of a response that is complete, for the drain: its client may never end its body. */
  #answered(request: IncomingMessage, response: ServerResponse): void {
    if (!this.#isDraining || !isHttp2(request) || !isComplete(response)) return;
    const problem = new PortcullisError('ERR_TIMEOUT', 'the server is shutting down', {
      field: 'body',
    });
    endUpload(request, () => breakOff(request, problem));
  }

  #ended(socket: Socket | undefined, response: ServerResponse): void {
    if (!this.#responses.delete(response)) return;
    if (socket !== undefined) {
      const left = this.#sockets.get(socket);
      left?.delete(response);
      // Its own listener is missing on a socket that is older than this.
      if (socket.destroyed) this.#sockets.delete(socket);
      if (this.#isDraining && (left?.size ?? 0) === 0) socket.destroySoon();
    }
    if (this.#responses.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /**
   * Sends GOAWAY to the clients of HTTP/2. Their streams go on. A stream that crosses it is above
   * its last one: the client knows that nobody has read it, and sends it again (RFC 9113, 8.7).
   * Node cannot send the earlier notice of section 6.8: after any GOAWAY it drops new streams.
   */
  #closeSessions(): void {
    for (const session of this.#sessions) {
      // Before `close()`: a closed session sends no ping.
      if (!isBun) endIfStuck(session);
      session.close();
    }
  }

  /**
   * Tells each client with its next answer that its connection ends. No connection ends before: a
   * request that is on its way then would be lost.
   */
  notReady(): void {
    this.#isLast = true;
    for (const responses of this.#sockets.values()) this.#endWith(responses);
    this.#closeSessions();
  }

  /**
   * Makes the last response of a connection end it. Requests that a client has sent one behind the other, without
   * waiting (RFC 9112, section 9.3.2), are all answered: Node ends a connection behind the first response that says so.
   */
  #endWith(responses: ReadonlySet<ServerResponse>): void {
    let last: ServerResponse | undefined;
    for (const response of responses) {
      if (this.#last.delete(response) && !response.headersSent) response.shouldKeepAlive = true;
      last = response;
    }
    if (last?.headersSent !== false || !last.shouldKeepAlive) return;
    last.shouldKeepAlive = false;
    this.#last.add(last);
  }

  drain(): void {
    this.#isDraining = true;
    if (this.#server.listening) this.#server.close(() => undefined);
    this.notReady();
    // Keep-alive sockets, and sockets that never sent a request: Node's `close()` waits for both.
    for (const [socket, responses] of this.#sockets) if (responses.size === 0) socket.destroySoon();
    for (const socket of this.#handshakes) socket.destroy();
    for (const [response, request] of this.#responses) this.#answered(request, response);
  }

  /** Ends the upgrades that nobody has answered: no WebSocket and no other protocol has their sockets. */
  stop(): void {
    for (const [socket, sent] of this.#upgraded) if (socket.bytesWritten === sent) socket.destroy();
  }

  whenIdle(): Promise<void> {
    return this.active === 0
      ? Promise.resolve()
      : new Promise((resolve) => void this.#idle.push(resolve));
  }

  destroy(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
    for (const socket of this.#upgraded.keys()) socket.destroy();
    for (const session of this.#sessions) session.destroy();
  }
}

/** Returns the address of a socket's peer: the raw socket and the TLS socket above it share it. */
const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

/** The HTTP half of a drainable server. @internal */
export interface HttpDrainable extends Required<
  Omit<Drainable, 'name' | 'sockets' | 'watchSockets'>
> {
  drain(): void;
  stop(): void;
}

/** Returns the HTTP half of a drainable server. @internal */
export function httpDrainable(server: Server, limiter: RequestLimiter | undefined): HttpDrainable {
  const drain = new HttpDrain(server);
  return {
    drain() {
      limiter?.drain();
      drain.drain();
    },
    notReady: () => drain.notReady(),
    requests: () => drain.active,
    whenIdle: () => drain.whenIdle(),
    abort: () => limiter?.abort(),
    stop: () => drain.stop(),
    destroy: () => drain.destroy(),
  };
}
