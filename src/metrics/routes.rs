//! Figures per route: counts since the start for the exposition, and a histogram of the last one to
//! two minutes.
//!
//! Rows are numbered in the order in which they are added. Their labels are stored once, in
//! `exposition`. Invariant: a row without recent requests holds no histogram.

use super::counts::{BUCKETS, CountTable, Counts, EDGES_MS, STATUSES, Snapshot};
use super::histogram::{PAIRS, PAIRS_PER_POWER, Quantiles, quantiles};

/// The edges with an infinite last one.
const CLOSED_MS: [f64; BUCKETS] = {
    let mut closed = [f64::INFINITY; BUCKETS];
    let mut at = 0;
    while at < EDGES_MS.len() {
        closed[at] = EDGES_MS[at];
        at += 1;
    }
    closed
};
/// One more than the greatest status.
const STATUS_END: usize = 600;
const GENERATION_MS: f64 = 60_000.0;

/// Counts of a row at the start of a minute.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    total: u64,
    errors: u64,
    sum_ms: f64,
}

/// One minute of a row. Its histogram ends with the power of two of the longest duration so far:
/// 5 KB up to a second, 13 KB at most.
#[derive(Debug, Clone, Default)]
struct Minute {
    pairs: Vec<u32>,
    max_ms: f64,
    /// Counts at the start of the minute.
    mark: Mark,
}

#[derive(Debug, Clone, Default)]
struct Recent {
    current: Minute,
    previous: Minute,
}

/// Figures of one route over the current and the previous minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteFigures {
    /// Number of the row.
    pub row: usize,
    /// Requests since the previous minute began.
    pub requests: u64,
    /// Requests per second since the previous minute began.
    pub requests_per_second: f64,
    /// Share of failed requests, 0 to 1; `None` without requests.
    pub error_rate: Option<f64>,
    /// Latency; `None` without requests.
    pub latency: Option<Quantiles>,
    /// Requests since the start.
    pub total: u64,
}

/// All rows.
#[derive(Debug)]
pub struct Routes {
    counts: CountTable,
    recent: Vec<Recent>,
    /// The first classic bucket that a pair of fine buckets may belong to; the exact edge decides.
    edge_of: Box<[u8; PAIRS]>,
    place_of: Vec<u8>,
    statuses: Vec<u16>,
    /// Start of the previous minute, and of the current one.
    began_ms: [f64; 2],
}

impl Routes {
    /// Creates a table without rows.
    #[must_use]
    pub fn new(now_ms: f64) -> Self {
        let first = |pair: usize| {
            let lower = super::histogram::lower_edge(pair * 2);
            EDGES_MS.partition_point(|edge| *edge < lower) as u8
        };
        Self {
            counts: CountTable::default(),
            recent: Vec::new(),
            edge_of: Box::new(std::array::from_fn(first)),
            place_of: vec![0; STATUS_END],
            statuses: Vec::new(),
            began_ms: [now_ms; 2],
        }
    }

    /// Adds a row.
    pub fn add(&mut self) {
        self.counts.add();
        self.recent.push(Recent::default());
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// True if there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.len() == 0
    }

    /// Returns the requests of a row since the start.
    #[must_use]
    pub fn total(&self, row: usize) -> u64 {
        self.counts.get(row).map_or(0, |counts| counts.total())
    }

