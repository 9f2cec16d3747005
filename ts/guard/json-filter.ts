import { wrongType } from '../base/errors.js';
import type { ManagedConnection } from '../connections/connection.js';
import { failure, type ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failures.js';
import { bytesOf, checkMessage } from '../validators/json.js';
import {
  checkedJsonLimits,
  type CheckedJsonLimits,
  type JsonLimits,
} from '../validators/json-limits.js';

/** How adapters judge what their sockets receive. */
export interface MessageOptions {
  /**
   * Judges every message as JSON before a handler sees it; limits that are left out are those of
   * `JsonLimits`, with a depth of 32. Default: none, messages may be anything.
   */
  readonly json?: JsonLimits | undefined;
  /**
   * What becomes of a message that is refused. `close`: the connection is closed, with 1009 for
   * what is too large, 1007 for what is no JSON, 1008 for the rest. `drop`: no handler sees it. A
   * function is told, and says which of the two; if it throws, the connection is closed. Default `close`.
   */
  readonly onInvalidMessage?:
    | 'close'
    | 'drop'
    | ((failure: ValidationFailure, connection: ManagedConnection) => 'close' | 'drop')
    | undefined;
}

/** @internal */
export const MESSAGE_OPTIONS = ['json', 'onInvalidMessage'] as const;

const DEPTH = { maxDepth: 32 };

function closeCodeOf({ code, status }: ValidationFailure): number {
  if (status === 413) return 1009;
  return code === 'ERR_JSON_SYNTAX' || code === 'ERR_JSON_ENCODING' || code === 'ERR_JSON_SURROGATE'
    ? 1007
    : 1008;
}

/** What every adapter does with a message, before its handlers. @internal */
export class JsonMessageFilter {
  readonly #limits: CheckedJsonLimits | undefined;
  readonly #onInvalid: MessageOptions['onInvalidMessage'];
  readonly #refused: Partial<Record<FailureCode, number>> = {};

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options */
  constructor({ json, onInvalidMessage = 'close' }: MessageOptions) {
    if (
      onInvalidMessage !== 'close' &&
      onInvalidMessage !== 'drop' &&
      typeof onInvalidMessage !== 'function'
    )
      throw wrongType('onInvalidMessage', onInvalidMessage, "'close', 'drop' or a function");
    this.#limits = json === undefined ? undefined : checkedJsonLimits('json', json, DEPTH);
    this.#onInvalid = onInvalidMessage;
  }

  /** Whether handlers may see the message; one that may not has been dealt with. */
  admits(message: unknown, connection: ManagedConnection): boolean {
    if (this.#limits === undefined) return true;
    const given =
      typeof message === 'string'
        ? message
        : Array.isArray(message)
          ? Buffer.concat(message as Buffer[])
          : bytesOf(message);
    const why =
      given === undefined
        ? failure('ERR_JSON_TYPE', { field: 'payload' })
        : checkMessage(given, this.#limits);
    if (why === undefined) return true;
    this.#refused[why.code] = (this.#refused[why.code] ?? 0) + 1;
    if (this.#choice(why, connection) === 'close') connection.close(closeCodeOf(why), why.reason);
    return false;
  }

  /** Messages refused, by code. */
  refused(): Readonly<Partial<Record<FailureCode, number>>> {
    return { ...this.#refused };
  }

  #choice(why: ValidationFailure, connection: ManagedConnection): 'close' | 'drop' {
    if (typeof this.#onInvalid !== 'function') return this.#onInvalid ?? 'close';
    try {
      return this.#onInvalid(why, connection) === 'drop' ? 'drop' : 'close';
    } catch {
      // A client must not be able to end the server through a hook.
      return 'close';
    }
  }
}
