/** Addresses by their bits, whatever their notation. */
import { lazily } from './builtin.js';

const net = lazily(() => process.getBuiltinModule('node:net'));

const GROUPS = 8;
/** The prefix of NAT64 (RFC 6052, section 2.1): the last 32 bits are an IPv4 address. */
const NAT64 = [0x64, 0xff9b, 0, 0, 0, 0];

/** Characters of the longest text that is read as an address, as in the core. */
const NOTATION_MAX = 128;
const BLANKS = /^[\t-\r ]+|[\t-\r ]+$/g;
/** An address in brackets, with or without a port; and one with dots and a port. */
const BRACKETED = /^\[([^\]]*)\](?::(\d+))?$/;
const WITH_PORT = /^([^:]*\.[^:]*):(\d+)$/;
const PORT_MAX = 65_535;

/** Returns the address of a text without blanks, brackets, port and zone. */
function bareAddress(text: string): string {
  const trimmed = text.replaceAll(BLANKS, '');
  const [, host = trimmed, port = '0'] = BRACKETED.exec(trimmed) ?? WITH_PORT.exec(trimmed) ?? [];
  if (Number(port) > PORT_MAX) return '';
  // Only IPv6 has zones.
  const [address = ''] = host.split('%', 1);
  return address.includes(':') ? address : host;
}

/**
 * Returns the IPv4 address in dotted form, also of a mapped one (`::ffff:192.0.2.1`), or the eight
 * groups of an IPv6 address without its zone; `undefined` for text that is no address. Reads the notations that
 * `Address::parse` of the core reads: with blanks around it, in brackets, with a port, with a zone.
 * @internal
 */
export function parseAddress(text: string): string | readonly number[] | undefined {
  if (net().isIPv4(text)) return text;
  if (text.length > NOTATION_MAX) return undefined;
  const address = bareAddress(text);
  if (net().isIPv4(address)) return address;
  if (!net().isIPv6(address)) return undefined;
  const [head = '', tail] = address.split('::');
  const groups = groupsOf(head);
  if (tail !== undefined) {
    const last = groupsOf(tail);
    while (groups.length + last.length < GROUPS) groups.push(0);
    groups.push(...last);
  }
  const isMapped = groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0);
  return isMapped ? lastQuad(groups) : groups;
}

/** Returns the groups of one half of an IPv6 address; a dotted quad at its end stands for two. */
function groupsOf(half: string): number[] {
  if (half === '') return [];
  return half.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

function lastQuad(groups: readonly number[]): string {
  const [high = 0, low = 0] = groups.slice(6);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** Bits of an IPv6 address that `maskedNetwork` keeps. */
const BITS_KEPT = 48;

/**
 * Returns the network that masks an address or a network: `192.0.2.0/24`, `2001:db8:1::/48`. Text that is
 * neither becomes `''`.
 * @internal
 */
export function maskedNetwork(address: string): string {
  const parsed = parseAddress(address.replace(/\/\d{1,3}$/, ''));
  if (parsed === undefined) return '';
  if (typeof parsed === 'string') return `${parsed.slice(0, parsed.lastIndexOf('.'))}.0/24`;
  return `${textOf(networkOf(parsed, BITS_KEPT))}/${BITS_KEPT}`;
}

/**
 * Returns the key under which a client counts: an IPv4 address; of IPv6 the network of 64 bits, which
 * one client owns, or of `prefixBits`, as `2001:db8:0:1::/64`. Addresses within a link or a site (`fe80::/10`, `fc00::/7`)
 * count by themselves, those of NAT64 by the IPv4 address in them. Text that is no address becomes `''`: such clients
 * share one key. Others have the text that the core has for them, in bans.
 * @internal
 */
export function clientKeyOf(address: string, prefixBits = 64): string {
  const parsed = parseAddress(address);
  if (typeof parsed !== 'object') return parsed ?? '';
  const [first = 0] = parsed;
  if (NAT64.every((group, at) => parsed[at] === group)) return lastQuad(parsed);
  const isLocal = (first & 0xffc0) === 0xfe80 || (first & 0xfe00) === 0xfc00;
  const bits = isLocal ? 128 : prefixBits;
  const text = textOf(networkOf(parsed, bits));
  return bits === 128 ? text : `${text}/${bits}`;
}

/** Returns the groups of an address whose bits behind a prefix are 0. */
function networkOf(groups: readonly number[], prefixBits: number): readonly number[] {
  return groups.map((group, at) => {
    const bits = Math.max(0, Math.min(16, prefixBits - 16 * at));
    return group & (0xffff << (16 - bits));
  });
}

/**
 * Returns the text of an IPv6 address as RFC 5952, section 4, has it: `::` stands for the longest run of two or more
 * groups of 0, and for the first one of several.
 */
function textOf(groups: readonly number[]): string {
  let [from, length] = [0, 1];
  for (let at = 0; at < GROUPS; at++) {
    let end = at;
    while (groups[end] === 0) end++;
    if (end - at > length) [from, length] = [at, end - at];
    at = end;
  }
  const hex = (part: readonly number[]): string =>
    part.map((group) => group.toString(16)).join(':');
  return length === 1
    ? hex(groups)
    : `${hex(groups.slice(0, from))}::${hex(groups.slice(from + length))}`;
}
