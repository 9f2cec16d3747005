// The options of portcullis with every feature on, for each adapter: limits and rates, tokens, JSON
// limits, bans, monitor, metrics, page.
import { ProductionMetrics, ResourceMonitor, TimerManager, TokenVerifier } from '../dist/index.js';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

/** Features that a server may be started without, to see what each of them costs. */
export const PARTS = [
  'tokens',
  'rates',
  'bans',
  'requests',
  'metrics',
  'monitor',
  'page',
  'json',
  'websockets',
];

/** @param without some of `PARTS` */
export function everything(limits, without = []) {
  const only = (part, options) => (without.includes(part) ? {} : options());
  const timers = new TimerManager({ name: 'server' });
  const { monitor } = only('monitor', () => ({
    monitor: new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, { timers, log: false }),
  }));
  return {
    limits: {
      maxTotalConnections: limits.total,
      maxConnectionsPerIp: limits.perIp,
      maxConnectionsPerUser: limits.perUser,
      connectionTimeoutMs: limits.idleMs,
      ...only('rates', () => ({
        connectRatePerIp: { limit: limits.connectsPerMinute, windowMs: 60_000 },
        messageRate: { limit: limits.messagesPerSecond, windowMs: 1000 },
        byteRate: { limit: limits.bytesPerSecond, windowMs: 1000 },
      })),
    },
    ...only('tokens', () => ({
      auth: new TokenVerifier({
        algorithms: ['HS256'],
        keys: { secret: SECRET },
        issuer: ISSUER,
        audience: AUDIENCE,
      }),
    })),
    ...only('bans', () => ({ banAfter: {} })),
    ...only('json', () => ({ json: { maxBytes: limits.messageBytes } })),
    ...only('requests', () => ({ requests: {} })),
    ...only('websockets', () => ({
      websockets: { maxMessageSize: limits.messageBytes, pingIntervalMs: limits.pingMs },
    })),
    timers,
    ...(monitor === undefined ? {} : { monitor }),
    ...only('metrics', () => ({
      metrics: new ProductionMetrics(monitor === undefined ? { timers } : { timers, monitor }),
    })),
    ...only('page', () => ({
      page: { path: '/portcullis', token: 'the-load-test-looks-at-no-page' },
    })),
  };
}
