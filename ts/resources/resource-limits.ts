/**
 * Resource limits of a server: the only place for their names, units, ranges and defaults. The
 * interface of each section names the class that enforces it.
 */
import { ArgumentRangeError, describe, outOfRange, wrongType } from '../base/errors.js';
import {
  type Given,
  knownOptions,
  optionsObject,
  readOptions,
  TIME_MAX_MS,
  wholeNumber,
} from '../base/options.js';

/** Memory of the process, watched by `ResourceMonitor`. */
export interface MemoryLimits {
  /**
   * Limit of the resident set, MB (2^20 bytes): above 0. Also accepted as `maxHeapSize`. Default
   * 512.
   */
  readonly maxHeapSizeMb: number;
  /**
   * Percent of the binding limit (not always `maxHeapSizeMb`) at which the state is `warning`:
   * 1 to 100, below `criticalThreshold`. Default 75.
   */
  readonly warningThreshold: number;
  /**
   * Percent of the binding limit at which the state is `critical`: 1 to 100, above
   * `warningThreshold`. Default 90.
   */
  readonly criticalThreshold: number;
  /**
   * Least time between two requested garbage collections, ms: 1 to 2^30; `Infinity` requests none.
   * Also accepted as `gcInterval`. Default 30000.
   */
  readonly gcIntervalMs: number;
}

/** Connections, limited by `ConnectionManager`. `0` admits none, `Infinity` sets no limit. */
export interface ConnectionCaps {
  /** Open connections in all: 0 to 2^32 - 2, or `Infinity`. Default 10000. */
  readonly maxTotal: number;
  /** Open connections per address: 0 to 2^32 - 2, or `Infinity`. Default `Infinity`. */
  readonly maxPerIp: number;
  /** Open connections per user: 0 to 2^32 - 2, or `Infinity`. Default `Infinity`. */
  readonly maxPerUser: number;
  /**
   * Idle timeout after which a connection is closed, ms: 1 to 2^30, or `Infinity`: none is closed for idleness. Pongs
   * count as activity. Default 120000.
   */
  readonly timeoutMs: number;
}

/** HTTP requests, limited by the adapters. */
export interface RequestLimits {
  /**
   * Requests in flight: 0 to 2^32 - 2, or `Infinity`; one more gets 503 with `Retry-After`. Default
   * `Infinity`.
   */
  readonly maxConcurrent: number;
  /**
   * Requests in flight per client: 0 to 2^32 - 2, or `Infinity`; one more gets 429 with
   * `Retry-After`. A client is its IPv4 address, or its IPv6 network of the `ipv6PrefixBits` of
   * `limits`, behind `trustedProxies` too. Default `Infinity`.
   */
  readonly maxConcurrentPerIp: number;
  /**
   * Timeout until the response begins, ms: 1 to 2^30, or `Infinity`: there is no timeout. After it the request's signal
   * aborts, and the client gets 408 if its body is incomplete, else 503. A handler that still reads the body gets an
   * error, as where its client has left. Default 30000.
   */
  readonly timeoutMs: number;
  /**
   * Bytes of a body, by `Content-Length` or by counting: 0 to 2^40, or `Infinity`; one more gets
   * 413, and a handler that reads the body gets an error (`ERR_OUT_OF_RANGE`). Default 1 MiB.
   */
  readonly maxPayloadSize: number;
  /** Bytes of all headers as sent: 1 to 2^40, or `Infinity`; one more gets 431. Default 16 KiB. */
  readonly maxHeaderSize: number;
}

/** WebSockets, limited by the adapters. */
export interface WebSocketLimits {
  /** Open sockets: 0 to 2^32 - 2, or `Infinity`; one more gets 503. Default `Infinity`. */
  readonly maxConnections: number;
  /**
   * Bytes of a message: 0 to 2^40, or `Infinity`; a larger one closes its socket with 1009. Default
   * 1 MiB.
   */
  readonly maxMessageSize: number;
  /**
   * Interval between pings to a client, ms: 10 to 2^30; `Infinity` sends none. A client that both
   * sent and received something within the interval is not pinged. Also accepted as `pingInterval`.
   * Default 30000.
   */
  readonly pingIntervalMs: number;
  /**
   * Timeout for the answer to a ping, ms: 10 to 2^30, or `Infinity`: nobody is closed for silence. Also accepted as
   * `pongTimeout`. Default 10000.
   */
  readonly pongTimeoutMs: number;
  /**
   * Unsent bytes above which a client counts as slow: 0 to 2^40, or `Infinity`. They are looked at when the socket
   * sends, and at pings: with `pingIntervalMs: Infinity`, a client that only gets what Bun's `publish()` sends is never
   * found slow. Default 1 MiB.
   */
  readonly maxBufferedBytes?: number;
  /**
   * Time that a client may stay slow before it is closed with 1008, ms: 10 to 2^30, or `Infinity`: nobody is closed
   * for it. A stall of the event loop counts as an eighth of it at most. Default 10000.
   */
  readonly maxBufferedMs?: number;
}

