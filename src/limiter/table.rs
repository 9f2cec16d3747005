//! A bounded table from keys to states. It forgets a key that has its whole limit again, since such a
//! key equals one that is not known; it needs no timer for that.
//!
//! ```text
//!  heads   chain of each hash: a cell, the next cell of the same hash, ...; grows by linear hashing
//!  cells   key, link and state, without gaps
//!  hand    goes around the cells, and visits some for every new key
//! ```
//!
//! A new key visits two cells and drops the fresh ones, so the table shrinks to the keys that count.
//! Nothing is ever scanned or hashed anew as a whole: each new cell splits one chain.
//!
//! A full table visits eight cells and forgets the one that is fresh the soonest; the new key takes
//! its place. A new key always stands behind the hand. So a key is kept until as many new keys have
//! come as an eighth of the table, and keys that are exhausted or blocked stay longer than others: an
//! attacker with fresh keys mostly replaces its own. Forgetting the least recently used key would let an attacker push its own
//! exhausted keys out by fresh ones.

use super::algorithm::{Algorithm, Answer, Reading, Spent};
use super::key::KeyHash;

/// No cell. The place of a cell is its index plus one.
const NONE: u32 = 0;
/// Least number of chains.
const HEADS_MIN: usize = 16;
/// Cells for which the memory stays: a key that comes and goes must not allocate each time.
const ROOM_MIN: usize = 64;
/// Cells that each new key visits.
const VISITS: usize = 2;
/// Cells that a new key visits in a full table.
const CANDIDATES: usize = 8;

#[derive(Clone, Copy)]
struct Cell<S> {
    key: KeyHash,
    /// Next cell of the same chain.
    next: u32,
    state: S,
}

pub(super) struct Table<A: Algorithm> {
    algorithm: A,
    most: usize,
    heads: Vec<u32>,
    /// Bits of a hash that choose a chain; the highest of them only for chains that are split.
    mask: u32,
    cells: Vec<Cell<A::State>>,
    hand: usize,
    evicted: u64,
}

impl<A: Algorithm> Table<A> {
    /// Creates a table of at most `most` keys, at least 1.
    pub(super) fn new(algorithm: A, most: usize) -> Self {
        Self {
            algorithm,
            most: most.max(1),
            heads: vec![NONE; HEADS_MIN],
            mask: HEADS_MIN as u32 - 1,
            cells: Vec::new(),
            hand: 0,
            evicted: 0,
        }
    }

    /// Spends `cost` of a key, if it conforms.
    pub(super) fn take(&mut self, key: KeyHash, cost: f64, now: f64) -> Answer {
        let algorithm = self.algorithm;
        let at = self.find(key);
        let mut state = self.state(at);
        let outcome = algorithm.take(&mut state, cost, now);
        if outcome.is_ok() {
            self.store(at, key, state, now);
        }
        Answer {
            admitted: outcome.is_ok(),
            reading: algorithm.reading(&state, now),
            retry_after_ms: outcome.err().unwrap_or(0.0),
        }
    }

    /// Returns the answer of `take`, and spends nothing.
    pub(super) fn peek(&self, key: KeyHash, cost: f64, now: f64) -> Answer {
        let state = self.state(self.find(key));
        let mut after = state;
        let outcome = self.algorithm.take(&mut after, cost, now);
        Answer {
            admitted: outcome.is_ok(),
            reading: self.algorithm.reading(&state, now),
            retry_after_ms: outcome.err().unwrap_or(0.0),
        }
    }

    /// Spends `points` of a key, whether they conform or not.
    pub(super) fn charge(&mut self, key: KeyHash, points: f64, now: f64) -> Reading {
        let algorithm = self.algorithm;
        self.change(key, now, |state| algorithm.charge(state, points, now))
    }

    /// Gives spent `points` of a key back.
    pub(super) fn refund(&mut self, key: KeyHash, points: f64, now: f64) -> Reading {
        let algorithm = self.algorithm;
        self.change(key, now, |state| algorithm.refund(state, points, now))
    }

    /// Gives one admitted cost of a key back, as far as it still counts.
    pub(super) fn give_back(&mut self, key: KeyHash, spent: Spent, now: f64) -> Reading {
        let algorithm = self.algorithm;
        self.change(key, now, |state| algorithm.give_back(state, spent, now))
    }

    /// Refuses a key until `until`.
    pub(super) fn block(&mut self, key: KeyHash, until: f64, now: f64) -> Reading {
        let algorithm = self.algorithm;
        self.change(key, now, |state| *state = algorithm.block(until))
    }

