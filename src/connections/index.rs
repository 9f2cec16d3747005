//! The process-wide index of seats: how many per address, prefix and user, and in all.

use super::address::Address;
use super::rate::{Cells, Rate};
use super::tally::{Local, Reach, Shared, Tally};
use crate::error::Error;
use siphasher::sip128::SipHasher13;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// A limit that is none.
pub const NO_LIMIT: u32 = u32::MAX;

/// What the counts may reach. `0` admits nobody, [`u32::MAX`] everybody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections in all.
    pub total: u32,
    /// Connections per address.
    pub per_ip: u32,
    /// Connections per IPv6 prefix.
    pub per_prefix: u32,
    /// Connections per user.
    pub per_user: u32,
    /// Connections without a user, in all.
    pub anonymous: u32,
    /// Connections without a user, per address.
    pub anonymous_per_ip: u32,
    /// Connections whose address is none, all together.
    pub unknown: u32,
    /// Length of the IPv6 prefix.
    pub prefix_bits: u8,
    /// Connects per address.
    pub ip_rate: Option<Rate>,
    /// Connects per user.
    pub user_rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: NO_LIMIT,
            per_ip: NO_LIMIT,
            per_prefix: NO_LIMIT,
            per_user: NO_LIMIT,
            anonymous: NO_LIMIT,
            anonymous_per_ip: NO_LIMIT,
            unknown: NO_LIMIT,
            prefix_bits: 64,
            ip_rate: None,
            user_rate: None,
        }
    }
}

impl Limits {
    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.total != other.total, "maxTotalConnections"),
            (self.per_ip != other.per_ip, "maxConnectionsPerIp"),
            (
                self.per_prefix != other.per_prefix,
                "maxConnectionsPerPrefix",
            ),
            (self.per_user != other.per_user, "maxConnectionsPerUser"),
            (self.anonymous != other.anonymous, "maxAnonymousConnections"),
            (
                self.anonymous_per_ip != other.anonymous_per_ip,
                "maxAnonymousConnectionsPerIp",
            ),
            (self.unknown != other.unknown, "maxUnknownIpConnections"),
            (self.prefix_bits != other.prefix_bits, "ipv6PrefixBits"),
            (self.ip_rate != other.ip_rate, "connectRatePerIp"),
            (self.user_rate != other.user_rate, "connectRatePerUser"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// Why nobody was admitted. The numbers are what the binding returns, negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The index is draining.
    Draining = 1,
    /// The total is reached.
    Total = 2,
    /// The prefix has its share.
    Prefix = 3,
    /// The address has its share.
    Ip = 4,
    /// The user has its share.
    User = 5,
    /// All places without a user are taken.
    Anonymous = 6,
    /// The address has its share of places without a user.
    AnonymousIp = 7,
    /// The address connects too often.
    IpRate = 8,
    /// The user connects too often.
    UserRate = 9,
    /// All places for clients without a usable address are taken.
    Unknown = 10,
}

/// A refusal: an outcome, not an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    /// Which limit said no.
    pub code: RefusalCode,
    /// When a rate said no: milliseconds until it would not.
    pub retry_after_ms: f64,
}

const fn refuse<T>(code: RefusalCode) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        retry_after_ms: 0.0,
    })
}

/// A name of so many units is hashed without an allocation.
const NAME_INLINE: usize = 128;

/// A user's name as a keyed hash of 96 bits: of fixed size, and nobody outside can make two
/// collide. By chance two of a million do once in 10^17 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKey(NonZeroU32, u32, u32);

impl Hash for UserKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // It is a keyed hash already.
        state.write_u64(u64::from(self.0.get()) << 32 | u64::from(self.1));
    }
}

/// Takes over the 64 bits that a key hands it.
#[derive(Default, Clone, Copy)]
pub struct PassOn(u64);

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "only keys that are hashes already");
    }
    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

#[derive(Default, Clone, Copy, PartialEq)]
struct Seats {
    all: u32,
    anonymous: u32,
}

/// All limits that a run-time change replaces. Each is read alone: a change is seen by the
/// next admission, and an admission under way may judge by either.
#[derive(Default)]
struct LiveLimits {
    total: AtomicU32,
    per_ip: AtomicU32,
    per_prefix: AtomicU32,
    per_user: AtomicU32,
    anonymous: AtomicU32,
    anonymous_per_ip: AtomicU32,
    unknown: AtomicU32,
    has_rates: AtomicBool,
}

#[derive(Default)]
struct Rates {
    per_ip: Option<Rate>,
    per_user: Option<Rate>,
    ip_cells: Cells<Address>,
    user_cells: Cells<UserKey>,
}

