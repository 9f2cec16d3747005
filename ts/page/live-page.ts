/**
 * The live page: a document and a stream of figures for allowed viewers. Adapters pass it requests;
 * it looks at the server once a second.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { outOfRange, secretOutOfRange, wrongSecretType, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { hasDotSegment, optionsObject, readOptions, wholeNumber } from '../base/options.js';
import { ConnectionManager } from '../connections/manager.js';
import { targetOf } from '../http/answer.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import type { ChainSnapshot } from '../middleware/contract.js';
import { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import { type Access, LocalAccess, type PageRequest, TokenAccess } from './access.js';
import { originOf, printLink, warnOff } from './announcement.js';
import { answerPage, pageResponse, type PageReply } from './hosts.js';
import { masked, SHOWN } from './mask.js';
import { type PageSources, Recorder } from './recorder.js';
import { documentReply, eventFrame, jsonReply, STREAM_HEADERS, textReply } from './replies.js';
import type { PageSnapshot } from './snapshot.js';
import { isProduction, madeToken } from './token.js';
import { Viewers } from './viewers.js';

/** Options of the live page: its path and its access control. */
export interface PageOptions {
  /**
   * Path of the document, such as `/portcullis`: letters, digits and `-._~/`, without the segments `.` and `..`, at
   * most 200 characters. Its figures are at `/events` and `/snapshot` below, and the page answers every path below: a
   * path at or above one of `exemptPaths` is an error.
   */
  readonly path: string;
  /**
   * Token that opens the page: by the link `<path>?token=<token>`, which exchanges it for a cookie,
   * as bearer token, or as the password of any user name, which browsers ask for. 16 to 512 visible
   * ASCII characters. Default: in production (`NODE_ENV`) the page is off; elsewhere a token is made,
   * and its link is printed to a terminal.
   */
  readonly token?: string | undefined;
  /**
   * `token`: the page needs a token. `local`: it needs none, and is available to loopback addresses
   * at `localhost`. **Hazard:** behind a proxy on the same machine, or in the same pod, every client
   * has a loopback address. The page refuses requests with a forwarding header, but nginx with
   * nothing but `proxy_pass` sends none, and a loopback `Host`: the page is then open to the world.
   * Default `token`.
   */
  readonly access?: 'token' | 'local' | undefined;
  /**
   * Whether addresses and users are shown as they are. Otherwise the page and its snapshot show the
   * network of an address (24 bits of IPv4, 48 of IPv6) and a pseudonym of a user; so they do for the keys
   * that rate limiters refuse. Default `false`.
   */
  readonly showClients?: boolean | undefined;
  /** Heading of the page: 1 to 60 characters. Default `Portcullis`. */
  readonly title?: string | undefined;
  /** Greatest number of open streams: 1 to 64. Default 8. */
  readonly maxViewers?: number | undefined;
  /**
   * Source of event loop, memory and CPU. Default: the guard's own option `monitor`, or not in use.
   */
  readonly monitor?: ResourceMonitor | undefined;
  /**
   * Source of score, rates, latencies and recommendations. Default: the guard's own option
   * `metrics`, or not in use.
   */
  readonly metrics?: ProductionMetrics | undefined;
  /** Middleware chain whose layers are shown. Default: the builder's own, or not in use. */
  readonly chain?:
    | {
        /** Returns the figures of the layers. */
        snapshot(): ChainSnapshot;
      }
    | undefined;
}

const OPTIONS = [
  'path',
  'token',
  'access',
  'showClients',
  'title',
  'maxViewers',
  'monitor',
  'metrics',
  'chain',
] as const;
const SECOND_MS = 1000;
/** Seconds after a request for figures in which the slow parts of a snapshot are still computed. */
const INTEREST_S = 10;
/** Paths below the page's own. */
const RESOURCES: Readonly<Record<string, 'document' | 'events' | 'snapshot'>> = {
  '': 'document',
  '/': 'document',
  '/events': 'events',
  '/snapshot': 'snapshot',
};

