/** Utilization of the event loop since the last sample, by the figure that the host has. */
import nodePerformance from 'node:perf_hooks';

/**
 * Returns a function that returns the share of time in which the loop did not wait for events, since its last
 * call. Bun's `eventLoopUtilization()` is always 0, so that the watcher's figure, up to a second old, counts there.
 * @param watched returns the watcher's figure, `null` while it is not known
 * @internal
 */
export function utilizationOf(watched: () => number | null): () => number | null {
  if (process.versions['bun'] !== undefined) return watched;
  const { performance } = nodePerformance;
  let last = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    return utilization;
  };
}
