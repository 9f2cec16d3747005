//! Names of the users that have a seat here, for `online()` (`presence: 'names'`).
//!
//! Counts say who is online; names only show them. So a name that is told too late, twice or in vain
//! does no harm: whoever reads names asks the counts. A name is told soon after its user has a seat,
//! again within a minute, since the server may have lost it, and taken back some seconds after the
//! last seat here: twice, since a late copy of an earlier call may tell it again. Names of a process
//! that dies are taken back with its entries.
//!
//! # Invariants
//! - A user has one look to come, as long as the name is known here; other entries of the queues are stale.
//! - One call is under way at a time.

use std::collections::{HashMap, VecDeque};

/// Time from a user's first seat to the call that tells the name, ms.
const FIRST_MS: f64 = 100.0;
/// Time between two looks whether a user is still here, ms.
const LOOK_MS: f64 = 10_000.0;
/// Time after which a name is told again, ms.
pub(super) const AGAIN_MS: f64 = 60_000.0;
/// Times of names that were never told, and of those that may have been.
pub(super) const NEVER: f64 = f64::NEG_INFINITY;
pub(super) const MAYBE: f64 = f64::MIN;

pub(super) struct Known {
    pub(super) text: Box<str>,
    /// Time at which the name was told last.
    pub(super) told_ms: f64,
    /// Time of the next look.
    pub(super) due_ms: f64,
    /// True from the call that takes the name back on, until the user comes again.
    pub(super) is_leaving: bool,
    /// Calls that have taken the name back.
    pub(super) taken_back: u8,
}

/// The names of one process.
#[derive(Default)]
pub(super) struct Names {
    pub(super) known: HashMap<u128, Known, ahash::RandomState>,
    /// Users that were seen for the first time, and those that are known, by the time of the next look.
    pub(super) fresh: VecDeque<(f64, u128)>,
    pub(super) later: VecDeque<(f64, u128)>,
    /// Number of the call under way, and its users.
    pub(super) flight: Option<(u64, Vec<u128>)>,
}

impl Names {
    /// Forgets what the server knows: everything is told again.
    pub(super) fn forget(&mut self, now: f64) {
        self.flight = None;
        self.later.clear();
        self.fresh = self.known.keys().map(|&user| (now, user)).collect();
        for known in self.known.values_mut() {
            known.told_ms = NEVER;
            known.due_ms = now;
        }
    }

    /// Notes that the call under way may not have run.
    pub(super) fn unsure(&mut self) {
        let users = self.flight.take().map(|(_, users)| users);
        for user in users.into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&user) {
                known.told_ms = MAYBE;
            }
        }
    }

    /// Has the names that were never told told at once.
    pub(super) fn hurry(&mut self, now: f64) {
        for (&user, known) in &mut self.known {
            if known.told_ms == NEVER && known.due_ms > now {
                known.due_ms = now;
                self.fresh.push_front((now, user));
            }
        }
    }

    /// Returns the time of the next look.
    pub(super) fn due_ms(&self) -> f64 {
        if self.flight.is_some() {
            return f64::INFINITY;
        }
        let first = [self.fresh.front(), self.later.front()];
        first
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, |due, one| due.min(one.0))
    }

    /// Returns the next user that is due.
    pub(super) fn next(&mut self, now: f64) -> Option<u128> {
        loop {
            let queues = [&mut self.fresh, &mut self.later];
            let (due, user) = queues.into_iter().find_map(|queue| {
                let is_due = queue.front().is_some_and(|one| one.0 <= now);
                if is_due { queue.pop_front() } else { None }
            })?;
            if self
                .known
                .get(&user)
                .is_some_and(|known| known.due_ms == due)
            {
                return Some(user);
            }
        }
    }

    /// Has a user looked at after a pause; those of one queue have the same pause.
    pub(super) fn look_at(&mut self, now: f64, user: u128, is_soon: bool) {
        let (queue, pause) = if is_soon {
            (&mut self.fresh, FIRST_MS)
        } else {
            (&mut self.later, LOOK_MS)
        };
        if let Some(known) = self.known.get_mut(&user) {
            known.due_ms = now + pause;
            queue.push_back((known.due_ms, user));
        }
    }

    /// Notes that the call under way has run.
    pub(super) fn confirm(&mut self) {
        let users = self.flight.take().map(|(_, users)| users);
        for user in users.into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&user)
                && known.is_leaving
            {
                known.taken_back += 1;
            }
        }
    }
}
