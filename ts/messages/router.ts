/** Typed messages in envelopes: parsed, checked, handed to the handler of their type. Knows no socket. */
import { randomUUID } from 'node:crypto';
import { wallClockMs } from '../base/clock.js';
import { ArgumentRangeError, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TypedWebSocketConnection, TypedWebSocketMessage } from './types.js';

/** Why a message was not handled. */
export type MessageProblemCode =
  | 'not_text'
  | 'invalid_json'
  | 'invalid_envelope'
  | 'unknown_type'
  | 'invalid_payload'
  | 'handler_failed';

/** What a client is told whose message was not handled: the payload of a message of type `error`. */
export interface MessageProblem {
  readonly code: MessageProblemCode;
  readonly message: string;
  /** The field of the envelope that is wrong, if one is. */
  readonly field?: string;
}

/** What a handler may answer: it is sent in an envelope with the id of the message it answers. */
export interface Outgoing<T = unknown> {
  readonly type: string;
  readonly payload?: T;
}

/** Handles the messages of one type; what it returns is the answer. */
export type MessageHandler<T, C = TypedWebSocketConnection> = (
  connection: C,
  message: TypedWebSocketMessage<T>,
) => Outgoing | undefined | void | Promise<Outgoing | undefined | void>;

/** Options of a router. */
export interface MessageRouterOptions {
  /** Told what a handler threw; the client is told `handler_failed` and nothing more. */
  readonly onError?: ((error: unknown, type: string) => void) | undefined;
  /** Told which type's handler runs, so that a stall can be put down to it. Default: none. */
  readonly monitor?: ResourceMonitor | undefined;
}

/** How messages fared. */
export interface MessageStats {
  readonly handled: number;
  /** By code; codes that never came up are absent. */
  readonly problems: Readonly<Partial<Record<MessageProblemCode, number>>>;
}

interface Route<C> {
  readonly handle: MessageHandler<unknown, C>;
  readonly check: ((payload: unknown) => boolean) | undefined;
  /** Its number at the monitor. */
  label: number;
}

/** Who a message is from, as the server knows it. What a client says of itself is not believed. */
interface Sender {
  readonly userId?: string | undefined;
  readonly sessionId?: string | undefined;
}

const NAME_MAX = 128;

const TEXTS: Readonly<Record<MessageProblemCode, string>> = {
  not_text: 'A message must be text',
  invalid_json: 'A message must be JSON',
  invalid_envelope: 'A message must be an object { type, payload?, timestamp?, messageId? }',
  unknown_type: 'There is no handler for this type',
  invalid_payload: 'The payload does not fit its type',
  handler_failed: 'The message could not be handled',
};

/** Whether an outcome is a problem. */
export function isProblem(outcome: MessageProblem | object): outcome is MessageProblem {
  return 'code' in outcome;
}

function problem(code: MessageProblemCode, field?: string): MessageProblem {
  return { code, message: TEXTS[code], ...(field === undefined ? {} : { field }) };
}

/** Hands messages to the handlers of their types. */
export class MessageRouter<C = TypedWebSocketConnection> {
  readonly #routes = new Map<string, Route<C>>();
  readonly #options: MessageRouterOptions;
  readonly #problems: Partial<Record<MessageProblemCode, number>> = {};
  #monitor: ResourceMonitor | undefined;
  #handled = 0;
  #otherwise: Route<C> | undefined;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION */
  constructor(options: MessageRouterOptions = {}) {
    if (typeof options !== 'object' || options === null)
      throw wrongType('options', options, 'an object');
    knownOptions('MessageRouter', options, ['onError', 'monitor']);
    if (options.onError !== undefined && typeof options.onError !== 'function')
      throw wrongType('onError', options.onError, 'a function');
    if (
      options.monitor !== undefined &&
      typeof (options.monitor as Partial<ResourceMonitor> | null)?.mark !== 'function'
    )
      throw wrongType('monitor', options.monitor, 'a ResourceMonitor');
    this.#options = options;
    this.#monitor = options.monitor;
  }

