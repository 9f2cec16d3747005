//! The word of totals: all seats in the high half, seats without a user in the low half. Both are
//! checked and taken in one step, so no limit is passed between two reads.
//!
//! Owns the arithmetic on the word. Does not own the atomic itself (`seats`, `counts`); the models
//! of `tests/loom` compile this file with an atomic of their own.

/// Returns all seats.
pub const fn total_of(taken: u64) -> u32 {
    (taken >> 32) as u32
}

/// Returns the seats without a user.
pub const fn anonymous_of(taken: u64) -> u32 {
    taken as u32
}

/// A limit of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit of all seats.
    Total,
    /// The limit of seats without a user.
    Anonymous,
}

/// Seats that a newcomer asks for, and the limits that hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Limit of all seats.
    pub total: u32,
    /// Limit of seats without a user.
    pub anonymous: u32,
    /// Seats in all: none if the newcomer has one already.
    pub seats: u64,
    /// Whether the newcomer takes a seat without a user.
    pub is_anonymous: bool,
    /// Whether another seat is about to be given back for the newcomer.
    pub replaces: bool,
    /// Whether that seat is one without a user.
    pub replaces_anonymous: bool,
}

impl Claim {
    /// Returns the limit that the claim would pass.
    pub const fn refusal(&self, taken: u64) -> Option<Full> {
        let all = total_of(taken).saturating_sub(self.replaces as u32);
        let without = anonymous_of(taken).saturating_sub(self.replaces_anonymous as u32);
        if self.seats > 0 && all >= self.total {
            Some(Full::Total)
        } else if self.is_anonymous && without >= self.anonymous {
            Some(Full::Anonymous)
        } else {
            None
        }
    }

    /// Returns the word with the seats taken.
    pub const fn taken(&self, word: u64) -> u64 {
        word + (self.seats << 32) + self.is_anonymous as u64
    }
}

/// Returns the word with `seats` given back; `None` if it holds fewer.
pub const fn given_back(taken: u64, seats: u64) -> Option<u64> {
    taken.checked_sub(seats)
}
