//! The table of rows: finding the row of a key, taking and giving back seats, and using rows of keys
//! that nobody holds for others.
//!
//! Owns the words of the rows and their states. Does not own limits (`seats`) or the file (`file`).
//!
//! ```text
//!  word of a row    tag 44 | changes 18 | state 2
//!
//!  free ──▶ pending ──▶ live ──▶ closing ──▶ free
//!   ▲          │          ▲          │
//!   └──────────┘          └──────────┘
//! ```
//! - **pending**: somebody puts a key here, and looks whether it stands elsewhere, too.
//! - **live**: the only row of its key. It stays when its seats are gone, until another key needs it.
//! - **closing**: somebody looks whether all its cells are zero.
//!
//! Every step is one compare-and-swap of the word, and every change counts up, so that a step that
//! was prepared before a change fails. Any process can finish or undo what another one has begun:
//! nothing waits for a process that was killed or stopped.
//!
//! # Why no limit is passed
//! A process adds to its own cell, then reads the sum; over the limit, it subtracts again. All are
//! `SeqCst`, so that they have one order in all processes: of two that take the last seat, the one
//! that adds later reads both. So at most one of them is let in. Both may see both: then both
//! subtract, and each tries again after a pause of its own length.
//!
//! # Why no seat is lost
//! A row is freed only if all its cells are zero after it was set to *closing*. A process looks at
//! the word again once it has added: if it is *live*, the sum of whoever closes the row comes later
//! and sees the seat; if it is *closing*, the process sets it back to *live*, which the freeing step
//! notices. Otherwise it subtracts, and looks for the row again. So a row with seats never moves.
//!
//! # Why a key has one row
//! Two processes may put one key into two rows at once. Each looks at both buckets again once its
//! row is *pending*: the one that was put later sees the other. Of two pending rows the lower one
//! stays, and one that is live stays in any case.

use super::file::HostFile;
use super::key::{Key, TAG_BITS};
use super::layout::BUCKET_ROWS;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Steps after which a process stops looking for a row: only other processes can make it begin
/// again.
const STEPS: usize = 64;
/// Free rows of a bucket below which rows without seats are freed. With 1, keys that come and go one by one meet full
/// buckets in a table that has room.
const FEW_FREE: usize = 4;
/// Attempts to take seats that others take at the same moment.
const ATTEMPTS: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Pending,
    Live,
    Closing,
}

const STATE_BITS: u32 = 2;
const CHANGES: u64 = (1 << (64 - TAG_BITS - STATE_BITS)) - 1;

/// The word of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Free,
            1 => State::Pending,
            2 => State::Live,
            _ => State::Closing,
        }
    }

    /// True if the row is the key's, or is becoming it.
    fn is_of(self, key: Key) -> bool {
        self.0 >> (64 - TAG_BITS) == key.tag && self.state() != State::Free
    }

    /// Returns the next word with that state.
    fn to(self, state: State) -> Self {
        self.with(self.0 >> (64 - TAG_BITS), state)
    }

    fn with(self, tag: u64, state: State) -> Self {
        let changes = ((self.0 >> STATE_BITS) + 1) & CHANGES;
        Self(tag << (64 - TAG_BITS) | changes << STATE_BITS | state as u64)
    }
}

/// A count that a seat belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// All seats.
    Total,
    /// All seats without a user.
    Anonymous,
    /// The seats of a key.
    Of(Key),
}

/// One seat in one count.
#[derive(Debug, Clone, Copy)]
pub struct Claim<C> {
    /// The count.
    pub count: Count,
    /// Most seats of the count; `None` for a count that refuses nobody.
    pub limit: Option<u32>,
    /// Name of the limit.
    pub code: C,
}

/// The reason why no seat was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<C> {
    /// The limit of that name is reached.
    Limit(C),
    /// All rows that the key may stand in are held by others.
    NoRow,
}

/// The seats of all processes.
pub struct HostTable {
    file: HostFile,
    /// Draws the lengths of pauses.
    draws: AtomicU32,
}

