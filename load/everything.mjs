// The options of portcullis with every feature on, for each adapter: limits and rates, tokens, JSON
// limits, bans, monitor, metrics, page.
import { ProductionMetrics, ResourceMonitor, TimerManager, TokenVerifier } from '../dist/index.js';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

export function everything(limits) {
  const timers = new TimerManager({ name: 'server' });
  const monitor = new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, { timers, log: false });
  return {
    limits: {
      maxTotalConnections: limits.total,
      maxConnectionsPerIp: limits.perIp,
      maxConnectionsPerUser: limits.perUser,
      connectionTimeoutMs: limits.idleMs,
      connectRatePerIp: { limit: limits.connectsPerMinute, windowMs: 60_000 },
      messageRate: { limit: limits.messagesPerSecond, windowMs: 1000 },
      byteRate: { limit: limits.bytesPerSecond, windowMs: 1000 },
    },
    auth: new TokenVerifier({
      algorithms: ['HS256'],
      keys: { secret: SECRET },
      issuer: ISSUER,
      audience: AUDIENCE,
    }),
    banAfter: {},
    json: { maxBytes: limits.messageBytes },
    requests: {},
    websockets: { maxMessageSize: limits.messageBytes, pingIntervalMs: limits.pingMs },
    timers,
    monitor,
    metrics: new ProductionMetrics({ timers, monitor }),
    page: { path: '/portcullis', token: 'the-load-test-looks-at-no-page' },
  };
}
