//! The list of failures for `scripts/failures.mjs`, and the scanners for `ts/validators`.

use crate::validators::Failure;
use napi_derive::napi;

/// One failure, as the generated files list it.
#[napi(object)]
pub struct FailureRow {
    /// The stable code.
    pub code: String,
    /// The HTTP status that answers it.
    pub status: u32,
    /// What it means.
    pub meaning: String,
    /// What to do about it.
    pub remedy: String,
}

/// Every failure, in the order of their numbers from 1.
#[napi(catch_unwind)]
#[must_use]
pub fn failure_rows() -> Vec<FailureRow> {
    Failure::ALL
        .iter()
        .map(|failure| FailureRow {
            code: failure.code().into(),
            status: u32::from(failure.status()),
            meaning: failure.meaning().into(),
            remedy: failure.remedy().into(),
        })
        .collect()
}
