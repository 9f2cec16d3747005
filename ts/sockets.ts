import type { ManagedConnection, ManagedSocket } from './connection.js';
import type { LiveSocket, SocketHost } from './live.js';

/** What a socket may be sent. */
type Payload = string | ArrayBufferLike | ArrayBufferView;

/** Bun's `ServerWebSocket`, as far as it is used here. @internal */
export interface RawSocket extends ManagedSocket {
  send(data: Payload, compress?: boolean): number;
  sendText(data: string, compress?: boolean): number;
  sendBinary(data: Exclude<Payload, string>, compress?: boolean): number;
  getBufferedAmount(): number;
  /** What was handed to the upgrade. */
  readonly data?: unknown;
  ping(): unknown;
  [CONNECTION]?: ManagedConnection;
  [LIVE]?: LiveSocket;
}

/**
 * Where a socket keeps its connection. An own property: a look-up took 2 to 5 ns on Bun's sockets,
 * one in a `WeakMap` 4 to 6 ns.
 * @internal
 */
export const CONNECTION = Symbol('portcullis.connection');
/** Where a socket keeps what its guard knows of it. @internal */
export const LIVE = Symbol('portcullis.live');

/** Bun's sockets. Their close event does not wait for the peer's answer. @internal */
export const bunSockets: SocketHost = {
  ping: (socket) => void (socket as RawSocket).ping(),
  buffered: (socket) => (socket as RawSocket).getBufferedAmount(),
  publishes: true,
  waitsForAnswer: false,
};

/** Whether Bun has closed a socket for the size of a message: no client can send 1006. @internal */
export function isTooLarge(code: number, reason: unknown): boolean {
  return code === 1006 && reason === 'Received too big message';
}

/** Bytes of a message; text counts as UTF-8. @internal */
export function sizeOf(data: unknown): number {
  if (typeof data === 'string') return Buffer.byteLength(data);
  if (data instanceof Uint8Array) return data.byteLength;
  if (typeof data !== 'object' || data === null) return 0;
  if ('byteLength' in data && typeof data.byteLength === 'number') return data.byteLength;
  if (Array.isArray(data)) return data.reduce((sum: number, part) => sum + sizeOf(part), 0);
  return 'size' in data && typeof data.size === 'number' ? data.size : 0;
}

// Shared by all sockets: a closure for each would cost more memory than the connection itself.
function counted<T extends Payload>(
  send: (data: T, compress?: boolean) => number,
): (this: RawSocket, data: T, compress?: boolean) => number {
  return function (this: RawSocket, data: T, compress?: boolean): number {
    const status = send.call(this, data, compress);
    // 0 is a message that was dropped.
    if (status !== 0) this[CONNECTION]?.sent(sizeOf(data));
    // -1: it waits behind others.
    if (status <= 0) this[LIVE]?.sent();
    return status;
  };
}

interface Senders {
  readonly send: RawSocket['send'];
  readonly sendText: RawSocket['sendText'];
  readonly sendBinary: RawSocket['sendBinary'];
}
let shared: Senders | undefined;

/** Makes the socket count what it sends, for `connection`. @internal */
export function countSends(
  socket: RawSocket,
  connection: ManagedConnection,
  live: LiveSocket,
): void {
  if (socket[CONNECTION] === undefined) {
    socket[CONNECTION] = connection;
    socket[LIVE] = live;
    shared ??= {
      send: counted(socket.send),
      sendText: counted(socket.sendText),
      sendBinary: counted(socket.sendBinary),
    };
    Object.assign(socket, shared);
    return;
  }
  // A second guard on the same socket: its connection counts on top.
  const { send, sendText, sendBinary } = socket;
  const also =
    <T extends Payload>(before: (data: T, compress?: boolean) => number) =>
    (data: T, compress?: boolean): number => {
      const status = before.call(socket, data, compress);
      if (status !== 0) connection.sent(sizeOf(data));
      if (status <= 0) live.sent();
      return status;
    };
  Object.assign(socket, {
    send: also(send),
    sendText: also(sendText),
    sendBinary: also(sendBinary),
  });
}
