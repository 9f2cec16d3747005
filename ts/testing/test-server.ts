/** A stand-in for the server of an Elysia app, for tests of admission without sockets. */
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { requestHeaders } from '../base/header-fields.js';
import { knownOptions, optionsObject } from '../base/options.js';
import { canParseUrl } from '../base/parsable.js';
import { FakeSocket } from './fake-socket.js';

/** An Elysia app, as far as a test server stands in for its server. */
export interface TestableApp {
  server: unknown;
  handle(request: Request): Promise<Response>;
}

const ORIGIN = 'http://localhost/';

/** Options of a test server. */
export interface TestServerOptions {
  /** Address that requests come from: that of a client, or of a proxy. Default `127.0.0.1`. */
  readonly address?: string | undefined;
}

/** A request of a test. */
export interface TestRequest {
  /** Address that it comes from. Default: that of the server. */
  readonly address?: string | undefined;
  /** Headers, by name. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Handlers that an app gives to its server for one socket. */
interface SocketEvents {
  open?(socket: TestSocket): unknown;
  message?(socket: TestSocket, data: unknown): unknown;
  close?(socket: TestSocket, code: number, reason: string): unknown;
}

/** The socket of an admitted client: the server's end, whose calls it records, and the client's. */
export class TestSocket extends FakeSocket {
  /** Data of the upgrade: `ws.data` of the handlers. */
  readonly data: unknown;
  /** Address of its peer. */
  readonly remoteAddress: string;
  /** Topics that it has subscribed to. */
  readonly subscriptions: string[] = [];
  /** Type of binary messages. */
  readonly binaryType = 'nodebuffer';

  /**
   * @param data data of the upgrade
   * @param remoteAddress address of its peer
   */
  constructor(data: unknown, remoteAddress: string) {
    super();
    this.data = data;
    this.remoteAddress = remoteAddress;
  }

  /**
   * Sends a message as the client. Handlers may answer later.
   * @param data text or bytes
   */
  receive(data: string | Uint8Array): void {
    if (this.readyState === 1) this.#events.message?.(this, data);
  }

  /**
   * Leaves as the client.
   * @param code close code; 1006 for a client that vanishes
   * @param reason close reason
   */
  leave(code = 1000, reason = ''): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#events.close?.(this, code, reason);
  }

  /**
   * Records a close, and reports the end of the socket to the app.
   * @param code close code
   * @param reason close reason
   */
  override close(code?: number, reason?: string): void {
    if (this.readyState !== 1) return;
    super.close(code, reason);
    // As on Bun, which reports the end from within the call.
    this.leave(code ?? 1000, reason ?? '');
  }

  /** Records that the connection was terminated, and reports the end of the socket with 1006. */
  override terminate(): void {
    if (this.readyState === 3) return;
    super.terminate();
    this.#events.close?.(this, 1006, '');
  }

  /**
   * Records a message.
   * @param data the message
   * @returns a positive number: the message was sent
   */
  override send(data: unknown): number {
    super.send(data);
    return typeof data === 'string' ? Buffer.byteLength(data) : 1;
  }

  /** As `send()`. */
  sendText(data: string): number {
    return this.send(data);
  }

  /** As `send()`. */
  sendBinary(data: unknown): number {
    return this.send(data);
  }

  /** Returns 0: a test's client reads at once. */
  getBufferedAmount(): number {
    return 0;
  }

  /** Does nothing: a test's client answers no pings. */
  ping(): void {}
  /** Does nothing. */
  pong(): void {}
  /** Does nothing: no other socket is there. */
  publish(): number {
    return 0;
  }
  /** As `publish()`. */
  publishText(): number {
    return 0;
  }
  /** As `publish()`. */
  publishBinary(): number {
    return 0;
  }

  /** Notes a topic. */
  subscribe(topic: string): void {
    if (!this.isSubscribed(topic)) this.subscriptions.push(topic);
  }

  /** Forgets a topic. */
  unsubscribe(topic: string): void {
    if (this.isSubscribed(topic)) this.subscriptions.splice(this.subscriptions.indexOf(topic), 1);
  }

  /** Whether a topic was noted. */
  isSubscribed(topic: string): boolean {
    return this.subscriptions.includes(topic);
  }

  /** Calls `work` at once. */
  cork<T>(work: (socket: this) => T): T {
    return work(this);
  }

  get #events(): SocketEvents {
    return (this.data ?? {}) as SocketEvents;
  }
}

/** The outcome of a handshake. */
export interface TestUpgrade {
  /** 101 if the client was admitted, else the status of its refusal. */
  readonly status: number;
  readonly response: Response;
  /** The socket of an admitted client. Refused by close code, its `closed` has the code. */
  readonly socket: TestSocket | undefined;
}

/** True for a request, also for one of another class: a test runner may have a `Request` of its own. */
function isRequest(value: unknown): value is Request {
  const { url, headers } = (value ?? {}) as Partial<Request>;
  return typeof value === 'object' && typeof url === 'string' && typeof headers?.get === 'function';
}

/** Returns the URL of a path on the server. @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
function urlOf(field: string, path: unknown, allowed: string): string {
  if (typeof path !== 'string') throw wrongType(field, path, allowed);
  if (!canParseUrl(path, ORIGIN)) throw outOfRange(field, path, allowed);
  return new URL(path, ORIGIN).href;
}

/** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION */
function checkedTestRequest(options: TestRequest): {
  readonly address: string | undefined;
  readonly headers: Record<string, string>;
} {
  optionsObject('options', options);
  knownOptions('a request of testServer', options, ['address', 'headers']);
  const { address, headers = {} } = options;
  if (address !== undefined && typeof address !== 'string')
    throw wrongType('address', address, 'a string');
  return { address, headers: requestHeaders('headers', headers) };
}

