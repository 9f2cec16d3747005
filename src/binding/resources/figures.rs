//! The figures of a watched thread as JavaScript objects. An absent member means "not known".

use crate::resources::{Dated, Limit, Pressure, Quantiles, Transition, system_call_name};
use crate::sampler::{Report, StallRecord, ThreadReport};
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

/// A memory limit.
#[napi(object)]
pub struct LimitFigures {
    pub source: String,
    pub limit: f64,
    pub used: f64,
    pub percent: f64,
    pub level: u32,
}

/// Quantiles of event-loop delays, ms.
#[napi(object)]
pub struct DelayFigures {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    pub min: f64,
    pub deviation: f64,
    pub count: f64,
}

/// Pressure stall information: shares of time waited for a resource, percent.
#[napi(object)]
pub struct PressureFigures {
    pub some10: f64,
    pub some60: f64,
    pub full10: Option<f64>,
    pub is_own: bool,
}

/// One watched thread.
#[napi(object)]
pub struct ThreadFigures {
    pub name: String,
    pub in_flight: f64,
    pub cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub stalls: f64,
    /// Time of the measurement of CPU and utilization, by the process's clock.
    pub measured_at_ms: Option<f64>,
}

/// Time at which each figure was read, by the process's clock; absent if it never was.
#[napi(object)]
pub struct FigureDates {
    pub rss: Option<f64>,
    pub anonymous: Option<f64>,
    pub working_set: Option<f64>,
    pub total: Option<f64>,
    pub available: Option<f64>,
    pub swap_total: Option<f64>,
    pub swap_used: Option<f64>,
    pub load: Option<f64>,
    pub machine_cpus: Option<f64>,
    pub started: Option<f64>,
    pub open_files: Option<f64>,
    pub open_files_limit: Option<f64>,
    pub binding: Option<f64>,
    pub cgroup_version: Option<f64>,
    pub oom_kills: Option<f64>,
    pub cpus: Option<f64>,
    pub quota_cpus: Option<f64>,
    pub allowed_cpus: Option<f64>,
    pub used_cpus: Option<f64>,
    pub throttled_percent: Option<f64>,
    pub memory_pressure: Option<f64>,
    pub cpu_pressure: Option<f64>,
    pub io_pressure: Option<f64>,
    pub thread_cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub delays: Option<f64>,
    pub process_delays: Option<f64>,
    pub lifetime_delays: Option<f64>,
    /// Last observation of this thread's loop.
    pub looked: Option<f64>,
    /// Last observation of the loop that was observed longest ago.
    pub all_looked: Option<f64>,
    pub own_cpu: Option<f64>,
}

