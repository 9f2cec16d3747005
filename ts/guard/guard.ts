/**
 * Decides what every adapter decides alike: the client's address and user, its seat, the answer to
 * its handshake; and holds what a guarded server shares: limits of requests, open sockets, the page.
 * Adapters translate between their host and this class.
 */
import { outOfRange, PortcullisError, UnauthorizedError, wrongType } from '../base/errors.js';
import { Hooks, isThenable } from '../base/hooks.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { Lease } from '../connections/admission.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { SocketHost } from '../connections/open-socket.js';
import { OpenSockets, type WebSocketStats } from '../connections/open-sockets.js';
import { targetOf } from '../http/answer.js';
import { RequestLimiter, type RequestStats } from '../http/limiter.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import { checkedPage, LivePage } from '../page/live-page.js';
import { checkedSection } from '../resources/limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import type { ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failures.js';
import { authOf, type TokenAuth, tokenOf, userOf } from './bearer.js';
import { ClientAddress } from './client-address.js';
import { MESSAGE_OPTIONS, JsonMessageFilter } from './json-filter.js';
import {
  exemptPathsOf,
  type GuardOptions,
  IDENTIFY_TIMEOUT_MS,
  managerOf,
  MANAGER_OPTIONS,
  GUARD_OPTIONS,
} from './options.js';
import { Origins } from './origins.js';
import {
  type AuthDenial,
  type AuthDenialCode,
  type Denial,
  IDENTIFY_FAILED,
  NOT_JUDGED,
  PendingUpgrade,
} from './upgrade.js';

/** Counts of a guard, besides the admissions that `manager.snapshot()` counts. */
export interface GuardStats {
  /** Requests; `undefined` without limits of requests and without a monitor. */
  readonly requests: RequestStats | undefined;
  /** Open sockets, and the sockets closed by the limits of `websockets`. */
  readonly websockets: WebSocketStats;
  /** Upgrades refused by authentication, by code; codes without a refusal are absent. */
  readonly authDenials: Readonly<Partial<Record<AuthDenialCode, number>>>;
  /** Messages refused by the limits of `json`, by code. */
  readonly invalidMessages: Readonly<Partial<Record<FailureCode, number>>>;
}

