/**
 * Sessions of Engine.IO, the transport below Socket.IO: what a manager closes, pings and counts. A
 * session lives through the change of its transport from polling to WebSocket, and so does its seat.
 */
import type { IncomingMessage } from 'node:http';
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import type { OpenSocket, SocketHost } from '../connections/open-socket.js';
import type { Guard } from '../guard/guard.js';
import { jsonOf } from './engine-packet.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, sizeOf } from './socket.js';

/** The WebSocket of a transport: of `ws` on Node, of Bun's server on Bun. */
interface TransportSocket {
  readonly readyState: number;
  readonly bufferedAmount?: number;
  close(code?: number, reason?: string): void;
  terminate(): void;
  getBufferedAmount?(): number;
  once?(event: 'close', listener: () => void): unknown;
}

/** A transport of Engine.IO. @internal */
export interface EngineTransport {
  readonly name: string;
  /** Absent on polling. */
  readonly socket?: TransportSocket;
  close(): void;
}

/** A packet of Engine.IO. */
interface Packet {
  readonly type: string;
  readonly data?: unknown;
}

/** Key of the session of an Engine.IO socket. @internal */
export const SESSION = Symbol('portcullis.session');

/** A socket of Engine.IO: of `engine.io` on Node, of `@socket.io/bun-engine` on Bun. @internal */
export interface EngineSocket extends GuardedSocket {
  readonly id: string;
  readonly readyState: 'opening' | 'open' | 'closing' | 'closed';
  readonly transport: EngineTransport;
  /** Its first request, on Node; absent with WebTransport. */
  readonly request?: IncomingMessage | null;
  /** 3 or 4 on Node. */
  readonly protocol?: number;
  readonly upgrading?: boolean;
  readonly upgraded?: boolean;
  /** In the place of the two above, on Bun. */
  readonly upgradeState?: 'not_upgraded' | 'upgrading' | 'upgraded';
  close(discard?: boolean): void;
  sendPacket(type: string): void;
  onClose(reason: string): void;
  emit(event: string, ...args: unknown[]): boolean;
  /** Emits the events of the engine, on Bun. */
  emitReserved?(event: string, ...args: unknown[]): boolean;
  [SESSION]?: EngineSession;
}

const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** A session, as its manager sees its socket. @internal */
export class EngineSession implements ManagedSocket {
  readonly socket: EngineSocket;
  /** Bytes that wait for a transport that can send. */
  queuedBytes = 0;
  /** True between the two events of a message that no handler is to see. */
  isDropping = false;
  /** True from the upgrade of a second transport until that transport has ended or has taken over. */
  isProbing = false;
  /** Called once a closed session has left nothing open. */
  onGone: (() => void) | undefined;
  #isGone = false;

  constructor(socket: EngineSocket) {
    this.socket = socket;
  }

  get readyState(): number {
    const { transport, readyState } = this.socket;
    if (transport.socket !== undefined) return transport.socket.readyState;
    if (this.#isGone) return CLOSED;
    return readyState === 'open' ? OPEN : CLOSING;
  }

  /** Bytes that wait to be sent, here and in the WebSocket. */
  get buffered(): number {
    const { socket } = this.socket.transport;
    return this.queuedBytes + (socket?.getBufferedAmount?.() ?? socket?.bufferedAmount ?? 0);
  }

  /** True if a WebSocket may take the place of this session's polling. */
  get canUpgrade(): boolean {
    const { readyState, transport, upgrading, upgraded, upgradeState } = this.socket;
    return (
      readyState === 'open' &&
      transport.name === 'polling' &&
      !this.isProbing &&
      upgrading !== true &&
      upgraded !== true &&
      (upgradeState === undefined || upgradeState === 'not_upgraded')
    );
  }

  /**
   * Ends the session at once. A WebSocket gets the close code; a request that polls is answered with
   * a packet that closes, which carries none.
   */
  close(code?: number, reason?: string): void {
    const { socket } = this;
    const { socket: webSocket } = socket.transport;
    webSocket?.close(code, reason);
    this.#end(webSocket === undefined);
    if (webSocket === undefined) {
      // Later: a manager takes an end from within its close for that of a socket of Bun, whose
      // descriptor stays.
      queueMicrotask(() => this.#gone());
    } else webSocket.once?.('close', () => this.#gone());
  }

  terminate(): void {
    this.socket.transport.socket?.terminate();
    this.#end(true);
  }

  /** Ends the engine's socket, which would wait for a client that does not poll. */
  #end(isDiscarded: boolean): void {
    const { socket } = this;
    // Bun's engine knows no `discard`: its `close()` waits until all packets are sent.
    if (socket.upgradeState !== undefined) socket.onClose('forced close');
    else if (socket.readyState !== 'closed') socket.close(true);
    // A discarded transport ends at once, unless it was closing already: then it waits for a poll.
    if (isDiscarded && socket.readyState !== 'closed') socket.onClose('forced close');
  }

  #gone(): void {
    this.#isGone = true;
    this.onGone?.();
  }
}

const sessionOf = (socket: ManagedSocket): EngineSession => socket as EngineSession;

/** Engine.IO reports the end of a session from within its close. @internal */
export const engineSessions: SocketHost = {
  ping(session) {
    const { socket } = sessionOf(session);
    // In the third revision of the protocol the client pings, and answers none.
    if (socket.protocol !== 3) return socket.sendPacket('ping');
    const openSocket = socket[OPEN_SOCKET];
    if (openSocket !== undefined) openSocket.unanswered = -1;
    return undefined;
  },
  buffered: (session) => sessionOf(session).buffered,
  isPaused: () => false,
  arrived: () => undefined,
  publishes: false,
  waitsForAnswer: false,
};

type Emit = (this: EngineSocket, event: string, ...args: unknown[]) => boolean;

/**
 * Makes sessions count both ways, before Socket.IO can hear of a packet. All sockets of an engine share
 * one function. It takes the place of the method by which the engine emits its own events.
 * @internal
 */
export class SessionTraffic {
  readonly #guard: Pick<Guard<never>, 'openSockets' | 'jsonFilter'>;
  readonly #emits = new WeakMap<Emit, Emit>();

