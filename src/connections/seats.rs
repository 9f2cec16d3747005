//! The index of seats: connections per address, per prefix, per user and in total.
//!
//! Owns the counts, and the step that checks all limits and takes all seats, or none. Does not own
//! the limits (`limits`), the maps of counts (`counts`), or the slots (`table`).

use super::address::Address;
use super::counts::{Counts, Local, Shared, Sharing};
use super::limits::{Limits, LiveLimits, Mode, Rates, Refusal, RefusalCode};
use super::message_rates::{ExceededRate, HeldCells, MessageRates};
use super::totals::{Claim, Full, anonymous_of, given_back, total_of};
use super::user_key::{UserHashes, UserKey, UserKeys};
use crate::error::Error;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
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
    /// All of them in one place: held while they change.
    in_force: Mutex<Limits>,
    rates: Mutex<Rates>,
    message_rates: MessageRates,
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

/// The client that a seat is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A client of a known address that is not identified yet.
    Pending,
    /// A client without a user.
    Anonymous,
    /// A user.
    User(UserKey),
}

impl From<Option<UserKey>> for Holder {
    fn from(user: Option<UserKey>) -> Self {
        user.map_or(Self::Anonymous, Self::User)
    }
}

impl Holder {
    /// Returns the value that one seat adds to the word of totals.
    fn seat(self) -> u64 {
        (1 << 32) + u64::from(self == Self::Anonymous)
    }
}

/// The outcome of a check: admitted, with the first limit that would have refused if the limits are
/// only observed; or refused.
pub type Verdict = Result<Option<RefusalCode>, Refusal>;

/// The seat of a connection that ends if the newcomer is admitted: the limits that count it have
/// room for one more.
pub type Replaced = Option<(Address, Holder)>;

/// The operations of an index that a table uses, with either kind of sharing.
///
/// The order of the checks is the same in all of them: draining, total, prefix, address, connect
/// rate of the address; then the user, the connect rate of the user, and the totals. The first
/// five are checked before a client is identified ([`Admission::arrive`]), the others afterwards
/// ([`Admission::identify`]); [`Admission::reserve`] does both in one step.
pub trait Admission {
    /// Returns the key of a user name given in UTF-16 units.
    fn user_key(&self, name: &[u16]) -> UserKey;

    /// Takes one seat in every count that needs no identity, or none. Spends the connect rate of
    /// the address.
    ///
    /// # Errors
    /// The limit that refused; no seat is taken then.
    fn arrive(&self, address: Address, now: f64, mode: Mode) -> Verdict;

    /// Gives a seat that [`Admission::arrive`] took to a user, or to an anonymous client.
    /// `over` admits a user whose limit is reached.
    ///
    /// # Errors
    /// The limit that refused; the seat stays pending then.
    fn identify(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        over: bool,
        mode: Mode,
    ) -> Verdict;

    /// Takes one seat in every count, or none.
    ///
    /// The entries stay locked in the order address, prefix, user until everything is taken; the
    /// totals are one word. No seat is taken before everything is checked, so no seat needs to be
    /// given back. The connect rate of the address is spent even if the user is refused, as it is
    /// after [`Admission::arrive`].
    ///
    /// At the time [`EXEMPT`] the client is exempt: it is counted as any other, but only the totals
    /// and the limit of its user can refuse it.
    ///
    /// # Errors
    /// The limit that refused; no seat is taken then.
    fn reserve(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        replaced: Replaced,
        over: bool,
        mode: Mode,
    ) -> Verdict;

    /// Gives back the seats that were taken for the same address and holder.
    fn release(&self, address: Address, holder: Holder);

