/** Answers of the health endpoints. */
import type { ShutdownPhase } from './result.js';

/** HTTP answer of a health endpoint. */
export interface HealthAnswer {
  /** Status code. */
  readonly status: 200 | 503;
  /** Headers, with names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** JSON text. */
  readonly body: string;
}

/** State of a cluster, as a health answer has it. */
export interface ClusterHealth {
  readonly state: string;
  /** Milliseconds since the last change of state. */
  readonly sinceMs: number;
}

/**
 * Returns the answer 503 with problem details (RFC 9457).
 * @param detail a sentence for people, which may be public
 * @param checks outcome of each check
 * @param cluster state of the cluster, if there is one
 */
export function unready(
  detail: string,
  phase: ShutdownPhase,
  checks?: Readonly<Record<string, string>>,
  cluster?: ClusterHealth,
): HealthAnswer {
  const body = {
    type: 'about:blank',
    title: 'Service Unavailable',
    status: 503,
    detail,
    phase,
    ...(checks === undefined ? {} : { checks }),
    ...(cluster === undefined ? {} : { cluster }),
  };
  const headers = {
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    'retry-after': '1',
  };
  return { status: 503, headers, body: JSON.stringify(body) };
}

/** Returns the answer 200 with a status. */
export function healthy(
  status: 'ready' | 'live' | 'started',
  checks?: Readonly<Record<string, string>>,
  cluster?: ClusterHealth,
): HealthAnswer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    body: JSON.stringify({
      status,
      ...(checks === undefined ? {} : { checks }),
      ...(cluster === undefined ? {} : { cluster }),
    }),
  };
}
