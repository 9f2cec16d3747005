/** The text of a Socket.IO packet, as far as its JSON has to be found in it. */

const DIGITS = /^\d+/;

/**
 * Returns the JSON of a packet in the encoding of `socket.io-parser`: a digit for the type, the number
 * of attachments with `-`, the namespace with `,`, the id of an acknowledgement, then the JSON. A text
 * in another encoding is returned from its first byte that fits no such part.
 * @returns `undefined` if the packet holds no JSON
 * @internal
 */
export function jsonOf(packet: string): string | undefined {
  let rest = packet.slice(1);
  const attachments = /^\d+-/.exec(rest);
  // Types 5 and 6 hold binary attachments: only they begin with a number of them.
  if ((packet[0] === '5' || packet[0] === '6') && attachments !== null)
    rest = rest.slice(attachments[0].length);
  if (rest.startsWith('/')) {
    const end = rest.indexOf(',');
    rest = end === -1 ? '' : rest.slice(end + 1);
  }
  const id = DIGITS.exec(rest);
  if (id !== null) rest = rest.slice(id[0].length);
  return rest === '' ? undefined : rest;
}
