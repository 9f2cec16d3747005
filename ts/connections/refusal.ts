/** Why a connection was refused. */
export type RefusalCode =
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
  | 'overload'
  | 'duplicate_id'
  | 'closed'
  | 'stale_lease';
/** @internal */
export const REASONS: Readonly<Record<RefusalCode, string>> = {
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
  overload: 'Server is overloaded',
  duplicate_id: 'Connection id is in use',
  closed: 'Connection manager is closed',
  stale_lease: 'Lease has expired or was used',
};
/** In the order of the native codes, from 1. @internal */
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
];
/** A refusal, and what to tell the client. */
export interface Refusal {
  readonly success: false;
  readonly reason: string;
  readonly code: RefusalCode;
  /** Milliseconds until a retry may succeed: at least 1. */
  readonly retryAfterMs: number;
}
