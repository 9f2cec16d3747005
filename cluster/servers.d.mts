import type { Redis } from './redis.mjs';

/** Starts a server with a TLS port besides the plain one. */
export function startTls(): Promise<{ server: Redis; tlsPort: number }>;

/** A primary, a replica and a Sentinel that watches them under the name `main`. */
export class Sentinels {
  static start(): Promise<Sentinels>;
  readonly primary: Redis;
  readonly replica: Redis;
  readonly url: string;
  failOver(): Promise<void>;
  remove(): Promise<void>;
}

/** Three servers of a Redis Cluster. */
export class RedisCluster {
  static start(): Promise<RedisCluster>;
  readonly nodes: readonly Redis[];
  readonly urls: readonly string[];
  ownerOf(key: string): Promise<{ node: Redis; slot: number }>;
  move(key: string, pauseMs?: number): Promise<Redis>;
  remove(): Promise<void>;
}
