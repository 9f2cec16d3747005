import { TrustedProxies as Trust } from './native.js';
import { type TokenAuth, authOf, tokenOf, userOf } from './auth.js';
import type { ManagedConnection, ManagedSocket } from './connection.js';
import type { Lease } from './connections/admission.js';
import { ConnectionManager } from './connections/manager.js';
import type { ConnectionManagerOptions } from './connections/options.js';
import {
  PortcullisError,
  UnauthorizedError,
  knownOptions,
  outOfRange,
  wholeNumber,
  wrongType,
} from './errors.js';
import type { FailureCode } from './failures.js';
import { Hooks, isThenable } from './hooks.js';
import { type LiveStats, LiveSockets, type SocketHost } from './live.js';
import { ProductionMetrics } from './kpi/metrics.js';
import { type ConnectionLimits, type RefusalCode, TIME_MAX_MS } from './limits.js';
import { targetOf } from './page/hosts.js';
import { LivePage, type PageOptions, checkedPage } from './page/live-page.js';
import { type Answer, RequestGate, type RequestStats, answerWith } from './requests.js';
import { type RequestLimits, type WebSocketLimits, checkedSection } from './resource-limits.js';
import { MESSAGE_OPTIONS, MessageGate, type MessageOptions } from './message-gate.js';
import type { ResourceMonitor } from './resources.js';
import type { TimerHandle } from './timers/handle.js';
import { TimerManager } from './timers/manager.js';
import type { TokenVerifier } from './tokens.js';
import type { ValidationFailure } from './validators/failure.js';

/**
 * Options of every adapter. Either `limits` or a `manager` of your own; with a `manager`, the
 * options that would make one (`timers` and those of `ConnectionManagerOptions`) are its own.
 * `R` is the adapter's request.
 */
export interface GuardOptions<R> extends ConnectionManagerOptions, MessageOptions {
  /** Limits of the manager that is made; required unless a `manager` is given. */
  readonly limits?: ConnectionLimits;
  /** A manager that others use too. */
  readonly manager?: ConnectionManager;
  /** Owner of the manager's timers. Default: a new one. */
  readonly timers?: TimerManager;
  /**
   * Networks (`10.0.0.0/8`) or addresses of your own proxies. Only from these are
   * `X-Forwarded-For` and `Forwarded` read, from the right to the first address that is not
   * trusted. Default: none, the socket's address counts.
   */
  readonly trustedProxies?: readonly string[];
  /**
   * The user behind a request, or `undefined` (or `null`) for an anonymous one. If it throws or rejects, the
   * client is refused with 500 (close code 1011) and is told nothing more, and so it is after `identifyTimeoutMs`.
   */
  readonly identify?: (
    request: R,
  ) => string | null | undefined | Promise<string | null | undefined>;
  /** Milliseconds that `identify` may take: 1 to 2^30. What it says later is not heard. Default 10000. */
  readonly identifyTimeoutMs?: number | undefined;
  /**
   * Lets in only clients with a good token, whose `sub` becomes the user; instead of `identify`.
   * Others get 401 with `WWW-Authenticate` (close code 1008), or 503 (1013) while keys are missing.
   */
  readonly auth?: TokenVerifier | TokenAuth;
  /** Told what `identify` threw. */
  readonly onIdentifyError?: (error: unknown, ip: string) => void;
  /**
   * `http` refuses before the upgrade by status; `close` accepts and closes at once with a code,
   * since browsers cannot read the status of a failed upgrade. Default `http`.
   */
  readonly refuseWith?: 'http' | 'close';
  /** Limits of HTTP requests, those that are missing with their defaults. Default: none are enforced. */
  readonly requests?: Partial<RequestLimits>;
  /**
   * Paths whose `GET` and `HEAD` are neither limited, shed nor counted: those that ask whether the server lives, which load must
   * not decide. Exact, each from `/` on, of visible ASCII, without a query; at most 32. Upgrades are guarded there, too. Default: none.
   */
  readonly exemptPaths?: readonly string[] | undefined;
  /** Limits of WebSockets, those that are missing with their defaults. Default: none are enforced. */
  readonly websockets?: Partial<WebSocketLimits>;
  /** Counts requests, connections, messages, users and refusals. */
  readonly metrics?: ProductionMetrics | undefined;
  /** A page that shows what the server is doing. Default: none. It stands before all limits: who looks after the server must see it when it is full. */
  readonly page?: PageOptions | undefined;
}