    /// Forgets a key; returns whether it was known.
    pub(super) fn forget(&mut self, key: KeyHash) -> bool {
        let at = self.find(key);
        if at != NONE {
            self.remove(at);
        }
        at != NONE
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        *self = Self {
            evicted: self.evicted,
            ..Self::new(self.algorithm, self.most)
        };
    }

    /// Number of keys, those that are fresh again and not yet dropped included.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Keys that were forgotten although they were not fresh.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Bytes that are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell<A::State>>()
            + self.heads.capacity() * size_of::<u32>()
    }

    fn change(&mut self, key: KeyHash, now: f64, change: impl FnOnce(&mut A::State)) -> Reading {
        let at = self.find(key);
        let mut state = self.state(at);
        change(&mut state);
        if self.algorithm.fresh_in(&state, now) > 0.0 {
            self.store(at, key, state, now);
        } else if at != NONE {
            self.remove(at);
        }
        self.algorithm.reading(&state, now)
    }

    fn state(&self, at: u32) -> A::State {
        match at {
            NONE => A::FRESH,
            at => self.cells[at as usize - 1].state,
        }
    }

    fn store(&mut self, at: u32, key: KeyHash, state: A::State, now: f64) {
        match at {
            NONE => self.insert(key, state, now),
            at => self.cells[at as usize - 1].state = state,
        }
    }

    fn insert(&mut self, key: KeyHash, state: A::State, now: f64) {
        if self.cells.len() >= self.most {
            return self.replace(key, state, now);
        }
        for _ in 0..VISITS {
            self.visit(now);
        }
        if self.cells.len() == self.cells.capacity() {
            // An eighth: doubling would leave up to half of the memory unused.
            self.cells.reserve_exact(self.cells.len() / 8 + 16);
        }
        let new = Cell {
            key,
            next: NONE,
            state,
        };
        self.hand = self.hand.min(self.cells.len());
        match self.cells.get(self.hand).copied() {
            None => self.cells.push(new),
            // Behind the hand, as in a full table; the cell there moves to the end.
            Some(moved) => {
                self.cells.push(moved);
                self.relink(moved.key, self.hand as u32 + 1, self.cells.len() as u32);
                self.cells[self.hand] = new;
            }
        }
        self.hand += 1;
        self.chain(self.hand as u32);
        if self.cells.len() > self.heads.len() {
            self.split();
        }
    }

    /// Drops the cell at the hand if it is fresh, and moves the hand on.
    fn visit(&mut self, now: f64) {
        if self.hand >= self.cells.len() {
            self.hand = 0;
        }
        if let Some(cell) = self.cells.get(self.hand) {
            if self.algorithm.fresh_in(&cell.state, now) <= 0.0 {
                self.remove(self.hand as u32 + 1);
            }
            self.hand += 1;
        }
    }

    /// Puts a new key in the place of the candidate that is fresh the soonest, and drops another
    /// candidate that is fresh.
    fn replace(&mut self, key: KeyHash, state: A::State, now: f64) {
        let count = self.cells.len();
        let start = if self.hand < count { self.hand } else { 0 };
        let mut victim = (start, self.fresh_in(start, now));
        let mut spare: Option<(usize, f64)> = None;
        for offset in 1..CANDIDATES.min(count) {
            let at = (start + offset) % count;
            let left = self.fresh_in(at, now);
            if left < victim.1 {
                spare = Some(victim);
                victim = (at, left);
            } else if spare.is_none_or(|spare| left < spare.1) {
                spare = Some((at, left));
            }
        }
        if victim.1 > 0.0 {
            self.evicted += 1;
        }
        self.hand = start + CANDIDATES.min(count);
        if self.hand >= count {
            self.hand -= count;
        }
        let at = victim.0 as u32 + 1;
        self.unchain(at);
        self.cells[victim.0] = Cell {
            key,
            next: NONE,
            state,
        };
        self.chain(at);
        if let Some((spare, _)) = spare.filter(|(_, left)| *left <= 0.0) {
            self.remove(spare as u32 + 1);
        }
    }

    fn fresh_in(&self, at: usize, now: f64) -> f64 {
        self.algorithm.fresh_in(&self.cells[at].state, now)
    }

    /// Makes the link to a cell lead to another place.
    fn relink(&mut self, key: KeyHash, from: u32, to: u32) {
        match self.before(key, from) {
            NONE => {
                let head = self.head_of(key);
                self.heads[head] = to;
            }
            before => self.cells[before as usize - 1].next = to,
        }
    }

    /// Removes a cell; the last one takes its place.
    fn remove(&mut self, at: u32) {
        self.unchain(at);
        let last = self.cells.len() as u32;
        if at != last {
            let moved = self.cells[last as usize - 1];
            self.relink(moved.key, last, at);
            self.cells[at as usize - 1] = moved;
        }
        self.cells.pop();
        if self.heads.len() > HEADS_MIN && self.heads.len() > 2 * self.cells.len() {
            self.merge();
        }
        if self.cells.capacity() > ROOM_MIN && self.cells.len() < self.cells.capacity() / 4 {
            self.cells.shrink_to(self.cells.len() * 2);
            self.heads.shrink_to(self.heads.len() * 2);
        }
    }

    fn head_of(&self, key: KeyHash) -> usize {
        let at = (key[0] & self.mask) as usize;
        if at < self.heads.len() {
            at
        } else {
            at & (self.mask >> 1) as usize
        }
    }

    fn find(&self, key: KeyHash) -> u32 {
        let mut at = self.heads[self.head_of(key)];
        while at != NONE {
            let cell = &self.cells[at as usize - 1];
            if cell.key == key {
                break;
            }
            at = cell.next;
        }
        at
    }

    fn chain(&mut self, at: u32) {
        let head = self.head_of(self.cells[at as usize - 1].key);
        self.cells[at as usize - 1].next = self.heads[head];
        self.heads[head] = at;
    }

    fn unchain(&mut self, at: u32) {
        let Cell { key, next, .. } = self.cells[at as usize - 1];
        self.relink(key, at, next);
    }

    /// Returns the cell whose link leads to `at`, or none if the head of its chain does.
    fn before(&self, key: KeyHash, at: u32) -> u32 {
        let mut before = NONE;
        let mut found = self.heads[self.head_of(key)];
        while found != at && found != NONE {
            before = found;
            found = self.cells[found as usize - 1].next;
        }
        before
    }

    /// Adds a chain, with its share of the cells of the chain that is split.
    fn split(&mut self) {
        let new = self.heads.len();
        if new > self.mask as usize {
            self.mask = 2 * self.mask + 1;
        }
        if new == self.heads.capacity() {
            self.heads.reserve_exact(new / 8 + 16);
        }
        self.heads.push(NONE);
        let old = new & (self.mask >> 1) as usize;
        let mut at = std::mem::replace(&mut self.heads[old], NONE);
        while at != NONE {
            let next = self.cells[at as usize - 1].next;
            self.chain(at);
            at = next;
        }
    }

    /// Takes the last chain away; its cells join the chain that it was split from.
    fn merge(&mut self) {
        let mut at = self.heads.pop().unwrap_or(NONE);
        if self.heads.len() <= (self.mask >> 1) as usize + 1 {
            self.mask >>= 1;
        }
        while at != NONE {
            let next = self.cells[at as usize - 1].next;
            self.chain(at);
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Quota;
    use super::super::gcra::Gcra;
    use super::super::packed_window::PackedParts;
    use super::super::sliding_window::Parts;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn quota(limit: f64, window_ms: f64) -> Quota {
        Quota {
            limit,
            window_ms,
            burst: limit,
        }
    }

    fn key(name: u32) -> KeyHash {
        let mix = u64::from(name).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [(mix >> 32) as u32, mix as u32, name]
    }

    /// Every cell is in the chain of its hash, and no chain holds anything else.
    fn check<A: Algorithm>(table: &Table<A>) {
        let mut chained = 0;
        for head in 0..table.heads.len() {
            let mut at = table.heads[head];
            while at != NONE {
                let cell = &table.cells[at as usize - 1];
                assert_eq!(table.head_of(cell.key), head);
                assert_eq!(table.find(cell.key), at);
                chained += 1;
                at = cell.next;
            }
        }
        assert_eq!(chained, table.cells.len());
        assert!(table.cells.len() <= table.most);
        assert!(table.heads.len() <= 2 * table.cells.len().max(HEADS_MIN));
        assert!(table.mask as usize + 1 >= table.heads.len());
        assert!(table.mask as usize / 2 < table.heads.len());
    }

    #[test]
    fn cells_are_small() {
        assert_eq!(size_of::<Cell<<Gcra as Algorithm>::State>>(), 24);
        assert_eq!(size_of::<Cell<super::super::fixed_window::Window>>(), 32);
        assert_eq!(size_of::<Cell<PackedParts>>(), 32);
        assert_eq!(size_of::<Cell<Parts>>(), 56);
    }

    proptest! {
        /// A table with room agrees with a map that never forgets.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u32..60, 0u8..8, 0u32..4, 0u32..300), 1..600)) {
            let algorithm = Gcra::new(quota(3.0, 1000.0));
            let mut table = Table::new(algorithm, 1000);
            let mut map: HashMap<u32, u64> = HashMap::new();
            let mut now = 0.0;
            for (name, step, points, gap) in steps {
                now += f64::from(gap);
                let points = f64::from(points);
                let state = map.entry(name).or_insert(Gcra::FRESH);
                match step {
                    0 => { table.charge(key(name), points, now); algorithm.charge(state, points, now); }
                    1 => { table.refund(key(name), points, now); algorithm.refund(state, points, now); }
                    2 => { table.block(key(name), now + 500.0, now); *state = algorithm.block(now + 500.0); }
                    3 => { table.forget(key(name)); *state = Gcra::FRESH; }
                    _ => {
                        let outcome = algorithm.take(state, points, now);
                        prop_assert_eq!(table.take(key(name), points, now).admitted, outcome.is_ok());
                    }
                }
                let known = table.state(table.find(key(name)));
                prop_assert_eq!(algorithm.reading(&known, now), algorithm.reading(state, now));
                check(&table);
            }
        }
    }

    proptest! {
        /// A full table forgets keys, but never admits less than a table with room, and its chains
        /// stay whole.
        #[test]
        fn a_full_table_stays_whole(steps in proptest::collection::vec((0u32..60, 0u8..8, 1u32..4, 0u32..300), 1..600), most in 1usize..40) {
            let algorithm = Gcra::new(quota(3.0, 1000.0));
            let mut tables = [most, 1000].map(|most| Table::new(algorithm, most));
            let mut now = 0.0;
            for (name, step, points, gap) in steps {
                now += f64::from(gap);
                let points = f64::from(points);
                let [small, large] = &mut tables;
                match step {
                    0 => drop((small.forget(key(name)), large.forget(key(name)))),
                    1 => drop((small.block(key(name), now + 500.0, now), large.block(key(name), now + 500.0, now))),
                    _ => {
                        if large.peek(key(name), points, now).admitted {
                            prop_assert!(small.take(key(name), points, now).admitted);
                            prop_assert!(large.take(key(name), points, now).admitted);
                        }
                    }
                }
                check(small);
                check(large);
            }
        }
    }

    #[test]
    fn a_new_key_drops_fresh_ones_so_the_table_holds_only_keys_that_count() {
        let mut table = Table::new(Gcra::new(quota(1.0, 1000.0)), 100_000);
        for name in 0..50_000 {
            assert!(table.take(key(name), 1.0, f64::from(name)).admitted);
        }
        check(&table);
        // A thousand keys count at any time.
        assert!(table.len() < 2500, "{}", table.len());
        assert!(table.bytes() < 200_000, "{}", table.bytes());
        assert_eq!(table.evicted(), 0);
    }

    #[test]
    fn a_full_table_keeps_a_key_until_an_eighth_of_it_was_replaced() {
        const MOST: u32 = 4096;
        let mut table = Table::new(Gcra::new(quota(2.0, 60_000.0)), MOST as usize);
        for name in 0..3 * MOST {
            assert!(table.take(key(name), 1.0, 1.0).admitted);
            check_few(&table, name, MOST / 8 - 1);
        }
        assert_eq!(table.len(), MOST as usize);
        assert_eq!(table.evicted(), 2 * u64::from(MOST));
        check(&table);
    }

    /// The keys of the latest `few` events are known.
    fn check_few(table: &Table<Gcra>, latest: u32, few: u32) {
        let oldest = latest.saturating_sub(few);
        if latest.is_multiple_of(97) {
            for name in oldest..=latest {
                assert_ne!(table.find(key(name)), NONE, "{name} of {latest}");
            }
        }
    }

    #[test]
    fn an_exhausted_key_outlives_a_flood_of_fresh_ones() {
        const MOST: u32 = 4096;
        let mut table = Table::new(Gcra::new(quota(10.0, 60_000.0)), MOST as usize);
        let mine = key(u32::MAX);
        assert!(table.take(mine, 10.0, 1.0).admitted);
        for name in 0..1_000_000 {
            assert!(table.take(key(name), 1.0, 1.0).admitted);
        }
        assert!(!table.take(mine, 1.0, 1.0).admitted);
        assert_eq!(table.len(), MOST as usize);
    }

    #[test]
    fn a_table_of_one_key_works() {
        let mut table = Table::new(Gcra::new(quota(1.0, 1000.0)), 1);
        assert!(table.take(key(1), 1.0, 0.0).admitted);
        assert!(!table.take(key(1), 1.0, 0.0).admitted);
        assert!(table.take(key(2), 1.0, 0.0).admitted);
        assert!(table.take(key(1), 1.0, 0.0).admitted);
        assert_eq!((table.len(), table.evicted()), (1, 2));
    }
}
