/** Envelopes of messages: parsed as they come in, made as they go out. */
import { wallClockMs } from '../base/clock.js';
import { randomUUID } from '../base/random.js';
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

/** True for a type or an id of a message. @internal */
export const isName = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= NAME_MAX;

const TIMESTAMP =
  /^(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/**
 * True for a time of RFC 3339, as `toISOString` writes it or with an offset, on a day that exists. `Date.parse` would
 * take 30 February for 1 March, and the hour 24; leap seconds, which RFC 3339 has, it cannot read.
 */
function isTimestamp(value: unknown): value is string {
  if (typeof value !== 'string' || value.length > 35) return false;
  const [, year = '', month = '', day = ''] = TIMESTAMP.exec(value) ?? [];
  return Number(day) > 0 && Number(day) <= daysOf(Number(year), Number(month));
}

/** Returns the days of a month, 1 to 12; 0 for another number. */
function daysOf(year: number, month: number): number {
  if (month < 1 || month > 12) return 0;
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

const NOT_TEXT = problemOf('not_text');
const INVALID_JSON = problemOf('invalid_json');

/** True for the problem of a message that `valueOf` could not read. @internal */
export const isUnread = (value: unknown): value is MessageProblem =>
  value === NOT_TEXT || value === INVALID_JSON;

/** Returns the value of a message: of text its JSON, any other value as it is; or its problem. @internal */
export function valueOf(raw: unknown): unknown {
  if (typeof raw !== 'string')
    return ArrayBuffer.isView(raw) || raw instanceof ArrayBuffer ? NOT_TEXT : raw;
  try {
    return JSON.parse(raw);
  } catch {
    return INVALID_JSON;
  }
}

/** Checks the value of a message; see `MessageRouter.parse()`. @internal */
export function parseEnvelope<T>(value: unknown, sender: MessageSender): ParseResult<T> {
  try {
    return checkedEnvelope(value, sender);
  } catch {
    // A getter or a Proxy among the values of a host.
    return invalid();
  }
}

function checkedEnvelope<T>(value: unknown, sender: MessageSender): ParseResult<T> {
  if (isUnread(value)) return { success: false, problem: value };
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

/** Returns the id of a message whose envelope is invalid elsewhere, so that the answer names it. @internal */
export function idOf(value: unknown): string | undefined {
  try {
    const id =
      typeof value === 'object' && value !== null && 'messageId' in value
        ? value.messageId
        : undefined;
    return isName(id) ? id : undefined;
  } catch {
    return undefined;
  }
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
