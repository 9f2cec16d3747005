/** Bun's server sockets: pings, the size limit, and counting what they send. */
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import type { OpenSocket, SocketHost } from '../connections/open-socket.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, sizeOf } from './socket.js';

/** Data that a socket can send. */
type Payload = string | ArrayBufferLike | ArrayBufferView;

/** Bun's `ServerWebSocket`, as far as the adapters use it. @internal */
export interface RawSocket extends ManagedSocket, GuardedSocket {
  send(data: Payload, compress?: boolean): number;
  sendText(data: string, compress?: boolean): number;
  sendBinary(data: Exclude<Payload, string>, compress?: boolean): number;
  getBufferedAmount(): number;
  /** Data that the upgrade was given. */
  readonly data?: unknown;
  ping(): unknown;
  /** True while the socket is paused. */
  readonly isPaused?: boolean;
}

/** Bun reports a close before the peer has answered. @internal */
export const bunSockets: SocketHost = {
  ping: (socket) => (socket as RawSocket).ping(),
  buffered: (socket) => (socket as RawSocket).getBufferedAmount(),
  // Bun shows neither a message that is arriving nor its bytes.
  isPaused: (socket) => (socket as RawSocket).isPaused === true,
  arrived: () => undefined,
  publishes: true,
  waitsForAnswer: false,
  lingers: isBunSocket,
};

/** True for a socket of `Bun.serve`; those of Bun's `ws` are none. @internal */
export function isBunSocket(socket: object): boolean {
  const { sendText, cork } = socket as { readonly sendText?: unknown; readonly cork?: unknown };
  return typeof sendText === 'function' && typeof cork === 'function';
}

/** True if Bun closed a socket for the size of a message: no client can send 1006. @internal */
export function isTooLarge(code: number, reason: unknown): boolean {
  return code === 1006 && reason === 'Received too big message';
}

type Send<T extends Payload> = (this: RawSocket, data: T, compress?: boolean) => number;

/** Status of a send that Bun dropped. */
const DROPPED = 0;

function isQueued(status: number): boolean {
  return status <= DROPPED;
}

// Shared by all sockets: a closure for each costs more memory than the connection itself.
function counted<T extends Payload>(send: Send<T>): Send<T> {
  return function (this: RawSocket, data: T, compress?: boolean): number {
    const status = send.call(this, data, compress);
    // Bun returns the bytes of a message that it could send at once: nobody has to count them again.
    if (status > DROPPED) this[CONNECTION]?.sent(status);
    else {
      if (status !== DROPPED) this[CONNECTION]?.sent(sizeOf(data));
      this[OPEN_SOCKET]?.sent();
    }
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
  openSocket: OpenSocket,
): void {
  if (socket[CONNECTION] !== undefined) return countSendsAgain(socket, connection, openSocket);
  socket[CONNECTION] = connection;
  socket[OPEN_SOCKET] = openSocket;
  shared ??= {
    send: counted(socket.send),
    sendText: counted(socket.sendText),
    sendBinary: counted(socket.sendBinary),
  };
  // One by one: `Object.assign` takes longer on Bun.
  socket.send = shared.send;
  socket.sendText = shared.sendText;
  socket.sendBinary = shared.sendBinary;
}

/** Adds a second guard's connection to a socket that counts for the first one's already. */
function countSendsAgain(
  socket: RawSocket,
  connection: ManagedConnection,
  openSocket: OpenSocket,
): void {
  const { send, sendText, sendBinary } = socket;
  const also =
    <T extends Payload>(before: (data: T, compress?: boolean) => number) =>
    (data: T, compress?: boolean): number => {
      const status = before.call(socket, data, compress);
      if (status !== DROPPED) connection.sent(status > DROPPED ? status : sizeOf(data));
      if (isQueued(status)) openSocket.sent();
      return status;
    };
  Object.assign(socket, {
    send: also(send),
    sendText: also(sendText),
    sendBinary: also(sendBinary),
  });
}
