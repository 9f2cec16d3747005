import { createConnections } from '../native/loader.js';
import { wallClockMs } from './clock.js';
import { PortcullisError, knownOptions, wholeNumber, wrongType } from './errors.js';
import { type TimerHandle, TimerManager } from './timers.js';

/** How often a key may connect. */
export interface ConnectRate {
  /** Connects in each window. */
  readonly limit: number;
  /** The window, milliseconds. */
  readonly windowMs: number;
  /** Connects at once. Default: `limit`. */
  readonly burst?: number;
}

/** Limits of a connection manager. `0` admits none; `Infinity` or absent is no limit. */
export interface ConnectionLimits {
  readonly maxTotalConnections?: number;
  readonly maxConnectionsPerIp?: number;
  readonly maxConnectionsPerUser?: number;
  /** Per IPv6 prefix of `ipv6PrefixBits`. */
  readonly maxConnectionsPerPrefix?: number;
  /** Connections without a user. */
  readonly maxAnonymousConnections?: number;
  /** Connections without a user, per address. */
  readonly maxAnonymousConnectionsPerIp?: number;
  /** 1 to 128, default 64; fixed for the life of the index. */
  readonly ipv6PrefixBits?: number;
  readonly connectRatePerIp?: ConnectRate;
  readonly connectRatePerUser?: ConnectRate;
  /** Idle time after which a connection is closed: 1 to 2^30 ms. */
  readonly connectionTimeoutMs?: number;
  /** How often to look for idle connections: 1 to 2^30 ms. Default 5000. */
  readonly cleanupIntervalMs?: number;
}

/** Why a connection was refused. */
export type RefusalCode =
  | 'draining'
  | 'total_limit'
  | 'prefix_limit'
  | 'ip_limit'
  | 'user_limit'
  | 'anonymous_limit'
  | 'anonymous_ip_limit'
  | 'ip_rate'
  | 'user_rate'
  | 'duplicate_id'
  | 'closed'
  | 'stale_lease';

const REASONS: Record<RefusalCode, string> = {
  draining: 'Server is draining',
  total_limit: 'Max total connections exceeded',
  prefix_limit: 'Max connections per IP prefix exceeded',
  ip_limit: 'Max connections per IP exceeded',
  user_limit: 'Max connections per user exceeded',
  anonymous_limit: 'Max anonymous connections exceeded',
  anonymous_ip_limit: 'Max anonymous connections per IP exceeded',
  ip_rate: 'Connect rate per IP exceeded',
  user_rate: 'Connect rate per user exceeded',
  duplicate_id: 'Connection id is in use',
  closed: 'Connection manager is closed',
  stale_lease: 'Lease has expired or was used',
};
/** In the order of the native codes, from 1. */
const NATIVE_CODES: readonly RefusalCode[] = [
  'draining',
  'total_limit',
  'prefix_limit',
  'ip_limit',
  'user_limit',
  'anonymous_limit',
  'anonymous_ip_limit',
  'ip_rate',
  'user_rate',
];

/** A refusal, and what to tell the client. */
export interface Refusal {
  readonly success: false;
  readonly reason: string;
  readonly code: RefusalCode;
  /** Milliseconds until a retry may succeed. */
  readonly retryAfterMs: number;
}

/** Something that can be closed. */
export interface ManagedSocket {
  close(code?: number, reason?: string): unknown;
  terminate?(): unknown;
  readonly readyState?: number;
}

/** What else is known of a client. The sets are made on first use. */
export interface ConnectionMetadata {
  readonly ip: string;
  readonly userAgent: string;
  readonly userId?: string | undefined;
  readonly sessionId?: string | undefined;
  readonly rooms: Set<string>;
  readonly subscriptions: Set<string>;
  readonly customData: Record<string, unknown>;
}

/** What the caller may say of a client. */
export interface MetadataInput {
  readonly userAgent?: string;
  readonly sessionId?: string;
  readonly customData?: Record<string, unknown>;
}

/** A seat held before the connection opens. */
export interface Lease {
  readonly success: true;
  readonly handle: number;
  readonly ip: string;
  readonly userId: string | undefined;
}

