/**
 * Upgrades of a server whose framework routes them as requests. Its hooks, middleware and routes run before a handshake
 * reaches the guard, and may answer it: the limits of requests have to hold for upgrades, too.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { ArgumentRangeError, wrongType } from '../base/errors.js';
import { canParseUrl } from '../base/parsable.js';
import { type AuthDenial, INVALID_HOST, INVALID_TARGET } from '../guard/denial.js';
import type { Guard, TokenJudgement } from '../guard/guard.js';
import type { Answer } from '../http/answer.js';
import { InFlightRequest } from '../http/request-limiter.js';
import { admitRequest } from '../http/node.js';
import { headerOf, refuse, watchWaiting } from './node-handshake.js';
import { hasValidHost } from './node-requests.js';
import { nodePeer } from './peer.js';
import { hasMethods } from './ws-protection.js';

/** Matches targets that are valid with any host, since their second character does not start an authority. */
const PLAIN_TARGET = /^\/(?:[\w.~%?-]|$)/;
/** The latest valid `Host`. Most clients send the same one, which is then not parsed again. */
let latestHost: string | undefined;

/**
 * Returns the denial of a handshake whose `Host` and target make no URL. Frameworks make one of them where nobody
 * catches the error, which would end the process.
 * @internal
 */
export function misaddressed(request: IncomingMessage): AuthDenial | undefined {
  const { url = '', headers } = request;
  const { host = 'localhost' } = headers;
  if (headers.host === undefined || host !== latestHost) {
    if (!hasValidHost(request) || !canParseUrl(`http://${host}`)) return INVALID_HOST;
    latestHost = headers.host;
  }
  if (PLAIN_TARGET.test(url)) return undefined;
  // The scheme of the base decides how `http:a` is read.
  const schemes = url.startsWith('/') ? ['http'] : ['http', 'https'];
  return schemes.every((scheme) => canParseUrl(url, `${scheme}://${host}`))
    ? undefined
    : INVALID_TARGET;
}

/** Servers whose upgrades a guard judges. */
const judgedBy = new WeakMap<Guard<IncomingMessage>, WeakSet<Server>>();

/**
 * Judges the upgrades of a server as requests, before any listener of `upgrade`. It wraps `emit`: no listener could
 * keep an upgrade from those of the framework.
 * @returns a function that ends it; later calls do nothing
 * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a server whose upgrades the guard judges already
 * @internal
 */
export function guardUpgrades(guard: Guard<IncomingMessage>, server: Server): () => void {
  if (!hasMethods(server, ['on', 'emit', 'listenerCount', 'close']))
    throw wrongType('server', server, 'the HTTP server');
  // A `WebSocketServer` has these methods, too, but never emits `upgrade`.
  if (hasMethods(server, ['handleUpgrade']))
    throw wrongType('server', server, 'the HTTP server, and not its WebSocketServer');
  const servers = judgedBy.get(guard) ?? new WeakSet();
  if (servers.has(server))
    throw new ArgumentRangeError(
      'the guard judges the upgrades of this server already, and each would spend its rates twice: end that first',
      { field: 'server', allowed: 'a server whose upgrades this guard does not judge' },
    );
  judgedBy.set(guard, servers.add(server));
  const descriptor = Object.getOwnPropertyDescriptor(server, 'emit');
  const emit = server.emit as (this: Server, event: string | symbol, ...args: unknown[]) => boolean;
  let isActive = true;
  const guarded = function (this: Server, event: string | symbol): boolean {
    const given = arguments as unknown as Parameters<typeof emit>;
    if (event !== 'upgrade' || !isActive) return Reflect.apply(emit, this, given);
    const [, request, socket] = given as unknown as [string, IncomingMessage, Duplex];
    judgeUpgrade(guard, request, socket, () => void Reflect.apply(emit, this, given));
    return this.listenerCount('upgrade') > 0;
  };
  server.emit = guarded as typeof server.emit;
  return () => {
    if (!isActive) return;
    isActive = false;
    servers.delete(server);
    // Another wrapper came later and calls this one: to restore would take it away, too.
    if (server.emit !== (guarded as typeof server.emit)) return;
    if (descriptor === undefined) Reflect.deleteProperty(server, 'emit');
    else Object.defineProperty(server, 'emit', descriptor);
  };
}

/** Refuses an upgrade, or hands it on. */
function judgeUpgrade(
  guard: Guard<IncomingMessage>,
  request: IncomingMessage,
  socket: Duplex,
  handOn: () => void,
): void {
  // Frameworks listen late or never: an unhandled `error`, such as a reset, would end the process.
  socket.on('error', destroyThis);
  const refused = refusalOf(guard, request);
  if (refused !== undefined) return refuse(socket, refused);
  const { method, url } = request;
  if (!guard.needsToken(method, url, headerOf(request))) return handOn();
  const after = (judged: TokenJudgement): void => {
    if (socket.destroyed) return;
    if (judged.answer !== undefined) return refuse(socket, judged.answer);
    guard.hasToken(request, judged);
    handOn();
  };
  const judged = guard.judgeToken(nodePeer(request), headerOf(request), url ?? '', request);
  if (!(judged instanceof Promise)) return after(judged);
  const endWatch = watchWaiting(socket);
  void judged.then((judgement) => {
    endWatch();
    after(judgement);
  });
}

/** Returns the answer to an upgrade that the limits of requests refuse. */
function refusalOf(guard: Guard<IncomingMessage>, request: IncomingMessage): Answer | undefined {
  const peer = nodePeer(request);
  const header = headerOf(request);
  const unaddressed = guard.refusesAddress(request, peer, header);
  if (unaddressed !== undefined || guard.isExempt(request.method, request.url)) return unaddressed;
  const refused = guard.refusesClient(request, peer, header);
  const { requests } = guard;
  if (refused !== undefined || requests === undefined) return refused;
  const admitted = admitRequest(requests, () => guard.clientOf(request, peer, header), request);
  if (!(admitted instanceof InFlightRequest)) return requests.answer(admitted, request);
  // It is in flight no longer: a WebSocket lasts, and has limits of its own.
  admitted.end();
  return undefined;
}

function destroyThis(this: Duplex): void {
  this.destroy();
}