    /// Moves a seat from one user (or none) to another in one step.
    ///
    /// # Errors
    /// The limit of the new user is reached; nothing has changed then.
    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey, mode: Mode) -> Verdict;

    /// Counts a seat of a user besides the one that moves to this user, until [`Admission::leave_user`] ends one of them.
    ///
    /// # Errors
    /// The limit of the user is reached; nothing has changed then.
    fn add_user(&self, to: UserKey, mode: Mode) -> Verdict;

    /// Ends the count of a seat's user, or of a seat without one. The seat itself stays.
    fn leave_user(&self, address: Address, from: Option<UserKey>);

    /// True if the user has more seats than the limit allows.
    fn is_over(&self, user: UserKey) -> bool;

    /// Returns the limits in force.
    fn limits(&self) -> Limits;

    /// Lets `change` change the limits in force, whoever has set them; the counts stay. The prefix length stays too:
    /// a seat must be given back under the prefix that it was taken under.
    fn change_limits(&self, change: &dyn Fn(&mut Limits));

    /// True if admissions need the time.
    fn has_rates(&self) -> bool;

    /// Starts or stops refusing all new connections.
    fn set_draining(&self, draining: bool);

    /// True while all new connections are refused.
    fn is_draining(&self) -> bool;

    /// Returns the seats taken.
    fn total(&self) -> u32;

    /// Spends one message of the user and of the network of a seat, or of neither.
    ///
    /// # Errors
    /// The message rate that is exceeded.
    fn message(
        &self,
        held: &mut HeldCells,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), ExceededRate>;

    /// Gives the cells back that [`Admission::message`] took for the same address and user.
    fn release_cells(&self, held: HeldCells, address: Address, user: Option<UserKey>);

    /// Gives the user's cell back, of a seat that moves to another user.
    fn move_cells(&self, held: &mut HeldCells, from: Option<UserKey>);

    /// Returns the number of users and networks whose cells are held.
    fn message_keys(&self) -> u32;

    /// Returns the numbers of seats, addresses, users, and anonymous seats of this process.
    fn counts(&self) -> [u32; 4];

    /// Returns the numbers of seats, anonymous seats and processes of the host, if the seats are
    /// counted over all its processes.
    fn host(&self) -> Option<[u32; 3]> {
        None
    }
}

/// Applies limits in their order. Limits that are only observed refuse nothing: the first that
/// would have refused is noted.
struct Judge {
    /// True for a client that the limits of its address and of connect rates do not refuse.
    is_exempt: bool,
    mode: Mode,
    observed: Option<RefusalCode>,
}

impl Judge {
    fn new(now: f64, mode: Mode) -> Self {
        Self {
            is_exempt: now.is_infinite(),
            mode,
            observed: None,
        }
    }

    fn refused(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if self.mode == Mode::Enforce {
            return Err(refusal);
        }
        self.observed.get_or_insert(refusal.code);
        Ok(())
    }

    /// Checks a count of the client's address, as [`Judge::count`] does.
    fn own_count(
        &mut self,
        count: u32,
        replaced: bool,
        limit: u32,
        code: RefusalCode,
    ) -> Result<(), Refusal> {
        if self.is_exempt {
            return Ok(());
        }
        self.count(count, replaced, limit, code)
    }

    /// Checks a count that `replaced` seats are about to leave.
    fn count(
        &mut self,
        count: u32,
        replaced: bool,
        limit: u32,
        code: RefusalCode,
    ) -> Result<(), Refusal> {
        if count.saturating_sub(u32::from(replaced)) < limit {
            return Ok(());
        }
        self.refused(Refusal::of(code))
    }
}

