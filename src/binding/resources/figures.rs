//! What the watch reports, as objects of JavaScript. Absent is "not known".

use crate::resources::{Limit, Quantiles, Transition, system_call_name};
use crate::sampler::{Report, StallRecord};
use napi_derive::napi;

/// A stall.
#[napi(object)]
pub struct StallFigures {
    pub id: f64,
    pub thread: String,
    /// By the process's clock.
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

/// A change of level.
#[napi(object)]
pub struct LevelChange {
    pub at_ms: f64,
    pub from: u8,
    pub to: u8,
    pub percent: f64,
}

/// A limit of memory.
#[napi(object)]
pub struct LimitFigures {
    pub source: String,
    pub limit: f64,
    pub used: f64,
    pub percent: f64,
    pub level: u32,
}

/// Delays in milliseconds.
#[napi(object)]
pub struct DelayFigures {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    pub count: f64,
}

/// Shares of time waited for a resource, in percent.
#[napi(object)]
pub struct PressureFigures {
    pub some10: f64,
    pub some60: f64,
    pub full10: Option<f64>,
    pub is_own: bool,
}

/// One thread under watch.
#[napi(object)]
pub struct ThreadFigures {
    pub name: String,
    pub in_flight: f64,
    pub cpu: Option<f64>,
    pub utilization: Option<f64>,
    pub stalls: f64,
}

/// Everything that is known; what is absent is not.
#[napi(object)]
pub struct WatchFigures {
    pub now_ms: f64,
    pub sampled_at_ms: f64,
    pub cpu_at_ms: f64,
    pub rss: Option<f64>,
    pub anonymous: Option<f64>,
    pub working_set: Option<f64>,
    pub total: Option<f64>,
    pub available: Option<f64>,
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

impl From<Report> for WatchFigures {
    fn from(report: Report) -> Self {
        let sample = &report.sample;
        let bytes = |figure: Option<u64>| figure.map(|bytes| bytes as f64);
        let pressure = |at: usize| {
            sample.pressure[at].map(|(pressure, is_own)| PressureFigures {
                some10: pressure.some_10,
                some60: pressure.some_60,
                full10: pressure.full_10,
                is_own,
            })
        };
        let threads = report.threads.iter().map(|thread| ThreadFigures {
            name: thread.name.clone(),
            in_flight: thread.in_flight,
            cpu: thread.cpu,
            utilization: thread.utilization,
            stalls: thread.stalls as f64,
        });
        Self {
            now_ms: report.now_ms,
            sampled_at_ms: sample.at_ms,
            cpu_at_ms: sample.cpu_at_ms,
            rss: bytes(sample.rss),
            anonymous: bytes(sample.anonymous),
            working_set: bytes(sample.working_set),
            total: bytes(sample.total),
            available: bytes(sample.available),
            binding: report.limit.map(Into::into),
            limits: sample.limits.iter().copied().map(Into::into).collect(),
            cgroup_version: sample.cgroup_version,
            oom_kills: bytes(sample.oom_kills),
            level: report.level as u8,
            cpus: sample.cpus.map(f64::from),
            quota_cpus: sample.quota_cpus,
            allowed_cpus: sample.allowed_cpus(),
            used_cpus: sample.used_cpus,
            cpu_percent: sample.cpu_percent(),
            throttled_percent: sample.throttled_percent,
            memory_pressure: pressure(0),
            cpu_pressure: pressure(1),
            io_pressure: pressure(2),
            thread_cpu: report.thread_cpu,
            utilization: report.utilization,
            delays: report.delays.map(Into::into),
            process_delays: report.process_delays.map(Into::into),
            lifetime_delays: report.lifetime_delays.map(Into::into),
            is_watched: report.sight.0,
            is_seen: report.sight.1,
            stalls: report.stalls as f64,
            stall: report.stall.map(Into::into),
            pauses: report.pauses,
            threads: threads.collect(),
            process_requests: report.process_requests,
            process_stalls: report.process_stalls as f64,
            process_stalled_ms: report.process_stalled_ms,
            own_cpu: report.own_cpu,
        }
    }
}