/** A stand-in for an app's server; see `testServer()`. */
export class TestServer {
  readonly #app: TestableApp;
  readonly #handle: TestableApp['handle'];
  readonly #address: string;
  readonly #addresses = new WeakMap<Request, string>();
  readonly #sockets = new WeakMap<Request, TestSocket>();
  readonly #open = new Set<TestSocket>();
  readonly #hadHandle: boolean;

  /**
   * @param app the app
   * @param options see `TestServerOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION
   */
  constructor(app: TestableApp, options: TestServerOptions = {}) {
    if (typeof (app as Partial<TestableApp> | null)?.handle !== 'function')
      throw wrongType('app', app, 'an Elysia app');
    if (typeof app.server === 'object' && app.server !== null)
      throw wrongType('app', app, 'an app that does not listen');
    optionsObject('options', options);
    knownOptions('testServer', options, ['address']);
    const { address = '127.0.0.1' } = options;
    if (typeof address !== 'string') throw wrongType('address', address, 'a string');
    this.#app = app;
    this.#address = address;
    this.#hadHandle = Object.hasOwn(app, 'handle');
    const handle = app.handle;
    this.#handle = handle;
    // Elysia answers an upgrade with an empty response, since its socket is the answer.
    app.handle = async (request) => {
      const response = await handle.call(app, request);
      return this.#sockets.has(request) ? new Response(null, { status: 101 }) : response;
    };
    app.server = {
      url: new URL(ORIGIN),
      pendingRequests: 0,
      pendingWebSockets: 0,
      requestIP: (request: Request) => ({
        address: this.#addresses.get(request) ?? this.#address,
        port: 0,
        family: 'IPv4',
      }),
      upgrade: (request: Request, given: { readonly data?: unknown } = {}) =>
        this.#upgrade(request, given.data),
      stop: () => Promise.resolve(),
      reload: () => undefined,
      timeout: () => undefined,
      publish: () => 0,
      subscriberCount: () => 0,
    };
  }

  #upgrade(request: Request, data: unknown): boolean {
    const asked = request.headers.get('upgrade')?.toLowerCase();
    if (request.method !== 'GET' || asked !== 'websocket') return false;
    const socket = new TestSocket(data, this.#addresses.get(request) ?? this.#address);
    this.#sockets.set(request, socket);
    this.#open.add(socket);
    (data as SocketEvents | undefined)?.open?.(socket);
    return true;
  }

  /**
   * Sends a request. `app.handle(request)` does the same, from the address of the server. Limits of bodies read
   * `Content-Length`, which a request made by hand lacks.
   * @param request a request, or its path
   * @param options address and headers; headers for a path only
   * @returns the answer; 101 for an admitted handshake. Rejects with ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE and
   * ERR_UNKNOWN_OPTION
   */
  async fetch(request: Request | string, options: TestRequest = {}): Promise<Response> {
    const { address, headers } = checkedTestRequest(options);
    if (!isRequest(request))
      return this.#send(
        new Request(urlOf('request', request, 'a Request or a path'), { headers }),
        address,
      );
    if (options.headers !== undefined)
      throw wrongType('headers', options.headers, 'absent: the request has its own');
    return this.#send(request, address);
  }

  #send(request: Request, address: string | undefined): Promise<Response> {
    if (address !== undefined) this.#addresses.set(request, address);
    return this.#app.handle(request);
  }

  /**
   * Sends a handshake.
   * @param path path of a `.ws()` route
   * @param options address and headers
   * @returns the status, and the socket of an admitted client
   * @throws ERR_UNSUPPORTED on Node, where Elysia leaves WebSockets to the server of its adapter; ERR_INVALID_ARG_TYPE,
   * ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
   */
  async upgrade(path: string, options: TestRequest = {}): Promise<TestUpgrade> {
    if (process.versions['bun'] === undefined)
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        'upgrade() of a test server needs Bun: on Node Elysia opens WebSockets on the server of its adapter only',
        { field: 'upgrade' },
      );
    const { address, headers } = checkedTestRequest(options);
    const request = new Request(urlOf('path', path, 'a path'), {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        ...headers,
      },
    });
    const response = await this.#send(request, address);
    return { status: response.status, response, socket: this.#sockets.get(request) };
  }

  /** Ends all sockets, and gives the app its own `handle` and no server back. May be called again. */
  close(): void {
    for (const socket of this.#open) socket.leave(1001);
    this.#open.clear();
    this.#app.server = null;
    if (this.#hadHandle) this.#app.handle = this.#handle;
    else delete (this.#app as Partial<TestableApp>).handle;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Puts a stand-in in the place of an Elysia app's server, so that `app.handle(request)` is admitted or refused as
 * a client is: without a port, a socket or a wait. The app must not listen. Handshakes need Bun; on Node requests are tried.
 *
 * @param app the app
 * @param options see `TestServerOptions`
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION
 * @example
 * const app = new Elysia().use(portcullis({ limits: { maxConnectionsPerIp: 1 } })).ws('/ws', handlers);
 * using server = testServer(app, { address: '192.0.2.1' });
 * const { socket } = await server.upgrade('/ws');
 * (await server.upgrade('/ws')).status; // 429
 * socket.leave();
 * (await server.upgrade('/ws')).status; // 101
 */
export function testServer(app: TestableApp, options?: TestServerOptions): TestServer {
  return new TestServer(app, options);
}
