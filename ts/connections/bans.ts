/**
 * The bans of one manager: failures are counted in the core (`src/bans`), by address. Knows no
 * handshake and no token: the guard tells it what has failed.
 */
import { hostClock, wallClockMs } from '../base/clock.js';
import { messageOf, nameConflict, outOfRange, wrongType } from '../base/errors.js';
import { type Hooks } from '../base/hooks.js';
import { TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { Cluster } from '../cluster/cluster.js';
import type { Membership } from '../cluster/membership.js';
import { createBans } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import { parseIpv4 } from '../native/strings.js';
import type { Driver } from '../timers/driver.js';
import type { Ban, BanCause, BanStats, ConnectionManagerEvents } from './ban.js';
import type { CheckedBans } from './ban-options.js';
import { SharedBans } from './shared-bans.js';

type Listeners = { readonly [E in keyof ConnectionManagerEvents]: Set<ConnectionManagerEvents[E]> };
type NativeBans = ReturnType<typeof createBans>;

const CAUSES: readonly BanCause[] = ['failures', 'call', 'cluster'];
const ADDRESS = 'an IPv4 or IPv6 address';
/** More failures than an address can have: bans by hand only. */
const NEVER = 0xffff_ffff;

/** @throws ERR_LIMITS_CONFLICT if the bans of that name are open with other options */
function openBans(name: string | undefined, options: CheckedBans, prefixBits: number): NativeBans {
  const { failures, windowMs, banMs, maxBanMs, forgetMs, maxAddresses } = options;
  const least = Math.min(failures, NEVER);
  try {
    return createBans(name, [least, windowMs, banMs, maxBanMs, forgetMs, maxAddresses, prefixBits]);
  } catch (error) {
    const message = messageOf(error);
    const prefix = 'ERR_LIMITS_CONFLICT: ';
    if (message.startsWith(prefix))
      throw nameConflict(name, message.slice(prefix.length), 'banAfter');
    throw error;
  }
}

/** The form in which an address crosses to the core. */
const placeOf = (ip: string): string | number => {
  const v4 = parseIpv4(ip);
  return v4 < 0 ? ip : v4;
};

/** The failures and bans of one manager. @internal */
export class Bans {
  /** Whether refusals by rate are failures. */
  readonly countsRates: boolean;
  readonly #options: CheckedBans;
  readonly #prefixBits: number;
  readonly #native: NativeBans;
  readonly #driver: Driver;
  /** Added to the timers' time: threads that share a name share a clock. */
  readonly #epochMs: number;
  readonly #hooks: Hooks;
  /** Numbers of a ban, or counts. */
  readonly #numbers = sharedArray(Float64Array, 6);
  /** Tell the addresses that are never banned. */
  readonly #spared: ((ip: string) => boolean)[] = [];
  readonly #listeners: Listeners = { banned: new Set(), unbanned: new Set() };
  #shared: SharedBans | undefined;

  /**
   * @param name of the manager; `undefined` for bans of its own
   * @throws ERR_LIMITS_CONFLICT
   */
  constructor(
    options: CheckedBans,
    name: string | undefined,
    prefixBits: number,
    driver: Driver,
    hooks: Hooks,
  ) {
    this.#options = options;
    this.countsRates = options.countRateRefusals;
    this.#prefixBits = prefixBits;
    this.#driver = driver;
    this.#hooks = hooks;
    this.#native = openBans(name, options, prefixBits);
    this.#native.share(this.#numbers);
    // Uses a custom clock as it is: tests advance it by hand.
    this.#epochMs = driver.clock === hostClock ? this.#native.processNowMs() - driver.now() : 0;
  }

  /** Tells all processes of the cluster from now on, and learns their bans. */
  join(cluster: Cluster, member: Membership): void {
    this.#shared = new SharedBans(cluster, member, this.#options.maxAddresses, {
      learn: (address, agoMs, leftMs, failures, bans) =>
        this.#learn(address, agoMs, leftMs, failures, bans),
      liftUpTo: (address, agoMs) => this.#liftUpTo(address, agoMs),
    });
  }

  /** Adds a test for addresses that are never banned. */
  spare(test: (ip: string) => boolean): void {
    this.#spared.push(test);
  }

  #isSpared(ip: string): boolean {
    return this.#spared.some((test) => test(ip));
  }

  #now(): number {
    return this.#driver.now() + this.#epochMs;
  }

  /** Returns the time that is left of the ban of an address, ms: 0 without one. */
  leftMs(ip: string): number {
    const left = this.#native.leftMs(placeOf(ip), this.#now());
    // Asked last: a network may be banned in which one address is spared.
    return left > 0 && this.#isSpared(ip) ? 0 : left;
  }

  /** Counts a failure of an address. */
  failed(ip: string): void {
    if (this.#isSpared(ip)) return;
    const now = this.#now();
    if (this.#native.fail(placeOf(ip), now) !== 1) return;
    const ban = this.#told(ip, now);
    this.#shared?.banned(ban);
  }

  /** Returns the ban in the shared numbers, and tells the listeners. */
  #told(ip: string, now: number): Ban {
    const [since = 0, until = 0, failures = 0, bans = 0, cause = 0] = this.#numbers;
    const ban = banOf(this.#native.network(placeOf(ip)), since, until, failures, bans, cause, now);
    for (const listener of this.#listeners.banned)
      this.#hooks.run('bannedListener', () => listener(ban));
    return ban;
  }

  /**
   * Bans an address.
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a time, and for an address that is never banned
   */
  ban(address: string, forMs: number | undefined): Ban {
    const ip = this.#checked(address);
    const ms = wholeNumber('forMs', forMs, 1, TIME_MAX_MS, this.#options.banMs);
    const allowed = `${ADDRESS}, which is neither loopback, exempt nor a trusted proxy`;
    const now = this.#now();
    if (this.#isSpared(ip) || this.#native.ban(placeOf(ip), ms, now) !== 1)
      throw outOfRange('address', address, allowed);
    const ban = this.#told(ip, now);
    this.#shared?.banned(ban);
    return ban;
  }

  /** Returns the address of an argument: of `2001:db8::/64` the first one. */
  #checked(address: string): string {
    const network = `of IPv6 also a network of ${this.#prefixBits} bits`;
    const allowed = `${ADDRESS}, ${network}, unless its addresses count one by one`;
    if (typeof address !== 'string') throw wrongType('address', address, allowed);
    const [ip = '', bits, ...rest] = address.split('/');
    if (rest.length > 0 || (bits !== undefined && !this.#isNetwork(ip, bits)))
      throw outOfRange('address', address, allowed);
    return ip;
  }

  /** True if an address is banned by its network of so many bits. Those of a LAN and of NAT64 are banned one by one. */
  #isNetwork(ip: string, bits: string): boolean {
    if (bits !== String(this.#prefixBits) || !ip.includes(':')) return false;
    return this.#prefixBits === 128 || this.#native.network(placeOf(ip)).endsWith(`/${bits}`);
  }

  /**
   * Lifts the ban of an address, and forgets its failures; in all processes of a cluster.
   * @returns whether it was banned here
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  lift(address: string): boolean {
    const ip = this.#checked(address);
    const network = this.#native.network(placeOf(ip));
    const ban = this.#lift(ip);
    if (network !== '') this.#shared?.lifted(network, ban);
    return ban !== undefined;
  }

  #lift(ip: string): Ban | undefined {
    const now = this.#now();
    if (this.#native.lift(placeOf(ip), now) !== 1) return undefined;
    const [since = 0, until = 0, failures = 0, bans = 0, cause = 0] = this.#numbers;
    const ban = banOf(this.#native.network(placeOf(ip)), since, until, failures, bans, cause, now);
    for (const listener of this.#listeners.unbanned)
      this.#hooks.run('unbannedListener', () => listener(ban));
    return ban;
  }

  /** Lifts a ban unless it began later than so long ago, when another process has lifted it. */
  #liftUpTo(address: string, agoMs: number): void {
    const [ip = ''] = address.split('/');
    const now = this.#now();
    if (this.#native.find(placeOf(ip), now) !== 1) return;
    const [since = 0] = this.#numbers;
    // Times are rounded on their way.
    if (since <= now - agoMs + 1) this.#lift(ip);
  }

  /** Takes the ban of another process over. */
  #learn(address: string, agoMs: number, leftMs: number, failures: number, bans: number): void {
    const [ip = ''] = address.split('/');
    if (this.#isSpared(ip)) return;
    const now = this.#now();
    this.#numbers.set([
      Math.floor(now - agoMs),
      Math.floor(now + Math.min(leftMs, TIME_MAX_MS)),
      failures,
      bans,
    ]);
    if (this.#native.learn(placeOf(ip), now) === 1) this.#told(ip, now);
  }

  /** Returns active bans, the latest first. */
  list(most = 2 ** 32 - 1): Ban[] {
    const now = this.#now();
    const lines = this.#native.list(now, most).split('\n').slice(0, -1);
    return lines.map((line) => {
      const [address = '', ...numbers] = line.split(' ');
      const [since = 0, until = 0, failures = 0, bans = 0, cause = 0] = numbers.map(Number);
      return banOf(address, since, until, failures, bans, cause, now);
    });
  }

  /** Counts at this moment. */
  stats(): BanStats {
    this.#native.counts(this.#now());
    const [active = 0, addresses = 0, failures = 0, banned = 0, lifted = 0, evicted = 0] =
      this.#numbers;
    return { active, addresses, failures, banned, lifted, evicted };
  }

  /** Calls `listener` after an event. @throws ERR_INVALID_ARG_TYPE */
  on<E extends keyof ConnectionManagerEvents>(
    event: E,
    listener: ConnectionManagerEvents[E],
  ): () => void {
    if (typeof event !== 'string' || !Object.hasOwn(this.#listeners, event))
      throw wrongType('event', event, Object.keys(this.#listeners).join(', '));
    if (typeof listener !== 'function') throw wrongType('listener', listener, 'a function');
    const listeners: Set<ConnectionManagerEvents[E]> = this.#listeners[event];
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Leaves the cluster. */
  close(): void {
    this.#shared?.close();
  }
}

/** Returns a ban with its times by the wall clock. @param now the core's time */
function banOf(
  address: string,
  since: number,
  until: number,
  failures: number,
  bans: number,
  cause: number,
  now: number,
): Ban {
  const offset = wallClockMs() - Math.floor(now);
  return {
    address,
    since: Math.round(since + offset),
    until: Math.round(until + offset),
    failures,
    bans,
    cause: CAUSES[cause] ?? 'failures',
  };
}
