import { describe, expect, it } from 'vitest';
import { PortcullisError, type ResourceLimits, resourceLimits } from '../dist/index.js';

// Every field of the type, as a user would write it.
const WHOLE: ResourceLimits = {
  memory: { maxHeapSize: 256, warningThreshold: 70, criticalThreshold: 85, gcInterval: 1000 },
  connections: { maxTotal: 100, maxPerIp: 10, maxPerUser: 5, timeoutMs: 30_000 },
  requests: { maxConcurrent: 50, timeoutMs: 5000, maxPayloadSize: 1024, maxHeaderSize: 8192 },
  websockets: { maxConnections: 100, maxMessageSize: 65_536, pingInterval: 1000, pongTimeout: 500 },
};

function thrown(limits: unknown): Partial<PortcullisError> {
  try {
    resourceLimits(limits as Parameters<typeof resourceLimits>[0]);
  } catch (error) {
    if (error instanceof PortcullisError)
      return { code: error.code, field: error.field, message: error.message };
  }
  throw new Error('no PortcullisError was thrown');
}

describe('resource limits', () => {
  it('keep given values and fill in the rest, frozen', () => {
    expect(resourceLimits(WHOLE)).toMatchObject(WHOLE);
    const limits = resourceLimits({
      requests: { maxConcurrent: 0, timeoutMs: undefined as unknown as number },
    });
    expect(limits.requests).toEqual({
      maxConcurrent: 0,
      timeoutMs: 30_000,
      maxPayloadSize: 2 ** 20,
      maxHeaderSize: 16_384,
    });
    expect(limits.connections.maxPerIp).toBe(Infinity);
    expect(
      [limits, limits.memory, limits.connections, limits.requests, limits.websockets].every(
        Object.isFrozen,
      ),
    ).toBe(true);
  });

  it('copy the given objects', () => {
    const requests = { maxConcurrent: 5 };
    const limits = resourceLimits({ requests });
    requests.maxConcurrent = 6;
    expect(limits.requests.maxConcurrent).toBe(5);
  });

  it.each([
    [null, 'limits'],
    [[], 'limits'],
    [{ memory: 5 }, 'memory'],
    [{ memory: [] }, 'memory'],
    [{ memory: { maxHeapSize: 0 } }, 'memory.maxHeapSize'],
    [{ memory: { maxHeapSize: Number.NaN } }, 'memory.maxHeapSize'],
    [{ memory: { maxHeapSize: Infinity } }, 'memory.maxHeapSize'],
    [{ memory: { warningThreshold: 90, criticalThreshold: 90 } }, 'memory.warningThreshold'],
    [{ memory: { criticalThreshold: 101 } }, 'memory.criticalThreshold'],
    [{ memory: { warningThreshold: '70' } }, 'memory.warningThreshold'],
    [{ connections: { maxTotal: -1 } }, 'connections.maxTotal'],
    [{ connections: { maxPerIp: 1.5 } }, 'connections.maxPerIp'],
    [{ connections: { timeoutMs: 0 } }, 'connections.timeoutMs'],
    [{ requests: { maxConcurrent: null } }, 'requests.maxConcurrent'],
    [{ requests: { maxHeaderSize: 0 } }, 'requests.maxHeaderSize'],
    [{ websockets: { pingInterval: 9 } }, 'websockets.pingInterval'],
    [{ websockets: { maxBufferedMs: -5 } }, 'websockets.maxBufferedMs'],
  ])('refuse %j by the name of its field', (limits, field) => {
    const error = thrown(limits);
    expect(error.field).toBe(field);
    expect(['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE']).toContain(error.code);
  });

  it('refuse unknown names', () => {
    expect(thrown({ request: {} })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: expect.stringContaining('did you mean requests?'),
    });
    expect(thrown({ requests: { maxConcurent: 1 } }).message).toContain(
      'did you mean maxConcurrent?',
    );
  });
});
