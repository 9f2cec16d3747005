//! Fixed windows: a count for each key, from its first cost to the end of the window.

use super::algorithm::{Algorithm, Quota, Reading, Spent, blocked};

/// Count of a blocked key.
const BLOCKED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct FixedWindow {
    limit: f64,
    window_ms: f64,
}

/// The window of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// End of the window, or of the block, ms.
    ends_at: f64,
    /// Cost in the window, or [`BLOCKED`].
    used: u32,
}

impl FixedWindow {
    /// Returns the window that holds `now`.
    fn current(&self, state: Window, now: f64) -> Window {
        if now < state.ends_at {
            state
        } else {
            Window {
                ends_at: now + self.window_ms,
                used: 0,
            }
        }
    }
}

impl Algorithm for FixedWindow {
    type State = Window;
    const FRESH: Window = Window {
        ends_at: f64::NEG_INFINITY,
        used: 0,
    };

    fn new(quota: Quota) -> Self {
        Self {
            limit: quota.limit,
            window_ms: quota.window_ms,
        }
    }

    fn take(&self, state: &mut Window, cost: f64, now: f64) -> Result<(), f64> {
        if cost > self.limit {
            return Err(f64::INFINITY);
        }
        let window = self.current(*state, now);
        let used = f64::from(window.used) + cost;
        if window.used == BLOCKED || used > self.limit {
            return Err(window.ends_at - now);
        }
        *state = Window {
            used: used as u32,
            ..window
        };
        Ok(())
    }

    fn charge(&self, state: &mut Window, points: f64, now: f64) {
        let window = self.current(*state, now);
        if window.used != BLOCKED {
            let used = window.used.saturating_add(points as u32).min(BLOCKED - 1);
            *state = Window { used, ..window };
        }
    }

    fn refund(&self, state: &mut Window, points: f64, now: f64) {
        let window = self.current(*state, now);
        if window.used != BLOCKED {
            let used = window.used.saturating_sub(points as u32);
            // A window in which nothing is spent has not begun.
            *state = if used == 0 {
                Self::FRESH
            } else {
                Window { used, ..window }
            };
        }
    }

    /// A cost of an earlier window is over.
    fn give_back(&self, state: &mut Window, spent: Spent, now: f64) {
        if now < state.ends_at && spent.at + self.window_ms >= state.ends_at {
            self.refund(state, spent.cost, now);
        }
    }

    fn block(&self, until: f64) -> Window {
        Window {
            ends_at: until,
            used: BLOCKED,
        }
    }

    fn reading(&self, state: &Window, now: f64) -> Reading {
        let window = self.current(*state, now);
        match window.used {
            BLOCKED => blocked(window.ends_at, now),
            0 => Reading {
                remaining: self.limit,
                reset_ms: 0.0,
            },
            used => Reading {
                remaining: (self.limit - f64::from(used)).max(0.0),
                reset_ms: window.ends_at - now,
            },
        }
    }

    fn fresh_in(&self, state: &Window, now: f64) -> f64 {
        state.ends_at - now
    }
}
