/** Who asks for a seat, and what comes of it: a lease, a connection, a refusal. */
import { wrongType } from '../base/errors.js';
import { checkedUser, ID_MAX, type ManagedConnection, type ManagedSocket } from './connection.js';
import type { Refusal, RefusalCode } from './refusal.js';

/** A seat held before the connection opens. */
export interface Lease {
  readonly success: true;
  readonly handle: number;
  readonly ip: string;
  readonly userId: string | undefined;
}

/** Knows whose it is: another manager may have the same slot. */
export class HeldLease implements Lease {
  readonly success = true;
  readonly #owner: object;
  constructor(
    owner: object,
    readonly handle: number,
    readonly ip: string,
    readonly userId: string | undefined,
  ) {
    this.#owner = owner;
  }
  /** Neither a copy nor a Proxy passes. */
  static isOf(lease: unknown, owner: object): lease is HeldLease {
    return typeof lease === 'object' && lease !== null && #owner in lease && lease.#owner === owner;
  }
}

/** The answer of `addConnection` and `commit`. */
export type AdmissionResult<S extends ManagedSocket = ManagedSocket> =
  | {
      readonly success: true;
      readonly reason?: undefined;
      readonly code?: undefined;
      readonly retryAfterMs?: undefined;
      readonly connection: ManagedConnection<S>;
    }
  | (Refusal & { readonly connection?: undefined });

/** Whether a refusal of that code may be lifted by the end of `present`. */
export function givesWay(
  code: RefusalCode | undefined,
  present: ManagedConnection,
  ip: string,
  user: string | undefined,
): boolean {
  switch (code) {
    case 'total_limit':
    case 'prefix_limit':
    case 'unknown_ip_limit':
    case 'anonymous_limit':
      return true;
    case 'ip_limit':
    case 'anonymous_ip_limit':
      return present.ip === ip;
    case 'user_limit':
      return present.userId === user;
    default:
      return false;
  }
}

export function checkedOptionalUser(userId: string | undefined): string | undefined {
  return userId === undefined || userId === '' ? undefined : checkedUser(userId);
}

/** All of a lease is checked before its seat is touched. */
export function checkedLease(lease: unknown, owner: object): Lease {
  if (!HeldLease.isOf(lease, owner))
    throw wrongType('lease', lease, 'a lease that this manager gave');
  return lease;
}

export function checkConnection(id: unknown, socket: unknown, metadata: unknown): void {
  if (typeof id !== 'string' || id.length === 0 || id.length > ID_MAX)
    throw wrongType('id', id, `a string of 1 to ${ID_MAX} characters`);
  if (
    typeof socket !== 'object' ||
    socket === null ||
    typeof (socket as Partial<ManagedSocket>).close !== 'function'
  ) {
    throw wrongType('socket', socket, 'an object with a close() method');
  }
  if (metadata !== undefined && (typeof metadata !== 'object' || metadata === null))
    throw wrongType('metadata', metadata, 'an object');
}