/** A stream that reports its end. */
interface ClosableStream {
  once(event: 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

/** Limits of requests that are only counted. */
const UNLIMITED = Object.freeze({
  maxConcurrent: Infinity,
  timeoutMs: Infinity,
  maxPayloadSize: Infinity,
  maxHeaderSize: Infinity,
});

/** The guard of one server. `R` is the request of its adapter. @internal */
export class Guard<R> {
  readonly manager: ConnectionManager;
  readonly jsonFilter: JsonMessageFilter;
  readonly #identify: GuardOptions<R>['identify'];
  readonly #onIdentifyError: GuardOptions<R>['onIdentifyError'];
  readonly #hooks = new Hooks();
  readonly #timers: TimerManager;
  readonly #ownsManager: boolean;
  readonly #ownsTimers: boolean;
  readonly #identifyTimeoutMs: number;
  readonly #exempt: ReadonlySet<string>;
  readonly #authDenials: Partial<Record<AuthDenial['code'], number>> = {};
  readonly #refuseWith: 'http' | 'close';
  readonly #clientAddress: ClientAddress<R>;
  readonly #origins: Origins;
  /** Limits of requests; `undefined` without such limits and without a monitor. */
  readonly requests: RequestLimiter | undefined;
  readonly openSockets: OpenSockets;
  /** Counts requests and learns which handler runs. */
  readonly monitor: ResourceMonitor | undefined;
  readonly metrics: ProductionMetrics | undefined;
  readonly #auth: TokenAuth | undefined;
  readonly page: LivePage | undefined;

  constructor(what: string, options: GuardOptions<R>, host: SocketHost) {
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions(what, options, [...GUARD_OPTIONS, ...MESSAGE_OPTIONS, ...MANAGER_OPTIONS]);
    const { identify, onIdentifyError } = options;
    for (const [name, hook] of Object.entries({ identify, onIdentifyError })) {
      if (hook !== undefined && typeof hook !== 'function')
        throw wrongType(name, hook, 'a function');
    }
    this.#identify = identify;
    this.#onIdentifyError = onIdentifyError;
    // Copied and checked first: a page that fails later would leave the manager's name and timers taken.
    const page =
      options.page === undefined || options.page === null ? options.page : { ...options.page };
    if (page !== undefined) checkedPage(page);
    this.#refuseWith = options.refuseWith ?? 'http';
    if (this.#refuseWith !== 'http' && this.#refuseWith !== 'close')
      throw outOfRange('refuseWith', options.refuseWith, "'http' or 'close'");
    this.#identifyTimeoutMs = wholeNumber(
      'identifyTimeoutMs',
      options.identifyTimeoutMs,
      1,
      TIME_MAX_MS,
      IDENTIFY_TIMEOUT_MS,
    );
    this.#exempt = exemptPathsOf(options.exemptPaths);
    this.#clientAddress = new ClientAddress(options.clientAddress, options.trustedProxies);
    this.#origins = new Origins(options.allowedOrigins, this.#clientAddress.proxies);
    this.#auth = authOf(options);
    this.jsonFilter = new JsonMessageFilter(options);
    const requests =
      options.requests === undefined ? undefined : checkedSection('requests', options.requests);
    const websockets =
      options.websockets === undefined
        ? undefined
        : checkedSection('websockets', options.websockets);
    const { timers = options.manager?.timers ?? new TimerManager({ name: 'portcullis' }) } =
      options;
    this.#timers = timers;
    this.#ownsManager = options.manager === undefined;
    this.#ownsTimers = this.#ownsManager && options.timers === undefined;
    const { metrics } = options;
    if (metrics !== undefined && !(metrics instanceof ProductionMetrics))
      throw wrongType('metrics', metrics, 'a ProductionMetrics');
    this.metrics = metrics;
    this.manager = managerOf(options, timers, websockets?.maxConnections);
    metrics?.attach(this.manager);
    this.monitor = this.manager.monitor;
    const counted = requests ?? (this.monitor === undefined ? undefined : UNLIMITED);
    this.requests =
      counted === undefined
        ? undefined
        : new RequestLimiter(counted, timers, this.monitor, metrics);
    this.openSockets = new OpenSockets(websockets, timers, host, this.monitor);
    this.page =
      page === undefined
        ? undefined
        : new LivePage(
            { monitor: this.monitor, metrics, ...page },
            { connections: this.manager, timers, stats: () => this.snapshot() },
          );
  }

  /** Counts at this moment. */
  snapshot(): GuardStats {
    return {
      requests: this.requests?.snapshot(),
      websockets: this.openSockets.stats(),
      authDenials: { ...this.#authDenials },
      invalidMessages: this.jsonFilter.refused(),
    };
  }

  /** Refuses new connections and requests, and ends the streams of the page. */
  drain(): void {
    if (this.manager.isOpen) this.manager.drain();
    this.requests?.drain();
    this.page?.drain();
  }

  /**
   * Ends what the guard made: its page, its manager with all connections, its timers. A given manager and given
   * timers stay open. May be called again.
   */
  close(): void {
    this.page?.close();
    if (this.#ownsManager) {
      if (this.manager.isOpen) this.manager.close();
      this.metrics?.detach(this.manager);
    }
    if (this.#ownsTimers) this.#timers.close();
  }

  /** True if an admission needs `identify`, since `identify()` of the application or a key set may answer later. */
  get isAsync(): boolean {
    return this.#identify !== undefined || this.#auth?.verifier.isRemote === true;
  }

  /**
   * Admits or refuses a handshake at once.
   * @param peer address of the socket's peer
   * @param header returns a header by its name in lower case, `''` if it is absent
   * @param url URL or target of the request, with its query
   * @param request where the host still has it
   */
  admit(peer: string, header: (name: string) => string, url: string, request?: R): PendingUpgrade {
    const denial = this.#origins.judge(peer, header);
    if (denial !== undefined) return this.#deny(denial, header);
    const ip = this.#clientOf(request, peer, header);
    if (ip === undefined) return this.#deny(IDENTIFY_FAILED, header);
    const auth = this.#auth;
    const user =
      auth === undefined ? undefined : userOf(auth.verifier.safeVerify(tokenOf(auth, header, url)));
    return this.#reserve(ip, header, user);
  }

  /**
   * Judges a socket that no adapter saw at its handshake. It is denied if `identify`, `auth`,
   * `trustedProxies`, `clientAddress` or `allowedOrigins` need more than is known of it now: nothing that was not judged
   * gets in.
   * @param peer address of the socket's peer
   * @param header returns a header of its request, where the host still has it
   * @param url URL of its request
   * @param request its request
   */
  admitLate(
    peer: string,
    header?: (name: string) => string,
    url = '',
    request?: R,
  ): PendingUpgrade {
    const isBlind =
      header === undefined &&
      (this.#auth !== undefined || this.#clientAddress.readsRequest || this.#origins.isStrict);
    if (this.isAsync || isBlind) return this.#deny(NOT_JUDGED, header ?? (() => ''));
    return this.admit(peer, header ?? (() => ''), url, request);
  }

  /**
   * Admits or refuses a handshake after the application's `identify` or a fetch of keys. Never rejects.
   * @param socket its `close` event ends the wait: the client is gone
   */
  async identify(
    request: R,
    peer: string,
    header: (name: string) => string,
    url: string,
    socket?: ClosableStream,
  ): Promise<PendingUpgrade> {
    const denial = this.#origins.judge(peer, header);
    if (denial !== undefined) return this.#deny(denial, header);
    const ip = this.#clientOf(request, peer, header);
    if (ip === undefined) return this.#deny(IDENTIFY_FAILED, header);
    const auth = this.#auth;
    if (auth !== undefined)
      return this.#reserve(
        ip,
        header,
        userOf(await auth.verifier.authenticate(tokenOf(auth, header, url))),
      );
    try {
      const userId: unknown = await this.#inTime(this.#identify?.(request), socket);
      if (userId === undefined || userId === null) return this.#reserve(ip, header, undefined);
      if (typeof userId !== 'string')
        throw wrongType('identify', userId, 'a function that gives a string, undefined or null');
      return this.#reserve(ip, header, userId);
    } catch (error) {
      if (error instanceof UnauthorizedError)
        return this.#deny({ code: 'unauthorized', reason: error.reason, retryAfterMs: 0 }, header);
      this.#report(error, ip);
      return this.#deny(IDENTIFY_FAILED, header);
    }
  }

  /** Applies `identifyTimeoutMs`. A pending handshake holds no seat, so only this timeout bounds how many wait. */
  #inTime<T>(answer: T | Promise<T>, socket: ClosableStream | undefined): T | Promise<T> {
    const ms = this.#identifyTimeoutMs;
    if (!isThenable(answer)) return answer;
    return new Promise((resolve, reject) => {
      let timer: TimerHandle | undefined;
      const forget = (): void => void timer?.close();
      // Before the timer is armed, which may throw: a rejection of `answer` must be handled in any case.
      Promise.resolve(answer)
        .then(resolve, reject)
        .finally(() => {
          socket?.off('close', forget);
          forget();
        });
      const late = (): void =>
        reject(
          new PortcullisError('ERR_IDENTIFY_TIMEOUT', `identify took longer than ${ms} ms`, {
            field: 'identifyTimeoutMs',
            value: String(ms),
          }),
        );
      timer = this.#timers.setTimeout(late, { delayMs: ms, ref: false, name: 'identify' });
      socket?.once('close', forget);
    });
  }

  /** True for a GET or HEAD of an exempt path; `url` is the URL or the target. */
  isExempt(method: string | undefined, url: string | undefined = ''): boolean {
    if (this.#exempt.size === 0 || (method !== 'GET' && method !== 'HEAD')) return false;
    // Elysia searches for the path from index 11 and misreads URLs with a host of one or two letters: never exempt those.
    if (!url.startsWith('/') && url.indexOf('/', 8) !== url.indexOf('/', 11)) return false;
    const target = targetOf(url);
    const query = target.indexOf('?');
    return this.#exempt.has(query === -1 ? target : target.slice(0, query));
  }

  #reserve(
    ip: string,
    header: (name: string) => string,
    user: string | undefined | ValidationFailure,
  ): PendingUpgrade {
    if (typeof user === 'object')
      return this.#deny(
        { code: user.code, reason: user.reason, retryAfterMs: 0, failure: user },
        header,
      );
    try {
      return this.#pending(this.manager.reserve(ip, user), header);
    } catch (error) {
      // An error here is ours or that of a hook: it must not leave the admission, where it would end the process.
      this.#report(error, ip);
      return this.#deny(IDENTIFY_FAILED, header);
    }
  }

  #deny(denial: AuthDenial, header: (name: string) => string): PendingUpgrade {
    this.#authDenials[denial.code] = (this.#authDenials[denial.code] ?? 0) + 1;
    this.metrics?.recordRefusal(denial.code);
    return this.#pending(denial, header);
  }

  #pending(outcome: Lease | Denial, header: (name: string) => string): PendingUpgrade {
    return new PendingUpgrade(this.manager, outcome, this.#refuseWith, header('user-agent'));
  }

  /** Returns the client's address; `undefined` if the application's `clientAddress` fails. */
  #clientOf(
    request: R | undefined,
    peer: string,
    header: (name: string) => string,
  ): string | undefined {
    try {
      return this.#clientAddress.of(request, peer, header);
    } catch (error) {
      this.#report(error, peer);
      return undefined;
    }
  }

  #report(error: unknown, ip: string): void {
    this.#hooks.run('onIdentifyError', () => this.#onIdentifyError?.(error, ip));
  }
}