/** Resource limits of a server, in four sections. */
export interface ResourceLimits {
  readonly memory: MemoryLimits;
  readonly connections: ConnectionCaps;
  readonly requests: RequestLimits;
  readonly websockets: WebSocketLimits;
}

/**
 * Memory limits as input; absent ones have their defaults. Of a limit and its alias, one may be
 * set.
 */
export interface MemoryLimitsInput extends Given<MemoryLimits> {
  /** Alias of `maxHeapSizeMb`. */
  readonly maxHeapSize?: number | undefined;
  /** Alias of `gcIntervalMs`. */
  readonly gcInterval?: number | undefined;
}

/**
 * WebSocket limits as input; absent ones have their defaults. Of a limit and its alias, one may be
 * set.
 */
export interface WebSocketLimitsInput extends Given<WebSocketLimits> {
  /** Alias of `pingIntervalMs`. */
  readonly pingInterval?: number | undefined;
  /** Alias of `pongTimeoutMs`. */
  readonly pongTimeout?: number | undefined;
}

/** Resource limits as input; absent ones have their defaults. */
export interface ResourceLimitsInput {
  readonly memory?: MemoryLimitsInput | undefined;
  readonly connections?: Given<ConnectionCaps> | undefined;
  readonly requests?: Given<RequestLimits> | undefined;
  readonly websockets?: WebSocketLimitsInput | undefined;
}

const MIB = 2 ** 20;
const BYTES_MAX = 2 ** 40;
const COUNT_MAX = 2 ** 32 - 2;

const DEFAULTS = {
  memory: {
    maxHeapSizeMb: 512,
    warningThreshold: 75,
    criticalThreshold: 90,
    gcIntervalMs: 30_000,
  },
  connections: { maxTotal: 10_000, maxPerIp: Infinity, maxPerUser: Infinity, timeoutMs: 120_000 },
  requests: {
    maxConcurrent: Infinity,
    maxConcurrentPerIp: Infinity,
    timeoutMs: 30_000,
    maxPayloadSize: MIB,
    maxHeaderSize: 16_384,
  },
  websockets: {
    maxConnections: Infinity,
    maxMessageSize: MIB,
    pingIntervalMs: 30_000,
    pongTimeoutMs: 10_000,
    maxBufferedBytes: MIB,
    maxBufferedMs: 10_000,
  },
} as const satisfies ResourceLimits;

/** Least and greatest value of each limit that is a whole number. All of them accept `Infinity`. */
const RANGES: Readonly<Record<string, readonly [least: number, most: number]>> = {
  'memory.gcIntervalMs': [1, TIME_MAX_MS],
  'connections.maxTotal': [0, COUNT_MAX],
  'connections.maxPerIp': [0, COUNT_MAX],
  'connections.maxPerUser': [0, COUNT_MAX],
  'connections.timeoutMs': [1, TIME_MAX_MS],
  'requests.maxConcurrent': [0, COUNT_MAX],
  'requests.maxConcurrentPerIp': [0, COUNT_MAX],
  'requests.timeoutMs': [1, TIME_MAX_MS],
  'requests.maxPayloadSize': [0, BYTES_MAX],
  'requests.maxHeaderSize': [1, BYTES_MAX],
  'websockets.maxConnections': [0, COUNT_MAX],
  'websockets.maxMessageSize': [0, BYTES_MAX],
  'websockets.pingIntervalMs': [10, TIME_MAX_MS],
  'websockets.pongTimeoutMs': [10, TIME_MAX_MS],
  'websockets.maxBufferedBytes': [0, BYTES_MAX],
  'websockets.maxBufferedMs': [10, TIME_MAX_MS],
};

/** Aliases that are accepted as input, by the limit's full name. */
const ALIASES: Readonly<Record<string, string>> = {
  'memory.maxHeapSizeMb': 'maxHeapSize',
  'memory.gcIntervalMs': 'gcInterval',
  'websockets.pingIntervalMs': 'pingInterval',
  'websockets.pongTimeoutMs': 'pongTimeout',
};

type Section = keyof ResourceLimits;
/** A section with every field. @internal */
export type Checked<S extends Section> = Readonly<Required<ResourceLimits[S]>>;

