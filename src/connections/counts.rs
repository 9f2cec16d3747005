//! Maps from keys to counts, for one thread or for all threads. A key whose count is zero is not
//! stored.
//!
//! An uncontended lock still costs two atomic operations, and a connection takes four of them in
//! its life. An index that only one thread can reach therefore uses a map without locks.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as SharedEntry;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Shards of a map. A growing map rehashes one shard at a time, a sixty-fourth of its keys.
const SHARDS: usize = 64;

/// A key of a map.
pub trait Key: Copy + Default + Eq + Hash {}
impl<T: Copy + Default + Eq + Hash> Key for T {}

/// A count. Its default is zero.
pub trait Count: Copy + Default + PartialEq {}
impl<T: Copy + Default + PartialEq> Count for T {}

/// A map from keys to counts.
pub trait Counts<K: Key, V: Count>: Default {
    /// Calls `change` with the count of `key`, which stays locked until `change` returns. `change`
    /// may use other maps, not this one.
    fn with<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> R;

    /// Returns the number of keys whose count is not zero.
    fn len(&self) -> usize;
}

/// Whether an index belongs to one thread or to all threads.
pub trait Sharing: 'static {
    /// The map that such an index uses.
    type Counts<K: Key, V: Count, S: BuildHasher + Clone + Default>: Counts<K, V>;

    /// Replaces `word` by `next(word)`, unless that is `None`.
    ///
    /// # Errors
    /// The word for which `next` returned `None`.
    fn update(word: &AtomicU64, next: impl Fn(u64) -> Option<u64>) -> Result<u64, u64>;
}

/// An index of one thread.
pub struct Local;

/// An index of all threads of the process.
pub struct Shared;

impl Sharing for Local {
    type Counts<K: Key, V: Count, S: BuildHasher + Clone + Default> = LocalCounts<K, V, S>;

    fn update(word: &AtomicU64, next: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let before = word.load(Relaxed);
        let after = next(before).ok_or(before)?;
        // A load and a store suffice: no other thread writes in between.
        word.store(after, Relaxed);
        Ok(before)
    }
}

impl Sharing for Shared {
    type Counts<K: Key, V: Count, S: BuildHasher + Clone + Default> = SharedCounts<K, V, S>;

    fn update(word: &AtomicU64, next: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        // Relaxed: the word guards no other memory; the keys have their own locks.
        word.fetch_update(Relaxed, Relaxed, next)
    }
}

/// Counts that one thread uses, without locks.
pub struct LocalCounts<K, V, S> {
    shards: [RefCell<Shard<K, V>>; SHARDS],
    hashes: S,
}

impl<K, V, S: Default> Default for LocalCounts<K, V, S> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| RefCell::new(Shard::new())),
            hashes: S::default(),
        }
    }
}

impl<K: Key, V: Count, S: BuildHasher + Default> Counts<K, V> for LocalCounts<K, V, S> {
    fn with<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> R {
        let hash = self.hashes.hash_one(key);
        // The shard by the lowest bits, the cell by the highest ones.
        let mut shard = self.shards[hash as usize % SHARDS].borrow_mut();
        let hash_of = |key: &K| self.hashes.hash_one(key);
        let at = shard.find(key, hash);
        let present = at.map_or_else(V::default, |at| shard.cells[at].1);
        let mut count = present;
        let result = change(&mut count);
        match at {
            Some(at) if count == V::default() => shard.remove(at, hash_of),
            Some(at) => shard.cells[at].1 = count,
            None if count != V::default() => shard.insert(key, count, hash, hash_of),
            None => {}
        }
        result
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.borrow().len).sum()
    }
}

/// Fewest cells of a shard that has any.
const CELLS_MIN: usize = 8;

/// A hash table with open addressing: a key and its count side by side, so that a search reads one or two cache lines. A
/// cell whose count is zero is empty.
///
/// Linear probing; a removal moves the following entries back (Knuth, The Art of Computer Programming 3, 6.4, algorithm
/// R), so that no tombstones are left. Between half and three quarters of the cells are in use while the table grows, by
/// half of its size at a time; a table that is mostly empty halves its size.
struct Shard<K, V> {
    cells: Vec<(K, V)>,
    len: usize,
}