/** What the guard has done besides admission, which `manager.getStats()` tells. */
export interface GuardStats {
  readonly requests: RequestStats | undefined;
  readonly websockets: LiveStats;
  /** Upgrades refused for who asked, by code: bad tokens, `unauthorized`, `identify_failed`. Codes that never came up are absent. */
  readonly unidentified: Readonly<
    Partial<Record<'identify_failed' | 'unauthorized' | FailureCode, number>>
  >;
  /** Messages refused by the limits of `json`, by code. */
  readonly invalidMessages: Readonly<Partial<Record<FailureCode, number>>>;
}

/** Why a client is turned away. */
interface Denial {
  readonly code: RefusalCode | 'identify_failed' | 'unauthorized' | FailureCode;
  readonly reason: string;
  readonly retryAfterMs: number;
  /** What is wrong with the client's token. */
  readonly failure?: ValidationFailure;
}

/** A denial that no manager knows of. */
type Unidentified = Denial & { readonly code: 'identify_failed' | 'unauthorized' | FailureCode };

const IDENTIFY_FAILED: Unidentified = {
  code: 'identify_failed',
  reason: 'Could not identify the client',
  retryAfterMs: 0,
};

/** Status before the upgrade and close code after it: the server's own state, or what one key did. */
function codesOf({ code, failure: wrong }: Denial): readonly [status: number, close: number] {
  if (wrong !== undefined) return [wrong.status, wrong.status === 503 ? 1013 : 1008];
  switch (code) {
    case 'identify_failed':
      return [500, 1011];
    case 'unauthorized':
      return [401, 1008];
    case 'ip_rate':
    case 'user_rate':
      return [429, 1013];
    case 'ip_limit':
    case 'unknown_ip_limit':
    case 'prefix_limit':
    case 'user_limit':
    case 'anonymous_ip_limit':
      return [429, 1008];
    default:
      return [503, 1013];
  }
}

function answerOf(denial: Denial): Answer {
  const [status] = codesOf(denial);
  if (denial.code === 'unauthorized') {
    // RFC 6750, 3.1: who came without a token is told nothing but the scheme.
    const challenge =
      denial.reason === 'missing_token'
        ? 'Bearer'
        : `Bearer error="invalid_token", error_description="${denial.reason}"`;
    return answerWith(
      status,
      { code: denial.code, message: 'Unauthorized', reason: denial.reason },
      { 'www-authenticate': challenge },
    );
  }
  const { code, reason, retryAfterMs, failure } = denial;
  if (status === 401)
    return answerWith(
      status,
      { code, message: reason, retryAfterMs },
      { 'www-authenticate': failure?.toWwwAuthenticate() ?? 'Bearer' },
    );
  return answerWith(
    status,
    { code, message: reason, retryAfterMs },
    { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) },
  );
}

/** One client on its way in: refused, or holding a seat until it opens or leaves. @internal */
export class Visit {
  readonly #manager: ConnectionManager;
  readonly #userAgent: string;
  #lease: Lease | undefined;
  #denial: Denial | undefined;
  /** What to answer instead of an upgrade, if anything. */
  readonly answer: Answer | undefined;

  constructor(
    manager: ConnectionManager,
    outcome: Lease | Denial,
    refuseWith: 'http' | 'close',
    userAgent: string,
  ) {
    this.#manager = manager;
    this.#userAgent = userAgent;
    if ('handle' in outcome) this.#lease = outcome;
    else {
      this.#denial = outcome;
      if (refuseWith === 'http') this.answer = answerOf(outcome);
    }
  }

  /** Seats the socket, or closes it by code. */
  open(id: string, socket: ManagedSocket): ManagedConnection | undefined {
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease !== undefined) {
      const result = this.#manager.commit(lease, id, socket, { userAgent: this.#userAgent });
      if (result.success) return result.connection;
      // A manager that was closed meanwhile leaves the lease to its holder.
      this.#manager.abort(lease);
      this.#denial = result;
    }
    if (this.#denial !== undefined) socket.close(codesOf(this.#denial)[1], this.#denial.reason);
    return undefined;
  }

