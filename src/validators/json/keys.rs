//! Finds repeated keys: the keys of all open objects, in one arena.
//!
//! Only the innermost object gets keys, so all objects share one arena: an object's region starts
//! where it was opened and ends at the top.
//!
//! ```text
//!  arena   | outer object's region | inner object's region |
//!  region  up to 16 keys   hash, offset, hash, offset, …    searched in a row, after a bloom word
//!          more            offsets, open addressing         0 is empty: no key is at offset 0
//!          last resort     offsets in a row                 sorted when the object is closed
//! ```
//!
//! The last resort is used if a table would not leave room for the keys to come, or if hashes
//! collide more often than chance allows. It bounds the memory (4 bytes per key, which takes at
//! least 6 bytes of the input) and the time (n log n) for any input.

use super::limits::DEPTH_MAX;
use super::text::{Unescaped, plain_end, word};
use std::hash::{BuildHasher, RandomState};

/// Keys that are searched in a row.
const ROW: u32 = 16;
const FIRST_TABLE: u32 = 64;
const PROBES: u32 = 64;
/// Cells kept between scans.
const KEPT: usize = 1 << 12;
/// Cells that the keys may use beyond the size of the input.
const SLACK: usize = (32 << 10) / 4;
/// The part of these cells that tables leave to rows of objects opened later: 16 keys take at most
/// 32 cells more than a quarter of their number of bytes, in at most 512 objects at once.
const ROWS: usize = SLACK / 2;

/// The form of an object's region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Row,
    /// Number of cells, a power of two.
    Table(u32),
    List,
}

/// The keys of one object.
#[derive(Debug, Clone, Copy)]
struct Set {
    from: u32,
    count: u32,
    bloom: u64,
    form: Form,
}

/// A repeated key, with the offset of the repetition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated(pub(super) usize);

impl Set {
    const fn from(from: u32) -> Self {
        Self {
            from,
            count: 0,
            bloom: 0,
            form: Form::Row,
        }
    }
}

