//! The number of events in a sliding window, for an owner that keeps the state of each key itself.

use super::algorithm::{Algorithm, Quota};
use super::sliding_window::{Parts, SlidingWindow};

/// Counts the events of a window. An event counts for the whole window, and for up to a seventh of
/// it longer.
#[derive(Debug, Clone, Copy)]
pub struct EventCount(SlidingWindow);

/// The events of one key.
#[derive(Debug, Clone, Copy)]
pub struct Events(Parts);

impl Default for Events {
    fn default() -> Self {
        Self(SlidingWindow::FRESH)
    }
}

impl EventCount {
    /// Creates a count for windows of that length, ms.
    #[must_use]
    pub fn new(window_ms: f64) -> Self {
        Self(SlidingWindow::new(Quota {
            limit: f64::INFINITY,
            window_ms,
            burst: f64::INFINITY,
        }))
    }

    /// Adds an event; returns the number of events that count, this one included.
    pub fn add(&self, events: &mut Events, now: f64) -> u32 {
        self.0.charge(&mut events.0, 1.0, now);
        events.0.sum() as u32
    }

    /// Returns the time from which no event counts, ms.
    #[must_use]
    pub fn forgotten_at(&self, events: &Events) -> f64 {
        self.0.fresh_at(&events.0)
    }
}
