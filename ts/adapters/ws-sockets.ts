/** Sockets of `ws`: pings, the size limit, and counting messages both ways. */
import type { WebSocket, WebSocketServer } from 'ws';
import type { ManagedConnection } from '../connections/connection.js';
import type { OpenSocket, SocketHost } from '../connections/open-socket.js';
import type { Guard } from '../guard/guard.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, payloadLimitOf, sizeOf } from './socket.js';

/** Key of the connection of a socket in the manager of its route. @internal */
export const FURTHER = Symbol('portcullis.furtherConnection');

/** A socket of `ws` with the state of its guard. @internal */
export type GuardedWs = WebSocket & GuardedSocket & { [FURTHER]?: ManagedConnection };

const ignore = (): void => undefined;

/** Close code of a connection whose handler has thrown. */
const HANDLER_FAILED = 1011;

/** The parser of a socket of `ws`, and the stream that it reads. */
interface Internals {
  readonly _receiver?: {
    readonly _bufferedBytes?: number;
    readonly _fragments?: readonly unknown[];
    _maxPayload?: number;
  };
  readonly _socket?: { readonly bytesRead: number } | null;
}

/** `ws` reports a close when the peer has answered or is gone. @internal */
export const wsSockets: SocketHost = {
  ping: (socket) => (socket as WebSocket).ping(undefined, undefined, ignore),
  buffered: (socket) => (socket as WebSocket).bufferedAmount,
  isPaused: (socket) => (socket as WebSocket).isPaused,
  arrived(socket) {
    const { _receiver: receiver, _socket: stream } = socket as unknown as Internals;
    // `ws` has no public word for a message that is arriving; other versions than those known have none.
    const isArriving =
      (receiver?._bufferedBytes ?? 0) > 0 || (receiver?._fragments?.length ?? 0) > 0;
    return isArriving ? stream?.bytesRead : undefined;
  },
  publishes: false,
  waitsForAnswer: true,
  lingers: () => false,
};

/**
 * Runs an upgrade that makes `ws` refuse messages above `maxBytes` with 1009, before they have arrived whole. The
 * option of the server holds again afterwards: its other sockets are not this guard's.
 * @internal
 */
export function withMessageLimit(
  { options }: WebSocketServer,
  maxBytes: number,
  upgrade: () => void,
): void {
  const own = options.maxPayload;
  const limit = payloadLimitOf(maxBytes, own);
  if (limit === (own ?? 0)) return upgrade();
  options.maxPayload = limit;
  try {
    upgrade();
  } finally {
    // Unless the application has changed it meanwhile.
    if (options.maxPayload === limit) {
      if (own === undefined) delete options.maxPayload;
      else options.maxPayload = own;
    }
  }
}

/**
 * Does the same for one socket that is open: of a handshake that waited for `verifyClient`, or of a server whose options
 * are out of reach. Without the parser's limit the guard's own holds, once a message has arrived.
 * @internal
 */
export function limitReceiver(socket: WebSocket, maxBytes: number): void {
  const { _receiver: receiver } = socket as unknown as Internals;
  if (typeof receiver?._maxPayload !== 'number') return;
  receiver._maxPayload = payloadLimitOf(maxBytes, receiver._maxPayload);
}

/** Codes of the errors by which `ws` refuses a message for its size. */
const TOO_LARGE: ReadonlySet<unknown> = new Set([
  'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH',
  'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH',
]);

function ended(socket: GuardedWs, connection: ManagedConnection, code: number): void {
  connection.ended();
  socket[FURTHER]?.ended();
  socket[OPEN_SOCKET]?.remove(code);
}

/**
 * Ends a connection whose handler has thrown within the parser of `ws`. The parser stops reading, and `ws` never emits
 * `close` for the socket. The client gets 1011, and its socket is destroyed after `closeTimeoutMs`.
 * @internal
 */
export function handlerFailed(
  socket: WebSocket,
  connection: ManagedConnection,
  further: ManagedConnection | undefined,
  openSocket: OpenSocket | undefined,
): void {
  // Bun's own `ws` has another parser, which continues after an error.
  if ((socket as unknown as Internals)._receiver === undefined) return;
  connection.close(HANDLER_FAILED, 'Internal error');
  further?.ended();
  openSocket?.remove(HANDLER_FAILED);
}

/** True for events that `ws` emits from within its parser. @internal */
export const isParsed = (event: string | symbol): boolean =>
  event === 'message' || event === 'ping' || event === 'pong';

