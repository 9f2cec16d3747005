//! The figures of a watched thread, for JavaScript. Nearly all are numbers in shared cells: to set the
//! members of an object one by one costs more than all the rest of a report.

use crate::resources::{Bound, Dated, Limit, Quantiles, Transition, system_call_name};
use crate::sampler::{Report, StallRecord, ThreadReport, cell};
use napi_derive::napi;

/// A stall.
#[napi(object)]
pub struct StallFigures {
    pub id: f64,
    pub thread: String,
    /// Start, by the process's clock, ms.
    pub since_ms: f64,
    pub duration_ms: f64,
    pub noticed_after_ms: f64,
    pub cause: String,
    pub system_call: Option<String>,
    pub on_cpu: Option<f64>,
    pub waiting: Option<f64>,
    pub label: String,
    pub in_flight: f64,
}

/// A change of the memory level.
#[napi(object)]
pub struct LevelChange {
    pub at_ms: f64,
    pub from: u8,
    pub to: u8,
    pub percent: f64,
}

/// Figures of which there is a varying number, and texts.
#[napi(object)]
pub struct FigureTables {
    /// For each memory limit: the index of its name in `bound_names()`, then limit and use in bytes,
    /// the use in percent and the level.
    pub limits: Vec<f64>,
    /// For each watched thread: requests in flight, CPU and utilization as shares, stalls, and the
    /// time at which CPU and utilization were measured; NaN for unknown figures.
    pub threads: Vec<f64>,
    /// Names of the threads.
    pub names: Vec<String>,
    /// The stall under way.
    pub stall: Option<StallFigures>,
}

/// The names of memory limits.
const BOUNDS: [Bound; 5] = [
    Bound::Configured,
    Bound::Heap,
    Bound::Cgroup,
    Bound::CgroupHigh,
    Bound::Host,
];

/// Returns the names of memory limits, in their order.
#[napi(catch_unwind)]
pub fn bound_names() -> Vec<&'static str> {
    BOUNDS.iter().map(|bound| bound.name()).collect()
}

