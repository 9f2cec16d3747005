//! The names of the exposed metrics. A table, hence the length; `docs/kpi.md` is generated from it.
//!
//! There are two namings: OpenTelemetry's semantic conventions (as Prometheus spells them, with
//! underscores and units), and prom-client's, which most dashboards for Node use. A figure without
//! a name in either has one name of its own in both.

/// The naming of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// OpenTelemetry's names.
    Otel,
    /// prom-client's names.
    Prom,
    /// Both; a figure whose names differ is exposed twice.
    Both,
}

impl Naming {
    /// True if names of `vocabulary` belong to this naming.
    #[must_use]
    pub fn has(self, vocabulary: Naming) -> bool {
        self == Naming::Both || vocabulary == Naming::Both || self == vocabulary
    }
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A family of metrics; the name of a counter is given without `_total`.
#[derive(Debug)]
pub struct Family {
    /// The naming it belongs to; `Both` for a name of our own.
    pub naming: Naming,
    /// The exposed name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The unit at the end of the name, or empty.
    pub unit: &'static str,
    /// The help text without its full stop.
    pub help: &'static str,
}

/// A figure without labels.
#[derive(Debug)]
pub struct Scalar {
    /// The key that TypeScript uses.
    pub key: &'static str,
    /// Its one or two families.
    pub families: &'static [Family],
}

const fn family(
    naming: Naming,
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
) -> Family {
    Family {
        naming,
        name,
        kind,
        unit,
        help,
    }
}

use Kind::{Counter, Gauge, Histogram};
use Naming::{Both, Otel, Prom};

/// The figures without labels, in the order in which JavaScript passes them.
pub const SCALARS: &[Scalar] = &[
    Scalar {
        key: "inFlight",
        families: &[family(
            Both,
            "http_server_active_requests",
            Gauge,
            "",
            "Requests in flight",
        )],
    },
    Scalar {
        key: "memoryBytes",
        families: &[
            family(
                Otel,
                "process_memory_usage_bytes",
                Gauge,
                "bytes",
                "Resident memory of the process",
            ),
            family(
                Prom,
                "process_resident_memory_bytes",
                Gauge,
                "bytes",
                "Resident memory of the process",
            ),
        ],
    },
    Scalar {
        key: "cpuRatio",
        families: &[family(
            Both,
            "process_cpu_utilization_ratio",
            Gauge,
            "ratio",
            "CPU use of the process as a share of the CPUs it may use",
        )],
    },
    Scalar {
        key: "startSeconds",
        families: &[family(
            Prom,
            "process_start_time_seconds",
            Gauge,
            "seconds",
            "Start time of the process, seconds since the epoch",
        )],
    },
    Scalar {
        key: "uptimeSeconds",
        families: &[family(
            Otel,
            "process_uptime_seconds",
            Gauge,
            "seconds",
            "Uptime of the process",
        )],
    },
    Scalar {
        key: "heapUsedBytes",
        families: &[
            family(
                Otel,
                "v8js_memory_heap_used_bytes",
                Gauge,
                "bytes",
                "Heap in use",
            ),
            family(
                Prom,
                "nodejs_heap_size_used_bytes",
                Gauge,
                "bytes",
                "Heap in use",
            ),
        ],
    },
    Scalar {
        key: "heapLimitBytes",
        families: &[family(
            Otel,
            "v8js_memory_heap_limit_bytes",
            Gauge,
            "bytes",
            "Size limit of the heap",
        )],
    },
    Scalar {
        key: "loopUtilization",
        families: &[family(
            Both,
            "nodejs_eventloop_utilization_ratio",
            Gauge,
            "ratio",
            "Share of time in which the event loop was busy",
        )],
    },
    Scalar {
        key: "loopDelayP50",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_p50_seconds",
                Gauge,
                "seconds",
                "Median delay of the event loop in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_p50_seconds",
                Gauge,
                "seconds",
                "Median delay of the event loop in the last minute",
            ),
        ],
    },
    Scalar {
        key: "loopDelayP90",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_p90_seconds",
                Gauge,
                "seconds",
                "90th percentile of the event loop delay in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_p90_seconds",
                Gauge,
                "seconds",
                "90th percentile of the event loop delay in the last minute",
            ),
        ],
    },
    Scalar {
        key: "loopDelayP99",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_p99_seconds",
                Gauge,
                "seconds",
                "99th percentile of the event loop delay in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_p99_seconds",
                Gauge,
                "seconds",
                "99th percentile of the event loop delay in the last minute",
            ),
        ],
    },
    Scalar {
        key: "loopDelayMax",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_max_seconds",
                Gauge,
                "seconds",
                "Longest delay of the event loop in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_max_seconds",
                Gauge,
                "seconds",
                "Longest delay of the event loop in the last minute",
            ),
        ],
    },
    Scalar {
        key: "loopDelayMean",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_mean_seconds",
                Gauge,
                "seconds",
                "Mean delay of the event loop in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_mean_seconds",
                Gauge,
                "seconds",
                "Mean delay of the event loop in the last minute",
            ),
        ],
    },
    Scalar {
        key: "stalls",
        families: &[family(
            Both,
            "portcullis_eventloop_stalls",
            Counter,
            "",
            "Stalls of the event loop",
        )],
    },
    Scalar {
        key: "connections",
        families: &[family(
            Both,
            "portcullis_connections",
            Gauge,
            "",
            "Open connections",
        )],
    },
    Scalar {
        key: "activeUsers",
        families: &[family(
            Both,
            "portcullis_active_users",
            Gauge,
            "",
            "Users connected or active in the last 15 minutes",
        )],
    },
    Scalar {
        key: "healthScore",
        families: &[family(
            Both,
            "portcullis_health_score",
            Gauge,
            "",
            "Health score from 0 to 100",
        )],
    },
    Scalar {
        key: "healthy",
        families: &[family(
            Both,
            "portcullis_targets_met",
            Gauge,
            "",
            "1 if every target with data is met",
        )],
    },
    Scalar {
        key: "apdex",
        families: &[family(
            Both,
            "portcullis_apdex",
            Gauge,
            "",
            "Application performance index from 0 to 1",
        )],
    },
    Scalar {
        key: "routesOverflowed",
        families: &[family(
            Both,
            "portcullis_routes_overflowed_requests",
            Counter,
            "",
            "Requests of routes beyond the limit of routes",
        )],
    },
    Scalar {
        key: "bannedAddresses",
        families: &[family(
            Both,
            "portcullis_banned_addresses",
            Gauge,
            "",
            "Addresses that are banned",
        )],
    },
    Scalar {
        key: "bans",
        families: &[family(
            Both,
            "portcullis_bans",
            Counter,
            "",
            "Bans of addresses",
        )],
    },
    Scalar {
        key: "banFailures",
        families: &[family(
            Both,
            "portcullis_ban_failures",
            Counter,
            "",
            "Failures of addresses that count towards a ban",
        )],
    },
    Scalar {
        key: "cpuUserSeconds",
        families: &[family(
            Prom,
            "process_cpu_user_seconds",
            Counter,
            "seconds",
            "CPU time of the process in user mode",
        )],
    },
    Scalar {
        key: "cpuSystemSeconds",
        families: &[family(
            Prom,
            "process_cpu_system_seconds",
            Counter,
            "seconds",
            "CPU time of the process in the kernel",
        )],
    },
    Scalar {
        key: "cpuSeconds",
        families: &[family(
            Prom,
            "process_cpu_seconds",
            Counter,
            "seconds",
            "CPU time of the process",
        )],
    },
    Scalar {
        key: "virtualBytes",
        families: &[family(
            Prom,
            "process_virtual_memory_bytes",
            Gauge,
            "bytes",
            "Virtual memory of the process (Linux)",
        )],
    },
    Scalar {
        key: "dataBytes",
        families: &[family(
            Prom,
            "process_heap_bytes",
            Gauge,
            "bytes",
            "Data segment of the process (Linux)",
        )],
    },
    Scalar {
        key: "openFiles",
        families: &[family(
            Prom,
            "process_open_fds",
            Gauge,
            "",
            "Open file descriptors (Linux)",
        )],
    },
    Scalar {
        key: "maxFiles",
        families: &[family(
            Prom,
            "process_max_fds",
            Gauge,
            "",
            "Limit of open file descriptors (Linux)",
        )],
    },
    Scalar {
        key: "lagSeconds",
        families: &[family(
            Prom,
            "nodejs_eventloop_lag_seconds",
            Gauge,
            "seconds",
            "Time from the end of the last exposition to the next turn of the event loop",
        )],
    },
    Scalar {
        key: "loopDelayMin",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_min_seconds",
                Gauge,
                "seconds",
                "Shortest delay of the event loop in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_min_seconds",
                Gauge,
                "seconds",
                "Shortest delay of the event loop in the last minute",
            ),
        ],
    },
    Scalar {
        key: "loopDelayDeviation",
        families: &[
            family(
                Otel,
                "nodejs_eventloop_delay_stddev_seconds",
                Gauge,
                "seconds",
                "Standard deviation of the event loop delay in the last minute",
            ),
            family(
                Prom,
                "nodejs_eventloop_lag_stddev_seconds",
                Gauge,
                "seconds",
                "Standard deviation of the event loop delay in the last minute",
            ),
        ],
    },
    Scalar {
        key: "heapTotalBytes",
        families: &[family(
            Prom,
            "nodejs_heap_size_total_bytes",
            Gauge,
            "bytes",
            "Heap reserved by the engine",
        )],
    },
    Scalar {
        key: "externalBytes",
        families: &[family(
            Prom,
            "nodejs_external_memory_bytes",
            Gauge,
            "bytes",
            "Memory outside of the heap that its objects own",
        )],
    },
    Scalar {
        key: "activeHandles",
        families: &[family(
            Prom,
            "nodejs_active_handles_total",
            Gauge,
            "",
            "Active handles of libuv",
        )],
    },
    Scalar {
        key: "activeRequests",
        families: &[family(
            Prom,
            "nodejs_active_requests_total",
            Gauge,
            "",
            "Active requests of libuv",
        )],
    },
    Scalar {
        key: "activeResources",
        families: &[family(
            Prom,
            "nodejs_active_resources_total",
            Gauge,
            "",
            "Resources that keep the event loop alive",
        )],
    },
];

