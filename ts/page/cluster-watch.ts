/** The page's view of the cluster: the state of this process at each look, and all processes while somebody looks. */
import { hostClock } from '../base/clock.js';
import type { ClusterNode } from '../cluster/presence.js';
import type { ClusterManagerStats } from '../cluster/stats.js';
import { type PageSnapshot, rounded } from './snapshot.js';

/** The part of a manager that is asked. */
export interface ClusterSource {
  clusterStats(): ClusterManagerStats | undefined;
  clusterNodes(): Promise<readonly ClusterNode[]>;
}

const NODES_SHOWN = 64;
const NAME_SHOWN = 64;
const PROBLEM_SHOWN = 200;

/** @internal */
export class ClusterWatch {
  readonly #source: ClusterSource;
  #nodes: readonly ClusterNode[] | undefined;
  #latencyMs: number | undefined;
  #isAsking = false;

  constructor(source: ClusterSource) {
    this.#source = source;
  }

  /**
   * Returns the section, with the processes as of the look before.
   * @param isSeen false without viewers: the server is not asked
   */
  look(isSeen: boolean): PageSnapshot['cluster'] {
    const stats = this.#source.clusterStats();
    if (stats === undefined) return null;
    if (isSeen) void this.#ask();
    else this.#nodes = undefined;
    const { state, sinceMs, members, seats, waiting, problem, drain } = stats;
    return {
      state,
      sinceMs: Math.round(sinceMs),
      members,
      seats,
      waiting,
      latencyMs: rounded(this.#latencyMs),
      draining: drain?.reason ?? null,
      problem: problem?.slice(0, PROBLEM_SHOWN) ?? null,
      nodes:
        this.#nodes?.slice(0, NODES_SHOWN).map(({ name, connections, beatAgeMs, isUp }) => ({
          name: name.slice(0, NAME_SHOWN),
          connections,
          beatAgeMs,
          isUp,
        })) ?? null,
    };
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const asked = hostClock.now();
    try {
      const nodes = await this.#source.clusterNodes();
      this.#latencyMs = hostClock.now() - asked;
      this.#nodes = nodes.toSorted((a, b) => b.connections - a.connections);
    } catch {
      // Away: the state and the problem tell it.
      this.#nodes = undefined;
      this.#latencyMs = undefined;
    }
    this.#isAsking = false;
  }
}
