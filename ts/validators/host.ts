/** The host of a URL: whether it leads to the own network, and what is odd about it. */
import { isPublicIp } from '../native/addon.js';

/** What is odd about a URL that was let through. */
export type UrlFlag =
  /** The path or the query climbs: `..`, however it is encoded. */
  | 'traversal'
  /** The path holds an encoded slash or backslash. */
  | 'encoded-separator'
  /** The query holds an encoded control character other than CR, LF and NUL. */
  | 'encoded-control'
  /** A percent sign without two hexadecimal digits, `%uXXXX`, or codes that are no UTF-8. */
  | 'percent'
  /** Something is encoded twice. */
  | 'double-encoding'
  /** The path or a parameter is a URL itself, or begins like the end of a host. */
  | 'nested-url'
  /** The host has signs that no name in the DNS has. */
  | 'odd-host'
  /** The host has letters beyond ASCII. */
  | 'international'
  /** A label of the host mixes alphabets. */
  | 'mixed-scripts';

/** Names that lead to the own host or network, and public ones that are known to lead there or to any address that they spell out. */
const LOCAL_SUFFIXES = (
  'localhost localdomain local internal intranet lan home corp private svc kubernetes.default consul home.arpa ipv6-localhost ip6-localhost ip6-loopback ' +
  'nip.io sslip.io xip.io xip.name localtest.me localh.st localho.st lvh.me vcap.me lacolhost.com fuf.me localdomain.pw 1u.ms rbndr.us ' +
  'bugbounty.dod.network spoofed.burpcollaborator.net mail.ebc.apple.com metadata.packet.net'
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
  // Those of East Asia are written together.
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}]/u,
];

export function bareHost(hostname: string): string {
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return host.endsWith('.') ? host.slice(0, -1) : host;
}

export function isIpv4(host: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+$/.test(host);
}

/** Whether a name leads to the own network: reserved, without a dot, or spelling out an address that is not public. */
export function isLocalName(host: string): boolean {
  // Empty labels: some resolvers leave them out, and then the rest is a local name.
  if (!host.includes('.') || host.split('.').includes('')) return true;
  if (LOCAL_SUFFIXES.some((suffix) => host === suffix || host.endsWith(`.${suffix}`))) return true;
  return Array.from(
    host.matchAll(/(?:^|[.-])(\d{1,3})[.-](\d{1,3})[.-](\d{1,3})[.-](\d{1,3})(?=$|[.-])/g),
  ).some(
    ([, a, b, c, d]) =>
      [a, b, c, d].every((part) => Number(part) <= 255) &&
      !isPublicIp([a, b, c, d].map(Number).join('.')),
  );
}

export function flagHost(unicodeHost: string, host: string, flags: Set<UrlFlag>): void {
  if (/[^a-z0-9._:-]/.test(host)) flags.add('odd-host');
  if (!host.includes('xn--')) return;
  flags.add('international');
  if (
    unicodeHost
      .split('.')
      .some((label) => SCRIPTS.filter((script) => script.test(label)).length > 1)
  )
    flags.add('mixed-scripts');
}