impl HostTable {
    /// Makes the table of a file.
    #[must_use]
    pub fn new(file: HostFile) -> Self {
        Self {
            file,
            draws: AtomicU32::new(std::process::id()),
        }
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &HostFile {
        &self.file
    }

    fn word(&self, row: usize) -> Word {
        Word(self.file.words()[row].load(SeqCst))
    }

    /// Replaces the word of a row, unless it has changed.
    fn change(&self, row: usize, from: Word, to: Word) -> bool {
        self.file.words()[row]
            .compare_exchange(from.0, to.0, SeqCst, SeqCst)
            .is_ok()
    }

    fn own(&self, row: usize) -> &AtomicU32 {
        &self.file.cells(row)[self.file.column()]
    }

    /// Returns the seats of a row, those of processes that have just ended included.
    fn sum(&self, row: usize) -> u64 {
        // The columns are counted first: see `HostFile::take_column`.
        let used = self.file.used();
        let cells = self.file.cells(row)[..used].iter();
        cells.map(|cell| u64::from(cell.load(SeqCst))).sum()
    }

    /// Returns the words of the key's rows, with the rows: both buckets in their order.
    fn words_of(&self, key: Key) -> impl Iterator<Item = (usize, Word)> {
        let words = self.file.words();
        // A slice for each bucket: its bounds are checked once.
        let bucket = move |from: usize| {
            let cells = words[from..from + BUCKET_ROWS].iter();
            let words = cells.map(|cell| Word(cell.load(SeqCst)));
            words.enumerate().map(move |(at, word)| (from + at, word))
        };
        let [first, second] = key.buckets;
        bucket(first).chain(bucket(second))
    }

    /// Returns the row that counts the key, if there is one.
    fn find(&self, key: Key) -> Option<usize> {
        let counts = |(_, word): &(usize, Word)| word.is_of(key) && word.state() != State::Pending;
        self.words_of(key).find(counts).map(|(row, _)| row)
    }

    /// Returns the row that counts the key, and makes one if there is none; `None` if all rows of
    /// its buckets are held.
    fn find_or_make(&self, key: Key) -> Option<usize> {
        for _ in 0..STEPS {
            let mut pending = None;
            for (row, word) in self.words_of(key).filter(|(_, word)| word.is_of(key)) {
                if word.state() != State::Pending {
                    return Some(row);
                }
                pending = Some(row);
            }
            let row = match pending {
                Some(row) => row,
                None => self.claim(key)?,
            };
            if self.complete(row, key) {
                return Some(row);
            }
        }
        None
    }

    /// Makes a free row pending, in the bucket with more room. Returns the row, which may have changed by then; `None`
    /// if all rows are held.
    fn claim(&self, key: Key) -> Option<usize> {
        let [first, second] = key.buckets.map(|from| (self.room(from), from));
        let (room, from) = if second.0 > first.0 { second } else { first };
        if room == 0 {
            return None;
        }
        let is_free = |row: &usize| self.word(*row).state() == State::Free;
        let row = (from..from + BUCKET_ROWS).find(is_free).unwrap_or(from);
        let word = self.word(row);
        if word.state() == State::Free {
            self.change(row, word, word.with(key.tag, State::Pending));
        }
        Some(row)
    }

    /// Returns the free rows of a bucket. If few are left, frees all whose seats are gone: the next keys find them free,
    /// and buckets that are compared by their free rows fill evenly as keys come and go.
    fn room(&self, from: usize) -> usize {
        let rows = from..from + BUCKET_ROWS;
        let is_free = |row: &usize| self.word(*row).state() == State::Free;
        let free = rows.clone().filter(is_free).count();
        if free >= FEW_FREE {
            return free;
        }
        let has_no_seat = |row: &usize| is_free(row) || self.sum(*row) == 0 && self.free(*row);
        rows.filter(has_no_seat).count()
    }

    /// Frees a row whose cells are all zero; `false` if they are not, or if it has changed.
    fn free(&self, row: usize) -> bool {
        let word = self.word(row);
        match word.state() {
            State::Free => true,
            // Its key has no seats yet: whoever put it here begins again.
            State::Pending => self.change(row, word, word.to(State::Free)),
            State::Live | State::Closing => {
                let closing = word.to(State::Closing);
                if !self.change(row, word, closing) {
                    return false;
                }
                if self.sum(row) == 0 {
                    return self.change(row, closing, closing.to(State::Free));
                }
                self.change(row, closing, closing.to(State::Live));
                false
            }
        }
    }

    /// Makes a pending row of the key live, or frees it if the key stands elsewhere. Returns `true`
    /// if this call has made it live; does nothing if the row has changed.
    fn complete(&self, row: usize, key: Key) -> bool {
        let word = self.word(row);
        if !word.is_of(key) || word.state() != State::Pending {
            return false;
        }
        for (other, found) in self.words_of(key) {
            if !found.is_of(key) || other == row {
                continue;
            }
            let gives_way = found.state() == State::Pending && other > row;
            // A pending row that cannot be freed has become live meanwhile, or is gone: begins again.
            if !gives_way || !self.change(other, found, found.to(State::Free)) {
                self.change(row, word, word.to(State::Free));
                return false;
            }
        }
        self.change(row, word, word.to(State::Live))
    }

    /// True if the row counts the key, from now on until the caller's seat in it is given back.
    fn keeps(&self, row: usize, key: Key) -> bool {
        loop {
            let word = self.word(row);
            if !word.is_of(key) {
                return false;
            }
            match word.state() {
                State::Live => return true,
                State::Closing => {
                    if self.change(row, word, word.to(State::Live)) {
                        return true;
                    }
                }
                State::Free | State::Pending => return false,
            }
        }
    }

    /// Adds a seat of this process to a count, whatever the limit is, and returns its row.
    fn hold(&self, count: Count) -> Option<usize> {
        let key = match count {
            Count::Total => 0,
            Count::Anonymous => 1,
            Count::Of(key) => {
                for _ in 0..STEPS {
                    let row = self.find_or_make(key)?;
                    self.own(row).fetch_add(1, SeqCst);
                    if self.keeps(row, key) {
                        return Some(row);
                    }
                    self.own(row).fetch_sub(1, SeqCst);
                }
                return None;
            }
        };
        self.own(key).fetch_add(1, SeqCst);
        Some(key)
    }

    fn seats(&self, count: Count) -> u64 {
        match count {
            Count::Total => self.sum(0),
            Count::Anonymous => self.sum(1),
            Count::Of(key) => self.find(key).map_or(0, |row| self.sum(row)),
        }
    }

    /// Returns the seats of a count in all processes.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        self.seats(count)
    }