/// The keys of all open objects.
pub(super) struct Keys {
    /// The cells in use, and room behind them.
    arena: Vec<u32>,
    /// Number of cells in use.
    top: usize,
    /// The open objects, from the outside in, with room for the deepest.
    sets: Box<[Set; DEPTH_MAX + 1]>,
    /// Number of open objects.
    depth: usize,
    /// Cells that this scan may use in total.
    budget: usize,
    /// Bytes of the whole input.
    length: usize,
    any_escapes: bool,
    seed: u64,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            arena: vec![0; KEPT],
            top: 0,
            sets: Box::new([Set::from(0); DEPTH_MAX + 1]),
            depth: 0,
            budget: 0,
            length: 0,
            any_escapes: false,
            seed: RandomState::new().hash_one(0),
        }
    }

    /// Starts a scan of `length` bytes.
    pub(super) fn reset(&mut self, length: usize) {
        self.arena.truncate(KEPT);
        self.arena.shrink_to(KEPT);
        self.top = 0;
        self.depth = 0;
        self.budget = length / 4 + SLACK;
        self.length = length;
        self.any_escapes = false;
    }

    /// Opens an object.
    #[inline(always)]
    pub(super) fn open(&mut self) {
        self.depth = (self.depth + 1).min(DEPTH_MAX);
        self.sets[self.depth] = Set::from(self.top as u32);
    }

    /// The innermost object.
    #[inline(always)]
    fn set(&mut self) -> &mut Set {
        &mut self.sets[self.depth.min(DEPTH_MAX)]
    }

    /// Closes the innermost object.
    #[inline(always)]
    pub(super) fn close(&mut self, bytes: &[u8]) -> Result<(), Repeated> {
        let &mut Set { form, from, .. } = self.set();
        if form == Form::List {
            self.sort(bytes)?;
        }
        self.top = from as usize;
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Adds the key between `start` and `end` to the innermost object.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        has_escapes: bool,
    ) -> Result<(), Repeated> {
        let hash = if has_escapes {
            self.any_escapes = true;
            hash_unescaped(self.seed, bytes, start)
        } else {
            hash_plain(self.seed, bytes, start, end)
        };
        let bits = 1 << (hash >> 58) | 1 << (hash >> 52 & 63);
        let set = &mut self.sets[self.depth.min(DEPTH_MAX)];
        set.count += 1;
        if set.form == Form::Row
            && set.count <= ROW
            && set.bloom & bits != bits
            && let Some([first, second]) = self.arena.get_mut(self.top..self.top + 2)
        {
            set.bloom |= bits;
            (*first, *second) = (hash as u32, start as u32);
            self.top += 2;
            return Ok(());
        }
        self.insert_more(bytes, hash, bits, start, end)
    }

    /// Makes room for cells. Beyond the small buffer, there is one allocation for the whole scan; the pages of its
    /// zeros cost nothing until they are written.
    fn reserve(&mut self, cells: usize) {
        if self.top + cells > self.arena.len() {
            let mut arena = vec![0; self.budget.max(self.top + cells)];
            arena[..self.top].copy_from_slice(&self.arena[..self.top]);
            self.arena = arena;
        }
    }

    fn push(&mut self, cells: &[u32]) {
        self.reserve(cells.len());
        self.arena[self.top..self.top + cells.len()].copy_from_slice(cells);
        self.top += cells.len();
    }

    fn search_row(&mut self, bytes: &[u8], hash: u32, start: usize) -> Result<(), Repeated> {
        let from = self.set().from as usize;
        for pair in self.arena[from..self.top].chunks_exact(2) {
            if let &[known, at] = pair
                && known == hash
                && Unescaped::new(bytes, at as usize).eq(Unescaped::new(bytes, start))
            {
                return Err(Repeated(start));
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn insert_more(
        &mut self,
        bytes: &[u8],
        hash: u64,
        bits: u64,
        start: usize,
        end: usize,
    ) -> Result<(), Repeated> {
        let hash = hash as u32;
        let count = self.set().count;
        match self.set().form {
            Form::Row if count <= ROW => {
                self.search_row(bytes, hash, start)?;
                self.set().bloom |= bits;
                self.push(&[hash, start as u32]);
                return Ok(());
            }
            Form::Row => self.grow(bytes, start, FIRST_TABLE),
            Form::Table(cells) if u64::from(count) * 4 > u64::from(cells) * 3 => {
                self.grow(bytes, start, cells.saturating_mul(2));
            }
            _ => {}
        }
        if let Form::Table(cells) = self.set().form {
            let from = self.set().from as usize;
            let region = &mut self.arena[from..self.top];
            for cell in probes(hash, cells) {
                let Some(known) = region.get_mut(cell) else {
                    break;
                };
                if *known == 0 {
                    *known = start as u32;
                    return Ok(());
                }
                let at = *known as usize;
                if is_same(bytes, at, start, end)
                    || (self.any_escapes
                        && Unescaped::new(bytes, at).eq(Unescaped::new(bytes, start)))
                {
                    return Err(Repeated(start));
                }
            }
            self.give_up();
        }
        self.push(&[start as u32]);
        Ok(())
    }

    /// Moves the keys of the innermost object into a table of `cells`, if there is room.
    fn grow(&mut self, bytes: &[u8], start: usize, cells: u32) {
        let from = self.set().from as usize;
        let top = self.top;
        // The keys to come must fit as offsets in a row.
        let to_come = self.length.saturating_sub(start) / 4 + ROWS;
        if top + cells as usize + to_come > self.budget || cells > 1 << 30 {
            return self.give_up();
        }
        self.reserve(cells as usize);
        self.arena[top..top + cells as usize].fill(0);
        let step = if self.set().form == Form::Row { 2 } else { 1 };
        let (old, table) = self.arena[from..top + cells as usize].split_at_mut(top - from);
        let mut is_placed = true;
        for entry in old.chunks_exact(step) {
            let at = entry[step - 1];
            if at == 0 {
                continue;
            }
            let hash = if step == 2 {
                entry[0]
            } else if self.any_escapes {
                hash_unescaped(self.seed, bytes, at as usize) as u32
            } else {
                let at = at as usize;
                hash_plain(self.seed, bytes, at, plain_end(bytes, at)) as u32
            };
            let free = probes(hash, cells).find(|&cell| table[cell] == 0);
            match free {
                Some(cell) => table[cell] = at,
                None => {
                    is_placed = false;
                    break;
                }
            }
        }
        if !is_placed {
            return self.give_up();
        }
        self.arena.copy_within(top..top + cells as usize, from);
        self.top = from + cells as usize;
        self.set().form = Form::Table(cells);
    }

    /// Converts a row or a table to a list.
    fn give_up(&mut self) {
        let from = self.set().from as usize;
        let mut kept = from;
        let step = if self.set().form == Form::Row { 2 } else { 1 };
        for cell in (from + step - 1..self.top).step_by(step) {
            if self.arena[cell] != 0 {
                self.arena[kept] = self.arena[cell];
                kept += 1;
            }
        }
        self.top = kept;
        self.set().form = Form::List;
    }

    fn sort(&mut self, bytes: &[u8]) -> Result<(), Repeated> {
        let from = self.set().from as usize;
        let list = &mut self.arena[from..self.top];
        let key = |at: u32| Unescaped::new(bytes, at as usize);
        list.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
        list.windows(2)
            .filter(|pair| key(pair[0]).eq(key(pair[1])))
            .map(|pair| pair[1] as usize)
            .min()
            .map_or(Ok(()), |at| Err(Repeated(at)))
    }
}

/// Returns the cells that a key probes in a table, with steps of 1, 2, 3, …
#[inline]
fn probes(hash: u32, cells: u32) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |probe| {
        let step = probe * (probe + 1) / 2;
        (hash.wrapping_add(step) & (cells - 1)) as usize
    })
}

