/**
 * Upper edges of the heat map's bands, ms: finer at the low end than the exposition's buckets. One
 * more band is open.
 */
export const HEAT_EDGES_MS: readonly number[] = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500,
];
