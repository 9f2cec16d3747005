/** Header fields among options: their grammar is that of RFC 9110, section 5. */
import { outOfRange, secretOutOfRange, wrongSecretType } from './errors.js';
import { givenOptions, optionsObject } from './options.js';

/** A token of RFC 9110, section 5.6.2, of a length that no header exceeds. @internal */
export const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]{1,128}$/;
/** A field value of section 5.5: no line ends, so that no header can begin another one. @internal */
export const HEADER_VALUE = /^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/;

/**
 * Returns a copy of the headers of a request that this package sends, by names in lower case and without those that are
 * `undefined`. Errors do not show a value: it may be a secret.
 * @param refused names in lower case of headers that cannot be sent
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the header
 * @internal
 */
export function requestHeaders(
  field: string,
  headers: unknown,
  refused: ReadonlySet<string> = new Set(),
): Record<string, string> {
  optionsObject(field, headers, "an object of headers such as { 'x-client': 'chat' }");
  const entries = Object.entries(givenOptions(headers));
  const names = new Set<string>();
  return Object.fromEntries(
    entries.map(([name, value]) => {
      if (!HEADER_NAME.test(name))
        throw outOfRange(field, name, "with names of letters, digits and !#$%&'*+-.^_`|~ only");
      const at = `${field}.${name}`;
      const lower = name.toLowerCase();
      if (refused.has(lower))
        throw outOfRange(field, name, `without ${[...refused].join(', ')}: these are not sent`);
      if (names.has(lower))
        throw outOfRange(field, name, 'with each name once, whatever its letter case is');
      names.add(lower);
      if (typeof value !== 'string') throw wrongSecretType(at, value, 'a string');
      if (!HEADER_VALUE.test(value))
        throw secretOutOfRange(at, value, 'without line ends, control characters and outer spaces');
      return [lower, value];
    }),
  );
}
