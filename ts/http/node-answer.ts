/** Answers of our own to requests of `node:http`, in the place of their handlers. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { isHttp2 } from '../base/socket-close.js';
import { type Answer, CLOSE } from './answer.js';
import { streamOf } from './http2-session.js';

/**
 * True if a request may have a body. HTTP/2 has no `transfer-encoding`: a stream has a body unless its headers
 * end it.
 * @internal
 */
export function mayHaveBody(request: IncomingMessage): boolean {
  const { headers } = request;
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined)
    return true;
  return isHttp2(request) && streamOf(request)?.endAfterHeaders !== true;
}

/** Calls the callback of `write()` or `end()`, without an error: few handlers expect one. */
function callBack(...given: unknown[]): void {
  const callback = given.find((value) => typeof value === 'function');
  if (callback !== undefined) process.nextTick(callback as () => void);
}

/** Cancels a stream that a handler pipes into a response of ours; one that others read, too, goes on for them. */
function cancel(this: ServerResponse, source: Readable): void {
  if (source.listenerCount('data') > 1) source.unpipe(this);
  else source.destroy();
}

/** Makes a response ignore its handler: we have answered in its place. */
function silence(response: ServerResponse): void {
  response.on('pipe', cancel);
  const drained = (): void => void response.emit('drain');
  const chain = (): ServerResponse => response;
  const nothing = (): undefined => undefined;
  Object.assign(response, {
    writeHead: chain,
    setHeader: chain,
    setHeaders: chain,
    removeHeader: nothing,
    appendHeader: chain,
    addTrailers: nothing,
    flushHeaders: nothing,
    writeContinue: nothing,
    writeEarlyHints: nothing,
    writeProcessing: nothing,
    write(...given: unknown[]): boolean {
      callBack(...given);
      // Not `true`: a loop that writes until the response is full would never end. Not in this turn: a source that
      // always has data would let nothing else run.
      setImmediate(drained);
      return false;
    },
    end(...given: unknown[]): ServerResponse {
      callBack(...given);
      return response;
    },
  });
}

/**
 * Ends the upload of a request whose answer is on its way, and with HTTP/1 its connection.
 * @param failBody called once nothing more of the body comes
 * @internal
 */
export function endUpload(request: IncomingMessage, failBody?: () => void): void {
  if (isHttp2(request)) {
    const isComplete = request.complete;
    // Before `close()`: Node then ends the body as if it were whole.
    failBody?.();
    // The rest of the body is of no use: the client is told to stop (RFC 9113, section 8.1).
    if (!isComplete) streamOf(request)?.close();
    return;
  }
  const { socket } = request;
  socket.destroySoon();
  if (failBody === undefined) return;
  // The socket closes first: destroying a request would end its socket, and the answer with it.
  if (socket.closed) failBody();
  else socket.once('close', failBody);
}

/**
 * Answers a request in the place of its handler, and ends its connection if it still sends a body.
 * @param failBody called once the answer is on its way and nothing more of the body comes
 * @internal
 */
export function sendAnswer(
  { status, headers, body }: Omit<Answer, 'body'> & { readonly body: string | Buffer },
  request: IncomingMessage,
  response: ServerResponse,
  failBody?: () => void,
): void {
  if (isHttp2(request)) {
    // HTTP/2 has no such header, and its socket belongs to the other streams, too.
    const { connection: _, ...others } = headers;
    response.writeHead(status, others);
    response.end(body, () => endUpload(request, failBody));
    return silence(response);
  }
  // Node has not seen the end of any request when it calls the handler.
  const isLast = headers['connection'] === 'close' || (!request.complete && mayHaveBody(request));
  response.writeHead(status, isLast ? Object.assign({}, headers, CLOSE) : headers);
  response.end(body, () => {
    if (isLast) endUpload(request, failBody);
  });
  silence(response);
}
