/** Requests of Node's `http` server: the page, the limits of requests, their count. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { wrongType } from '../base/errors.js';
import type { Guard } from '../guard/guard.js';
import { guardHandler, refuseBeside, refuseRequest } from '../http/node.js';
import type { TokenJudgement } from '../guard/guard.js';
import { headerOf } from './node-handshake.js';
import { nodePeer } from './peer.js';

/** A handler of `http` requests. @internal */
export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A host and its port (RFC 3986, sections 3.2.2 and 3.2.3), not empty. */
const HOST = /^(?:[\w.~!$&'()*+,;=%-]+|\[[\da-f:.]+\])(?::\d*)?$/i;

/** True for a request whose `Host`, or `:authority` in HTTP/2, is a host. HTTP/1.0 needs none. @internal */
export function hasValidHost({ headers }: IncomingMessage): boolean {
  const host = headers.host ?? headers[':authority'];
  return typeof host !== 'string' || HOST.test(host);
}

/**
 * Wraps a handler of HTTP requests: the page is served, and the limits of `requests` are kept.
 * @param countRequest counts a request for the metrics, if there are any
 * @throws ERR_INVALID_ARG_TYPE unless the handler is a function
 * @internal
 */
export function guardRequests<H extends RequestHandler>(
  guard: Guard<IncomingMessage>,
  countRequest: ((request: IncomingMessage, response: ServerResponse) => void) | undefined,
  handler: H,
): H {
  if (typeof handler !== 'function')
    throw wrongType('handler', handler, 'a function (request, response)');
  const { requests, page } = guard;
  const isPlain = requests === undefined && page === undefined && countRequest === undefined;
  if (isPlain && !guard.judgesRequests && !guard.judgesClients) return handler;
  const clientOf = (request: IncomingMessage): string =>
    guard.clientOf(request, nodePeer(request), headerOf(request));
  const judged = guard.judgesRequests ? withToken(guard, handler) : handler;
  const limited = requests === undefined ? judged : guardHandler(requests, clientOf, judged);
  const guarded = function (
    this: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): unknown {
    if (page?.handle(request, response) === true) return true;
    const misaddressed = guard.refusesHost(hasValidHost(request), request);
    if (misaddressed !== undefined) return refuseRequest(misaddressed, request, response);
    if (guard.isExempt(request.method, request.url)) return handler.call(this, request, response);
    const refused = guard.refusesClient(request, nodePeer(request), headerOf(request));
    if (refused !== undefined) return refuseRequest(refused, request, response);
    // Counts here for servers that route upgrades themselves and are not attached.
    countRequest?.(request, response);
    return limited.call(this, request, response);
  };
  return guarded as H;
}

/** Wraps a handler, so that requests without a valid token are refused where one is needed. */
function withToken(guard: Guard<IncomingMessage>, handler: RequestHandler): RequestHandler {
  return function (this: unknown, request, response) {
    if (!guard.needsToken(request.method, request.url, headerOf(request)))
      return handler.call(this, request, response);
    const after = ({ answer }: TokenJudgement): unknown => {
      if (answer === undefined) return handler.call(this, request, response);
      return refuseBeside(answer, request, response);
    };
    const judged = guard.judgeToken(
      nodePeer(request),
      headerOf(request),
      request.url ?? '',
      request,
    );
    return judged instanceof Promise ? judged.then(after) : after(judged);
  };
}
