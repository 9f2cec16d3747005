/** One open socket of a guard: its ping, its close, and whether its client reads. */
import { ignoreFailure } from '../base/hooks.js';
import type { ShutdownSocket } from '../shutdown/drainable.js';
import type { ManagedConnection, ManagedSocket } from './connection.js';

/** Operations on the sockets of one host. @internal */
export interface SocketHost {
  /** Sends a ping. */
  ping(socket: ManagedSocket): unknown;
  /** Bytes that wait to be sent. */
  buffered(socket: ManagedSocket): number;
  /** True while the server has paused the socket: it reads nothing of what its client sends. */
  isPaused(socket: ManagedSocket): boolean;
  /**
   * Bytes that have arrived, while a message is arriving; `undefined` between messages, and on a host that
   * does not show it.
   */
  arrived(socket: ManagedSocket): number | undefined;
  /** True if the host can send without calling the socket: Bun's `publish`. */
  readonly publishes: boolean;
  /** True if the host reports a close only when the peer has answered or is gone (1006). */
  readonly waitsForAnswer: boolean;
  /**
   * True if the host reports the end of this socket from within its close, and keeps its descriptor for a while,
   * whether the peer answers or not: Bun's. It reads on until then. False for the sockets of other hosts.
   */
  lingers(socket: ManagedSocket): boolean;
}

/** The set of sockets, as each of them sees it. @internal */
export interface OpenSocketOwner {
  readonly host: SocketHost;
  /** True if sends must be reported, since slow clients are closed. */
  readonly watchesSends: boolean;
  /** Called after a send that may wait in the socket's buffer. */
  queued(socket: OpenSocket): void;
  countTooLarge(): void;
  /** Called before the close of a shutdown. */
  readonly onDrain: ((connection: ManagedConnection) => void) | undefined;
  remove(socket: OpenSocket, code: number): void;
}

const NEVER_PINGED = -1;

/** State of a socket. One that is closing has sent its close frame, or the frame waits behind other data. */
type Phase = ShutdownSocket['state'] | 'closing behind data';

/**
 * One open socket. Adapters report its events to it. Eight fields: with a ninth, JavaScriptCore would take 112 bytes in the
 * place of 80.
 * @internal
 */
export class OpenSocket implements ShutdownSocket {
  readonly connection: ManagedConnection;
  readonly #owner: OpenSocketOwner;
  #phase: Phase = 'open';
  /** Tick of the first unanswered ping. */
  unanswered = NEVER_PINGED;
  /** Place in the bucket of the tick at which a ping is due. */
  place = 0;
  /** First tick at which a ping is due. */
  due = 0;
  /**
   * Messages received up to the last tick of the socket: a later one answers its ping. Compared instead of a flag that
   * each message would set, so that a message need not touch this object. Low 32 bits, as are those of `bytesSent`: V8
   * keeps them in the object, and takes 16 bytes more for a number out of a `Float64Array`.
   */
  #messagesSeen = 0;
  #sentSeen = 0;

  constructor(connection: ManagedConnection, owner: OpenSocketOwner) {
    this.connection = connection;
    this.#owner = owner;
  }

  /** True if the client has answered the last ping, or none was sent. */
  isAnswered(): boolean {
    return this.unanswered === NEVER_PINGED || this.hasReceived();
  }

  private hasReceived(): boolean {
    return (this.connection.messageCount | 0) !== this.#messagesSeen;
  }

  /** Notes the first ping since the last answer. Called at a tick of the socket, after `wasBusy()`. */
  pinged(tick: number): void {
    this.unanswered = tick;
  }

  /** True if traffic went both ways since the last call; no ping is needed. Called at each tick of the socket. */
  wasBusy(): boolean {
    const { messageCount, bytesSent } = this.connection;
    const hasReceived = this.hasReceived();
    const hasSent = (bytesSent | 0) !== this.#sentSeen;
    // A message answers the ping before it.
    if (hasReceived) this.unanswered = NEVER_PINGED;
    this.#messagesSeen = messageCount | 0;
    this.#sentSeen = bytesSent | 0;
    return hasReceived && hasSent;
  }

  /** Notes a pong: activity, but no message. */
  ponged(): void {
    this.unanswered = NEVER_PINGED;
    this.connection.touch();
  }

  /** Closes the socket for a message over the limit. */
  refuseMessage(): void {
    this.wasTooLarge();
    this.close(1009, 'Message too big');
  }

  /** Counts a message that the host itself has refused for its size; the host closes the socket. */
  wasTooLarge(): void {
    this.#owner.countTooLarge();
  }

  /** Notes a send that may wait in the socket's buffer. */
  sent(): void {
    if (this.#owner.watchesSends) this.#owner.queued(this);
  }

  /** Removes the socket, at the host's close event. May be called again. */
  remove(code: number): void {
    this.#owner.remove(this, code);
  }

  get state(): ShutdownSocket['state'] {
    return this.#phase === 'closing behind data' ? 'closing' : this.#phase;
  }

  get buffered(): number {
    return this.#owner.host.buffered(this.connection.socket);
  }

  ping(): void {
    // A socket that cannot be pinged is about to end: its close event follows.
    ignoreFailure(() => this.#owner.host.ping(this.connection.socket));
  }

  beforeClose(): void {
    // Its manager may have closed it already, while its peer has not answered.
    if (this.connection.isAlive) this.#owner.onDrain?.(this.connection);
  }

  close(code: number, reason: string): void {
    if (this.#phase !== 'open') return;
    // First: the application's socket is asked for its buffer, and may close or end within.
    this.#phase = 'closing';
    const hasData = this.buffered !== 0;
    if (hasData && this.state === 'closing') this.#phase = 'closing behind data';
    this.connection.close(code, reason);
  }

  terminate(): void {
    ignoreFailure(() => this.connection.socket.terminate?.());
  }

  /** Sets the final state, for a shutdown that counts the clients that answered their close. */
  gone(code: number): void {
    // A host that does not wait for the answer has passed the close frame to the system, unless it
    // queued behind other data.
    const isAnswered = this.#owner.host.waitsForAnswer
      ? code !== 1006
      : this.#phase !== 'closing behind data';
    this.#phase = isAnswered ? 'acknowledged' : 'broken';
  }
}
