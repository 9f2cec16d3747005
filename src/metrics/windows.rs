//! Counts over the last seconds, minutes and days: slices of one second, of ten seconds, and of
//! five minutes for error budgets. Recording writes into the current slice; `advance` closes slices
//! as time passes.
//!
//! ```text
//!  current ──1 s──▶ seconds (60) ──10 s──▶ tens (90) ──5 min──▶ spans (864: three days)
//!     └────────────▶ lifetime
//! ```
//! A window of N slices is the last N-1 closed slices and the current one, so that it contains
//! nothing older than its length. The time that it covers is reported with it.

use super::figures::{Figures, Totals};
use super::histogram::{BUCKETS, Quantiles, bucket_of, quantiles};
use super::slices::{Ring, Slice};

const SECOND_MS: f64 = 1000.0;
const SECONDS: usize = 60;
const TEN: u64 = 10;
const TENS: usize = 90;
const SPAN: u64 = 300;
const SPANS: usize = 864;
const HORIZON: u64 = SPAN * SPANS as u64;

/// The windows that are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 10 seconds.
    Short,
    /// 1 minute.
    Minute,
    /// 5 minutes.
    Five,
    /// 15 minutes.
    Quarter,
    /// Since the start.
    Lifetime,
}

/// Sums over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// Time that the window covers, ms.
    pub covered_ms: f64,
    /// The sums.
    pub figures: Figures,
    /// Latency; `None` without requests.
    pub latency: Option<Quantiles>,
}

/// Counts by time.
#[derive(Debug)]
pub struct Windows {
    current: Figures,
    buckets: Box<[u32; BUCKETS]>,
    seconds: Ring,
    tens: Ring,
    spans: Vec<Totals>,
    lifetime: Figures,
    lifetime_buckets: Vec<u64>,
    start_ms: f64,
    now_ms: f64,
    /// Closed slices of one second.
    elapsed: u64,
}

impl Windows {
    /// Creates empty windows.
    #[must_use]
    pub fn new(now_ms: f64) -> Self {
        Self {
            current: Figures::default(),
            buckets: Box::new([0; BUCKETS]),
            seconds: Ring::new(SECONDS),
            tens: Ring::new(TENS),
            spans: vec![Totals::default(); SPANS],
            lifetime: Figures::default(),
            lifetime_buckets: vec![0; BUCKETS],
            start_ms: now_ms,
            now_ms,
            elapsed: 0,
        }
    }

    /// Returns the time since the start, ms.
    #[must_use]
    pub fn uptime_ms(&self) -> f64 {
        self.now_ms - self.start_ms
    }

    /// Counts the bucket of a request whose figures are added by [`Windows::add`].
    pub fn record(&mut self, bucket: usize) {
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
    }

    /// Adds the sums of requests whose buckets were recorded.
    pub fn add(&mut self, figures: &Figures) {
        self.current.add(figures);
    }

    /// Adds figures counted beside requests.
    pub fn add_traffic(&mut self, traffic: &[f64]) {
        self.current.add_traffic(traffic);
    }

    /// Closes the slices that are over; a clock that goes back changes nothing.
    pub fn advance(&mut self, now_ms: f64) {
        if now_ms.is_nan() || now_ms <= self.now_ms {
            return;
        }
        self.now_ms = now_ms;
        let target = (self.uptime_ms() / SECOND_MS) as u64;
        if target - self.elapsed > HORIZON {
            self.close();
            self.seconds.clear();
            self.tens.clear();
            self.spans.fill(Totals::default());
            self.elapsed = target;
        }
        while self.elapsed < target {
            self.close();
        }
    }

    fn close(&mut self) {
        let slice = self.closed();
        self.seconds.push(slice);
        self.elapsed += 1;
        if !self.elapsed.is_multiple_of(TEN) {
            return;
        }
        let joined = self.joined();
        self.tens.push(joined);
        if self.elapsed.is_multiple_of(SPAN) {
            let at = (self.elapsed / SPAN - 1) as usize % SPANS;
            self.spans[at] = self.over_tens((SPAN / TEN) as usize);
        }
    }

    /// Closes the current slice and empties it.
    fn closed(&mut self) -> Slice {
        let figures = std::mem::take(&mut self.current);
        let mut buckets = Vec::new();
        if figures.requests() > 0 {
            for (at, count) in self.buckets.iter_mut().enumerate() {
                if *count > 0 {
                    buckets.push((at as u16, *count));
                    self.lifetime_buckets[at] += u64::from(*count);
                    *count = 0;
                }
            }
        }
        self.lifetime.add(&figures);
        Slice { figures, buckets }
    }

