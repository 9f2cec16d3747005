//! Errors for mistakes of the caller. Outcomes (a refusal, a stale handle) are values, not errors.

/// The code of a thread that the operating system does not start.
pub const NO_THREAD: &str = "ERR_NO_THREAD";

/// A mistake of the caller, with the stable code that JavaScript sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A slot outside the table.
    #[error("slot {slot} is outside of the table (0 to {end} exclusive)")]
    SlotOutOfRange {
        /// The slot.
        slot: u32,
        /// One past the last slot.
        end: u32,
    },
    /// A value out of range; the message names the field and the range.
    #[error("{field} must be {allowed}")]
    OutOfRange {
        /// The option or argument.
        field: &'static str,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// The cluster's settings are not those of the other threads.
    #[error("another thread of this process uses the cluster with other settings")]
    ClusterConflict,
    /// The index of that name is open with other limits.
    #[error("the index is already open with another {field}: change it with updateLimits()")]
    LimitsConflict {
        /// The first limit that differs.
        field: &'static str,
    },
    /// The bans of that name are open with other options.
    #[error("the bans of that name are already open with another {field}")]
    BansConflict {
        /// The first option that differs.
        field: &'static str,
    },
    /// The limiter of that name is open with other options.
    #[error("the limiter is already open with another {field}")]
    LimiterConflict {
        /// The first option that differs.
        field: &'static str,
    },
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SlotOutOfRange { .. } | Self::OutOfRange { .. } => "ERR_OUT_OF_RANGE",
            Self::LimitsConflict { .. }
            | Self::LimiterConflict { .. }
            | Self::BansConflict { .. } => "ERR_LIMITS_CONFLICT",
            Self::ClusterConflict => "ERR_CLUSTER_CONFLICT",
        }
    }
}
