/** What a shutdown drains. Adapters make these. */

/** One WebSocket, as a shutdown sees it. */
export interface ShutdownSocket {
  /** `acknowledged`: the peer answered the close; `broken`: it ended without. */
  readonly state: 'open' | 'closing' | 'acknowledged' | 'broken';
  close(code: number, reason: string): void;
  terminate(): void;
}

/** Told of sockets that open and go. */
export interface SocketWatcher {
  opened(socket: ShutdownSocket): void;
  gone(socket: ShutdownSocket): void;
}

/** A server, or whatever else is to be drained. Every adapter's guard makes one: `guard.drainable(server)`. */
export interface Drainable {
  readonly name: string;
  /** Accepts nobody new; what is under way goes on. */
  drain?(): void | Promise<void>;
  /** Requests in flight. */
  requests?(): number;
  /** After `drain`: resolves when no request is in flight. */
  whenIdle?(): Promise<void>;
  /** The open WebSockets. */
  sockets?(): Iterable<ShutdownSocket>;
  /** Tells of those that open and go; returns what ends that. */
  watchSockets?(watcher: SocketWatcher): () => void;
  /** Aborts the signals of the requests in flight. */
  abort?(): void;
  /** After the hooks: gives back what is left. */
  stop?(): void | Promise<void>;
  /** At the deadline: ends what is left at once. */
  destroy?(): void | Promise<void>;
}
