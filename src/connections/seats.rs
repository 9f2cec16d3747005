//! The index of seats: how many connections there are per address, prefix and user, and in all.
//!
//! Owns the counts and the step that checks all limits and takes all seats, or none. Does not own
//! the limits themselves (`limits`), the maps that count (`counts`), or slots (`table`).

use super::address::Address;
use super::counts::{Counts, Local, Shared, Sharing};
use super::limits::{Limits, LiveLimits, Rates, Refusal, RefusalCode, refuse};
use super::user_key::{UserHashes, UserKey, UserKeys};
use crate::error::Error;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

#[derive(Default, Clone, Copy, PartialEq)]
struct Seats {
    all: u32,
    anonymous: u32,
}

/// Seats of one table ([`Local`]), or of all the tables that share one name ([`Shared`]).
pub struct SeatIndex<R: Sharing> {
    /// IPv4, apart: with keys of 4 bytes an entry takes half the memory.
    v4: R::Counts<u32, Seats, ahash::RandomState>,
    v6: R::Counts<Address, Seats, ahash::RandomState>,
    prefixes: R::Counts<Address, u32, ahash::RandomState>,
    users: R::Counts<UserKey, u32, UserHashes>,
    /// Seats taken (high half) and those without a user (low half): one word, so that both are
    /// checked and taken in one step.
    taken: AtomicU64,
    draining: AtomicBool,
    limits: LiveLimits,
    rates: Mutex<Rates>,
    declared: Limits,
    user_keys: UserKeys,
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<SeatIndex<Shared>>>>> =
    LazyLock::new(Mutex::default);

/// Opens the index of that name, or makes it.
///
/// # Errors
/// [`Error::LimitsConflict`] when it is open with other declared limits.
pub fn open(name: &str, limits: Limits) -> Result<Arc<SeatIndex<Shared>>, Error> {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = named.get(name).and_then(Weak::upgrade) {
        return match index.declared.difference(&limits) {
            None => Ok(index),
            Some(field) => Err(Error::LimitsConflict { field }),
        };
    }
    named.retain(|_, index| index.strong_count() > 0);
    let index = Arc::new(SeatIndex::new(limits));
    named.insert(name.to_owned(), Arc::downgrade(&index));
    Ok(index)
}

/// What a table asks of its index, whoever else uses it.
pub trait Admission {
    /// The key of a user's name, in UTF-16 units.
    fn user_key(&self, name: &[u16]) -> UserKey;

    /// Takes one seat in every count, or none.
    ///
    /// The keys are held until everything is taken, in the order address, prefix, user; the totals
    /// are one word. Nothing is taken before everything is checked, so there is nothing to roll
    /// back.
    ///
    /// # Errors
    /// The limit that said no; then nothing has changed.
    fn reserve(&self, address: Address, user: Option<UserKey>, now: f64) -> Result<(), Refusal>;

    /// Gives back the seats that [`Admission::reserve`] took for the same address and user.
    fn release(&self, address: Address, user: Option<UserKey>);

    /// Moves a seat from one user (or none) to another in one step.
    ///
    /// # Errors
    /// When the new user has its share already; then nothing has changed.
    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey) -> Result<(), Refusal>;

    /// Replaces the limits; the counts stay. The length of the prefix is fixed: seats are given
    /// back by the prefix they were taken by.
    fn set_limits(&self, limits: Limits);

    /// Whether [`Admission::reserve`] needs the time.
    fn has_rates(&self) -> bool;

    /// Refuses newcomers from now on, or admits them again.
    fn set_draining(&self, draining: bool);

    /// Seats taken.
    fn total(&self) -> u32;

    /// Seats taken, addresses, users, and seats without a user.
    fn counts(&self) -> [u32; 4];
}

impl<R: Sharing> SeatIndex<R> {
    /// An index of its own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let index = Self {
            v4: Default::default(),
            v6: Default::default(),
            prefixes: Default::default(),
            users: Default::default(),
            taken: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            limits: LiveLimits::default(),
            rates: Mutex::default(),
            declared: limits,
            user_keys: UserKeys::default(),
        };
        index.set_limits(limits);
        index
    }

    /// The prefix that `address` is counted under.
    fn prefix_of(&self, address: Address) -> Option<Address> {
        address.prefix(self.declared.prefix_bits)
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        // Nothing in the critical sections can panic half-way; the state is whole.
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is counted for `address`.
    fn at_address<T>(&self, address: Address, change: impl FnOnce(&mut Seats) -> T) -> T {
        match address.v4() {
            Some(v4) => self.v4.with(v4, change),
            None => self.v6.with(address, change),
        }
    }

    fn reserve_at(
        &self,
        seats: &mut Seats,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), Refusal> {
        let limits = &self.limits;
        if address == Address::UNKNOWN {
            if seats.all >= limits.unknown.load(Relaxed) {
                return refuse(RefusalCode::Unknown);
            }
        } else if seats.all >= limits.per_ip.load(Relaxed) {
            return refuse(RefusalCode::Ip);
        }
        match user {
            Some(user) => self.users.with(user, |count| {
                if *count >= limits.per_user.load(Relaxed) {
                    // Rates first: `User` invites the caller to make room, in vain if a rate
                    // refuses then.
                    if self.has_rates() {
                        self.rates().check(address, Some(user), now)?;
                    }
                    return refuse(RefusalCode::User);
                }
                self.take(address, Some(user), now)?;
                *count += 1;
                Ok(())
            })?,
            None => {
                if seats.anonymous >= limits.anonymous_per_ip.load(Relaxed) {
                    return refuse(RefusalCode::AnonymousIp);
                }
                self.take(address, None, now)?;
            }
        }
        seats.all += 1;
        seats.anonymous += u32::from(user.is_none());
        Ok(())
    }

    /// The rates and the totals: the last things checked, and taken at once.
    fn take(&self, address: Address, user: Option<UserKey>, now: f64) -> Result<(), Refusal> {
        // Held until the totals are taken: a rate is spent only by who is admitted.
        let mut rates = self.has_rates().then(|| self.rates());
        let next = match &mut rates {
            Some(rates) => rates.check(address, user, now)?,
            None => (None, None),
        };
        let total = self.limits.total.load(Relaxed);
        let anonymous = self.limits.anonymous.load(Relaxed);
        let one_more = |taken| {
            let fits =
                total_of(taken) < total && (user.is_some() || anonymous_of(taken) < anonymous);
            fits.then(|| taken + seat(user))
        };
        R::update(&self.taken, one_more).map_err(|taken| Refusal {
            code: if total_of(taken) >= total {
                RefusalCode::Total
            } else {
                RefusalCode::Anonymous
            },
            retry_after_ms: 0.0,
        })?;
        if let Some(rates) = &mut rates {
            rates.spend(address, user, next);
        }
        Ok(())
    }

    /// Takes so much from the word of totals.
    fn give_back(&self, seats: u64) {
        let before = R::update(&self.taken, |taken| taken.checked_sub(seats));
        debug_assert!(before.is_ok());
    }
}

