import type { ManagedSocket } from '../connections/connection.js';

/** A socket that remembers what was done to it. */
export class FakeSocket implements ManagedSocket {
  /** 1 open, 2 closing, 3 closed. */
  readyState = 1;
  /** The closes it was asked for, in their order. */
  readonly closed: { readonly code: number | undefined; readonly reason: string | undefined }[] =
    [];
  /** What was sent, in its order. */
  readonly sent: unknown[] = [];
  /** Whether it was cut off. */
  terminated = false;

  /** Notes the close; `readyState` is 2 then. */
  close(code?: number, reason?: string): void {
    this.closed.push({ code, reason });
    this.readyState = 2;
  }
  /** Notes what is sent. */
  send(data: unknown): void {
    this.sent.push(data);
  }
  /** Notes that it was cut off; `readyState` is 3 then. */
  terminate(): void {
    this.terminated = true;
    this.readyState = 3;
  }
}
