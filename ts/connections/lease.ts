/** Outcomes of an admission: a lease or a connection. */
import { wrongType } from '../base/errors.js';
import type { LazyTrace } from '../base/trace.js';
import type { ManagedConnection, ManagedSocket } from './connection.js';
import type { Refusal } from './refusal.js';

/** A seat that is held before its connection opens. */
export interface Lease {
  readonly success: true;
  /** The seat, as one number: generation of the slot * 2^22 + slot. */
  readonly handle: number;
  /** Address that the seat was taken for. */
  readonly ip: string;
  /** User that the seat was taken for, if any. */
  readonly userId: string | undefined;
}

/** A lease that remembers its manager: the handle alone could be another manager's. @internal */
export class HeldLease implements Lease {
  readonly success = true;
  readonly #owner: object;
  /** The connection that was opened with it, while the cluster has not answered yet. */
  opened: object | undefined;
  /** True while the cluster has not answered an optimistic admission. */
  isUnconfirmed = false;
  /** Resolves once the cluster has answered an optimistic admission, and its answer has been acted upon. */
  confirmation: Promise<void> | undefined;

  constructor(
    owner: object,
    readonly handle: number,
    readonly ip: string,
    public userId: string | undefined,
    /** Bits of `ip` as an IPv4 address, or -1. */
    readonly v4: number,
    /** Number of `Seats.commit` while the core need not be asked: see there. */
    public sweeps: number,
    /** True if the limits of the address do not refuse the client. */
    readonly isExempt = false,
    /** Trace of the handshake, if there was one. */
    readonly trace?: LazyTrace,
  ) {
    this.#owner = owner;
  }

  /** True for a lease of `owner`; a copy and a Proxy lack the private field and fail. */
  static isOf(lease: unknown, owner: object): lease is HeldLease {
    return typeof lease === 'object' && lease !== null && #owner in lease && lease.#owner === owner;
  }
}

/** Returns the lease if `owner` gave it. @throws ERR_INVALID_ARG_TYPE before any seat is touched @internal */
export function checkedLease(lease: unknown, owner: object): HeldLease {
  if (!HeldLease.isOf(lease, owner))
    throw wrongType('lease', lease, 'a lease that this manager gave');
  return lease;
}

/** Outcome of `addConnection` and `commit`: a connection, or a refusal. */
export type AdmissionResult<S extends ManagedSocket = ManagedSocket> =
  | {
      readonly success: true;
      readonly reason?: undefined;
      readonly code?: undefined;
      readonly retryAfterMs?: undefined;
      readonly connection: ManagedConnection<S>;
    }
  | (Refusal & { readonly connection?: undefined });
