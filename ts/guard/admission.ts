/**
 * One handshake, from its arrival to the end of its socket: a state machine. Adapters and the guard
 * report events; `ADMISSION_TABLE` says what each of them does in each state.
 *
 * ```text
 *  arrived -> seated (address) -> identified, granted -> open -> closing -> gone
 * ```
 *
 * Identification and grant are one step: the seat of the user is taken as soon as the user is known,
 * and no event comes between. With a cluster there is a state between them, `asked`: the seats of this
 * process are taken, and the cluster has still to answer.
 */
import type { LazyTrace } from '../base/trace.js';
import type { HostId, ManagedConnection, ManagedSocket } from '../connections/connection.js';
import type { Lease } from '../connections/lease.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { Answer } from '../http/answer.js';
import type { WaitingClient } from '../http/handshake.js';
import type { VerifiedToken } from '../tokens/verified-token.js';
import { answerOf, codesOf, type Denial, IDENTIFY_FAILED, NOT_JUDGED } from './denial.js';
import type { TokenWatch } from './token-watch.js';

/**
 * State of an admission.
 * - `arrived`: it holds nothing.
 * - `seated`: it holds a seat of its address, and waits for its identity.
 * - `asked`: it holds a seat of its address and its user in this process, and waits for the cluster.
 * - `granted`: it holds a seat of its address and its user, and may open.
 * - `open`: its connection holds the seat.
 * - `closing`: the server has closed its socket; it is counted until the socket is gone.
 * - `gone`: it holds nothing, and never will again.
 * @internal
 */
export type AdmissionState =
  'arrived' | 'seated' | 'asked' | 'granted' | 'open' | 'closing' | 'gone';

/**
 * Event of an admission.
 * - `upgrade`: the handshake reaches the guard.
 * - `identity`: the user is known, or that there is none.
 * - `confirmation`: the cluster grants the seat.
 * - `refusal`: a limit, the cluster, the authentication or a handler of the application refuses.
 * - `timeout`: `identifyTimeoutMs`, the lease, the idle timeout, or `closeTimeoutMs` has passed.
 * - `reset`: the client leaves before its socket opens.
 * - `open`: the host reports an open socket.
 * - `close`: the server closes the socket.
 * - `gone`: the host reports the end of the socket. Bun reports it from within `close()`, while the
 *   peer has not answered: there a timer stands in for it (`socket-closer.ts`).
 * - `reload`: another guard takes the server over.
 * - `shutdown`: the guard or its manager is closed.
 * @internal
 */
export type AdmissionEvent =
  | 'upgrade'
  | 'identity'
  | 'confirmation'
  | 'refusal'
  | 'timeout'
  | 'reset'
  | 'open'
  | 'close'
  | 'gone'
  | 'reload'
  | 'shutdown';

/**
 * Effect of an event.
 * - `seat`: takes a seat of the address, or is denied.
 * - `grant`: takes a seat of the user, or gives all back and is denied; asks the cluster, if there is one.
 * - `confirm`: the seat counts over all processes.
 * - `giveBack`: gives the seat back; the admission is over.
 * - `commit`: hands the seat to a connection.
 * - `reject`: gives the seat back and closes the socket: it may not open.
 * - `close`: gives the seat back; the socket is counted as closing.
 * - `release`: gives the seat of a connection back, whose socket is gone.
 * - `terminate`: ends the socket at once.
 * - `forget`: counts the socket as closing no longer.
 * - `leave`: nothing was taken; the admission is over.
 * - `stay`: nothing.
 * @internal
 */
export type AdmissionAction =
  | 'seat'
  | 'grant'
  | 'confirm'
  | 'giveBack'
  | 'commit'
  | 'reject'
  | 'close'
  | 'release'
  | 'terminate'
  | 'forget'
  | 'leave'
  | 'stay';

/**
 * The effect of each event in each state. The rows up to `granted` are carried out here; those of
 * `open` and `closing` by `ConnectionManager` and `SocketCloser`, which know the connection.
 * @internal
 */