impl<K, V> Shard<K, V> {
    const fn new() -> Self {
        Self {
            cells: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Key, V: Count> Shard<K, V> {
    /// Returns the first cell for a hash: its highest 32 bits as a fraction of the size, which need not be a power of two.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.cells.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() {
            0
        } else {
            at + 1
        }
    }

    /// Returns the cells from `from` on to `at`.
    fn distance(&self, from: usize, at: usize) -> usize {
        if at >= from {
            at - from
        } else {
            at + self.cells.len() - from
        }
    }

    fn find(&self, key: K, hash: u64) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let (present, count) = self.cells.get(at)?;
            if *count == V::default() {
                return None;
            }
            if *present == key {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    /// Adds a key that is not in the table.
    fn insert(&mut self, key: K, count: V, hash: u64, hash_of: impl Fn(&K) -> u64) {
        let size = self.cells.len();
        if 4 * (self.len + 1) > 3 * size {
            self.resize((size + size / 2).max(CELLS_MIN), hash_of);
        }
        self.put(key, count, hash);
        self.len += 1;
    }

    fn put(&mut self, key: K, count: V, hash: u64) {
        let mut at = self.home(hash);
        while self.cells[at].1 != V::default() {
            at = self.next(at);
        }
        self.cells[at] = (key, count);
    }

    fn remove(&mut self, at: usize, hash_of: impl Fn(&K) -> u64) {
        let (mut free, mut at) = (at, at);
        loop {
            at = self.next(at);
            let (key, count) = self.cells[at];
            if count == V::default() {
                break;
            }
            // An entry whose home lies behind the free cell must stay behind it.
            let home = self.home(hash_of(&key));
            if self.distance(home, at) < self.distance(free, at) {
                continue;
            }
            self.cells[free] = (key, count);
            free = at;
        }
        self.cells[free] = (K::default(), V::default());
        self.len -= 1;
        let size = self.cells.len();
        if size > CELLS_MIN && 8 * self.len < size {
            self.resize((size / 2).max(CELLS_MIN), hash_of);
        }
    }

    fn resize(&mut self, size: usize, hash_of: impl Fn(&K) -> u64) {
        let empty = vec![(K::default(), V::default()); size];
        for (key, count) in std::mem::replace(&mut self.cells, empty) {
            if count != V::default() {
                self.put(key, count, hash_of(&key));
            }
        }
    }
}

/// Counts that all threads use; a key stays locked while its count changes.
pub struct SharedCounts<K, V, S>(DashMap<K, V, S>);

impl<K: Key, V, S: BuildHasher + Clone + Default> Default for SharedCounts<K, V, S> {
    fn default() -> Self {
        Self(DashMap::with_hasher_and_shard_amount(S::default(), SHARDS))
    }
}

impl<K: Key, V: Count, S: BuildHasher + Clone + Default> Counts<K, V> for SharedCounts<K, V, S> {
    fn with<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> R {
        match self.0.entry(key) {
            SharedEntry::Occupied(mut entry) => {
                let result = change(entry.get_mut());
                if *entry.get() == V::default() {
                    entry.remove();
                }
                result
            }
            SharedEntry::Vacant(entry) => {
                let mut count = V::default();
                let result = change(&mut count);
                if count != V::default() {
                    entry.insert(count);
                }
                result
            }
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn agrees(counts: &impl Counts<u32, u32>, steps: &[(u32, bool)]) -> Result<(), TestCaseError> {
        let mut model = HashMap::<u32, u32>::new();
        for &(key, up) in steps {
            let count = model.entry(key).or_default();
            let seen = counts.with(key, |count| {
                *count = if up {
                    *count + 1
                } else {
                    count.saturating_sub(1)
                };
                *count
            });
            *count = if up {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            prop_assert_eq!(seen, *count);
            model.retain(|_, count| *count > 0);
            prop_assert_eq!(counts.len(), model.len());
        }
        Ok(())
    }

    proptest! {
        /// Properties: every count equals that of a `HashMap`; a key whose count reaches zero is
        /// removed.
        #[test]
        fn agrees_with_a_hash_map(steps in proptest::collection::vec((0u32..200, any::<bool>()), 1..500)) {
            agrees(&LocalCounts::<u32, u32, ahash::RandomState>::default(), &steps)?;
            agrees(&SharedCounts::<u32, u32, ahash::RandomState>::default(), &steps)?;
        }
    }
}