/** The answer of `addConnection` and `commit`. */
export type AdmissionResult<S extends ManagedSocket = ManagedSocket> =
  | {
      readonly success: true;
      readonly reason?: undefined;
      readonly code?: undefined;
      readonly retryAfterMs?: undefined;
      readonly connection: ManagedConnection<S>;
    }
  | (Refusal & { readonly connection?: undefined });

/** The answer of `received`: whether to go on with the message. */
export type ReceiveOutcome = 'ok' | 'stale';

/** Options of a connection manager. */
export interface ConnectionManagerOptions<S extends ManagedSocket = ManagedSocket> {
  /** Shares the counts with every manager of that name in this process, over all workers. */
  readonly name?: string;
  /** How long a lease holds its seat: 1 to 2^30 ms. Default 10000. */
  readonly leaseTimeoutMs?: number;
  /** After a close frame, how long to wait before `terminate()`: 1 to 2^30 ms. Default 5000. */
  readonly closeTimeoutMs?: number;
  readonly onEvict?: (connection: ManagedConnection<S>) => void;
  readonly onRefuse?: (refusal: Refusal, ip: string, userId: string | undefined) => void;
}

/** Counts at one moment. */
export interface ConnectionStats {
  readonly totalConnections: number;
  readonly connectionsByIp: number;
  readonly connectionsByUser: number;
  readonly anonymousConnections: number;
  readonly limits: Readonly<ConnectionLimits>;
}

const SEGMENT = 4096;
const SLOTS_MAX = 2 ** 22;
const FULL = -100;
const TIME_MAX_MS = 2 ** 30;
const EVICT_BATCH = 128;
const NEVER = 0xffff_ffff;
const ID_MAX = 1024;

/** The loop's own time, shared by every connection of a manager. */
interface Ticker {
  now: number;
}

/** Where a connection's figures are: in its segment, or its own once released. */
interface Figures {
  readonly stamps: { [slot: number]: number };
  readonly counters: { [place: number]: number };
  readonly ticker: Ticker;
}

/** Columns that Rust reads (`stamps`) and counters that only JavaScript does: 32 bytes a slot. */
class Segment {
  readonly stamps = new Uint32Array(SEGMENT);
  readonly counters = new Float64Array(SEGMENT * 4);
  readonly connections: (ManagedConnection | undefined)[] = Array.from({ length: SEGMENT }, () => undefined);
  constructor(readonly ticker: Ticker) {}
}

const RECEIVED = 0;
const BYTES_IN = 1;
const BYTES_OUT = 2;
const CREATED = 3;

