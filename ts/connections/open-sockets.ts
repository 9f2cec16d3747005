/**
 * The open sockets of a guard. Pings them, and closes those whose client does not answer, does not
 * read, or sends messages that are too large. Adapters report events; this module decides.
 */
import type { Checked } from '../resources/resource-limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { SocketWatcher } from '../shutdown/drainable.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { ManagedConnection } from './connection.js';
import { OpenSocket, type OpenSocketOwner, type SocketHost } from './open-socket.js';
import { Reading } from './reading.js';

/** Counts of a guard's WebSockets. */
export interface WebSocketStats {
  /** Open sockets. */
  readonly open: number;
  /** Pings sent. */
  readonly pingsSent: number;
  /** Sockets closed because neither a pong nor a message came back after a ping. */
  readonly pongTimeouts: number;
  /** Sockets closed because their client did not read. */
  readonly slowConsumers: number;
  /** Sockets closed because of a message over `maxMessageSize`. */
  readonly messagesTooLarge: number;
}

/** Ticks in a ping interval, unless they would be too long. */
const BUCKETS = 64;
/** Most ticks in a ping interval. */
const BUCKETS_MAX = 1024;
const TICK_MIN_MS = 10;
/** Longest tick of usual intervals: with thousands of sockets, the pings of one tick take milliseconds. */
const TICK_LONG_MS = 100;
/** Looks at a slow socket before it is closed, unless they would be too frequent. */
const SLOW_LOOKS = 8;

/**
 * The set of open sockets, in buckets by the tick of their ping: each tick visits one bucket to ping
 * and one to look for answers, whatever the number of sockets. One timer serves all of them, while
 * there are any.
 * @internal
 */
export class OpenSockets implements OpenSocketOwner {
  readonly #limits: Checked<'websockets'> | undefined;
  readonly #timers: TimerManager;
  /** The host of its sockets. */
  readonly host: SocketHost;
  readonly #reading = new Reading();
  readonly #monitor: ResourceMonitor | undefined;
  readonly #label: number;
  readonly #watchers = new Set<SocketWatcher>();
  /** Sockets by the tick of their ping, modulo half an interval. */
  readonly #buckets: OpenSocket[][];
  /** Sockets whose client does not read, with the number of the last look before they became slow. */
  readonly #slow = new Map<OpenSocket, number>();
  readonly #tickMs: number;
  readonly #pingTicks: number;
  readonly #pongTicks: number;
  readonly #slowLookMs: number;
  /** Looks within `maxBufferedMs`. */
  readonly #slowLooks: number;
  /** Largest message, bytes. */
  readonly maxMessageSize: number;
  /** Bytes waiting to be sent above which a socket is slow. */
  readonly watermark: number;
  /** Called for each socket before the close of a shutdown. */
  onDrain: ((connection: ManagedConnection) => void) | undefined;
  #tick = 0;
  /** Looks at slow sockets so far. */
  #looks = 0;
  #size = 0;
  #pingTimer: TimerHandle | undefined;
  #slowTimer: TimerHandle | undefined;
  #pingsSent = 0;
  #pongTimeouts = 0;
  #slowConsumers = 0;
  #messagesTooLarge = 0;

  /** @param limits none if `undefined` */
  constructor(
    limits: Checked<'websockets'> | undefined,
    timers: TimerManager,
    host: SocketHost,
    monitor?: ResourceMonitor,
  ) {
    this.#monitor = monitor;
    this.#label = monitor?.label('WebSocket message') ?? 0;
    this.#limits = limits;
    this.#timers = timers;
    this.host = host;
    this.#reading.add(host);
    this.maxMessageSize = limits?.maxMessageSize ?? Infinity;
    this.watermark = limits?.maxBufferedBytes ?? Infinity;
    const interval = limits?.pingIntervalMs ?? Infinity;
    const tickMs = Math.max(
      TICK_MIN_MS,
      Math.min(TICK_LONG_MS, Math.ceil(interval / BUCKETS)),
      Math.ceil(interval / BUCKETS_MAX),
    );
    this.#tickMs = tickMs;
    // Each bucket is visited twice an interval: a socket that falls silent is pinged no later than
    // one interval after its last message.
    const half = interval === Infinity ? BUCKETS : Math.floor(interval / tickMs / 2);
    this.#pingTicks = Math.max(1, half * 2);
    this.#buckets = Array.from({ length: Math.max(1, half) }, () => []);
    const pong = limits?.pongTimeoutMs ?? Infinity;
    this.#pongTicks = pong === Infinity ? Infinity : Math.max(1, Math.ceil(pong / this.#tickMs));
    const slowMs = limits?.maxBufferedMs ?? 0;
    this.#slowLookMs = Math.max(TICK_MIN_MS, Math.ceil(slowMs / SLOW_LOOKS));
    this.#slowLooks = Math.ceil(slowMs / this.#slowLookMs);
  }

  /**
   * Notes a message whose handler is about to run.
   * @param connection of the socket
   * @returns `false` if the message is too large: the caller refuses it
   */
  admits(bytes: number, connection: ManagedConnection): boolean {
    this.#monitor?.mark(this.#label, connection);
    return bytes <= this.maxMessageSize;
  }

  get size(): number {
    return this.#size;
  }

  stats(): WebSocketStats {
    return {
      open: this.#size,
      pingsSent: this.#pingsSent,
      pongTimeouts: this.#pongTimeouts,
      slowConsumers: this.#slowConsumers,
      messagesTooLarge: this.#messagesTooLarge,
    };
  }

