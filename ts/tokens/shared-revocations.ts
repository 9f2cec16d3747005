/** Revocations that all processes of a cluster share. The verifier's own list decides; this one keeps it complete. */
import type { Cluster } from '../cluster/cluster.js';
import { SharedEntries } from '../cluster/shared-entries.js';

/** A revocation of a token, or of all tokens of a subject before a time. @internal */
export type SharedRevocation =
  | readonly [kind: 'token', issuer: string, jti: string, exp: number]
  | readonly [kind: 'subject', subject: string, issuedBefore: number, until: number | null];

/** The server keeps an entry a minute longer than it is needed: clocks differ. */
const KEPT_MS = 60_000;

/** Parses an entry of the server; `undefined` for a malformed one. Every client with the password can write entries. */
function parsed(text: string): SharedRevocation | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (!Array.isArray(found) || found.length !== 4) return undefined;
    const [kind, name, middle, end] = found as readonly unknown[];
    const isEntry =
      typeof name === 'string' &&
      (kind === 'token'
        ? typeof middle === 'string' && typeof end === 'number'
        : kind === 'subject' &&
          typeof middle === 'number' &&
          (end === null || typeof end === 'number'));
    return isEntry ? (found as unknown as SharedRevocation) : undefined;
  } catch {
    // Not of this package.
    return undefined;
  }
}

/** @internal */
export class SharedRevocations {
  readonly #entries: SharedEntries;
  readonly #keptSeconds: number;

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
    this.#keptSeconds = keptSeconds;
    this.#entries = new SharedEntries(cluster.channel('tokens'), {
      name: 'portcullis revocations',
      leaseMs: cluster.leaseMs,
      max,
      onFull: 'keep',
      nowMs,
      learn: (text) => {
        const revocation = parsed(text);
        if (revocation === undefined) return undefined;
        apply(revocation);
        return this.#expiryOf(revocation);
      },
    });
  }

  #expiryOf(revocation: SharedRevocation): number {
    const seconds = revocation[3] ?? Infinity;
    return (seconds + this.#keptSeconds) * 1000 + KEPT_MS;
  }

  /** Tells all processes of a revocation that this one has taken. */
  share(revocation: SharedRevocation): void {
    this.#entries.share(JSON.stringify(revocation), this.#expiryOf(revocation));
  }

  /** Waits until the revocations of the other processes are known here; `false` after three leases. */
  ready(): Promise<boolean> {
    return this.#entries.ready();
  }

  /** True once the revocations of the other processes are known here. */
  get isRead(): boolean {
    return this.#entries.isRead;
  }

  /** Revocations that the server has not confirmed. */
  get unsaved(): number {
    return this.#entries.unsaved;
  }

  close(): void {
    this.#entries.close();
  }
}
