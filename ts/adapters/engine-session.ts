/**
 * Sessions of Engine.IO, the transport below Socket.IO: what a manager closes, pings and counts. A
 * session lives through the change of its transport from polling to WebSocket, and so does its seat.
 */
import type { IncomingMessage } from 'node:http';
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import type { OpenSocket, SocketHost } from '../connections/open-socket.js';
import type { Guard } from '../guard/guard.js';
import { isBunSocket } from './bun-sockets.js';
import { jsonOf, PacketUnit } from './engine-packet.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, sizeOf } from './socket.js';

/** The WebSocket of a transport: of `ws` on Node, of Bun's server on Bun. */
interface TransportSocket {
  readonly readyState: number;
  readonly bufferedAmount?: number;
  close(code?: number, reason?: string): void;
  terminate(): void;
  getBufferedAmount?(): number;
  pause?(): void;
  once?(event: 'close', listener: () => void): unknown;
  on?(event: 'ping' | 'pong', listener: (this: TransportSocket, data: unknown) => void): unknown;
  [TRANSPORT]?: EngineTransport;
}

/** A transport of Engine.IO. @internal */
export interface EngineTransport {
  readonly name: string;
  /** Absent on polling. */
  readonly socket?: TransportSocket;
  close(): void;
  /** The session that the transport belongs to, or would take over. */
  [ENGINE_SOCKET]?: EngineSocket;
}

