/**
 * The sockets of a guard that are open. Pings them and closes those that do not answer, those that do
 * not read, and those whose messages are too large. Adapters tell it what happens; it decides.
 */
import type { Checked } from '../resources/limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { ShutdownSocket, SocketWatcher } from '../shutdown/drainable.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import type { ManagedConnection, ManagedSocket } from './connection.js';

/** What a host's sockets can do. @internal */
export interface SocketHost {
  ping(socket: ManagedSocket): void;
  /** Bytes that wait to be sent. */
  buffered(socket: ManagedSocket): number;
  /** Whether something can reach a socket without passing it: what is published. */
  readonly publishes: boolean;
  /** Whether the host reports a close only when the peer has answered or is gone (1006). */
  readonly waitsForAnswer: boolean;
}

/** How the sockets of a guard fared. */
export interface WebSocketStats {
  readonly open: number;
  readonly pingsSent: number;
  /** Closed because nothing came back after a ping. */
  readonly pongTimeouts: number;
  /** Closed because they did not read. */
  readonly slowConsumers: number;
  /** Closed because of a message over `maxMessageSize`. */
  readonly messagesTooLarge: number;
}

const BUCKETS = 64;
const BUCKETS_MAX = 1024;
const TICK_MIN_MS = 10;
/** With thousands of sockets, the pings of a longer tick would hold the loop for milliseconds. */
const TICK_LONG_MS = 100;
const NEVER_PINGED = -1;

/** One open socket. @internal */
export class OpenSocket implements ShutdownSocket {
  readonly connection: ManagedConnection;
  readonly #all: OpenSockets;
  readonly #host: SocketHost;
  state: ShutdownSocket['state'] = 'open';
  /** Tick of the first ping that nothing has come back for. */
  unanswered = NEVER_PINGED;
  /** Messages received before that ping: one more is an answer. A message need not touch this object. */
  messagesBefore = 0;
  /** Its bucket, and its place in it. */
  bucket = 0;
  place = 0;
  /** The tick from which on a ping is due. */
  due = 0;
  #messagesSeen = 0;
  /** Bytes, of which the low bits do: that they changed is all that is asked. */
  #sentSeen = 0;
  /** Since when it has been slow, by the timers' clock. */
  slowSinceMs: number | undefined;
  #wasFlushed = true;

  constructor(connection: ManagedConnection, all: OpenSockets, host: SocketHost) {
    this.connection = connection;
    this.#all = all;
    this.#host = host;
  }

  /** Whether something came back after the last ping, or none was sent. */
  isAnswered(): boolean {
    return this.unanswered === NEVER_PINGED || this.connection.messageCount !== this.messagesBefore;
  }

  /** The first ping since something came back. */
  pinged(tick: number): void {
    this.unanswered = tick;
    this.messagesBefore = this.connection.messageCount;
  }

  /** Whether something came and something was sent since this was asked last: then neither end nor what lies between them waits for a ping. */
  wasBusy(): boolean {
    const { messageCount, bytesSent } = this.connection;
    const wasBusy = messageCount !== this.#messagesSeen && (bytesSent | 0) !== this.#sentSeen;
    this.#messagesSeen = messageCount;
    this.#sentSeen = bytesSent | 0;
    return wasBusy;
  }

  /** A pong came: it counts as activity, though not as a message. */
  ponged(): void {
    this.unanswered = NEVER_PINGED;
    this.connection.touch();
  }

  /** Its message was over its size: it is closed. */
  refuseMessage(): void {
    this.wasTooLarge();
    this.close(1009, 'Message too big');
  }

  /** The host itself has refused a message for its size, and is closing the socket. */
  wasTooLarge(): void {
    this.#all.countTooLarge();
  }

  /** Something was sent, and may not all have left. */
  sent(): void {
    if (this.#all.watchesSends) this.#all.queued(this);
  }

  /** After the host's close event; may be called again. */
  remove(code: number): void {
    this.#all.remove(this, code);
  }

  get buffered(): number {
    return this.#host.buffered(this.connection.socket);
  }

  ping(): void {
    try {
      this.#host.ping(this.connection.socket);
    } catch {
      // A socket that cannot be pinged is on its way out: its close event follows.
    }
  }

  close(code: number, reason: string): void {
    if (this.state !== 'open') return;
    this.state = 'closing';
    this.#wasFlushed = this.buffered === 0;
    this.connection.close(code, reason);
  }

  terminate(): void {
    try {
      this.connection.socket.terminate?.();
    } catch {
      // It is gone already.
    }
  }

  /** The host's close event. */
  gone(code: number): void {
    // A host that does not wait has handed the close frame to the system, unless it queues behind others.
    const answered = this.#host.waitsForAnswer ? code !== 1006 : this.#wasFlushed;
    this.state = answered ? 'acknowledged' : 'broken';
  }
}

/** @internal */
export class OpenSockets {
  readonly #limits: Checked<'websockets'> | undefined;
  readonly #timers: TimerManager;
  readonly #host: SocketHost;
  readonly #watchers = new Set<SocketWatcher>();
  /** Sockets by the tick of their ping, modulo half an interval: each tick visits one bucket for pings and one for answers. */
  readonly #buckets: OpenSocket[][];
  readonly #slow = new Set<OpenSocket>();
  readonly #tickMs: number;
  readonly #pingTicks: number;
  readonly #pongTicks: number;
  /** Bytes waiting to be sent above which a socket is slow. */
  readonly watermark: number;
  #tick = 0;
  #size = 0;
  #heart: TimerHandle | undefined;
  #look: TimerHandle | undefined;
  #pingsSent = 0;
  #pongTimeouts = 0;
  #slowConsumers = 0;
  #messagesTooLarge = 0;

