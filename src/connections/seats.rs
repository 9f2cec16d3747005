//! The index of seats: connections per address, per prefix, per user and in total.
//!
//! Owns the counts, and the step that checks all limits and takes all seats, or none. Does not own
//! the limits (`limits`), the maps of counts (`counts`), or the slots (`table`).

use super::address::Address;
use super::counts::{Counts, Local, Shared, Sharing};
use super::limits::{Limits, LiveLimits, NO_LIMIT, Rates, Refusal, RefusalCode, refuse};
use super::user_key::{UserHashes, UserKey, UserKeys};
use crate::error::Error;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// The time of an admission that no limit of one client's keys refuses. Connect rates are the only
/// limits with a time, and no client is ever refused for its rate at the end of time.
pub const EXEMPT: f64 = f64::INFINITY;

#[derive(Default, Clone, Copy, PartialEq)]
struct Seats {
    all: u32,
    anonymous: u32,
}

/// Seats of one table ([`Local`]), or of all tables with one name ([`Shared`]).
pub struct SeatIndex<R: Sharing> {
    /// IPv4 has its own map: keys of 4 bytes halve the memory of an entry.
    v4: R::Counts<u32, Seats, ahash::RandomState>,
    v6: R::Counts<Address, Seats, ahash::RandomState>,
    prefixes: R::Counts<Address, u32, ahash::RandomState>,
    users: R::Counts<UserKey, u32, UserHashes>,
    /// All seats (high half) and anonymous seats (low half), in one word so that both are checked
    /// and taken in one step.
    taken: AtomicU64,
    draining: AtomicBool,
    limits: LiveLimits,
    rates: Mutex<Rates>,
    declared: Limits,
    user_keys: UserKeys,
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<SeatIndex<Shared>>>>> =
    LazyLock::new(Mutex::default);

/// Opens the index of that name, or creates it.
///
/// # Errors
/// [`Error::LimitsConflict`] if the index is open with other declared limits.
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

/// The operations of an index that a table uses, with either kind of sharing.
pub trait Admission {
    /// Returns the key of a user name given in UTF-16 units.
    fn user_key(&self, name: &[u16]) -> UserKey;

    /// Takes one seat in every count, or none.
    ///
    /// The entries stay locked in the order address, prefix, user until everything is taken; the
    /// totals are one word. Nothing is taken before everything is checked, so nothing needs to be
    /// rolled back.
    ///
    /// At the time [`EXEMPT`] the client is exempt: it is counted as any other, but only the totals
    /// and the limit of its user can refuse it.
    ///
    /// # Errors
    /// The limit that refused; nothing has changed then.
    fn reserve(&self, address: Address, user: Option<UserKey>, now: f64) -> Result<(), Refusal>;

    /// Gives back the seats that [`Admission::reserve`] took for the same address and user.
    fn release(&self, address: Address, user: Option<UserKey>);

    /// Moves a seat from one user (or none) to another in one step.
    ///
    /// # Errors
    /// The limit of the new user is reached; nothing has changed then.
    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey) -> Result<(), Refusal>;

    /// Replaces the limits; the counts stay. The prefix length stays too: a seat must be given back
    /// under the prefix that it was taken under.
    fn set_limits(&self, limits: Limits);

    /// True if [`Admission::reserve`] needs the time.
    fn has_rates(&self) -> bool;

    /// Starts or stops refusing all new connections.
    fn set_draining(&self, draining: bool);

    /// Returns the seats taken.
    fn total(&self) -> u32;

    /// Returns the numbers of seats, addresses, users, and anonymous seats.
    fn counts(&self) -> [u32; 4];
}

impl<R: Sharing> SeatIndex<R> {
    /// Creates an index without a name.
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

    /// Returns the prefix that counts `address`.
    fn prefix_of(&self, address: Address) -> Option<Address> {
        address.prefix(self.declared.prefix_bits)
    }

    /// Returns the network whose connect rate `address` spends.
    fn network_of(&self, address: Address) -> Address {
        address.network(self.declared.prefix_bits)
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        // No critical section can panic half-way, so a poisoned lock still holds valid state.
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `change` with the seats of `address`.
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
            if seats.all >= limit_at(&limits.unknown, now) {
                return refuse(RefusalCode::Unknown);
            }
        } else if seats.all >= limit_at(&limits.per_ip, now) {
            return refuse(RefusalCode::Ip);
        }
        match user {
            Some(user) => self.users.with(user, |count| {
                if *count >= limits.per_user.load(Relaxed) {
                    // Check the rates first: on `User` the caller may close an old connection to
                    // make room, which would be in vain if a rate refused the new one.
                    if self.has_rates() && !is_exempt(now) {
                        let network = self.network_of(address);
                        self.rates().check(network, Some(user), now)?;
                    }
                    return refuse(RefusalCode::User);
                }
                self.take(address, Some(user), now)?;
                *count += 1;
                Ok(())
            })?,
            None => {
                if seats.anonymous >= limit_at(&limits.anonymous_per_ip, now) {
                    return refuse(RefusalCode::AnonymousIp);
                }
                self.take(address, None, now)?;
            }
        }
        seats.all += 1;
        seats.anonymous += u32::from(user.is_none());
        Ok(())
    }

    /// Checks the rates and the totals, which come last, and takes them in one step.
    fn take(&self, address: Address, user: Option<UserKey>, now: f64) -> Result<(), Refusal> {
        // The lock is held until the totals are taken: only an admitted connection spends rate.
        let mut rates = (self.has_rates() && !is_exempt(now)).then(|| self.rates());
        let network = self.network_of(address);
        let next = match &mut rates {
            Some(rates) => rates.check(network, user, now)?,
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
            rates.spend(network, user, next);
        }
        Ok(())
    }

    /// Subtracts seats from the word of totals.
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
            // Prefixes are counted even without a limit: one may be set at run time.
            Some(prefix) => self.prefixes.with(prefix, |count| {
                if *count >= limit_at(&limits.per_prefix, now) {
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
        // The lock is held throughout, so that concurrent calls do not mix their limits and rates.
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
    /// An index of this table only.
    Own(Box<SeatIndex<Local>>),
    /// The index that all tables with one name share.
    Named(Arc<SeatIndex<Shared>>),
}

impl Scope {
    /// Returns the index of either kind.
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

/// Returns the value that one seat adds to the word of totals.
const fn seat(user: Option<UserKey>) -> u64 {
    (1 << 32) + if user.is_none() { 1 } else { 0 }
}

/// Returns a limit of one client's keys, which does not hold for exempt clients.
fn limit_at(limit: &AtomicU32, now: f64) -> u32 {
    if is_exempt(now) {
        NO_LIMIT
    } else {
        limit.load(Relaxed)
    }
}

const fn is_exempt(now: f64) -> bool {
    now.is_infinite()
}

fn one_less(count: &mut u32) {
    debug_assert!(*count > 0);
    *count = count.saturating_sub(1);
}
