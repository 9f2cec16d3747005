/** Closes sockets, and terminates those whose peer does not answer the close. */
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { ManagedSocket } from './connection.js';

interface Closable {
  readonly socket: ManagedSocket;
}

/** Closes sockets, with a kill timer for each until the host reports its end. @internal */
export class SocketCloser {
  readonly #timers: TimerManager;
  readonly #closeTimeoutMs: number;
  /** Kill timers by connection, until they fire or are cancelled. */
  readonly #pending = new WeakMap<Closable, TimerHandle>();
  #pendingCount = 0;
  #onDone: (() => void) | undefined;

  /** @param closeTimeoutMs time from a close to its `terminate()` */
  constructor(timers: TimerManager, closeTimeoutMs: number) {
    this.#timers = timers;
    this.#closeTimeoutMs = closeTimeoutMs;
  }

  close(connection: Closable, code: number, reason: string): void {
    const { socket } = connection;
    // Arms the kill timer first: a host may report the end of the socket from within its close().
    const willTerminate = this.#armKill(connection);
    try {
      socket.close(code, reason);
    } catch {
      // A socket that cannot be closed is gone; its seat is free already.
    }
    if (!willTerminate) terminate(socket);
  }

  /**
   * Cancels the kill timer of a socket that has ended: the timer would retain the socket for
   * `closeTimeoutMs`, and an attacker can make many sockets close.
   */
  released(connection: Closable): void {
    if (!hasEnded(connection.socket)) return;
    this.#pending.get(connection)?.close();
    this.#settle(connection);
  }

  /** Calls `onDone` as soon as no kill timer is pending. */
  whenDone(onDone: () => void): void {
    if (this.#pendingCount === 0) onDone();
    else this.#onDone = onDone;
  }

  /** Arms the kill timer; `false` if the socket needs one and the timers take none. */
  #armKill(connection: Closable): boolean {
    if (!canTerminate(connection.socket)) return true;
    try {
      const timer = this.#timers.setTimeout(
        this.#kill,
        { delayMs: this.#closeTimeoutMs, ref: false, name: 'connections.terminate' },
        connection,
      );
      this.#pending.set(connection, timer);
      this.#pendingCount++;
      return true;
    } catch {
      // Strict timers that are closed.
      return false;
    }
  }

  readonly #kill = (connection: Closable): void => {
    terminate(connection.socket);
    this.#settle(connection);
  };

  #settle(connection: Closable): void {
    if (this.#pending.delete(connection) && --this.#pendingCount === 0) this.#onDone?.();
  }
}

// The properties of a socket are the application's: any of them may throw.

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
