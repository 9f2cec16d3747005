/** One admitted connection: its identity, and access to its columns in a segment. */
import { wallClockMs } from '../base/clock.js';
import { PortcullisError, wrongType } from '../base/errors.js';
import { TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { randomUUID } from '../base/random.js';
import { type RequestTrace, unnamedTrace } from '../base/trace.js';
import { formatIpv4 } from '../native/strings.js';
import { checkedUser } from './arguments.js';
import { checkCloseCode, cutReason } from './close-frame.js';
import { TICK_MAX_MS } from './loop-clock.js';
import type { ExceededRate, MessageRateLimiter } from './message-rate.js';
import { type ConnectionMetadata, type GivenMetadata, Metadata } from './metadata.js';
import type { ConnectionOwner } from './owner.js';
import type { Refusal } from './refusal.js';
import { FIGURES, PLACE_MASK, type Segment } from './segment.js';
import type { ConnectionToken, TokenRefresh } from './connection-token.js';

/** A socket that a manager can close: those of `ws`, Bun and browsers fit as they are. */
export interface ManagedSocket {
  /** Starts the closing handshake. */
  close(code?: number, reason?: string): unknown;
  /** Ends the socket at once. Called when the peer does not answer a close. */
  terminate?(): unknown;
  /** Stops reading. Called when the client is closed for a flood; without it, `terminate()` is. */
  pause?(): unknown;
  /** 3 once the socket has ended. */
  readonly readyState?: number;
}

/**
 * Outcome of `received()`. `ok`: handle the message. `drop`: it is over its rate, ignore it.
 * `close`: it is over its rate, and the connection is being closed. `stale`: the connection was
 * released before. A string and not a result object, since messages must not allocate.
 */
export type ReceiveOutcome = 'ok' | 'drop' | 'close' | 'stale';

/** Reads the id that a host has given to its socket; `undefined` if it has none. @internal */
export type HostId<S> = (socket: S) => string | undefined;

/** Distance of two openings within one millisecond, ms: a time of today has 12 bits for fractions of a millisecond. */
const BETWEEN_MS = 2 ** -11;
/** Time of the latest opening. An array, since V8 allocates an object for each number in a variable of a module. */
const latestMs = new Float64Array(1);

/** Returns the time of an opening, ms of the wall clock. Its fraction orders the openings within one millisecond. */
function openingMs(): number {
  const now = wallClockMs();
  const sinceMs = latestMs[0]! - now;
  return (latestMs[0] = sinceMs >= 0 && sinceMs < 1 ? latestMs[0]! + BETWEEN_MS : now);
}

/** Keeps the last figures of a released connection, whose slot belongs to another one by now. */
class Released<C> {
  constructor(
    readonly owner: ConnectionOwner<C>,
    readonly figures: readonly number[],
  ) {}

  figure(_slot: number, figure: number): number {
    return this.figures[figure]!;
  }
}

/**
 * One admitted connection. Its figures stand in typed arrays, of which the core reads the stamp of
 * the last activity: counting a message costs no native call and no allocation.
 *
 * @example
 * socket.on('message', (data) => {
 *   if (connection.received(data.length) === 'ok') handle(data);
 * });
 */
export class ManagedConnection<
  S extends ManagedSocket = ManagedSocket,
  C extends Readonly<Record<string, unknown>> = Readonly<Record<string, unknown>>,
> {
  // A message reads these two: declared first, they share a cache line with the object's head.
  /** The segment of the slot; once released, a copy of the last figures. */
  #home: Segment<ManagedConnection<S>> | Released<ManagedConnection<S>>;
  /** The slot, or -1 once released. */
  #slot: number;
  /** The socket that the connection was added with. */
  readonly socket: S;
  /** The address as it was given; a dotted IPv4 address as its bits, which take no string. */
  readonly #ip: string | number;
  /** No string until the id of a connection that was opened without one is first read. */
  #id: string | HostId<S> | undefined;
  #userId: string | undefined;
  /** As it was given, until it is first read. */
  #metadata: ConnectionMetadata | GivenMetadata | undefined;
  #token: ConnectionToken | undefined;
  /** `null` where the client has named none, until it is first read; `undefined` without a guard. */
  #trace: RequestTrace | null | undefined;

  /** @internal */
  constructor(
    id: string | HostId<S> | undefined,
    socket: S,
    ip: string | number,
    userId: string | undefined,
    segment: Segment<ManagedConnection<S>>,
    slot: number,
    metadata: GivenMetadata | undefined,
  ) {
    this.#home = segment;
    this.#slot = slot;
    this.socket = socket;
    this.#ip = ip;
    this.#id = id;
    this.#userId = userId;
    this.#metadata = metadata;
    this.#token = undefined;
    this.#trace = undefined;
    segment.open(slot, openingMs());
  }

  /**
   * Counts a received message and marks the connection active. Costs a few stores; with a message or
   * byte rate also a clock reading.
   * @param bytes size of the message: a whole number of at least 0
   * @returns what to do with the message; see `ReceiveOutcome`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; then nothing was counted
   */
  received(bytes: number): ReceiveOutcome {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) checkedBytes(bytes);
    const slot = this.#slot;
    if (slot < 0) return 'stale';
    const segment = this.#home as Segment<ManagedConnection<S>>;
    segment.received(slot, bytes);
    const { messageRate } = segment.owner;
    return messageRate === undefined ? 'ok' : checkRate(this, messageRate, segment, slot, bytes);
  }

  /**
   * Counts a received ping or pong, marks the connection active, and judges `controlRate`. It is no
   * message: only its bytes are counted.
   * @param bytes size of its payload: a whole number of at least 0
   * @returns what to do with it; see `ReceiveOutcome`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; then nothing was counted
   */
  receivedControl(bytes: number): ReceiveOutcome {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) checkedBytes(bytes);
    const slot = this.#slot;
    if (this.touch() === 'stale') return 'stale';
    const segment = this.#home as Segment<ManagedConnection<S>>;
    const { owner } = segment;
    segment.receivedControl(slot, bytes);
    const limiter = owner.controlRate;
    const arrivals = owner.messageRate === undefined ? undefined : segment.arrivals();
    const place = slot & PLACE_MASK;
    const exceeded = limiter.checkControl(
      arrivals,
      segment.controls(),
      place,
      bytes,
      owner.nowMs(),
    );
    return exceeded === undefined ? 'ok' : exceeds(this, owner, exceeded, limiter);
  }

  /**
   * Counts a sent message. This is no activity: a connection that only receives goes idle.
   * @param bytes size of the message: a whole number of at least 0
   * @returns `'stale'` if the connection was released before; a string, since messages must not
   * allocate a result object
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; then nothing was counted
   */
  sent(bytes: number): 'ok' | 'stale' {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes) checkedBytes(bytes);
    if (this.#slot < 0) return 'stale';
    (this.#home as Segment<ManagedConnection<S>>).sent(this.#slot, bytes);
    return 'ok';
  }

  /**
   * Marks the connection active, to the millisecond, which costs a clock reading.
   * @returns `'stale'` if the connection was released before
   */
  touch(): 'ok' | 'stale' {
    if (this.#slot < 0) return 'stale';
    const segment = this.#home as Segment<ManagedConnection<S>>;
    segment.stamp(this.#slot, segment.owner.loopNow());
    return 'ok';
  }

  /**
   * Moves the connection's seat to a user, in one step, for a login after the upgrade.
   *
   * With a cluster the limits of this process decide at once and the cluster is asked afterwards, as by `reserve`: a
   * connection that it refuses is closed with 1008, or with 1013 if it is not this user's limit, and `onRefuse` is
   * called with `late: true`. While another move of the connection is under way, this one waits for it. `identify`
   * waits for the cluster instead.
   * @param userId 1 to 1024 characters
   * @returns a refusal if the user is at the limit; the seat is then where it was. `client_left` if the connection has ended
   * @throws ERR_INVALID_ARG_TYPE; ERR_ASYNC_REQUIRED with a cluster that is `strict`: use `identify`
   * @example
   * const bound = connection.bindUser('user-1');
   * if (!bound.success) connection.close(1008, bound.reason);
   */
  bindUser(userId: string): { readonly success: true } | Refusal {
    return this.#home.owner.bindConnection(this, this.#slot, checkedUser(userId));
  }

  /**
   * Moves the connection's seat to a user, as `bindUser` does; with a `cluster`, in the counts of all processes: it asks
   * the limits of this process first, then the cluster, and waits for at most its `admitTimeoutMs`. Until the answer both
   * users are counted. Moves of one connection follow each other. Without a cluster it answers at once.
   * @param userId 1 to 1024 characters
   * @returns a refusal if the user is at the limit, or cannot be counted at the moment: the seat is then where it was;
   * `client_left` if the connection has ended meanwhile. Never rejects for an outcome
   * @throws ERR_INVALID_ARG_TYPE, as a rejection
   * @example
   * const identified = await connection.identify('user-1');
   * if (!identified.success) connection.close(1008, identified.reason);
   */
  async identify(userId: string): Promise<{ readonly success: true } | Refusal> {
    return this.#home.owner.identifyConnection(this, this.#slot, checkedUser(userId));
  }

  /**
   * Puts a new token in the place of the one that the connection was admitted with, so that the
   * socket stays open until the new one ends. A token of another user moves the seat as `identify`
   * does.
   * @param token the token, without `Bearer`
   * @returns the new claims, or the failure; then the old token counts
   * @throws ERR_UNSUPPORTED (as a rejection) if the connection was not admitted by a token
   * @example
   * const refreshed = await connection.refreshToken(message.token);
   * if (!refreshed.success) socket.send(JSON.stringify({ type: 'error', code: refreshed.error.code }));
   */
  async refreshToken(token: string): Promise<TokenRefresh<C>> {
    if (this.#token === undefined)
      throw new PortcullisError('ERR_UNSUPPORTED', 'the connection was not admitted by a token', {
        field: 'auth',
      });
    return this.#token.refresh(token) as Promise<TokenRefresh<C>>;
  }

  /**
   * Gives the seat back, then closes the socket. Calls the socket's `terminate()` if the peer does
   * not answer within `closeTimeoutMs`. Does nothing once the connection is released.
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455, 7.4). Default 1000.
   * @param reason cut to the 123 bytes of UTF-8 that a close frame holds
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a code that must not be sent
   */
  close(code = 1000, reason = ''): void {
    checkCloseCode(code);
    this.#home.owner.closeConnection(this, code, cutReason(reason));
  }

  /**
   * Notes that the host reports the end of the socket: the connection's own manager gives the seat back,
   * whatever guard the server has by now.
   * @internal
   */
  ended(): void {
    this.#home.owner.releaseConnection(this);
  }

  /**
   * The id that the connection was added with. Adapters give none: with Elysia on Bun it is that of `ws.id`, elsewhere a
   * UUID that is made when it is first read. `connections.get(id)` finds both.
   */
  get id(): string {
    const id = this.#id;
    if (typeof id === 'string') return id;
    const made = id?.(this.socket) ?? randomUUID();
    this.#id = made;
    this.#home.owner.idMade(this, this.#slot);
    return made;
  }
  /** Address of the client, as it was given. */
  get ip(): string {
    return typeof this.#ip === 'number' ? formatIpv4(this.#ip) : this.#ip;
  }
  /** User of the connection, if it has one. */
  get userId(): string | undefined {
    return this.#userId;
  }
  /** True while the connection holds its seat. */
  get isAlive(): boolean {
    return this.#slot >= 0;
  }
  /** Messages received. */
  get messageCount(): number {
    return this.#home.figure(this.#slot, FIGURES.MESSAGES);
  }
  /** Bytes received. */
  get bytesReceived(): number {
    return this.#home.figure(this.#slot, FIGURES.BYTES_IN);
  }
  /** Bytes sent. */
  get bytesSent(): number {
    return this.#home.figure(this.#slot, FIGURES.BYTES_OUT);
  }
  /** Time of the opening: wall-clock milliseconds since 1970. */
  get createdAt(): number {
    return Math.floor(this.openedAtMs);
  }
  /** `createdAt` with the fraction of `openingMs()`, to sort by. @internal */
  get openedAtMs(): number {
    return this.#home.figure(this.#slot, FIGURES.CREATED);
  }
  /**
   * Time of the last received message: wall-clock milliseconds since 1970, accurate to a tick of at
   * most 250 ms. May be set, to any finite number.
   */
  get lastActivity(): number {
    const stamp = this.#home.figure(this.#slot, FIGURES.STAMP);
    const last = wallClockMs() - Math.max(0, (this.#home.owner.loopNow() - stamp) | 0);
    // A stamp may lie two ticks before the activity, but not before the opening unless it was set so.
    return last < this.createdAt && this.createdAt - last <= 2 * TICK_MAX_MS
      ? this.createdAt
      : last;
  }
  set lastActivity(wallMs: number) {
    if (typeof wallMs !== 'number' || !Number.isFinite(wallMs))
      throw wrongType('lastActivity', wallMs, 'milliseconds since 1970');
    if (this.#slot < 0) return;
    const age = Math.min(Math.max(0, wallClockMs() - wallMs), TIME_MAX_MS);
    const segment = this.#home as Segment<ManagedConnection<S>>;
    segment.stamp(this.#slot, segment.owner.loopNow() - age);
  }

  /**
   * Claims of the token that the connection was admitted with, or of the last one of
   * `refreshToken`; frozen, and `undefined` without a token. In Elysia's handlers, `onTokenEnd` and
   * `onDrain` they have the type of the guard's verifier; elsewhere `verifier.claimsOf(connection)`
   * has it.
   */
  get claims(): C | undefined {
    return this.#token?.claims as C | undefined;
  }

  /**
   * Id of the handshake, which stalls show, too; see `RequestTrace`. `undefined` for a connection that was added
   * without a guard.
   */
  get requestId(): string | undefined {
    return this.trace?.requestId;
  }

  /** `traceparent` of the handshake (W3C Trace Context), if it has a valid one. */
  get traceparent(): string | undefined {
    return this.#trace?.traceparent;
  }

  /** Further data on the client. */
  get metadata(): ConnectionMetadata {
    const given = this.#metadata;
    if (given instanceof Metadata) return given;
    return (this.#metadata = new Metadata(this, given as GivenMetadata | undefined));
  }

  /** True for a connection; a copy and a Proxy lack the private field and fail. @internal */
  static is(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #slot in value;
  }

  /** True if the connection has an id already. @internal */
  get hasId(): boolean {
    return typeof this.#id === 'string';
  }

  /** @internal */
  get slot(): number {
    return this.#slot;
  }

  /** Notes the token that the connection was admitted with. @internal */
  hasToken(token: ConnectionToken): void {
    this.#token = token;
  }

  /** Notes the trace of the handshake; `undefined` if its client has named none. @internal */
  hasTrace(trace: RequestTrace | undefined): void {
    this.#trace = trace ?? null;
  }

  /** The trace of the handshake, if there was one. @internal */
  get trace(): RequestTrace | undefined {
    if (this.#trace === null) this.#trace = unnamedTrace();
    return this.#trace;
  }

  /** Notes the user that the seat was moved to. @internal */
  bound(userId: string): void {
    this.#userId = userId;
  }

  /** Copies the final figures and forgets the slot, which it returns. @internal */
  detach(): number {
    const slot = this.#slot;
    const segment = this.#home as Segment<ManagedConnection<S>>;
    this.#home = new Released(segment.owner, segment.figures(slot));
    this.#slot = -1;
    this.#token?.released();
    return slot;
  }
}

// Functions and no private methods: JavaScriptCore marks every object of a class that has one, which costs
// Bun 2 to 4 ns a message and a fifth of a connect (bench/connections.mjs).

function checkRate<S extends ManagedSocket>(
  connection: ManagedConnection<S>,
  limiter: MessageRateLimiter,
  segment: Segment<ManagedConnection<S>>,
  slot: number,
  bytes: number,
): ReceiveOutcome {
  const { owner } = segment;
  // The real clock: by loop time, which stands still within a tick, a tick's burst would pass.
  const now = owner.nowMs();
  const at = 2 * (slot & PLACE_MASK);
  const exceeded = limiter.check(segment.arrivals(), at, bytes, now, owner, slot);
  return exceeded === undefined ? 'ok' : exceeds(connection, owner, exceeded, limiter);
}

function exceeds<S extends ManagedSocket>(
  connection: ManagedConnection<S>,
  owner: ConnectionOwner<ManagedConnection<S>>,
  exceeded: ExceededRate,
  limiter: MessageRateLimiter,
): ReceiveOutcome {
  const action = limiter.actionOf(exceeded);
  owner.rateExceeded(connection, exceeded, action);
  // The hook may have closed the connection.
  if (!connection.isAlive) return 'close';
  return action === 'report' ? 'ok' : action;
}

function checkedBytes(bytes: unknown): number {
  return wholeNumber('bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
}
