/** The live page: one document, one stream of figures, for whoever may look. Adapters hand it requests. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { outOfRange, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { ConnectionManager } from '../connections/manager.js';
import { targetOf } from '../http/answer.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import { ResourceMonitor } from '../resources/monitor.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import { Access, type PageRequest } from './access.js';
import { DOCUMENT, SCRIPT_HASH, STYLE_HASH } from './document.js';
import { answerPage, pageResponse, type PageReply } from './hosts.js';
import { type PageSources, Recorder } from './recorder.js';
import type { PageSnapshot } from './snapshot.js';
import { type Sink, Viewers } from './viewers.js';

/** Where the live page is, and who may look at it. */
export interface PageOptions {
  /** Where: such as `/portcullis`. Its figures are below it, at `/events` and `/snapshot`. */
  readonly path: string;
  /**
   * Whoever presents it may look, from anywhere: as bearer token, or as the password of any user name,
   * which browsers ask for. 16 to 512 visible ASCII characters. Default: none, and then the page is for
   * this machine only: for loopback addresses at `localhost`, and not through a proxy.
   */
  readonly token?: string | undefined;
  /** Its heading: 1 to 60 characters. Default `Portcullis`. */
  readonly title?: string | undefined;
  /** How many may look at once: 1 to 64. Default 8. */
  readonly maxViewers?: number | undefined;
  /** Event loop, memory and CPU. Default: the guard's own option `monitor`, or not in use. */
  readonly monitor?: ResourceMonitor | undefined;
  /** Score, rates, latencies and recommendations. Default: the guard's own option `metrics`, or not in use. */
  readonly metrics?: ProductionMetrics | undefined;
  /** The layers of a middleware chain. Default: that of the builder, or not in use. */
  readonly chain?: PageSources['chain'];
}

const OPTIONS = ['path', 'token', 'title', 'maxViewers', 'monitor', 'metrics', 'chain'] as const;
const SECOND_MS = 1000;
/** Seconds for which what only viewers would see is looked at, after figures were asked for. */
const ASKED_FOR = 10;

