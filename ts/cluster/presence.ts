/** Presence: the processes of a cluster, and those that a user is connected to. */

/** Buckets of names of one manager. @internal */
export const BUCKETS = 16_384;

/** A page of `cluster.online()`. */
export interface OnlineUsers {
  /** Users that have a connection or a lease in any process. */
  readonly users: readonly string[];
  /** Where the next page begins; `undefined` after the last one. */
  readonly cursor: string | undefined;
}

/** A process that holds connections of a user. */
export interface UserNode {
  /** Id of the process, as `nodes()` has it. */
  readonly node: string;
  /** Name of the process: its option `nodeName`. */
  readonly name: string;
  /** Connections of the user there, leases included. */
  readonly connections: number;
}

/** A process of a cluster. */
export interface ClusterNode {
  /** Id of the process, new at each start. */
  readonly id: string;
  /** Name of the process: its option `nodeName`. */
  readonly name: string;
  /** Seats of its managers, as the server counts them. */
  readonly connections: number;
  /** Milliseconds since its latest beat, by the server's clock. */
  readonly beatAgeMs: number;
  /** Whether it has told the server what it holds. */
  readonly isUp: boolean;
}

/** Digits of a process's id. Each of its managers joins under that id with a number behind it. */
const ID_DIGITS = 16;

/** Returns the id of the process of a member. @internal */
export function processOf(member: string): string {
  return member.slice(0, ID_DIGITS);
}

/** Returns the processes of one manager's answer to `who`. @internal */
export function userNodesOf(parts: readonly string[]): UserNode[] {
  const nodes: UserNode[] = [];
  for (let at = 0; at + 3 <= parts.length; at += 3)
    nodes.push({
      node: processOf(parts[at]!),
      name: parts[at + 1]!,
      connections: Number(parts[at + 2]),
    });
  return nodes;
}

/** Returns the processes of one manager's answer to `nodes`. @internal */
export function clusterNodesOf(parts: readonly string[]): ClusterNode[] {
  const nodes: ClusterNode[] = [];
  for (let at = 0; at + 5 <= parts.length; at += 5)
    nodes.push({
      id: processOf(parts[at]!),
      name: parts[at + 1]!,
      connections: Number(parts[at + 2]),
      beatAgeMs: Number(parts[at + 3]),
      isUp: parts[at + 4] === '1',
    });
  return nodes;
}

/** Merges the processes of several managers by their ids and names. @internal */
export function merged<N extends { readonly name: string; readonly connections: number }>(
  lists: readonly (readonly N[])[],
  idOf: (node: N) => string,
): N[] {
  const found = new Map<string, N>();
  for (const node of lists.flat()) {
    const key = `${idOf(node)} ${node.name}`;
    const known = found.get(key);
    found.set(
      key,
      known === undefined ? node : { ...known, connections: known.connections + node.connections },
    );
  }
  return [...found.values()];
}
