//! Hierarchical timing wheel (Varghese & Lauck, scheme 7) with 64 slots a level.
//!
//! ```text
//! level 0   64 x 1 ms       occupied 0b..
//! level 1   64 x 64 ms
//!   ..
//! level 7   64 x 2^42 ms    8,900 years in all
//! ```
//!
//! # Invariants
//! - An armed timer is in exactly one list: `level_of(elapsed, when)`, slot `when >> 6*level & 63`.
//! - `advance(now)` yields no timer before its deadline, and none twice.
//! - Timers come out in the order of their deadlines, and first in, first out on ties. That
//!   holds because a list is appended at its tail, and a cascade happens exactly when `elapsed`
//!   enters the list's range: nobody can be appended to the lower level before.

const LEVELS: usize = 8;
const SLOTS: usize = 64; // one bit each in `occupied: u64`
const NIL: u32 = u32::MAX;
const NOT_ARMED: u64 = u64::MAX;

/// The furthest deadline the wheel holds; later ones are clamped to it.
pub const MAX_DEADLINE_MS: u64 = (1 << (6 * LEVELS)) - 1;

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List {
    head: NIL,
    tail: NIL,
};

struct Level {
    occupied: u64,
    lists: [List; SLOTS],
}

#[derive(Clone, Copy)]
struct Entry {
    when: u64,
    next: u32,
    prev: u32,
}

/// A timing wheel; timers are named by the caller's slot numbers.
pub struct Wheel {
    elapsed: u64,
    levels: Box<[Level; LEVELS]>,
    entries: Vec<Entry>,
    armed: u32,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// An empty wheel at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            elapsed: 0,
            levels: Box::new(std::array::from_fn(|_| Level {
                occupied: 0,
                lists: [EMPTY; SLOTS],
            })),
            entries: Vec::new(),
            armed: 0,
        }
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.armed
    }

    /// Whether nothing is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The deadline of an armed timer.
    #[must_use]
    pub fn deadline(&self, slot: u32) -> Option<u64> {
        let when = self.entries.get(slot as usize)?.when;
        (when != NOT_ARMED).then_some(when)
    }

    /// Arms `slot` for `when` (ms), moving it if it was armed. A deadline in the past is due at
    /// the next `advance`.
    pub fn arm(&mut self, slot: u32, when: u64) {
        let index = slot as usize;
        if index >= self.entries.len() {
            // A chunk at a time: doubling would hold half of the memory idle.
            let len = (index / 4096 + 1) * 4096;
            self.entries.reserve_exact(len - self.entries.len());
            self.entries.resize(
                len,
                Entry {
                    when: NOT_ARMED,
                    next: NIL,
                    prev: NIL,
                },
            );
        }
        self.cancel(slot);
        self.entries[index].when = when.clamp(self.elapsed, MAX_DEADLINE_MS);
        self.link(slot);
        self.armed += 1;
    }

    /// Disarms `slot`; `false` if it was not armed.
    pub fn cancel(&mut self, slot: u32) -> bool {
        if self.deadline(slot).is_none() {
            return false;
        }
        self.unlink(slot);
        self.entries[slot as usize].when = NOT_ARMED;
        self.armed -= 1;
        true
    }

    /// Writes the slots due at `now` to `due`, at most its length, and returns how many.
    /// When the buffer was filled there may be more at the same `now`. A clock that went
    /// backwards is taken as standing still.
    pub fn advance(&mut self, now: u64, due: &mut [u32]) -> usize {
        let now = now.clamp(self.elapsed, MAX_DEADLINE_MS);
        let mut count = 0;
        while count < due.len() {
            let Some((level, start)) = self.next_list() else {
                self.elapsed = now;
                break;
            };
            if start > now {
                self.elapsed = now;
                break;
            }
            self.elapsed = self.elapsed.max(start);
            let index = slot_of(self.elapsed, level);
            if level == 0 {
                while count < due.len() {
                    let slot = self.levels[0].lists[index].head;
                    if slot == NIL {
                        break;
                    }
                    debug_assert!(self.entries[slot as usize].when <= now);
                    self.cancel(slot);
                    due[count] = slot;
                    count += 1;
                }
            } else {
                self.cascade(level, index);
            }
        }
        count
    }

    /// The earliest moment at which `advance` may have something to do: exact when the next
    /// deadline is within 64 ms of the last `advance`, otherwise exact too, found by one scan of a list.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let (level, start) = self.next_list()?;
        if level == 0 {
            return Some(start);
        }
        let mut slot = self.levels[level].lists[slot_of(start, level)].head;
        let mut best = NOT_ARMED;
        // Bounded: an early wake-up is harmless, a long scan is not.
        for _ in 0..64 {
            if slot == NIL {
                return Some(best);
            }
            let entry = self.entries[slot as usize];
            best = best.min(entry.when);
            slot = entry.next;
        }
        Some(start)
    }

    /// The first occupied list in the order of time, and when its range begins.
    fn next_list(&self) -> Option<(usize, u64)> {
        for (level, found) in self.levels.iter().enumerate() {
            if found.occupied == 0 {
                continue;
            }
            let shift = 6 * level;
            let here = slot_of(self.elapsed, level) as u32;
            // Lists behind `here` cannot be occupied: their range is in the past.
            let ahead = found.occupied >> here;
            debug_assert!(ahead != 0, "a list in the past is occupied");
            let index = u64::from(here + ahead.trailing_zeros());
            let base = (self.elapsed >> shift) >> 6 << 6;
            return Some((level, (base + index) << shift));
        }
        None
    }

    fn cascade(&mut self, level: usize, index: usize) {
        let mut slot = self.levels[level].lists[index].head;
        self.levels[level].lists[index] = EMPTY;
        self.levels[level].occupied &= !(1 << index);
        while slot != NIL {
            let next = self.entries[slot as usize].next;
            debug_assert!(level_of(self.elapsed, self.entries[slot as usize].when) < level);
            self.link(slot);
            slot = next;
        }
    }

    fn link(&mut self, slot: u32) {
        let when = self.entries[slot as usize].when;
        let level = level_of(self.elapsed, when);
        let index = slot_of(when, level);
        let tail = self.levels[level].lists[index].tail;
        self.entries[slot as usize].prev = tail;
        self.entries[slot as usize].next = NIL;
        let list = &mut self.levels[level].lists[index];
        list.tail = slot;
        if tail == NIL {
            list.head = slot;
            self.levels[level].occupied |= 1 << index;
        } else {
            self.entries[tail as usize].next = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { when, next, prev } = self.entries[slot as usize];
        let level = level_of(self.elapsed, when);
        let index = slot_of(when, level);
        if prev == NIL {
            debug_assert_eq!(self.levels[level].lists[index].head, slot);
            self.levels[level].lists[index].head = next;
        } else {
            self.entries[prev as usize].next = next;
        }
        if next == NIL {
            self.levels[level].lists[index].tail = prev;
        } else {
            self.entries[next as usize].prev = prev;
        }
        if self.levels[level].lists[index].head == NIL {
            self.levels[level].occupied &= !(1 << index);
        }
    }
}

