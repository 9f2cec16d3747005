// A population of connections for the benchmarks.

/** Limits that admit all of it and close none of it. */
export const LIMITS = {
  maxTotalConnections: 4e6,
  maxConnectionsPerIp: 100,
  maxConnectionsPerUser: 100,
  connectionTimeoutMs: 3e7,
  cleanupIntervalMs: 1e7,
};
export const socket = { close() {} };

/** Returns the address of a connection; each number below 2^24 has one of its own. */
export const addressOf = (i) => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