impl<R: Sharing> Admission for SeatIndex<R> {
    fn user_key(&self, name: &[u16]) -> UserKey {
        self.user_keys.key(name)
    }

    fn reserve(&self, address: Address, user: Option<UserKey>, now: f64) -> Result<(), Refusal> {
        let limits = &self.limits;
        if self.draining.load(Relaxed) {
            return refuse(RefusalCode::Draining);
        }
        if total_of(self.taken.load(Relaxed)) >= limits.total.load(Relaxed) {
            return refuse(RefusalCode::Total);
        }
        self.at_address(address, |seats| match self.prefix_of(address) {
            // Prefixes are counted even while they have no limit: one may come at run time.
            Some(prefix) => self.prefixes.with(prefix, |count| {
                if *count >= limits.per_prefix.load(Relaxed) {
                    return refuse(RefusalCode::Prefix);
                }
                self.reserve_at(seats, address, user, now)?;
                *count += 1;
                Ok(())
            }),
            None => self.reserve_at(seats, address, user, now),
        })
    }

    fn release(&self, address: Address, user: Option<UserKey>) {
        self.at_address(address, |seats| {
            debug_assert!(seats.all > 0);
            seats.all = seats.all.saturating_sub(1);
            seats.anonymous = seats.anonymous.saturating_sub(u32::from(user.is_none()));
        });
        if let Some(prefix) = self.prefix_of(address) {
            self.prefixes.with(prefix, one_less);
        }
        if let Some(user) = user {
            self.users.with(user, one_less);
        }
        self.give_back(seat(user));
    }

    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey) -> Result<(), Refusal> {
        if from == Some(to) {
            return Ok(());
        }
        let limit = self.limits.per_user.load(Relaxed);
        self.at_address(address, |seats| {
            self.users.with(to, |count| {
                if *count >= limit {
                    return refuse(RefusalCode::User);
                }
                *count += 1;
                Ok(())
            })?;
            match from {
                Some(from) => self.users.with(from, one_less),
                None => {
                    seats.anonymous = seats.anonymous.saturating_sub(1);
                    self.give_back(1);
                }
            }
            Ok(())
        })
    }

    fn set_limits(&self, limits: Limits) {
        // Held throughout: limits and rates that two threads set at once must not be mixed.
        let mut rates = self.rates();
        self.limits.store(limits);
        rates.replace(limits);
    }

    fn has_rates(&self) -> bool {
        self.limits.has_rates.load(Relaxed)
    }

    fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    fn total(&self) -> u32 {
        total_of(self.taken.load(Relaxed))
    }

    fn counts(&self) -> [u32; 4] {
        let taken = self.taken.load(Relaxed);
        [
            total_of(taken),
            (self.v4.len() + self.v6.len()) as u32,
            self.users.len() as u32,
            anonymous_of(taken),
        ]
    }
}

/// The index of a table.
pub enum Scope {
    /// Nobody else's.
    Own(Box<SeatIndex<Local>>),
    /// That of all tables of a name.
    Named(Arc<SeatIndex<Shared>>),
}

impl Scope {
    /// The index, whosever it is.
    #[must_use]
    pub fn admission(&self) -> &dyn Admission {
        match self {
            Self::Own(index) => &**index,
            Self::Named(index) => &**index,
        }
    }
}

const fn total_of(taken: u64) -> u32 {
    (taken >> 32) as u32
}

const fn anonymous_of(taken: u64) -> u32 {
    taken as u32
}

/// What one seat adds to the word of totals.
const fn seat(user: Option<UserKey>) -> u64 {
    (1 << 32) + if user.is_none() { 1 } else { 0 }
}

fn one_less(count: &mut u32) {
    debug_assert!(*count > 0);
    *count = count.saturating_sub(1);
}
