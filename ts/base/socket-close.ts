/** The close of a socket, or of a stream of HTTP/2, for the requests on it. */
import type { IncomingMessage } from 'node:http';

const ENDS = Symbol('portcullis.ends');

interface ClosableSocket {
  once(event: 'close', listener: () => void): unknown;
  [ENDS]?: Set<() => void>;
}

/**
 * Calls `end` when a socket closes. Node closes the response that it is sending, but none of the
 * pipelined ones behind it: their requests would never end. One listener of the socket serves all of
 * its requests, of which a client may pipeline any number.
 * @returns a function that forgets `end`
 * @internal
 */
export function onSocketClose(socket: ClosableSocket, end: () => void): () => void {
  let ends = socket[ENDS];
  if (ends === undefined) {
    const all = new Set<() => void>();
    socket[ENDS] = ends = all;
    socket.once('close', () => {
      for (const one of all) one();
      all.clear();
    });
  }
  const known = ends.add(end);
  return () => void known.delete(end);
}

/**
 * Whether a request came by HTTP/2, to a server of `node:http2`. Its `socket` stands for its stream,
 * and in part for the socket of all streams.
 * @internal
 */
export const isHttp2 = (request: IncomingMessage): boolean => request.httpVersionMajor >= 2;

/** A request of HTTP/2, whose stream ends with the answer or before it. */
interface StreamRequest {
  readonly stream: {
    once(event: 'close', listener: () => void): unknown;
    removeListener(event: 'close', listener: () => void): unknown;
  };
}

/**
 * As `onSocketClose()`. By HTTP/2 the stream of the request: the response to a HEAD whose handler streams its answer
 * never tells that it has closed.
 * @internal
 */
export function onClientGone(request: IncomingMessage, end: () => void): () => void {
  if (!isHttp2(request)) return onSocketClose(request.socket, end);
  const { stream } = request as unknown as StreamRequest;
  stream.once('close', end);
  return () => void stream.removeListener('close', end);
}
