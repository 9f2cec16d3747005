/** Problems of messages: their codes and their texts. */

/** Reason why a message was not handled, as a stable code. */
export type MessageProblemCode =
  | 'not_text'
  | 'invalid_json'
  | 'invalid_envelope'
  | 'unknown_type'
  | 'invalid_payload'
  | 'handler_failed';

/** A message that was not handled. The client gets it as the payload of a message of type `error`. */
export interface MessageProblem {
  /** Stable code. */
  readonly code: MessageProblemCode;
  /** Text for the client. */
  readonly message: string;
  /** Field of the envelope at fault, if it is one. */
  readonly field?: string;
}

const TEXTS: Readonly<Record<MessageProblemCode, string>> = {
  not_text: 'A message must be text',
  invalid_json: 'A message must be JSON',
  invalid_envelope: 'A message must be an object { type, payload?, timestamp?, messageId? }',
  unknown_type: 'There is no handler for this type',
  invalid_payload: 'The payload does not fit its type',
  handler_failed: 'The message could not be handled',
};

/** Makes a problem with the text of its code. @internal */
export function problemOf(code: MessageProblemCode, field?: string): MessageProblem {
  return { code, message: TEXTS[code], ...(field === undefined ? {} : { field }) };
}