/// The level at which `when` differs from `elapsed` in its highest six-bit digit.
fn level_of(elapsed: u64, when: u64) -> usize {
    let differing = (elapsed ^ when) | (SLOTS as u64 - 1);
    (63 - differing.leading_zeros() as usize) / 6
}

fn slot_of(when: u64, level: usize) -> usize {
    (when >> (6 * level)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap};

    #[derive(Debug, Clone)]
    enum Action {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64, usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        let delay = prop_oneof![0u64..200, 0u64..100_000, 0u64..1 << 40];
        prop_oneof![
            4 => (0u32..40, delay.clone()).prop_map(|(slot, delay)| Action::Arm(slot, delay)),
            1 => (0u32..40).prop_map(Action::Cancel),
            2 => (delay, 1usize..8).prop_map(|(by, most)| Action::Advance(by, most)),
        ]
    }

    proptest! {
        /// Properties: the same timers in the same order as an ordered map of (deadline, sequence);
        /// `next_deadline` is never later than the earliest; the count agrees.
        #[test]
        fn agrees_with_an_ordered_map(actions in proptest::collection::vec(action(), 1..300)) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
            let mut keys: HashMap<u32, (u64, u64)> = HashMap::new();
            let mut now = 0;
            for (sequence, action) in actions.into_iter().enumerate() {
                match action {
                    Action::Arm(slot, delay) => {
                        if let Some(key) = keys.remove(&slot) { model.remove(&key); }
                        let key = (now + delay, sequence as u64);
                        wheel.arm(slot, now + delay);
                        model.insert(key, slot);
                        keys.insert(slot, key);
                    }
                    Action::Cancel(slot) => {
                        let had = keys.remove(&slot);
                        if let Some(key) = had { model.remove(&key); }
                        prop_assert_eq!(wheel.cancel(slot), had.is_some());
                    }
                    Action::Advance(by, most) => {
                        now += by;
                        let mut due = vec![0; most];
                        loop {
                            let count = wheel.advance(now, &mut due);
                            for &slot in &due[..count] {
                                let (key, expected) = model.pop_first().expect("the model has it");
                                prop_assert_eq!(slot, expected);
                                prop_assert!(key.0 <= now);
                                keys.remove(&slot);
                            }
                            if count < most { break; }
                        }
                        prop_assert!(model.first_key_value().is_none_or(|(key, _)| key.0 > now));
                    }
                }
                prop_assert_eq!(wheel.len() as usize, model.len());
                match (wheel.next_deadline(), model.first_key_value()) {
                    (Some(next), Some((key, _))) => prop_assert!(next <= key.0 && next >= now),
                    (next, first) => prop_assert!(next.is_none() && first.is_none()),
                }
            }
        }
    }

    #[test]
    fn holds_a_deadline_of_centuries() {
        let mut wheel = Wheel::new();
        let mut due = [0; 4];
        wheel.arm(0, 1 << 46);
        assert_eq!(wheel.advance((1 << 46) - 1, &mut due), 0);
        assert_eq!(wheel.advance(1 << 46, &mut due), 1);
    }

    #[test]
    fn a_clock_that_goes_backwards_stands_still() {
        let mut wheel = Wheel::new();
        let mut due = [0; 4];
        wheel.advance(1_000, &mut due);
        wheel.arm(3, 1_010);
        assert_eq!(wheel.advance(5, &mut due), 0);
        assert_eq!(wheel.advance(1_010, &mut due), 1);
    }
}