/// True if the key at `at` has the same bytes as the one between `start` and `end`.
#[inline]
fn is_same(bytes: &[u8], at: usize, start: usize, end: usize) -> bool {
    let length = end - start;
    bytes.get(at + length) == Some(&b'"') && bytes.get(at..at + length) == bytes.get(start..end)
}

/// A folded multiplication, as in wyhash. The seed is secret, but correctness does not depend on
/// it.
#[inline(always)]
fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

/// Hashes eight bytes at a time, the last ones padded with zeros.
#[inline(always)]
fn hash_plain(seed: u64, bytes: &[u8], start: usize, end: usize) -> u64 {
    let mut state = seed;
    let mut at = start;
    while end - at > 8 {
        state = fold(state, word(bytes, at).unwrap_or(0));
        at += 8;
    }
    let rest = end - at;
    let last = match word(bytes, at) {
        // Bytes behind the key are masked out.
        Some(word) if rest > 0 => word & (u64::MAX >> (64 - rest * 8)),
        Some(_) => 0,
        None => bytes[at..end]
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    fold(state, last)
}

/// Returns the [`hash_plain`] of a key without its escapes.
fn hash_unescaped(seed: u64, bytes: &[u8], start: usize) -> u64 {
    let mut state = seed;
    let (mut word, mut count) = (0, 0);
    for byte in Unescaped::new(bytes, start) {
        if count == 8 {
            state = fold(state, word);
            (word, count) = (0, 0);
        }
        word |= u64::from(byte) << (count * 8);
        count += 1;
    }
    fold(state, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Inserts every key of `"k""k"…`; `cells` is the budget.
    fn repeats(keys: &[String], cells: Option<usize>, seed: Option<u64>) -> bool {
        let mut bytes = vec![b'{'];
        let mut places = Vec::new();
        for key in keys {
            bytes.push(b'"');
            places.push((bytes.len(), bytes.len() + key.len()));
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(b"\":0,");
        }
        let mut set_of_all = Keys::new();
        set_of_all.reset(bytes.len());
        if let Some(cells) = cells {
            set_of_all.budget = cells;
        }
        if let Some(seed) = seed {
            set_of_all.seed = seed;
        }
        set_of_all.open();
        for &(start, end) in &places {
            let escaped = bytes[start..end].contains(&b'\\');
            let inserted = set_of_all.insert(&bytes, start, end, escaped);
            if inserted.is_err() {
                return true;
            }
            assert!(cells.is_some() || set_of_all.top <= set_of_all.budget);
        }
        set_of_all.close(&bytes).is_err()
    }

    proptest! {
        #[test]
        fn agrees_with_a_hash_set(
            keys in proptest::collection::vec("[a-c\u{e9}]{0,3}|[a-z]{4,12}|k[0-9]{3}", 0..300),
            budget in proptest::option::of(0_usize..2000),
        ) {
            let unique: HashSet<_> = keys.iter().collect();
            prop_assert_eq!(repeats(&keys, budget, None), unique.len() != keys.len());
        }
    }

    #[test]
    fn many_keys_are_distinguished_with_and_without_room() {
        let mut keys: Vec<_> = (0..20_000).map(|number| format!("key{number}")).collect();
        for budget in [None, Some(100), Some(3000), Some(70_000)] {
            assert!(!repeats(&keys, budget, None), "{budget:?}");
        }
        keys.push("key7".into());
        for budget in [None, Some(100), Some(3000), Some(70_000)] {
            assert!(repeats(&keys, budget, None), "{budget:?}");
        }
    }

    #[test]
    fn escapes_do_not_hide_a_repeated_key() {
        for (a, b) in [
            ("abc", "\\u0061bc"),
            ("\\u00e9", "é"),
            ("\\ud83d\\ude00", "😀"),
            ("a/b", "a\\/b"),
        ] {
            assert!(repeats(&[a.into(), b.into()], None, None));
            let mut many: Vec<_> = (0..100).map(|number| format!("key{number}")).collect();
            many.extend([a.into(), b.into()]);
            assert!(repeats(&many, None, None));
            assert!(repeats(&many, Some(0), None));
        }
    }

    #[test]
    fn plain_and_escaped_keys_hash_alike() {
        let text = b"\"\"a\"abcdefgh\"abcdefghi\"abcdefghijklmnopq\"";
        let mut start = 1;
        for (end, _) in text
            .iter()
            .enumerate()
            .filter(|(at, byte)| *at > 0 && **byte == b'"')
        {
            assert_eq!(
                hash_plain(7, text, start, end),
                hash_unescaped(7, text, start)
            );
            start = end + 1;
        }
    }
}