/**
 * Serves a page that shows the state of the server, updated once a second: one HTML document
 * without external resources, and a stream of server-sent events. Reading it changes nothing.
 *
 * The page keeps ten minutes of figures, so a new viewer sees the time before a problem. Adapters
 * create it from their option `page`; a server without an adapter passes requests to `fetch` or
 * `handle`.
 *
 * @example
 * const page = new LivePage({ path: '/portcullis', monitor }, { connections: manager, timers });
 * createServer((request, response) => page.handle(request, response) || response.end('hello'));
 */
export class LivePage {
  /** Path of the document, without a slash at its end. */
  readonly path: string;
  readonly #hooks = new Hooks();
  /** `undefined` if the page is off. */
  readonly #access: Access | undefined;
  /** A token that the page made, until its link is printed. */
  #unprinted: string | undefined;
  #awaitsServer = false;
  readonly #viewers: Viewers;
  readonly #recorder: Recorder;
  readonly #maxViewers: number;
  readonly #timer: TimerHandle;
  readonly #unsubscribe: () => void;
  #latest: PageSnapshot;
  /** True if a second has passed since `#latest` that was only glanced at. */
  #isOutdated = false;
  #denied = 0;
  /** Seconds for which the page still counts as seen after the last request for figures. */
  #interestS = 0;
  #isClosed = false;

