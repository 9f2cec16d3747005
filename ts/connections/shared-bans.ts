/**
 * Bans that all processes of a cluster share. An entry tells of a ban or of its end; of two entries of one
 * address the later one holds, in whatever order they arrive.
 */
import { wallClockMs } from '../base/clock.js';
import { ExpiryClock } from '../base/expiry-clock.js';
import type { Cluster } from '../cluster/cluster.js';
import type { Membership } from '../cluster/membership.js';
import { SharedEntries } from '../cluster/shared-entries.js';
import type { Ban } from './ban.js';

/** Takes the entries of other processes. Their times lie in the future if the clock of their process is faster. @internal */
export interface BanReceiver {
  /** A ban that began so long ago, and is to last so much longer. */
  learn(address: string, agoMs: number, leftMs: number, failures: number, bans: number): void;
  /** The end of all bans that began up to so long ago. */
  liftUpTo(address: string, agoMs: number): void;
}

/** A ban, or its end with the time until which no earlier ban can last. */
type Entry =
  | readonly [
      kind: 'ban',
      address: string,
      since: number,
      until: number,
      failures: number,
      bans: number,
    ]
  | readonly [kind: 'unban', address: string, at: number, until: number];

/** Time by which a ban comes behind a lift that it follows, ms: times are rounded on their way. */
const APART_MS = 3;
/** The server keeps an entry a minute longer than it is needed: clocks differ. */
const KEPT_MS = 60_000;
/** Most entries, of some 150 bytes: every process holds all of them. */
const ENTRIES_MAX = 100_000;
/** Time for which the end of a ban is told that is not known here: the longest ban. */
const LONGEST_MS = 2 ** 30;

function parsed(text: string): Entry | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (!Array.isArray(found)) return undefined;
    const [kind, address, ...numbers] = found as readonly unknown[];
    const isEntry =
      (kind === 'ban' ? numbers.length === 4 : kind === 'unban' && numbers.length === 2) &&
      typeof address === 'string' &&
      numbers.every((number) => Number.isSafeInteger(number));
    return isEntry ? (found as unknown as Entry) : undefined;
  } catch {
    // Not of this package.
    return undefined;
  }
}

/** @internal */
export class SharedBans {
  readonly #entries: SharedEntries;
  readonly #receiver: BanReceiver;
  /** The latest end of a ban by address, and the time until which it is told. */
  readonly #lifts = new Map<string, { readonly at: number; readonly until: number }>();
  readonly #max: number;
  readonly #clock = new ExpiryClock();

  /**
   * @param member the manager's
   * @param max most bans that are told of; the oldest are dropped
   */
  constructor(cluster: Cluster, member: Membership, max: number, receiver: BanReceiver) {
    this.#receiver = receiver;
    // A ban and its end for each address.
    this.#max = Math.min(2 * max, ENTRIES_MAX);
    this.#entries = new SharedEntries(member, {
      name: 'portcullis bans',
      leaseMs: cluster.leaseMs,
      max: this.#max,
      onFull: 'drop',
      nowMs: () => this.#clock.nowMs(),
      learn: (text) => this.#learn(text),
    });
  }

  /** Tells all processes of a ban. */
  banned({ address, since, until, failures, bans }: Ban): void {
    // Clearly behind the end of an earlier ban, which a process with a faster clock may have told; see `#learn`. As long as it
    // is: the others take no more of it than its length.
    const at = Math.max(since, (this.#lifts.get(address)?.at ?? -APART_MS) + APART_MS);
    this.#share(['ban', address, at, until + at - since, failures, bans]);
  }

  /**
   * Tells all processes of the end of a ban.
   * @param ban the ban, if it was known here
   */
  lifted(address: string, ban: Ban | undefined): void {
    const now = wallClockMs();
    // Not before the ban, whose process may have a faster clock.
    const at = Math.max(now, ban?.since ?? 0);
    const until = ban?.until ?? now + LONGEST_MS;
    this.#noteLift(address, at, until);
    this.#share(['unban', address, at, until]);
  }

  close(): void {
    this.#entries.close();
  }

  #share(entry: Entry): void {
    this.#entries.share(JSON.stringify(entry), entry[3] + KEPT_MS);
  }

  #learn(text: string): number | undefined {
    const entry = parsed(text);
    if (entry === undefined) return undefined;
    const [kind, address, at, until] = entry;
    const lift = this.#lifts.get(address);
    if (kind === 'unban') {
      if (lift === undefined || lift.at < at) {
        this.#noteLift(address, at, until);
        this.#receiver.liftUpTo(address, this.#nowFor(at) - at);
      }
      // A ban of the millisecond after it is lifted in all processes: times are rounded on their way.
    } else if (lift === undefined || lift.at + 1 < at) {
      const now = this.#nowFor(at);
      // No more than its whole length, if the clock of its process is faster.
      const left = until - Math.max(now, at);
      this.#receiver.learn(address, now - at, left, entry[4], entry[5]);
    }
    return until + KEPT_MS;
  }

  /**
   * Returns the wall-clock time at which an entry has arrived, but not before it was told. If the wall clock is set forward for
   * a moment, a ban that is told then does not count as over.
   */
  #nowFor(toldAt: number): number {
    return Math.min(wallClockMs(), Math.max(this.#clock.nowMs(), toldAt));
  }

  #noteLift(address: string, at: number, until: number): void {
    this.#lifts.delete(address);
    this.#lifts.set(address, { at, until: until + KEPT_MS });
    if (this.#lifts.size <= this.#max) return;
    const now = this.#clock.nowMs();
    for (const [other, lift] of this.#lifts) if (lift.until < now) this.#lifts.delete(other);
    for (const other of this.#lifts.keys()) {
      if (this.#lifts.size <= this.#max) break;
      this.#lifts.delete(other);
    }
  }
}
