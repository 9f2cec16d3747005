/** Servers of Node and the handlers of their requests, as the types of `node:http` and `node:http2` name them. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type {
  Http2SecureServer,
  Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
} from 'node:http2';

/** A server of `node:http`, `node:https` or `node:http2`. */
export type NodeServer = Server | Http2Server | Http2SecureServer;

/** A request of such a server. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;

/** A handler of requests of `node:http` and `node:https`. */
export type HttpHandler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A handler of requests of `node:http2`, those of HTTP/1 with `allowHTTP1` included. */
export type Http2Handler = (request: Http2ServerRequest, response: Http2ServerResponse) => unknown;