impl<R: Sharing> SeatIndex<R> {
    /// Creates an index without a name.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_keys(limits, UserKeys::default())
    }

    /// Creates an index whose keys of users are those of all indexes with the same secret.
    #[must_use]
    pub fn with_secret(limits: Limits, secret: (u64, u64)) -> Self {
        Self::with_keys(limits, UserKeys::new(secret))
    }

    fn with_keys(limits: Limits, user_keys: UserKeys) -> Self {
        let index = Self {
            v4: Default::default(),
            v6: Default::default(),
            prefixes: Default::default(),
            users: Default::default(),
            taken: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            limits: LiveLimits::default(),
            in_force: Mutex::default(),
            rates: Mutex::default(),
            message_rates: MessageRates::default(),
            declared: limits,
            user_keys,
        };
        index.change_limits(&|own| *own = limits);
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

    fn in_force(&self) -> MutexGuard<'_, Limits> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Checks the limits that need no identity and spends the connect rate; then lets `take` take
    /// the rest, and counts the seat of the address and of its prefix if `take` succeeds.
    fn at_door(
        &self,
        judge: &mut Judge,
        address: Address,
        now: f64,
        replaced: Replaced,
        take: impl FnOnce(&Self, &mut Judge, &mut Seats) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let limits = &self.limits;
        if self.draining.load(Relaxed) {
            return Err(Refusal::of(RefusalCode::Draining));
        }
        let total = total_of(self.taken.load(Relaxed));
        judge.count(
            total,
            replaced.is_some(),
            limits.total.load(Relaxed),
            RefusalCode::Total,
        )?;
        let prefix = self.prefix_of(address);
        let leaves_address = replaced.is_some_and(|(from, _)| from == address);
        let leaves_prefix =
            prefix.is_some() && replaced.is_some_and(|(from, _)| self.prefix_of(from) == prefix);
        self.at_address(address, |seats| {
            let inside = |judge: &mut Judge, seats: &mut Seats| {
                let (limit, code) = if address == Address::UNKNOWN {
                    (&limits.unknown, RefusalCode::Unknown)
                } else {
                    (&limits.per_ip, RefusalCode::Ip)
                };
                judge.own_count(seats.all, leaves_address, limit.load(Relaxed), code)?;
                if self.has_rates()
                    && !judge.is_exempt
                    && let Err(refusal) = self.rates().spend_network(self.network_of(address), now)
                {
                    judge.refused(refusal)?;
                }
                take(self, judge, seats)?;
                seats.all += 1;
                Ok(())
            };
            match prefix {
                // Prefixes are counted even without a limit: one may be set at run time.
                Some(prefix) => self.prefixes.with(prefix, |count| {
                    judge.own_count(
                        *count,
                        leaves_prefix,
                        limits.per_prefix.load(Relaxed),
                        RefusalCode::Prefix,
                    )?;
                    inside(judge, seats)?;
                    *count += 1;
                    Ok(())
                }),
                None => inside(judge, seats),
            }
        })
    }

    /// Checks the limits of a user and lets `take` take the totals; counts the seat of the user if
    /// `take` succeeds.
    fn at_user(
        &self,
        judge: &mut Judge,
        user: UserKey,
        now: f64,
        is_replaced: bool,
        over: bool,
        take: impl FnOnce(&mut Judge) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.users.with(user, |count| {
            if !over {
                let limit = self.limits.per_user.load(Relaxed);
                judge.count(*count, is_replaced, limit, RefusalCode::User)?;
            }
            if self.has_rates()
                && !judge.is_exempt
                && let Err(refusal) = self.rates().spend_user(user, now)
            {
                judge.refused(refusal)?;
            }
            take(judge)?;
            *count += 1;
            Ok(())
        })
    }

    /// Takes seats in the word of totals: `seats` more in all, and one more without a user if
    /// `holder` is anonymous.
    fn take_totals(
        &self,
        judge: &mut Judge,
        holder: Holder,
        seats: u64,
        replaced: Replaced,
    ) -> Result<(), Refusal> {
        let claim = Claim {
            total: self.limits.total.load(Relaxed),
            anonymous: self.limits.anonymous.load(Relaxed),
            seats,
            is_anonymous: holder == Holder::Anonymous,
            replaces: replaced.is_some(),
            replaces_anonymous: replaced.is_some_and(|(_, from)| from == Holder::Anonymous),
        };
        let observes = judge.mode == Mode::Observe;
        let before = R::update(&self.taken, |taken| {
            (observes || claim.refusal(taken).is_none()).then(|| claim.taken(taken))
        });
        match claim.refusal(before.unwrap_or_else(|taken| taken)) {
            Some(Full::Total) => judge.refused(Refusal::of(RefusalCode::Total)),
            Some(Full::Anonymous) => judge.refused(Refusal::of(RefusalCode::Anonymous)),
            None => Ok(()),
        }
    }

    fn anonymous_per_ip(
        &self,
        judge: &mut Judge,
        seats: &Seats,
        is_replaced: bool,
    ) -> Result<(), Refusal> {
        let limit = self.limits.anonymous_per_ip.load(Relaxed);
        judge.own_count(
            seats.anonymous,
            is_replaced,
            limit,
            RefusalCode::AnonymousIp,
        )
    }

    /// Subtracts seats from the word of totals.
    fn give_back(&self, seats: u64) {
        let before = R::update(&self.taken, |taken| given_back(taken, seats));
        debug_assert!(before.is_ok());
    }
}

impl<R: Sharing> Admission for SeatIndex<R> {
    fn user_key(&self, name: &[u16]) -> UserKey {
        self.user_keys.key(name)
    }

    fn arrive(&self, address: Address, now: f64, mode: Mode) -> Verdict {
        let mut judge = Judge::new(now, mode);
        self.at_door(&mut judge, address, now, None, |index, judge, _| {
            index.take_totals(judge, Holder::Pending, 1, None)
        })?;
        Ok(judge.observed)
    }

    fn identify(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        over: bool,
        mode: Mode,
    ) -> Verdict {
        let mut judge = Judge::new(now, mode);
        match user {
            Some(user) => self.at_user(&mut judge, user, now, false, over, |_| Ok(()))?,
            None => self.at_address(address, |seats| {
                self.anonymous_per_ip(&mut judge, seats, false)?;
                self.take_totals(&mut judge, Holder::Anonymous, 0, None)?;
                seats.anonymous += 1;
                Ok(())
            })?,
        }
        Ok(judge.observed)
    }