    /// Shares the counts of all rows.
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        self.counts.snapshot(&self.statuses)
    }

    fn place(&mut self, status: usize) -> usize {
        let place = usize::from(self.place_of[status]);
        if place != 0 || status == 0 || self.statuses.len() + 1 == STATUSES {
            return place;
        }
        self.statuses.push(status as u16);
        self.place_of[status] = self.statuses.len() as u8;
        self.statuses.len()
    }

    /// Counts a request of an existing row. `status` is below 600, 0 for none.
    pub fn record(
        &mut self,
        row: usize,
        bucket: usize,
        duration_ms: f64,
        status: usize,
        failed: bool,
    ) {
        let place = self.place(status);
        let pair = bucket / 2;
        let edge = usize::from(self.edge_of[pair]);
        // No branch: on which side of the edge a duration lies cannot be predicted.
        let edge = edge + usize::from(duration_ms > CLOSED_MS[edge]);
        let counts = self.counts.of(row);
        counts.buckets[edge] += 1;
        counts.statuses[place] += 1;
        counts.sum_ms += duration_ms;
        counts.errors += u64::from(failed);
        let minute = &mut self.recent[row].current;
        if minute.pairs.len() <= pair {
            extend(&mut minute.pairs, pair);
        }
        minute.pairs[pair] = minute.pairs[pair].saturating_add(1);
        minute.max_ms = minute.max_ms.max(duration_ms);
    }

    /// Starts a new minute if the current one is over.
    pub fn advance(&mut self, now_ms: f64) {
        let passed = now_ms - self.began_ms[1];
        if passed.is_nan() || passed < GENERATION_MS {
            return;
        }
        let is_long = passed >= 2.0 * GENERATION_MS;
        for (recent, counts) in self.recent.iter_mut().zip(self.counts.iter()) {
            let mark = Mark {
                total: counts.total(),
                errors: counts.errors,
                sum_ms: counts.sum_ms,
            };
            let next = Minute {
                mark,
                ..Minute::default()
            };
            let last = std::mem::replace(&mut recent.current, next.clone());
            recent.previous = if is_long { next } else { last };
        }
        self.began_ms = [if is_long { now_ms } else { self.began_ms[1] }, now_ms];
    }

    /// Returns the routes with the most recent requests.
    #[must_use]
    pub fn figures(&self, now_ms: f64, count: usize) -> Vec<RouteFigures> {
        let mut rows: Vec<(u64, u64, usize, &Counts)> = self
            .counts
            .iter()
            .zip(&self.recent)
            .enumerate()
            .map(|(row, (counts, recent))| {
                let total = counts.total();
                (total - recent.previous.mark.total, total, row, counts)
            })
            .filter(|(_, total, ..)| *total > 0)
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.0, row.1)));
        rows.truncate(count);
        let covered_ms = (now_ms - self.began_ms[0]).max(1000.0);
        rows.into_iter()
            .map(|(requests, total, row, counts)| {
                self.row(row, requests, total, counts, covered_ms)
            })
            .collect()
    }

    fn row(
        &self,
        row: usize,
        requests: u64,
        total: u64,
        counts: &Counts,
        covered_ms: f64,
    ) -> RouteFigures {
        let Recent { current, previous } = &self.recent[row];
        let mut pairs = vec![0; current.pairs.len().max(previous.pairs.len())];
        for minute in [current, previous] {
            for (into, from) in pairs.iter_mut().zip(&minute.pairs) {
                *into += u64::from(*from);
            }
        }
        let Mark { errors, sum_ms, .. } = previous.mark;
        let max_ms = current.max_ms.max(previous.max_ms);
        RouteFigures {
            row,
            requests,
            requests_per_second: requests as f64 * 1000.0 / covered_ms,
            error_rate: (requests > 0).then(|| (counts.errors - errors) as f64 / requests as f64),
            latency: quantiles(&pairs, 2, counts.sum_ms - sum_ms, max_ms),
            total,
        }
    }
}

/// Extends a histogram to the end of the power of two that `pair` belongs to.
#[cold]
fn extend(pairs: &mut Vec<u32>, pair: usize) {
    let length = (pair / PAIRS_PER_POWER + 1) * PAIRS_PER_POWER;
    pairs.reserve_exact(length - pairs.len());
    pairs.resize(length, 0);
}

#[cfg(test)]
mod tests {
    use super::super::histogram::bucket_of;
    use super::*;
    use proptest::prelude::*;

    fn record(routes: &mut Routes, row: usize, duration_ms: f64, status: usize) {
        routes.record(
            row,
            bucket_of(duration_ms),
            duration_ms,
            status,
            status >= 500,
        );
    }

