/** Envelopes of messages: parsed as they come in, made as they go out. */
import { randomUUID } from 'node:crypto';
import { wallClockMs } from '../base/clock.js';
import { type MessageProblem, problemOf } from './problem.js';
import type { TypedWebSocketMessage } from './types.js';

/** Longest type and message id, in UTF-16 units. @internal */
export const NAME_MAX = 128;

/** Author of a message, as the server knows it. Claims of the client about itself are dropped. */
export interface MessageSender {
  /** User of the connection. */
  readonly userId?: string | undefined;
  /** Session of the connection. */
  readonly sessionId?: string | undefined;
}

/** A message of the server's own, before it gets its envelope. */
export interface Outgoing<T = unknown> {
  /** Type of the message. */
  readonly type: string;
  /** Payload, which must fit into JSON. */
  readonly payload?: T;
}

/** Outcome of `MessageRouter.parse()`: a complete envelope, or the problem with the message. */
export type ParseResult<T = unknown> =
  | { readonly success: true; readonly message: TypedWebSocketMessage<T> }
  | { readonly success: false; readonly problem: MessageProblem };

const invalid = (field?: string): ParseResult<never> => ({
  success: false,
  problem: problemOf('invalid_envelope', field),
});

const isName = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= NAME_MAX;

/**
 * True for a time of RFC 3339, as `toISOString` writes it or with an offset. The pattern refuses the
 * other formats that `Date.parse` takes; `Date.parse` refuses a month 13 or a minute 60.
 */
function isTimestamp(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length <= 35 &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(value) &&
    !Number.isNaN(Date.parse(value))
  );
}

/** Parses and checks a message; see `MessageRouter.parse()`. @internal */
export function parseEnvelope<T>(raw: unknown, sender: MessageSender): ParseResult<T> {
  let value = raw;
  if (typeof raw === 'string') {
    try {
      value = JSON.parse(raw);
    } catch {
      return { success: false, problem: problemOf('invalid_json') };
    }
  } else if (ArrayBuffer.isView(raw) || raw instanceof ArrayBuffer)
    return { success: false, problem: problemOf('not_text') };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return invalid();
  const { type, payload, timestamp, messageId } = value as Readonly<Record<string, unknown>>;
  if (!isName(type)) return invalid('type');
  if (timestamp !== undefined && !isTimestamp(timestamp)) return invalid('timestamp');
  if (messageId !== undefined && !isName(messageId)) return invalid('messageId');
  const message: TypedWebSocketMessage<T> = {
    type,
    payload: payload as T,
    timestamp: timestamp ?? new Date(wallClockMs()).toISOString(),
    messageId: messageId ?? randomUUID(),
    ...(sender.userId === undefined ? {} : { userId: sender.userId }),
    ...(sender.sessionId === undefined ? {} : { sessionId: sender.sessionId }),
  };
  return { success: true, message };
}

/** Returns the id of a parsed message whose envelope is invalid elsewhere, so that the answer names it. @internal */
export function idOf(raw: unknown): string | undefined {
  const id =
    typeof raw === 'object' && raw !== null && 'messageId' in raw ? raw.messageId : undefined;
  return isName(id) ? id : undefined;
}

/** Puts a message of the server's into its envelope. @internal */
export function envelopeOf(outgoing: Outgoing, messageId?: string): TypedWebSocketMessage {
  return {
    type: outgoing.type,
    payload: outgoing.payload,
    timestamp: new Date(wallClockMs()).toISOString(),
    messageId: messageId ?? randomUUID(),
  };
}