  /**
   * Creates a page and starts its timer.
   * @param options see `PageOptions`
   * @param sources connections, timers and refusals, see `PageSources`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
   */
  constructor(options: PageOptions, sources: PageSources) {
    const given = pageOptions(options);
    const { path, title, maxViewers, isLocal, showClients } = checkedPage(given);
    optionsObject('sources', sources);
    const { connections, timers, stats, limiters } = sources;
    if (!(connections instanceof ConnectionManager))
      throw wrongType('sources.connections', connections, 'a ConnectionManager');
    if (!(timers instanceof TimerManager))
      throw wrongType('sources.timers', timers, 'a TimerManager');
    this.path = path;
    if (!isLocal && given.token === undefined) {
      if (isProduction()) warnOff(path);
      else this.#unprinted = madeToken(path);
    }
    const token = given.token ?? this.#unprinted;
    if (isLocal) this.#access = new LocalAccess();
    else if (token !== undefined) this.#access = new TokenAccess(token, path);
    this.#viewers = new Viewers(maxViewers);
    this.#maxViewers = maxViewers;
    const { monitor, metrics, chain } = given;
    this.#recorder = new Recorder(
      { connections, timers, stats, limiters, monitor, metrics, chain },
      title,
      maxViewers,
      showClients ? SHOWN : masked(),
    );
    this.#latest = this.#recorder.look(0, 0, false);
    this.#timer = timers.setInterval(() => this.#lookSafely(), {
      delayMs: SECOND_MS,
      ref: false,
      name: 'page.second',
    });
    this.#unsubscribe = timers.onCleanup(() => this.close());
  }

  /** An application's own source, such as its chain, may throw: that must not end the server. */
  #lookSafely(): void {
    this.#hooks.run('page', () => this.#look());
  }

  get #isSeen(): boolean {
    return this.#viewers.size > 0 || this.#interestS > 0;
  }

  #look(): void {
    // No adapter knows the server's address: the link goes without it.
    if (!this.#awaitsServer) this.announce(undefined);
    const viewers = this.#viewers.size;
    this.#interestS = Math.max(0, this.#interestS - 1);
    this.#isOutdated = !this.#isSeen;
    if (this.#isOutdated) return this.#recorder.glance();
    this.#latest = this.#recorder.look(viewers, this.#denied, true);
    if (viewers > 0) this.#viewers.show(eventFrame('snapshot', this.#latest));
  }

  /** False in production without `token` and without `access: 'local'`: then the page answers nothing. */
  get isOn(): boolean {
    return this.#access !== undefined;
  }

  /** Number of open streams. */
  get viewers(): number {
    return this.#viewers.size;
  }

  /** Returns the figures of the page, at most a second old. */
  snapshot(): PageSnapshot {
    if (this.#isOutdated) this.#hooks.run('page', () => this.#complete(this.#viewers.size, false));
    return this.#latest;
  }

  /** Gathers the figures of the latest second, at which nobody looked. */
  #complete(viewers: number, isSeen: boolean): void {
    this.#isOutdated = false;
    this.#latest = this.#recorder.completed(viewers, this.#denied, isSeen);
  }

  /**
   * Shows viewers that the server is draining, then closes the page, so that they do not delay a
   * shutdown.
   */
  drain(): void {
    this.#recorder.drain();
    if (!this.#isClosed) this.#lookSafely();
    this.close();
  }

  /**
   * Ends the timer and all streams. New streams get 503; the document and the last figures are
   * still served. May be called again.
   */
  close(): void {
    if (this.#isClosed) return;
    // The last figures are served from now on.
    try {
      if (this.#isOutdated) this.#complete(0, false);
    } catch {
      // A source was closed before the page, or is one of the application's that throws: earlier figures.
    }
    this.#isClosed = true;
    this.#timer.close();
    this.#unsubscribe();
    this.#viewers.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Answers a `Request` for the page.
   * @param request a request with its absolute URL
   * @param peer the socket's address, such as Bun's `server.requestIP(request)?.address`
   * @returns `undefined` if the request is not for the page
   * @throws ERR_INVALID_ARG_TYPE
   */
  fetch(request: Request, peer: string): Response | undefined {
    if (
      typeof request !== 'object' ||
      request === null ||
      typeof request.url !== 'string' ||
      typeof request.headers?.get !== 'function'
    ) {
      throw wrongType('request', request, 'a Request');
    }
    if (typeof peer !== 'string') throw wrongType('peer', peer, 'an address');
    return pageResponse(this, request, peer);
  }

  /**
   * Answers a request of `node:http` for the page.
   * @param request a request that nothing has read yet
   * @param response its response, which nothing has written to yet
   * @returns `false` if the request is not for the page; it is then left untouched
   * @throws ERR_INVALID_ARG_TYPE
   */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    if (
      typeof request !== 'object' ||
      request === null ||
      typeof request.url !== 'string' ||
      typeof request.headers !== 'object'
    ) {
      throw wrongType('request', request, 'a request of node:http');
    }
    if (typeof response !== 'object' || response === null)
      throw wrongType('response', response, 'a response of node:http');
    return answerPage(this, request, response);
  }

  /**
   * Prints the link of a page that made its token; later calls do nothing.
   * @param origin of the server that listens, such as `http://localhost:3000`
   * @internal
   */
  announce(origin: string | undefined): void {
    const token = this.#unprinted;
    if (token === undefined) return;
    this.#unprinted = undefined;
    printLink(this.path, token, origin);
  }

  /** Leaves the link to a call of `announce()`, which comes when the server listens. @internal */
  awaitServer(): void {
    this.#awaitsServer = true;
  }

  /** Prints the link once a server of `node:http` listens. @internal */
  announceOn(server: Server): void {
    if (this.#unprinted === undefined) return;
    this.awaitServer();
    if (server.listening) this.announce(originOf(server));
    else server.once('listening', () => this.announce(originOf(server)));
  }

  /** True if a request is for the page. @internal */
  isFor(request: Request): boolean {
    const { url } = request;
    // Most URLs do not contain the path, and the search for their target would make three strings.
    return url.includes(this.path) && this.owns(targetOf(url));
  }

  /** True if a path, with its query, belongs to the page. @internal */
  owns(target: string): boolean {
    const { path } = this;
    if (this.#access === undefined || !target.startsWith(path)) return false;
    const next = target.charCodeAt(path.length);
    // The end, a slash or a question mark.
    return Number.isNaN(next) || next === 47 || next === 63;
  }

  /** Answers a request that the page owns. @internal */
  reply(request: PageRequest): PageReply {
    const path = request.target.slice(this.path.length).split('?', 1)[0]!;
    const resource = RESOURCES[path];
    if (resource === undefined) return textReply(404, 'Not found.');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return textReply(405, 'Only GET and HEAD are allowed.', { allow: 'GET, HEAD' });
    const other = this.#access?.check(request, resource !== 'document');
    if (other !== undefined) {
      if (other.status !== 303) this.#denied++;
      return textReply(other.status, other.message, other.headers);
    }
    if (resource === 'document') return documentReply(request);
    const isStream = resource === 'events' && request.method === 'GET';
    this.#completeLatest(isStream ? 1 : 0);
    if (resource === 'snapshot') return jsonReply(this.#latest);
    return isStream ? this.#stream() : { status: 200, headers: STREAM_HEADERS, body: '' };
  }

  /** Gathers the figures that are left out without viewers. */
  #completeLatest(viewers: number): void {
    if (!this.#isSeen && !this.#isClosed)
      this.#hooks.run('page', () => this.#complete(viewers, true));
    this.#interestS = INTEREST_S;
  }

  #stream(): PageReply {
    if (this.#isClosed)
      return textReply(503, 'The server is shutting down.', { 'retry-after': '5' });
    if (this.#viewers.isFull) {
      const text = `The page has ${this.#maxViewers} viewers already.`;
      return textReply(503, text, { 'retry-after': '30' });
    }
    return {
      status: 200,
      headers: STREAM_HEADERS,
      watch: (sink) => this.#viewers.add(sink, this.#firstFrame()),
    };
  }

  /**
   * The history and the latest snapshot. `retry` is the time after which a browser reconnects, ms.
   */
  #firstFrame(): string {
    const history = eventFrame('history', this.#recorder.history());
    return `retry: 1000\n${history}${eventFrame('snapshot', this.#latest)}`;
  }
}

/** Returns a plain copy of the options of a page. @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION @internal */
export function pageOptions(given: PageOptions): PageOptions {
  optionsObject('page', given);
  return readOptions('page', given, OPTIONS, 'page.');
}

/**
 * Refuses a page at the path of something else, or above it: the page would answer.
 * @param others paths, each with what it is
 * @throws ERR_OUT_OF_RANGE
 * @internal
 */
export function checkPagePath(
  path: string,
  others: Iterable<readonly [path: string, what: string]>,
): void {
  for (const [other, what] of others)
    if (other === path || other.startsWith(`${path}/`))
      throw outOfRange(
        'page.path',
        path,
        `a path that is not that of ${what}, ${other}, nor above it`,
      );
}

/** Checks the options of a page, made by `pageOptions`, and fills in the defaults. @internal */
export function checkedPage(options: PageOptions): {
  readonly path: string;
  readonly title: string;
  readonly maxViewers: number;
  readonly isLocal: boolean;
  readonly showClients: boolean;
} {
  const { path, token, title = 'Portcullis', monitor, metrics, chain } = options;
  const { access = 'token', showClients = false } = options;
  const paths =
    'a path such as "/portcullis", of letters, digits and -._~/, without the segments . and ..';
  if (typeof path !== 'string') throw wrongType('page.path', path, paths);
  if (path.length > 200 || !/^(?:\/[A-Za-z0-9._~-]+)+\/?$/.test(path) || hasDotSegment(path))
    throw outOfRange('page.path', path, paths);
  if (token !== undefined && typeof token !== 'string')
    throw wrongSecretType('page.token', token, 'a string');
  // The message must not contain the token.
  if (token !== undefined && !/^[\x21-\x7e]{16,512}$/.test(token))
    throw secretOutOfRange('page.token', token, '16 to 512 visible ASCII characters');
  if (access !== 'token' && access !== 'local')
    throw outOfRange('page.access', access, "'token' or 'local'");
  if (access === 'local' && token !== undefined)
    throw outOfRange('page.access', access, "'token' where page.token is given");
  if (typeof showClients !== 'boolean')
    throw wrongType('page.showClients', showClients, 'true or false');
  if (typeof title !== 'string' || title === '' || title.length > 60)
    throw wrongType('page.title', title, 'a string of 1 to 60 characters');
  const maxViewers = wholeNumber('page.maxViewers', options.maxViewers, 1, 64, 8);
  if (monitor !== undefined && !(monitor instanceof ResourceMonitor))
    throw wrongType('page.monitor', monitor, 'a ResourceMonitor');
  if (metrics !== undefined && !(metrics instanceof ProductionMetrics))
    throw wrongType('page.metrics', metrics, 'a ProductionMetrics');
  if (
    chain !== undefined &&
    typeof (chain as { snapshot?: unknown } | null)?.snapshot !== 'function'
  )
    throw wrongType('page.chain', chain, 'a MiddlewareChain');
  return {
    path: path.replace(/\/$/, ''),
    title,
    maxViewers,
    isLocal: access === 'local',
    showClients,
  };
}