/** Key of the engine's socket on its transports. @internal */
export const ENGINE_SOCKET = Symbol('portcullis.engineSocket');
/** Key of a transport on its WebSocket. */
const TRANSPORT = Symbol('portcullis.transport');

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
  /** Takes a second transport, which may take the place of the first one. */
  _maybeUpgrade?(transport: EngineTransport): void;
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
  /** A packet whose attachments are arriving. */
  unit: PacketUnit | undefined;
  /** True from the upgrade of a second transport until that transport has ended or has taken over. */
  isProbing = false;
  /** True once the application has ended the session: the engine waits until its last packets are sent. */
  isEnding = false;
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
   * a packet that closes, which carries none. A session that the application has ended ends by itself, once its
   * client has its last packets.
   */
  close(code?: number, reason?: string): void {
    if (this.isEnding) return;
    const { socket } = this;
    const { socket: webSocket } = socket.transport;
    webSocket?.close(code, reason);
    this.#end(webSocket === undefined);
    this.ended();
  }

  /** Notes that the engine's socket has ended. Its WebSocket may end later. */
  ended(): void {
    const { socket: webSocket } = this.socket.transport;
    if (webSocket === undefined) {
      // Later: a manager takes an end from within its close for that of a socket of Bun, whose
      // descriptor stays.
      queueMicrotask(() => this.#gone());
    } else webSocket.once?.('close', () => this.#gone());
  }

  /** Stops reading from the client; `undefined` where the transport cannot, so that the socket is terminated. */
  get pause(): () => void {
    const { socket } = this.socket.transport;
    const isAble = typeof socket?.pause === 'function';
    return (isAble ? () => socket.pause?.() : undefined) as () => void;
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
  lingers(session) {
    const webSocket =
      session instanceof EngineSession ? session.socket.transport.socket : undefined;
    return webSocket !== undefined && isBunSocket(webSocket);
  },
};

type MaybeUpgrade = (this: EngineSocket, transport: EngineTransport) => void;
type Close = (this: EngineSocket, discard?: boolean) => void;
type Emit = (this: EngineSocket, event: string, ...args: unknown[]) => boolean;

/**
 * Makes sessions count both ways, before Socket.IO can hear of a packet. All sockets of an engine share
 * one function. It takes the place of the method by which the engine emits its own events.
 * @internal
 */
export class SessionTraffic {
  readonly #guard: Pick<Guard<never>, 'openSockets' | 'jsonFilter'>;
  readonly #emits = new WeakMap<Emit, Emit>();
  readonly #closes = new WeakMap<Close, Close>();
  readonly #upgrades = new WeakMap<MaybeUpgrade, MaybeUpgrade>();
  readonly #onPing: (this: TransportSocket, data: unknown) => void;
  readonly #onPong: (this: TransportSocket, data: unknown) => void;

  constructor(guard: Pick<Guard<never>, 'openSockets' | 'jsonFilter'>) {
    const frame = (socket: TransportSocket, isPing: boolean, data: unknown): void =>
      this.frame(socket[TRANSPORT], isPing, data);
    this.#onPing = function (data) {
      frame(this, true, data);
    };
    this.#onPong = function (data) {
      frame(this, false, data);
    };
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
    socket.close = this.#overClose(socket.close);
    if (socket._maybeUpgrade !== undefined)
      socket._maybeUpgrade = this.#overUpgrade(socket._maybeUpgrade);
    this.#watch(socket, socket.transport);
  }

  /** A ping or a pong of the WebSocket below a session. Those of the engine are packets. */
  frame(transport: EngineTransport | undefined, isPing: boolean, data: unknown): void {
    const socket = transport?.[ENGINE_SOCKET];
    const connection = socket?.[CONNECTION];
    if (connection === undefined) return;
    const isOver = connection.receivedControl(sizeOf(data)) !== 'ok';
    // A probe does not end with its session.
    if (isOver && socket?.transport !== transport) return transport?.close();
    if (isOver) return;
    // The host has queued its pong: a client that pings and does not read is slow.
    if (isPing) socket?.[OPEN_SOCKET]?.sent();
  }

  /** Hears the pings and pongs of a transport; those of Bun's sockets come by the handlers of `Bun.serve`. */
  #watch(socket: EngineSocket, transport: EngineTransport): void {
    transport[ENGINE_SOCKET] = socket;
    const { socket: webSocket } = transport;
    if (webSocket === undefined || webSocket[TRANSPORT] !== undefined) return;
    webSocket[TRANSPORT] = transport;
    webSocket.on?.('ping', this.#onPing);
    webSocket.on?.('pong', this.#onPong);
  }

  #overUpgrade(upgrade: MaybeUpgrade): MaybeUpgrade {
    const known = this.#upgrades.get(upgrade);
    if (known !== undefined) return known;
    const watch = (socket: EngineSocket, transport: EngineTransport): void =>
      this.#watch(socket, transport);
    const watched: MaybeUpgrade = function (this: EngineSocket, transport) {
      // Before it takes over: a client could send pings without end over a transport that it only probes.
      watch(this, transport);
      Reflect.apply(upgrade, this, [transport]);
    };
    this.#upgrades.set(upgrade, watched);
    return watched;
  }

  /**
   * Gives the seat back when the application ends a session. The engine reports the end when the client has its last
   * packets, or at its ping timeout: a client that is gone would keep the seat until then.
   */
  #overClose(close: Close): Close {
    const known = this.#closes.get(close);
    if (known !== undefined) return known;
    const watched: Close = function (this: EngineSocket, discard) {
      Reflect.apply(close, this, [discard]);
      const session = this[SESSION];
      const connection = this[CONNECTION];
      if (this.readyState !== 'closing' || session === undefined || connection?.isAlive !== true)
        return;
      session.isEnding = true;
      // Its manager ends it after `closeTimeoutMs`, or at once if too many are closing.
      connection.close();
    };
    this.#closes.set(close, watched);
    return watched;
  }

  #over(emit: Emit): Emit {
    const known = this.#emits.get(emit);
    if (known !== undefined) return known;
    const hears = (
      socket: EngineSocket,
      event: string,
      first: unknown,
      second: unknown,
      emit: Emit,
    ): boolean => this.#hears(socket, event, first, second, emit);
    const counted: Emit = function (this: EngineSocket, event) {
      if (!hears(this, event, arguments[1], arguments[2], emit)) return false;
      return Reflect.apply(emit, this, arguments);
    };
    this.#emits.set(emit, counted);
    return counted;
  }

  /** An event of the engine; `false` if nobody is to hear it. */
  #hears(
    socket: EngineSocket,
    event: string,
    first: unknown,
    second: unknown,
    emit: Emit,
  ): boolean {
    const session = socket[SESSION];
    const connection = socket[CONNECTION];
    if (session === undefined || connection === undefined) return true;
    switch (event) {
      case 'data':
        session.isDropping = !this.#isHeard(socket, session, first, emit);
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
        this.#watch(socket, socket.transport);
        return true;
      case 'close':
        if (isTooLarge(second)) socket[OPEN_SOCKET]?.wasTooLarge();
        connection.ended();
        if (session.isEnding) session.ended();
        socket[OPEN_SOCKET]?.remove(1006);
        return true;
      default:
        return true;
    }
  }

  /** A message; `false` if nobody is to hear it now: it is refused, or waits for its attachments. */
  #isHeard(socket: EngineSocket, session: EngineSession, data: unknown, emit: Emit): boolean {
    const isAdmitted = this.#admits(socket, data);
    const { unit } = session;
    if (typeof data === 'string') {
      // A text among attachments: the parser sees what it would have seen, and ends the client.
      if (unit !== undefined) release(socket, unit, emit);
      session.unit = PacketUnit.of(data, isAdmitted);
      return isAdmitted && session.unit === undefined;
    }
    if (unit === undefined) return isAdmitted;
    unit.take(data, isAdmitted);
    if (unit.left > 0) return false;
    session.unit = undefined;
    release(socket, unit, emit);
    return !unit.isDropped;
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

  #admits(socket: EngineSocket, data: unknown): boolean {
    const connection = socket[CONNECTION];
    const bytes = sizeOf(data);
    if (connection?.received(bytes) !== 'ok') return false;
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

/** Emits what was held of a packet, as the engine would have. */
function release(socket: EngineSocket, unit: PacketUnit, emit: Emit): void {
  for (const data of unit.release()) {
    emit.call(socket, 'data', data);
    // The engine of Node emits both.
    if (socket.emitReserved === undefined) emit.call(socket, 'message', data);
  }
}

/** True for the error of a transport that has refused a message for its size. */
function isTooLarge(error: unknown): boolean {
  const message = error instanceof Error ? error.message : '';
  return /max payload size exceeded|payload too large/i.test(message);
}