    /// Returns the last ten seconds as one slice.
    fn joined(&self) -> Slice {
        let mut joined = Slice::default();
        let ten = TEN as usize;
        if self.seconds.last(ten).all(|slice| slice.buckets.is_empty()) {
            for slice in self.seconds.last(ten) {
                joined.figures.add(&slice.figures);
            }
            return joined;
        }
        let mut merged = vec![0; self.used_buckets()];
        for slice in self.seconds.last(ten) {
            slice.add_to(&mut joined.figures, &mut merged);
        }
        let used = merged.iter().enumerate().filter(|(_, count)| **count > 0);
        joined.buckets = used
            .map(|(at, &count)| (at as u16, u32::try_from(count).unwrap_or(u32::MAX)))
            .collect();
        joined
    }

    fn over_tens(&self, count: usize) -> Totals {
        let mut totals = Totals::default();
        for slice in self.tens.last(count) {
            totals.add(Totals::from(&slice.figures));
        }
        totals
    }

    /// Returns the number of buckets up to that of the longest request: the others are empty.
    fn used_buckets(&self) -> usize {
        bucket_of(self.lifetime.max_ms.max(self.current.max_ms)) + 1
    }

    /// Returns sums and quantiles of a window.
    #[must_use]
    pub fn sums(&self, window: Window) -> Sums {
        let used = self.used_buckets();
        let (mut figures, mut merged) = (Figures::default(), vec![0; used]);
        let since_ten = (self.elapsed % TEN) as usize;
        let (seconds, tens) = match window {
            Window::Short => (self.seconds.filled.min(9), 0),
            Window::Minute => (self.seconds.filled.min(59), 0),
            Window::Five => (since_ten, self.tens.filled.min(29)),
            Window::Quarter => (since_ten, self.tens.filled.min(89)),
            Window::Lifetime => {
                figures = self.lifetime;
                merged.copy_from_slice(&self.lifetime_buckets[..used]);
                (0, 0)
            }
        };
        for slice in self.seconds.last(seconds) {
            slice.add_to(&mut figures, &mut merged);
        }
        for slice in self.tens.last(tens) {
            slice.add_to(&mut figures, &mut merged);
        }
        let since = self.uptime_ms() - self.elapsed as f64 * SECOND_MS;
        let covered_ms = match window {
            Window::Lifetime => self.uptime_ms(),
            _ => (seconds + tens * TEN as usize) as f64 * SECOND_MS + since,
        };
        figures.add(&self.current);
        if self.current.requests() > 0 {
            for (into, from) in merged.iter_mut().zip(self.buckets.iter()) {
                *into += u64::from(*from);
            }
        }
        Sums {
            covered_ms,
            latency: quantiles(&merged, 1, figures.sum_ms, figures.max_ms),
            figures,
        }
    }

    /// Returns the requests of the last `minutes`, a multiple of 5 up to three days.
    #[must_use]
    pub fn totals(&self, minutes: u64) -> Totals {
        let mut totals = self.over_tens((self.elapsed % SPAN / TEN) as usize);
        for slice in self.seconds.last((self.elapsed % TEN) as usize) {
            totals.add(Totals::from(&slice.figures));
        }
        totals.add(Totals::from(&self.current));
        let complete = self.elapsed / SPAN;
        let wanted = (minutes / 5).saturating_sub(1);
        for age in 0..complete.min(wanted).min(SPANS as u64) {
            totals.add(self.spans[(complete - 1 - age) as usize % SPANS]);
        }
        totals
    }

    /// Returns the requests of each of the last `count` closed seconds, the oldest first, by band.
    /// `band_of` maps each bucket to a band below `bands`.
    #[must_use]
    pub fn heat(&self, count: usize, band_of: &[u8], bands: usize) -> Vec<Vec<u32>> {
        let known = count.min(self.seconds.filled);
        let mut rows: Vec<Vec<u32>> = self
            .seconds
            .last(known)
            .map(|slice| {
                let mut row = vec![0; bands];
                for &(bucket, count) in &slice.buckets {
                    row[usize::from(band_of[usize::from(bucket)])] += count;
                }
                row
            })
            .collect();
        rows.reverse();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Outcome, Traffic};
    use super::super::histogram::bucket_of;
    use super::*;
    use proptest::prelude::*;

