//! Requests as the JavaScript thread records them, two numbers each. They are folded into windows
//! and routes a few thousand at a time.
//!
//! ```text
//!  durations  f64  │ milliseconds
//!  keys       u32  │ row : 21 │ status : 10 │ failed : 1
//! ```
//!
//! Owns the meaning of the two columns. Does not own the columns themselves or the names of the
//! rows.

use super::figures::{Figures, Outcome};
use super::histogram::{BUCKETS, LONGEST_MS, bucket_of, lower_edge};
use super::routes::Routes;
use super::windows::Windows;

/// Position of the row in a key.
const ROW_SHIFT: u32 = 11;
const STATUS_MASK: u32 = 0x3ff;

/// All counts of one metrics object.
#[derive(Debug)]
pub struct Ledger {
    /// Counts by time.
    pub windows: Windows,
    /// Counts by route.
    pub routes: Routes,
    satisfied_ms: f64,
    band_of: Vec<u8>,
    bands: usize,
}

impl Ledger {
    /// Creates an empty ledger. `satisfied_ms` is the T of Apdex. `heat_edges_ms` are the upper
    /// edges of the heat map's bands, ascending, at most 255; one more band above them is open.
    #[must_use]
    pub fn new(now_ms: f64, satisfied_ms: f64, heat_edges_ms: &[f64]) -> Self {
        let band = |bucket| heat_edges_ms.partition_point(|edge| *edge <= lower_edge(bucket)) as u8;
        Self {
            windows: Windows::new(now_ms),
            routes: Routes::new(now_ms),
            satisfied_ms,
            band_of: (0..BUCKETS).map(band).collect(),
            bands: heat_edges_ms.len() + 1,
        }
    }

    /// Counts the requests of the two columns.
    pub fn fold(&mut self, durations: &[f64], keys: &[u32]) {
        let Self {
            windows,
            routes,
            satisfied_ms,
            ..
        } = self;
        let rows = routes.len();
        // Summed in registers: in memory, each addition would wait for the previous store.
        let mut figures = Figures::default();
        for (&duration_ms, &key) in durations.iter().zip(keys) {
            let duration_ms = duration_ms.min(LONGEST_MS);
            let row = (key >> ROW_SHIFT) as usize;
            let status = (key >> 1 & STATUS_MASK) as usize;
            if row >= rows || status >= 600 {
                debug_assert!(false, "no such row or status");
                continue;
            }
            let failed = key & 1 == 1;
            let outcome = if failed {
                Outcome::Failed
            } else if status >= 400 {
                Outcome::ClientError
            } else {
                Outcome::Answered
            };
            let speed = usize::from(duration_ms > *satisfied_ms)
                + usize::from(duration_ms > 4.0 * *satisfied_ms);
            let bucket = bucket_of(duration_ms);
            figures.record(duration_ms, outcome, speed);
            windows.record(bucket);
            routes.record(row, bucket, duration_ms, status, failed);
        }
        windows.add(&figures);
    }

    /// Advances the time.
    pub fn advance(&mut self, now_ms: f64) {
        self.windows.advance(now_ms);
        self.routes.advance(now_ms);
    }

    /// Returns the requests of each of the last `count` seconds at most, by band.
    #[must_use]
    pub fn heat(&self, count: usize) -> Vec<Vec<u32>> {
        self.windows.heat(count, &self.band_of, self.bands)
    }
}

#[cfg(test)]
mod tests {
    use super::super::windows::Window;
    use super::*;

    #[test]
    fn a_key_packs_row_status_and_failure() {
        let mut ledger = Ledger::new(0.0, 100.0, &[1.0, 10.0]);
        (0..3).for_each(|_| ledger.routes.add());
        let keys = [2 << 11 | 404 << 1, 1 << 11 | 200 << 1 | 1, 0];
        ledger.fold(&[100.0, 200.0, 500.0, 2.0, 9.0], &keys);
        let figures = ledger.windows.sums(Window::Lifetime).figures;
        assert_eq!(figures.requests(), 3);
        assert_eq!(figures.ended(Outcome::Failed), 1);
        assert_eq!(figures.ended(Outcome::ClientError), 1);
        // The first request takes exactly T, which is not slow.
        assert_eq!(figures.slow(), 2);
        let snapshot = ledger.routes.snapshot();
        let rows: Vec<Vec<_>> = snapshot
            .rows()
            .map(|row| row.statuses().collect())
            .collect();
        assert_eq!(rows, [vec![(0, 1.0)], vec![(200, 1.0)], vec![(404, 1.0)]]);
    }

    #[test]
    fn the_heat_map_has_a_row_per_second_and_a_column_per_band() {
        let mut ledger = Ledger::new(0.0, 100.0, &[1.0, 10.0]);
        ledger.routes.add();
        ledger.fold(&[0.5, 1.0, 5.0, 10.0, 1e9], &[0; 5]);
        ledger.advance(1000.0);
        ledger.fold(&[3.0], &[0]);
        ledger.advance(2500.0);
        assert_eq!(ledger.heat(60), [[1, 2, 2], [0, 1, 0]]);
        assert_eq!(ledger.heat(1), [[0, 1, 0]]);
    }
}