function bytesOf(bytes: number): number {
  if (typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  return wholeNumber('bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
}

/** One admitted connection. Its figures are read from, and written to, memory shared with the core. */
export class ManagedConnection<S extends ManagedSocket = ManagedSocket> {
  readonly id: string;
  readonly socket: S;
  readonly ip: string;
  #userId: string | undefined;
  readonly #manager: ConnectionManager<S>;
  #metadata: ConnectionMetadata | MetadataInput | undefined;
  #segment: Figures;
  /** The place in the segment, or -1 once released. */
  #slot: number;
  #handle: number;

  /** @internal */
  constructor(manager: ConnectionManager<S>, id: string, socket: S, lease: Lease, segment: Segment, metadata: MetadataInput | undefined) {
    this.#manager = manager;
    this.id = id;
    this.socket = socket;
    this.ip = lease.ip;
    this.#userId = lease.userId;
    this.#metadata = metadata;
    this.#segment = segment;
    this.#handle = lease.handle;
    this.#slot = lease.handle % SEGMENT;
    const at = this.#slot * 4;
    segment.counters.fill(0, at, at + 3);
    segment.counters[at + CREATED] = wallClockMs();
  }

  /** Counts a message of `bytes` and marks the connection active. Costs a few stores. */
  received(bytes: number): ReceiveOutcome {
    const slot = this.#slot;
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) bytesOf(bytes);
    if (slot < 0) return 'stale';
    const segment = this.#segment;
    const counters = segment.counters;
    segment.stamps[slot] = segment.ticker.now;
    counters[slot * 4]! += 1;
    counters[slot * 4 + BYTES_IN]! += bytes;
    return 'ok';
  }

  /** Counts `bytes` sent. A connection that is only sent to still goes idle. */
  sent(bytes: number): ReceiveOutcome {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) bytesOf(bytes);
    if (this.#slot < 0) return 'stale';
    this.#segment.counters[this.#slot * 4 + BYTES_OUT]! += bytes;
    return 'ok';
  }

  /** Marks the connection active, to the millisecond. */
  touch(): ReceiveOutcome {
    if (this.#slot < 0) return 'stale';
    this.#segment.stamps[this.#slot] = this.#manager.loopNow();
    return 'ok';
  }

  /** Makes the connection that of `userId`; a refusal leaves everything as it was. */
  bindUser(userId: string): { readonly success: true } | Refusal {
    const outcome = this.#manager.bind(this.#handle, this.#slot < 0, checkedUser(userId));
    if (outcome.success) this.#userId = userId;
    return outcome;
  }

  /** Gives the seat back, then closes the socket. */
  close(code = 1000, reason = ''): void {
    this.#manager.closeConnection(this, code, reason);
  }

  get userId(): string | undefined {
    return this.#userId;
  }
  /** Whether the connection still has its seat. */
  get isAlive(): boolean {
    return this.#slot >= 0;
  }
  get messageCount(): number {
    return this.#figure(RECEIVED);
  }
  get bytesReceived(): number {
    return this.#figure(BYTES_IN);
  }
  get bytesSent(): number {
    return this.#figure(BYTES_OUT);
  }
  /** Wall-clock milliseconds. */
  get createdAt(): number {
    return this.#figure(CREATED);
  }
  /** Wall-clock milliseconds of the last inbound activity; may be set. */
  get lastActivity(): number {
    const age = (this.#manager.loopNow() - this.#segment.stamps[Math.max(0, this.#slot)]!) | 0;
    return Math.max(this.#slot < 0 ? this.createdAt : 0, wallClockMs() - Math.max(0, age));
  }
  set lastActivity(wallMs: number) {
    if (typeof wallMs !== 'number' || !Number.isFinite(wallMs)) throw wrongType('lastActivity', wallMs, 'milliseconds since 1970');
    if (this.#slot < 0) return;
    const age = Math.min(Math.max(0, wallClockMs() - wallMs), TIME_MAX_MS);
    this.#segment.stamps[this.#slot] = this.#manager.loopNow() - age;
  }

  get metadata(): ConnectionMetadata {
    const given = this.#metadata;
    if (given !== undefined && 'rooms' in given) return given;
    const made = new Metadata(this, given as MetadataInput | undefined);
    this.#metadata = made;
    return made;
  }

  #figure(column: number): number {
    return this.#segment.counters[Math.max(0, this.#slot) * 4 + column] ?? 0;
  }

  /** @internal */
  get handle(): number {
    return this.#handle;
  }

  /** Keeps the final figures; the slot is another's from now on. @internal */
  detach(): void {
    const at = this.#slot * 4;
    const { counters, stamps, ticker } = this.#segment;
    // Plain arrays: making typed ones costs more than the whole release.
    this.#segment = {
      stamps: [stamps[this.#slot] ?? 0],
      counters: [counters[at] ?? 0, counters[at + 1] ?? 0, counters[at + 2] ?? 0, counters[at + 3] ?? 0],
      ticker,
    };
    this.#slot = -1;
  }
}

class Metadata implements ConnectionMetadata {
  readonly #connection: { readonly ip: string; readonly userId: string | undefined };
  readonly userAgent: string;
  readonly sessionId: string | undefined;
  readonly customData: Record<string, unknown>;
  #rooms: Set<string> | undefined;
  #subscriptions: Set<string> | undefined;

  constructor(connection: { readonly ip: string; readonly userId: string | undefined }, given: MetadataInput | undefined) {
    this.#connection = connection;
    this.userAgent = given?.userAgent ?? '';
    this.sessionId = given?.sessionId;
    this.customData = given?.customData ?? {};
  }
  get ip(): string {
    return this.#connection.ip;
  }
  get userId(): string | undefined {
    return this.#connection.userId;
  }
  get rooms(): Set<string> {
    return (this.#rooms ??= new Set());
  }
  get subscriptions(): Set<string> {
    return (this.#subscriptions ??= new Set());
  }
}

function checkedUser(userId: unknown): string {
  if (typeof userId !== 'string' || userId.length === 0 || userId.length > ID_MAX) throw wrongType('userId', userId, `a string of 1 to ${ID_MAX} characters`);
  return userId;
}

const LIMIT_NAMES = [
  'maxTotalConnections',
  'maxConnectionsPerIp',
  'maxConnectionsPerUser',
  'maxConnectionsPerPrefix',
  'maxAnonymousConnections',
  'maxAnonymousConnectionsPerIp',
  'ipv6PrefixBits',
  'connectRatePerIp',
  'connectRatePerUser',
  'connectionTimeoutMs',
  'cleanupIntervalMs',
] as const;

function checkedRate(field: string, rate: ConnectRate | undefined): [number, number] {
  if (rate === undefined) return [0, 0];
  if (typeof rate !== 'object' || rate === null) throw wrongType(field, rate, 'an object { limit, windowMs, burst? }');
  knownOptions(field, rate, ['limit', 'windowMs', 'burst']);
  const limit = wholeNumber(`${field}.limit`, rate.limit, 1, 1e6);
  return [wholeNumber(`${field}.windowMs`, rate.windowMs, 1, TIME_MAX_MS) / limit, wholeNumber(`${field}.burst`, rate.burst, 1, 1e6, limit)];
}

/** The limits as the core takes them. */
function checkedLimits(limits: ConnectionLimits): number[] {
  if (typeof limits !== 'object' || limits === null) throw wrongType('limits', limits, 'an object');
  knownOptions('ConnectionLimits', limits, LIMIT_NAMES);
  const count = (field: keyof ConnectionLimits): number => Math.min(wholeNumber(field, limits[field], 0, NEVER - 1, Infinity), NEVER);
  wholeNumber('connectionTimeoutMs', limits.connectionTimeoutMs, 1, TIME_MAX_MS, Infinity);
  wholeNumber('cleanupIntervalMs', limits.cleanupIntervalMs, 1, TIME_MAX_MS, 5000);
  return [
    count('maxTotalConnections'),
    count('maxConnectionsPerIp'),
    count('maxConnectionsPerPrefix'),
    count('maxConnectionsPerUser'),
    count('maxAnonymousConnections'),
    count('maxAnonymousConnectionsPerIp'),
    wholeNumber('ipv6PrefixBits', limits.ipv6PrefixBits, 1, 128, 64),
    ...checkedRate('connectRatePerIp', limits.connectRatePerIp),
    ...checkedRate('connectRatePerUser', limits.connectRatePerUser),
  ];
}

function openTable(name: string | undefined, numbers: number[]): ReturnType<typeof createConnections> {
  try {
    return createConnections(name, numbers);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (message.startsWith('ERR_LIMITS_CONFLICT: ')) throw new PortcullisError('ERR_LIMITS_CONFLICT', message.slice(21), { field: 'name' });
    throw error;
  }
}

/**
 * Decides who may connect, counts what connections do, and closes those that have gone quiet.
 *
 * @example
 * const manager = new ConnectionManager({ maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 }, new TimerManager());
 * const result = manager.addConnection('c1', socket, '192.0.2.1', 'user-1');
 * if (!result.success) socket.close(1013, result.reason);
 */
export class ConnectionManager<S extends ManagedSocket = ManagedSocket> {
  readonly #timers: TimerManager;
  readonly #table: ReturnType<typeof createConnections>;
  readonly #scratch = new Float64Array(EVICT_BATCH);
  readonly #segments: Segment[] = [];
  readonly #byId = new Map<string, ManagedConnection<S>>();
  readonly #ticker: Ticker = { now: 0 };
  readonly #options: ConnectionManagerOptions<S>;
  readonly #leaseTimeoutMs: number;
  readonly #closeTimeoutMs: number;
  #limits: Readonly<ConnectionLimits>;
  #timeoutMs = NEVER;
  #tickMs = 250;
  #tickAtMs: number;
  #tick: TimerHandle | undefined;
  #cleanup: TimerHandle | undefined;
  #isClosed = false;
  /** The live connections, by id. */
  readonly connections: ReadonlyMap<string, ManagedConnection<S>>;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_LIMITS_CONFLICT */
  constructor(limits: ConnectionLimits, timerManager: TimerManager, options: ConnectionManagerOptions<S> = {}) {
    const numbers = checkedLimits(limits);
    if (!(timerManager instanceof TimerManager)) throw wrongType('timerManager', timerManager, 'a TimerManager');
    if (typeof options !== 'object' || options === null) throw wrongType('options', options, 'an object');
    knownOptions('ConnectionManager', options, ['name', 'leaseTimeoutMs', 'closeTimeoutMs', 'onEvict', 'onRefuse']);
    if (options.name !== undefined && (typeof options.name !== 'string' || options.name === ''))
      throw wrongType('name', options.name, 'a string that is not empty');
    for (const hook of ['onEvict', 'onRefuse'] as const) {
      if (options[hook] !== undefined && typeof options[hook] !== 'function') throw wrongType(hook, options[hook], 'a function');
    }
    this.#leaseTimeoutMs = wholeNumber('leaseTimeoutMs', options.leaseTimeoutMs, 1, TIME_MAX_MS, 10_000);
    this.#closeTimeoutMs = wholeNumber('closeTimeoutMs', options.closeTimeoutMs, 1, TIME_MAX_MS, 5000);
    this.#options = options;
    this.#timers = timerManager;
    this.#table = openTable(options.name, numbers);
    this.#table.share(this.#scratch);
    this.#limits = Object.freeze({ ...limits });
    this.#tickAtMs = timerManager.driver.now();
    this.connections = this.#byId;
    this.#schedule();
  }

  #schedule(): void {
    const timeout = this.#limits.connectionTimeoutMs ?? Infinity;
    this.#timeoutMs = timeout === Infinity ? NEVER : timeout;
    this.#tickMs = Math.min(250, Math.max(5, Math.ceil(timeout / 64)));
    this.#tick?.close();
    this.#cleanup?.close();
    this.#tick = this.#timers.setInterval(() => this.#advance(), { delayMs: this.#tickMs, ref: false, name: 'connections.tick' });
    this.#cleanup = this.#timers.setInterval(() => this.#sweep(EVICT_BATCH), {
      delayMs: this.#limits.cleanupIntervalMs ?? 5000,
      ref: false,
      name: 'connections.cleanup',
    });
  }

  /** How far loop time has come since the last tick: a stalled loop counts for two ticks at most. */
  #elapsed(): number {
    return Math.min(this.#timers.driver.now() - this.#tickAtMs, 2 * this.#tickMs);
  }

  #advance(): void {
    const elapsed = Math.floor(this.#elapsed());
    this.#tickAtMs = this.#timers.driver.now();
    this.#ticker.now = (this.#ticker.now + elapsed) >>> 0;
  }

  /** Loop time in milliseconds modulo 2^32. @internal */
  loopNow(): number {
    return (this.#ticker.now + Math.floor(this.#elapsed())) >>> 0;
  }

  /**
   * Takes a seat for a connection that is to open, in all counts or none.
   * @returns a lease, which expires by itself, or a refusal
   */
  reserve(ip: string, userId?: string): Lease | Refusal {
    if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
    if (userId !== undefined && userId !== '') checkedUser(userId);
    const user = userId === '' ? undefined : userId;
    if (this.#isClosed) return this.#refuse('closed', 0, ip, user);
    const now = this.#timers.driver.now();
    let handle = this.#table.reserve(ip, user, now);
    if (handle === FULL) {
      if (this.#segments.length * SEGMENT >= SLOTS_MAX) return this.#refuse('total_limit', 0, ip, user);
      const segment = new Segment(this.#ticker);
      this.#table.grow(segment.stamps);
      this.#segments.push(segment);
      handle = this.#table.reserve(ip, user, now);
    }
    if (handle < 0) {
      const code = NATIVE_CODES[-handle - 1] ?? 'total_limit';
      return this.#refuse(code, code.endsWith('rate') ? this.#table.retryAfterMs() : 1000, ip, user);
    }
    const slot = handle % SLOTS_MAX;
    this.#segmentOf(slot).stamps[slot % SEGMENT] = this.#ticker.now;
    return { success: true, handle, ip, userId: user };
  }

  #refuse(code: RefusalCode, retryAfterMs: number, ip: string, userId: string | undefined): Refusal {
    const refusal: Refusal = { success: false, reason: REASONS[code], code, retryAfterMs: Math.ceil(retryAfterMs) };
    if (this.#options.onRefuse !== undefined) this.#guard(() => this.#options.onRefuse?.(refusal, ip, userId));
    return refusal;
  }

  /** A hook that throws must not cost a seat: its error is reported as uncaught. */
  #guard(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #segmentOf(slot: number): Segment {
    const segment = this.#segments[Math.floor(slot / SEGMENT)];
    if (segment === undefined) throw new PortcullisError('ERR_INTERNAL', 'a slot outside of all segments');
    return segment;
  }

  /** Opens a leased connection. A wrong argument throws and leaves the lease as it was. */
  commit(lease: Lease, id: string, socket: S, metadata?: MetadataInput): AdmissionResult<S> {
    checkConnection(id, socket, metadata);
    if (typeof lease !== 'object' || lease === null || typeof lease.handle !== 'number') throw wrongType('lease', lease, 'a lease');
    if (this.#isClosed) return this.#refuse('closed', 0, lease.ip, lease.userId);
    if (this.#byId.has(id)) {
      this.abort(lease);
      return this.#refuse('duplicate_id', 0, lease.ip, lease.userId);
    }
    if (this.#table.commit(lease.handle) === 0) return this.#refuse('stale_lease', 0, lease.ip, lease.userId);
    const slot = lease.handle % SLOTS_MAX;
    const segment = this.#segmentOf(slot);
    segment.stamps[slot % SEGMENT] = this.loopNow();
    const connection = new ManagedConnection<S>(this, id, socket, lease, segment, metadata);
    segment.connections[slot % SEGMENT] = connection as unknown as ManagedConnection;
    this.#byId.set(id, connection);
    return { success: true, connection };
  }

  /** Gives a lease back; `false` if it was used or has expired. */
  abort(lease: Lease): boolean {
    return this.#table.release(lease.handle) === 1;
  }

  /**
   * Admits a connection in one step.
   * @throws ERR_INVALID_ARG_TYPE for an empty id, a socket without `close`, an `ip` or `userId` that is no string
   */
  addConnection(id: string, socket: S, ip: string, userId?: string, metadata?: MetadataInput): AdmissionResult<S> {
    checkConnection(id, socket, metadata);
    if (this.#byId.has(id)) return this.#refuse('duplicate_id', 0, ip, userId);
    const lease = this.reserve(ip, userId);
    return lease.success ? this.commit(lease, id, socket, metadata) : lease;
  }

  /** Gives a connection's seat back; `false` if there is none of that id. The socket is not touched. */
  removeConnection(id: string): boolean {
    const connection = this.#byId.get(id);
    return connection !== undefined && this.release(connection);
  }

  /** Gives the seat of this very connection back, and not that of a later one of the same id. */
  release(connection: ManagedConnection<S>): boolean {
    if (!connection.isAlive || this.#byId.get(connection.id) !== connection) return false;
    const slot = connection.handle % SLOTS_MAX;
    this.#byId.delete(connection.id);
    this.#segmentOf(slot).connections[slot % SEGMENT] = undefined;
    connection.detach();
    return this.#table.release(connection.handle) === 1;
  }

  /** Marks a connection active. */
  updateActivity(id: string): void {
    this.#byId.get(id)?.touch();
  }

  /** @internal */
  bind(handle: number, stale: boolean, userId: string): { readonly success: true } | Refusal {
    const outcome = stale ? 0 : this.#table.bindUser(handle, userId);
    if (outcome === 1) return { success: true };
    return this.#refuse(outcome === 0 ? 'closed' : (NATIVE_CODES[-outcome - 1] ?? 'user_limit'), 0, '', userId);
  }

  /** @internal */
  closeConnection(connection: ManagedConnection<S>, code: number, reason: string): void {
    if (!this.release(connection)) return;
    const { socket } = connection;
    try {
      socket.close(code, reason);
    } catch {
      // A socket that cannot be closed is gone; its seat is free already.
    }
    if (typeof socket.terminate !== 'function' || this.#isClosed) return;
    this.#timers.setTimeout(
      () => {
        if (socket.readyState === 3) return;
        try {
          socket.terminate?.();
        } catch {
          // As above.
        }
      },
      { delayMs: this.#closeTimeoutMs, ref: false, name: 'connections.terminate' },
    );
  }

  /**
   * Closes the connections that have been idle for more than `connectionTimeoutMs`, all at once.
   * The timer does the same in batches.
   * @returns how many were closed
   */
  cleanupStaleConnections(): number {
    let total = 0;
    for (let found = EVICT_BATCH; found === EVICT_BATCH;) {
      found = this.#sweep(0);
      total += found;
    }
    return total;
  }

  /** One batch; goes on in the next turn if the batch was full and `again` says so. */
  #sweep(again: number): number {
    if (this.#isClosed) return 0;
    // Stamps lie at most two ticks before the true activity: that much is granted on top.
    const idleMs = this.#timeoutMs === NEVER ? NEVER : this.#timeoutMs + 2 * this.#tickMs;
    const found = this.#table.sweep(this.loopNow(), idleMs, this.#leaseTimeoutMs + 2 * this.#tickMs);
    const handles = this.#scratch.slice(0, found);
    let closed = 0;
    for (const handle of handles) {
      const slot = handle % SLOTS_MAX;
      const connection = this.#segmentOf(slot).connections[slot % SEGMENT] as ManagedConnection<S> | undefined;
      if (connection === undefined) {
        this.#table.release(handle);
        continue;
      }
      this.closeConnection(connection, 1001, 'Connection timeout');
      closed++;
      if (this.#options.onEvict !== undefined) this.#guard(() => this.#options.onEvict?.(connection));
    }
    if (again > 0 && found === again) this.#timers.setTimeout(() => this.#sweep(again), { delayMs: 1, ref: false, name: 'connections.cleanup' });
    return closed;
  }

  /** Counts of the index, and a frozen copy of the limits. */
  getStats(): ConnectionStats {
    this.#table.counts();
    const [totalConnections = 0, connectionsByIp = 0, connectionsByUser = 0, anonymousConnections = 0] = this.#scratch;
    return { totalConnections, connectionsByIp, connectionsByUser, anonymousConnections, limits: this.#limits };
  }

  /** Replaces some limits; the counts stay, nobody is thrown out. `ipv6PrefixBits` cannot change. */
  updateLimits(changes: ConnectionLimits): void {
    const merged = { ...this.#limits, ...changes };
    const numbers = checkedLimits(merged);
    if ((merged.ipv6PrefixBits ?? 64) !== (this.#limits.ipv6PrefixBits ?? 64)) {
      throw new PortcullisError('ERR_OUT_OF_RANGE', 'ipv6PrefixBits cannot change while the index is open', { field: 'ipv6PrefixBits' });
    }
    this.#scratch.set(numbers);
    this.#table.setLimits();
    this.#limits = Object.freeze(merged);
    if (!this.#isClosed) this.#schedule();
  }

  /** Refuses newcomers from now on (or, with `false`, no longer). */
  drain(on = true): void {
    this.#table.setDraining(on ? 1 : 0);
  }

  /** Closes every connection and refuses newcomers. May be called again. */
  cleanup(): void {
    if (this.#isClosed) return;
    this.#tick?.close();
    this.#cleanup?.close();
    this.#isClosed = true;
    for (const connection of this.#byId.values()) this.closeConnection(connection, 1001, 'Server shutdown');
  }
}

function checkConnection(id: unknown, socket: unknown, metadata: unknown): void {
  if (typeof id !== 'string' || id.length === 0 || id.length > ID_MAX) throw wrongType('id', id, `a string of 1 to ${ID_MAX} characters`);
  if (typeof socket !== 'object' || socket === null || typeof (socket as Partial<ManagedSocket>).close !== 'function') {
    throw wrongType('socket', socket, 'an object with a close() method');
  }
  if (metadata !== undefined && (typeof metadata !== 'object' || metadata === null)) throw wrongType('metadata', metadata, 'an object');
}

export { ConnectionManager as ProductionConnectionManager };
