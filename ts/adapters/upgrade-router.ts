/** Upgrades of one HTTP server: each belongs to the guard at its path, or to another listener. */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocketServer } from 'ws';
import { ArgumentRangeError, outOfRange, wrongType } from '../base/errors.js';
import { hasDotSegment, knownOptions, optionsObject } from '../base/options.js';
import { type Answer, answerWith, targetOf } from '../http/answer.js';
import { isHandshake } from '../http/handshake.js';
import { checkUnprotected, hasMethods, noteAttachment } from './ws-protection.js';

/** Options of `attach()`. */
export interface AttachOptions {
  /**
   * Path of the guard's handshakes, such as `/ws`: 1 to 1024 visible ASCII characters without a query and segments
   * `.` and `..`. A handshake belongs to the guard if its pathname is equal, letter for letter; its query is ignored.
   * Default: the `path` of the `WebSocketServer`, else every path that no other guard has.
   */
  readonly path?: string | undefined;
}

/** A guard at one path of a server. */
interface Attachment {
  readonly webSocketServer: WebSocketServer;
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly refuse: (socket: Duplex, answer: Answer) => void;
}

const PATH_MAX = 1024;
const NO_PATH = answerWith(404, {
  code: 'no_websocket_path',
  message: 'No WebSocket at this path',
});
/** Listeners of `upgrade` that a router has itself. */
const OWN_LISTENERS = 2;
/** Key of the bytes that a socket had sent when its upgrade arrived. */
const SENT = Symbol('portcullis.sent');
type ArrivedSocket = Duplex & { readonly bytesWritten?: number; [SENT]?: number | undefined };

/**
 * Checks the arguments of `attach()`.
 * @returns the path of the attachment; `undefined` for every path
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the argument
 * @internal
 */
export function checkedPathOf(
  server: unknown,
  webSocketServer: unknown,
  options: AttachOptions,
): string | undefined {
  if (!hasMethods(server, ['on', 'off', 'listeners', 'prependListener']))
    throw wrongType('server', server, 'the HTTP server');
  if (hasMethods(server, ['handleUpgrade']))
    throw wrongType('server', server, 'the HTTP server: the WebSocketServer comes second');
  if (!hasMethods(webSocketServer, ['on', 'emit', 'handleUpgrade']))
    throw wrongType('webSocketServer', webSocketServer, 'a WebSocketServer of ws');
  const own = (webSocketServer as Partial<WebSocketServer>).options;
  // With a server of its own `ws` answers the upgrades too, past the guard, and throws at the first.
  if (typeof own === 'object' && own !== null && own.noServer !== true)
    throw outOfRange(
      'webSocketServer',
      webSocketServer,
      'made with { noServer: true }: one with a server or port of its own is guarded by protect(webSocketServer)',
    );
  checkUnprotected(webSocketServer as WebSocketServer);
  optionsObject('options', options);
  knownOptions('attach', options, ['path']);
  const { path } = options;
  if (path === undefined) return isPath(own?.path) ? own.path : undefined;
  const allowed = `a path such as "/ws", of at most ${PATH_MAX} visible ASCII characters, without a query and segments "." and ".."`;
  if (typeof path !== 'string') throw wrongType('path', path, allowed);
  if (!isPath(path) || hasDotSegment(path)) throw outOfRange('path', path, allowed);
  if (typeof own?.path === 'string' && own.path !== path)
    throw outOfRange('path', path, 'the path of the WebSocketServer, which refuses other paths');
  return path;
}

function isPath(path: unknown): path is string {
  return (
    typeof path === 'string' &&
    path.length <= PATH_MAX &&
    /^\/[!-~]*$/.test(path) &&
    !/[?#\\]/.test(path)
  );
}

const ROUTERS = new WeakMap<Server, UpgradeRouter>();

/** Hands the upgrades of one server to the guards that are attached to it. @internal */
export class UpgradeRouter {
  readonly #server: Server;
  /** By path; that of `undefined` has every path without a guard of its own. */
  readonly #attachments = new Map<string | undefined, Attachment>();
  readonly #onArrival: (request: IncomingMessage, socket: Duplex) => void;
  readonly #onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

  constructor(server: Server) {
    this.#server = server;
    this.#onArrival = (_request, socket: ArrivedSocket) => {
      // Read only where it is compared: Node adds it up from the system's count and its own queue.
      if (this.#hasOthers()) socket[SENT] = socket.bytesWritten;
    };
    this.#onUpgrade = (request, socket, head) => this.upgrade(request, socket, head);
  }

  /** Returns the router of a server. */
  static of(server: Server): UpgradeRouter {
    let router = ROUTERS.get(server);
    if (router === undefined) ROUTERS.set(server, (router = new UpgradeRouter(server)));
    return router;
  }

  /**
   * Adds a guard at a path.
   * @returns a function that removes it again; later calls do nothing
   * @throws ERR_OUT_OF_RANGE if the path has a guard
   */
  add(path: string | undefined, attachment: Attachment): () => void {
    const other = this.#attachments.get(path);
    if (other !== undefined) {
      const isSame = other.webSocketServer === attachment.webSocketServer;
      const where = path === undefined ? 'this server' : `${path} of this server`;
      throw new ArgumentRangeError(
        `${isSame ? 'the WebSocketServer' : 'a guard'} is attached to ${where} already: detach it first, or give each its own path`,
        {
          field: isSame ? 'webSocketServer' : 'path',
          allowed: 'a path without a guard',
          ...(path === undefined ? {} : { value: path }),
        },
      );
    }
    if (this.#attachments.size === 0) {
      this.#server.prependListener('upgrade', this.#onArrival);
      this.#server.on('upgrade', this.#onUpgrade);
    }
    this.#attachments.set(path, attachment);
    const noteEnd = noteAttachment(attachment.webSocketServer);
    return () => {
      if (this.#attachments.get(path) !== attachment) return;
      this.#attachments.delete(path);
      noteEnd();
      if (this.#attachments.size > 0) return;
      this.#server.off('upgrade', this.#onArrival);
      this.#server.off('upgrade', this.#onUpgrade);
    };
  }

  /** True if another listener may answer an upgrade. The two of this router are always there: a count is cheap. */
  #hasOthers(): boolean {
    return this.#server.listenerCount('upgrade') > OWN_LISTENERS;
  }

  upgrade(request: IncomingMessage, socket: ArrivedSocket, head: Buffer): void {
    const target = targetOf(request.url ?? '');
    const query = target.indexOf('?');
    const path = query === -1 ? target : target.slice(0, query);
    const owner = this.#attachments.get(path) ?? this.#attachments.get(undefined);
    const hasOthers = this.#hasOthers();
    // A listener that came first has answered: bytes of ours would get into its open WebSocket.
    const sent = socket[SENT];
    const isAnswered =
      hasOthers && (socket.destroyed || (sent !== undefined && socket.bytesWritten !== sent));
    // Another protocol, such as h2c, belongs to another listener, if there is one.
    const isOthers =
      hasOthers &&
      (owner === undefined || isAnswered || !isHandshake(request.method, request.headers.upgrade));
    if (!isOthers && owner !== undefined) return owner.upgrade(request, socket, head);
    // A listener that ignores the upgrade handles no error: a reset by the client would end the process.
    socket.on('error', ignore);
    if (isOthers) return;
    // No other listener answers, and Node leaves the socket open: it would be held until the client goes.
    const [any] = this.#attachments.values();
    any?.refuse(socket, NO_PATH);
  }
}

const ignore = (): void => undefined;
