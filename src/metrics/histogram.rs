//! A histogram of durations with 128 buckets per power of two, so that no value is further than
//! 1/256 (0.39 %) from the middle of its bucket.
//!
//! The bucket of a double is its exponent and the first seven bits of its mantissa, taken from its
//! bits: no logarithm and no search. The range is 2^-10 ms (1 µs) to 2^42 ms (139 years), which no
//! clock exceeds; shorter durations fall into the first bucket. The ledger counts longer ones as the
//! longest, so that sum, maximum and quantiles agree.

const SUB_BITS: u32 = 7;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - SUB_BITS;
const LOWEST: u64 = (1023 - 10) << SUB_BITS;
/// The number of buckets.
pub const BUCKETS: usize = 52 << SUB_BITS;
/// The longest duration, ms.
pub const LONGEST_MS: f64 = (1u64 << 42) as f64;
/// The number of pairs of buckets, which routes count by.
pub const PAIRS: usize = BUCKETS / 2;
/// The number of pairs in one power of two.
pub const PAIRS_PER_POWER: usize = 1 << (SUB_BITS - 1);

/// Returns the bucket of a finite duration of at least 0.
#[must_use]
pub fn bucket_of(duration_ms: f64) -> usize {
    // Without the sign, which a zero may have.
    let place = duration_ms.abs().to_bits() >> SHIFT;
    (place.saturating_sub(LOWEST) as usize).min(BUCKETS - 1)
}

/// Returns the shortest duration of a bucket.
#[must_use]
pub fn lower_edge(bucket: usize) -> f64 {
    f64::from_bits((bucket as u64 + LOWEST) << SHIFT)
}

/// Quantiles by nearest rank, ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum, exact.
    pub max: f64,
    /// Arithmetic mean, exact.
    pub mean: f64,
}

const SHARES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// Returns the quantiles of counts by `width` neighbouring buckets: 1, or 2 for pairs. Counts may end
/// early, the missing ones are zero. `None` if all counts are zero.
#[must_use]
pub fn quantiles(counts: &[u64], width: usize, sum: f64, max: f64) -> Option<Quantiles> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let mut found = [max; SHARES.len()];
    let mut next = 0;
    let mut seen = 0;
    for (at, &count) in counts.iter().enumerate() {
        if count == 0 {
            continue;
        }
        seen += count;
        while next < SHARES.len() && seen as f64 >= (SHARES[next] * total as f64).ceil() {
            let middle = f64::midpoint(lower_edge(at * width), lower_edge((at + 1) * width));
            // The middle of a bucket may lie above the maximum, which is known exactly.
            found[next] = middle.min(max);
            next += 1;
        }
    }
    let [p50, p90, p95, p99, p999] = found;
    let mean = sum / total as f64;
    Some(Quantiles {
        p50,
        p90,
        p95,
        p99,
        p999,
        max,
        mean,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(values: &[f64], width: usize) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS / width];
        for value in values {
            counts[bucket_of(*value) / width] += 1;
        }
        counts
    }

    proptest! {
        /// A bucket starts at its edge and ends before the next edge.
        #[test]
        fn a_duration_lies_in_its_bucket(exponent in -9.9f64..41.99) {
            let duration = exponent.exp2();
            let bucket = bucket_of(duration);
            prop_assert!(lower_edge(bucket) <= duration && duration < lower_edge(bucket + 1));
        }

        /// Quantiles lie within 1/256 of those of a sorted list; within 1/128 for pairs.
        #[test]
        fn quantiles_agree_with_a_sorted_list(exponents in prop::collection::vec(-9.9f64..41.99, 1..400)) {
            let mut values: Vec<f64> = exponents.iter().map(|exponent| exponent.exp2()).collect();
            let sum = values.iter().sum();
            values.sort_by(f64::total_cmp);
            let max = values[values.len() - 1];
            for (width, allowed) in [(1, 1.0 / 256.0), (2, 1.0 / 128.0)] {
                let Some(found) = quantiles(&counted(&values, width), width, sum, max) else {
                    return Err(TestCaseError::fail("nothing was counted"));
                };
                for (share, quantile) in SHARES.into_iter().zip([found.p50, found.p90, found.p95, found.p99, found.p999]) {
                    let exact = values[(share * values.len() as f64).ceil() as usize - 1];
                    prop_assert!((quantile / exact - 1.0).abs() <= allowed + 1e-12, "{} of {}", quantile, exact);
                }
            }
        }

        /// Quantiles agree with those of HdrHistogram within the error of both.
        #[test]
        fn quantiles_agree_with_hdrhistogram(exponents in prop::collection::vec(-3.0f64..16.0, 1..400)) {
            let values: Vec<f64> = exponents.iter().map(|exponent| exponent.exp2()).collect();
            // Ten thousandths of a millisecond, with four significant digits.
            let mut other = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1 << 40, 4)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            for value in &values {
                other.saturating_record((value * 10_000.0).round() as u64);
            }
            let max = values.iter().copied().fold(0.0, f64::max);
            let Some(found) = quantiles(&counted(&values, 1), 1, 0.0, max) else {
                return Err(TestCaseError::fail("nothing was counted"));
            };
            for (share, quantile) in SHARES.into_iter().zip([found.p50, found.p90, found.p95, found.p99, found.p999]) {
                let theirs = other.value_at_quantile(share) as f64 / 10_000.0;
                prop_assert!((quantile / theirs - 1.0).abs() <= 0.005 + 0.001, "{} against {}", quantile, theirs);
            }
        }
    }

    #[test]
    fn durations_out_of_range_fall_into_the_outermost_buckets() {
        assert_eq!(bucket_of(0.0), 0);
        assert_eq!(bucket_of(-0.0), 0);
        assert_eq!(bucket_of(f64::MIN_POSITIVE), 0);
        assert_eq!(bucket_of(f64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(LONGEST_MS), BUCKETS - 1);
        assert_eq!(lower_edge(BUCKETS), LONGEST_MS);
    }

    #[test]
    fn no_values_have_no_quantiles_and_one_value_is_every_quantile() {
        assert_eq!(quantiles(&[0; BUCKETS], 1, 0.0, 0.0), None);
        let one = quantiles(&counted(&[0.0], 1), 1, 0.0, 0.0);
        assert_eq!(one.map(|found| (found.p50, found.p999)), Some((0.0, 0.0)));
    }
}