    fn reserve(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        replaced: Replaced,
        over: bool,
        mode: Mode,
    ) -> Verdict {
        let mut judge = Judge::new(now, mode);
        let holder = Holder::from(user);
        self.at_door(
            &mut judge,
            address,
            now,
            replaced,
            |index, judge, seats| match user {
                Some(user) => {
                    let is_replaced = replaced.is_some_and(|(_, from)| from == holder);
                    index.at_user(judge, user, now, is_replaced, over, |judge| {
                        index.take_totals(judge, holder, 1, replaced)
                    })
                }
                None => {
                    index.anonymous_per_ip(judge, seats, replaced == Some((address, holder)))?;
                    index.take_totals(judge, holder, 1, replaced)?;
                    seats.anonymous += 1;
                    Ok(())
                }
            },
        )?;
        Ok(judge.observed)
    }

    fn release(&self, address: Address, holder: Holder) {
        self.at_address(address, |seats| {
            debug_assert!(seats.all > 0);
            seats.all = seats.all.saturating_sub(1);
            let anonymous = u32::from(holder == Holder::Anonymous);
            seats.anonymous = seats.anonymous.saturating_sub(anonymous);
        });
        if let Some(prefix) = self.prefix_of(address) {
            self.prefixes.with(prefix, one_less);
        }
        if let Holder::User(user) = holder {
            self.users.with(user, one_less);
        }
        self.give_back(holder.seat());
    }

    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey, mode: Mode) -> Verdict {
        if from == Some(to) {
            return Ok(None);
        }
        let mut judge = Judge::new(0.0, mode);
        let limit = self.limits.per_user.load(Relaxed);
        self.at_address(address, |seats| {
            self.users.with(to, |count| {
                judge.count(*count, false, limit, RefusalCode::User)?;
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
        })?;
        Ok(judge.observed)
    }

    fn add_user(&self, to: UserKey, mode: Mode) -> Verdict {
        let mut judge = Judge::new(0.0, mode);
        let limit = self.limits.per_user.load(Relaxed);
        self.users.with(to, |count| {
            judge.count(*count, false, limit, RefusalCode::User)?;
            *count += 1;
            Ok(())
        })?;
        Ok(judge.observed)
    }

    fn leave_user(&self, address: Address, from: Option<UserKey>) {
        match from {
            Some(from) => self.users.with(from, one_less),
            None => {
                self.at_address(address, |seats| {
                    seats.anonymous = seats.anonymous.saturating_sub(1);
                });
                self.give_back(1);
            }
        }
    }

    fn is_over(&self, user: UserKey) -> bool {
        let limit = self.limits.per_user.load(Relaxed);
        self.users.with(user, |count| *count > limit)
    }

    fn limits(&self) -> Limits {
        *self.in_force()
    }

    fn change_limits(&self, change: &dyn Fn(&mut Limits)) {
        // The lock is held throughout, so that concurrent calls do not mix their limits and rates.
        let mut in_force = self.in_force();
        change(&mut in_force);
        self.limits.store(*in_force);
        self.rates().replace(*in_force);
        self.message_rates.replace(&in_force);
    }

    fn message(
        &self,
        held: &mut HeldCells,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), ExceededRate> {
        self.message_rates
            .spend::<R>(held, self.network_of(address), user, now)
    }

    fn release_cells(&self, held: HeldCells, address: Address, user: Option<UserKey>) {
        self.message_rates
            .leave(held, self.network_of(address), user);
    }

    fn move_cells(&self, held: &mut HeldCells, from: Option<UserKey>) {
        self.message_rates.move_user(held, from);
    }

    fn has_rates(&self) -> bool {
        self.limits.has_rates.load(Relaxed)
    }

    fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn total(&self) -> u32 {
        total_of(self.taken.load(Relaxed))
    }

    fn message_keys(&self) -> u32 {
        self.message_rates.keys() as u32
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
    /// An index of this process, within the counts of all processes of its host.
    Host(Arc<dyn Admission + Send + Sync>),
}

impl Scope {
    /// Returns the index of either kind.
    #[must_use]
    pub fn admission(&self) -> &dyn Admission {
        match self {
            Self::Own(index) => &**index,
            Self::Named(index) => &**index,
            Self::Host(index) => &**index,
        }
    }
}

fn one_less(count: &mut u32) {
    debug_assert!(*count > 0);
    *count = count.saturating_sub(1);
}
