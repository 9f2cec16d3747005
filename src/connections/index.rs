//! The process-wide index of seats: how many per address, prefix and user, and in all.

use super::address::Address;
use super::rate::{Cells, Rate};
use crate::error::Error;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
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

/// A user's name as a keyed 128-bit hash: fixed size, and nobody outside can make two collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserKey([u64; 2]);

#[derive(Default, Clone, Copy)]
struct Seats {
    all: u32,
    anonymous: u32,
}

#[derive(Default)]
struct Gate {
    total: u32,
    anonymous: u32,
    draining: bool,
    limits: Limits,
    ip_cells: Cells<Address>,
    user_cells: Cells<UserKey>,
}

/// Seats of all the tables that share one name.
pub struct Index {
    addresses: DashMap<Address, Seats>,
    prefixes: DashMap<u128, u32>,
    users: DashMap<UserKey, u32>,
    gate: Mutex<Gate>,
    declared: Limits,
    hash_keys: (u64, u64),
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<Index>>>> = LazyLock::new(Mutex::default);

/// Opens the index of that name, or makes it.
///
/// # Errors
/// [`Error::LimitsConflict`] when it is open with other declared limits.
pub fn open(name: &str, limits: Limits) -> Result<Arc<Index>, Error> {
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

impl Index {
    /// An index of its own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // 64 shards: a growing shard then moves a sixty-fourth of the keys at once.
        let shards = 64;
        Self {
            addresses: DashMap::with_shard_amount(shards),
            prefixes: DashMap::with_shard_amount(shards),
            users: DashMap::with_shard_amount(shards),
            gate: Mutex::new(Gate {
                limits,
                ..Gate::default()
            }),
            declared: limits,
            hash_keys: (
                RandomState::new().hash_one(0),
                RandomState::new().hash_one(1),
            ),
        }
    }

    /// The key of a user's name.
    #[must_use]
    pub fn user_key(&self, name: &str) -> UserKey {
        let mut hasher = SipHasher13::new_with_keys(self.hash_keys.0, self.hash_keys.1);
        hasher.write(name.as_bytes());
        let hash = hasher.finish128();
        UserKey([hash.h1, hash.h2])
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in the critical sections can panic half-way; the state is whole.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one seat in every count, or none.
    ///
    /// # Errors
    /// The limit that said no; then nothing has changed.
    pub fn reserve(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), Refusal> {
        let limits = {
            let gate = self.gate();
            if gate.draining {
                return refuse(RefusalCode::Draining);
            }
            if gate.total >= gate.limits.total {
                return refuse(RefusalCode::Total);
            }
            gate.limits
        };
        // Lock order: address, prefix, user, gate.
        let at_address = self.addresses.entry(address);
        let prefix = address.prefix(limits.prefix_bits);
        let at_prefix = prefix.map(|prefix| self.prefixes.entry(prefix));
        if at_prefix
            .as_ref()
            .is_some_and(|entry| count_of(entry) >= limits.per_prefix)
            || (prefix.is_some() && limits.per_prefix == 0)
        {
            return refuse(RefusalCode::Prefix);
        }
        let seats = match &at_address {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) => Seats::default(),
        };
        if seats.all >= limits.per_ip {
            return refuse(RefusalCode::Ip);
        }
        let at_user = user.map(|user| self.users.entry(user));
        if let Some(entry) = &at_user {
            if count_of(entry) >= limits.per_user {
                return refuse(RefusalCode::User);
            }
        } else if seats.anonymous >= limits.anonymous_per_ip {
            return refuse(RefusalCode::AnonymousIp);
        }

        let mut gate = self.gate();
        if gate.draining {
            return refuse(RefusalCode::Draining);
        }
        if gate.total >= gate.limits.total {
            return refuse(RefusalCode::Total);
        }
        if user.is_none() && gate.anonymous >= limits.anonymous {
            return refuse(RefusalCode::Anonymous);
        }
        let ip_arrival = match limits.ip_rate {
            Some(rate) => {
                let arrival = gate.ip_cells.arrival(address, now, rate);
                Some(rate.check(arrival, now).map_err(|retry_after_ms| Refusal {
                    code: RefusalCode::IpRate,
                    retry_after_ms,
                })?)
            }
            None => None,
        };
        if let (Some(rate), Some(user)) = (limits.user_rate, user) {
            let arrival = gate.user_cells.arrival(user, now, rate);
            let next = rate.check(arrival, now).map_err(|retry_after_ms| Refusal {
                code: RefusalCode::UserRate,
                retry_after_ms,
            })?;
            gate.user_cells.record(user, next);
        }
        if let Some(next) = ip_arrival {
            gate.ip_cells.record(address, next);
        }
        gate.total += 1;
        gate.anonymous += u32::from(user.is_none());
        drop(gate);

        let seats = Seats {
            all: seats.all + 1,
            anonymous: seats.anonymous + u32::from(user.is_none()),
        };
        match at_address {
            Entry::Occupied(mut entry) => {
                entry.insert(seats);
            }
            Entry::Vacant(entry) => {
                entry.insert(seats);
            }
        }
        if let Some(entry) = at_prefix {
            *entry.or_insert(0) += 1;
        }
        if let Some(entry) = at_user {
            *entry.or_insert(0) += 1;
        }
        Ok(())
    }

    /// Gives back the seats that [`Index::reserve`] took for the same address and user.
    pub fn release(&self, address: Address, user: Option<UserKey>, prefix: Option<u128>) {
        if let Entry::Occupied(mut entry) = self.addresses.entry(address) {
            let seats = entry.get_mut();
            debug_assert!(seats.all > 0);
            seats.all = seats.all.saturating_sub(1);
            seats.anonymous = seats.anonymous.saturating_sub(u32::from(user.is_none()));
            if seats.all == 0 {
                entry.remove();
            }
        }
        if let Some(prefix) = prefix {
            give_back(&self.prefixes, prefix);
        }
        if let Some(user) = user {
            give_back(&self.users, user);
        }
        let mut gate = self.gate();
        debug_assert!(gate.total > 0);
        gate.total = gate.total.saturating_sub(1);
        gate.anonymous = gate.anonymous.saturating_sub(u32::from(user.is_none()));
    }

    /// Moves a seat from one user (or none) to another in one step.
    ///
    /// # Errors
    /// When the new user has its share already; then nothing has changed.
    pub fn rebind(
        &self,
        address: Address,
        from: Option<UserKey>,
        to: UserKey,
    ) -> Result<(), Refusal> {
        if from == Some(to) {
            return Ok(());
        }
        let mut at_address = self.addresses.entry(address);
        let limit = self.gate().limits.per_user;
        {
            let entry = self.users.entry(to);
            if count_of(&entry) >= limit {
                return refuse(RefusalCode::User);
            }
            *entry.or_insert(0) += 1;
        }
        match from {
            Some(from) => give_back(&self.users, from),
            None => {
                if let Entry::Occupied(entry) = &mut at_address {
                    let seats = entry.get_mut();
                    seats.anonymous = seats.anonymous.saturating_sub(1);
                }
                let mut gate = self.gate();
                gate.anonymous = gate.anonymous.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Replaces the limits; the counts stay.
    pub fn set_limits(&self, mut limits: Limits) {
        let mut gate = self.gate();
        // Seats are given back by the prefix they were taken by, so its length is fixed.
        limits.prefix_bits = self.declared.prefix_bits;
        gate.limits = limits;
    }

    /// Refuses newcomers from now on, or admits them again.
    pub fn set_draining(&self, draining: bool) {
        self.gate().draining = draining;
    }

    /// Seats taken, addresses, users, and seats without a user.
    #[must_use]
    pub fn counts(&self) -> [u32; 4] {
        let (total, anonymous) = {
            let gate = self.gate();
            (gate.total, gate.anonymous)
        };
        [
            total,
            self.addresses.len() as u32,
            self.users.len() as u32,
            anonymous,
        ]
    }

    /// The prefix that `address` is counted under.
    #[must_use]
    pub fn prefix_of(&self, address: Address) -> Option<u128> {
        address.prefix(self.declared.prefix_bits)
    }
}

fn count_of<K: Eq + std::hash::Hash>(entry: &Entry<'_, K, u32>) -> u32 {
    match entry {
        Entry::Occupied(entry) => *entry.get(),
        Entry::Vacant(_) => 0,
    }
}

fn give_back<K: Eq + std::hash::Hash>(map: &DashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut entry) = map.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}