/// A figure with labels.
#[derive(Debug)]
pub struct Labelled {
    /// The key that TypeScript uses.
    pub key: &'static str,
    /// Its family.
    pub family: Family,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// The figures with labels other than requests.
pub const LABELLED: &[Labelled] = &[
    Labelled {
        key: "messages",
        family: family(
            Both,
            "portcullis_websocket_messages",
            Counter,
            "",
            "WebSocket messages",
        ),
        labels: &["direction"],
    },
    Labelled {
        key: "messageBytes",
        family: family(
            Both,
            "portcullis_websocket_message_bytes",
            Counter,
            "bytes",
            "Payload of WebSocket messages",
        ),
        labels: &["direction"],
    },
    Labelled {
        key: "refusals",
        family: family(
            Both,
            "portcullis_refusals",
            Counter,
            "",
            "Connections and requests refused by limits",
        ),
        labels: &["code"],
    },
    Labelled {
        key: "shed",
        family: family(
            Both,
            "portcullis_shed",
            Counter,
            "",
            "Connections and requests refused by load shedding",
        ),
        labels: &["cause"],
    },
    Labelled {
        key: "pressure",
        family: family(
            Both,
            "portcullis_pressure_ratio",
            Gauge,
            "ratio",
            "Share of newcomers that load shedding refuses",
        ),
        labels: &["cause"],
    },
    Labelled {
        key: "errors",
        family: family(
            Both,
            "portcullis_errors",
            Counter,
            "",
            "Recorded errors by kind",
        ),
        labels: &["kind"],
    },
    Labelled {
        key: "burnRate",
        family: family(
            Both,
            "portcullis_slo_burn_rate",
            Gauge,
            "",
            "Burn rate of an error budget: at 1 it lasts exactly its period",
        ),
        labels: &["slo", "window"],
    },
    Labelled {
        key: "budgetRemaining",
        family: family(
            Both,
            "portcullis_slo_budget_remaining_ratio",
            Gauge,
            "ratio",
            "Share of an error budget that is left",
        ),
        labels: &["slo"],
    },
    Labelled {
        key: "clusterState",
        family: family(
            Both,
            "portcullis_cluster_state",
            Gauge,
            "",
            "State of this process in a cluster: 1 for the present one",
        ),
        labels: &["manager", "state"],
    },
    Labelled {
        key: "clusterMembers",
        family: family(
            Both,
            "portcullis_cluster_members",
            Gauge,
            "",
            "Processes in a cluster",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "clusterSeats",
        family: family(
            Both,
            "portcullis_cluster_connections",
            Gauge,
            "",
            "Connections of this process that count in a cluster",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "clusterWaiting",
        family: family(
            Both,
            "portcullis_cluster_waiting",
            Gauge,
            "",
            "Clients that wait for the answer of a cluster",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "clusterAdmissions",
        family: family(
            Both,
            "portcullis_cluster_admissions",
            Counter,
            "",
            "Admissions by a cluster, by outcome",
        ),
        labels: &["manager", "outcome"],
    },
    Labelled {
        key: "clusterConnects",
        family: family(
            Both,
            "portcullis_cluster_connects",
            Counter,
            "",
            "Connections to the server of a cluster that were made",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "clusterLosses",
        family: family(
            Both,
            "portcullis_cluster_losses",
            Counter,
            "",
            "Times that the server of a cluster had lost something, or had declared this process dead",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "clusterDrift",
        family: family(
            Both,
            "portcullis_cluster_drift",
            Counter,
            "",
            "Counts that the server of a cluster had lost by itself, and that were put right",
        ),
        labels: &["manager"],
    },
    Labelled {
        key: "limiterCosts",
        family: family(
            Both,
            "portcullis_limiter_costs",
            Counter,
            "",
            "Costs that a rate limiter judged, by outcome: calls of take()",
        ),
        labels: &["limiter", "outcome"],
    },
    Labelled {
        key: "limiterBlocks",
        family: family(
            Both,
            "portcullis_limiter_blocks",
            Counter,
            "",
            "Calls of block() of a rate limiter",
        ),
        labels: &["limiter"],
    },
    Labelled {
        key: "limiterKeys",
        family: family(
            Both,
            "portcullis_limiter_keys",
            Gauge,
            "",
            "Keys that a rate limiter knows",
        ),
        labels: &["limiter"],
    },
    Labelled {
        key: "limiterEvictions",
        family: family(
            Both,
            "portcullis_limiter_evictions",
            Counter,
            "",
            "Keys that a full rate limiter forgot before they had their whole limit again",
        ),
        labels: &["limiter"],
    },
    Labelled {
        key: "limiterBytes",
        family: family(
            Both,
            "portcullis_limiter_memory_bytes",
            Gauge,
            "bytes",
            "Memory of the keys of a rate limiter",
        ),
        labels: &["limiter"],
    },
    Labelled {
        key: "handlesByType",
        family: family(
            Prom,
            "nodejs_active_handles",
            Gauge,
            "",
            "Active handles of libuv by class",
        ),
        labels: &["type"],
    },
    Labelled {
        key: "requestsByType",
        family: family(
            Prom,
            "nodejs_active_requests",
            Gauge,
            "",
            "Active requests of libuv by class",
        ),
        labels: &["type"],
    },
    Labelled {
        key: "resourcesByType",
        family: family(
            Prom,
            "nodejs_active_resources",
            Gauge,
            "",
            "Resources that keep the event loop alive by type",
        ),
        labels: &["type"],
    },
    Labelled {
        key: "spaceTotal",
        family: family(
            Prom,
            "nodejs_heap_space_size_total_bytes",
            Gauge,
            "bytes",
            "Size of a space of the heap",
        ),
        labels: &["space"],
    },
    Labelled {
        key: "spaceUsed",
        family: family(
            Prom,
            "nodejs_heap_space_size_used_bytes",
            Gauge,
            "bytes",
            "Part of a space of the heap in use",
        ),
        labels: &["space"],
    },
    Labelled {
        key: "spaceAvailable",
        family: family(
            Prom,
            "nodejs_heap_space_size_available_bytes",
            Gauge,
            "bytes",
            "Part of a space of the heap that is free",
        ),
        labels: &["space"],
    },
    Labelled {
        key: "version",
        family: family(
            Prom,
            "nodejs_version_info",
            Gauge,
            "",
            "Version of Node.js, or the one that Bun reports for compatibility",
        ),
        labels: &["version", "major", "minor", "patch"],
    },
    Labelled {
        key: "mergeFailures",
        family: family(
            Both,
            "portcullis_merge_failures",
            Counter,
            "",
            "Readings of merged registries that failed",
        ),
        labels: &["reason"],
    },
];

/// Families whose samples come as a template of text: histograms beside those of requests.
pub const HISTOGRAMS: &[Labelled] = &[Labelled {
    key: "gcDuration",
    family: family(
        Prom,
        "nodejs_gc_duration_seconds",
        Histogram,
        "seconds",
        "Duration of garbage collections by kind: major, minor, incremental or weakcb",
    ),
    labels: &["kind", "le"],
}];

/// The names of one naming for requests.
#[derive(Debug)]
pub struct RequestWords {
    /// The naming.
    pub naming: Naming,
    /// Histogram of durations.
    pub duration: &'static str,
    /// Counter by status, without `_total`.
    pub requests: &'static str,
    /// Label of the method.
    pub method: &'static str,
    /// Label of the route.
    pub route: &'static str,
    /// Label of the status.
    pub status: &'static str,
}

/// The names for requests in each naming.
pub const REQUESTS: &[RequestWords] = &[
    RequestWords {
        naming: Otel,
        duration: "http_server_request_duration_seconds",
        requests: "http_server_requests",
        method: "http_request_method",
        route: "http_route",
        status: "http_response_status_code",
    },
    RequestWords {
        naming: Prom,
        duration: "http_request_duration_seconds",
        requests: "http_requests",
        method: "method",
        route: "route",
        status: "status_code",
    },
];