const SAFE = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
} as const;
const HTML = {
  ...SAFE,
  'content-type': 'text/html; charset=utf-8',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'content-security-policy': [
    "default-src 'none'",
    `script-src '${SCRIPT_HASH}'`,
    `style-src '${STYLE_HASH}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  vary: 'accept-encoding',
} as const;

let zipped: Buffer | undefined;

/**
 * A page that shows what the server is doing, once a second, without anything from outside: one HTML
 * document and a stream of server-sent events. Reading it changes nothing.
 *
 * It keeps ten minutes of figures, so that whoever opens it sees what led there. Adapters make one of
 * their option `page`; with a server of your own, hand it requests by `fetch` or `handle`.
 *
 * @example
 * const page = new LivePage({ path: '/portcullis', monitor }, { connections: manager, timers });
 * createServer((request, response) => page.handle(request, response) || response.end('hello'));
 */
export class LivePage {
  /** Where it is, without a slash at its end. */
  readonly path: string;
  readonly #hooks = new Hooks();
  readonly #access: Access;
  readonly #viewers: Viewers;
  readonly #recorder: Recorder;
  readonly #maxViewers: number;
  readonly #tick: TimerHandle;
  readonly #forget: () => void;
  #latest: PageSnapshot;
  #denied = 0;
  #asked = 0;
  #isClosed = false;

  /**
   * @param options see `PageOptions`
   * @param sources what adapters know of: connections, timers, refusals
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
   */
  constructor(
    options: PageOptions,
    sources: Pick<PageSources, 'connections' | 'timers' | 'stats'>,
  ) {
    const { path, title, maxViewers } = checkedPage(options);
    if (typeof sources !== 'object' || sources === null)
      throw wrongType('sources', sources, 'an object');
    const { connections, timers, stats } = sources;
    if (!(connections instanceof ConnectionManager))
      throw wrongType('sources.connections', connections, 'a ConnectionManager');
    if (!(timers instanceof TimerManager))
      throw wrongType('sources.timers', timers, 'a TimerManager');
    this.path = path;
    this.#access = new Access(options.token);
    this.#viewers = new Viewers(maxViewers);
    this.#maxViewers = maxViewers;
    const { monitor, metrics, chain } = options;
    this.#recorder = new Recorder(
      { connections, timers, stats, monitor, metrics, chain },
      title,
      maxViewers,
    );
    this.#latest = this.#recorder.look(0, 0, false);
    this.#tick = timers.setInterval(() => this.#lookSafely(), {
      delayMs: SECOND_MS,
      ref: false,
      name: 'page.second',
    });
    this.#forget = timers.onCleanup(() => this.close());
  }

  /** What is looked at may be the application's own: its error must not end the server. */
  #lookSafely(): void {
    this.#hooks.run('page', () => this.#look());
  }

  get #isSeen(): boolean {
    return this.#viewers.size > 0 || this.#asked > 0;
  }

  #look(): void {
    const viewers = this.#viewers.size;
    this.#asked = Math.max(0, this.#asked - 1);
    this.#latest = this.#recorder.look(viewers, this.#denied, this.#isSeen);
    if (viewers > 0) this.#viewers.show(frame('snapshot', this.#latest));
  }

  /** How many look at it. */
  get viewers(): number {
    return this.#viewers.size;
  }

  /** What it shows, at most a second old. */
  snapshot(): PageSnapshot {
    return this.#latest;
  }

  /** Says that the server is draining, and lets the viewers go: they must not hold it up. */
  drain(): void {
    this.#recorder.drain();
    if (!this.#isClosed) this.#lookSafely();
    this.close();
  }

  /** Ends it: viewers are let go, new streams get 503. May be called again. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tick.close();
    this.#forget();
    this.#viewers.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Answers a request for the page.
   * @param peer the socket's address, such as Bun's `server.requestIP(request)?.address`
   * @returns `undefined` if the request is for something else
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
   * Answers a request for the page.
   * @returns `false` if the request is for something else; then nothing was done
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

  /** Whether a request is for the page. @internal */
  isFor(request: Request): boolean {
    return this.owns(targetOf(request.url));
  }

  /** Whether a path, with its query, is the page's. @internal */
  owns(target: string): boolean {
    const { path } = this;
    if (!target.startsWith(path)) return false;
    const next = target.charCodeAt(path.length);
    // The end, a slash or a query.
    return Number.isNaN(next) || next === 47 || next === 63;
  }

  /** Answers a request that it owns. @internal */
  reply(request: PageRequest): PageReply {
    const path = request.target.slice(this.path.length).split('?', 1)[0]!;
    const what =
      path === '' || path === '/'
        ? 'page'
        : path === '/events'
          ? 'events'
          : path === '/snapshot'
            ? 'snapshot'
            : undefined;
    if (what === undefined) return text(404, 'There is nothing here.');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return text(405, 'It can only be looked at.', { allow: 'GET, HEAD' });
    const denied = this.#access.judge(request, what !== 'page');
    if (denied !== undefined) {
      this.#denied++;
      return text(
        denied.status,
        denied.message,
        denied.status === 401
          ? { 'www-authenticate': 'Basic realm="Portcullis", charset="UTF-8"' }
          : {},
      );
    }
    if (what === 'page') return document(request);
    // Who comes first must not see that nobody is connected because nobody has looked.
    if (!this.#isSeen && !this.#isClosed) {
      const viewers = what === 'events' && request.method === 'GET' ? 1 : 0;
      this.#hooks.run(
        'page',
        () => void (this.#latest = this.#recorder.completed(this.#latest, viewers, this.#denied)),
      );
    }
    this.#asked = ASKED_FOR;
    if (what === 'snapshot')
      return {
        status: 200,
        headers: { ...SAFE, 'content-type': 'application/json' },
        body: JSON.stringify(this.#latest),
      };
    const headers = { ...SAFE, 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' };
    if (request.method === 'HEAD') return { status: 200, headers, body: '' };
    if (this.#isClosed) return text(503, 'The server is ending.', { 'retry-after': '5' });
    if (this.#viewers.isFull)
      return text(503, `${this.#maxViewers} are looking already.`, { 'retry-after': '30' });
    return { status: 200, headers, watch: (sink) => this.#viewers.add(sink, this.#opening()) };
  }

  /** What a viewer gets first. `retry` is how soon a browser comes back after its stream has ended. */
  #opening(): string {
    return `retry: 1000\n${frame('history', this.#recorder.history())}${frame('snapshot', this.#latest)}`;
  }
}

/** JSON holds no line break: one line of data is one message. */
function frame(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function text(
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): PageReply {
  return {
    status,
    headers: { ...SAFE, 'content-type': 'text/plain; charset=utf-8', ...headers },
    body: `${body}\n`,
  };
}

function document({ header }: PageRequest): PageReply {
  if (!/\bgzip\b/.test(header('accept-encoding')))
    return { status: 200, headers: HTML, body: DOCUMENT };
  zipped ??= gzipSync(DOCUMENT);
  return { status: 200, headers: { ...HTML, 'content-encoding': 'gzip' }, body: zipped };
}

/** @internal */
export function checkedPage(options: PageOptions): {
  readonly path: string;
  readonly title: string;
  readonly maxViewers: number;
} {
  if (typeof options !== 'object' || options === null)
    throw wrongType('page', options, 'an object');
  knownOptions('page', options, OPTIONS);
  const { path, token, title = 'Portcullis', monitor, metrics, chain } = options;
  const paths = 'a path such as "/portcullis", of letters, digits and -._~/';
  if (typeof path !== 'string') throw wrongType('page.path', path, paths);
  if (path.length > 200 || !/^(?:\/[A-Za-z0-9._~-]+)+\/?$/.test(path))
    throw outOfRange('page.path', path, paths);
  if (token !== undefined && typeof token !== 'string')
    throw wrongType('page.token', undefined, 'a string');
  // Its text stays out of the message.
  if (token !== undefined && !/^[\x21-\x7e]{16,512}$/.test(token))
    throw outOfRange('page.token', undefined, '16 to 512 visible ASCII characters');
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
  return { path: path.replace(/\/$/, ''), title, maxViewers };
}
