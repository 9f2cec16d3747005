/** A connection, as message handlers see it. */
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { ConnectionMetadata } from '../connections/metadata.js';
import { envelopeOf, type Outgoing } from '../messages/envelope.js';
import type { TypedWebSocketConnection } from '../messages/types.js';

/** A connection, as message handlers see it. */
export interface ServerConnection extends TypedWebSocketConnection<ManagedConnection['socket']> {
  readonly userId: string | undefined;
  /** Address of the client. */
  readonly ip: string;
  /** Id of the handshake; see `RequestTrace`. */
  readonly requestId: string | undefined;
  /** `traceparent` of the handshake, if it has a valid one. */
  readonly traceparent: string | undefined;
  /** Sends a message in its envelope; returns `false` if the host dropped it. */
  send(message: Outgoing): boolean;
  /** Closes the connection. Default code 1000. */
  close(code?: number, reason?: string): void;
}

export class Connection implements ServerConnection {
  readonly #connection: ManagedConnection;
  #createdAt: Date | undefined;

  constructor(connection: ManagedConnection) {
    this.#connection = connection;
  }
  get id(): string {
    return this.#connection.id;
  }
  get socket(): ManagedConnection['socket'] {
    return this.#connection.socket;
  }
  get metadata(): ConnectionMetadata {
    return this.#connection.metadata;
  }
  get userId(): string | undefined {
    return this.#connection.userId;
  }
  get ip(): string {
    return this.#connection.ip;
  }
  get requestId(): string | undefined {
    return this.#connection.requestId;
  }
  get traceparent(): string | undefined {
    return this.#connection.traceparent;
  }
  /** @internal */
  get trace(): RequestTrace | undefined {
    return this.#connection.trace;
  }
  get createdAt(): Date {
    return (this.#createdAt ??= new Date(this.#connection.createdAt));
  }
  get lastActivity(): Date {
    return new Date(this.#connection.lastActivity);
  }
  set lastActivity(at: Date) {
    this.#connection.lastActivity = at.getTime();
  }
  get isAlive(): boolean {
    return this.#connection.isAlive;
  }
  get messageCount(): number {
    return this.#connection.messageCount;
  }
  get bytesReceived(): number {
    return this.#connection.bytesReceived;
  }
  get bytesSent(): number {
    return this.#connection.bytesSent;
  }
  send(message: Outgoing): boolean {
    return sendText(this.socket, JSON.stringify(envelopeOf(message)));
  }
  close(code?: number, reason?: string): void {
    this.#connection.close(code, reason);
  }
}

export function sendText(socket: ManagedConnection['socket'], text: string): boolean {
  return (socket as unknown as { sendText(text: string): number }).sendText(text) !== 0;
}
