/** The bands of a heat map of durations: finer below than those of the exposition, for servers that answer in under a millisecond. */
import { BUCKETS, lowerEdge } from './histogram.js';

/** Upper edges, in milliseconds; there is one more band, which is open. */
export const HEAT_EDGES_MS: readonly number[] = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];
/** @internal */
export const HEAT_BANDS = HEAT_EDGES_MS.length + 1;
/** The band of a bucket. @internal */
export const HEAT_BAND_OF = Uint8Array.from({ length: BUCKETS }, (_, bucket) => {
  const edge = HEAT_EDGES_MS.findIndex((edgeMs) => lowerEdge(bucket) < edgeMs);
  return edge < 0 ? HEAT_EDGES_MS.length : edge;
});
