//! Counts of all routes since the start, and copies of them that cost the caller no copying.
//!
//! A snapshot shares its blocks with the table. The first request that is counted in a shared block gives the table a
//! copy of that block, unless the snapshot is gone by then. So a snapshot of any number of rows is
//! taken in microseconds, and the thread that counts copies some 24 KB at a time, if at all.
//!
//! Invariant: a snapshot never changes.

use std::sync::Arc;

/// Upper edges of the classic buckets, ms: the ones that OpenTelemetry recommends, in seconds.
pub(super) const EDGES_MS: [f64; 14] = [
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0,
    10_000.0,
];
/// The number of classic buckets; the last is open.
pub(super) const BUCKETS: usize = EDGES_MS.len() + 1;

/// Places for statuses. Place 0 is for requests without a status, and for statuses beyond the 30th.
pub(super) const STATUSES: usize = 31;
/// Rows of a block.
const ROWS: usize = 64;

/// Counts of a row since the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counts {
    /// By classic bucket, the last one open.
    pub(super) buckets: [u64; BUCKETS],
    /// By place of the status.
    pub(super) statuses: [u64; STATUSES],
    /// Sum of all durations, ms.
    pub(super) sum_ms: f64,
    /// Requests that failed.
    pub(super) errors: u64,
}

impl Counts {
    const NONE: Self = Self {
        buckets: [0; BUCKETS],
        statuses: [0; STATUSES],
        sum_ms: 0.0,
        errors: 0,
    };

    pub(super) fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Rows that follow each other.
#[derive(Debug, Default)]
struct Block {
    /// The rows, unless they are shared.
    own: Vec<Counts>,
    /// The rows that a snapshot has, too, or had.
    shared: Option<Arc<Vec<Counts>>>,
}

impl Block {
    fn rows(&self) -> &[Counts] {
        self.shared.as_deref().unwrap_or(&self.own)
    }

    /// Returns the rows, to be changed.
    fn own(&mut self) -> &mut Vec<Counts> {
        if self.shared.is_some() {
            self.take_back();
        }
        &mut self.own
    }

    /// Ends the sharing: by a copy, if a snapshot still has the rows.
    #[cold]
    fn take_back(&mut self) {
        if let Some(rows) = self.shared.take() {
            self.own = Arc::try_unwrap(rows).unwrap_or_else(|rows| rows.to_vec());
        }
    }

    fn share(&mut self) -> Arc<Vec<Counts>> {
        let own = &mut self.own;
        let shared = self
            .shared
            .get_or_insert_with(|| Arc::new(std::mem::take(own)));
        Arc::clone(shared)
    }
}

/// The counts of all rows.
#[derive(Debug, Default)]
pub(super) struct CountTable {
    blocks: Vec<Block>,
    length: usize,
}

impl CountTable {
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Adds a row without requests.
    pub(super) fn add(&mut self) {
        if self.length.is_multiple_of(ROWS) {
            self.blocks.push(Block::default());
        }
        self.blocks[self.length / ROWS].own().push(Counts::NONE);
        self.length += 1;
    }

    pub(super) fn get(&self, row: usize) -> Option<&Counts> {
        self.blocks.get(row / ROWS)?.rows().get(row % ROWS)
    }

    /// Returns an existing row, to be changed.
    pub(super) fn of(&mut self, row: usize) -> &mut Counts {
        &mut self.blocks[row / ROWS].own()[row % ROWS]
    }

    /// Returns the rows in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Counts> {
        self.blocks.iter().flat_map(Block::rows)
    }

    /// Shares the counts of all rows. `statuses` are those of the places from 1 on.
    pub(super) fn snapshot(&mut self, statuses: &[u16]) -> Snapshot {
        Snapshot {
            blocks: self.blocks.iter_mut().map(Block::share).collect(),
            statuses: statuses.to_vec(),
        }
    }
}

/// Counts of all rows at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    blocks: Vec<Arc<Vec<Counts>>>,
    statuses: Vec<u16>,
}

