//! The column of this process: how many seats it holds of each key, and how many of them the server
//! knows.
//!
//! Owns the counts. Does not own the seats (`core`) or the calls that tell the server (`call`).

use std::collections::HashMap;

/// Kind of client that a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Seats of an address.
    Address = b'i' as isize,
    /// Seats of an IPv6 prefix.
    Prefix = b'p' as isize,
    /// Seats of a user.
    User = b'u' as isize,
    /// Seats without a user, of an address.
    Anonymous = b'a' as isize,
    /// Connect rate of a network; no count.
    NetworkRate = b'n' as isize,
    /// Connect rate of a user; no count.
    UserRate = b'v' as isize,
    /// A rate of the application; no count.
    Rate = b'l' as isize,
}

/// A key, by 128 bits that no client can make two names share. The server sees a keyed hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) scope: Scope,
    pub(super) digest: u128,
}

/// The number of a key in the column.
pub(super) type Key = u32;

/// Dirty keys that are not worth a look whether they still differ.
const DIRTY_MIN: usize = 64;

struct Entry {
    name: Name,
    /// Seats that this process holds.
    held: u32,
    /// Seats that the server has confirmed.
    told: u32,
    /// Seats and calls that name the key.
    uses: u32,
    is_dirty: bool,
}

/// Two counts: held here, and confirmed by the server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) held: u32,
    pub(super) told: u32,
}

impl Pair {
    pub(super) fn to_release(self) -> u32 {
        self.told.saturating_sub(self.held)
    }
}

/// The counts of one process.
#[derive(Default)]
pub(super) struct Column {
    entries: Vec<Entry>,
    free: Vec<Key>,
    by_name: HashMap<Name, Key, ahash::RandomState>,
    /// Keys whose counts may differ; each once. While nobody takes them, at most twice as many as the keys that differ
    /// and [`DIRTY_MIN`] more.
    dirty: Vec<Key>,
    /// Keys whose counts differ.
    differing: usize,
    /// Keys of which more is held than the server knows.
    over: usize,
    pub(super) seats: Pair,
    pub(super) anonymous: Pair,
}

impl Column {
    /// Returns the key of a name, which stays until `leave`.
    pub(super) fn enter(&mut self, name: Name) -> Key {
        if let Some(&key) = self.by_name.get(&name) {
            self.entries[key as usize].uses += 1;
            return key;
        }
        let entry = Entry {
            name,
            held: 0,
            told: 0,
            uses: 1,
            is_dirty: false,
        };
        let key = match self.free.pop() {
            Some(key) => {
                self.entries[key as usize] = entry;
                key
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as Key
            }
        };
        self.by_name.insert(name, key);
        key
    }

    /// Notes one more user of a key.
    pub(super) fn keep(&mut self, key: Key) {
        self.entries[key as usize].uses += 1;
    }

    /// Ends one use of a key.
    pub(super) fn leave(&mut self, key: Key) {
        let entry = &mut self.entries[key as usize];
        entry.uses = entry.uses.saturating_sub(1);
        self.collect(key);
    }

    fn collect(&mut self, key: Key) {
        let entry = &self.entries[key as usize];
        if entry.uses == 0 && !entry.is_dirty && entry.held == 0 && entry.told == 0 {
            self.by_name.remove(&entry.name);
            self.free.push(key);
        }
    }

    pub(super) fn name(&self, key: Key) -> Name {
        self.entries[key as usize].name
    }

    /// Returns the key of a name, if it is in use.
    pub(super) fn find(&self, name: Name) -> Option<Key> {
        self.by_name.get(&name).copied()
    }

    pub(super) fn held(&self, key: Key) -> u32 {
        self.entries[key as usize].held
    }

    /// Sets both counts of a key.
    fn set(&mut self, key: Key, held: u32, told: u32) {
        let entry = &mut self.entries[key as usize];
        let was_over = entry.held > entry.told;
        let differed = entry.held != entry.told;
        (entry.held, entry.told) = (held, told);
        let is_over = held > told;
        match (differed, held != told) {
            (false, true) => self.differing += 1,
            (true, false) => self.differing -= 1,
            _ => {}
        }
        if held != told {
            self.mark(key);
        }
        match (was_over, is_over) {
            (false, true) => self.over += 1,
            (true, false) => self.over -= 1,
            _ => {}
        }
    }

    /// Notes that the counts of a key may differ.
    fn mark(&mut self, key: Key) {
        let entry = &mut self.entries[key as usize];
        if entry.is_dirty {
            return;
        }
        entry.is_dirty = true;
        self.dirty.push(key);
        // While the server is away nobody takes dirty keys, and clients come and go.
        if self.dirty.len() > 2 * self.differing + DIRTY_MIN {
            self.forget_equal();
        }
    }