export const ADMISSION_TABLE: Readonly<
  Record<AdmissionState, Readonly<Record<AdmissionEvent, AdmissionAction>>>
> = {
  arrived: {
    upgrade: 'seat',
    identity: 'stay',
    confirmation: 'stay',
    refusal: 'leave',
    timeout: 'leave',
    reset: 'leave',
    open: 'reject',
    close: 'leave',
    gone: 'leave',
    reload: 'stay',
    shutdown: 'leave',
  },
  seated: {
    upgrade: 'stay',
    identity: 'grant',
    confirmation: 'stay',
    refusal: 'giveBack',
    timeout: 'giveBack',
    reset: 'giveBack',
    open: 'reject',
    close: 'giveBack',
    gone: 'giveBack',
    reload: 'stay',
    shutdown: 'giveBack',
  },
  asked: {
    upgrade: 'stay',
    identity: 'stay',
    confirmation: 'confirm',
    refusal: 'giveBack',
    timeout: 'giveBack',
    reset: 'giveBack',
    open: 'reject',
    close: 'giveBack',
    gone: 'giveBack',
    reload: 'stay',
    shutdown: 'giveBack',
  },
  granted: {
    upgrade: 'stay',
    identity: 'stay',
    confirmation: 'stay',
    refusal: 'giveBack',
    timeout: 'giveBack',
    reset: 'giveBack',
    open: 'commit',
    close: 'giveBack',
    gone: 'giveBack',
    reload: 'stay',
    shutdown: 'giveBack',
  },
  open: {
    upgrade: 'stay',
    identity: 'stay',
    confirmation: 'stay',
    refusal: 'stay',
    timeout: 'close',
    reset: 'release',
    open: 'reject',
    close: 'close',
    gone: 'release',
    reload: 'stay',
    shutdown: 'close',
  },
  closing: {
    upgrade: 'stay',
    identity: 'stay',
    confirmation: 'stay',
    refusal: 'stay',
    timeout: 'terminate',
    reset: 'forget',
    open: 'reject',
    close: 'stay',
    gone: 'forget',
    reload: 'stay',
    shutdown: 'stay',
  },
  gone: {
    upgrade: 'stay',
    identity: 'stay',
    confirmation: 'stay',
    refusal: 'stay',
    timeout: 'stay',
    reset: 'stay',
    open: 'reject',
    close: 'stay',
    gone: 'stay',
    reload: 'stay',
    shutdown: 'stay',
  },
};

/** Events that end an admission which has not opened. */
type Ending = 'refusal' | 'timeout' | 'reset' | 'close' | 'gone' | 'shutdown';

/**
 * One handshake; see the head of this file. Its private methods are those of TypeScript: JavaScriptCore
 * marks every object of a class with a `#method`, which each handshake would pay for.
 * @internal
 */
export class Admission {
  readonly #manager: ConnectionManager;
  readonly #refuseWith: 'http' | 'close';
  readonly #userAgent: string;
  /** The state up to `open`; from then on `state` asks for the connection's. */
  #state: Exclude<AdmissionState, 'open' | 'closing'> | 'opened' = 'arrived';
  /** Address of the client, which the closing socket is counted for. */
  readonly #ip: string;
  #lease: Lease | undefined;
  #denial: Denial | undefined;
  /** The answer to the client, once it was asked for: the application's, or the standard one. */
  #answer: Answer | undefined;
  #connection: ManagedConnection | undefined;
  /** Trace of the handshake, until it has opened or ended; `undefined` where no request is known. */
  #trace: LazyTrace | undefined;
  #token: VerifiedToken | undefined;
  /** Watches the token once the seat is committed. */
  #watch: TokenWatch | undefined;
  /** The socket that was refused after it had opened. */
  #refused: object | undefined;
  /** Called once, when the admission ends while it waits for its identity or for the cluster. */
  #onEnd: (() => void) | undefined;