  readonly #monitor: ResourceMonitor | undefined;
  readonly #label: number;

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
    this.#host = host;
    this.maxMessageSize = limits?.maxMessageSize ?? Infinity;
    this.watermark = limits?.maxBufferedBytes ?? Infinity;
    const interval = limits?.pingIntervalMs ?? Infinity;
    const tickMs = Math.max(
      TICK_MIN_MS,
      Math.min(TICK_LONG_MS, Math.ceil(interval / BUCKETS)),
      Math.ceil(interval / BUCKETS_MAX),
    );
    this.#tickMs = tickMs;
    // Looked at twice an interval, a socket that falls silent is pinged no later than an interval after its last message.
    const half = interval === Infinity ? BUCKETS : Math.floor(interval / tickMs / 2);
    this.#pingTicks = Math.max(1, half * 2);
    this.#buckets = Array.from({ length: Math.max(1, half) }, () => []);
    const pong = limits?.pongTimeoutMs ?? Infinity;
    this.#pongTicks = pong === Infinity ? Infinity : Math.max(1, Math.ceil(pong / this.#tickMs));
  }

  /** A message came, and its handler runs next if it is within its size; else its socket is told so. */
  admits(bytes: number): boolean {
    this.#monitor?.mark(this.#label);
    return bytes <= this.maxMessageSize;
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes of the largest message. */
  readonly maxMessageSize: number;

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
    for (const bucket of this.#buckets) yield* bucket.slice();
  }

  /** Tells of sockets that open and go; returns what ends that. */
  watch(watcher: SocketWatcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  add(connection: ManagedConnection): OpenSocket {
    // First: strict timers that were cleaned up throw, and then nothing was added.
    if (this.#heart === undefined && this.#tickMs !== Infinity) {
      this.#heart = this.#timers.setInterval(() => this.#beat(), {
        delayMs: this.#tickMs,
        ref: false,
        name: 'websockets.ping',
      });
    }
    const socket = new OpenSocket(connection, this, this.#host);
    // A random moment: clients that came at once are not pinged at once.
    socket.due = this.#tick + 1 + Math.floor(Math.random() * this.#pingTicks);
    socket.bucket = socket.due % this.#buckets.length;
    const bucket = this.#buckets[socket.bucket]!;
    socket.place = bucket.push(socket) - 1;
    this.#size++;
    for (const watcher of this.#watchers) watcher.opened(socket);
    return socket;
  }

  remove(socket: OpenSocket, code: number): void {
    const bucket = this.#buckets[socket.bucket];
    if (bucket?.[socket.place] !== socket) return;
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
      this.#heart?.close();
      this.#heart = undefined;
    }
    for (const watcher of this.#watchers) watcher.gone(socket);
  }

  countTooLarge(): void {
    this.#messagesTooLarge++;
  }

  /** After something was sent and not all of it has left. */
  queued(socket: OpenSocket): void {
    if (socket.slowSinceMs !== undefined || socket.buffered <= this.watermark) return;
    socket.slowSinceMs = this.#timers.driver.now();
    this.#slow.add(socket);
    const delayMs = Math.max(TICK_MIN_MS, Math.ceil((this.#limits?.maxBufferedMs ?? 0) / 8));
    this.#look ??= this.#timers.setInterval(() => this.#lookAtSlow(), {
      delayMs,
      ref: false,
      name: 'websockets.slow',
    });
  }

  /** Whether sends have to be told of. */
  get watchesSends(): boolean {
    return this.watermark !== Infinity;
  }

  #lookAtSlow(): void {
    const now = this.#timers.driver.now();
    const most = this.#limits?.maxBufferedMs ?? Infinity;
    for (const socket of this.#slow) {
      if (socket.buffered <= this.watermark) {
        socket.slowSinceMs = undefined;
        this.#slow.delete(socket);
      } else if (now - (socket.slowSinceMs ?? now) > most) {
        this.#slow.delete(socket);
        this.#slowConsumers++;
        socket.close(1008, 'Slow consumer');
      }
    }
    if (this.#slow.size > 0) return;
    this.#look?.close();
    this.#look = undefined;
  }

  /** Ticks are counted, not timed: a stalled loop does not make its clients look dead. */
  #beat(): void {
    const tick = ++this.#tick;
    const count = this.#buckets.length;
    if (this.#pongTicks <= tick) {
      for (const socket of this.#buckets[(tick - this.#pongTicks) % count]!.slice()) {
        if (
          socket.isAnswered() ||
          tick - socket.unanswered < this.#pongTicks ||
          socket.state !== 'open'
        )
          continue;
        this.#pongTimeouts++;
        socket.close(1001, 'Pong timeout');
      }
    }
    for (const socket of this.#buckets[tick % count]!.slice()) {
      if (socket.state !== 'open') continue;
      if (this.#host.publishes && this.watchesSends) this.queued(socket);
      if (socket.wasBusy() || tick < socket.due) continue;
      if (socket.isAnswered()) socket.pinged(tick);
      socket.due = tick + this.#pingTicks;
      this.#pingsSent++;
      socket.ping();
    }
  }
}
