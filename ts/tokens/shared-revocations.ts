/** Revocations that all processes of a cluster share. The verifier's own list decides; this one keeps it complete. */
import type { Cluster } from '../cluster/cluster.js';
import type { Membership } from '../cluster/membership.js';
import { TimerManager } from '../timers/manager.js';

/** A revocation of a token, or of all tokens of a subject before a time. @internal */
export type SharedRevocation =
  | readonly [kind: 'token', issuer: string, jti: string, exp: number]
  | readonly [kind: 'subject', subject: string, issuedBefore: number, until: number | null];

/** Leases that `ready` waits: one until others have written back what a server has lost. */
const READY_LEASES = 3;
/** State `up` of the core. */
const UP = 2;
/** Pause between two attempts to reach the server. */
const RETRY_MS = 500;
/** The server keeps an entry a minute longer than it is needed: clocks differ. */
const KEPT_MS = 60_000;
/** Data of an event that tells to read all revocations again. */
const READ_AGAIN = '*';
/** Longest data of an event, in UTF-16 units. */
const EVENT_MAX = 8192;
/** Entries of one call. */
const ENTRIES_MAX = 256;

function parsed(text: string): SharedRevocation | undefined {
  try {
    return JSON.parse(text) as SharedRevocation;
  } catch {
    // Not of this package.
    return undefined;
  }
}

/** @internal */
export class SharedRevocations {
  readonly #member: Membership;
  readonly #stop: () => void;
  readonly #timers: TimerManager;
  readonly #apply: (revocation: SharedRevocation) => void;
  readonly #max: number;
  readonly #keptSeconds: number;
  readonly #nowMs: () => number;
  readonly #leaseMs: number;
  /** Every revocation that is held here, with the time at which the server may drop it: a server that lost it gets it again. */
  readonly #held = new Map<string, number>();
  /** Revocations that the server has not confirmed; `true` for those that no process knows of yet. */
  readonly #unsaved = new Map<string, boolean>();
  readonly #ready: Promise<void>;
  #isRead = false;
  #resolve: () => void = () => undefined;
  #isBusy = false;
  /** True if something is to be read (again). */
  #isStale = true;
  #isClosed = false;

  /**
   * @param max most revocations that are held
   * @param keptSeconds time for which an expired token may still be accepted
   * @param apply takes a revocation of another process
   */
  constructor(
    cluster: Cluster,
    max: number,
    keptSeconds: number,
    nowMs: () => number,
    apply: (revocation: SharedRevocation) => void,
  ) {
    this.#max = max;
    this.#keptSeconds = keptSeconds;
    this.#nowMs = nowMs;
    this.#leaseMs = cluster.leaseMs;
    this.#apply = apply;
    this.#ready = new Promise((resolve) => (this.#resolve = resolve));
    this.#member = cluster.channel('tokens');
    // Made only now: a closed cluster has thrown.
    this.#timers = new TimerManager({ name: 'portcullis revocations', context: 'none' });
    this.#stop = this.#member.onNews((kind, data) => this.#news(kind, data));
    // Another verifier of this process may have joined before: then no news of it comes.
    void this.#work();
  }

  /** Tells all processes of a revocation that this one has taken. */
  share(revocation: SharedRevocation): void {
    const text = JSON.stringify(revocation);
    this.#hold(text, revocation);
    this.#unsaved.set(text, true);
    void this.#work();
  }

  /** Waits until the revocations of the other processes are known here; `false` after three leases. */
  async ready(): Promise<boolean> {
    if (this.#isRead || this.#isClosed) return this.#isRead;
    const timeoutMs = READY_LEASES * this.#leaseMs;
    const timer = new Promise<void>((resolve) => {
      this.#timers.setTimeout(resolve, { delayMs: timeoutMs });
    });
    await Promise.race([this.#ready, timer]);
    return this.#isRead;
  }

  /** True once the revocations of the other processes are known here. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** Revocations that the server has not confirmed. */
  get unsaved(): number {
    return this.#unsaved.size;
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#timers.close();
    this.#resolve();
  }

  #hold(text: string, revocation: SharedRevocation): void {
    const seconds = revocation[3] ?? Infinity;
    this.#held.set(text, (seconds + this.#keptSeconds) * 1000 + KEPT_MS);
    if (this.#held.size <= this.#max) return;
    const now = this.#nowMs();
    for (const [other, expiry] of this.#held) if (expiry < now) this.#drop(other);
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
    const revocation = parsed(text);
    if (!Array.isArray(revocation)) return;
    this.#hold(text, revocation as SharedRevocation);
    this.#apply(revocation as SharedRevocation);
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
    const texts: string[] = [];
    const now = this.#nowMs();
    let isNew = false;
    for (const [text, isUntold] of this.#unsaved) {
      if ((this.#held.get(text) ?? 0) < now) this.#drop(text);
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
      [this.#max, ...expiries],
    );
    if (code !== 0) return false;
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
