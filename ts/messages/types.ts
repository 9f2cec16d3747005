import type { ManagedSocket } from '../connections/connection.js';
import type { ConnectionMetadata } from '../connections/metadata.js';

/** A connection as handlers see it. */
export interface TypedWebSocketConnection<S extends ManagedSocket = ManagedSocket> {
  readonly id: string;
  readonly socket: S;
  readonly metadata: ConnectionMetadata;
  readonly createdAt: Date;
  lastActivity: Date;
  isAlive: boolean;
  messageCount: number;
  bytesReceived: number;
  bytesSent: number;
}

/** A message in its envelope. */
export interface TypedWebSocketMessage<T = unknown> {
  readonly type: string;
  readonly payload: T;
  readonly timestamp: string;
  readonly messageId: string;
  readonly userId?: string;
  readonly sessionId?: string;
}

/** What a server does with a typed connection. */
export interface TypedWebSocketHandler<TMessage = unknown> {
  open?: (ws: TypedWebSocketConnection) => void | Promise<void>;
  message?: (
    ws: TypedWebSocketConnection,
    message: TypedWebSocketMessage<TMessage>,
  ) => void | Promise<void>;
  close?: (ws: TypedWebSocketConnection, code: number, reason: string) => void | Promise<void>;
  error?: (ws: TypedWebSocketConnection, error: Error) => void | Promise<void>;
}
