//! Counters of a member.

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Counters {
    /// Admissions that the server granted.
    pub granted: u64,
    /// Admissions that the server refused.
    pub refused: u64,
    /// Admissions that were refused since the server had just refused the same key.
    pub cached: u64,
    /// Admissions from seats that were held ahead.
    pub ahead: u64,
    /// Admissions that the policy granted.
    pub local: u64,
    /// Admissions that the policy refused.
    pub unreachable: u64,
    /// Calls that were answered.
    pub calls: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Keys that were published.
    pub published: u64,
    /// Keys that an audit found different.
    pub drift: u64,
    /// Times that the member's place was lost.
    pub lost: u64,
    /// Members that this one declared dead.
    pub declared: u64,
    /// Newcomers that were granted the seat of an older connection.
    pub takeovers: u64,
    /// Connections and waiting newcomers of this process that a newcomer has replaced.
    pub replaced: u64,
    /// Bugs of the network's thread that were contained.
    pub contained: u64,
    /// Events that were read.
    pub events: u64,
    /// Times that events were missed, or may have been.
    pub gaps: u64,
}
