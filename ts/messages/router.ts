/** Hands messages to the handler of their type. Knows no socket: its caller sends the reply. */
import { ArgumentRangeError, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks, ignoreRejection, isThenable } from '../base/hooks.js';
import { knownOptions, optionsObject } from '../base/options.js';
import type { RateAction } from '../connections/connect-rates.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import {
  envelopeOf,
  idOf,
  isName,
  type MessageSender,
  NAME_MAX,
  type Outgoing,
  parseEnvelope,
  type ParseResult,
  valueOf,
} from './envelope.js';
import { type MessageProblem, type MessageProblemCode, problemOf } from './problem.js';
import { type MessageTypeRate, TypeRateLimiter } from './type-rate.js';
import type { TypedWebSocketConnection, TypedWebSocketMessage } from './types.js';

/** Handles the messages of one type. Its result, if any, is sent back as the answer. */
export type MessageHandler<T, C = TypedWebSocketConnection> = (
  connection: C,
  message: TypedWebSocketMessage<T>,
) => Outgoing | undefined | void | Promise<Outgoing | undefined | void>;

/** Check and rate of the messages of one type. */
export interface MessageTypeOptions<T> {
  /**
   * Returns `true` if a payload fits the type; any other value says that it does not. Default: none, and the type of
   * the payload is the client's promise only.
   */
  readonly check?: ((payload: unknown) => payload is T) | undefined;
  /** Rate of the messages of this type, judged before `check`. Default: none. */
  readonly rate?: MessageTypeRate | undefined;
}

/** A message over the rate of its type. */
export interface ExceededTypeRate<C = TypedWebSocketConnection> {
  readonly type: string;
  readonly connection: C;
  readonly action: RateAction;
}

/** Options of a router. */
export interface MessageRouterOptions<C = TypedWebSocketConnection> {
  /**
   * Called with the error of a handler or check that throws or rejects, and with the connection, whose
   * `requestId` and `traceparent` are those of its handshake behind a guard. The client gets
   * `handler_failed` without details. A check that returns a promise fails, too. Default: a process warning, once
   * for each type.
   */
  readonly onError?: ((error: unknown, type: string, connection: C) => void) | undefined;
  /**
   * Called for each message over the rate of its type, before the action is taken. Its error goes to `onError`; without
   * one it is a process warning. Default: none.
   */
  readonly onRateExceeded?: ((exceeded: ExceededTypeRate<C>) => void) | undefined;
  /** Monitor that learns which handler runs, so that it can name the cause of a stall. Default: none. */
  readonly monitor?: ResourceMonitor | undefined;
}

/** Counts of a router. */
export interface MessageStats {
  /** Messages whose handler has ended without an error. */
  readonly handled: number;
  /** Problems by code; codes that never came up are absent. */
  readonly problems: Readonly<Partial<Record<MessageProblemCode, number>>>;
  /** Messages over the rate of their type, whatever the action was. */
  readonly overRate: number;
}

/** The reply to a message, ready to be sent. */
export interface MessageReply {
  /** The answer of the handler, or a message of type `error` with the problem as its payload. */
  readonly envelope: TypedWebSocketMessage;
  /** The envelope as JSON. */
  readonly text: string;
  /** The problem, if the message was not handled. */
  readonly problem: MessageProblem | undefined;
}

const RATE_REASON = 'Message rate exceeded';
const NOBODY: MessageSender = Object.freeze({});

/** @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION */
function checkedType<T>(given: MessageTypeOptions<T>): MessageTypeOptions<T> {
  optionsObject('check', given, 'a function or an object { check, rate }');
  knownOptions('type', given, ['check', 'rate']);
  const { check, rate } = given;
  if (check !== undefined && typeof check !== 'function')
    throw wrongType('check', check, 'a function');
  return { check, rate };
}

