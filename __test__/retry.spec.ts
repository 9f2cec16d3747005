import { describe, expect, it } from 'vitest';
import { RetryEstimate, type SeatCounts } from '../dist/connections/retry.js';
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';

/** The estimate in the middle of the jitter. */
const exact = (): RetryEstimate => new RetryEstimate(() => 0.5);

describe('an estimate of when there is room', () => {
  it('follows the rate at which seats become free, and the length of the queue', () => {
    const estimate = exact();
    estimate.forSeats(100, 0, () => ({ admitted: 100, total: 100 }));
    // In ten seconds five have gone, and five others have come: one every two seconds.
    const now = (): SeatCounts => ({ admitted: 105, total: 100 });
    expect(estimate.forSeats(100, 10_000, now)).toBe(2000);
    expect(estimate.forSeats(100, 10_000, now)).toBe(4000);
    expect(estimate.forSeats(100, 10_000, now)).toBe(6000);
    // An address has one of the hundred seats: a hundred times as long, up to the longest answer.
    expect(estimate.forSeats(1, 10_000, now)).toBe(30_000);
  });

  it('is the longest answer where nobody goes, and the shortest where everybody does', () => {
    const estimate = exact();
    expect(estimate.forSeats(10, 0, () => ({ admitted: 10, total: 10 }))).toBe(30_000);
    const busy = (): SeatCounts => ({ admitted: 10_010, total: 10 });
    expect(estimate.forSeats(10, 1000, busy)).toBe(1000);
    expect(estimate.withoutSeats()).toBe(1000);
  });

  it('spreads clients that are refused together from half to one and a half of it', () => {
    using timers = new TimerManager({ clock: new ManualClock() });
    using manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, timers);
    manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    const waits = Array.from({ length: 200 }, () => {
      const refused = manager.reserve('192.0.2.1');
      return refused.success ? 0 : refused.retryAfterMs;
    });
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(45_000);
    expect(new Set(waits).size).toBeGreaterThan(150);
  });
});

describe('limits that are only observed', () => {
  it('admit, count, and tell the hook what they would refuse', () => {
    const told: [string, string, string | undefined][] = [];
    using manager = new ConnectionManager(
      { mode: 'observe', maxConnectionsPerIp: 1, maxConnectionsPerUser: 2 },
      { onObserve: ({ code }, ip, user) => void told.push([code, ip, user]) },
    );
    for (const id of ['a', 'b', 'c'])
      expect(manager.addConnection(id, new FakeSocket(), '192.0.2.1', 'ada').success).toBe(true);
    const { observed, refused, totalConnections } = manager.snapshot();
    expect([observed, refused, totalConnections]).toEqual([{ ip_limit: 2 }, {}, 3]);
    expect(told).toEqual([
      ['ip_limit', '192.0.2.1', 'ada'],
      ['ip_limit', '192.0.2.1', 'ada'],
    ]);
    // Draining is no limit.
    manager.drain();
    expect(manager.reserve('192.0.2.2')).toMatchObject({ code: 'draining' });
    manager.resume();
    manager.updateLimits({ mode: 'enforce' });
    expect(manager.reserve('192.0.2.1')).toMatchObject({ code: 'ip_limit' });
  });

  it('report messages over a rate, whatever its action is', () => {
    const told: string[] = [];
    using manager = new ConnectionManager(
      { mode: 'observe', messageRate: { limit: 1, windowMs: 1000 } },
      { onRateExceeded: (_, rate, action) => void told.push(`${rate} ${action}`) },
    );
    const socket = new FakeSocket();
    const { connection } = manager.addConnection('a', socket, '192.0.2.1');
    expect([connection?.received(1), connection?.received(1)]).toEqual(['ok', 'ok']);
    expect([told, socket.closed]).toEqual([['message_rate report'], []]);
  });

  it('are refused as a mode that does not exist', () => {
    expect(() => new ConnectionManager({ mode: 'dry' as never })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'mode' }) as Error,
    );
  });
});
