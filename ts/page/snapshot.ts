/**
 * Types of the figures that the live page shows: the contract between the server and the page's
 * script.
 */

/** State of the server in one word; `unknown` without a monitor and metrics. */
export type PageState = 'ok' | 'warning' | 'critical' | 'draining' | 'unknown';

/** A part of the health score. */
export interface PageScorePart {
  readonly id: string;
  readonly name: string;
  /** Score of the part, 0 to 100; `null` without data. */
  readonly score: number | null;
  /** Weight relative to the other parts; 0 for a part that only caps the score, or is left out. */
  readonly weight: number;
  readonly observed: number | null;
  /** Greatest value that scores 100. */
  readonly target: number | null;
  /** Least value that scores 0. */
  readonly zeroAt: number | null;
  /** Unit of the three figures, such as `ms`, `%`, `MB`; empty for counts. */
  readonly unit: string;
  /** Greatest health score while the part is as it is; `null` if it does not cap the score. */
  readonly cap: number | null;
  /** Time at which the cap ends, wall-clock milliseconds; `null` if only the figure ends it. */
  readonly capEndsAt: number | null;
}

/** A recommended action. */
export interface PageAdvice {
  readonly id: string;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly text: string;
  /** The observed figure and its threshold. */
  readonly detail: string;
}

/** An event in the server's recent past. */
export interface PageEvent {
  /** Number of the event, from 1. */
  readonly id: number;
  /** Time of the event, wall-clock milliseconds. */
  readonly at: number;
  /** Kind of the event. */
  readonly kind: 'stall' | 'state' | 'score' | 'refused' | 'evicted' | 'collection' | 'server';
  /** Severity. */
  readonly severity: 'info' | 'warning' | 'critical';
  /** Text of one line, at most 200 characters. */
  readonly text: string;
}

/** An address or user with its number of connections. */
export interface PageShare {
  /** The address or user; without `showClients` the network or pseudonym. */
  readonly key: string;
  readonly count: number;
}

