//! The audit: counts that agree are told again, part by part, since the server may have lost a bucket.

use super::super::call::PUBLISH_MAX;
use super::super::column::{Column, Key};

const AUDIT_MS: f64 = 1000.0;
/// Seconds in which an audit has seen every key.
const AUDIT_PARTS: usize = 60;

/// The place of the audit in the column.
pub(super) struct Audit {
    next_ms: f64,
    from: Key,
}

impl Audit {
    pub(super) fn new(now: f64) -> Self {
        Self {
            next_ms: now + AUDIT_MS,
            from: 0,
        }
    }

    /// Returns the time of the next part.
    pub(super) fn due_ms(&self) -> f64 {
        self.next_ms
    }

    /// Returns the keys of the next part with their counts, if it is due and not empty.
    pub(super) fn next(&mut self, now: f64, column: &mut Column) -> Option<Vec<(Key, u32)>> {
        if now < self.next_ms {
            return None;
        }
        self.next_ms = now + AUDIT_MS;
        let part = (column.len() / AUDIT_PARTS + 1).min(PUBLISH_MAX);
        let (counts, next) = column.slice(self.from, part);
        self.from = next;
        (!counts.is_empty()).then_some(counts)
    }
}
