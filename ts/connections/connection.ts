/** One admitted connection, and the columns its figures live in. */
import { wallClockMs } from '../base/clock.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { formatIpv4 } from '../native/strings.js';
import type { Rate } from './limits.js';
import type { ExceededRate, MessageRateLimiter } from './message-rate.js';
import { type ConnectionMetadata, Metadata, type MetadataInput } from './metadata.js';
import type { Refusal } from './refusal.js';

/** Something that can be closed. */
export interface ManagedSocket {
  close(code?: number, reason?: string): unknown;
  terminate?(): unknown;
  readonly readyState?: number;
}

/**
 * Whether to go on with a message: `ok`; `drop` it, it is over its rate; `close`, the connection
 * is being closed for it; `stale`, the connection was released before.
 */
export type ReceiveOutcome = 'ok' | 'drop' | 'close' | 'stale';

/** @internal */
export const SEGMENT_BITS = 12;
/** Slots of a segment. @internal */
export const SEGMENT = 1 << SEGMENT_BITS;
/** Longest id and user id, in UTF-16 units. @internal */
export const ID_MAX = 1024;

/** The slowest tick of the loop's own clock. @internal */
export const TICK_MAX_MS = 250;

const COLUMNS = 4;
const MESSAGES = 0;
const BYTES_IN = 1;
const BYTES_OUT = 2;
const CREATED = 3;
const STAMP = 4;

/**
 * The columns of `SEGMENT` slots: 40 bytes a slot, and 8 for the connection itself.
 * `stamps` is loop time modulo 2^32, read by the core; its last cell, behind the slots, is the
 * loop time of the latest tick, so that a message finds it where it stores it.
 * @internal
 */
export class Segment {
  readonly stamps = new Uint32Array(SEGMENT + 1);
  readonly counters = new Float64Array(SEGMENT * COLUMNS);
  readonly connections: (ManagedConnection | undefined)[] = Array.from(
    { length: SEGMENT },
    () => undefined,
  );
  /** Of the ids, for the index. */
  readonly hashes = new Int32Array(SEGMENT);
  /** Messages and bytes of all connections, as `Keeper` has them. */
  readonly traffic: Float64Array;
  constructor(readonly owner: ConnectionOwner) {
    this.traffic = owner.traffic;
  }
  /** Arrival times (GCRA) of messages and of bytes; made when a rate is first set. */
  arrivals: Float64Array | undefined;

  figure(slot: number, column: number): number {
    const place = slot & (SEGMENT - 1);
    return column === STAMP ? this.stamps[place]! : this.counters[place * COLUMNS + column]!;
  }
}

/** The last figures of a connection whose slot is another's by now. */
class Released {
  constructor(
    readonly owner: ConnectionOwner,
    readonly figures: readonly number[],
  ) {}

  figure(_slot: number, column: number): number {
    return this.figures[column]!;
  }
}

/** What a connection asks of the manager it belongs to. @internal */
export interface ConnectionOwner {
  /** Of all connections there ever were: messages and bytes received, messages and bytes sent. */
  readonly traffic: Float64Array;
  /** The meters of messages and bytes; `undefined` while neither has a rate. */
  readonly messageRate: MessageRateLimiter | undefined;
  /** Loop time, ms modulo 2^32. */
  loopNow(): number;
  /** The timers' clock. */
  nowMs(): number;
  bindConnection(
    connection: ManagedConnection,
    slot: number,
    userId: string,
  ): { readonly success: true } | Refusal;
  closeConnection(connection: ManagedConnection, code: number, reason: string): void;
  rateExceeded(connection: ManagedConnection, rate: ExceededRate, action: Rate['action']): void;
}

/**
 * One admitted connection. Its figures are read from, and written to, memory shared with the core.
 *
 * @example
 * socket.on('message', (data) => {
 *   if (connection.received(data.length) === 'ok') handle(data);
 * });
 */
export class ManagedConnection<S extends ManagedSocket = ManagedSocket> {
  // What a message reads comes first: it lies in one cache line with the object's head.
  /** Where its figures are: once released, its own. */
  #home: Segment | Released;
  /** The slot, or -1 once released. */
  #slot: number;
  /** The id it was added with. */
  readonly id: string;
  /** The socket it was added with. */
  readonly socket: S;
  /** The address as it was given; the bits of a plain IPv4 address. */
  readonly #ip: string | number;
  #userId: string | undefined;
  #metadata: ConnectionMetadata | MetadataInput | undefined;

