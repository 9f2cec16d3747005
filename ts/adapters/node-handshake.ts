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

/** Answers a handshake with a refusal, and ends its socket. @internal */
export function refuse(socket: Duplex, { status, headers, body }: Answer): void {
  let head = `HTTP/1.1 ${status} ${http().STATUS_CODES[status] ?? ''}\r\n`;
  for (const name of Object.keys(headers))
    if (name !== 'connection') head += `${name}: ${headers[name]}\r\n`;
  // Not for the client to end: until it did, it would hold a descriptor of the server.
  socket.once('finish', destroyThis);
  socket.end(Buffer.from(`${head}connection: close\r\n\r\n${body}`));
}