/**
 * Returns a frozen copy of one section, checked, with defaults for absent limits.
 * @param others known options of the section that are no limits, and are not copied
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedSection<S extends Section>(
  section: S,
  given: ResourceLimitsInput[S],
  others: readonly string[] = [],
): Checked<S> {
  const defaults: Record<string, number> = DEFAULTS[section];
  if (given === undefined) return Object.freeze({ ...defaults }) as unknown as Checked<S>;
  optionsObject(section, given);
  const names = Object.keys(defaults);
  const aliases = names.flatMap((name) => ALIASES[`${section}.${name}`] ?? []);
  knownOptions(section, given, [...names, ...aliases, ...others], `${section}.`);
  const checked: Record<string, number> = {};
  for (const name of names) {
    const range = RANGES[`${section}.${name}`];
    const [field, value = defaults[name]] = givenLimit(section, name, given);
    checked[name] =
      range === undefined
        ? positive(field, value)
        : wholeNumber(field, value, range[0], range[1], Infinity);
  }
  if (section === 'memory') checkThresholds(checked as unknown as MemoryLimits);
  return Object.freeze(checked) as unknown as Checked<S>;
}

/** Reads a limit by its name or its alias; the returned field is the name that was used. */
function givenLimit(
  section: Section,
  name: string,
  given: object,
): readonly [field: string, value: unknown] {
  const values = given as Readonly<Record<string, unknown>>;
  const field = `${section}.${name}`;
  const value = values[name];
  const alias = ALIASES[field];
  const other = alias === undefined ? undefined : values[alias];
  if (other === undefined) return [field, value];
  if (value === undefined) return [`${section}.${alias}`, other];
  throw new ArgumentRangeError(
    `${field} and ${section}.${alias} are one limit: set one of them, not both`,
    { field, value: describe(value), allowed: `absent when ${alias} is set` },
  );
}

function positive(field: string, value: unknown): number {
  if (field.endsWith('Threshold')) return percent(field, value);
  const allowed = 'a finite number above 0';
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!(value > 0) || value === Infinity) throw outOfRange(field, value, allowed);
  return value;
}

/** A share such as 0.85 would be reached at once. */
function percent(field: string, value: unknown): number {
  const allowed = 'per cent: a number from 1 to 100';
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!(value >= 1 && value <= 100)) throw outOfRange(field, value, allowed);
  return value;
}

function checkThresholds({ warningThreshold, criticalThreshold }: MemoryLimits): void {
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

const SECTIONS: readonly Section[] = ['memory', 'connections', 'requests', 'websockets'];

/**
 * Returns limits with changes; sections and limits that the changes leave out stay as they are. A limit that is
 * set by its alias replaces the one of its name, and the other way round. The result is not checked.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION for changes that are no objects of sections
 * @internal
 */
export function mergedLimits(
  before: ResourceLimitsInput,
  changes: ResourceLimitsInput,
): ResourceLimitsInput {
  optionsObject('limits', changes);
  knownOptions('limits', changes, SECTIONS, 'limits.');
  const merged: Record<string, object | undefined> = { ...before };
  for (const section of SECTIONS) {
    const given: unknown = changes[section];
    if (given === undefined) continue;
    optionsObject(`limits.${section}`, given);
    const names = Object.keys(DEFAULTS[section]);
    const aliases = names.flatMap((name) => ALIASES[`${section}.${name}`] ?? []);
    const fields: object = readOptions(
      section,
      given,
      [...names, ...aliases],
      `limits.${section}.`,
    );
    const replaced = Object.entries(ALIASES)
      .filter(([field]) => field.startsWith(`${section}.`))
      .map(([field, alias]) => [field.slice(section.length + 1), alias])
      .filter((names) => names.some((name) => name in fields))
      .flat();
    const kept = Object.entries(before[section] ?? {}).filter(([name]) => !replaced.includes(name));
    merged[section] = { ...Object.fromEntries(kept), ...fields };
  }
  return merged;
}

/**
 * Checks resource limits and fills in the defaults.
 * @param limits some or all of the limits
 * @returns a frozen copy with every limit, under its name with the unit
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE (also for a limit that is set by both of its
 *   names), ERR_UNKNOWN_OPTION, naming the field
 * @example
 * resourceLimits({ requests: { maxConcurrent: 100 } }).requests.timeoutMs; // 30000
 */
export function resourceLimits(limits: ResourceLimitsInput = {}): {
  readonly [S in keyof ResourceLimits]: Readonly<Required<ResourceLimits[S]>>;
} {
  optionsObject('limits', limits);
  knownOptions('ResourceLimits', limits, SECTIONS);
  return Object.freeze({
    memory: checkedSection('memory', limits.memory),
    connections: checkedSection('connections', limits.connections),
    requests: checkedSection('requests', limits.requests),
    websockets: checkedSection('websockets', limits.websockets),
  });
}
