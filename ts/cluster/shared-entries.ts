/**
 * Entries that all processes of a cluster hold together, such as revocations: texts with an expiry. An owner
 * decides with its own copy; this one keeps it complete.
 */
import { TimerManager } from '../timers/manager.js';
import { FULL } from './codes.js';
import type { Membership } from './membership.js';

/** Leases that `ready` waits: one until others have written back what a server has lost. */
const READY_LEASES = 3;
/** State `up` of the core. */
const UP = 2;
/** Pause between two attempts to reach the server. */
const RETRY_MS = 500;
/** Data of an event that tells to read all entries again. */
const READ_AGAIN = '*';
/** Longest data of an event, in UTF-16 units. */
const EVENT_MAX = 8192;
/** Entries of one call. */
const ENTRIES_MAX = 256;

/** Options of the owner of shared entries. @internal */
export interface SharedEntriesOptions {
  /** Name of the timers. */
  readonly name: string;
  readonly leaseMs: number;
  /** Most entries that are held, here and on the server. */
  readonly max: number;
  /**
   * Action beyond `max`: `keep` lets the owner refuse further ones, and waits for room on the server; `drop` drops the
   * oldest, and does without the server.
   */
  readonly onFull: 'keep' | 'drop';
  /** Returns the time by which entries may be forgotten, ms since 1970: that of an `ExpiryClock`. */
  readonly nowMs: () => number;
  /**
   * Takes an entry of another process.
   * @returns the time at which the server may drop it, ms since 1970; `undefined` for a text that is no entry
   */
  readonly learn: (text: string) => number | undefined;
}

/** Entries of one member of a cluster, which have its keys on the server. @internal */
export class SharedEntries {
  readonly #member: Membership;
  readonly #options: SharedEntriesOptions;
  readonly #stop: () => void;
  readonly #timers: TimerManager;
  /** Every entry that is held here, with the time at which the server may drop it: a server that lost it gets it again. */
  readonly #held = new Map<string, number>();
  /** Entries that the server has not confirmed; `true` for those that no process knows of yet. */
  readonly #unsaved = new Map<string, boolean>();
  readonly #ready: Promise<void>;
  #isRead = false;
  #resolve: () => void = () => undefined;
  #isBusy = false;
  /** True if something is to be read (again). */
  #isStale = true;
  #isClosed = false;

  constructor(member: Membership, options: SharedEntriesOptions) {
    this.#member = member;
    this.#options = options;
    this.#timers = new TimerManager({ name: options.name, context: 'none' });
    this.#ready = new Promise((resolve) => (this.#resolve = resolve));
    this.#stop = member.onNews((kind, data) => this.#news(kind, data));
    // Another owner of this process may have joined before: then no news of it comes.
    void this.#work();
  }

  /** Tells all processes of an entry that this one has taken. */
  share(text: string, expiryMs: number): void {
    this.#hold(text, expiryMs);
    this.#unsaved.set(text, true);
    void this.#work();
  }

  /** Waits until the entries of the other processes are known here; `false` after three leases. */
  async ready(): Promise<boolean> {
    if (this.#isRead || this.#isClosed) return this.#isRead;
    const timeoutMs = READY_LEASES * this.#options.leaseMs;
    const timer = new Promise<void>((resolve) => {
      this.#timers.setTimeout(resolve, { delayMs: timeoutMs });
    });
    await Promise.race([this.#ready, timer]);
    return this.#isRead;
  }

  /** True once the entries of the other processes are known here. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** Entries that the server has not confirmed. */
  get unsaved(): number {
    return this.#unsaved.size;
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#timers.close();
    this.#resolve();
  }

  #hold(text: string, expiryMs: number): void {
    const { max, nowMs, onFull } = this.#options;
    this.#held.set(text, expiryMs);
    if (this.#held.size <= max) return;
    const now = nowMs();
    for (const [other, expiry] of this.#held) if (expiry < now) this.#drop(other);
    if (onFull === 'keep') return;
    for (const other of this.#held.keys()) {
      if (this.#held.size <= max) break;
      this.#drop(other);
    }
  }

  #drop(text: string): void {
    this.#held.delete(text);
    this.#unsaved.delete(text);
  }

  #news(kind: string, data: readonly string[]): void {
    if (kind === 'v') {
      if (data[0] === READ_AGAIN) this.#isStale = true;
      else for (const text of JSON.parse(data[0] ?? '[]') as string[]) this.#learn(text);
      void this.#work();
      return;
    }
    if (kind !== 'joined' && kind !== 'gap') return;
    // The server may have lost what it was told.
    if (kind === 'joined')
      for (const text of this.#held.keys())
        this.#unsaved.set(text, this.#unsaved.get(text) ?? false);
    this.#isStale = true;
    void this.#work();
  }

  #learn(text: string): void {
    if (this.#held.has(text)) return;
    const expiryMs = this.#options.learn(text);
    if (expiryMs !== undefined) this.#hold(text, expiryMs);
  }

  /** Saves and reads until all is done; one at a time. */
  async #work(): Promise<void> {
    if (this.#isBusy || this.#isClosed) return;
    this.#isBusy = true;
    let isDone = true;
    while (isDone && !this.#isClosed && (this.#unsaved.size > 0 || this.#isStale))
      isDone = this.#unsaved.size > 0 ? await this.#save() : await this.#read();
    this.#isBusy = false;
    if (!isDone && !this.#isClosed)
      this.#timers.setTimeout(() => void this.#work(), { delayMs: RETRY_MS });
  }

  /** Writes some entries; `false` if the server does not take them. */
  async #save(): Promise<boolean> {
    const { max, nowMs, onFull } = this.#options;
    const texts: string[] = [];
    const now = nowMs();
    let isNew = false;
    for (const [text, isUntold] of this.#unsaved) {
      // No process knows of an untold one yet: the time at which it seems to have expired may be wrong.
      if (!isUntold && (this.#held.get(text) ?? 0) < now) this.#drop(text);
      else {
        texts.push(text);
        isNew ||= isUntold;
      }
      if (texts.length === ENTRIES_MAX) break;
    }
    if (texts.length === 0) return true;
    const told = JSON.stringify(texts);
    const isLast = this.#unsaved.size === texts.length;
    // Entries that are written back after a loss are told once, at the end. An event is short: the stream holds 10,000.
    const event = isNew && told.length <= EVENT_MAX ? told : isNew || isLast ? READ_AGAIN : '';
    const expiries = texts.map((text) => this.#held.get(text) ?? 0);
    const { code } = await this.#member.request(
      'revoke',
      '',
      [event, ...texts],
      [max, now, ...expiries],
    );
    if (code !== 0 && (code !== FULL || onFull === 'keep')) return false;
    for (const text of texts) this.#unsaved.delete(text);
    return true;
  }

  /** Reads what the server holds; `false` if it does not answer. */
  async #read(): Promise<boolean> {
    this.#isStale = false;
    let cursor = '0';
    do {
      const { code, parts } = await this.#member.request('revocations', '', [cursor]);
      if (code !== 0 || parts[0] === undefined) {
        this.#isStale = true;
        return false;
      }
      for (let at = 1; at < parts.length; at += 2) this.#learn(parts[at]!);
      cursor = parts[0];
    } while (cursor !== '0');
    if (this.#isRead) return true;
    // In a young generation the others may still have to write back what they hold.
    if (this.#member.figures()?.state !== UP) {
      this.#isStale = true;
      return false;
    }
    this.#isRead = true;
    this.#resolve();
    return true;
  }
}
