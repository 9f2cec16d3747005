//! Maps from keys to counts, for one thread or for all threads. A key whose count is zero is not
//! stored.
//!
//! An uncontended lock still costs two atomic operations, and a connection takes four of them in
//! its life. An index that only one thread can reach therefore uses a map without locks.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as SharedEntry;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Shards of a map. A growing map rehashes one shard at a time, a sixty-fourth of its keys.
const SHARDS: usize = 64;

/// A key of a map.
pub trait Key: Copy + Eq + Hash {}
impl<T: Copy + Eq + Hash> Key for T {}

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
    shards: [RefCell<HashTable<(K, V)>>; SHARDS],
    hashes: S,
}

impl<K, V, S: Default> Default for LocalCounts<K, V, S> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| RefCell::default()),
            hashes: S::default(),
        }
    }
}

impl<K: Key, V: Count, S: BuildHasher + Default> Counts<K, V> for LocalCounts<K, V, S> {
    fn with<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> R {
        let hash = self.hashes.hash_one(key);
        // The table itself uses the lowest bits and the highest seven.
        let mut shard = self.shards[(hash >> 48) as usize % SHARDS].borrow_mut();
        match shard.entry(
            hash,
            |(present, _)| *present == key,
            |(present, _)| self.hashes.hash_one(present),
        ) {
            Entry::Occupied(mut entry) => {
                let count = &mut entry.get_mut().1;
                let result = change(count);
                if *count == V::default() {
                    entry.remove();
                }
                result
            }
            Entry::Vacant(entry) => {
                let mut count = V::default();
                let result = change(&mut count);
                if count != V::default() {
                    entry.insert((key, count));
                }
                result
            }
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.borrow().len()).sum()
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