/** True for the error by which `ws` refuses a message for its size. @internal */
export function isTooLargeError(error: unknown): boolean {
  return TOO_LARGE.has((error as { readonly code?: unknown } | null | undefined)?.code);
}

/** Counts a message that `ws` has refused; true for an error that would end the process, since nobody listens. */
function isOwnError(socket: GuardedWs, error: unknown): boolean {
  if (isTooLargeError(error)) socket[OPEN_SOCKET]?.wasTooLarge();
  return socket.listenerCount('error') === 0;
}

const OPEN = 1;

/** A guard, as far as it judges messages. */
type GuardOfMessages = Pick<Guard<never>, 'openSockets' | 'jsonFilter'>;
type Send = (this: WebSocket, data: unknown, ...rest: unknown[]) => void;
type Emit = (this: WebSocket, event: string | symbol, ...args: unknown[]) => boolean;

/**
 * Makes sockets count both ways, before the application can listen to them. All sockets share two
 * functions: two closures for each cost memory, and calls that the engine cannot predict.
 * @internal
 */
export class TrafficCounter {
  readonly #guard: GuardOfMessages;
  // One pair for each class of sockets: a process may have two copies of `ws`.
  readonly #sends = new WeakMap<Send, Send>();
  readonly #emits = new WeakMap<Emit, Emit>();

  constructor(guard: GuardOfMessages) {
    this.#guard = guard;
  }

  /**
   * Counts the messages of a seated socket from now on, and gives its seat back when it ends: no listener does it,
   * which `removeAllListeners()` of the application would take away.
   */
  follow(socket: GuardedWs): void {
    const own = socket as unknown as { send: Send; emit: Emit };
    own.send = this.#sendOver(own.send);
    own.emit = this.#emitOver(own.emit);
  }

  #sendOver(send: Send): Send {
    const known = this.#sends.get(send);
    if (known !== undefined) return known;
    const sent = (socket: GuardedWs, data: unknown): void => this.#sent(socket, data);
    const counted: Send = function (this: GuardedWs, data) {
      Reflect.apply(send, this, arguments);
      sent(this, data);
    };
    this.#sends.set(send, counted);
    return counted;
  }

  // Without rest and spread: an array for each message is most of the garbage at ten thousand connections.
  #emitOver(emit: Emit): Emit {
    const known = this.#emits.get(emit);
    if (known !== undefined) return known;
    const admits = (socket: GuardedWs, connection: ManagedConnection, data: unknown): boolean =>
      this.#admits(socket, connection, data);
    const counted: Emit = function (this: GuardedWs, event) {
      const connection = this[CONNECTION];
      if (connection !== undefined) {
        if (event === 'message') {
          if (!admits(this, connection, arguments[1])) return false;
        } else if (event === 'close') ended(this, connection, arguments[1] as number);
        else if (event === 'error') {
          if (isOwnError(this, arguments[1])) return false;
        } else if (event === 'ping' || event === 'pong') {
          // A client that answers is there, though it says nothing.
          if (connection.receivedControl(sizeOf(arguments[1])) !== 'ok') return false;
          if (event === 'pong') this[OPEN_SOCKET]?.ponged();
          // `ws` has queued its pong: a client that pings and does not read is slow.
          else this[OPEN_SOCKET]?.sent();
        }
      }
      try {
        return Reflect.apply(emit, this, arguments);
      } catch (error) {
        if (connection !== undefined && isParsed(event))
          handlerFailed(this, connection, this[FURTHER], this[OPEN_SOCKET]);
        throw error;
      }
    };
    this.#emits.set(emit, counted);
    return counted;
  }

  #sent(socket: GuardedWs, data: unknown): void {
    const connection = socket[CONNECTION];
    if (socket.readyState !== OPEN || connection === undefined) return;
    connection.sent(typeof data === 'number' ? String(data).length : sizeOf(data));
    if (socket.bufferedAmount > this.#guard.openSockets.watermark) socket[OPEN_SOCKET]?.sent();
  }

  /** Judges a message; `false` if no handler is to see it. */
  #admits(socket: GuardedWs, connection: ManagedConnection, data: unknown): boolean {
    const bytes = sizeOf(data);
    if (connection.received(bytes) !== 'ok') return false;
    const { openSockets, jsonFilter } = this.#guard;
    if (openSockets.admits(bytes, connection)) return jsonFilter.admits(data, connection);
    socket[OPEN_SOCKET]?.refuseMessage();
    return false;
  }
}