  /** @internal */
  constructor(
    id: string,
    socket: S,
    ip: string | number,
    userId: string | undefined,
    segment: Segment,
    slot: number,
    metadata: MetadataInput | undefined,
  ) {
    this.#home = segment;
    this.#slot = slot;
    this.id = id;
    this.socket = socket;
    this.#ip = ip;
    this.#userId = userId;
    this.#metadata = metadata;
    const place = slot & (SEGMENT - 1);
    const { counters, stamps, arrivals } = segment;
    const at = place * COLUMNS;
    counters[at] = 0;
    counters[at + BYTES_IN] = 0;
    counters[at + BYTES_OUT] = 0;
    counters[at + CREATED] = wallClockMs();
    stamps[place] = stamps[SEGMENT]!;
    if (arrivals !== undefined) arrivals.fill(0, place * 2, place * 2 + 2);
  }

  /**
   * Counts a message and marks the connection active. Costs a few stores; with a message or byte
   * rate also a clock reading.
   * @param bytes its size, a whole number of at least 0
   * @returns whether to go on with the message
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; then nothing was counted
   */
  received(bytes: number): ReceiveOutcome {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) checkedBytes(bytes);
    const slot = this.#slot;
    if (slot < 0) return 'stale';
    const segment = this.#home as Segment;
    const { stamps, counters } = segment;
    const place = slot & (SEGMENT - 1);
    stamps[place] = stamps[SEGMENT]!;
    counters[place * COLUMNS]! += 1;
    counters[place * COLUMNS + BYTES_IN]! += bytes;
    const { traffic } = segment;
    traffic[0]!++;
    traffic[1]! += bytes;
    const { messageRate } = segment.owner;
    return messageRate === undefined ? 'ok' : this.#checkRate(messageRate, segment, place, bytes);
  }

  #checkRate(
    limiter: MessageRateLimiter,
    segment: Segment,
    place: number,
    bytes: number,
  ): ReceiveOutcome {
    const { owner } = segment;
    // The loop's coarse clock would let the burst of a whole tick through: rates read the real clock.
    const now = owner.nowMs();
    const arrivals = (segment.arrivals ??= new Float64Array(SEGMENT * 2));
    const exceeded = limiter.check(arrivals, place * 2, bytes, now);
    if (exceeded === undefined) return 'ok';
    const action = limiter.actionOf(exceeded);
    owner.rateExceeded(this as unknown as ManagedConnection, exceeded, action);
    // The hook may have closed the connection.
    if (!this.isAlive) return 'close';
    return action === 'report' ? 'ok' : action;
  }

  /**
   * Counts what was sent. A connection that is only sent to still goes idle.
   * @param bytes a whole number of at least 0
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  sent(bytes: number): 'ok' | 'stale' {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) checkedBytes(bytes);
    if (this.#slot < 0) return 'stale';
    const { counters, traffic } = this.#home as Segment;
    counters[(this.#slot & (SEGMENT - 1)) * COLUMNS + BYTES_OUT]! += bytes;
    traffic[2]!++;
    traffic[3]! += bytes;
    return 'ok';
  }

  /** Marks the connection active, to the millisecond. */
  touch(): 'ok' | 'stale' {
    if (this.#slot < 0) return 'stale';
    (this.#home as Segment).stamps[this.#slot & (SEGMENT - 1)] = this.#home.owner.loopNow();
    return 'ok';
  }

  /**
   * Makes the connection that of `userId`, in one step; a refusal leaves everything as it was.
   * @throws ERR_INVALID_ARG_TYPE unless `userId` is a string of 1 to 1024 characters
   */
  bindUser(userId: string): { readonly success: true } | Refusal {
    return this.#home.owner.bindConnection(
      this as unknown as ManagedConnection,
      this.#slot,
      checkedUser(userId),
    );
  }

  /**
   * Gives the seat back, then closes the socket; `terminate()` follows if the peer does not answer.
   * @param code 1000 to 1014 as far as an endpoint may send it, or 3000 to 4999
   * @param reason cut to the 123 bytes of UTF-8 that a close frame holds
   * @throws ERR_OUT_OF_RANGE for a code that must not be sent (RFC 6455, 7.4)
   */
  close(code = 1000, reason = ''): void {
    const allowed = 'a close code that may be sent: 1000-1003, 1007-1014 or 3000-4999';
    if (typeof code !== 'number') throw wrongType('code', code, allowed);
    if (
      !Number.isInteger(code) ||
      !(
        (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
        (code >= 3000 && code <= 4999)
      )
    ) {
      throw outOfRange('code', code, allowed);
    }
    if (typeof reason !== 'string') throw wrongType('reason', reason, 'a string');
    this.#home.owner.closeConnection(this as unknown as ManagedConnection, code, cutReason(reason));
  }

  /** The address as it was given. */
  get ip(): string {
    return typeof this.#ip === 'number' ? formatIpv4(this.#ip) : this.#ip;
  }
  /** The user, if there is one. */
  get userId(): string | undefined {
    return this.#userId;
  }
  /** Whether the connection still has its seat. */
  get isAlive(): boolean {
    return this.#slot >= 0;
  }
  /** Messages received. */
  get messageCount(): number {
    return this.#home.figure(this.#slot, MESSAGES);
  }
  /** Bytes received. */
  get bytesReceived(): number {
    return this.#home.figure(this.#slot, BYTES_IN);
  }
  /** Bytes sent. */
  get bytesSent(): number {
    return this.#home.figure(this.#slot, BYTES_OUT);
  }
  /** Wall-clock milliseconds. */
  get createdAt(): number {
    return this.#home.figure(this.#slot, CREATED);
  }
  /** Wall-clock milliseconds of the last inbound activity, to one tick; may be set. */
  get lastActivity(): number {
    const stamp = this.#home.figure(this.#slot, STAMP);
    const last = wallClockMs() - Math.max(0, (this.#home.owner.loopNow() - stamp) | 0);
    // A stamp may lie two ticks before the activity: never before the connection, unless it was set so.
    return last < this.createdAt && this.createdAt - last <= 2 * TICK_MAX_MS
      ? this.createdAt
      : last;
  }
  set lastActivity(wallMs: number) {
    if (typeof wallMs !== 'number' || !Number.isFinite(wallMs))
      throw wrongType('lastActivity', wallMs, 'milliseconds since 1970');
    if (this.#slot < 0) return;
    const age = Math.min(Math.max(0, wallClockMs() - wallMs), TIME_MAX_MS);
    (this.#home as Segment).stamps[this.#slot & (SEGMENT - 1)] = this.#home.owner.loopNow() - age;
  }

  /** What else is known of the client. */
  get metadata(): ConnectionMetadata {
    const given = this.#metadata;
    if (given instanceof Metadata) return given;
    return (this.#metadata = new Metadata(this, given as MetadataInput | undefined));
  }

  /** Whether it is a connection: neither a copy nor a Proxy passes. @internal */
  static is(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #slot in value;
  }

  /** @internal */
  get slot(): number {
    return this.#slot;
  }

  /** @internal */
  bound(userId: string): void {
    this.#userId = userId;
  }

  /** Keeps the final figures: the slot is another's from now on. Returns the slot. @internal */
  detach(): number {
    const slot = this.#slot;
    const place = slot & (SEGMENT - 1);
    const { counters, stamps, owner: keeper } = this.#home as Segment;
    const at = place * COLUMNS;
    this.#home = new Released(keeper, [
      counters[at]!,
      counters[at + 1]!,
      counters[at + 2]!,
      counters[at + 3]!,
      stamps[place]!,
    ]);
    this.#slot = -1;
    return slot;
  }
}

function checkedBytes(bytes: unknown): number {
  return wholeNumber('bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
}

/** @internal */
export function checkedUser(userId: unknown): string {
  if (typeof userId !== 'string' || userId.length === 0 || userId.length > ID_MAX)
    throw wrongType('userId', userId, `a string of 1 to ${ID_MAX} characters`);
  return userId;
}

const REASON_BYTES_MAX = 123;

/** A close frame holds 123 bytes of reason; cut between characters. */
function cutReason(reason: string): string {
  if (reason.length * 3 <= REASON_BYTES_MAX) return reason;
  const bytes = Buffer.from(reason.slice(0, REASON_BYTES_MAX));
  if (bytes.length <= REASON_BYTES_MAX) return bytes.toString();
  let end = REASON_BYTES_MAX;
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}