/** Returns the error for a type that has a handler. @internal */
export function handledAlready(field: string, type: string): PortcullisError {
  return new ArgumentRangeError(`there is a handler of ${JSON.stringify(type)} already`, {
    field,
    value: type,
    allowed: 'a type without a handler',
  });
}

interface Closable {
  close(code: number, reason: string): unknown;
}

/** Returns the connection, or the socket of one that cannot be closed itself. */
function closableOf(connection: unknown): Closable {
  const { close, socket } = (connection ?? {}) as Partial<Closable & { readonly socket: Closable }>;
  if (typeof close === 'function') return connection as Closable;
  if (typeof socket?.close === 'function') return socket;
  throw wrongType(
    'connection.close',
    close,
    "a function: the rate of the type has the action 'close'",
  );
}

interface Route<C> {
  readonly handle: MessageHandler<unknown, C>;
  readonly check: ((payload: unknown) => boolean) | undefined;
  readonly rate: TypeRateLimiter | undefined;
  /** The monitor's number for this handler. */
  label: number;
}

/**
 * Hands messages to the handlers of their types.
 *
 * @example
 * const router = new MessageRouter<ManagedConnection>();
 * router.on('echo', (_connection, { payload }) => ({ type: 'echo', payload }));
 * socket.on('message', async (data) => {
 *   const reply = await router.receive(String(data), connection, { userId: connection.userId });
 *   if (reply !== undefined) socket.send(reply.text);
 * });
 */
export class MessageRouter<C = TypedWebSocketConnection> {
  readonly #routes = new Map<string, Route<C>>();
  readonly #onError: MessageRouterOptions<C>['onError'];
  readonly #onRateExceeded: MessageRouterOptions<C>['onRateExceeded'];
  readonly #hooks = new Hooks();
  readonly #problems: Partial<Record<MessageProblemCode, number>> = {};
  #monitor: ResourceMonitor | undefined;
  #handled = 0;
  #overRate = 0;
  /** The route of all types without one of their own. */
  #otherwise: Route<C> | undefined;
  #isClosed = false;

  /**
   * @param options see `MessageRouterOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION
   */
  constructor(options: MessageRouterOptions<C> = {}) {
    optionsObject('options', options);
    knownOptions('MessageRouter', options, ['onError', 'onRateExceeded', 'monitor']);
    const { onError, onRateExceeded, monitor } = options;
    if (onError !== undefined && typeof onError !== 'function')
      throw wrongType('onError', onError, 'a function');
    if (onRateExceeded !== undefined && typeof onRateExceeded !== 'function')
      throw wrongType('onRateExceeded', onRateExceeded, 'a function');
    if (
      monitor !== undefined &&
      typeof (monitor as Partial<ResourceMonitor> | null)?.markWithin !== 'function'
    )
      throw wrongType('monitor', monitor, 'a ResourceMonitor');
    this.#onError = onError;
    this.#onRateExceeded = onRateExceeded;
    this.#monitor = monitor;
  }

