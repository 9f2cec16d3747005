/**
 * Closes sockets, counts those that are closing, and terminates those whose peer does not answer the
 * close. A closing socket holds no seat, but a descriptor: the counts bound the descriptors of clients
 * that do not answer.
 */
import { clientKeyOf } from '../base/address.js';
import { ignoreFailure } from '../base/hooks.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { ManagedSocket } from './connection.js';
import type { SocketHost } from './open-socket.js';

/** A socket to close, with the address whose client its closing is counted for. @internal */
export interface Closable {
  readonly socket: ManagedSocket;
  readonly ip: string;
}

/**
 * Time for which Bun keeps the descriptor of a closed socket whose peer does not answer: 8 to 16 s,
 * whatever its `idleTimeout` is. Bun reports the end of the socket from within `close()`.
 */
const LINGER_MS = 16_500;

/** Closes sockets, with a timer for each until it is gone. @internal */
export class SocketCloser {
  readonly #timers: TimerManager;
  readonly #closeTimeoutMs: number;
  /** Timers of closing sockets, until they fire or are cancelled; numbers by client (an IPv6 network). */
  readonly #closing = new Map<Closable, TimerHandle>();
  readonly #perIp = new Map<string, number>();
  #prefixBits = 64;
  readonly #hosts = new Set<Pick<SocketHost, 'lingers'>>();
  #maxPerIp = Infinity;
  #maxLingeringPerIp = Infinity;
  #maxTotal = Infinity;
  #terminated = 0;
  /** The socket whose `close()` runs. */
  #current: Closable | undefined;
  #onDone: (() => void) | undefined;

  /** @param closeTimeoutMs time from a close to its `terminate()` */
  constructor(timers: TimerManager, closeTimeoutMs: number) {
    this.#timers = timers;
    this.#closeTimeoutMs = closeTimeoutMs;
  }

  /**
   * @param prefixBits bits of an IPv6 address that make one client
   * @param perIp closing sockets of an address
   * @param lingeringPerIp the same of hosts whose sockets linger though their peers have answered
   * @param total closing sockets in all
   */
  setLimits(prefixBits: number, perIp: number, lingeringPerIp: number, total: number): void {
    this.#prefixBits = prefixBits;
    this.#maxPerIp = perIp;
    this.#maxLingeringPerIp = lingeringPerIp;
    this.#maxTotal = total;
  }

  /** Notes a host whose sockets are closed here. */
  uses(host: Pick<SocketHost, 'lingers'>): void {
    this.#hosts.add(host);
  }

  /** True from the close of a socket until it is gone. */
  isClosing(closable: Closable): boolean {
    return this.#closing.has(closable);
  }

  /** Sockets that are closing. */
  get closing(): number {
    return this.#closing.size;
  }

  /** Sockets that were terminated at once, since too many were closing. */
  get terminated(): number {
    return this.#terminated;
  }

