/**
 * Decides what every adapter decides alike: the client's address and user, its seat, the answer to
 * its handshake; and holds what a guarded server shares: limits of requests, open sockets, the page.
 * Adapters translate between their host and this class.
 */
import { outOfRange, PortcullisError, UnauthorizedError, wrongType } from '../base/errors.js';
import { Hooks, isThenable } from '../base/hooks.js';
import { optionsObject, readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { LazyTrace, type RequestTrace, Tracer } from '../base/trace.js';
import type { ConnectionLimits } from '../connections/limits.js';
import { ConnectionManager } from '../connections/manager.js';
import type { ConnectionManagerOptions } from '../connections/options.js';
import type { SocketHost } from '../connections/open-socket.js';
import { OpenSockets, type WebSocketStats } from '../connections/open-sockets.js';
import { type Answer, answerWith, targetOf } from '../http/answer.js';
import { isHandshake, isMalformed, type WaitingClient } from '../http/handshake.js';
import { RequestLimiter, type RequestStats } from '../http/request-limiter.js';
import { isReadAs } from '../http/path-readings.js';
import {
  checkQuestion,
  type LabelledLimiter,
  type RateExplanation,
  type RateQuestion,
  RequestRateLimiter,
  type RequestRateStats,
} from '../http/request-rates.js';
import { rateOptions, type RequestRates } from '../http/rate-options.js';
import { REFUSAL_OPTIONS, RefusalShape } from '../http/refusal-shape.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import { checkedPage, checkPagePath, LivePage, pageOptions } from '../page/live-page.js';
import { checkedSection } from '../resources/resource-limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import { TimerManager } from '../timers/manager.js';
import type { TokenRights } from '../tokens/policy.js';
import type { TokenClaims, TokenResult } from '../tokens/result.js';
import { VerifiedToken } from '../tokens/verified-token.js';
import { ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failure-codes.js';
import { Admission } from './admission.js';
import {
  admissible,
  type AuthConnection,
  authOf,
  type CheckedAuth,
  lackOf,
  userOf,
} from './bearer.js';
import { findToken, hideTokens } from './bearer-places.js';
import {
  answerOf,
  type AuthDenial,
  type AuthDenialCode,
  IDENTIFY_FAILED,
  isFailure,
  MALFORMED,
  NOT_JUDGED,
  RETRY_AFTER_MS,
} from './denial.js';
import { ClientAddress } from './client-address.js';
import { MESSAGE_OPTIONS, JsonMessageFilter } from './json-filter.js';
import { NOT_WAITING, PendingHandshakes, pendingLimitsOf } from './pending-handshakes.js';
import {
  exemptPathsOf,
  type GuardOptions,
  IDENTIFY_TIMEOUT_MS,
  managerOf,
  MANAGER_OPTIONS,
  GUARD_OPTIONS,
} from './options.js';
import { Origins } from './origins.js';
import { TokenWatch } from './token-watch.js';

/** Counts of a guard, besides the admissions that `manager.snapshot()` counts. */
export interface GuardStats {
  /** Requests; `undefined` without limits of requests and without a monitor. */
  readonly requests: RequestStats | undefined;
  /** Rates of requests; `undefined` without any. */
  readonly rates: RequestRateStats | undefined;
  /** Open sockets, and the sockets closed by the limits of `websockets`. */
  readonly websockets: WebSocketStats;
  /** Upgrades refused by authentication, by code; codes without a refusal are absent. */
  readonly authDenials: Readonly<Partial<Record<AuthDenialCode, number>>>;
  /** Messages refused by the limits of `json`, by code. */
  readonly invalidMessages: Readonly<Partial<Record<FailureCode, number>>>;
}

/** The judgement of a token: its user, or the answer to its client. @internal */
export type TokenJudgement =
  | { readonly user: string; readonly claims: TokenClaims; readonly answer: undefined }
  | { readonly user: undefined; readonly answer: Answer };

function denialOf(failure: ValidationFailure): AuthDenial {
  const retryAfterMs = failure.status === 503 ? RETRY_AFTER_MS : 0;
  return { code: failure.code, reason: failure.reason, retryAfterMs, failure };
}

const isDrainingError = (): PortcullisError =>
  new PortcullisError('ERR_CLOSED', 'the server is draining');

const INVALID_HOST = answerWith(400, {
  code: 'invalid_host',
  message: 'The request needs a valid Host',
});
/** Characters of a limiter's label. */
const LABEL_MAX = 128;
/** Limits of requests that are only counted. */
const UNLIMITED = Object.freeze({
  maxConcurrent: Infinity,
  maxConcurrentPerIp: Infinity,
  timeoutMs: Infinity,
  maxPayloadSize: Infinity,
  maxHeaderSize: Infinity,
});

/** A request with the good tokens that guards have found. */
interface JudgedRequest {
  [key: symbol]: VerifiedToken | undefined;
}

/** The guard of one server. `R` is the request of its adapter. @internal */
export class Guard<R extends object> {
  readonly manager: ConnectionManager;
  readonly jsonFilter: JsonMessageFilter;
  readonly #identify: GuardOptions<R>['identify'];
  readonly #onIdentifyError: GuardOptions<R>['onIdentifyError'];
  readonly #hooks = new Hooks();
  readonly #timers: TimerManager;
  readonly #ownsManager: boolean;
  readonly #ownsTimers: boolean;
  readonly #pending: PendingHandshakes;
  /** Admissions that wait for their identity or for the cluster. */
  readonly #waiting = new Set<Admission>();
  readonly #exempt: ReadonlySet<string>;
  #isLeaving = false;
  #isDraining = false;
  /** Made when the signal is first asked for. */
  #drainController: AbortController | undefined;
  #isClosed = false;
  readonly #authDenials: Partial<Record<AuthDenial['code'], number>> = {};
  readonly #refuseWith: 'http' | 'close';
  readonly #clientAddress: ClientAddress<R>;
  readonly #origins: Origins;
  /** Limits of requests; `undefined` without such limits and without a monitor. */
  readonly requests: RequestLimiter | undefined;
  /** True if the application has asked for limits of requests. */
  readonly limitsRequests: boolean;
  readonly openSockets: OpenSockets;
  /** Shapes answers to refused clients; `undefined` for the standard shape. */
  readonly shape: RefusalShape<R> | undefined;
  /** Counts requests and learns which handler runs. */
  readonly monitor: ResourceMonitor | undefined;
  readonly metrics: ProductionMetrics | undefined;
  readonly #auth: CheckedAuth | undefined;
  /** Key of a request's good token: of this guard alone, since another one has another verifier. */
  readonly #tokenKey = Symbol('portcullis.token');
  /** Ends sockets with their tokens; `undefined` without `auth`. */
  readonly #tokens: TokenWatch | undefined;
  readonly page: LivePage | undefined;
  /** Returns the denial of a handshake whose `Host` and target make no URL, on hosts that let it through. */
  misaddressed: ((request: R) => AuthDenial | undefined) | undefined;
  /** Reads the traces of requests. */
  readonly tracer: Tracer;
  /** Label of handshakes, for the monitor. */
  readonly #handshakeLabel: number;
  readonly #routeManagers: ConnectionManager[] = [];
  /** Limiters of requests, those of single routes included. */
  readonly #limiters: LabelledLimiter[] = [];
  /** Whether limiters that this guard makes keep the refused keys as they are. */
  readonly showsClients: boolean;
  /** Options of `requests.rate` that hold for the rates of single routes, too. */
  readonly ratesOfRoutes: Pick<
    RequestRates<R>,
    'headers' | 'ipv6PrefixBits' | 'mode' | 'onRateRefused'
  >;
  /** Options for the managers of routes. */
  readonly #forRoutes: Pick<ConnectionManagerOptions, 'exempt' | 'onRefuse' | 'onObserve'>;

  /** @param own names of the adapter's own options, which it checks */
  constructor(what: string, given: GuardOptions<R>, host: SocketHost, own: readonly string[] = []) {
    optionsObject('options', given);
    const options = readOptions(what, given, [
      ...GUARD_OPTIONS,
      ...MESSAGE_OPTIONS,
      ...MANAGER_OPTIONS,
      ...REFUSAL_OPTIONS,
      ...own,
    ]);
    const { identify, onIdentifyError, onDrain } = options;
    for (const [name, hook] of Object.entries({ identify, onIdentifyError, onDrain })) {
      if (hook !== undefined && typeof hook !== 'function')
        throw wrongType(name, hook, 'a function');
    }
    const { exempt, onRefuse, onObserve } = options;
    this.#forRoutes = { exempt, onRefuse, onObserve };
    this.#identify = identify;
    this.#onIdentifyError = onIdentifyError;
    // Checked first: a page that fails later would leave the manager's name and timers taken.
    const page = options.page === undefined ? undefined : pageOptions(options.page);
    const shown = page && checkedPage(page);
    this.showsClients = shown?.showClients === true;
    const { refuseWith = 'http' } = options;
    if (refuseWith !== 'http' && refuseWith !== 'close')
      throw outOfRange('refuseWith', refuseWith, "'http' or 'close'");
    this.#refuseWith = refuseWith;
    const identifyTimeoutMs = wholeNumber(
      'identifyTimeoutMs',
      options.identifyTimeoutMs,
      1,
      TIME_MAX_MS,
      IDENTIFY_TIMEOUT_MS,
    );
    const maxPending = pendingLimitsOf(options);
    this.#exempt = exemptPathsOf(options.exemptPaths);
    if (shown !== undefined) {
      const exempt = [...this.#exempt].map((path) => [path, 'exemptPaths'] as const);
      checkPagePath(shown.path, exempt);
    }
    this.#clientAddress = new ClientAddress(options.clientAddress, options.trustedProxies);
    this.#origins = new Origins(options.allowedOrigins, this.#clientAddress.proxies);
    this.#auth = authOf(options);
    this.jsonFilter = new JsonMessageFilter(options);
    this.tracer = new Tracer(options.requestIdHeader);
    this.shape = RefusalShape.of(options, this.tracer);
    this.limitsRequests = options.requests !== undefined;
    const givenRate = options.requests?.rate;
    const rate = givenRate === undefined ? undefined : rateOptions(givenRate);
    const requests =
      options.requests === undefined
        ? undefined
        : checkedSection('requests', options.requests, ['rate']);
    const websockets =
      options.websockets === undefined
        ? undefined
        : checkedSection('websockets', options.websockets);
    const { timers = options.manager?.timers ?? new TimerManager({ name: 'portcullis' }) } =
      options;
    this.#timers = timers;
    const rates =
      rate === undefined
        ? undefined
        : new RequestRateLimiter(rate, timers.driver.clock, this.tracer, this.showsClients);
    const { headers, ipv6PrefixBits, mode, onRateRefused } = rate ?? {};
    this.ratesOfRoutes = { headers, ipv6PrefixBits, mode, onRateRefused };
    this.#ownsManager = options.manager === undefined;
    this.#ownsTimers = this.#ownsManager && options.timers === undefined;
    const { metrics } = options;
    if (metrics !== undefined && !(metrics instanceof ProductionMetrics))
      throw wrongType('metrics', metrics, 'a ProductionMetrics');
    this.metrics = metrics;
    this.manager = managerOf(options, timers, websockets?.maxConnections);
    this.manager.allowPending(identifyTimeoutMs);
    this.manager.uses(host);
    const { proxies } = this.#clientAddress;
    if (proxies !== undefined) this.manager.neverBan((ip) => proxies.trusts(ip));
    if (rates !== undefined) rates.onRefused = (clientOf) => this.manager.rateRefused(clientOf());
    this.#pending = new PendingHandshakes(this.manager, timers, identifyTimeoutMs, maxPending);
    this.#tokens = this.#auth === undefined ? undefined : new TokenWatch(this.#auth, timers);
    metrics?.attach(this.manager);
    for (const limiter of rates?.labelled() ?? []) this.showLimiter(limiter);
    this.monitor = this.manager.monitor;
    this.#handshakeLabel = this.monitor?.label('WebSocket handshake') ?? 0;
    const counted = requests ?? (this.monitor === undefined ? undefined : UNLIMITED);
    this.requests =
      counted === undefined
        ? undefined
        : new RequestLimiter(
            counted,
            timers,
            this.monitor,
            metrics,
            rates,
            this.tracer,
            this.manager.ipv6PrefixBits,
          );
    if (this.requests !== undefined) this.requests.shape = this.shape;
    this.openSockets = new OpenSockets(websockets, timers, host, this.monitor);
    if (onDrain !== undefined)
      this.openSockets.onDrain = (connection) =>
        this.#hooks.run('onDrain', () => onDrain(connection as AuthConnection));
    this.page =
      page === undefined
        ? undefined
        : new LivePage(
            { monitor: this.monitor, metrics, ...page },
            {
              connections: this.manager,
              timers,
              stats: () => this.snapshot(),
              limiters: () => this.#limiters,
            },
          );
  }

  /** Returns the address of a request's client, as admissions judge it. `refusesClient` has refused those without one. */
  clientOf(request: R, peer: string, header: (name: string) => string): string {
    return this.#clientOf(request, peer, header) ?? peer;
  }

  /** Returns the trace of a request; the same one at each call. @throws ERR_INVALID_ARG_TYPE for a value that is no request */
  traceOf(request: R): RequestTrace {
    const { headers } = (request ?? {}) as { readonly headers?: unknown };
    if (typeof request !== 'object' || typeof headers !== 'object' || headers === null)
      throw wrongType('request', request, 'a request of the guarded server');
    return this.tracer.of(request);
  }

  /**
   * Notes a handshake that is about to be judged, on hosts where it is no request in flight: a stall is reported
   * with it.
   */
  handshakeBegins(request: R): void {
    this.monitor?.mark(this.#handshakeLabel, this.lazyTraceOf(request));
  }

  /** Returns the trace of a request, whose headers are read when it is asked for. */
  lazyTraceOf(request: R | undefined): LazyTrace | undefined {
    return request === undefined ? undefined : new LazyTrace(this.tracer, request);
  }

  /** Counts at this moment. */
  snapshot(): GuardStats {
    return {
      requests: this.requests?.snapshot(),
      rates: this.requests?.rates?.snapshot(),
      websockets: this.openSockets.stats(),
      authDenials: { ...this.#authDenials },
      invalidMessages: this.jsonFilter.refused(),
    };
  }

  /** Returns the rates that a request of a client would meet. */
  explainRates(client: RateQuestion): RateExplanation[] {
    const rates = this.requests?.rates;
    if (rates !== undefined) return rates.explain(client);
    checkQuestion(client);
    return [];
  }

  /** From now on each answer tells its client that the connection ends, where the adapter answers. */
  notReady(): void {
    this.#isLeaving = true;
  }

  /** Whether answers tell their clients that the connection ends. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** True after `close()` of the guard or of its manager. */
  get isClosed(): boolean {
    return this.#isClosed || !this.manager.isOpen;
  }

  /**
   * Aborts at the beginning of the drain. All requests share it: a controller for each of them would cost
   * an allocation that only endless responses use.
   */
  get draining(): AbortSignal {
    if (this.#drainController === undefined) {
      this.#drainController = new AbortController();
      if (this.#isDraining) this.#drainController.abort(isDrainingError());
    }
    return this.#drainController.signal;
  }

  /** Refuses new connections and requests, ends the streams of the page, and aborts `draining`. */
  drain(): void {
    this.#isLeaving = true;
    this.#isDraining = true;
    if (this.manager.isOpen) this.manager.drain();
    this.#refuseWaiting();
    this.requests?.drain();
    this.page?.drain();
    // Last: listeners of the application run within this call.
    this.#drainController?.abort(isDrainingError());
  }

  /**
   * Ends what the guard made: its page, its manager with all connections, its timers. A given manager and given
   * timers stay open. May be called again.
   */
  close(): void {
    this.#isClosed = true;
    this.#refuseWaiting();
    this.page?.close();
    this.requests?.close();
    if (this.#ownsManager) {
      if (this.manager.isOpen) this.manager.close();
      this.metrics?.detach(this.manager);
    }
    for (const { limiter, isOwn } of this.#limiters) {
      if (!isOwn) continue;
      this.metrics?.detachLimiter(limiter);
      limiter.release();
    }
    for (const manager of this.#routeManagers) if (manager.isOpen) manager.close();
    if (this.#ownsTimers) this.#closeTimers();
  }

  /** Ends the timers once no closing socket waits for its peer: one that does not answer is terminated by a timer. */
  #closeTimers(): void {
    const managers = new Set([this.manager, ...this.#routeManagers]);
    for (const manager of managers)
      manager.whenSocketsEnd(() => {
        managers.delete(manager);
        if (managers.size === 0) this.#timers.close();
      });
  }

  /**
   * Refuses the handshakes that wait: nobody would tell them of the end otherwise, since an `identify` may never settle
   * and the timers of a shutdown end with it.
   */
  #refuseWaiting(): void {
    for (const admission of this.#waiting)
      admission.deny(this.manager.refuseWaiting('draining', admission.ip, admission.trace));
  }

  /** True if the guard has a verifier of tokens. */
  get verifiesTokens(): boolean {
    return this.#auth !== undefined;
  }

  /** True if handshakes need an identity, or a token. */
  get identifies(): boolean {
    return this.#identify !== undefined || this.#auth !== undefined;
  }

  /** Shows a limiter of requests in the metrics and on the page; a label is cut to 128 characters. */
  showLimiter(given: LabelledLimiter): void {
    const shown = { ...given, label: given.label.slice(0, LABEL_MAX) };
    this.#limiters.push(shown);
    this.metrics?.attachLimiter(shown.limiter, shown.label);
  }

  /** Returns a manager for the further seats of one route. It ends with the guard. */
  routeManager(limits: ConnectionLimits): ConnectionManager {
    const { mode } = this.manager;
    const { exempt, onRefuse, onObserve } = this.#forRoutes;
    const manager = new ConnectionManager(mode === undefined ? limits : { ...limits, mode }, {
      timers: this.#timers,
      exempt,
      onRefuse,
      onObserve,
    });
    this.#routeManagers.push(manager);
    return manager;
  }

  /** Takes a further seat for an admitted client: that of its route. */
  seatIn(manager: ConnectionManager, { ip }: Admission, request: R): Admission {
    const further = new Admission(manager, this.#refuseWith, ip, '', this.lazyTraceOf(request));
    further.seatAnonymous();
    if (further.denial !== undefined) this.metrics?.recordRefusal(further.denial.code);
    return this.#shaped(further, request);
  }

  /** Returns the admission of an admitted client whose token lacks a right of its route: a denied one. */
  withoutRight({ ip }: Admission, lack: ValidationFailure, request: R): Admission {
    const denied = new Admission(this.manager, this.#refuseWith, ip, '');
    this.#deny(denied, denialOf(lack));
    return this.#shaped(denied, request);
  }

  /**
   * Judges the token of a request that takes no seat; needs `auth`. Never throws or rejects: an error of the
   * verifier goes to `onIdentifyError`.
   * @param peer address of the socket's peer
   * @returns its user, or its answer without a valid token; a promise where keys may have to be fetched
   */
  judgeToken(
    peer: string,
    header: (name: string) => string,
    url: string,
    request: R,
    further?: TokenRights,
  ): TokenJudgement | Promise<TokenJudgement> {
    const auth = this.#auth;
    const clientOf = (): string | undefined => this.#clientOf(request, peer, header);
    if (auth === undefined) return this.#judged(IDENTIFY_FAILED, request, clientOf);
    const { verifier, rights } = auth;
    const judge = (result: TokenResult): TokenJudgement => {
      const user = userOf(result, rights);
      const lack =
        user instanceof ValidationFailure || further === undefined
          ? undefined
          : lackOf(further, user);
      return this.#judged(lack ?? user, request, clientOf);
    };
    const failed = (error: unknown): TokenJudgement =>
      this.#judged(this.#denialFor(error, clientOf() ?? peer, request), request, clientOf);
    try {
      const found = findToken(auth.places, header, url);
      // Browsers attach cookies to the requests of every page.
      const denial = found.place === 'cookie' ? this.#origins.judge(peer, header) : undefined;
      if (denial !== undefined) return this.#judged(denial, request, clientOf);
      return verifier.isRemote
        ? verifier.authenticate(found.token).then(judge).catch(failed)
        : judge(verifier.safeVerify(found.token));
    } catch (error) {
      return failed(error);
    }
  }

  /** Returns the denial for an error of the application's or of a verifier, and reports the error. */
  #denialFor(error: unknown, ip: string, request: R | undefined): AuthDenial {
    if (error instanceof UnauthorizedError)
      return { code: 'unauthorized', reason: error.reason, retryAfterMs: 0 };
    this.#report(this.#identify === undefined ? 'auth' : 'identify', error, ip, request);
    return IDENTIFY_FAILED;
  }

  /** True if a request, which is no handshake, needs a token. */
  needsToken(
    method: string | undefined,
    url: string | undefined,
    header: (name: string) => string,
  ): boolean {
    return (
      this.#auth?.http?.needs(method, url ?? '', header) === true && !this.isExempt(method, url)
    );
  }

  /** True if some requests need a token. */
  get judgesRequests(): boolean {
    return this.#auth?.http !== undefined;
  }

  /** @param clientOf returns the client's address, if it is known */
  #judged(
    user: VerifiedToken | ValidationFailure | AuthDenial,
    request: R,
    clientOf: () => string | undefined,
  ): TokenJudgement {
    if (user instanceof VerifiedToken)
      return { user: user.user, claims: user.claims, answer: undefined };
    const denial = user instanceof ValidationFailure ? denialOf(user) : user;
    this.#countDenial(denial);
    this.#countFailure(denial, clientOf);
    const answer = answerOf(denial);
    return { user: undefined, answer: this.shape?.shaped(answer, request) ?? answer };
  }

  /**
   * True if an admission needs `identify`, since `identify()` of the application, a key set or a cluster may
   * answer later.
   */
  get isAsync(): boolean {
    return (
      this.#identify !== undefined ||
      this.#auth?.verifier.isRemote === true ||
      this.manager.isClustered
    );
  }

  /**
   * Admits or refuses a handshake at once.
   * @param peer address of the socket's peer
   * @param header returns a header by its name in lower case, `''` if it is absent
   * @param url URL or target of the request, with its query
   * @param request where the host still has it
   * @param isFree true if the client's address is known to have no ban: see `judgesHandshakes`
   */
  admit(
    peer: string,
    header: (name: string) => string,
    url: string,
    request?: R,
    isFree = false,
  ): Admission {
    const admission = this.#arrival(request, peer, header, isFree);
    const auth = this.#auth;
    // An error here is ours or a hook's: uncaught it would end the process.
    try {
      if (auth === undefined) admission.seatAnonymous();
      else {
        admission.seat();
        if (admission.isSeated) {
          const { token } = findToken(auth.places, header, url);
          this.#grant(
            admission,
            this.#judgedOf(request) ?? admissible(auth.verifier.verifyLazily(token), auth.rights),
          );
        }
      }
    } catch (error) {
      this.#failed(admission, error, request);
    }
    this.#hideTokens(header, request);
    return this.#shaped(admission, request);
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
  admitLate(peer: string, header?: (name: string) => string, url = '', request?: R): Admission {
    const isBlind =
      header === undefined &&
      (this.#auth !== undefined || this.#clientAddress.readsRequest || this.#origins.isStrict);
    const read = header ?? (() => '');
    if (!this.isAsync && !isBlind) return this.admit(peer, read, url, request);
    const admission = new Admission(this.manager, this.#refuseWith, peer, read('user-agent'));
    this.#deny(admission, NOT_JUDGED);
    this.#hideTokens(read, request);
    return admission;
  }

  /**
   * Admits or refuses a handshake after the application's `identify`, a fetch of keys or an answer of the
   * cluster. Takes the seat of the address first, and gives it back if the client is refused, leaves or takes too long. Never
   * rejects.
   * @param client reports that the client has left
   */
  async identify(
    request: R,
    peer: string,
    header: (name: string) => string,
    url: string,
    client?: WaitingClient,
  ): Promise<Admission> {
    const admission = this.#arrival(request, peer, header);
    this.#waiting.add(admission);
    try {
      admission.seat();
      if (!admission.isSeated || !this.#pending.admits(admission))
        return this.#shaped(admission, request);
      const auth = this.#auth;
      const answer: unknown =
        auth === undefined
          ? this.#identify?.(request)
          : this.#authenticated(auth, findToken(auth.places, header, url).token, request);
      const user: unknown = isThenable(answer)
        ? await this.#pending.wait(admission, client, answer)
        : answer;
      this.#grant(admission, user);
      await admission.confirmed(client);
    } catch (error) {
      this.#failed(admission, error, request);
    } finally {
      this.#waiting.delete(admission);
      this.#hideTokens(header, request);
    }
    return this.#shaped(admission, request);
  }

  /** Returns what is known of the token of a request that `hasToken` was called for. */
  #judgedOf(request: R | undefined): VerifiedToken | undefined {
    return request === undefined
      ? undefined
      : (request as unknown as JudgedRequest)[this.#tokenKey];
  }

  #authenticated(
    { verifier, rights }: CheckedAuth,
    token: string | undefined,
    request: R,
  ): VerifiedToken | Promise<VerifiedToken | ValidationFailure> {
    return (
      this.#judgedOf(request) ??
      verifier.authenticate(token).then((result) => userOf(result, rights))
    );
  }

  /**
   * Takes the tokens out of the subprotocols of a judged handshake, a denied one included: a host may complete it to
   * close it by code.
   */
  #hideTokens(header: (name: string) => string, request: R | undefined): void {
    if (this.#auth !== undefined) hideTokens(this.#auth.places, header, request);
  }

  /**
   * Returns the HTTP answer to a client that was to be refused by close code, and whose handshake the host could
   * not complete.
   */
  statusAnswerOf(admission: Admission, request: R): Answer {
    const { statusAnswer } = admission;
    return this.shape?.shaped(statusAnswer, request) ?? statusAnswer;
  }

  /** Notes the good token of a request, so that its admission does not verify it once more. */
  hasToken(request: R, judgement: TokenJudgement): void {
    if (judgement.answer !== undefined) return;
    const token = VerifiedToken.of(judgement.claims);
    (request as unknown as JudgedRequest)[this.#tokenKey] = token;
  }

  /** Gives a denied admission the answer that the application wants. */
  #shaped(admission: Admission, request: R | undefined): Admission {
    if (this.shape === undefined) return admission;
    const { answer } = admission;
    if (answer !== undefined) admission.answerWith(this.shape.shaped(answer, request));
    return admission;
  }

  /**
   * Returns the admission of a handshake that arrives: denied if its address is banned or unknown, or if its page
   * is not allowed.
   */
  #arrival(
    request: R | undefined,
    peer: string,
    header: (name: string) => string,
    isFree = false,
  ): Admission {
    const ip = this.#clientOf(request, peer, header);
    const trace = this.lazyTraceOf(request);
    const agent = header('user-agent');
    const admission = new Admission(this.manager, this.#refuseWith, ip ?? peer, agent, trace);
    // First of all: the work for a banned client is the same whatever it sends.
    const banned =
      ip === undefined || isFree ? undefined : this.manager.refuseBanned(ip, undefined, trace);
    if (banned !== undefined) admission.deny(banned);
    else {
      const denial =
        this.#origins.judge(peer, header) ??
        (ip === undefined ? IDENTIFY_FAILED : this.#formOf(header)) ??
        (request === undefined ? undefined : this.misaddressed?.(request));
      if (denial !== undefined) this.#deny(admission, denial);
    }
    return admission;
  }

  /** Returns the denial of a malformed handshake; without bans the host refuses it. */
  #formOf(header: (name: string) => string): AuthDenial | undefined {
    const isHere = this.manager.hasBans && isHandshake('GET', header('upgrade'));
    return isHere && isMalformed(header) ? MALFORMED : undefined;
  }

  /**
   * True if some clients are refused before any limit: banned ones, and those whose address the application may not
   * find, where requests are limited.
   */
  get judgesClients(): boolean {
    return this.manager.hasBans || (this.limitsRequests && this.#clientAddress.mayFail);
  }

  /**
   * True if `refusesClient` judges handshakes: one that it has let pass comes from an address without a ban. In `observe`
   * mode only the admission counts a ban, so that it counts once.
   */
  get judgesHandshakes(): boolean {
    return this.judgesClients && this.#refuseWith !== 'close' && this.manager.mode !== 'observe';
  }

  /**
   * Returns the answer to a request without a valid `Host` (RFC 9112, section 3.2), where limits of requests or of
   * paths hold: a router that makes a URL of host and target would find a path that the guard does not know.
   */
  refusesHost(isValid: boolean, request: R): Answer | undefined {
    if (isValid || !(this.limitsRequests || this.judgesRequests)) return undefined;
    return this.shape?.shaped(INVALID_HOST, request) ?? INVALID_HOST;
  }

  /** Returns the answer to an upgrade whose `Host` and target make no URL. */
  refusesAddress(request: R, peer: string, header: (name: string) => string): Answer | undefined {
    const denial = this.misaddressed?.(request);
    return denial === undefined
      ? undefined
      : this.#judged(denial, request, () => this.#clientOf(request, peer, header)).answer;
  }

  /**
   * Returns the answer to a request of a banned address, or of a client whose address is not known because
   * `clientAddress` has failed; `undefined` for all others.
   * @param isUpgrade true for a handshake, which its admission judges
   */
  refusesClient(
    request: R,
    peer: string,
    header: (name: string) => string,
    isUpgrade = false,
  ): Answer | undefined {
    if (!this.judgesClients) return undefined;
    const { manager } = this;
    if (isUpgrade && !this.judgesHandshakes) return undefined;
    const unknown = isUpgrade ? undefined : this.refusesUnknown(request, peer, header);
    if (unknown !== undefined) return unknown;
    const ip = manager.hasBans ? this.#clientOf(request, peer, header) : undefined;
    const leftMs = ip === undefined ? 0 : manager.bannedForMs(ip);
    if (ip === undefined || leftMs === 0) return undefined;
    const banned = manager.refuseBanned(ip, undefined, this.lazyTraceOf(request), leftMs);
    if (banned === undefined) return undefined;
    const answer = answerOf(banned);
    return this.shape?.shaped(answer, request) ?? answer;
  }

  /** Returns the answer to a request of a client whose address is not known because `clientAddress` has failed. */
  refusesUnknown(request: R, peer: string, header: (name: string) => string): Answer | undefined {
    if (!this.#clientAddress.mayFail) return undefined;
    return this.#clientOf(request, peer, header) === undefined
      ? this.#judged(IDENTIFY_FAILED, request, () => undefined).answer
      : undefined;
  }

  #failed(admission: Admission, error: unknown, request: R | undefined): void {
    // The seat is given back and the client denied already: a limit, or the client has left.
    if (error === NOT_WAITING) return undefined;
    return this.#deny(admission, this.#denialFor(error, admission.ip, request));
  }

  /** Takes the seat of an identified client, or denies it. */
  #grant(admission: Admission, user: unknown): void {
    if (user instanceof ValidationFailure) return this.#deny(admission, denialOf(user));
    if (user instanceof VerifiedToken && this.#tokens !== undefined) {
      admission.hasToken(user, this.#tokens);
      return admission.identify(user.user);
    }
    if (user !== undefined && user !== null && typeof user !== 'string')
      throw wrongType('identify', user, 'a function that gives a string, undefined or null');
    return admission.identify(user ?? undefined);
  }

  /** True for a GET or HEAD of an exempt path; `url` is the URL or the target. */
  isExempt(method: string | undefined, url: string | undefined = ''): boolean {
    if (this.#exempt.size === 0 || (method !== 'GET' && method !== 'HEAD')) return false;
    // Elysia searches for the path from index 11 and misreads URLs with a host of one or two letters: never exempt those.
    if (!url.startsWith('/') && url.indexOf('/', 8) !== url.indexOf('/', 11)) return false;
    const target = targetOf(url);
    const query = target.indexOf('?');
    const path = query === -1 ? target : target.slice(0, query);
    return this.#exempt.has(path) && (url.startsWith('/') || isReadAs(url, path));
  }

  /**
   * Judges the page of a further request of a session that holds its seat already.
   * @returns the answer to a page that is not allowed
   */
  refusesPage(peer: string, header: (name: string) => string, request: R): Answer | undefined {
    const denial = this.#origins.judge(peer, header);
    if (denial === undefined) return undefined;
    this.#countDenial(denial);
    const answer = answerOf(denial);
    return this.shape?.shaped(answer, request) ?? answer;
  }

  #countDenial({ code }: AuthDenial): void {
    this.#authDenials[code] = (this.#authDenials[code] ?? 0) + 1;
    this.metrics?.recordRefusal(code);
  }

  /** Counts a failure towards a ban; a client whose address is unknown has none. */
  #countFailure(denial: AuthDenial, clientOf: () => string | undefined): void {
    if (!this.manager.hasBans || !isFailure(denial)) return;
    const ip = clientOf();
    if (ip !== undefined) this.manager.failed(ip);
  }

  #deny(admission: Admission, denial: AuthDenial): void {
    this.#countDenial(denial);
    this.#countFailure(denial, () => admission.ip);
    admission.deny(denial);
  }

  /** Returns the client's address; `undefined` if the application's `clientAddress` fails, which is reported once. */
  #clientOf(
    request: R | undefined,
    peer: string,
    header: (name: string) => string,
  ): string | undefined {
    try {
      return this.#clientAddress.of(request, peer, header);
    } catch (error) {
      this.#report('clientAddress', error, peer, request);
      return undefined;
    }
  }

  #report(hook: string, error: unknown, ip: string, request: R | undefined): void {
    const onError = this.#onIdentifyError;
    if (onError === undefined) return this.#hooks.warn(hook, error);
    const trace = this.lazyTraceOf(request);
    this.#hooks.run('onIdentifyError', () => onError(error, ip, trace));
  }
}