  /** Gives the seat back unless the socket has opened; `false` if there is none to give back. */
  leave(): boolean {
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease !== undefined) this.#manager.abort(lease);
    return lease !== undefined;
  }
}

const OWN = [
  'limits',
  'manager',
  'timers',
  'trustedProxies',
  'identify',
  'identifyTimeoutMs',
  'exemptPaths',
  'auth',
  'onIdentifyError',
  'refuseWith',
  'requests',
  'websockets',
  'page',
  'metrics',
] as const;
const MANAGERS = [
  'name',
  'leaseTimeoutMs',
  'closeTimeoutMs',
  'onFull',
  'onDuplicateId',
  'monitor',
  'onEvict',
  'onRefuse',
  'onRateExceeded',
] as const;

const IDENTIFY_TIMEOUT_MS = 10_000;
const EXEMPT_MAX = 32;

/** A socket, as far as it tells that it has closed. */
interface Closes {
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
export class Door<R> {
  readonly manager: ConnectionManager;
  readonly messages: MessageGate;
  readonly #identify: GuardOptions<R>['identify'];
  readonly #onIdentifyError: GuardOptions<R>['onIdentifyError'];
  readonly #hooks = new Hooks();
  readonly #timers: TimerManager;
  readonly #identifyTimeoutMs: number;
  readonly #exempt: ReadonlySet<string>;
  readonly #unidentified: Partial<Record<Unidentified['code'], number>> = {};
  readonly #refuseWith: 'http' | 'close';
  readonly #trust: Trust | undefined;
  /** Undefined if neither limits of requests nor a monitor were given. */
  readonly gate: RequestGate | undefined;
  readonly live: LiveSockets;
  /** What counts requests and is told what runs. */
  readonly monitor: ResourceMonitor | undefined;
  readonly metrics: ProductionMetrics | undefined;
  readonly #auth: TokenAuth | undefined;
  readonly page: LivePage | undefined;

  constructor(what: string, options: GuardOptions<R>, host: SocketHost) {
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions(what, options, [...OWN, ...MESSAGE_OPTIONS, ...MANAGERS]);
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
    this.#exempt = exemptOf(options.exemptPaths);
    this.#trust = trustOf(options.trustedProxies);
    this.#auth = authOf(options);
    this.messages = new MessageGate(options);
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
    this.gate =
      counted === undefined ? undefined : new RequestGate(counted, timers, this.monitor, metrics);
    this.live = new LiveSockets(websockets, timers, host, this.monitor);
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
      requests: this.gate?.stats(),
      websockets: this.live.stats(),
      unidentified: { ...this.#unidentified },
      invalidMessages: this.messages.refused(),
    };
  }

  /** Refuses newcomers, and lets those go who look at the page. */
  drain(): void {
    if (this.manager.isOpen) this.manager.drain();
    this.gate?.drain();
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
  admit(peer: string, header: (name: string) => string, url: string): Visit {
    const auth = this.#auth;
    const user =
      auth === undefined ? undefined : userOf(auth.verifier.safeVerify(tokenOf(auth, header, url)));
    return this.#enter(peer, header, user);
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
    socket?: Closes,
  ): Promise<Visit> {
    const auth = this.#auth;
    if (auth !== undefined)
      return this.#enter(
        peer,
        header,
        userOf(await auth.verifier.authenticate(tokenOf(auth, header, url))),
      );
    try {
      const userId: unknown = await this.#inTime(this.#identify?.(request), socket);
      if (userId === undefined || userId === null) return this.#enter(peer, header, undefined);
      if (typeof userId !== 'string')
        throw wrongType('identify', userId, 'a function that gives a string, undefined or null');
      return this.#enter(peer, header, userId);
    } catch (error) {
      if (error instanceof UnauthorizedError)
        return this.#turnAway(
          { code: 'unauthorized', reason: error.reason, retryAfterMs: 0 },
          header,
        );
      this.#report(error, this.#clientOf(peer, header));
      return this.#turnAway(IDENTIFY_FAILED, header);
    }
  }

  /** Waits no longer than `identifyTimeoutMs`: a handshake that waits has no seat, and nobody would count how many do. */
  #inTime<T>(answer: T | Promise<T>, socket: Closes | undefined): T | Promise<T> {
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

