/** Figures of a cluster. */

/**
 * State of a process in the cluster.
 * - `joining`: it has no place on the server yet, or has not told what it holds.
 * - `settling`: other processes may still have to tell what they hold.
 * - `up`: the server decides on every admission.
 * - `unreachable`: the server does not answer.
 * - `closed`: the cluster is closed.
 *
 * In all but `up` and `closed` the option `onUnreachable` decides.
 */
export type ClusterState = 'joining' | 'settling' | 'up' | 'unreachable' | 'closed';

/** States, in the order of the core's numbers. @internal */
export const STATES: readonly ClusterState[] = [
  'joining',
  'settling',
  'up',
  'unreachable',
  'closed',
];

/** Figures of one manager name. */
export interface ClusterManagerStats {
  /** Name of the managers. */
  readonly name: string;
  readonly state: ClusterState;
  /** Milliseconds since the last change of state. */
  readonly sinceMs: number;
  /** Processes in the cluster, this one included. */
  readonly members: number;
  /** Seats that this process holds. */
  readonly seats: number;
  /** Seats of this process that the server knows. */
  readonly confirmedSeats: number;
  /** Clients that wait for an answer. */
  readonly waiting: number;
  /** Revision of the limits in force. */
  readonly limitsRevision: number;
  /** Whether those are other limits than this process declared. */
  readonly limitsDiffer: boolean;
  /** Latest problem with the server; `undefined` if there is none. */
  readonly problem: string | undefined;
  /**
   * Admissions: granted and refused by the server, and by `onUnreachable`; refused since the server has just refused
   * the same key; granted from seats that were held ahead (`leaseTotal`).
   */
  readonly admissions: {
    readonly granted: number;
    readonly refused: number;
    readonly refusedByCache: number;
    readonly grantedAhead: number;
    readonly grantedByPolicy: number;
    readonly refusedByPolicy: number;
  };
  /** Calls that the server has answered. */
  readonly calls: number;
  /** Connections to the server that were made. */
  readonly connects: number;
  /** Counts that were told again, after the server or the connection was lost. */
  readonly publishedKeys: number;
  /** Counts that the server had lost or changed, and that were put right. */
  readonly drift: number;
  /** Times that the server had lost something, or had declared this process dead. */
  readonly losses: number;
  /** Processes that this one has declared dead. */
  readonly declaredDead: number;
  /** Drain of all processes by `cluster.drain()`, as far as this one has heard; `undefined` if there is none. */
  readonly drain: { readonly reason: string; readonly leftMs: number } | undefined;
  /** Newcomers that were admitted in the place of an older connection (`onFull: 'closeOldest'`). */
  readonly takeovers: number;
  /** Connections, leases and waiting newcomers of this process that a newcomer of any process has replaced. */
  readonly replaced: number;
  /**
   * Bugs of the native thread that were contained: a part of it has panicked, has told it on the standard error, and has
   * begun anew. Anything but 0 is worth a report.
   */
  readonly containedBugs: number;
  /** Events that were read: members, kicks, revocations, changes of limits and drains. */
  readonly events: number;
  /** Times that events were missed, or may have been: the state was read again. One at each start. */
  readonly eventGaps: number;
}

/** Figures of a cluster. */
export interface ClusterStats {
  /** The worst state of all managers; `joining` before the first manager. */
  readonly state: ClusterState;
  /** Milliseconds since the last change of state of a manager that is in it. */
  readonly sinceMs: number;
  readonly managers: readonly ClusterManagerStats[];
}
