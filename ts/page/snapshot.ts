/** What the live page shows, as types: the page's own script is checked against them. */

/** How things stand, in one word. `unknown` while nothing that could tell is in use. */
export type PageState = 'ok' | 'warning' | 'critical' | 'draining' | 'unknown';

/** A part of the health score. */
export interface PageScorePart {
  readonly id: string;
  readonly name: string;
  /** 0 to 100; `null` without data. */
  readonly score: number | null;
  /** Its share of the whole, 0 to 1. */
  readonly weight: number;
  readonly observed: number | null;
  readonly target: number | null;
  /** Such as `ms`, `%`, `MB`. */
  readonly unit: string;
}

/** Something to do. */
export interface PageAdvice {
  readonly id: string;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly text: string;
  /** What was observed, against which threshold, and what to do; empty if there is no more to say. */
  readonly detail: string;
}

/** Something that happened. */
export interface PageEvent {
  readonly id: number;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly kind: 'stall' | 'state' | 'score' | 'refused' | 'evicted' | 'collection' | 'server';
  readonly severity: 'info' | 'warning' | 'critical';
  readonly text: string;
}

/** An address or user with many connections. */
export interface PageShare {
  readonly key: string;
  readonly count: number;
}

/** A route by its pattern, in the last minute. */
export interface PageRoute {
  readonly route: string;
  readonly perSecond: number;
  readonly errorPercent: number | null;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

/** A count by a name. */
export interface PageCount {
  readonly name: string;
  readonly count: number;
}

/** Everything that the page shows at one moment. What an application does not use is `null`; sizes are in MB of 2^20 bytes. */
export interface PageSnapshot {
  readonly version: 1;
  /** Counts the seconds since the page was set up. */
  readonly sequence: number;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly server: {
    readonly title: string;
    readonly runtime: string;
    readonly pid: number;
    readonly uptimeMs: number;
    readonly viewers: number;
    readonly maxViewers: number;
    /** Requests for the page that were turned away. */
    readonly denied: number;
  };
  readonly state: PageState;
  /** Why it is not `ok`, in a few words. */
  readonly reason: string;
  readonly health: {
    readonly score: number | null;
    readonly parts: readonly PageScorePart[];
  } | null;
  /** `null` where neither metrics nor a monitor could give any. */
  readonly advice: readonly PageAdvice[] | null;
  readonly requests: {
    readonly perSecond: number;
    readonly errorPercent: number | null;
    readonly inFlight: number;
    /** Of the last minute, in milliseconds. */
    readonly p50Ms: number | null;
    readonly p95Ms: number | null;
    readonly p99Ms: number | null;
    readonly p999Ms: number | null;
    readonly maxMs: number | null;
    readonly apdex: number | null;
    readonly activeUsers: number;
    readonly routes: readonly PageRoute[];
  } | null;
  /** Budgets of what may go wrong: how much is left, and how fast they are spent (1 is just in time). */
  readonly budgets:
    | readonly {
        readonly id: string;
        readonly name: string;
        readonly objectivePercent: number;
        readonly leftPercent: number | null;
        readonly burn5m: number | null;
        readonly burn1h: number | null;
        readonly burn6h: number | null;
        readonly alert: 'page' | 'ticket' | null;
      }[]
    | null;
  readonly messages: {
    readonly inPerSecond: number;
    readonly outPerSecond: number;
    readonly inBytesPerSecond: number;
    readonly outBytesPerSecond: number;
  } | null;
  readonly connections: {
    /** As `ConnectionManager.snapshot()` has them. */
    readonly total: number;
    readonly addresses: number;
    readonly users: number;
    readonly anonymous: number;
    readonly admitted: number;
    readonly evicted: number;
    readonly messagesOverRate: number;
    readonly maxTotal: number | null;
    readonly maxPerIp: number | null;
    readonly maxPerUser: number | null;
    /** Of this thread; `null` until all were looked at once. */
    readonly states: {
      /** Seats held by handshakes under way, and by other threads of the same name. */
      readonly opening: number;
      /** Heard from within ten seconds. */
      readonly active: number;
      /** Open and silent for longer. */
      readonly quiet: number;
    } | null;
    /** Those with the most connections of this thread; `null` until all were looked at once. */
    readonly topAddresses: readonly PageShare[] | null;
    /** As `topAddresses`. */
    readonly topUsers: readonly PageShare[] | null;
    /** Counts of the two lists may be too low by so many: more keys than are kept apart. */
    readonly topError: number;
  };
  /** Connections, requests and WebSockets that were turned away, by reason, since the start. */
  readonly refusals: readonly PageCount[];
  readonly loop: {
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly maxMs: number | null;
    /** Percent of time in which the loop was at work. */
    readonly utilizationPercent: number | null;
    readonly stalls: number;
    readonly watch: 'kernel' | 'challenge' | 'off';
  } | null;
  readonly memory: {
    readonly rssMb: number | null;
    readonly heapUsedMb: number;
    /** Of the limit that binds, and what is compared with it. */
    readonly usedMb: number | null;
    readonly limitMb: number | null;
    readonly limitSource: string | null;
    readonly percent: number | null;
    readonly warningPercent: number;
    readonly criticalPercent: number;
  } | null;
  readonly cpu: {
    /** Of the CPUs allowed. */
    readonly percent: number | null;
    /** Of one core. */
    readonly jsThreadPercent: number | null;
    readonly allowedCpus: number | null;
    readonly throttledPercent: number | null;
  } | null;
  /** `byName` is `null` while there are too many to be listed, and while nobody looks. Of the thousand oldest. */
  readonly timers: { readonly active: number; readonly byName: readonly PageCount[] | null };
  readonly layers:
    | readonly {
        readonly name: string;
        readonly enabled: boolean;
        readonly count: number;
        readonly errors: number;
        readonly timeouts: number;
        readonly p50Ms: number | null;
        readonly p99Ms: number | null;
        readonly breaker: string | null;
      }[]
    | null;
  /** The latest, the newest first. */
  readonly events: readonly PageEvent[];
  /** The latest blocks of the event loop, the oldest first. */
  readonly stalls: readonly PageStall[];
  /** One row of the charts: values in the order of `PAGE_COLUMNS`. */
  readonly row: PageRow;
  /** Requests of the last second by their latency: one more than `heatEdgesMs` of the history. */
  readonly heat: readonly number[] | null;
}

/** A value is `null` where there is none. */
export type PageRow = readonly (number | null)[];

/** The columns of a row. */
export const PAGE_COLUMNS = [
  'at',
  'requests',
  'errors',
  'p50',
  'p95',
  'p99',
  'messagesIn',
  'messagesOut',
  'connections',
  'admitted',
  'refused',
  'loopP50',
  'loopP99',
  'utilization',
  'memory',
  'rss',
  'memoryLimit',
  'cpu',
  'jsThread',
  'score',
] as const;

/** A name of a column. */
export type PageColumn = (typeof PAGE_COLUMNS)[number];

/** A block of the event loop, as the charts mark it. */
export interface PageStall {
  readonly startedAt: number;
  readonly durationMs: number;
  readonly cause: string;
  readonly label: string | null;
}

/** What a page gets first: the minutes before it was opened. */
export interface PageHistory {
  readonly rows: readonly PageRow[];
  readonly heat: readonly (readonly number[] | null)[];
  /** Upper edges of the bands of the heat map, in milliseconds; the last band is open. */
  readonly heatEdgesMs: readonly number[];
  readonly stalls: readonly PageStall[];
}

/** Rounded to what a reader can use: three significant digits. @internal */
export function short(value: number | null | undefined): number | null {
  return value === null || value === undefined || !Number.isFinite(value)
    ? null
    : Number(value.toPrecision(3));
}
