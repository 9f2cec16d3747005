//! Delays of an event loop: histograms over the last minute and over all time.
//!
//! The watcher challenges the loop at its own times, so that a block delays its challenges as often
//! as it would delay events from outside. The one coordinated omission is that no challenge is sent
//! while one waits for its answer. The challenges left out are recorded with the delay they would
//! have had (Gil Tene's correction).

use super::sample::Dated;
use hdrhistogram::Histogram;

/// Length of one of the windows that make up the last minute.
const WINDOW_MS: f64 = 10_000.0;
const WINDOWS: usize = 6;
/// One hour, in µs: longer delays are recorded as this.
const LONGEST_US: u64 = 3_600_000_000;
/// Significant digits: quantiles are exact to 1 %.
const DIGITS: u8 = 2;

/// Quantiles, ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Minimum.
    pub min: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Number of delays recorded.
    pub count: u64,
}

/// Delays of one loop, or of several.
#[derive(Debug, Clone)]
pub struct Delays {
    windows: Vec<Histogram<u64>>,
    current: usize,
    began_ms: f64,
    all: Histogram<u64>,
    latest_ms: Option<f64>,
}

fn empty() -> Histogram<u64> {
    // The library accepts these constant bounds.
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).unwrap_or_else(|_| unreachable!())
}

impl Delays {
    /// Creates an empty record.
    #[must_use]
    pub fn new(now_ms: f64) -> Self {
        Self {
            windows: (0..WINDOWS).map(|_| empty()).collect(),
            current: 0,
            began_ms: now_ms,
            all: empty(),
            latest_ms: None,
        }
    }

    /// Records a delay, and those of the challenges that it prevented, one every `every_ms`.
    pub fn record(&mut self, now_ms: f64, delay_ms: f64, every_ms: f64) {
        self.advance(now_ms);
        self.latest_ms = Some(now_ms);
        let mut rest = delay_ms;
        loop {
            let microseconds = (rest.max(0.0) * 1000.0) as u64;
            self.windows[self.current].saturating_record(microseconds);
            self.all.saturating_record(microseconds);
            rest -= every_ms;
            if rest <= 0.0 {
                return;
            }
        }
    }

    /// Records `times` events without delay.
    pub fn record_none(&mut self, now_ms: f64, times: u64) {
        self.advance(now_ms);
        self.latest_ms = Some(now_ms);
        self.windows[self.current].saturating_record_n(0, times);
        self.all.saturating_record_n(0, times);
    }

    /// Moves to the window of that time.
    fn advance(&mut self, now_ms: f64) {
        let passed = ((now_ms - self.began_ms) / WINDOW_MS).floor();
        if passed < 1.0 {
            return;
        }
        for _ in 0..(passed as usize).min(WINDOWS) {
            self.current = (self.current + 1) % WINDOWS;
            self.windows[self.current].reset();
        }
        self.began_ms += passed * WINDOW_MS;
    }

    /// Returns the delays of the last 50 to 60 s.
    #[must_use]
    pub fn last_minute(&mut self, now_ms: f64) -> DelaySum {
        self.advance(now_ms);
        let mut sum = DelaySum::default();
        for window in &self.windows {
            sum.add_histogram(window, self.latest_ms);
        }
        sum
    }

    /// Returns the delays of all time.
    #[must_use]
    pub fn lifetime(&self) -> DelaySum {
        DelaySum {
            histogram: self.all.clone(),
            latest_ms: self.latest_ms,
        }
    }
}

/// Delays of one span of time, of one loop or of several: quantiles of a sum are those of all loops
/// together and not means of quantiles.
#[derive(Debug, Clone)]
pub struct DelaySum {
    histogram: Histogram<u64>,
    latest_ms: Option<f64>,
}

impl Default for DelaySum {
    fn default() -> Self {
        Self {
            histogram: empty(),
            latest_ms: None,
        }
    }
}

impl DelaySum {
    /// Adds the delays of another loop.
    pub fn add(&mut self, other: &Self) {
        self.add_histogram(&other.histogram, other.latest_ms);
    }

    fn add_histogram(&mut self, histogram: &Histogram<u64>, latest_ms: Option<f64>) {
        if histogram.is_empty() {
            return;
        }
        // Cannot fail: the bounds are equal.
        let _ = self.histogram.add(histogram);
        self.latest_ms = match (self.latest_ms, latest_ms) {
            (Some(mine), Some(theirs)) => Some(mine.max(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Returns the quantiles with the time of the latest delay; `None` if there are no delays.
    #[must_use]
    pub fn quantiles(&self) -> Option<Dated<Quantiles>> {
        Some(Dated::new(quantiles(&self.histogram)?, self.latest_ms?))
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    if histogram.is_empty() {
        return None;
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Some(Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1000.0,
        mean: histogram.mean() / 1000.0,
        min: histogram.min() as f64 / 1000.0,
        deviation: histogram.stdev() / 1000.0,
        count: histogram.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_delays_have_no_quantiles() {
        assert_eq!(Delays::new(0.0).last_minute(5.0).quantiles(), None);
        assert_eq!(Delays::new(0.0).lifetime().quantiles(), None);
    }

    #[test]
    fn delays_leave_the_last_minute_but_not_all_time() {
        let mut delays = Delays::new(0.0);
        delays.record(0.0, 5.0, 20.0);
        assert_eq!(
            delays
                .last_minute(49_999.0)
                .quantiles()
                .map(|q| q.value.count),
            Some(1)
        );
        assert_eq!(delays.last_minute(60_000.0).quantiles(), None);
        assert_eq!(
            delays.lifetime().quantiles().map(|q| q.value.count),
            Some(1)
        );
        delays.record(1e9, 1.0, 20.0);
        assert_eq!(
            delays.last_minute(1e9).quantiles().map(|q| q.value.count),
            Some(1)
        );
    }

    #[test]
    fn a_block_counts_for_every_challenge_that_it_prevented() {
        let mut delays = Delays::new(0.0);
        delays.record(0.0, 1000.0, 20.0);
        let quantiles = delays.lifetime().quantiles().unwrap().value;
        assert_eq!(quantiles.count, 50);
        assert!((quantiles.p50 - 500.0).abs() < 25.0, "{quantiles:?}");
    }

    #[test]
    fn quantiles_of_two_loops_are_those_of_all_their_delays() {
        let (mut fast, mut slow) = (Delays::new(0.0), Delays::new(0.0));
        (0..99).for_each(|_| fast.record(0.0, 1.0, 20.0));
        slow.record(0.0, 19.0, 20.0);
        let mut sum = fast.lifetime();
        sum.add(&slow.lifetime());
        let both = sum.quantiles().unwrap().value;
        assert!(
            (both.p99 - 1.0).abs() < 0.02 && (both.max - 19.0).abs() < 0.2,
            "{both:?}"
        );
    }

    proptest! {
        #[test]
        fn quantiles_are_within_1_percent_of_a_sorted_list(mut list in prop::collection::vec(0.01f64..19.0, 1..500)) {
            let mut delays = Delays::new(0.0);
            list.iter().for_each(|delay| delays.record(0.0, *delay, 20.0));
            list.sort_by(f64::total_cmp);
            let quantiles = delays.lifetime().quantiles().unwrap().value;
            for (quantile, found) in [(0.5, quantiles.p50), (0.9, quantiles.p90), (0.99, quantiles.p99)] {
                let exact = list[((list.len() as f64 * quantile).ceil() as usize - 1).min(list.len() - 1)];
                prop_assert!((found - exact).abs() <= exact * 0.01 + 0.001, "{} {} {}", quantile, found, exact);
            }
        }
    }
}
