import { describe, expect, it } from 'vitest';
import {
  PortcullisError,
  type ResourceLimits,
  type ResourceLimitsInput,
  resourceLimits,
} from '../dist/index.js';

const WHOLE: ResourceLimits = {
  memory: { maxHeapSizeMb: 256, warningThreshold: 70, criticalThreshold: 85, gcIntervalMs: 1000 },
  connections: { maxTotal: 100, maxPerIp: 10, maxPerUser: 5, timeoutMs: 30_000 },
  requests: { maxConcurrent: 50, timeoutMs: 5000, maxPayloadSize: 1024, maxHeaderSize: 8192 },
  websockets: {
    maxConnections: 100,
    maxMessageSize: 65_536,
    pingIntervalMs: 1000,
    pongTimeoutMs: 500,
  },
};
/** The same limits by their aliases. */
const ALIASED: ResourceLimitsInput = {
  ...WHOLE,
  memory: { maxHeapSize: 256, warningThreshold: 70, criticalThreshold: 85, gcInterval: 1000 },
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
  it('keep given values, fill in defaults, and are frozen', () => {
    expect(resourceLimits(WHOLE)).toMatchObject(WHOLE);
    const limits = resourceLimits({
      requests: { maxConcurrent: 0, timeoutMs: undefined as unknown as number },
    });
    expect(limits.requests).toEqual({
      maxConcurrent: 0,
      maxConcurrentPerIp: Infinity,
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

  it('are the same by their aliases without a unit', () => {
    expect(resourceLimits(ALIASED)).toEqual(resourceLimits(WHOLE));
    const { memory } = resourceLimits({
      memory: { maxHeapSize: 100, maxHeapSizeMb: undefined as unknown as number },
    });
    expect(memory.maxHeapSizeMb).toBe(100);
    expect(Object.keys(memory)).not.toContain('maxHeapSize');
  });

  it.each([
    ['memory', 'maxHeapSizeMb', 'maxHeapSize'],
    ['memory', 'gcIntervalMs', 'gcInterval'],
    ['websockets', 'pingIntervalMs', 'pingInterval'],
    ['websockets', 'pongTimeoutMs', 'pongTimeout'],
  ])('refuse a limit that is set by both names: %s.%s', (section, name, alias) => {
    expect(thrown({ [section]: { [name]: 100, [alias]: 100 } })).toEqual({
      code: 'ERR_OUT_OF_RANGE',
      field: `${section}.${name}`,
      message: `${section}.${name} and ${section}.${alias} are one limit: set one of them, not both`,
    });
  });

  it('are copies of the given objects', () => {
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
    [{ memory: { maxHeapSizeMb: 0 } }, 'memory.maxHeapSizeMb'],
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
    [{ websockets: { pingIntervalMs: 9 } }, 'websockets.pingIntervalMs'],
    [{ websockets: { pingInterval: 9 } }, 'websockets.pingInterval'],
    [{ websockets: { maxBufferedMs: -5 } }, 'websockets.maxBufferedMs'],
  ])('refuse %j by the name of its field', (limits, field) => {
    const error = thrown(limits);
    expect(error.field).toBe(field);
    expect(['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE']).toContain(error.code);
  });

  it('refuse unknown names, with the nearest one', () => {
    expect(thrown({ request: {} })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: expect.stringContaining('did you mean requests?'),
    });
    expect(thrown({ requests: { maxConcurent: 1 } }).message).toContain(
      'did you mean maxConcurrent?',
    );
  });
});
