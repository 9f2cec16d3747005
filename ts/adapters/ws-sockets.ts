/** Sockets of `ws`: pings, the size limit, and counting messages both ways. */
import type { WebSocket, WebSocketServer } from 'ws';
import type { ManagedConnection } from '../connections/connection.js';
import type { OpenSocket, SocketHost } from '../connections/open-socket.js';
import type { Guard } from '../guard/guard.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, sizeOf } from './socket.js';

/** A socket of `ws` with the state of its guard. @internal */
export type GuardedWs = WebSocket & GuardedSocket;

const ignore = (): void => undefined;

/** The parser of a socket of `ws`, and the stream that it reads. */
interface Internals {
  readonly _receiver?: {
    readonly _bufferedBytes?: number;
    readonly _fragments?: readonly unknown[];
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
};

/**
 * Makes `ws` refuse messages above `maxBytes` with 1009, before they have arrived whole. A
 * `maxPayload` of 0 is no limit to `ws`.
 * @internal
 */
export function limitMessages(webSocketServer: WebSocketServer, maxBytes: number): void {
  const { options } = webSocketServer;
  const own = options.maxPayload ?? 0;
  if (maxBytes !== Infinity && (own === 0 || own > maxBytes)) {
    options.maxPayload = Math.max(1, maxBytes);
  }
}

/**
 * Undoes `limitMessages()`, unless the application has changed the limit since.
 * @param own the `maxPayload` of the server before
 * @internal
 */
export function unlimitMessages(
  webSocketServer: WebSocketServer,
  maxBytes: number,
  own: number | undefined,
): void {
  const { options } = webSocketServer;
  if (options.maxPayload === own || options.maxPayload !== Math.max(1, maxBytes)) return;
  if (own === undefined) delete options.maxPayload;
  else options.maxPayload = own;
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

  /** Counts the messages of `socket` from now on. */
  follow(socket: GuardedWs, openSocket: OpenSocket): void {
    socket[OPEN_SOCKET] = openSocket;
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
        } else if (event === 'ping' || event === 'pong') {
          // A client that answers is there, though it says nothing.
          if (connection.receivedControl(sizeOf(arguments[1])) !== 'ok') return false;
          if (event === 'pong') this[OPEN_SOCKET]?.ponged();
          // `ws` has queued its pong: a client that pings and does not read is slow.
          else this[OPEN_SOCKET]?.sent();
        }
      }
      return Reflect.apply(emit, this, arguments);
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
