//! The level of memory pressure, from percentages, with hysteresis.
//!
//! ```text
//!        2 samples above, or 1 that is 5 points above
//!   ok ─────────────▶ warning ─────────────▶ critical
//!      ◀─────────────         ◀─────────────
//!        3 samples 5 points below, and 15 s in the level
//! ```
//! A rising level may skip `warning`. The numbers follow those of supervisors (a band of a tenth in
//! Platformatic's Watt, 3 failures and 1 success in Kubernetes' probes).

/// The level of memory pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// Below the warning threshold.
    #[default]
    Ok = 0,
    /// Above the warning threshold.
    Warning = 1,
    /// Above the critical threshold.
    Critical = 2,
}

/// Thresholds of the levels, percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Threshold of `Warning`.
    pub warning: f64,
    /// Threshold of `Critical`.
    pub critical: f64,
}

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition {
    /// The level before.
    pub from: Level,
    /// The level after.
    pub to: Level,
    /// The percentage that caused the change.
    pub percent: f64,
}

const BAND: f64 = 5.0;
const ENTER_SAMPLES: u32 = 2;
const LEAVE_SAMPLES: u32 = 3;
const STAY_MS: f64 = 15_000.0;

/// Derives the level from samples.
#[derive(Debug, Clone)]
pub struct PressureGauge {
    thresholds: Thresholds,
    level: Level,
    entered_ms: f64,
    above: u32,
    below: u32,
    is_new: bool,
}

impl PressureGauge {
    /// Creates a gauge at `Ok`; the first sample sets the level at once.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            level: Level::Ok,
            entered_ms: f64::NEG_INFINITY,
            above: 0,
            below: 0,
            is_new: true,
        }
    }

    /// Returns the level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    fn begins(&self, level: Level) -> f64 {
        match level {
            Level::Ok => f64::NEG_INFINITY,
            Level::Warning => self.thresholds.warning,
            Level::Critical => self.thresholds.critical,
        }
    }

    fn level_of(&self, percent: f64) -> Level {
        if percent >= self.thresholds.critical {
            Level::Critical
        } else if percent >= self.thresholds.warning {
            Level::Warning
        } else {
            Level::Ok
        }
    }

    /// Takes a sample; NaN changes nothing.
    pub fn sample(&mut self, now_ms: f64, percent: f64) -> Option<Transition> {
        if !percent.is_finite() {
            return None;
        }
        let aim = self.level_of(percent);
        let is_first = std::mem::replace(&mut self.is_new, false);
        if aim > self.level {
            self.above += 1;
            self.below = 0;
            let is_clear = percent >= self.begins(aim) + BAND;
            if self.above >= ENTER_SAMPLES || is_clear || is_first {
                return Some(self.enter(now_ms, aim, percent));
            }
            return None;
        }
        self.above = 0;
        let floor = self.begins(self.level) - BAND;
        if percent >= floor {
            self.below = 0;
            return None;
        }
        self.below += 1;
        if self.below < LEAVE_SAMPLES || now_ms - self.entered_ms < STAY_MS {
            return None;
        }
        // Falls to the level whose band contains the sample: 5 points below critical is still
        // warning.
        let to = if self.level == Level::Critical && percent >= self.thresholds.warning - BAND {
            Level::Warning
        } else {
            Level::Ok
        };
        Some(self.enter(now_ms, to, percent))
    }

    fn enter(&mut self, now_ms: f64, to: Level, percent: f64) -> Transition {
        let from = self.level;
        debug_assert!(from != to);
        self.level = to;
        self.entered_ms = now_ms;
        self.above = 0;
        self.below = 0;
        Transition { from, to, percent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gauge() -> PressureGauge {
        PressureGauge::new(Thresholds {
            warning: 75.0,
            critical: 90.0,
        })
    }

    #[test]
    fn a_level_rises_after_two_samples_or_one_clear_one() {
        let mut gauge = gauge();
        assert_eq!(gauge.sample(0.0, 70.0), None);
        assert_eq!(gauge.sample(0.0, 76.0), None);
        assert_eq!(gauge.sample(1.0, 74.0), None);
        assert_eq!(gauge.sample(2.0, 76.0), None);
        assert_eq!(gauge.sample(3.0, 76.0).map(|t| t.to), Some(Level::Warning));
        assert_eq!(
            gauge.sample(4.0, 95.0).map(|t| (t.from, t.to)),
            Some((Level::Warning, Level::Critical))
        );
    }

    #[test]
    fn the_first_sample_sets_the_level() {
        assert_eq!(
            gauge().sample(0.0, 91.0).map(|t| t.to),
            Some(Level::Critical)
        );
    }

    #[test]
    fn a_level_falls_after_three_samples_below_the_band_and_15_s() {
        let mut gauge = gauge();
        gauge.sample(0.0, 99.0);
        for at in 1..20 {
            assert_eq!(
                gauge.sample(f64::from(at) * 1000.0, 86.0),
                None,
                "within the band"
            );
        }
        assert_eq!(gauge.sample(20_000.0, 84.0), None);
        assert_eq!(gauge.sample(21_000.0, 84.0), None);
        assert_eq!(
            gauge.sample(22_000.0, 84.0).map(|t| t.to),
            Some(Level::Warning)
        );
        for at in 0..15 {
            assert_eq!(gauge.sample(22_000.0 + f64::from(at) * 1000.0, 10.0), None);
        }
        assert_eq!(gauge.sample(37_000.0, 10.0).map(|t| t.to), Some(Level::Ok));
    }

    #[test]
    fn nan_changes_nothing() {
        let mut gauge = gauge();
        for percent in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(gauge.sample(0.0, percent), None);
        }
        assert_eq!(gauge.level(), Level::Ok);
    }

    proptest! {
        #[test]
        fn noise_of_3_points_at_a_threshold_changes_the_level_once_in_30_s_at_most(
            threshold in prop::sample::select(vec![75.0, 90.0]),
            noise in prop::collection::vec(-3.0f64..=3.0, 3000),
        ) {
            let mut gauge = gauge();
            let mut changes: Vec<f64> = Vec::new();
            for (at, noise) in noise.into_iter().enumerate() {
                let now = at as f64 * 10.0;
                if gauge.sample(now, threshold + noise).is_some() {
                    changes.push(now);
                }
            }
            // 85 enters warning before the noise around 90 begins: at most one change for each.
            let most = if threshold > 80.0 { 2 } else { 1 };
            prop_assert!(changes.len() <= most, "{changes:?}");
        }

        #[test]
        fn a_lasting_percentage_sets_its_level(percent in 0.0f64..120.0) {
            let mut gauge = gauge();
            for at in 0..10 {
                gauge.sample(f64::from(at) * 1000.0, percent);
            }
            let expected = if percent >= 90.0 { Level::Critical } else if percent >= 75.0 { Level::Warning } else { Level::Ok };
            prop_assert_eq!(gauge.level(), expected);
        }
    }
}