/// Declares the figures that JavaScript reads from cells: for each figure its date, then its values.
/// The place of a figure is stated once: here, by its order.
macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident: $width:literal = $value:expr;)*) => {
        /// Places of the figures in the cells: at each place stands the time of the figure by the
        /// process's clock, then its values; all are NaN if the figure is not known.
        #[napi(object)]
        pub struct FigurePlaces {
            $($(#[$doc])* pub $name: u32,)*
            /// Number of cells.
            pub length: u32,
        }

        /// Number of cells that the figures take.
        pub(super) const LENGTH: usize = 0 $(+ 1 + $width)*;

        /// Returns the places of the figures.
        #[napi(catch_unwind)]
        pub fn figure_places() -> FigurePlaces {
            let mut next = cell::NAMES.len() as u32;
            let mut place = |width: u32| {
                let at = next;
                next += 1 + width;
                at
            };
            FigurePlaces {
                $($name: place($width),)*
                length: next,
            }
        }

        /// Hands each cell of the figures to `store`, in their order.
        pub(super) fn write(report: &Report, mut store: impl FnMut(f64)) {
            $({
                let figure: fn(&Report) -> Option<Dated<[f64; $width]>> = $value;
                let figure = figure(report).unwrap_or(Dated::new([f64::NAN; $width], f64::NAN));
                store(figure.at_ms);
                figure.value.into_iter().for_each(&mut store);
            })*
        }
    };
}

figures! {
    /// Time of the report.
    now: 1 = |report| now([report.now_ms], report);
    /// Time of the sample.
    sampled_at: 1 = |report| observed([report.sample.at_ms], Some(report.sample.at_ms));
    rss: 1 = |report| bytes(report.sample.rss);
    anonymous: 1 = |report| bytes(report.sample.anonymous);
    working_set: 1 = |report| bytes(report.sample.working_set);
    total: 1 = |report| bytes(report.sample.total);
    available: 1 = |report| bytes(report.sample.available);
    swap_total: 1 = |report| bytes(report.sample.swap_total);
    swap_used: 1 = |report| bytes(report.sample.swap_used);
    /// Load averages of 1, 5 and 15 minutes.
    load: 3 = |report| report.sample.load;
    machine_cpus: 1 = |report| number(report.sample.machine_cpus);
    /// Start of the process, seconds since 1970.
    started: 1 = |report| bytes(report.sample.started_s);
    open_files: 1 = |report| bytes(report.sample.open_files);
    open_files_limit: 1 = |report| bytes(report.sample.open_files_limit);
    /// The memory limit of which most is used, as in `FigureTables`.
    binding: 5 = |report| report.limit.map(|limit| limit.map(limit_row));
    cgroup_version: 1 = |report| number(report.sample.cgroup_version);
    oom_kills: 1 = |report| bytes(report.sample.oom_kills);
    level: 1 = |report| now([f64::from(report.level as u8)], report);
    cpus: 1 = |report| number(report.sample.cpus);
    quota_cpus: 1 = |report| number(report.sample.quota_cpus);
    allowed_cpus: 1 = |report| number(report.sample.allowed_cpus());
    used_cpus: 1 = |report| number(report.sample.used_cpus);
    cpu_percent: 1 = |report| number(report.sample.cpu_percent());
    throttled_percent: 1 = |report| number(report.sample.throttled_percent);
    memory_pressure: 4 = |report| pressure(report, 0);
    cpu_pressure: 4 = |report| pressure(report, 1);
    io_pressure: 4 = |report| pressure(report, 2);
    thread_cpu: 1 = |report| number(report.thread_cpu);
    utilization: 1 = |report| number(report.utilization);
    recent_utilization: 1 = |report| number(report.recent_utilization);
    /// Quantiles of event-loop delays, ms: p50, p90, p99, p99.9, maximum, mean, minimum, standard
    /// deviation, and their number.
    delays: 9 = |report| quantiles(report.delays);
    process_delays: 9 = |report| quantiles(report.process_delays);
    lifetime_delays: 9 = |report| quantiles(report.lifetime_delays);
    /// 1 if the loop is watched.
    is_watched: 1 = |report| now([f64::from(u8::from(report.visibility.0))], report);
    /// 1 if the kernel shows the thread.
    is_seen: 1 = |report| now([f64::from(u8::from(report.visibility.1))], report);
    /// Stalls and pauses; their date is the last observation of the loop.
    stalls: 1 = |report| observed([report.stalls as f64], report.observed_ms);
    pauses: 1 = |report| observed([f64::from(report.pauses)], report.observed_ms);
    process_requests: 1 = |report| now([report.process_requests], report);
    /// Their date is the last observation of the loop that was observed longest ago.
    process_stalls: 1 = |report| observed([report.process_stalls as f64], report.all_observed_ms);
    process_stalled_ms: 1 = |report| observed([report.process_stalled_ms], report.all_observed_ms);
    own_cpu: 1 = |report| number(report.own_cpu);
}

impl From<StallRecord> for StallFigures {
    fn from(record: StallRecord) -> Self {
        let StallRecord {
            id,
            thread,
            stall,
            label,
            in_flight,
        } = record;
        Self {
            id: id as f64,
            thread,
            since_ms: stall.since_ms,
            duration_ms: stall.duration_ms,
            noticed_after_ms: stall.noticed_after_ms,
            cause: stall.cause.name().into(),
            system_call: stall.system_call.map(|number| {
                system_call_name(number).map_or_else(|| number.to_string(), str::to_owned)
            }),
            on_cpu: stall.on_cpu,
            waiting: stall.waiting,
            label,
            in_flight,
        }
    }
}

impl From<(f64, Transition)> for LevelChange {
    fn from((at_ms, transition): (f64, Transition)) -> Self {
        Self {
            at_ms,
            from: transition.from as u8,
            to: transition.to as u8,
            percent: transition.percent,
        }
    }
}

/// A figure of the time of the report.
fn now<const N: usize>(value: [f64; N], report: &Report) -> Option<Dated<[f64; N]>> {
    Some(Dated::new(value, report.now_ms))
}

/// A count with the time of the last observation; NaN if there was none.
fn observed<const N: usize>(value: [f64; N], at_ms: Option<f64>) -> Option<Dated<[f64; N]>> {
    Some(Dated::new(value, at_ms.unwrap_or(f64::NAN)))
}

fn number<T: Into<f64>>(figure: Option<Dated<T>>) -> Option<Dated<[f64; 1]>> {
    figure.map(|figure| figure.map(|value| [value.into()]))
}

fn bytes(figure: Option<Dated<u64>>) -> Option<Dated<[f64; 1]>> {
    figure.map(|figure| figure.map(|value| [value as f64]))
}

fn quantiles(figure: Option<Dated<Quantiles>>) -> Option<Dated<[f64; 9]>> {
    figure.map(|figure| {
        figure.map(|found| {
            [
                found.p50,
                found.p90,
                found.p99,
                found.p999,
                found.max,
                found.mean,
                found.min,
                found.deviation,
                found.count as f64,
            ]
        })
    })
}

/// Percent of time in which some tasks waited, over 10 and 60 s; in which all did, over 10 s; and 1
/// if the figures are the control group's own.
fn pressure(report: &Report, at: usize) -> Option<Dated<[f64; 4]>> {
    report.sample.pressure[at].map(|figure| {
        figure.map(|(found, is_own)| {
            [
                found.some_10,
                found.some_60,
                found.full_10.unwrap_or(f64::NAN),
                f64::from(u8::from(is_own)),
            ]
        })
    })
}

fn limit_row(limit: Limit) -> [f64; 5] {
    let bound = BOUNDS.iter().position(|bound| *bound == limit.bound);
    [
        bound.map_or(f64::NAN, |bound| bound as f64),
        limit.limit,
        limit.used,
        limit.percent(),
        limit.level as f64,
    ]
}

fn thread_row(thread: &ThreadReport) -> [f64; 5] {
    let value = |figure: Option<Dated<f64>>| figure.map_or(f64::NAN, |figure| figure.value);
    [
        thread.in_flight,
        value(thread.cpu),
        value(thread.utilization),
        thread.stalls as f64,
        thread.cpu.map_or(f64::NAN, |cpu| cpu.at_ms),
    ]
}

impl From<Report> for FigureTables {
    fn from(report: Report) -> Self {
        Self {
            limits: report
                .sample
                .limits
                .iter()
                .copied()
                .flat_map(limit_row)
                .collect(),
            threads: report.threads.iter().flat_map(thread_row).collect(),
            names: report
                .threads
                .into_iter()
                .map(|thread| thread.name)
                .collect(),
            stall: report.stall.map(Into::into),
        }
    }
}