    /// Forgets dirty keys whose counts agree again. At least half of the list goes, so each key costs one look.
    fn forget_equal(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            let entry = &mut self.entries[key as usize];
            if entry.held != entry.told {
                self.dirty.push(key);
            } else {
                entry.is_dirty = false;
                self.collect(key);
            }
        }
    }

    /// Counts a seat, or one less, that this process holds.
    pub(super) fn hold(&mut self, key: Key, is_more: bool) {
        let entry = &self.entries[key as usize];
        let (held, told) = (entry.held, entry.told);
        let held = if is_more {
            held + 1
        } else {
            held.saturating_sub(1)
        };
        self.set(key, held, told);
    }

    /// Notes that the server has granted a seat of a key, which this process holds from now on if it
    /// `is_wanted`.
    pub(super) fn grant(&mut self, key: Key, is_wanted: bool) {
        let entry = &self.entries[key as usize];
        let (held, told) = (entry.held, entry.told);
        self.set(key, held + u32::from(is_wanted), told + 1);
    }

    /// Notes that the server has taken `count` seats of a key back.
    pub(super) fn confirm_released(&mut self, key: Key, count: u32) {
        let entry = &self.entries[key as usize];
        let (held, told) = (entry.held, entry.told);
        self.set(key, held, told.saturating_sub(count));
    }

    /// Notes the count of a key that the server has taken over.
    pub(super) fn confirm_all(&mut self, key: Key, told: u32) {
        let held = self.entries[key as usize].held;
        self.set(key, held, told);
    }

    /// Forgets everything that the server knew.
    pub(super) fn forget(&mut self) {
        for key in 0..self.entries.len() as Key {
            let held = self.entries[key as usize].held;
            if self.entries[key as usize].told != 0 || held != 0 {
                self.set(key, held, 0);
            }
        }
        self.seats.told = 0;
        self.anonymous.told = 0;
    }

    /// True if the server knows of fewer seats than are held.
    pub(super) fn is_over(&self) -> bool {
        self.over > 0
            || self.seats.held > self.seats.told
            || self.anonymous.held > self.anonymous.told
    }

    /// True if more is held of a key than the server knows.
    pub(super) fn has_keys_over(&self) -> bool {
        self.over > 0
    }

    /// True if the count of a key may differ.
    pub(super) fn has_dirty_keys(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// True if a seat of the key is about to be given back.
    pub(super) fn is_releasing(&self, key: Key) -> bool {
        let entry = &self.entries[key as usize];
        entry.told > entry.held
    }

    /// True if a count may differ.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
            || self.seats.held != self.seats.told
            || self.anonymous.held != self.anonymous.told
    }

    /// Takes at most `max` keys whose counts differ; each is used until `leave`. Returns the key, the
    /// seats held and the seats that the server knows.
    pub(super) fn take_dirty(&mut self, max: usize) -> Vec<(Key, u32, u32)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(key) = self.dirty.pop()
        {
            let entry = &mut self.entries[key as usize];
            entry.is_dirty = false;
            if entry.held == entry.told {
                self.collect(key);
            } else {
                entry.uses += 1;
                taken.push((key, entry.held, entry.told));
            }
        }
        taken
    }

    /// Puts a taken key back: the call does not tell it.
    pub(super) fn put_back(&mut self, key: Key) {
        self.mark(key);
    }

    /// Returns the next keys from `from` on, each used until `leave`, for an audit; and where the next
    /// one starts.
    pub(super) fn slice(&mut self, from: Key, max: usize) -> (Vec<(Key, u32)>, Key) {
        let mut taken = Vec::new();
        let mut at = from;
        while (at as usize) < self.entries.len() && taken.len() < max {
            let entry = &mut self.entries[at as usize];
            if entry.held == entry.told && entry.held > 0 {
                entry.uses += 1;
                taken.push((at, entry.held));
            }
            at += 1;
        }
        let next = if (at as usize) < self.entries.len() {
            at
        } else {
            0
        };
        (taken, next)
    }

    /// Returns the number of slots for keys.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn name(digest: u128) -> Name {
        let scope = Scope::User;
        Name { scope, digest }
    }

    #[test]
    fn clients_that_come_and_go_while_nobody_is_told_leave_nothing_behind() {
        let mut column = Column::default();
        for digest in 0..100_000 {
            let key = column.enter(name(digest));
            column.hold(key, true);
            column.hold(key, false);
            column.leave(key);
        }
        assert!(column.len() <= 2 * DIRTY_MIN, "{}", column.len());
    }

    proptest! {
        /// Every key whose counts differ is told, whatever was forgotten meanwhile; the list stays short.
        #[test]
        fn keys_that_differ_are_taken_and_others_are_forgotten(
            steps in prop::collection::vec((0u128..200, 0u8..6), 0..2000),
        ) {
            let mut column = Column::default();
            let mut held = std::collections::BTreeMap::<u128, u32>::new();
            let mut told = held.clone();
            for (digest, kind) in steps {
                match kind {
                    0..=1 => {
                        let key = column.enter(name(digest));
                        column.hold(key, true);
                        *held.entry(digest).or_default() += 1;
                    }
                    2..=4 if held.get(&digest).is_some_and(|&count| count > 0) => {
                        let key = column.enter(name(digest));
                        column.hold(key, false);
                        column.leave(key);
                        column.leave(key);
                        *held.entry(digest).or_default() -= 1;
                    }
                    _ => {
                        for (key, now, _) in column.take_dirty(digest as usize) {
                            column.confirm_all(key, now);
                            told.insert(column.name(key).digest, now);
                            column.leave(key);
                        }
                    }
                }
                prop_assert!(column.dirty.len() <= 2 * 200 + DIRTY_MIN);
            }
            let differing = held.iter().filter(|&(digest, &count)| {
                count != told.get(digest).copied().unwrap_or_default()
            });
            let differing: Vec<_> = differing.map(|(&digest, &count)| (digest, count)).collect();
            prop_assert_eq!(column.differing, differing.len());
            let taken = column.take_dirty(usize::MAX);
            let mut found: Vec<_> = taken
                .into_iter()
                .map(|(key, count, _)| (column.name(key).digest, count))
                .collect();
            found.sort_unstable();
            prop_assert_eq!(found, differing);
        }
    }
}