    fn record(windows: &mut Windows, duration_ms: f64, outcome: Outcome) {
        let speed = usize::from(duration_ms > 100.0) + usize::from(duration_ms > 400.0);
        let mut figures = Figures::default();
        figures.record(duration_ms, outcome, speed);
        windows.record(bucket_of(duration_ms));
        windows.add(&figures);
    }

    proptest! {
        // Each case takes milliseconds: 64 by default, and 256 with PROPTEST_CASES=1024.
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 4,
            ..ProptestConfig::default()
        })]

        /// A window agrees with a list of all events since its first slice began, and so do the
        /// totals for budgets.
        #[test]
        fn windows_agree_with_a_list(steps in prop::collection::vec((0.0f64..1000.0, 0usize..3, 0u64..40_000), 1..200)) {
            let outcomes = [Outcome::Answered, Outcome::ClientError, Outcome::Failed];
            let mut windows = Windows::new(5.0);
            let mut events = Vec::new();
            let mut now = 0u64;
            for (duration, outcome, passed) in steps {
                record(&mut windows, duration, outcomes[outcome]);
                events.push((now, duration, outcome));
                now += passed;
                windows.advance(5.0 + now as f64);
                for (window, slices, slice_ms) in [(Window::Short, 10, 1000), (Window::Minute, 60, 1000), (Window::Five, 30, 10_000), (Window::Quarter, 90, 10_000), (Window::Lifetime, u64::MAX, 1)] {
                    let since = (now / slice_ms + 1).saturating_sub(slices) * slice_ms;
                    let inside = events.iter().filter(|event| event.0 >= since);
                    let Sums { covered_ms, figures, latency } = windows.sums(window);
                    prop_assert_eq!(figures.requests(), inside.clone().count() as u64);
                    prop_assert_eq!(figures.ended(Outcome::Failed), inside.clone().filter(|event| event.2 == 2).count() as u64);
                    prop_assert_eq!(figures.slow(), inside.clone().filter(|event| event.1 > 100.0).count() as u64);
                    let mut counts = vec![0; BUCKETS];
                    inside.clone().for_each(|event| counts[bucket_of(event.1)] += 1);
                    let max = inside.fold(0.0, |most: f64, event| most.max(event.1));
                    let of = |found: Quantiles| (found.p50, found.p90, found.p999, found.max);
                    prop_assert_eq!(latency.map(of), quantiles(&counts, 1, 0.0, max).map(of));
                    prop_assert!((covered_ms - (now - since) as f64).abs() < 1e-6);
                }
                for minutes in [5, 30, 60] {
                    let since = (now / 300_000 + 1).saturating_sub(minutes / 5) * 300_000;
                    let inside = events.iter().filter(|event| event.0 >= since);
                    prop_assert_eq!(windows.totals(minutes).requests, inside.count() as u64);
                }
            }
        }
    }

    #[test]
    fn apdex_counts_tolerating_requests_half_and_failures_as_frustrated() {
        let mut windows = Windows::new(0.0);
        for duration in [50.0, 100.0, 101.0, 400.0, 401.0] {
            record(&mut windows, duration, Outcome::Answered);
        }
        record(&mut windows, 1.0, Outcome::Failed);
        record(&mut windows, 1.0, Outcome::ClientError);
        let figures = windows.sums(Window::Lifetime).figures;
        assert_eq!(figures.apdex(), Some((3.0 + 1.0) / 7.0));
        assert_eq!(Figures::default().apdex(), None);
    }

    #[test]
    fn a_clock_jump_of_weeks_empties_all_windows_but_the_lifetime() {
        let mut windows = Windows::new(0.0);
        record(&mut windows, 5.0, Outcome::Failed);
        windows.add_traffic(&[1.0, 5.0]);
        windows.advance(40.0 * 86_400_000.0);
        for window in [Window::Short, Window::Minute, Window::Five, Window::Quarter] {
            assert_eq!(windows.sums(window).figures, Figures::default());
        }
        assert_eq!(windows.totals(4320), Totals::default());
        let figures = windows.sums(Window::Lifetime).figures;
        assert_eq!(figures.requests(), 1);
        assert_eq!(figures.traffic(Traffic::BytesIn), 5.0);
        windows.advance(0.0);
        windows.advance(f64::NAN);
        assert_eq!(windows.uptime_ms(), 40.0 * 86_400_000.0);
    }
}
