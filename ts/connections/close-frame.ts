/** The contents of a close frame: its code and its reason (RFC 6455, 5.5.1 and 7.4). */
import { outOfRange, wrongType } from '../base/errors.js';

/** A control frame holds 125 bytes (RFC 6455, 5.5), two of which are the code. */
const REASON_BYTES_MAX = 123;

/** True for a code that an endpoint may send: 1004 to 1006 and 1015 are reserved (RFC 6455, 7.4.1). */
function maySend(code: number): boolean {
  return (
    Number.isInteger(code) &&
    ((code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
      (code >= 3000 && code <= 4999))
  );
}

/** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for a code that must not be sent @internal */
export function checkCloseCode(code: unknown): void {
  const allowed = 'a close code that may be sent: 1000-1003, 1007-1014 or 3000-4999';
  if (typeof code !== 'number') throw wrongType('code', code, allowed);
  if (!maySend(code)) throw outOfRange('code', code, allowed);
}

/** Cuts a reason to 123 bytes of UTF-8, between two characters. @throws ERR_INVALID_ARG_TYPE @internal */
export function cutReason(reason: unknown): string {
  if (typeof reason !== 'string') throw wrongType('reason', reason, 'a string');
  // A UTF-16 unit is at most three bytes of UTF-8.
  if (reason.length * 3 <= REASON_BYTES_MAX) return reason;
  const bytes = Buffer.from(reason.slice(0, REASON_BYTES_MAX));
  if (bytes.length <= REASON_BYTES_MAX) return bytes.toString();
  let end = REASON_BYTES_MAX;
  // A byte of the form 10xxxxxx continues a character.
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}
