//! The caller's mistakes. Outcomes (a refusal, a stale handle) are values, not errors.

/// What the caller did wrong, with the stable code that JavaScript sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A slot beyond what the table holds.
    #[error("slot {slot} is outside of the table (0 to {end} exclusive)")]
    SlotOutOfRange {
        /// The slot that was named.
        slot: u32,
        /// One past the last slot.
        end: u32,
    },
    /// A value outside of its range; the message names the field and the range.
    #[error("{field} must be {allowed}")]
    OutOfRange {
        /// The option or argument.
        field: &'static str,
        /// The allowed range in words.
        allowed: &'static str,
    },
    /// Another opener of the same name declared other limits.
    #[error("the index is open with another {field}: use updateLimits() to change it")]
    LimitsConflict {
        /// The limit that differs.
        field: &'static str,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SlotOutOfRange { .. } | Self::OutOfRange { .. } => "ERR_OUT_OF_RANGE",
            Self::LimitsConflict { .. } => "ERR_LIMITS_CONFLICT",
        }
    }
}
