/** The text of a Socket.IO packet, as far as its JSON has to be found in it. */

const DIGITS = /^\d+/;
const ANNOUNCED = /^[56](\d+)-/;
/** Attachments of one packet that the parser accepts by default; a packet with more ends its client. */
const ATTACHMENTS_MAX = 10;

/** Returns the number of attachments that a packet announces: they follow it as packets of their own. @internal */
export function attachmentsOf(packet: string): number {
  return Number(ANNOUNCED.exec(packet)?.[1] ?? 0);
}

/**
 * A packet and its attachments: handlers see all of them or none, since the parser ends a client whose packet
 * lacks an attachment. So the packet waits for its attachments here, as it would in the parser.
 * @internal
 */
export class PacketUnit {
  /** Attachments that have not arrived. */
  left: number;
  /** True if no handler is to see the packet and what belongs to it. */
  isDropped: boolean;
  /** The packet and its attachments so far. */
  #held: unknown[];

  constructor(packet: string, attachments: number, isDropped: boolean) {
    this.left = attachments;
    this.isDropped = isDropped;
    this.#held = isDropped ? [] : [packet];
  }

  /**
   * Returns the unit of a packet that waits for attachments; `undefined` for a packet that needs none: it has no
   * attachments, or so many that the parser refuses it at once.
   */
  static of(packet: string, isAdmitted: boolean): PacketUnit | undefined {
    const attachments = attachmentsOf(packet);
    if (attachments === 0 || (isAdmitted && attachments > ATTACHMENTS_MAX)) return undefined;
    return new PacketUnit(packet, attachments, !isAdmitted);
  }

  /** Takes the next attachment; a refused one drops the whole packet. */
  take(attachment: unknown, isAdmitted: boolean): void {
    this.left--;
    if (!isAdmitted) this.isDropped = true;
    if (this.isDropped) this.#held = [];
    else if (this.left > 0) this.#held.push(attachment);
  }

  /** Returns what handlers may see now, and forgets it. */
  release(): readonly unknown[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }
}

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