/** A route by its pattern, last minute. */
export interface PageRoute {
  readonly route: string;
  readonly perSecond: number;
  readonly errorPercent: number | null;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

/** A count by name. */
export interface PageCount {
  readonly name: string;
  readonly count: number;
}

/**
 * All figures of the page at one moment. Parts that the application does not use are `null`; sizes
 * in MB of 2^20 bytes.
 */
export interface PageSnapshot {
  /** Version of this type. */
  readonly version: 1;
  /** Number of the snapshot: one a second, from 1. */
  readonly sequence: number;
  /** Time of the snapshot, wall-clock milliseconds. */
  readonly at: number;
  /** The process and its page. */
  readonly server: {
    /** Title of the page. */
    readonly title: string;
    /** Name and version of the runtime. */
    readonly runtime: string;
    /** Process id. */
    readonly pid: number;
    /** Time since the process started, ms. */
    readonly uptimeMs: number;
    /** Open streams. */
    readonly viewers: number;
    /** Greatest number of open streams. */
    readonly maxViewers: number;
    /** Refused requests for the page, since the start. */
    readonly denied: number;
  };
  /** State of the server. */
  readonly state: PageState;
  /** Reason for the state in a few words; empty for `ok`. */
  readonly reason: string;
  /** Health score; `null` without metrics. */
  readonly health: {
    /** Score, 0 to 100; `null` without data. */
    readonly score: number | null;
    /** Parts of the score. */
    readonly parts: readonly PageScorePart[];
  } | null;
  /** Recommended actions; `null` without metrics and monitor. */
  readonly advice: readonly PageAdvice[] | null;
  /** HTTP requests; `null` without metrics. */
  readonly requests: {
    /** Requests in the last complete second. */
    readonly perSecond: number;
    /** Percent of failed requests, last minute; `null` without requests. */
    readonly errorPercent: number | null;
    /** Requests in flight. */
    readonly inFlight: number;
    /**
     * Median of durations in the metrics' window, ms; `null` without requests, as the next four.
     */
    readonly p50Ms: number | null;
    /** 95th percentile. */
    readonly p95Ms: number | null;
    /** 99th percentile. */
    readonly p99Ms: number | null;
    /** 99.9th percentile. */
    readonly p999Ms: number | null;
    /** Longest duration. */
    readonly maxMs: number | null;
    /** Apdex, 0 to 1; `null` without requests. */
    readonly apdex: number | null;
    /** Users who are connected, or were seen in the last 15 minutes. */
    readonly activeUsers: number;
    /** The 20 busiest routes. */
    readonly routes: readonly PageRoute[];
  } | null;
  /**
   * Error budgets: their rest and their burn rates (1 lasts exactly for the period); `null` without
   * metrics.
   */
  readonly budgets:
    | readonly {
        /** The objective: `errors` or `latency`. */
        readonly id: string;
        /** Its name on the page. */
        readonly name: string;
        /** Promised percent of good requests. */
        readonly objectivePercent: number;
        /** Remaining percent of the budget; `null` without requests. */
        readonly leftPercent: number | null;
        /** Burn rate, last 5 minutes. */
        readonly burn5m: number | null;
        /** Burn rate, last hour. */
        readonly burn1h: number | null;
        /** Burn rate, last 6 hours. */
        readonly burn6h: number | null;
        /** Alert that the burn rates raise. */
        readonly alert: 'page' | 'ticket' | null;
      }[]
    | null;
  /** WebSocket messages, average of the last ten seconds; `null` without metrics. */
  readonly messages: {
    /** Messages received. */
    readonly inPerSecond: number;
    /** Messages sent. */
    readonly outPerSecond: number;
    /** Bytes received. */
    readonly inBytesPerSecond: number;
    /** Bytes sent. */
    readonly outBytesPerSecond: number;
  } | null;
  /** WebSocket connections. */
  readonly connections: {
    /** Connections and leases, as in `ConnectionManager.getStats()`; so are the next six. */
    readonly total: number;
    /** Addresses with connections. */
    readonly addresses: number;
    /** Users with connections. */
    readonly users: number;
    /** Connections without a user. */
    readonly anonymous: number;
    /** Admitted connections, since the start. */
    readonly admitted: number;
    /** Connections closed because they were idle, since the start. */
    readonly evicted: number;
    /** Messages above a message rate, since the start. */
    readonly messagesOverRate: number;
    /** Limit of connections in all; `null` without one. */
    readonly maxTotal: number | null;
    /** Limit per address; `null` without one. */
    readonly maxPerIp: number | null;
    /** Limit per user; `null` without one. */
    readonly maxPerUser: number | null;
    /** Connections of this thread by state; `null` until a scan has visited all. */
    readonly states: {
      /** Seats of handshakes under way, and of other threads with the same manager name. */
      readonly opening: number;
      /** Connections with activity in the last ten seconds. */
      readonly active: number;
      /** Open connections without. */
      readonly quiet: number;
    } | null;
    /** Addresses with the most connections of this thread; `null` until a scan has visited all. */
    readonly topAddresses: readonly PageShare[] | null;
    /** Users with the most connections of this thread; `null` until a scan has visited all. */
    readonly topUsers: readonly PageShare[] | null;
    /**
     * Greatest error of the two lists' counts, which are then too low: above 0 with more than 2,048
     * keys.
     */
    readonly topError: number;
  };
  /** Bans of addresses; `null` without `banAfter`. */
  readonly bans: {
    /** Active bans. */
    readonly active: number;
    /** Bans, since the start; so are the next two. */
    readonly banned: number;
    /** Counted failures. */
    readonly failures: number;
    /** Bans lifted by a call. */
    readonly lifted: number;
    /** The 20 latest active bans; `null` without viewers. */
    readonly latest:
      | readonly {
          /** The address or IPv6 network; without `showClients` a wider network. */
          readonly key: string;
          /** Start, wall-clock milliseconds. */
          readonly since: number;
          /** End, wall-clock milliseconds. */
          readonly until: number;
          /** Failures of the address since it is known. */
          readonly failures: number;
          /** Bans of the address by failures in a row. */
          readonly bans: number;
        }[]
      | null;
  } | null;
  /** Rate limiters, those of requests and those that the metrics know; `null` without one. */
  readonly limiters: {
    /** Costs that they admitted, since the start. */
    readonly admitted: number;
    /** Costs that they refused, since the start. */
    readonly refused: number;
    /** The 32 limiters that refused most; `null` without viewers. */
    readonly list:
      | readonly {
          /** Name of the limiter, as in the metrics. */
          readonly name: string;
          /** Cost of a key in each window. */
          readonly limit: number;
          /** Length of the window, ms. */
          readonly windowMs: number;
          /** Known keys. */
          readonly keys: number;
          /** Admitted costs. */
          readonly admitted: number;
          /** Refused costs. */
          readonly refused: number;
          /** Keys that a full table has forgotten early. */
          readonly evicted: number;
        }[]
      | null;
    /** The 20 keys that were refused most often; `null` without viewers. */
    readonly refusedKeys:
      | readonly {
          /**
           * The network of an address, or a pseudonym; with `showClients` the keys of `requests.rate`, and of
           * limiters with `showKeys`, as they are.
           */
          readonly key: string;
          /** Name of the limiter. */
          readonly limiter: string;
          /** Refusals; too high by at most `error`. */
          readonly refused: number;
          /** Greatest error of `refused`. */
          readonly error: number;
          /** Second of the latest refusal, wall-clock milliseconds. */
          readonly latest: number;
        }[]
      | null;
  } | null;
  /** The cluster that counts the connections; `null` without one. */
  readonly cluster: {
    /** State of this process in it. */
    readonly state: string;
    /** Milliseconds since the last change of state. */
    readonly sinceMs: number;
    /** Processes, this one included. */
    readonly members: number;
    /** Seats of this process. */
    readonly seats: number;
    /** Clients that wait for an answer. */
    readonly waiting: number;
    /** Time of the latest question to the server, ms; `null` without viewers. */
    readonly latencyMs: number | null;
    /** Reason of a drain of all processes; `null` if there is none. */
    readonly draining: string | null;
    /** Latest problem with the server; `null` if there is none. */
    readonly problem: string | null;
    /** The 64 processes with the most connections; `null` without viewers, and while the server is away. */
    readonly nodes:
      | readonly {
          /** Name of the process. */
          readonly name: string;
          /** Its seats, as the server counts them. */
          readonly connections: number;
          /** Milliseconds since its latest beat. */
          readonly beatAgeMs: number;
          /** True if it has told what it holds. */
          readonly isUp: boolean;
        }[]
      | null;
  } | null;
  /**
   * Refused connections, requests and messages by reason, since the start, the most frequent first.
   */
  readonly refusals: readonly PageCount[];
  /** The event loop; `null` without a monitor. */
  readonly loop: {
    /** Median of delays, last minute. */
    readonly p50Ms: number | null;
    /** 99th percentile. */
    readonly p99Ms: number | null;
    /** Longest delay. */
    readonly maxMs: number | null;
    /** Percent of time in which the loop did not wait for events. */
    readonly utilizationPercent: number | null;
    /** Noticed stalls, since the start. */
    readonly stalls: number;
    /** Detection of stalls, as in `ResourceSnapshot`. */
    readonly watch: 'kernel' | 'challenge' | 'off';
  } | null;
  /** Load shedding; `null` without a monitor and without its option `shedding`. */
  readonly shedding: {
    /** Percent of newcomers that is refused. */
    readonly percent: number;
    /** Every cause that is watched. */
    readonly causes: readonly {
      /** Name of the cause, as in `PressureCause`. */
      readonly name: string;
      /** Unit of value and limit; `null` for a check. */
      readonly unit: '%' | 'ms' | null;
      /** Present value; `null` while it is not known, and for a check. */
      readonly value: number | null;
      /** Limit above which newcomers are refused; `null` for a check. */
      readonly limit: number | null;
      /** Percent of newcomers that the cause refuses. */
      readonly percent: number;
      /** Time since which it does, wall-clock milliseconds; `null` while it does not. */
      readonly since: number | null;
      /** Refusals for this cause, since the start. */
      readonly refused: number;
    }[];
  } | null;
  /** Memory; `null` without a monitor. */
  readonly memory: {
    /** Resident set of the process. */
    readonly rssMb: number | null;
    /** JavaScript heap in use. */
    readonly heapUsedMb: number;
    /** Memory in use that the binding limit limits. */
    readonly usedMb: number | null;
    /** The binding limit. */
    readonly limitMb: number | null;
    /** Origin of the binding limit, as in `MemoryLimit`. */
    readonly limitSource: string | null;
    /** Percent of the binding limit in use. */
    readonly percent: number | null;
    /** Percent at which the state is `warning`. */
    readonly warningPercent: number;
    /** Percent at which the state is `critical`. */
    readonly criticalPercent: number;
  } | null;
  /** CPU; `null` without a monitor. */
  readonly cpu: {
    /** Percent of the allowed CPUs in use. */
    readonly percent: number | null;
    /** CPU of the JavaScript thread, percent of one core. */
    readonly jsThreadPercent: number | null;
    /** The lesser of affinity and quota. */
    readonly allowedCpus: number | null;
    /** Percent of time in which the quota denied the CPU. */
    readonly throttledPercent: number | null;
  } | null;
  /** Timers of the timer manager. */
  readonly timers: {
    /** Pending timers. */
    readonly active: number;
    /** The 1,000 oldest by name; `null` above 10,000 timers, and without viewers. */
    readonly byName: readonly PageCount[] | null;
  };
  /** Layers of the middleware chain, at most 32; `null` without a chain. */
  readonly layers:
    | readonly {
        /** Name of the layer. */
        readonly name: string;
        /** True if the layer runs. */
        readonly enabled: boolean;
        /** Runs. */
        readonly count: number;
        /** Failed runs. */
        readonly errors: number;
        /** Runs that exceeded their timeout. */
        readonly timeouts: number;
        /** Median of its own duration. */
        readonly p50Ms: number | null;
        /** 99th percentile. */
        readonly p99Ms: number | null;
        /** State of its circuit breaker; `null` without one. */
        readonly breaker: string | null;
      }[]
    | null;
  /** The last 60 events, the newest first. */
  readonly events: readonly PageEvent[];
  /** The last four stalls, the oldest first. */
  readonly stalls: readonly PageStall[];
  /**
   * One row of the charts: at, requests, errors, p50, p95, p99, messagesIn, messagesOut,
   * connections, admitted, refused, loopP50, loopP99, utilization, memory, rss, memoryLimit, cpu,
   * jsThread, score. Shares are percentages; `null` where there is no value.
   */
  readonly row: PageRow;
  /**
   * Requests of the last second by duration, one count per band of the heat map; `null` without
   * metrics.
   */
  readonly heat: readonly number[] | null;
}

/** Values of one second, in the order of `PAGE_COLUMNS`; `null` where there is none. */
export type PageRow = readonly (number | null)[];

/** Columns of a row. @internal */
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

/** Name of a column. @internal */
export type PageColumn = (typeof PAGE_COLUMNS)[number];

/** A stall, as the charts mark it. */
export interface PageStall {
  /** Start, wall-clock milliseconds. */
  readonly startedAt: number;
  /** Duration. */
  readonly durationMs: number;
  /** Cause, as in `Stall`. */
  readonly cause: string;
  /** Label of the route or message type that started last; `null` without one. */
  readonly label: string | null;
  /** Id of the first of its requests, as in `Stall`; `null` without one. */
  readonly requestId: string | null;
}

/** First event of a stream: the last ten minutes. @internal */
export interface PageHistory {
  readonly rows: readonly PageRow[];
  readonly heat: readonly (readonly number[] | null)[];
  /** Upper edges of the heat map's bands, ms; the last band is open. */
  readonly heatEdgesMs: readonly number[];
  readonly stalls: readonly PageStall[];
}

/** Rounds to three significant digits, which is as much as a reader uses. @internal */
export function rounded(value: number | null | undefined): number | null {
  return value === null || value === undefined || !Number.isFinite(value)
    ? null
    : Number(value.toPrecision(3));
}
