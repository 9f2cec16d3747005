//! Metrics of requests by time and by route, the count of active users, and the exposition as text
//! for Prometheus.
//!
//! The JavaScript thread records requests in two columns (`ts/metrics/ledger.ts`), which are folded
//! in here; time is an argument. Does not own health scores, targets or alerts: TypeScript derives
//! them from these figures.
//!
//! ```text
//!  durations, keys ──fold──▶ Ledger ─┬─▶ Windows   seconds, tens, five minutes, lifetime
//!                                    └─▶ Routes    counts since the start, the last minutes
//! ```
//!
//! Invariants: time moves forward only; all memory is bounded by the number of rows and windows.

mod counts;
mod exposition;
mod families;
mod figures;
mod histogram;
mod ledger;
mod routes;
mod slices;
mod users;
mod windows;

pub use counts::{RowCounts, Snapshot};
pub use exposition::{Exposition, Format, Labels};
pub use families::{
    Family, HISTOGRAMS, Kind, LABELLED, Labelled, Naming, REQUESTS, RequestWords, SCALARS, Scalar,
};
pub use figures::{Figures, Outcome, TRAFFIC, Totals, Traffic};
pub use histogram::Quantiles;
pub use ledger::Ledger;
pub use routes::{RouteFigures, Routes};
pub use users::Users;
pub use windows::{Sums, Window, Windows};
