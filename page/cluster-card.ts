/** The card of the cluster: its processes. */
import { Card, none, notInUse, table } from './card.js';
import { duration, milliseconds, number } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Cluster = NonNullable<PageSnapshot['cluster']>;

/** Age of a beat from which a process looks late, ms. */
const LATE_MS = 5000;

function aside(cluster: Cluster | null): string {
  if (cluster === null) return '';
  const { state, sinceMs, members, latencyMs, draining } = cluster;
  const drain = draining === null ? '' : ` · draining: ${draining}`;
  const latency = latencyMs === null ? '' : ` · ${milliseconds(latencyMs)} to the server`;
  return `${state} for ${duration(sinceMs)} · ${number(members)} processes${latency}${drain}`;
}

function nodesTable({ nodes, problem }: Cluster): HTMLElement {
  if (nodes === null) return none(problem ?? 'Being asked.');
  return table(
    'Processes of the cluster',
    ['process', 'connections', 'last beat', 'state'],
    nodes.map(({ name, connections, beatAgeMs, isUp }) => [
      [name, 'key'],
      number(connections),
      [milliseconds(beatAgeMs), beatAgeMs > LATE_MS ? 'bad' : ''],
      isUp ? 'up' : 'joining',
    ]),
  );
}

export class ClusterCard {
  readonly #card = new Card('cluster', 'Cluster', 'wide');

  show({ cluster }: PageSnapshot): void {
    this.#card.show(
      cluster === null ? null : [cluster.nodes, cluster.problem],
      aside(cluster),
      () => (cluster === null ? notInUse('cluster') : nodesTable(cluster)),
    );
  }
}
