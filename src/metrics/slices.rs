//! Closed slices of time, and the ring that keeps the last of them.

use super::figures::Figures;

/// A closed slice: its sums, and its buckets that are not empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Slice {
    pub(super) figures: Figures,
    pub(super) buckets: Vec<(u16, u32)>,
}

impl Slice {
    /// Adds the slice to sums, and to counts by bucket.
    pub(super) fn add_to(&self, figures: &mut Figures, merged: &mut [u64]) {
        figures.add(&self.figures);
        for &(bucket, count) in &self.buckets {
            merged[usize::from(bucket)] += u64::from(count);
        }
    }
}

/// A ring of the last slices.
#[derive(Debug)]
pub(super) struct Ring {
    slices: Vec<Slice>,
    end: usize,
    pub(super) filled: usize,
}

impl Ring {
    pub(super) fn new(length: usize) -> Self {
        Self {
            slices: vec![Slice::default(); length],
            end: 0,
            filled: 0,
        }
    }

    pub(super) fn push(&mut self, slice: Slice) {
        self.slices[self.end] = slice;
        self.end = (self.end + 1) % self.slices.len();
        self.filled = (self.filled + 1).min(self.slices.len());
    }

    /// Returns the last `count` slices, the newest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Slice> {
        let length = self.slices.len();
        (0..count.min(length)).map(move |age| &self.slices[(self.end + length - 1 - age) % length])
    }

    /// Empties all slices; they count as filled.
    pub(super) fn clear(&mut self) {
        self.slices.fill(Slice::default());
        self.filled = self.slices.len();
    }
}
