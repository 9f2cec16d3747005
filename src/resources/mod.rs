//! What the process uses, what it may use, and whether its event loops turn: parsers of `/proc` and
//! cgroup text, the state machine of memory pressure, and the stall watch.
//!
//! Nothing here reads a file or a clock: figures come through a [`Source`], time is an argument. The
//! thread that does read them is `crate::sampler`.
//!
//! ```text
//!  text ─▶ mounts, parse ─▶ cgroup ─▶ sample ─▶ pressure      ok → warning → critical
//!                       └─▶ stall_watch ─▶ stall                running → stalled → running
//! ```

mod calls;
mod cgroup;
mod delays;
mod mounts;
mod observation;
mod parse;
mod pressure;
mod sample;
mod source;
mod stall;
mod stall_watch;

pub use calls::{is_epoll, system_call_name};
pub use cgroup::{Cgroup, CpuStat, MemoryLimit, Quota};
pub use delays::{Delays, Quantiles};
pub use observation::{Observation, ThreadState};
pub use parse::{Pressure, Scheduled, SystemCall, parse_scheduled, parse_system_call};
pub use pressure::{Level, PressureGauge, Thresholds, Transition};
pub use sample::{Bound, CPU_WINDOW_MS, Dated, Limit, SETTINGS_MS, Sample, Sampling};
pub use source::{MachineFigures, ProcessFigures, Source};
pub use stall::{Cause, Stall};
pub use stall_watch::{IDLE_OBSERVE_INTERVAL_MS, OBSERVE_INTERVAL_MS, StallWatch, Verdict};
