/** Handshakes on Node's `http` server: their headers, their client, and the answer to a refused one. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { lazily } from '../base/builtin.js';
import { type Answer, answerWith } from '../http/answer.js';
import type { WaitingClient } from '../http/handshake.js';

const http = lazily(() => process.getBuiltinModule('node:http'));

/** Answer to an upgrade to another protocol than WebSocket: it takes no seat. @internal */
export const NO_HANDSHAKE = answerWith(400, {
  code: 'no_websocket_handshake',
  message: 'Not a WebSocket handshake',
});

/** Returns a function that reads a header of a request. @internal */
export function headerOf(request: IncomingMessage): (name: string) => string {
  return (name) => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(', ') : (value ?? '');
  };
}

/** Returns the client behind a socket that waits for its identity. @internal */
export function waitingOn(socket: Duplex): WaitingClient {
  return {
    onGone(listener) {
      socket.once('close', listener);
      return () => void socket.off('close', listener);
    },
  };
}

function destroyThis(this: Duplex): void {
  this.destroy();
}

/** Most bytes that a client may send before its handshake is answered: RFC 6455 (section 4.1) lets it send none. */
const EARLY_MAX = 65_536;

/**
 * Watches the socket of a handshake that waits for its answer. A client that ends its side has gone, and one that
 * sends more than 64 KiB does not wait: their sockets are destroyed. The bytes are read, since a socket that nobody
 * reads never tells of its end while it holds some.
 * @returns a function that ends the watch, and puts the bytes back for the next reader
 * @internal
 */
export function watchWaiting(socket: Duplex): () => void {
  const early: Buffer[] = [];
  let size = 0;
  // Not `data`: after its listener the socket would stay paused for the next reader.
  const onReadable = (): void => {
    for (let bytes = nextOf(socket); bytes !== null; bytes = nextOf(socket)) {
      early.push(bytes);
      size += bytes.length;
      if (size > EARLY_MAX) return void socket.destroy();
    }
  };
  socket.on('readable', onReadable);
  socket.once('end', destroyThis);
  return () => {
    socket.off('readable', onReadable);
    socket.off('end', destroyThis);
    if (size > 0 && !socket.destroyed) socket.unshift(Buffer.concat(early));
  };
}

const nextOf = (socket: Duplex): Buffer | null => socket.read() as Buffer | null;

/** Answers a handshake with a refusal, and ends its socket. @internal */
export function refuse(socket: Duplex, { status, headers, body }: Answer): void {
  let head = `HTTP/1.1 ${status} ${http().STATUS_CODES[status] ?? ''}\r\n`;
  for (const name of Object.keys(headers))
    if (name !== 'connection') head += `${name}: ${headers[name]}\r\n`;
  // Not for the client to end: until it did, it would hold a descriptor of the server.
  socket.once('finish', destroyThis);
  socket.end(Buffer.from(`${head}connection: close\r\n\r\n${body}`));
}
