//! Memory and CPU of the process, their limits, and stalls of its event loops: parsers of `/proc`
//! and cgroup text, the state machine of memory pressure, and the stall watch.
//!
//! Owns the interpretation. Does not own I/O, a clock or a thread: figures come through a
//! [`Source`] and time is an argument; `crate::sampler` does the reading.
//!
//! ```text
//!  text ─▶ mounts, parse ─▶ cgroup ─▶ sample ─▶ pressure      ok → warning → critical
//!                       └─▶ stall_watch ─▶ stall                running → stalled → running
//! ```
//!
//! Invariant: a figure is right or absent, never a guess.

mod calls;
mod cgroup;
mod delays;
mod mounts;
mod observation;
mod parse;
mod pressure;
mod process_files;
mod sample;
mod source;
mod stall;
mod stall_start;
mod stall_watch;

pub use calls::{is_epoll, is_futex, system_call_name};
pub use cgroup::{Cgroup, CpuStat, MemoryLimit, Quota};
pub use delays::{DelaySum, Delays, Quantiles};
pub use observation::{Observation, ThreadState};
pub use parse::{Pressure, Scheduled, SystemCall, parse_scheduled, parse_system_call};
pub use pressure::{Level, PressureGauge, Thresholds, Transition};
pub use process_files::ProcessFiles;
pub use sample::{Bound, CPU_WINDOW_MS, Dated, Limit, SETTINGS_MS, Sample, Sampling};
pub use source::{MachineFigures, ProcessFigures, RareFigures, Source};
pub use stall::{Cause, Stall};
pub use stall_watch::{IDLE_OBSERVE_INTERVAL_MS, OBSERVE_INTERVAL_MS, StallWatch, Verdict};
