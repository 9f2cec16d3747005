//! This member's share of the connect rates, which it counts itself while the policy decides.
//!
//! A share is the rate divided by the members, with a burst of at least 1: all members together pass the rate by
//! nothing but these bursts. Keys are counted in a bounded table, as those of a `RateLimiter` are.

use super::super::column::Name;
use crate::limiter::{Kind, Limiter, Quota, Settings};

/// Keys of a rate that are counted at once.
const KEYS_MAX: usize = 65_536;
/// Parts of a millisecond in which a short interval is counted: a quota has whole numbers.
const PARTS: f64 = 1e6;
/// Interval from which on whole milliseconds are exact enough, ms.
const LONG_MS: f64 = 1e4;

/// The counts of one rate, with the rate and the members that they hold for.
struct Counted {
    rate: [f64; 2],
    members: u32,
    limiter: Limiter,
}

impl Counted {
    fn new(rate: [f64; 2], members: u32) -> Self {
        let [interval_ms, burst] = rate;
        let interval_ms = interval_ms * f64::from(members);
        let limit = if interval_ms < LONG_MS { PARTS } else { 1.0 };
        let quota = Quota {
            limit,
            window_ms: (interval_ms * limit).round(),
            burst: (burst / f64::from(members)).floor().max(1.0),
        };
        let settings = Settings {
            kind: Kind::Gcra,
            quota,
            max_keys: KEYS_MAX,
        };
        Self {
            rate,
            members,
            limiter: Limiter::new(&settings),
        }
    }
}

/// The shares of the connect rates of networks and of users.
#[derive(Default)]
pub(super) struct RateShares([Option<Counted>; 2]);

impl RateShares {
    /// Spends one connect of each key that has a rate, all or none. Every key has its whole share again if the rate or
    /// the number of members has changed.
    pub(super) fn spend(
        &mut self,
        now: f64,
        members: u32,
        rates: [[f64; 2]; 2],
        keys: [Option<Name>; 2],
    ) -> bool {
        for (counted, rate) in self.0.iter_mut().zip(rates) {
            let is_same = |known: &Counted| known.rate == rate && known.members == members;
            if rate[0] <= 0.0 || members == 0 {
                *counted = None;
            } else if !counted.as_ref().is_some_and(is_same) {
                *counted = Some(Counted::new(rate, members));
            }
        }
        let mut spent: Vec<(&mut Limiter, [u16; 8])> = self
            .0
            .iter_mut()
            .zip(keys)
            .filter_map(|(counted, key)| Some((&mut counted.as_mut()?.limiter, units(key?))))
            .collect();
        let has_room =
            |(limiter, key): &mut (&mut Limiter, [u16; 8])| limiter.peek(key, 1.0, now).admitted;
        if !spent.iter_mut().all(has_room) {
            return false;
        }
        for (limiter, key) in &mut spent {
            limiter.take(key, 1.0, now);
        }
        true
    }
}

/// Returns a digest as the units of a key.
fn units(name: Name) -> [u16; 8] {
    let mut units = [0; 8];
    for (at, unit) in units.iter_mut().enumerate() {
        *unit = (name.digest >> (16 * at)) as u16;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::super::super::column::Scope;
    use super::*;
    use proptest::prelude::*;

    fn key(digest: u128) -> Option<Name> {
        let scope = Scope::User;
        Some(Name { scope, digest })
    }

    proptest! {
        /// In any stretch of time the members admit together no more than the rate, and their bursts.
        #[test]
        fn all_members_together_keep_the_rate(
            interval_ms in 0.01f64..100_000.0,
            burst in 1u32..50,
            members in 1u32..10,
            pauses in prop::collection::vec(0.0f64..3.0, 1..300),
        ) {
            let rate = [interval_ms, f64::from(burst)];
            let mut all: Vec<_> = (0..members).map(|_| RateShares::default()).collect();
            let (mut now, mut admitted) = (1e6, 0.0);
            let bursts = f64::from((burst / members).max(1) * members);
            for one in &mut all {
                for _ in 0..burst + 1 {
                    let is_admitted = one.spend(now, members, [rate, [0.0; 2]], [key(1), key(2)]);
                    admitted += f64::from(u8::from(is_admitted));
                }
            }
            prop_assert_eq!(admitted, bursts);
            for pause in pauses {
                now += pause * interval_ms / f64::from(members);
                for one in &mut all {
                    let is_admitted = one.spend(now, members, [rate, [0.0; 2]], [key(1), key(2)]);
                    admitted += f64::from(u8::from(is_admitted));
                }
            }
            let most = bursts + (now - 1e6) / interval_ms * 1.002 + f64::from(members);
            prop_assert!(admitted <= most, "{} of {}", admitted, most);
        }
    }

    #[test]
    fn a_client_whose_user_is_over_its_share_spends_nothing_of_its_address() {
        let mut shares = RateShares::default();
        let rates = [[1000.0, 4.0], [1000.0, 2.0]];
        let mut spend = |user| shares.spend(0.0, 2, rates, [key(1), key(user)]);
        assert_eq!(
            [spend(7), spend(7), spend(8), spend(9)],
            [true, false, true, false]
        );
    }
}
