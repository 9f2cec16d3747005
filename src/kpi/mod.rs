//! Key performance indicators: how many users are active, and the figures as text that Prometheus reads.
//!
//! Owns the names of exposed metrics and the sketch of users. The counting itself is typed-array
//! stores in TypeScript (`ts/kpi`), which hands over numbers; time is an argument.

mod exposition;
mod families;
mod users;

pub use exposition::{Exposition, Format, ROW, Rows};
pub use families::{Family, Kind, LABELLED, Labelled, Naming, SCALARS, Scalar};
pub use users::Users;