  #enter(
    peer: string,
    header: (name: string) => string,
    user: string | undefined | ValidationFailure,
  ): Visit {
    if (typeof user === 'object')
      return this.#turnAway(
        { code: user.code, reason: user.reason, retryAfterMs: 0, failure: user },
        header,
      );
    return this.#visit(this.manager.reserve(this.#clientOf(peer, header), user), header);
  }

  #turnAway(denial: Unidentified, header: (name: string) => string): Visit {
    this.#unidentified[denial.code] = (this.#unidentified[denial.code] ?? 0) + 1;
    this.metrics?.recordRefusal(denial.code);
    return this.#visit(denial, header);
  }

  #visit(outcome: Lease | Denial, header: (name: string) => string): Visit {
    return new Visit(this.manager, outcome, this.#refuseWith, header('user-agent'));
  }

  #clientOf(peer: string, header: (name: string) => string): string {
    return this.#trust === undefined
      ? peer
      : this.#trust.client(peer, header('x-forwarded-for'), header('forwarded'));
  }

  #report(error: unknown, ip: string): void {
    this.#hooks.run('onIdentifyError', () => this.#onIdentifyError?.(error, ip));
  }
}

function managerOf<R>(
  options: GuardOptions<R>,
  timers: TimerManager,
  maxConnections = Infinity,
): ConnectionManager {
  const { manager, limits } = options;
  if (!(timers instanceof TimerManager)) throw wrongType('timers', timers, 'a TimerManager');
  if (manager === undefined) {
    if (typeof limits !== 'object' || limits === null)
      throw wrongType('limits', limits, 'an object, unless a manager is given');
    const given = Object.fromEntries(
      MANAGERS.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
    );
    const total = limits.maxTotalConnections;
    const least =
      typeof total === 'number' || total === undefined
        ? Math.min(total ?? Infinity, maxConnections)
        : total;
    // A NaN is not to be hidden by the other.
    return new ConnectionManager(
      maxConnections === Infinity ? limits : { ...limits, maxTotalConnections: least },
      timers,
      given,
    );
  }
  if (maxConnections !== Infinity)
    throw wrongType(
      'websockets.maxConnections',
      maxConnections,
      'absent when a manager is given: it has its own',
    );
  if (!(manager instanceof ConnectionManager))
    throw wrongType('manager', manager, 'a ConnectionManager');
  for (const field of ['limits', 'timers', ...MANAGERS] as const) {
    if (options[field] !== undefined)
      throw wrongType(field, options[field], 'absent when a manager is given: it has its own');
  }
  return manager;
}

/** @internal */
export function trustOf(networks: readonly string[] | undefined): Trust | undefined {
  if (networks === undefined) return undefined;
  if (!Array.isArray(networks))
    throw wrongType('trustedProxies', networks, 'an array of networks such as "10.0.0.0/8"');
  const trust = new Trust();
  for (const [index, network] of networks.entries()) {
    const field = `trustedProxies[${index}]`;
    if (typeof network !== 'string')
      throw wrongType(field, network, 'a network such as "10.0.0.0/8" or an address');
    if (!trust.add(network))
      throw outOfRange(field, network, 'a network such as "10.0.0.0/8" or an address');
  }
  return networks.length === 0 ? undefined : trust;
}

function exemptOf(paths: readonly string[] | undefined): ReadonlySet<string> {
  if (paths === undefined) return new Set();
  if (!Array.isArray(paths))
    throw wrongType('exemptPaths', paths, "an array of paths such as '/healthz'");
  if (paths.length > EXEMPT_MAX)
    throw outOfRange('exemptPaths', paths.length, `at most ${EXEMPT_MAX} paths`);
  for (const [index, path] of paths.entries()) {
    const allowed = "a path such as '/healthz' of visible ASCII characters, without a query";
    if (typeof path !== 'string') throw wrongType(`exemptPaths[${index}]`, path, allowed);
    if (!/^\/[!-~]*$/.test(path) || /[?#\\]/.test(path))
      throw outOfRange(`exemptPaths[${index}]`, path, allowed);
  }
  return new Set(paths);
}

/** Refuses a runtime that the adapter cannot serve. @internal */
export function requireBun(what: string): void {
  if (process.versions['bun'] !== undefined) return;
  throw new PortcullisError(
    'ERR_UNSUPPORTED',
    `${what} needs Bun: on Node use portcullis/ws with an http server`,
    { field: what },
  );
}
