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
import type { Trust } from '../native/addon.js';
import { checkedPage, LivePage } from '../page/live-page.js';
import { checkedSection } from '../resources/limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import type { ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failures.js';
import { authOf, type TokenAuth, tokenOf, userOf } from './bearer.js';
import { MESSAGE_OPTIONS, JsonMessageFilter } from './json-filter.js';
import {
  exemptPathsOf,
  type GuardOptions,
  IDENTIFY_TIMEOUT_MS,
  managerOf,
  MANAGER_OPTIONS,
  GUARD_OPTIONS,
  trustedProxiesOf,
} from './options.js';
import { type Denial, IDENTIFY_FAILED, type AuthDenial, PendingUpgrade } from './upgrade.js';

/** What the guard has done besides admission, which `manager.snapshot()` tells. */
export interface GuardStats {
  readonly requests: RequestStats | undefined;
  readonly websockets: WebSocketStats;
  /** Upgrades refused for who asked, by code: bad tokens, `unauthorized`, `identify_failed`. Codes that never came up are absent. */
  readonly authDenials: Readonly<
    Partial<Record<'identify_failed' | 'unauthorized' | FailureCode, number>>
  >;
  /** Messages refused by the limits of `json`, by code. */
  readonly invalidMessages: Readonly<Partial<Record<FailureCode, number>>>;
}

/** A socket, as far as it tells that it has closed. */
interface ClosableStream {
  once(event: 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

/** For requests that are only counted. */
const UNLIMITED = Object.freeze({
  maxConcurrent: Infinity,
  timeoutMs: Infinity,
  maxPayloadSize: Infinity,
  maxHeaderSize: Infinity,
});

/** What every adapter decides in the same way. `R` is its request. @internal */
export class Guard<R> {
  readonly manager: ConnectionManager;
  readonly jsonFilter: JsonMessageFilter;
  readonly #identify: GuardOptions<R>['identify'];
  readonly #onIdentifyError: GuardOptions<R>['onIdentifyError'];
  readonly #hooks = new Hooks();
  readonly #timers: TimerManager;
  readonly #identifyTimeoutMs: number;
  readonly #exempt: ReadonlySet<string>;
  readonly #authDenials: Partial<Record<AuthDenial['code'], number>> = {};
  readonly #refuseWith: 'http' | 'close';
  readonly #trustedProxies: Trust | undefined;
  /** Undefined if neither limits of requests nor a monitor were given. */
  readonly requests: RequestLimiter | undefined;
  readonly openSockets: OpenSockets;
  /** What counts requests and is told what runs. */
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
    // A copy: what is checked is what is used, and it cannot fail once the manager has its name and its timers.
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
    this.#trustedProxies = trustedProxiesOf(options.trustedProxies);
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
            { connections: this.manager, timers, stats: () => this.stats() },
          );
  }

  stats(): GuardStats {
    return {
      requests: this.requests?.stats(),
      websockets: this.openSockets.stats(),
      authDenials: { ...this.#authDenials },
      invalidMessages: this.jsonFilter.refused(),
    };
  }

  /** Refuses newcomers, and lets those go who look at the page. */
  drain(): void {
    if (this.manager.isOpen) this.manager.drain();
    this.requests?.drain();
    this.page?.drain();
  }

  /** Whether a visit has to be waited for. */
  get isAsync(): boolean {
    return this.#identify !== undefined || this.#auth?.verifier.isRemote === true;
  }

  /**
   * Takes a seat or refuses, at once.
   * @param peer the socket's address
   * @param header reads a header by its name in lower case; `''` if absent
   * @param url what was asked for, with its query
   */
  admit(peer: string, header: (name: string) => string, url: string): PendingUpgrade {
    const auth = this.#auth;
    const user =
      auth === undefined ? undefined : userOf(auth.verifier.safeVerify(tokenOf(auth, header, url)));
    return this.#reserve(peer, header, user);
  }

  /**
   * As `admit`, after asking `identify` or waiting for keys. Never rejects.
   * @param socket whose close tells that the client has gone, and that nobody waits any more
   */
  async identify(
    request: R,
    peer: string,
    header: (name: string) => string,
    url: string,
    socket?: ClosableStream,
  ): Promise<PendingUpgrade> {
    const auth = this.#auth;
    if (auth !== undefined)
      return this.#reserve(
        peer,
        header,
        userOf(await auth.verifier.authenticate(tokenOf(auth, header, url))),
      );
    try {
      const userId: unknown = await this.#inTime(this.#identify?.(request), socket);
      if (userId === undefined || userId === null) return this.#reserve(peer, header, undefined);
      if (typeof userId !== 'string')
        throw wrongType('identify', userId, 'a function that gives a string, undefined or null');
      return this.#reserve(peer, header, userId);
    } catch (error) {
      if (error instanceof UnauthorizedError)
        return this.#deny({ code: 'unauthorized', reason: error.reason, retryAfterMs: 0 }, header);
      this.#report(error, this.#clientOf(peer, header));
      return this.#deny(IDENTIFY_FAILED, header);
    }
  }

  /** Waits no longer than `identifyTimeoutMs`: a handshake that waits has no seat, and nobody would count how many do. */
  #inTime<T>(answer: T | Promise<T>, socket: ClosableStream | undefined): T | Promise<T> {
    const ms = this.#identifyTimeoutMs;
    if (!isThenable(answer)) return answer;
    return new Promise((resolve, reject) => {
      let timer: TimerHandle | undefined;
      const forget = (): void => void timer?.close();
      // First: whatever becomes of the timer, a rejection is heard.
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

  /** Whether a request is for a path that is exempt, by its method and its URL or target. */
  isExempt(method: string | undefined, url: string | undefined = ''): boolean {
    if (this.#exempt.size === 0 || (method !== 'GET' && method !== 'HEAD')) return false;
    // Elysia looks for the path from the 12th character on: behind a host of a letter or two it finds another one than is there.
    if (!url.startsWith('/') && url.indexOf('/', 8) !== url.indexOf('/', 11)) return false;
    const target = url.startsWith('/') ? url : targetOf(url);
    const query = target.indexOf('?');
    return this.#exempt.has(query === -1 ? target : target.slice(0, query));
  }

  #reserve(
    peer: string,
    header: (name: string) => string,
    user: string | undefined | ValidationFailure,
  ): PendingUpgrade {
    if (typeof user === 'object')
      return this.#deny(
        { code: user.code, reason: user.reason, retryAfterMs: 0, failure: user },
        header,
      );
    return this.#pending(this.manager.reserve(this.#clientOf(peer, header), user), header);
  }

  #deny(denial: AuthDenial, header: (name: string) => string): PendingUpgrade {
    this.#authDenials[denial.code] = (this.#authDenials[denial.code] ?? 0) + 1;
    this.metrics?.recordRefusal(denial.code);
    return this.#pending(denial, header);
  }

  #pending(outcome: Lease | Denial, header: (name: string) => string): PendingUpgrade {
    return new PendingUpgrade(this.manager, outcome, this.#refuseWith, header('user-agent'));
  }

  #clientOf(peer: string, header: (name: string) => string): string {
    return this.#trustedProxies === undefined
      ? peer
      : this.#trustedProxies.client(peer, header('x-forwarded-for'), header('forwarded'));
  }

  #report(error: unknown, ip: string): void {
    this.#hooks.run('onIdentifyError', () => this.#onIdentifyError?.(error, ip));
  }
}
