//! The interface of the algorithms, and the numbers that all of them answer with.

/// A limit: `limit` in each window, of which `burst` may come at once (GCRA only).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Cost admitted in each window; a whole number.
    pub limit: f64,
    /// Length of the window, ms; a whole number.
    pub window_ms: f64,
    /// Cost admitted at once; a whole number.
    pub burst: f64,
}

/// The state of one key at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Cost that would be admitted now.
    pub remaining: f64,
    /// Time until the key has its whole limit again, ms.
    pub reset_ms: f64,
}

/// The outcome for one cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Whether the cost was admitted.
    pub admitted: bool,
    /// The state afterwards.
    pub reading: Reading,
    /// Time until the same cost would be admitted, ms: 0 if it was, infinite if it never is.
    pub retry_after_ms: f64,
}

/// A cost that was admitted and is given back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// The cost.
    pub cost: f64,
    /// Time of its admission, ms.
    pub at: f64,
    /// Time at which its key would have had its whole limit again, as the admission told it, ms.
    pub whole_at: f64,
}

/// The state of one key that is blocked until a time, in the states of all algorithms.
pub(super) fn blocked(until: f64, now: f64) -> Reading {
    Reading {
        remaining: 0.0,
        reset_ms: until - now,
    }
}

/// One algorithm. Times are ms; costs and points are whole numbers.
pub(super) trait Algorithm: Copy {
    /// The state of one key.
    type State: Copy;
    /// The state of a key that is not known.
    const FRESH: Self::State;

    /// Creates the algorithm for a quota.
    fn new(quota: Quota) -> Self;

    /// Spends `cost` if it conforms.
    ///
    /// # Errors
    /// Time until the cost would conform, ms. The state is unchanged.
    fn take(&self, state: &mut Self::State, cost: f64, now: f64) -> Result<(), f64>;

    /// Spends `points`, whether they conform or not. Changes no blocked key.
    fn charge(&self, state: &mut Self::State, points: f64, now: f64);

    /// Gives spent `points` back, whenever they were spent. Changes no blocked key.
    fn refund(&self, state: &mut Self::State, points: f64, now: f64);

    /// Gives one admitted cost back, as far as it still counts. Changes no blocked key.
    fn give_back(&self, state: &mut Self::State, spent: Spent, now: f64);

    /// Returns the state of a key that is refused until `until`, and begins anew then.
    fn block(&self, until: f64) -> Self::State;

    /// Returns the state at a time.
    fn reading(&self, state: &Self::State, now: f64) -> Reading;

    /// Returns the time until the state equals that of a key that is not known, ms; 0 or less if it
    /// does.
    fn fresh_in(&self, state: &Self::State, now: f64) -> f64;
}
