/** Connections and messages, as the handlers of messages see them. */
import type { ManagedSocket } from '../connections/connection.js';
import type { ConnectionMetadata } from '../connections/metadata.js';

/** A connection, as the handlers of messages see it. */
export interface TypedWebSocketConnection<S extends ManagedSocket = ManagedSocket> {
  /** Id of the connection, unique among the live ones. */
  readonly id: string;
  /** Socket of the connection. */
  readonly socket: S;
  /** Further data on the client. */
  readonly metadata: ConnectionMetadata;
  /** Time of the opening. */
  readonly createdAt: Date;
  /** Time of the last received message. May be set. */
  lastActivity: Date;
  /** True while the connection is open. */
  isAlive: boolean;
  /** Messages received. */
  messageCount: number;
  /** Bytes received. */
  bytesReceived: number;
  /** Bytes sent. */
  bytesSent: number;
}

/** A message in its envelope. */
export interface TypedWebSocketMessage<T = unknown> {
  /** Type of the message: 1 to 128 characters. */
  readonly type: string;
  /** Payload, as the type defines it. */
  readonly payload: T;
  /**
   * Time of sending, as RFC 3339, and as `Date.parse()` reads it: without a leap second, and with at most nine decimals.
   */
  readonly timestamp: string;
  /** Id of the message: 1 to 128 characters. An answer has the id of the message it answers. */
  readonly messageId: string;
  /** User of the sender, as the server knows it. */
  readonly userId?: string;
  /** Session of the sender, as the server knows it. */
  readonly sessionId?: string;
}

/** Handlers of a typed connection's events. */
export interface TypedWebSocketHandler<TMessage = unknown> {
  /** Called when a connection has opened. */
  open?: ((ws: TypedWebSocketConnection) => void | Promise<void>) | undefined;
  /** Called with each message whose type has no handler of its own. */
  message?:
    | ((
        ws: TypedWebSocketConnection,
        message: TypedWebSocketMessage<TMessage>,
      ) => void | Promise<void>)
    | undefined;
  /** Called when a connection has closed. */
  close?:
    | ((ws: TypedWebSocketConnection, code: number, reason: string) => void | Promise<void>)
    | undefined;
  /** Called with the error of another handler. */
  error?: ((ws: TypedWebSocketConnection, error: Error) => void | Promise<void>) | undefined;
}
