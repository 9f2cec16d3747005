/** Judges messages as JSON before a handler sees them. */
import { wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import type { ManagedConnection } from '../connections/connection.js';
import { failure, type ValidationFailure } from '../validators/failure.js';
import type { FailureCode } from '../validators/failure-codes.js';
import { bytesOf, checkMessage } from '../validators/json.js';
import {
  checkedJsonLimits,
  type CheckedJsonLimits,
  type JsonLimits,
} from '../validators/json-limits.js';

/** Options for judging received messages. */
export interface MessageOptions {
  /**
   * Judges every message as JSON before a handler sees it. Missing limits have the defaults of `JsonLimits`,
   * with a depth of 32. A message that is neither text nor bytes is none: leave the `binaryType` of `ws` as it is, since a
   * `Blob` can only be read later. Default: messages are not judged.
   */
  readonly json?: JsonLimits | undefined;
  /**
   * Action for a message that `json` refuses; it has no effect without `json`. `close`: closes the connection, with 1009 for a message that is too large,
   * 1007 for one that is no JSON, 1008 for the rest. `drop`: no handler sees the message. A function gets the
   * failure and returns one of the two at once; if it throws, or returns a promise, the connection is closed, and a process
   * warning has the error. Default `close`.
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

/**
 * Limits for a host that answers text without valid JSON itself: such text passes. The engine's parser
 * ends at the same byte as the scanner, so that it reads nothing beyond a limit. The size is the
 * matter of `maxMessageSize`.
 * @internal
 */
export const LIMITS_ONLY: JsonLimits = Object.freeze({ maxBytes: 2 ** 31 - 1 });

function isNoJson({ code }: ValidationFailure): boolean {
  return code === 'ERR_JSON_SYNTAX' || code === 'ERR_JSON_ENCODING';
}

function closeCodeOf({ code, status }: ValidationFailure): number {
  if (status === 413) return 1009;
  return code === 'ERR_JSON_SYNTAX' || code === 'ERR_JSON_ENCODING' || code === 'ERR_JSON_SURROGATE'
    ? 1007
    : 1008;
}

/** Judges messages by the limits of `json`, and acts on the refused ones. @internal */
export class JsonMessageFilter {
  readonly #limits: CheckedJsonLimits | undefined;
  readonly #passesNoJson: boolean;
  readonly #onInvalid: MessageOptions['onInvalidMessage'];
  readonly #hooks = new Hooks();
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
    this.#passesNoJson = json === LIMITS_ONLY;
    this.#onInvalid = onInvalidMessage;
  }

  /**
   * True if handlers may see the message; a refused message is dealt with already.
   * @param passesNoJson true if text without valid JSON may pass
   */
  admits(
    message: unknown,
    connection: ManagedConnection,
    passesNoJson = this.#passesNoJson,
  ): boolean {
    if (this.#limits === undefined) return true;
    const given =
      typeof message === 'string'
        ? message
        : Array.isArray(message)
          ? Buffer.concat(message as Buffer[])
          : bytesOf(message);
    const refused =
      given === undefined
        ? failure('ERR_JSON_TYPE', { field: 'payload' })
        : checkMessage(given, this.#limits);
    if (refused === undefined || (passesNoJson && isNoJson(refused))) return true;
    this.#refused[refused.code] = (this.#refused[refused.code] ?? 0) + 1;
    if (this.#actionFor(refused, connection) === 'close')
      connection.close(closeCodeOf(refused), refused.reason);
    return false;
  }

  /** Refused messages by code. */
  refused(): Readonly<Partial<Record<FailureCode, number>>> {
    return { ...this.#refused };
  }

  #actionFor(refused: ValidationFailure, connection: ManagedConnection): 'close' | 'drop' {
    const onInvalid = this.#onInvalid;
    if (typeof onInvalid !== 'function') return onInvalid ?? 'close';
    const answer = this.#hooks.ask('onInvalidMessage', () => onInvalid(refused, connection));
    return answer === 'drop' ? 'drop' : 'close';
  }
}
