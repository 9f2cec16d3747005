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

/** Returns the answer of a readiness endpoint in a phase. */
export function readinessIn(phase: ShutdownPhase): HealthAnswer {
  if (phase === 'running') return healthy('ready');
  // Problem details (RFC 9457).
  const body = {
    type: 'about:blank',
    title: 'Service Unavailable',
    status: 503,
    detail: 'The server is shutting down',
    phase,
  };
  const headers = {
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    'retry-after': '1',
  };
  return { status: 503, headers, body: JSON.stringify(body) };
}

/** Returns the answer 200 with a status. */
export function healthy(status: 'ready' | 'live'): HealthAnswer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    body: JSON.stringify({ status }),
  };
}