/// Counts of one row.
#[derive(Debug, Clone, Copy)]
pub struct RowCounts<'a> {
    counts: &'a Counts,
    names: &'a [u16],
}

impl<'a> RowCounts<'a> {
    /// Returns the requests by classic bucket, the last one open.
    pub fn buckets(&self) -> impl Iterator<Item = f64> + use<'a> {
        self.counts.buckets.iter().map(|count| *count as f64)
    }

    /// Returns the sum of all durations, ms.
    #[must_use]
    pub const fn sum_ms(&self) -> f64 {
        self.counts.sum_ms
    }

    /// True if the row has no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.total() == 0
    }

    /// Returns the requests by status (0 for none), without zeros.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, f64)> + use<'a> {
        let names = std::iter::once(0).chain(self.names.iter().copied());
        let counts = self.counts.statuses.iter().map(|count| *count as f64);
        names.zip(counts).filter(|(_, count)| *count > 0.0)
    }
}

impl Snapshot {
    /// Returns the cells of all rows, one row after the other, and the statuses of the places from 1 on. A row has its
    /// classic buckets, its sum in ms, and its places.
    #[must_use]
    pub fn into_parts(self) -> (Vec<f64>, Vec<u16>) {
        let Self { blocks, statuses } = self;
        let places = statuses.len() + 1;
        let rows: usize = blocks.iter().map(|block| block.len()).sum();
        let mut cells = Vec::with_capacity(rows * (BUCKETS + 1 + places));
        for row in blocks.iter().flat_map(|block| block.iter()) {
            cells.extend(row.buckets.iter().map(|count| *count as f64));
            cells.push(row.sum_ms);
            cells.extend(row.statuses[..places].iter().map(|count| *count as f64));
        }
        (cells, statuses)
    }

    /// Returns the rows in their order.
    pub fn rows(&self) -> impl Iterator<Item = RowCounts<'_>> {
        let rows = self.blocks.iter().flat_map(|block| block.iter());
        rows.map(|counts| RowCounts {
            counts,
            names: &self.statuses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CountTable, Counts, Snapshot};
    use proptest::prelude::*;

    fn errors_of(snapshot: &Snapshot) -> Vec<u64> {
        snapshot.rows().map(|row| row.counts.errors).collect()
    }

    proptest! {
        /// Snapshots taken and dropped at any time show the counts of their moment, as copies would.
        #[test]
        fn a_snapshot_is_a_copy(steps in prop::collection::vec((0u8..10, 0usize..300), 1..600)) {
            let mut table = CountTable::default();
            let mut model: Vec<u64> = Vec::new();
            let mut taken: Vec<(Snapshot, Vec<u64>)> = Vec::new();
            for (step, number) in steps {
                match step {
                    0 => taken.push((table.snapshot(&[]), model.clone())),
                    1 if !taken.is_empty() => { taken.swap_remove(number % taken.len()); }
                    2..5 => { table.add(); model.push(0); }
                    _ if !model.is_empty() => {
                        let row = number % model.len();
                        table.of(row).errors += 1;
                        model[row] += 1;
                    }
                    _ => {}
                }
                for (snapshot, copy) in &taken {
                    prop_assert_eq!(&errors_of(snapshot), copy);
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.iter().map(|row| row.errors).collect::<Vec<_>>(), model.clone());
            }
        }
    }

    #[test]
    fn a_block_is_copied_only_while_a_snapshot_has_it() {
        let mut table = CountTable::default();
        (0..65).for_each(|_| table.add());
        let place = |table: &CountTable, row| std::ptr::from_ref::<Counts>(table.get(row).unwrap());
        let before = [place(&table, 0), place(&table, 64)];
        let snapshot = table.snapshot(&[]);
        table.of(0).errors = 1;
        // The other block has not been touched.
        assert_ne!(place(&table, 0), before[0]);
        assert_eq!(place(&table, 64), before[1]);
        drop(snapshot);
        table.of(64).errors = 1;
        assert_eq!(place(&table, 64), before[1]);
        assert_eq!(table.get(65), None);
    }
}
