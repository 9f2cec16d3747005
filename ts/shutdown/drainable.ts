/** Servers as a shutdown sees them. Adapters make a `Drainable` of each. */

/** A WebSocket of a `Drainable`. */
export interface ShutdownSocket {
  /**
   * `acknowledged`: the client has answered the close; `broken`: the connection ended without an
   * answer.
   */
  readonly state: 'open' | 'closing' | 'acknowledged' | 'broken';
  /** Called once, right before `close` of a shutdown: the application may send a last message. */
  beforeClose?(): void;
  /** Begins the closing handshake. */
  close(code: number, reason: string): void;
  /** Ends the connection at once. */
  terminate(): void;
}

/** Watcher of a drainable's WebSockets. */
export interface SocketWatcher {
  /** Called for each socket that opens. */
  opened(socket: ShutdownSocket): void;
  /** Called for each socket that has ended. */
  gone(socket: ShutdownSocket): void;
}

/**
 * A server, or anything else that can be drained. The guard of every adapter makes one:
 * `guard.drainable(server)`. Every method is optional, and may throw: the shutdown goes on.
 */
export interface Drainable {
  /** Name in errors and leftovers. */
  readonly name: string;
  /**
   * Called when the shutdown begins, before `preDrainDelayMs`. New requests are still served, and
   * each answer tells its client that the connection ends (`Connection: close`).
   */
  notReady?(): void;
  /**
   * Refuses new connections and requests. Those under way go on. All drainables begin at once; the drain of each ends
   * with its promise, which is waited for as long as for requests.
   */
  drain?(): void | Promise<void>;
  /** Returns the number of requests in flight, a whole number of at least 0. */
  requests?(): number;
  /** Called when `drain` has ended. Resolves when no request is in flight. */
  whenIdle?(): Promise<void>;
  /** Returns the open WebSockets. */
  sockets?(): Iterable<ShutdownSocket>;
  /** Calls `watcher` for sockets that open and end. Returns a function that ends this. */
  watchSockets?(watcher: SocketWatcher): () => void;
  /** Aborts the signals of the requests in flight. */
  abort?(): void;
  /** Called after the hooks: releases the server's resources. */
  stop?(): void | Promise<void>;
  /** Called at the deadline, and if anything is left after `stop`: ends it at once. */
  destroy?(): void | Promise<void>;
}