/// All figures; an absent member is not known.
#[napi(object)]
pub struct WatchFigures {
    pub now_ms: f64,
    pub sampled_at_ms: f64,
    pub dates: FigureDates,
    pub rss: Option<f64>,
    pub anonymous: Option<f64>,
    pub working_set: Option<f64>,
    pub total: Option<f64>,
    pub available: Option<f64>,
    pub swap_total: Option<f64>,
    pub swap_used: Option<f64>,
    /// Load averages of 1, 5 and 15 minutes.
    pub load: Option<Vec<f64>>,
    pub machine_cpus: Option<u32>,
    /// Start of the process, seconds since 1970.
    pub started: Option<f64>,
    pub open_files: Option<f64>,
    pub open_files_limit: Option<f64>,
    pub binding: Option<LimitFigures>,
    pub limits: Vec<LimitFigures>,
    pub cgroup_version: Option<u8>,
    pub oom_kills: Option<f64>,
    pub level: u8,
    pub cpus: Option<f64>,
    pub quota_cpus: Option<f64>,
    pub allowed_cpus: Option<f64>,
    pub used_cpus: Option<f64>,
    pub cpu_percent: Option<f64>,
    pub throttled_percent: Option<f64>,
    pub memory_pressure: Option<PressureFigures>,
    pub cpu_pressure: Option<PressureFigures>,
    pub io_pressure: Option<PressureFigures>,
    pub thread_cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub recent_utilization: Option<f64>,
    pub delays: Option<DelayFigures>,
    pub process_delays: Option<DelayFigures>,
    pub lifetime_delays: Option<DelayFigures>,
    pub is_watched: bool,
    pub is_seen: bool,
    pub stalls: f64,
    pub stall: Option<StallFigures>,
    pub pauses: u32,
    pub threads: Vec<ThreadFigures>,
    pub process_requests: f64,
    pub process_stalls: f64,
    pub process_stalled_ms: f64,
    pub own_cpu: Option<f64>,
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

impl From<Limit> for LimitFigures {
    fn from(limit: Limit) -> Self {
        Self {
            source: limit.bound.name().into(),
            limit: limit.limit,
            used: limit.used,
            percent: limit.percent(),
            level: limit.level as u32,
        }
    }
}

impl From<Quantiles> for DelayFigures {
    fn from(quantiles: Quantiles) -> Self {
        Self {
            p50: quantiles.p50,
            p90: quantiles.p90,
            p99: quantiles.p99,
            p999: quantiles.p999,
            max: quantiles.max,
            mean: quantiles.mean,
            min: quantiles.min,
            deviation: quantiles.deviation,
            count: quantiles.count as f64,
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

fn value<T, U: From<T>>(figure: Option<Dated<T>>) -> Option<U> {
    figure.map(|figure| figure.value.into())
}

fn bytes(figure: Option<Dated<u64>>) -> Option<f64> {
    figure.map(|figure| figure.value as f64)
}

fn date<T>(figure: &Option<Dated<T>>) -> Option<f64> {
    figure.as_ref().map(|figure| figure.at_ms)
}

impl From<(Pressure, bool)> for PressureFigures {
    fn from((pressure, is_own): (Pressure, bool)) -> Self {
        Self {
            some10: pressure.some_10,
            some60: pressure.some_60,
            full10: pressure.full_10,
            is_own,
        }
    }
}

impl From<&Report> for FigureDates {
    fn from(report: &Report) -> Self {
        let sample = &report.sample;
        let [memory, cpu, io] = &sample.pressure;
        Self {
            rss: date(&sample.rss),
            anonymous: date(&sample.anonymous),
            working_set: date(&sample.working_set),
            total: date(&sample.total),
            available: date(&sample.available),
            swap_total: date(&sample.swap_total),
            swap_used: date(&sample.swap_used),
            load: date(&sample.load),
            machine_cpus: date(&sample.machine_cpus),
            started: date(&sample.started_s),
            open_files: date(&sample.open_files),
            open_files_limit: date(&sample.open_files_limit),
            binding: date(&report.limit),
            cgroup_version: date(&sample.cgroup_version),
            oom_kills: date(&sample.oom_kills),
            cpus: date(&sample.cpus),
            quota_cpus: date(&sample.quota_cpus),
            allowed_cpus: date(&sample.allowed_cpus()),
            used_cpus: date(&sample.used_cpus),
            throttled_percent: date(&sample.throttled_percent),
            memory_pressure: date(memory),
            cpu_pressure: date(cpu),
            io_pressure: date(io),
            thread_cpu: date(&report.thread_cpu),
            utilization: date(&report.utilization),
            delays: date(&report.delays),
            process_delays: date(&report.process_delays),
            lifetime_delays: date(&report.lifetime_delays),
            looked: report.observed_ms,
            all_looked: report.all_observed_ms,
            own_cpu: date(&report.own_cpu),
        }
    }
}

impl From<&ThreadReport> for ThreadFigures {
    fn from(thread: &ThreadReport) -> Self {
        Self {
            name: thread.name.clone(),
            in_flight: thread.in_flight,
            cpu: value(thread.cpu),
            utilization: value(thread.utilization),
            stalls: thread.stalls as f64,
            measured_at_ms: date(&thread.cpu),
        }
    }
}

impl From<Report> for WatchFigures {
    fn from(report: Report) -> Self {
        let dates = FigureDates::from(&report);
        let sample = &report.sample;
        let [memory_pressure, cpu_pressure, io_pressure] = sample.pressure;
        Self {
            now_ms: report.now_ms,
            sampled_at_ms: sample.at_ms,
            dates,
            rss: bytes(sample.rss),
            anonymous: bytes(sample.anonymous),
            working_set: bytes(sample.working_set),
            total: bytes(sample.total),
            available: bytes(sample.available),
            swap_total: bytes(sample.swap_total),
            swap_used: bytes(sample.swap_used),
            load: sample.load.map(|load| load.value.to_vec()),
            machine_cpus: value(sample.machine_cpus),
            started: bytes(sample.started_s),
            open_files: bytes(sample.open_files),
            open_files_limit: bytes(sample.open_files_limit),
            binding: value(report.limit),
            limits: sample.limits.iter().copied().map(Into::into).collect(),
            cgroup_version: value(sample.cgroup_version),
            oom_kills: bytes(sample.oom_kills),
            level: report.level as u8,
            cpus: value(sample.cpus),
            quota_cpus: value(sample.quota_cpus),
            allowed_cpus: value(sample.allowed_cpus()),
            used_cpus: value(sample.used_cpus),
            cpu_percent: value(sample.cpu_percent()),
            throttled_percent: value(sample.throttled_percent),
            memory_pressure: value(memory_pressure),
            cpu_pressure: value(cpu_pressure),
            io_pressure: value(io_pressure),
            thread_cpu: value(report.thread_cpu),
            utilization: value(report.utilization),
            recent_utilization: value(report.recent_utilization),
            delays: value(report.delays),
            process_delays: value(report.process_delays),
            lifetime_delays: value(report.lifetime_delays),
            is_watched: report.visibility.0,
            is_seen: report.visibility.1,
            stalls: report.stalls as f64,
            stall: report.stall.map(Into::into),
            pauses: report.pauses,
            threads: report.threads.iter().map(Into::into).collect(),
            process_requests: report.process_requests,
            process_stalls: report.process_stalls as f64,
            process_stalled_ms: report.process_stalled_ms,
            own_cpu: value(report.own_cpu),
        }
    }
}