    proptest! {
        /// A classic bucket counts exactly the durations above the previous edge and up to its own.
        #[test]
        fn classic_buckets_agree_with_comparisons_to_their_edges(durations in prop::collection::vec(prop_oneof![0.0f64..20_000.0, prop::sample::select(EDGES_MS.to_vec())], 1..200)) {
            let mut routes = Routes::new(0.0);
            routes.add();
            let mut model = [0u64; BUCKETS];
            for duration in durations {
                record(&mut routes, 0, duration, 200);
                model[EDGES_MS.iter().position(|edge| duration <= *edge).unwrap_or(EDGES_MS.len())] += 1;
            }
            prop_assert_eq!(routes.counts.get(0).map(|counts| counts.buckets), Some(model));
            let snapshot = routes.snapshot();
            let row = snapshot.rows().next().map(|row| row.buckets().collect::<Vec<_>>());
            prop_assert_eq!(row, Some(model.map(|count| count as f64).to_vec()));
        }

        /// Routes are sorted by requests; their figures cover the current and the previous minute.
        #[test]
        fn figures_agree_with_a_list(steps in prop::collection::vec((0usize..5, 1.0f64..500.0, prop::sample::select(vec![200usize, 404, 500]), prop_oneof![4 => 0.0f64..50_000.0, 1 => 50_000.0f64..250_000.0]), 1..150)) {
            let mut routes = Routes::new(0.0);
            (0..5).for_each(|_| routes.add());
            let (mut now, mut began) = (0.0, [0.0, 0.0]);
            let mut events = Vec::new();
            for (row, duration, status, passed) in steps {
                record(&mut routes, row, duration, status);
                events.push((now, row, duration, status));
                now += passed;
                routes.advance(now);
                if now - began[1] >= 60_000.0 {
                    began = [if now - began[1] >= 120_000.0 { now } else { began[1] }, now];
                }
                let figures = routes.figures(now, 5);
                prop_assert!(figures.is_sorted_by(|a, b| a.requests >= b.requests));
                for found in figures {
                    let of_row = events.iter().filter(|event| event.1 == found.row);
                    prop_assert_eq!(found.total, of_row.clone().count() as u64);
                    let inside = of_row.filter(|event| event.0 >= began[0]);
                    prop_assert_eq!(found.requests, inside.clone().count() as u64);
                    prop_assert_eq!(found.latency.map_or(0.0, |latency| latency.max), inside.clone().fold(0.0, |most: f64, event| most.max(event.2)));
                    let errors = inside.filter(|event| event.3 == 500).count() as f64;
                    prop_assert!((found.error_rate.unwrap_or(0.0) * found.requests as f64 - errors).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn statuses_beyond_the_thirtieth_share_a_place() {
        let mut routes = Routes::new(0.0);
        routes.add();
        for status in 100..600 {
            record(&mut routes, 0, 1.0, status);
        }
        record(&mut routes, 0, 1.0, 0);
        let snapshot = routes.snapshot();
        let found: Vec<_> = snapshot.rows().flat_map(|row| row.statuses()).collect();
        assert_eq!(found[0], (0, 471.0));
        assert_eq!(
            found[1..],
            (100..130).map(|status| (status, 1.0)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_idle_route_holds_only_its_counts() {
        let mut routes = Routes::new(0.0);
        routes.add();
        record(&mut routes, 0, 1.0, 200);
        routes.advance(60_000.0);
        assert!(routes.recent[0].current.pairs.is_empty());
        assert!(!routes.recent[0].previous.pairs.is_empty());
        routes.advance(120_000.0);
        assert_eq!(routes.recent[0].current.pairs.capacity(), 0);
        assert_eq!(routes.recent[0].previous.pairs.capacity(), 0);
        assert_eq!(routes.figures(120_000.0, 9)[0].latency, None);
    }
}
