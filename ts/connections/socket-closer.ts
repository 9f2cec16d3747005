/** How a socket ends: by a close, and with force if the peer does not answer. */
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { ManagedSocket } from './connection.js';

interface Closable {
  readonly socket: ManagedSocket;
}

/** Sockets that were closed and are to end. */
export class SocketCloser {
  readonly #timers: TimerManager;
  readonly #closeTimeoutMs: number;
  readonly #pending = new WeakMap<Closable, TimerHandle>();

  constructor(timers: TimerManager, closeTimeoutMs: number) {
    this.#timers = timers;
    this.#closeTimeoutMs = closeTimeoutMs;
  }

  close(connection: Closable, code: number, reason: string): void {
    const { socket } = connection;
    // First: a host may report the end of the socket from within its close().
    const isAwaited = this.#await(connection);
    try {
      socket.close(code, reason);
    } catch {
      // A socket that cannot be closed is gone; its seat is free already.
    }
    if (!isAwaited) terminate(socket);
  }

  /** It has ended by now: a timer would hold it for `closeTimeoutMs`, and strangers can have many closed. */
  released(connection: Closable): void {
    if (hasEnded(connection.socket)) this.#pending.get(connection)?.close();
  }

  /** Ends the socket with force in a while, unless the connection is released before; `false` if nobody would. */
  #await(connection: Closable): boolean {
    const { socket } = connection;
    if (!canTerminate(socket)) return true;
    try {
      const timer = this.#timers.setTimeout(
        terminate,
        { delayMs: this.#closeTimeoutMs, ref: false, name: 'connections.terminate' },
        socket,
      );
      this.#pending.set(connection, timer);
      return true;
    } catch {
      // Strict timers that were cleaned up.
      return false;
    }
  }
}

function canTerminate(socket: ManagedSocket): boolean {
  try {
    return typeof socket.terminate === 'function';
  } catch {
    return false;
  }
}

function hasEnded(socket: ManagedSocket): boolean {
  try {
    return socket.readyState === 3;
  } catch {
    return false;
  }
}

function terminate(socket: ManagedSocket): void {
  try {
    if (!hasEnded(socket)) socket.terminate?.();
  } catch {
    // It is gone already.
  }
}