    /// Returns the name of the first limit that is reached. Writes nothing, so a flood on a full
    /// key disturbs no other process.
    pub fn full<C: Copy>(&self, claims: &[Claim<C>]) -> Option<C> {
        let full = |claim: &&Claim<C>| {
            let limit = claim.limit.map(u64::from);
            limit.is_some_and(|limit| self.seats(claim.count) >= limit)
        };
        claims.iter().find(full).map(|claim| claim.code)
    }

    /// Takes a seat in each count, or in none.
    ///
    /// # Errors
    /// The limit that is reached, or that too many take seats of at the same moment; or no row.
    pub fn take<C: Copy>(&self, claims: &[Claim<C>]) -> Result<(), Refused<C>> {
        debug_assert!(claims.len() <= CLAIMS_MAX);
        let mut rows = [0; CLAIMS_MAX];
        let mut attempt = 0;
        loop {
            for (at, claim) in claims.iter().enumerate() {
                let Some(row) = self.hold(claim.count) else {
                    self.drop_rows(&rows[..at]);
                    return Err(Refused::NoRow);
                };
                rows[at] = row;
            }
            // All seats are added before any sum is read.
            let over = claims.iter().zip(rows).find(|(claim, row)| {
                let limit = claim.limit.map(u64::from);
                limit.is_some_and(|limit| self.sum(*row) > limit)
            });
            let Some((over, _)) = over else {
                return Ok(());
            };
            self.drop_rows(&rows[..claims.len()]);
            attempt += 1;
            if attempt == ATTEMPTS {
                return Err(Refused::Limit(over.code));
            }
            self.pause(attempt);
            if let Some(code) = self.full(claims) {
                return Err(Refused::Limit(code));
            }
        }
    }

    fn drop_rows(&self, rows: &[usize]) {
        for &row in rows {
            self.own(row).fetch_sub(1, SeqCst);
        }
    }

    /// Gives a seat of this process back, which it has taken. A row with seats never moves, so it is
    /// found where it was.
    pub fn give(&self, count: Count) {
        let row = match count {
            Count::Total => Some(0),
            Count::Anonymous => Some(1),
            Count::Of(key) => self.find(key),
        };
        if let Some(row) = row {
            // Never below zero, whatever somebody has written into the file.
            let less = |seats: u32| seats.checked_sub(1);
            let _ = self.own(row).fetch_update(SeqCst, SeqCst, less);
        }
    }

    /// Returns a number that differs from call to call and from process to process.
    fn draw(&self) -> u32 {
        // Relaxed: the order of the draws does not matter.
        let draw = self.draws.fetch_add(0x9e37_79b9, Relaxed);
        (draw ^ draw >> 15).wrapping_mul(0x2c1b_3c6d) >> 8
    }

    /// Waits for up to a few microseconds, longer with each attempt.
    pub fn pause(&self, attempt: u32) {
        for _ in 0..self.draw() % (64 << attempt) {
            std::hint::spin_loop();
        }
    }

    /// Returns the sum of each row, for tests.
    #[cfg(test)]
    pub(super) fn sums(&self) -> Vec<u64> {
        (0..self.file.layout().rows())
            .map(|row| self.sum(row))
            .collect()
    }

    /// Puts a key into a row as a process does that was killed right afterwards, for tests.
    #[cfg(test)]
    pub(super) fn put(&self, row: usize, key: Key) {
        let word = self.word(row);
        assert!(self.change(row, word, word.with(key.tag, State::Pending)));
    }

    /// Returns how many rows are the key's, for tests.
    #[cfg(test)]
    pub(super) fn rows_with(&self, key: Key) -> usize {
        let words = self.words_of(key);
        words.filter(|(_, word)| word.is_of(key)).count()
    }
}

/// Most counts of a seat: the totals, the address twice, its prefix and the user.
pub const CLAIMS_MAX: usize = 6;
