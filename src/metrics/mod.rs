//! Key performance indicators: what was counted, by time and by route; how many users are active; and
//! the figures as text that Prometheus reads.
//!
//! The JavaScript thread writes requests down (`ts/kpi/ledger.ts`); time is an argument.
//!
//! ```text
//!  durations, keys ──fold──▶ Ledger ─┬─▶ Windows   seconds, tens, five minutes, lifetime
//!                                    └─▶ Routes    counts since the beginning, the last minutes
//! ```

mod exposition;
mod families;
mod figures;
mod histogram;
mod ledger;
mod routes;
mod slices;
mod users;
mod windows;

pub use exposition::{Exposition, Format, Labels};
pub use families::{Family, Kind, LABELLED, Labelled, Naming, SCALARS, Scalar};
pub use figures::{Figures, Outcome, TRAFFIC, Totals, Traffic};
pub use histogram::Quantiles;
pub use ledger::Ledger;
pub use routes::{RouteFigures, Routes, RowCounts, Snapshot};
pub use users::Users;
pub use windows::{Sums, Window, Windows};