  /**
   * Closes a socket; terminates it at once if its address, or all, have too many that are closing.
   * @param isFlood true if nothing that the peer still sends is to be read
   */
  close(closable: Closable, code: number, reason: string, isFlood = false): void {
    const { socket } = closable;
    const lingers = this.#lingers(socket);
    const most = lingers ? this.#maxLingeringPerIp : this.#maxPerIp;
    const isFull =
      this.#closing.size >= this.#maxTotal ||
      (this.#perIp.get(clientKeyOf(closable.ip, this.#prefixBits)) ?? 0) >= most;
    // A host that keeps a closed socket reads on from it: a flood ends with its descriptor only.
    const isStopped = isFlood && (lingers || !canPause(socket));
    if ((isFull || isStopped) && canTerminate(socket)) {
      if (isFull) this.#terminated++;
      return terminate(socket);
    }
    // Arms the timer first: a host may report the end of the socket from within its close().
    const willTerminate = this.#begin(closable);
    // Its close may call back and close another socket.
    const outer = this.#current;
    this.#current = closable;
    // A socket that cannot be closed is gone; its seat is free already.
    ignoreFailure(() => socket.close(code, reason));
    if (isFlood) ignoreFailure(() => socket.pause?.());
    this.#current = outer;
    if (!willTerminate) terminate(socket);
    else if (hasEnded(socket) && this.#closing.has(closable)) this.#linger(closable);
  }

  #lingers(socket: ManagedSocket): boolean {
    try {
      for (const host of this.#hosts) if (host.lingers(socket)) return true;
    } catch {
      // A property of the application's socket threw.
    }
    return false;
  }

  /**
   * Counts a socket on whose host has not waited for the peer: its descriptor stays for a while, and
   * `terminate()` does nothing from now on.
   */
  #linger(closable: Closable): void {
    this.#closing.get(closable)?.close();
    try {
      const timeout = { delayMs: LINGER_MS, ref: false, name: 'connections.closing' };
      const timer = this.#timers.setTimeout(() => this.#settle(closable), timeout);
      this.#closing.set(closable, timer);
    } catch {
      this.#settle(closable);
    }
  }

  /**
   * Ends the closing of a socket that has ended: its timer would retain it for `closeTimeoutMs`, and
   * an attacker can make many sockets close.
   */
  released(closable: Closable): void {
    const timer = this.#closing.get(closable);
    const isOver = this.#current !== closable && mayHaveEnded(closable.socket);
    if (timer === undefined || !isOver) return;
    timer.close();
    this.#settle(closable);
  }

  /** Calls `onDone` as soon as no socket waits for its `terminate()`. */
  whenDone(onDone: () => void): void {
    // A socket that lingers has ended for JavaScript: nothing is left to do for it.
    for (const [closable, timer] of this.#closing) {
      if (!hasEnded(closable.socket)) continue;
      timer.close();
      this.#settle(closable);
    }
    if (this.#closing.size === 0) onDone();
    else this.#onDone = onDone;
  }

  /** Counts a closing socket and arms its timer; `false` if it needs one and the timers take none. */
  #begin(closable: Closable): boolean {
    if (!canTerminate(closable.socket)) return true;
    // Closed timers take no new ones, and say nothing unless they are strict.
    if (!this.#timers.isOpen()) return false;
    try {
      const timer = this.#timers.setTimeout(
        this.#kill,
        { delayMs: this.#closeTimeoutMs, ref: false, name: 'connections.terminate' },
        closable,
      );
      this.#closing.set(closable, timer);
      const client = clientKeyOf(closable.ip, this.#prefixBits);
      this.#perIp.set(client, (this.#perIp.get(client) ?? 0) + 1);
      return true;
    } catch {
      // Strict timers that are closed.
      return false;
    }
  }

  readonly #kill = (closable: Closable): void => {
    terminate(closable.socket);
    this.#settle(closable);
  };

  #settle(closable: Closable): void {
    if (!this.#closing.delete(closable)) return;
    const client = clientKeyOf(closable.ip, this.#prefixBits);
    const left = (this.#perIp.get(client) ?? 1) - 1;
    if (left === 0) this.#perIp.delete(client);
    else this.#perIp.set(client, left);
    if (this.#closing.size === 0) this.#onDone?.();
  }
}

// The properties of a socket are the application's: any of them may throw, and any method may return a promise.

function has(socket: ManagedSocket, method: 'terminate' | 'pause'): boolean {
  try {
    return typeof socket[method] === 'function';
  } catch {
    return false;
  }
}

const canTerminate = (socket: ManagedSocket): boolean => has(socket, 'terminate');
const canPause = (socket: ManagedSocket): boolean => has(socket, 'pause');

function hasEnded(socket: ManagedSocket): boolean {
  try {
    return socket.readyState === 3;
  } catch {
    return false;
  }
}

/** True unless `readyState` says that the socket has not ended. A socket without it has ended once its host says so. */
function mayHaveEnded(socket: ManagedSocket): boolean {
  try {
    return socket.readyState === undefined || hasEnded(socket);
  } catch {
    return false;
  }
}

function terminate(socket: ManagedSocket): void {
  if (!hasEnded(socket)) ignoreFailure(() => socket.terminate?.());
}
