/** Requests of Node's `http` server: the page, the limits of requests, their count. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Guard } from '../guard/guard.js';
import { guardHandler } from '../http/node.js';
import { headerOf } from './node-handshake.js';
import { nodePeer } from './peer.js';

/** A handler of `http` requests. @internal */
export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => unknown;

/**
 * Wraps a handler of HTTP requests: the page is served, and the limits of `requests` are kept.
 * @param countRequest counts a request for the metrics, if there are any
 * @internal
 */
export function guardRequests<H extends RequestHandler>(
  guard: Guard<IncomingMessage>,
  countRequest: ((request: IncomingMessage, response: ServerResponse) => void) | undefined,
  handler: H,
): H {
  const { requests, page } = guard;
  if (requests === undefined && page === undefined && countRequest === undefined) return handler;
  const clientOf = (request: IncomingMessage): string =>
    guard.clientOf(request, nodePeer(request), headerOf(request));
  const limited = requests === undefined ? handler : guardHandler(requests, clientOf, handler);
  const guarded = function (
    this: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): unknown {
    if (page?.handle(request, response) === true) return true;
    if (guard.isExempt(request.method, request.url)) return handler.call(this, request, response);
    // Counts here for servers that route upgrades themselves and are not attached.
    countRequest?.(request, response);
    return limited.call(this, request, response);
  };
  return guarded as H;
}