  /**
   * Sets the handler of a type.
   * @param type 1 to 128 characters
   * @param check tells whether a payload is what the handler takes; without it, the payload's type is a promise of the client's
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a type that has a handler
   * @example
   * router.on('add', (_connection, { payload }) => ({ type: 'sum', payload: payload.a + payload.b }), isPair);
   */
  on<T>(
    type: string,
    handle: MessageHandler<T, C>,
    check?: (payload: unknown) => payload is T,
  ): this {
    if (typeof type !== 'string' || type === '' || type.length > NAME_MAX)
      throw wrongType('type', type, `a string of 1 to ${NAME_MAX} characters`);
    if (typeof handle !== 'function') throw wrongType('handle', handle, 'a function');
    if (check !== undefined && typeof check !== 'function')
      throw wrongType('check', check, 'a function');
    if (this.#routes.has(type)) {
      throw new ArgumentRangeError(`there is a handler of ${JSON.stringify(type)} already`, {
        field: 'type',
        value: type,
        allowed: 'a type without a handler',
      });
    }
    this.#routes.set(type, {
      handle: handle as MessageHandler<unknown, C>,
      check,
      label: this.#label(type),
    });
    return this;
  }

  /** Sets what handles the types that have no handler. */
  otherwise(handle: MessageHandler<unknown, C>): this {
    if (typeof handle !== 'function') throw wrongType('handle', handle, 'a function');
    this.#otherwise = { handle, check: undefined, label: this.#label(undefined) };
    return this;
  }

  #label(type: string | undefined): number {
    return (
      this.#monitor?.label(type === undefined ? 'message of another type' : `message ${type}`) ?? 0
    );
  }

  /** Tells a monitor from now on which handler runs. @internal */
  observe(monitor: ResourceMonitor): void {
    this.#monitor = monitor;
    for (const [type, route] of this.#routes) route.label = this.#label(type);
    if (this.#otherwise !== undefined) this.#otherwise.label = this.#label(undefined);
  }

  /** Whether a type has a handler of its own. */
  has(type: string): boolean {
    return this.#routes.has(type);
  }

  /** A message as it is sent. @internal */
  static envelope(outgoing: Outgoing, messageId?: string): TypedWebSocketMessage {
    return {
      type: outgoing.type,
      payload: outgoing.payload,
      timestamp: new Date(wallClockMs()).toISOString(),
      messageId: messageId ?? randomUUID(),
    };
  }

  /** How messages fared so far. */
  stats(): MessageStats {
    return { handled: this.#handled, problems: { ...this.#problems } };
  }

  /**
   * Parses and checks a message. What is missing of `timestamp` and `messageId` is filled in.
   * @param raw the text, or what a host has parsed it to
   */
  parse<T = unknown>(raw: unknown, sender: Sender = {}): TypedWebSocketMessage<T> | MessageProblem {
    let value = raw;
    if (typeof raw === 'string') {
      try {
        value = JSON.parse(raw);
      } catch {
        return problem('invalid_json');
      }
    } else if (ArrayBuffer.isView(raw) || raw instanceof ArrayBuffer) return problem('not_text');
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return problem('invalid_envelope');
    const { type, payload, timestamp, messageId } = value as Readonly<Record<string, unknown>>;
    if (typeof type !== 'string' || type === '' || type.length > NAME_MAX)
      return problem('invalid_envelope', 'type');
    if (timestamp !== undefined && !isTimestamp(timestamp))
      return problem('invalid_envelope', 'timestamp');
    if (
      messageId !== undefined &&
      (typeof messageId !== 'string' || messageId === '' || messageId.length > NAME_MAX)
    ) {
      return problem('invalid_envelope', 'messageId');
    }
    return {
      type,
      payload: payload as T,
      timestamp:
        timestamp === undefined ? new Date(wallClockMs()).toISOString() : (timestamp as string),
      messageId: messageId === undefined ? randomUUID() : (messageId as string),
      ...(sender.userId === undefined ? {} : { userId: sender.userId }),
      ...(sender.sessionId === undefined ? {} : { sessionId: sender.sessionId }),
    };
  }

  /**
   * Handles a message. Never throws or rejects.
   * @returns the envelope to send back, if any, and the problem, if there was one
   */
  receive(
    raw: unknown,
    connection: C,
    sender: Sender = {},
  ): Reply | undefined | Promise<Reply | undefined> {
    const message = this.parse(raw, sender);
    if (isProblem(message)) return this.#refuse(message, idOf(raw));
    const route = this.#routes.get(message.type) ?? this.#otherwise;
    if (route === undefined)
      return this.#refuse(problem('unknown_type', 'type'), message.messageId);
    try {
      if (route.check !== undefined && !route.check(message.payload))
        return this.#refuse(problem('invalid_payload', 'payload'), message.messageId);
      this.#monitor?.mark(route.label);
      const answer = route.handle(connection, message);
      if (!(answer instanceof Promise)) return this.#answer(answer, message);
      return answer.then(
        (late) => this.#answer(late, message),
        (error: unknown) => this.#failed(error, message),
      );
    } catch (error) {
      return this.#failed(error, message);
    }
  }

  #answer(answer: Outgoing | undefined | void, message: TypedWebSocketMessage): Reply | undefined {
    let reply: Reply | undefined;
    if (typeof answer === 'object' && answer !== null) {
      try {
        const envelope = MessageRouter.envelope(answer, message.messageId);
        reply = { envelope, text: JSON.stringify(envelope), problem: undefined };
      } catch (error) {
        // A circle, a bigint, or a depth that no stack holds.
        return this.#failed(error, message);
      }
    }
    this.#handled++;
    return reply;
  }

  #failed(error: unknown, message: TypedWebSocketMessage): Reply {
    try {
      this.#options.onError?.(error, message.type);
    } catch {
      // A client must not be able to end the server through a hook.
    }
    return this.#refuse(problem('handler_failed'), message.messageId);
  }

  #refuse(what: MessageProblem, messageId: string | undefined): Reply {
    this.#problems[what.code] = (this.#problems[what.code] ?? 0) + 1;
    const envelope = MessageRouter.envelope({ type: 'error', payload: what }, messageId);
    return { envelope, text: JSON.stringify(envelope), problem: what };
  }
}

/** What goes back to the client. */
export interface Reply {
  readonly envelope: TypedWebSocketMessage;
  /** The envelope as JSON. */
  readonly text: string;
  readonly problem: MessageProblem | undefined;
}

/** The id of a message whose envelope is wrong elsewhere. */
function idOf(raw: unknown): string | undefined {
  const id =
    typeof raw === 'object' && raw !== null && 'messageId' in raw ? raw.messageId : undefined;
  return typeof id === 'string' && id !== '' && id.length <= NAME_MAX ? id : undefined;
}

/** An instant of RFC 3339, as `toISOString` writes it or with an offset. */
function isTimestamp(value: unknown): boolean {
  return (
    typeof value === 'string' &&
    value.length <= 35 &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(value) &&
    !Number.isNaN(Date.parse(value))
  );
}
