/** The host of a URL: whether it leads to the server's own network, and its oddities. */
import { isPublicIp } from '../native/addon.js';

/** An oddity of a URL that was accepted. */
export type UrlFlag =
  /** The path or the query climbs: `..`, in any encoding. */
  | 'traversal'
  /** The path holds an encoded slash or backslash. */
  | 'encoded-separator'
  /** The query holds an encoded control character other than CR, LF and NUL. */
  | 'encoded-control'
  /** A percent sign without two hexadecimal digits, `%uXXXX`, or codes that are no UTF-8. */
  | 'percent'
  /** Some text is encoded twice. */
  | 'double-encoding'
  /** The path or a parameter is a URL itself, or begins like the end of a host. */
  | 'nested-url'
  /** The host has characters that no DNS name has. */
  | 'odd-host'
  /** The host has letters beyond ASCII. */
  | 'international'
  /** A label of the host mixes alphabets. */
  | 'mixed-scripts';

/**
 * Names that are not of the public internet, each with all names below it: names of the own machine
 * and network, special-use names (IANA's registry of RFC 6761; `arpa` holds the reverse zones and
 * `home.arpa`), names of metadata services, and public names that are known to resolve to the own
 * network, or to any address that they spell out.
 */
const LOCAL_SUFFIXES = (
  'localhost localdomain local internal intranet lan home corp private svc kubernetes.default ' +
  'consul ipv6-localhost ip6-localhost ip6-loopback ' +
  'alt arpa example invalid onion test ' +
  'metadata.packet.net metadata.platformequinix.com metadata.tencentyun.com ' +
  'metadata.oraclecloud.com metadata.aliyun.com metadata.aliyuncs.com metadata.digitalocean.com ' +
  'metadata.hetzner.cloud metadata.hetzner.com metadata.azure.com ' +
  'nip.io sslip.io xip.io xip.name localtest.me localh.st localho.st lvh.me vcap.me ' +
  'lacolhost.com fuf.me localdomain.pw 1u.ms rbndr.us bugbounty.dod.network ' +
  'spoofed.burpcollaborator.net mail.ebc.apple.com'
).split(' ');

const SCRIPTS = [
  /\p{Script=Latin}/u,
  /\p{Script=Cyrillic}/u,
  /\p{Script=Greek}/u,
  /\p{Script=Armenian}/u,
  /\p{Script=Hebrew}/u,
  /\p{Script=Arabic}/u,
  /\p{Script=Cherokee}/u,
  /\p{Script=Georgian}/u,
  /\p{Script=Devanagari}/u,
  /\p{Script=Thai}/u,
  // One entry: East Asian languages mix these scripts in one word.
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}]/u,
];

/**
 * Four numbers that a name may spell an address with: `10.0.0.1.nip.io`, `10-0-0-1.example.com`.
 */
const SPELLED_ADDRESS = /(?:^|[.-])(\d{1,3})[.-](\d{1,3})[.-](\d{1,3})[.-](\d{1,3})(?=$|[.-])/g;

/** Returns a parsed host without the brackets of IPv6 and without a trailing dot. */
export function bareHost(hostname: string): string {
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return host.endsWith('.') ? host.slice(0, -1) : host;
}

export function isIpv4(host: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+$/.test(host);
}

/** True if a parsed host is a public address, or a name that does not lead to the own network. */
export function isPublicHost(hostname: string): boolean {
  const host = bareHost(hostname);
  const isAddress = hostname.startsWith('[') || isIpv4(host);
  return isAddress ? isPublicIp(host) : !isLocalName(host);
}

/**
 * True for reserved names, names without a dot, and names that spell out an address that is not
 * public.
 */
function isLocalName(host: string): boolean {
  // Some resolvers skip an empty label, and the rest may be a local name.
  if (!host.includes('.') || host.split('.').includes('')) return true;
  if (LOCAL_SUFFIXES.some((suffix) => host === suffix || host.endsWith(`.${suffix}`))) return true;
  return Array.from(host.matchAll(SPELLED_ADDRESS)).some(([, ...digits]) => {
    const parts = digits.map(Number);
    return parts.every((part) => part <= 255) && !isPublicIp(parts.join('.'));
  });
}

/** Adds the flags of a host to a set. */
export function flagHost(unicodeHost: string, host: string, flags: Set<UrlFlag>): void {
  if (/[^a-z0-9._:-]/.test(host)) flags.add('odd-host');
  if (!host.includes('xn--')) return;
  flags.add('international');
  const mixes = (label: string): boolean =>
    SCRIPTS.filter((script) => script.test(label)).length > 1;
  if (unicodeHost.split('.').some(mixes)) flags.add('mixed-scripts');
}

/**
 * Tells whether an IP address lies on the public internet. Private, loopback, link-local, reserved,
 * multicast and documentation addresses do not, nor does an IPv4 address inside an IPv6 address.
 *
 * Call it in the `lookup` hook of an HTTP client: a name that passed `validateUrl` may resolve to
 * any address.
 *
 * @param ip an IPv4 or IPv6 address in its usual notation; other text is not public
 * @returns true if the address is public
 * @example
 * isPublicAddress('169.254.169.254'); // false: cloud metadata
 */
export function isPublicAddress(ip: string): boolean {
  return typeof ip === 'string' && ip.length <= 45 && isPublicIp(ip);
}