  *[Symbol.iterator](): Generator<OpenSocket, void, undefined> {
    // Copies: a socket may be removed while it is looked at.
    for (const bucket of this.#buckets) yield* bucket.slice();
  }

  /** Reports sockets that open and close; returns a function that ends the reports. */
  watch(watcher: SocketWatcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** @throws ERR_CLOSED for strict timers that are closed; nothing was added then */
  add(connection: ManagedConnection): OpenSocket {
    // Before the socket is added, since closed strict timers throw here.
    if (this.#pingTimer === undefined && this.#tickMs !== Infinity) this.#startPings();
    const socket = new OpenSocket(connection, this);
    // A random tick: clients that connect together are not pinged together.
    socket.due = this.#tick + 1 + Math.floor(Math.random() * this.#pingTicks);
    socket.place = this.#bucketOf(socket).push(socket) - 1;
    this.#size++;
    if (this.#watchers.size > 0) for (const watcher of this.#watchers) watcher.opened(socket);
    return socket;
  }

  #startPings(): void {
    this.#pingTimer = this.#timers.setInterval(() => this.#runTick(), {
      delayMs: this.#tickMs,
      ref: false,
      name: 'websockets.ping',
    });
  }

  /** The bucket of a socket stays the same: it is due again a whole number of rounds later. */
  #bucketOf({ due }: OpenSocket): OpenSocket[] {
    return this.#buckets[due % this.#buckets.length]!;
  }

  remove(socket: OpenSocket, code: number): void {
    const bucket = this.#bucketOf(socket);
    if (bucket[socket.place] !== socket) return;
    // The last socket of the bucket takes the place.
    const last = bucket.pop()!;
    if (last !== socket) {
      bucket[socket.place] = last;
      last.place = socket.place;
    }
    socket.place = -1;
    this.#slow.delete(socket);
    this.#size--;
    socket.gone(code);
    if (this.#size === 0) {
      this.#pingTimer?.close();
      this.#pingTimer = undefined;
    }
    if (this.#watchers.size > 0) for (const watcher of this.#watchers) watcher.gone(socket);
  }

  countTooLarge(): void {
    this.#messagesTooLarge++;
  }

  queued(socket: OpenSocket): void {
    if (socket.buffered <= this.watermark || this.#slow.has(socket)) return;
    // It is closed already, and only its close frame still waits: it is no slow consumer.
    if (!socket.connection.isAlive) return;
    // Strict timers that are closed throw, and a `send()` of the application ends here.
    if (!this.#timers.isOpen()) return;
    this.#slow.set(socket, this.#looks);
    this.#slowTimer ??= this.#timers.setInterval(() => this.#closeSlow(), {
      delayMs: this.#slowLookMs,
      ref: false,
      name: 'websockets.slow',
    });
  }

  get watchesSends(): boolean {
    return this.watermark !== Infinity && this.#limits?.maxBufferedMs !== Infinity;
  }

  /**
   * Closes the sockets that were slow for too long, and forgets those that have caught up. Counts
   * looks instead of reading a clock: a stalled loop writes nothing, and its clients are not slow.
   */
  #closeSlow(): void {
    const look = ++this.#looks;
    for (const [socket, since] of this.#slow) {
      // Its manager may have closed it, while its peer has not answered.
      if (socket.buffered <= this.watermark || !socket.connection.isAlive) {
        this.#slow.delete(socket);
      } else if (look - since > this.#slowLooks) {
        this.#slow.delete(socket);
        this.#slowConsumers++;
        socket.close(1008, 'Slow consumer');
      }
    }
    if (this.#slow.size > 0) return;
    this.#slowTimer?.close();
    this.#slowTimer = undefined;
  }

  /** Counts ticks instead of reading a clock: a stalled loop does not make its clients look dead. */
  #runTick(): void {
    const tick = ++this.#tick;
    const count = this.#buckets.length;
    // Copies of the buckets: a close or a ping may remove the socket.
    if (this.#pongTicks <= tick)
      this.#closeSilent(tick, this.#buckets[(tick - this.#pongTicks) % count]!.slice());
    this.#ping(tick, this.#buckets[tick % count]!.slice());
  }

  #closeSilent(tick: number, sockets: readonly OpenSocket[]): void {
    for (const socket of sockets) {
      const isLate = !socket.isAnswered() && tick - socket.unanswered >= this.#pongTicks;
      if (!isLate || socket.state !== 'open' || !socket.connection.isAlive) continue;
      // The pong may stand behind data that the server does not read, or reads already.
      if (this.#reading.isBusy(socket.connection)) {
        socket.ponged();
        continue;
      }
      this.#pongTimeouts++;
      socket.close(1001, 'Pong timeout');
    }
  }

  #ping(tick: number, sockets: readonly OpenSocket[]): void {
    for (const socket of sockets) {
      if (socket.state !== 'open' || !socket.connection.isAlive) continue;
      // Published messages do not pass the socket: its buffer is looked at here.
      if (this.host.publishes && this.watchesSends) this.queued(socket);
      if (socket.wasBusy() || tick < socket.due) continue;
      if (socket.isAnswered()) socket.pinged(tick);
      socket.due = tick + this.#pingTicks;
      this.#pingsSent++;
      socket.ping();
    }
  }
}
