import type { ManagedSocket } from '../connections/connection.js';

/**
 * Records the calls that a manager makes, in the place of a WebSocket.
 *
 * @example
 * const socket = new FakeSocket();
 * manager.addConnection('c1', socket, '192.0.2.1');
 * manager.close();
 * socket.closed; // [{ code: 1001, reason: 'Server shutdown' }]
 */
export class FakeSocket implements ManagedSocket {
  /** State of the socket: 1 open, 2 closing, 3 closed. */
  readyState = 1;
  /** Codes and reasons of all calls of `close()`. */
  readonly closed: { readonly code: number | undefined; readonly reason: string | undefined }[] =
    [];
  /** Data of all calls of `send()`. */
  readonly sent: unknown[] = [];
  /** Whether `terminate()` was called. */
  terminated = false;
  /** Whether `pause()` was called. */
  paused = false;

  /**
   * Records a close. `readyState` is 2 then.
   *
   * @param code close code
   * @param reason close reason
   */
  close(code?: number, reason?: string): void {
    this.closed.push({ code, reason });
    this.readyState = 2;
  }
  /**
   * Records a message.
   *
   * @param data the message
   */
  send(data: unknown): void {
    this.sent.push(data);
  }
  /** Records that no more is read, as a socket of `ws` does. */
  pause(): void {
    this.paused = true;
  }
  /** Records that the connection was terminated. `readyState` is 3 then. */
  terminate(): void {
    this.terminated = true;
    this.readyState = 3;
  }
}