  constructor(guard: Pick<Guard<never>, 'openSockets' | 'jsonFilter'>) {
    this.#guard = guard;
  }

  /** Counts the packets of a session from now on. */
  follow(session: EngineSession, connection: ManagedConnection, openSocket: OpenSocket): void {
    const { socket } = session;
    socket[SESSION] = session;
    socket[CONNECTION] = connection;
    socket[OPEN_SOCKET] = openSocket;
    if (socket.emitReserved === undefined) socket.emit = this.#over(socket.emit);
    else socket.emitReserved = this.#over(socket.emitReserved);
  }

  #over(emit: Emit): Emit {
    const known = this.#emits.get(emit);
    if (known !== undefined) return known;
    const hears = (socket: EngineSocket, event: string, first: unknown, second: unknown): boolean =>
      this.#hears(socket, event, first, second);
    const counted: Emit = function (this: EngineSocket, event) {
      if (!hears(this, event, arguments[1], arguments[2])) return false;
      return Reflect.apply(emit, this, arguments);
    };
    this.#emits.set(emit, counted);
    return counted;
  }

  /** An event of the engine; `false` if nobody is to hear it. */
  #hears(socket: EngineSocket, event: string, first: unknown, second: unknown): boolean {
    const session = socket[SESSION];
    const connection = socket[CONNECTION];
    if (session === undefined || connection === undefined) return true;
    switch (event) {
      case 'data':
        session.isDropping = !this.#admits(socket, connection, first);
        return !session.isDropping;
      case 'message':
        // The same message again: the engine emits both.
        return !session.isDropping;
      case 'packet':
        return this.#control(socket, connection, first as Packet);
      case 'upgrading':
        // A client that probes its new transport again and again.
        if (connection.receivedControl(0) !== 'ok') (first as EngineTransport).close();
        return true;
      case 'packetCreate':
        this.#sends(socket, session, connection, first as Packet);
        return true;
      case 'flush':
        session.queuedBytes = 0;
        return true;
      case 'upgrade':
        session.isProbing = false;
        return true;
      case 'close':
        if (isTooLarge(second)) socket[OPEN_SOCKET]?.wasTooLarge();
        connection.ended();
        socket[OPEN_SOCKET]?.remove(1006);
        return true;
      default:
        return true;
    }
  }

  /** A message is judged by its own event. Everything else that a client sends is a control packet. */
  #control(socket: EngineSocket, connection: ManagedConnection, packet: Packet): boolean {
    if (packet.type === 'message') return true;
    if (connection.receivedControl(sizeOf(packet.data)) !== 'ok') return false;
    if (packet.type === 'pong') socket[OPEN_SOCKET]?.ponged();
    return true;
  }

  #sends(
    socket: EngineSocket,
    session: EngineSession,
    connection: ManagedConnection,
    { type, data }: Packet,
  ): void {
    const bytes = sizeOf(data);
    session.queuedBytes += bytes;
    if (type === 'message') connection.sent(bytes);
    if (session.buffered > this.#guard.openSockets.watermark) socket[OPEN_SOCKET]?.sent();
  }

  #admits(socket: EngineSocket, connection: ManagedConnection, data: unknown): boolean {
    const bytes = sizeOf(data);
    if (connection.received(bytes) !== 'ok') return false;
    const { openSockets, jsonFilter } = this.#guard;
    if (!openSockets.admits(bytes, connection)) {
      socket[OPEN_SOCKET]?.refuseMessage();
      return false;
    }
    // An attachment is no JSON, and stands in a packet of its own.
    const json = typeof data === 'string' ? jsonOf(data) : undefined;
    return json === undefined || jsonFilter.admits(json, connection);
  }
}

/** True for the error of a transport that has refused a message for its size. */
function isTooLarge(error: unknown): boolean {
  const message = error instanceof Error ? error.message : '';
  return /max payload size exceeded|payload too large/i.test(message);
}