  /**
   * Sets the handler of a type.
   * @param type 1 to 128 characters
   * @param handle called with the connection and the message; its result is the answer
   * @param check returns true if a payload fits the type, or `{ check, rate }`. Without a check, the
   * type of the payload is the client's promise only.
   * @returns the router
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; ERR_OUT_OF_RANGE, also for a type that has a
   * handler; ERR_LIMITS_CONFLICT if the `name` of the rate is open with other options; ERR_CLOSED after `close()`
   * @example
   * router.on('chat', say, { check: isText, rate: { limit: 5, windowMs: 1000, action: 'drop' } });
   * router.on('add', (_connection, { payload }) => ({ type: 'sum', payload: payload.a + payload.b }), isPair);
   */
  on<T>(
    type: string,
    handle: MessageHandler<T, C>,
    check?: ((payload: unknown) => payload is T) | MessageTypeOptions<T>,
  ): this {
    if (typeof type !== 'string' || type === '' || type.length > NAME_MAX)
      throw wrongType('type', type, `a string of 1 to ${NAME_MAX} characters`);
    if (typeof handle !== 'function') throw wrongType('handle', handle, 'a function');
    const given = typeof check === 'function' ? { check } : checkedType(check ?? {});
    this.#checkOpen();
    if (this.#routes.has(type)) throw handledAlready('type', type);
    this.#routes.set(type, {
      handle: handle as MessageHandler<unknown, C>,
      check: given.check,
      rate: given.rate === undefined ? undefined : new TypeRateLimiter(given.rate),
      label: this.#label(type),
    });
    return this;
  }

  /**
   * Sets the handler of all types without a handler of their own; a second one replaces the first.
   * @param handle as of `on()`
   * @returns the router
   * @throws ERR_INVALID_ARG_TYPE; ERR_CLOSED after `close()`
   */
  otherwise(handle: MessageHandler<unknown, C>): this {
    if (typeof handle !== 'function') throw wrongType('handle', handle, 'a function');
    this.#checkOpen();
    this.#otherwise = { handle, check: undefined, rate: undefined, label: this.#label(undefined) };
    return this;
  }

  /** @throws ERR_CLOSED after `close()` */
  #checkOpen(): void {
    if (this.#isClosed)
      throw new PortcullisError('ERR_CLOSED', 'the message router is closed: it takes no handler');
  }

  #label(type: string | undefined): number {
    return (
      this.#monitor?.label(type === undefined ? 'message of another type' : `message ${type}`) ?? 0
    );
  }

  /** Reports to another monitor which handler runs. @internal */
  observe(monitor: ResourceMonitor): void {
    this.#monitor = monitor;
    for (const [type, route] of this.#routes) route.label = this.#label(type);
    if (this.#otherwise !== undefined) this.#otherwise.label = this.#label(undefined);
  }

  /** True if a type has a handler of its own. */
  has(type: string): boolean {
    return this.#routes.has(type);
  }

  /** Returns the counts at this moment. */
  snapshot(): MessageStats {
    return {
      handled: this.#handled,
      problems: { ...this.#problems },
      overRate: this.#overRate,
    };
  }

  /**
   * Parses a message and checks its envelope. Completes it with a `timestamp`, a `messageId`, and the
   * sender's `userId` and `sessionId`. Does not count it, and never throws.
   * @param raw the text of the message, or the value that the host has parsed it to
   * @param sender author of the message, as the server knows it. Default: unknown
   * @example
   * const parsed = router.parse(text, { userId });
   * if (parsed.success) handle(parsed.message);
   * else console.warn(parsed.problem.code);
   */
  parse<T = unknown>(raw: unknown, sender?: MessageSender | null): ParseResult<T> {
    return parseEnvelope(valueOf(raw), sender ?? NOBODY);
  }

  /**
   * Parses a message, runs its handler and counts the outcome. Never throws or rejects.
   * @param raw the text of the message, or the value that the host has parsed it to
   * @param connection handed to the handler
   * @param sender author of the message, as the server knows it. Default: unknown
   * @returns the reply to send back; `undefined` if the handler gives no answer
   */
  receive(
    raw: unknown,
    connection: C,
    sender?: MessageSender | null,
  ): MessageReply | undefined | Promise<MessageReply | undefined> {
    const value = valueOf(raw);
    const author = sender ?? NOBODY;
    const parsed = parseEnvelope(value, author);
    if (!parsed.success) return this.#refuse(parsed.problem, idOf(value));
    const { message } = parsed;
    const route = this.#routes.get(message.type) ?? this.#otherwise;
    if (route === undefined)
      return this.#refuse(problemOf('unknown_type', 'type'), message.messageId);
    try {
      if (
        route.rate?.admits(connection, author) === false &&
        !this.#exceeds(route.rate, connection, message.type)
      )
        return undefined;
      if (route.check !== undefined && !this.#passes(route.check, message.payload))
        return this.#refuse(problemOf('invalid_payload', 'payload'), message.messageId);
      this.#monitor?.markWithin(route.label);
      const answer = route.handle(connection, message);
      if (!isThenable(answer)) return this.#answer(answer, message, connection);
      return Promise.resolve(answer).then(
        (late) => this.#answer(late, message, connection),
        (error: unknown) => this.#failed(error, message, connection),
      );
    } catch (error) {
      return this.#failed(error, message, connection);
    }
  }

  /** Returns the answer of a check. @throws TypeError for a promise, which is true whatever it resolves to */
  #passes(check: (payload: unknown) => unknown, payload: unknown): boolean {
    const answer = check(payload);
    if (!isThenable(answer)) return answer === true;
    ignoreRejection(answer);
    throw new TypeError('check returned a promise, and its answer is needed at once');
  }

  /** Takes the action for a message over its rate; returns whether it is handled all the same. */
  #exceeds({ action }: TypeRateLimiter, connection: C, type: string): boolean {
    this.#overRate++;
    this.#hooks.run('onRateExceeded', () => this.#rateExceeded({ type, connection, action }));
    if (action === 'close') {
      const closed: unknown = closableOf(connection).close(1008, RATE_REASON);
      if (isThenable(closed))
        void Promise.resolve(closed).catch((error: unknown) => this.#tell(error, type, connection));
    }
    return action === 'report';
  }

  /** Calls `onRateExceeded`. @throws its error, also later, if no `onError` hears of it */
  #rateExceeded(exceeded: ExceededTypeRate<C>): unknown {
    const { type, connection } = exceeded;
    const failed = (error: unknown): void => {
      if (this.#onError === undefined) throw error;
      this.#tell(error, type, connection);
    };
    try {
      const answer: unknown = this.#onRateExceeded?.(exceeded);
      return isThenable(answer) ? answer.then(undefined, failed) : undefined;
    } catch (error) {
      return failed(error);
    }
  }

  #tell(error: unknown, type: string, connection: C): void {
    const onError = this.#onError;
    if (onError !== undefined) this.#hooks.run('onError', () => onError(error, type, connection));
    // Clients choose the other types.
    else this.#hooks.warn(`message ${this.#routes.has(type) ? type : 'of another type'}`, error);
  }

  #answer(
    answer: Outgoing | undefined | void,
    message: TypedWebSocketMessage,
    connection: C,
  ): MessageReply | undefined {
    let reply: MessageReply | undefined;
    if (typeof answer === 'object' && answer !== null) {
      try {
        if (!isName(answer.type))
          throw wrongType('answer.type', answer.type, `a string of 1 to ${NAME_MAX} characters`);
        const envelope = envelopeOf(answer, message.messageId);
        reply = { envelope, text: JSON.stringify(envelope), problem: undefined };
      } catch (error) {
        // No type, a circular payload, a bigint, or a nesting that overflows the stack.
        return this.#failed(error, message, connection);
      }
    }
    this.#handled++;
    return reply;
  }

  #failed(error: unknown, message: TypedWebSocketMessage, connection: C): MessageReply {
    this.#tell(error, message.type, connection);
    return this.#refuse(problemOf('handler_failed'), message.messageId);
  }

  #refuse(problem: MessageProblem, messageId: string | undefined): MessageReply {
    this.#problems[problem.code] = (this.#problems[problem.code] ?? 0) + 1;
    const envelope = envelopeOf({ type: 'error', payload: problem }, messageId);
    return { envelope, text: JSON.stringify(envelope), problem };
  }

  /**
   * Forgets all handlers: messages are answered as of an unknown type from then on. Handlers that run
   * end normally. The names of rates are free again. May be called again.
   */
  close(): void {
    this.#isClosed = true;
    for (const { rate } of this.#routes.values()) rate?.release();
    this.#routes.clear();
    this.#otherwise = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