  constructor(
    manager: ConnectionManager,
    refuseWith: 'http' | 'close',
    ip: string,
    userAgent: string,
    trace?: LazyTrace,
  ) {
    this.#trace = trace;
    this.#manager = manager;
    this.#refuseWith = refuseWith;
    this.#ip = ip;
    this.#userAgent = userAgent;
  }

  get state(): AdmissionState {
    if (this.#state !== 'opened') return this.#state;
    const closable = this.#connection ?? this.#refused;
    if (this.#connection?.isAlive === true) return 'open';
    return closable !== undefined && this.#manager.isClosing(closable) ? 'closing' : 'gone';
  }

  /** True while it waits for its identity. */
  get isSeated(): boolean {
    return this.#state === 'seated';
  }

  /** Address of the client. */
  get ip(): string {
    return this.#ip;
  }

  /** Trace of the handshake, while it is judged. */
  get trace(): LazyTrace | undefined {
    return this.#trace;
  }

  /** User of the client, while the admission holds a seat. */
  get userId(): string | undefined {
    return this.#lease?.userId;
  }

  /** HTTP answer in the place of the upgrade; `undefined` to upgrade. */
  get answer(): Answer | undefined {
    return this.isRefused && this.#refuseWith === 'http' ? this.statusAnswer : undefined;
  }

  /** HTTP answer to a refused client, also of a guard that refuses by close code: not every handshake can be completed. */
  get statusAnswer(): Answer {
    // An admission that ended without a denial has lost its client.
    return (this.#answer ??= answerOf(this.#denial ?? NOT_JUDGED));
  }

  /** True for a denied client, and for one that has left: no handler of the application is to run for it. */
  get isRefused(): boolean {
    return this.#state === 'gone';
  }

  /** Answers a denied client in the application's own words. */
  answerWith(answer: Answer): void {
    this.#answer = answer;
  }

  /** Notes the client's token, which is watched once its connection has opened. */
  hasToken(token: VerifiedToken, watch: TokenWatch): void {
    this.#token = token;
    this.#watch = watch;
  }

  /** The client's token, until its connection has opened. */
  get token(): VerifiedToken | undefined {
    return this.#token;
  }

  /** The connection, from `open` on. */
  get connection(): ManagedConnection | undefined {
    return this.#connection;
  }

  /** The denial; `undefined` for an admission that was not denied. */
  get denial(): Denial | undefined {
    return this.#denial;
  }

  /** Takes a seat of the address, and the connect rate of it. */
  seat(): void {
    if (actionOf(this.#state, 'upgrade') === 'seat')
      this.take(this.#manager.arrive(this.#ip, this.#trace), 'seated');
  }

  /** Takes both seats of a client that needs no identity, in one step. */
  seatAnonymous(): void {
    if (actionOf(this.#state, 'upgrade') === 'seat')
      this.take(this.#manager.reserveJudged(this.#ip, this.#trace), 'granted');
  }

  /** Takes a seat of the user, or of an anonymous client. */
  identify(userId: string | undefined): void {
    if (actionOf(this.#state, 'identity') !== 'grant' || this.#lease === undefined) return;
    const next = this.#manager.isClustered ? 'asked' : 'granted';
    this.take(this.#manager.identify(this.#lease, userId), next);
  }

  /**
   * Waits until the cluster has answered, if there is one.
   * @param client reports that the client has left; its seat is given back at once
   */
  async confirmed(client: WaitingClient | undefined): Promise<void> {
    if (this.#state !== 'asked' || this.#lease === undefined) return;
    const stopListening = client?.onGone(() => void this.end('reset'));
    const outcome = await this.unlessEnded(this.#manager.confirm(this.#lease));
    stopListening?.();
    // An admission that has ended meanwhile has given its seat back, and has its denial.
    if (outcome === undefined) return;
    const event = outcome.success ? 'confirmation' : 'refusal';
    const action = actionOf(this.#state, event);
    if (action === 'confirm') this.#state = 'granted';
    else if (action === 'giveBack' && !outcome.success) this.take(outcome, 'granted');
  }

  /** Waits for an answer that never rejects; gives `undefined` as soon as the admission ends. */
  private unlessEnded<T>(answer: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve) => {
      this.whenEnded(() => resolve(undefined));
      void answer.then((given) => {
        this.#onEnd = undefined;
        resolve(given);
      });
    });
  }

  /** Calls a listener once, if the admission ends before it has opened. The last listener counts. */
  whenEnded(listener: (() => void) | undefined): void {
    this.#onEnd = listener;
  }

  private take(outcome: Lease | Denial, next: 'seated' | 'asked' | 'granted'): void {
    if ('handle' in outcome) {
      this.#lease = outcome;
      this.#state = next;
      return;
    }
    // The manager took no seat, or has given it back.
    this.#lease = undefined;
    this.#denial = outcome;
    this.#state = 'gone';
  }

  /** Denies the admission; gives its seat back. Does nothing once it has opened or ended. */
  deny(denial: Denial): void {
    if (this.#state === 'gone' || this.#state === 'opened') return;
    this.#denial = denial;
    this.end('refusal');
  }

  /**
   * Ends an admission that has not opened, and gives its seat back.
   * @returns `false` if there was no seat to give back
   */
  end(event: Ending): boolean {
    const action = actionOf(this.#state, event);
    if (action !== 'giveBack' && action !== 'leave') return false;
    this.#state = 'gone';
    const lease = this.#lease;
    this.#lease = undefined;
    const onEnd = this.#onEnd;
    this.#onEnd = undefined;
    onEnd?.();
    return lease !== undefined && this.#manager.abort(lease);
  }

  /**
   * Commits the seat to a socket that has opened; closes the socket of any admission that is not
   * granted.
   * @param id of the connection, or a function that reads it from the socket, if its host has given it one
   * @returns the connection, or `undefined` if the socket was closed
   */
  open(
    id: string | HostId<ManagedSocket> | undefined,
    socket: ManagedSocket,
  ): ManagedConnection | undefined {
    const lease = this.#lease;
    if (actionOf(this.#state, 'open') !== 'commit' || lease === undefined)
      return this.reject(socket);
    this.#lease = undefined;
    const manager = this.#manager;
    const userAgent = this.#userAgent;
    const result =
      typeof id === 'string'
        ? manager.commit(lease, id, socket, { userAgent })
        : manager.commitUnnamed(lease, socket, userAgent, id);
    if (!result.success) {
      // A manager that was closed in between leaves the lease to its holder.
      manager.abort(lease);
      this.#denial = result;
      return this.reject(socket);
    }
    if (!this.watches(result.connection)) {
      // A socket whose token is not watched would outlive it.
      result.connection.ended();
      this.#denial = IDENTIFY_FAILED;
      return this.reject(socket);
    }
    this.#state = 'opened';
    this.#connection = result.connection;
    // The connection holds these from now on.
    this.#trace = undefined;
    this.#watch = undefined;
    this.#token = undefined;
    return result.connection;
  }

  /** Watches the token of a connection; `false` where strict timers are closed, or no timer is left. */
  private watches(connection: ManagedConnection): boolean {
    try {
      if (this.#token !== undefined) this.#watch?.add(connection, this.#token);
      return true;
    } catch {
      return false;
    }
  }

  /** Closes a socket that may not open. */
  private reject(socket: ManagedSocket): undefined {
    this.end('refusal');
    const denial = (this.#denial ??= NOT_JUDGED);
    const [, code] = codesOf(denial);
    this.#refused = this.#manager.closeRefused(socket, this.#ip, code, denial.reason);
    if (this.#connection === undefined) this.#state = 'opened';
    return undefined;
  }

  /** Notes the end of a socket that was refused after it had opened. */
  socketGone(): void {
    if (this.#refused !== undefined) this.#manager.goneRefused(this.#refused);
  }
}

function actionOf(
  state: Exclude<AdmissionState, 'closing'> | 'opened',
  event: AdmissionEvent,
): AdmissionAction {
  return ADMISSION_TABLE[state === 'opened' ? 'open' : state][event];
}
