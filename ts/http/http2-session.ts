/** Sessions and streams of `node:http2`, as the limits of requests and the drain of a server use them. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { isHttp2 } from '../base/socket-close.js';

/** The part of an `Http2Stream` that is used here. @internal */
export interface Http2Stream {
  readonly destroyed: boolean;
  readonly endAfterHeaders?: boolean;
  readonly session?: Session | undefined;
  close(): void;
  once(event: 'finish', listener: () => void): unknown;
}

/** The part of a `ServerHttp2Session` that is used here. @internal */
export interface Session {
  readonly destroyed: boolean;
  readonly socket: Socket;
  /** Frames that wait to be written. */
  readonly state: { readonly outboundQueueSize?: number };
  close(): void;
  destroy(): void;
  /** Returns `false` if too many pings are not answered, and `undefined` once the session is closed. */
  ping(callback: () => void): boolean | undefined;
  once(event: 'close', listener: () => void): unknown;
}

/** The part of a socket that is no documented API: the bytes that the system has not taken yet. */
interface Internals {
  readonly _handle?: { readonly writeQueueSize?: number } | null;
}

/** Returns the stream of a request of HTTP/2; `undefined` for HTTP/1. @internal */
export const streamOf = (request: IncomingMessage): Http2Stream | undefined =>
  isHttp2(request) ? (request as { readonly stream?: Http2Stream }).stream : undefined;

/** Streams whose ping is not answered yet, by their session. */
const pings = new WeakMap<Session, Http2Stream>();

/**
 * Ends a session that Node has given up, with its streams and its socket. After a frame that breaks the protocol Node
 * sends GOAWAY, and neither reads nor writes again: no event tells of it, not even when the client leaves. A ping shows
 * it: it stays in the queue, though the system would take it. Node sends no more than ten pings that are not answered
 * (`maxOutstandingPings`): a client that answers none of them is gone, too.
 * @param stream one that asks, of which one at a time sends pings; without one the session is asked in any case
 * @internal
 */
export function endIfStuck(session: Session | undefined, stream?: Http2Stream): void {
  if (session === undefined || session.destroyed) return;
  if (stream !== undefined) {
    const other = pings.get(session);
    if (other !== undefined && other !== stream && !other.destroyed) return;
    pings.set(session, stream);
  }
  const isSent = session.ping(() => pings.delete(session));
  setImmediate(() => {
    // Node has written what it had in its queue.
    if (!session.destroyed && (isSent === false || hasQueue(session)) && isWritten(session))
      session.destroy();
  });
}

const hasQueue = ({ state }: Session): boolean => (state.outboundQueueSize ?? 0) > 0;

/** True if the system has taken all bytes of a session: its client does read. */
const isWritten = ({ socket }: Session): boolean =>
  (socket as Socket & Internals)._handle?.writeQueueSize === 0;
