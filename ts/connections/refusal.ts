/** A refusal: its codes and their texts. */
import type { PressureCause } from '../resources/pressure.js';

/** Reason of a refusal, as a stable code. */
export type RefusalCode =
  | 'banned'
  | 'draining'
  | 'total_limit'
  | 'prefix_limit'
  | 'ip_limit'
  | 'user_limit'
  | 'anonymous_limit'
  | 'anonymous_ip_limit'
  | 'ip_rate'
  | 'user_rate'
  | 'unknown_ip_limit'
  | 'host_full'
  | 'pending_limit'
  | 'pending_ip_limit'
  | 'overload'
  | 'cluster_unreachable'
  | 'client_left'
  | 'duplicate_id'
  | 'closed'
  | 'stale_lease';

/** A refusal: the outcome of an admission that a limit forbids. */
export interface Refusal {
  readonly success: false;
  /** Text for the client. */
  readonly reason: string;
  /** Stable code. */
  readonly code: RefusalCode;
  /** Milliseconds until a retry may succeed: at least 1. */
  readonly retryAfterMs: number;
  /** Cause of `overload`; absent for other codes. */
  readonly cause?: PressureCause;
  /** `true` for a client that was admitted at once, and that the cluster has refused afterwards. */
  readonly late?: true;
}

/** Text of each code. @internal */
export const REASONS: Readonly<Record<RefusalCode, string>> = {
  banned: 'Address is banned',
  draining: 'Server is draining',
  total_limit: 'Max total connections exceeded',
  prefix_limit: 'Max connections per IP prefix exceeded',
  ip_limit: 'Max connections per IP exceeded',
  user_limit: 'Max connections per user exceeded',
  anonymous_limit: 'Max anonymous connections exceeded',
  anonymous_ip_limit: 'Max anonymous connections per IP exceeded',
  ip_rate: 'Connect rate per IP exceeded',
  user_rate: 'Connect rate per user exceeded',
  unknown_ip_limit: 'Max connections without an IP exceeded',
  host_full: 'Too many clients are counted on this host',
  pending_limit: 'Max pending handshakes exceeded',
  pending_ip_limit: 'Max pending handshakes per IP exceeded',
  overload: 'Server is overloaded',
  cluster_unreachable: 'Connections cannot be counted at the moment',
  client_left: 'Client has left',
  duplicate_id: 'Connection id is in use',
  closed: 'Connection manager is closed',
  stale_lease: 'Lease has expired or was used',
};

/** Codes that the core refuses with: the core's number, from 1, is the place in this list. @internal */
export const NATIVE_CODES: readonly RefusalCode[] = [
  'draining',
  'total_limit',
  'prefix_limit',
  'ip_limit',
  'user_limit',
  'anonymous_limit',
  'anonymous_ip_limit',
  'ip_rate',
  'user_rate',
  'unknown_ip_limit',
  'host_full',
];

/** A refusal with the trace of the refused handshake. */
export interface TracedRefusal extends Refusal {
  /** Id of the handshake; see `RequestTrace`. `undefined` where the manager was called without a guard. */
  readonly requestId: string | undefined;
  /** Its `traceparent`, if it has a valid one. */
  readonly traceparent: string | undefined;
}
