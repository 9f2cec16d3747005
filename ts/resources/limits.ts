/** The plan's `ResourceLimits`: one place for names, units, ranges and defaults. Who enforces which is at each field. */
import { ArgumentRangeError, outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';

/** Memory of the process; watched by `ResourceMonitor`. */
export interface MemoryLimits {
  /** MB (2^20 bytes): above 0. Default 512. */
  readonly maxHeapSize: number;
  /** Percent of the limit that binds, which may be another than `maxHeapSize`: above 0, below `criticalThreshold`. Default 75. */
  readonly warningThreshold: number;
  /** Percent of the same: above `warningThreshold`, at most 100. Default 90. */
  readonly criticalThreshold: number;
  /** Least milliseconds between two collections asked for: 1 to 2^30; `Infinity` asks for none. Default 30000. */
  readonly gcInterval: number;
}

/** Connections; kept by `ConnectionManager`. `0` admits none, `Infinity` is no limit. */
export interface ConnectionCaps {
  /** Connections in all: 0 to 2^32 - 2, or `Infinity`. Default 10000. */
  readonly maxTotal: number;
  /** Connections per address: 0 to 2^32 - 2, or `Infinity`. Default `Infinity`. */
  readonly maxPerIp: number;
  /** Connections per user: 0 to 2^32 - 2, or `Infinity`. Default `Infinity`. */
  readonly maxPerUser: number;
  /** Idle milliseconds after which a connection is closed: 1 to 2^30. Pongs count as activity. Default 120000. */
  readonly timeoutMs: number;
}

/** HTTP requests; kept by every adapter that is given them. */
export interface RequestLimits {
  /** Requests at once: 0 to 2^32 - 2, or `Infinity`; one more gets 503 with `Retry-After`. Default `Infinity`. */
  readonly maxConcurrent: number;
  /**
   * Milliseconds until the response begins: 1 to 2^30. Then the request's signal aborts and the client
   * gets 408 if its body had not come, else 503. Default 30000.
   */
  readonly timeoutMs: number;
  /** Bytes of a body, by `Content-Length` or by counting: 0 to 2^40, or `Infinity`; one more gets 413. Default 1 MiB. */
  readonly maxPayloadSize: number;
  /** Bytes of all headers as they are sent: 1 to 2^40, or `Infinity`; one more gets 431. Default 16 KiB. */
  readonly maxHeaderSize: number;
}

/** WebSockets; kept by every adapter that is given them. */
export interface WebSocketLimits {
  /** Open at once: 0 to 2^32 - 2, or `Infinity`; one more gets 503. Default `Infinity`. */
  readonly maxConnections: number;
  /** Bytes of a message: 0 to 2^40, or `Infinity`; a larger one closes its socket with 1009. Default 1 MiB. */
  readonly maxMessageSize: number;
  /**
   * Milliseconds after which a client is pinged with which nothing was exchanged, and again for as long as that lasts: 10 to
   * 2^30; `Infinity` sends none. One that both sends and is sent to needs none. Default 30000.
   */
  readonly pingInterval: number;
  /** Milliseconds in which something must come back after a ping: 10 to 2^30. Default 10000. */
  readonly pongTimeout: number;
  /** Bytes waiting to be sent to a client above which it is slow: 0 to 2^40, or `Infinity`. Default 1 MiB. */
  readonly maxBufferedBytes?: number;
  /** Milliseconds for which a client may stay slow before it is closed with 1008: 10 to 2^30. Default 10000. */
  readonly maxBufferedMs?: number;
}

/** What a server may use. */
export interface ResourceLimits {
  readonly memory: MemoryLimits;
  readonly connections: ConnectionCaps;
  readonly requests: RequestLimits;
  readonly websockets: WebSocketLimits;
}

/** Some of the limits; the others have their defaults. */
export type ResourceLimitsInput = {
  readonly [S in keyof ResourceLimits]?: Partial<ResourceLimits[S]> | undefined;
};

const MIB = 2 ** 20;
const BYTES_MAX = 2 ** 40;
const COUNT_MAX = 2 ** 32 - 2;

const DEFAULTS = {
  memory: { maxHeapSize: 512, warningThreshold: 75, criticalThreshold: 90, gcInterval: 30_000 },
  connections: { maxTotal: 10_000, maxPerIp: Infinity, maxPerUser: Infinity, timeoutMs: 120_000 },
  requests: {
    maxConcurrent: Infinity,
    timeoutMs: 30_000,
    maxPayloadSize: MIB,
    maxHeaderSize: 16_384,
  },
  websockets: {
    maxConnections: Infinity,
    maxMessageSize: MIB,
    pingInterval: 30_000,
    pongTimeout: 10_000,
    maxBufferedBytes: MIB,
    maxBufferedMs: 10_000,
  },
} as const satisfies ResourceLimits;

/** The largest and smallest of each whole-numbered limit; all of them may be `Infinity` unless told otherwise. */
const RANGES: Readonly<Record<string, readonly [least: number, most: number]>> = {
  'memory.gcInterval': [1, TIME_MAX_MS],
  'connections.maxTotal': [0, COUNT_MAX],
  'connections.maxPerIp': [0, COUNT_MAX],
  'connections.maxPerUser': [0, COUNT_MAX],
  'connections.timeoutMs': [1, TIME_MAX_MS],
  'requests.maxConcurrent': [0, COUNT_MAX],
  'requests.timeoutMs': [1, TIME_MAX_MS],
  'requests.maxPayloadSize': [0, BYTES_MAX],
  'requests.maxHeaderSize': [1, BYTES_MAX],
  'websockets.maxConnections': [0, COUNT_MAX],
  'websockets.maxMessageSize': [0, BYTES_MAX],
  'websockets.pingInterval': [10, TIME_MAX_MS],
  'websockets.pongTimeout': [10, TIME_MAX_MS],
  'websockets.maxBufferedBytes': [0, BYTES_MAX],
  'websockets.maxBufferedMs': [10, TIME_MAX_MS],
};

type Sections = typeof DEFAULTS;
/** A section with every field. @internal */
export type Checked<S extends keyof ResourceLimits> = Readonly<Required<ResourceLimits[S]>>;

/**
 * One section, complete.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedSection<S extends keyof ResourceLimits>(
  section: S,
  given: Partial<ResourceLimits[S]> | undefined,
): Checked<S> {
  const defaults: Record<string, number> = DEFAULTS[section];
  if (given === undefined) return Object.freeze({ ...defaults }) as unknown as Checked<S>;
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw wrongType(section, given, 'an object');
  knownOptions(section, given, Object.keys(defaults));
  const values = given as Readonly<Record<string, unknown>>;
  const checked: Record<string, number> = {};
  for (const [name, fallback] of Object.entries(defaults)) {
    const field = `${section}.${name}`;
    const range = RANGES[field];
    const value = values[name] === undefined ? fallback : values[name];
    checked[name] =
      range === undefined
        ? positive(field, value)
        : wholeNumber(field, value, range[0], range[1], Infinity);
  }
  if (section === 'memory') checkThresholds(checked as unknown as MemoryLimits);
  return Object.freeze(checked) as unknown as Checked<S>;
}

function positive(field: string, value: unknown): number {
  const allowed = 'a finite number above 0';
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!(value > 0) || value === Infinity) throw outOfRange(field, value, allowed);
  return value;
}

function checkThresholds({ warningThreshold, criticalThreshold }: MemoryLimits): void {
  if (criticalThreshold > 100)
    throw outOfRange('memory.criticalThreshold', criticalThreshold, 'a percentage of at most 100');
  if (warningThreshold < criticalThreshold) return;
  throw new ArgumentRangeError(
    `memory.warningThreshold (${warningThreshold}) must be below memory.criticalThreshold (${criticalThreshold})`,
    {
      field: 'memory.warningThreshold',
      value: String(warningThreshold),
      allowed: `below ${criticalThreshold}`,
    },
  );
}

/**
 * All limits, checked, with their defaults.
 * @param limits some or all of them
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @example
 * resourceLimits({ requests: { maxConcurrent: 100 } }).requests.timeoutMs; // 30000
 */
export function resourceLimits(limits: ResourceLimitsInput = {}): {
  readonly [S in keyof ResourceLimits]: Readonly<Required<ResourceLimits[S]>>;
} {
  if (typeof limits !== 'object' || limits === null || Array.isArray(limits))
    throw wrongType('limits', limits, 'an object');
  const sections: readonly (keyof Sections)[] = ['memory', 'connections', 'requests', 'websockets'];
  knownOptions('ResourceLimits', limits, sections);
  return Object.freeze({
    memory: checkedSection('memory', limits.memory),
    connections: checkedSection('connections', limits.connections),
    requests: checkedSection('requests', limits.requests),
    websockets: checkedSection('websockets', limits.websockets),
  });
}