impl Rates {
    /// The arrival times that an admission now would leave behind; nothing is spent yet.
    fn check(
        &mut self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(Option<f64>, Option<f64>), Refusal> {
        let mut next = (None, None);
        if let Some(rate) = self.per_ip {
            let arrival = self.ip_cells.arrival(address, now, rate);
            next.0 = Some(rate.check(arrival, now).map_err(|retry_after_ms| Refusal {
                code: RefusalCode::IpRate,
                retry_after_ms,
            })?);
        }
        if let (Some(rate), Some(user)) = (self.per_user, user) {
            let arrival = self.user_cells.arrival(user, now, rate);
            next.1 = Some(rate.check(arrival, now).map_err(|retry_after_ms| Refusal {
                code: RefusalCode::UserRate,
                retry_after_ms,
            })?);
        }
        Ok(next)
    }
}

type UserHashes = BuildHasherDefault<PassOn>;

/// Seats of one table ([`Local`]), or of all the tables that share one name ([`Shared`]).
pub struct Index<R: Reach> {
    /// IPv4, apart: with keys of 4 bytes an entry takes half the memory.
    v4: R::Tally<u32, Seats, ahash::RandomState>,
    v6: R::Tally<Address, Seats, ahash::RandomState>,
    prefixes: R::Tally<Address, u32, ahash::RandomState>,
    users: R::Tally<UserKey, u32, UserHashes>,
    /// Seats taken (high half) and those without a user (low half): one word, so that both are
    /// checked and taken in one step.
    taken: AtomicU64,
    draining: AtomicBool,
    limits: LiveLimits,
    rates: Mutex<Rates>,
    declared: Limits,
    hash_keys: (u64, u64),
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<Index<Shared>>>>> = LazyLock::new(Mutex::default);

/// Opens the index of that name, or makes it.
///
/// # Errors
/// [`Error::LimitsConflict`] when it is open with other declared limits.
pub fn open(name: &str, limits: Limits) -> Result<Arc<Index<Shared>>, Error> {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = named.get(name).and_then(Weak::upgrade) {
        return match index.declared.difference(&limits) {
            None => Ok(index),
            Some(field) => Err(Error::LimitsConflict { field }),
        };
    }
    named.retain(|_, index| index.strong_count() > 0);
    let index = Arc::new(Index::new(limits));
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

impl<R: Reach> Index<R> {
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
            hash_keys: (
                RandomState::new().hash_one(0),
                RandomState::new().hash_one(1),
            ),
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
            if let Some(arrival) = next.0 {
                rates.ip_cells.record(address, arrival);
            }
            if let (Some(arrival), Some(user)) = (next.1, user) {
                rates.user_cells.record(user, arrival);
            }
        }
        Ok(())
    }

    /// Takes so much from the word of totals.
    fn give_back(&self, seats: u64) {
        let before = R::update(&self.taken, |taken| taken.checked_sub(seats));
        debug_assert!(before.is_ok());
    }
}

impl<R: Reach> Admission for Index<R> {
    fn user_key(&self, name: &[u16]) -> UserKey {
        let sip = SipHasher13::new_with_keys(self.hash_keys.0, self.hash_keys.1);
        let seen = name.iter().fold(0, |seen, unit| seen | unit);
        // A byte a unit where that is enough: half the rounds. The first byte tells which.
        let hash = if seen <= 0xff && name.len() < NAME_INLINE {
            let mut bytes = [1u8; NAME_INLINE];
            for (byte, unit) in bytes[1..].iter_mut().zip(name) {
                *byte = *unit as u8;
            }
            sip.hash(&bytes[..=name.len()])
        } else {
            let mut bytes = vec![2u8];
            bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
            sip.hash(&bytes)
        };
        let first = NonZeroU32::new(hash.h2 as u32).unwrap_or(NonZeroU32::MIN);
        UserKey(first, (hash.h1 >> 32) as u32, hash.h1 as u32)
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
        let live = &self.limits;
        live.total.store(limits.total, Relaxed);
        live.per_ip.store(limits.per_ip, Relaxed);
        live.per_prefix.store(limits.per_prefix, Relaxed);
        live.per_user.store(limits.per_user, Relaxed);
        live.anonymous.store(limits.anonymous, Relaxed);
        live.anonymous_per_ip
            .store(limits.anonymous_per_ip, Relaxed);
        live.unknown.store(limits.unknown, Relaxed);
        let mut rates = self.rates();
        // What was spent at another rate means nothing at this one.
        if rates.per_ip != limits.ip_rate {
            rates.ip_cells = Cells::default();
        }
        if rates.per_user != limits.user_rate {
            rates.user_cells = Cells::default();
        }
        rates.per_ip = limits.ip_rate;
        rates.per_user = limits.user_rate;
        live.has_rates.store(
            limits.ip_rate.is_some() || limits.user_rate.is_some(),
            Relaxed,
        );
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
pub enum Home {
    /// Nobody else's.
    Own(Box<Index<Local>>),
    /// That of all tables of a name.
    Named(Arc<Index<Shared>>),
}

impl Home {
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
