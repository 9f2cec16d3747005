//! The limits of an index, the refusals that name them, and the state of the connect rates.
//!
//! Does not own the counts that the limits apply to (`seats`) or the rate algorithm (`rate`).

use super::address::Address;
use super::rate::{Cells, Rate};
use super::user_key::UserKey;
use std::hash::Hash;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// The value of a limit that never refuses.
pub const NO_LIMIT: u32 = u32::MAX;

/// The limits of an index. `0` admits no connection, [`u32::MAX`] is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections in total.
    pub total: u32,
    /// Connections per address.
    pub per_ip: u32,
    /// Connections per IPv6 prefix.
    pub per_prefix: u32,
    /// Connections per user.
    pub per_user: u32,
    /// Connections without a user, in total.
    pub anonymous: u32,
    /// Connections without a user, per address.
    pub anonymous_per_ip: u32,
    /// Connections whose address is unknown, in total.
    pub unknown: u32,
    /// Length of the IPv6 prefix, bits.
    pub prefix_bits: u8,
    /// Connect rate per address, of IPv6 per prefix.
    pub ip_rate: Option<Rate>,
    /// Connect rate per user.
    pub user_rate: Option<Rate>,
    /// Message rate of all connections of a user.
    pub message_user_rate: Option<Rate>,
    /// Message rate of all connections of an address, of IPv6 of a prefix.
    pub message_ip_rate: Option<Rate>,
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
            message_user_rate: None,
            message_ip_rate: None,
        }
    }
}

impl Limits {
    /// Returns the first limit that `other` has otherwise.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
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
            (
                self.message_user_rate != other.message_user_rate,
                "messageRatePerUser",
            ),
            (
                self.message_ip_rate != other.message_ip_rate,
                "messageRatePerIp",
            ),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// The effect of full limits on newcomers. Each table has a mode of its own, whoever else counts in its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They refuse.
    #[default]
    Enforce,
    /// They refuse nothing: the first that would have refused is noted.
    Observe,
}

/// The reason of a refusal. The binding returns the number negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The index is draining.
    Draining = 1,
    /// The total limit is reached.
    Total = 2,
    /// The per-prefix limit is reached.
    Prefix = 3,
    /// The per-address limit is reached.
    Ip = 4,
    /// The per-user limit is reached.
    User = 5,
    /// The total limit for anonymous connections is reached.
    Anonymous = 6,
    /// The per-address limit for anonymous connections is reached.
    AnonymousIp = 7,
    /// The connect rate of the address is exceeded.
    IpRate = 8,
    /// The connect rate of the user is exceeded.
    UserRate = 9,
    /// The limit for clients with an unknown address is reached.
    Unknown = 10,
    /// The counts of the host have no row left for one of the keys.
    HostFull = 11,
}

/// A refused admission: an outcome, not an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    /// The limit that refused.
    pub code: RefusalCode,
    /// Time until the connect rate would admit, ms; 0 for other limits.
    pub retry_after_ms: f64,
}

impl Refusal {
    /// Returns the refusal by a limit that does not know when it admits again.
    #[must_use]
    pub const fn of(code: RefusalCode) -> Self {
        Self {
            code,
            retry_after_ms: 0.0,
        }
    }
}

/// The limits that a run-time change replaces. Each is read by itself: the next admission sees a
/// change, an admission under way may use the old or the new value.
#[derive(Default)]
pub(super) struct LiveLimits {
    pub(super) total: AtomicU32,
    pub(super) per_ip: AtomicU32,
    pub(super) per_prefix: AtomicU32,
    pub(super) per_user: AtomicU32,
    pub(super) anonymous: AtomicU32,
    pub(super) anonymous_per_ip: AtomicU32,
    pub(super) unknown: AtomicU32,
    pub(super) has_rates: AtomicBool,
}

impl LiveLimits {
    /// Replaces all limits.
    pub(super) fn store(&self, limits: Limits) {
        self.total.store(limits.total, Relaxed);
        self.per_ip.store(limits.per_ip, Relaxed);
        self.per_prefix.store(limits.per_prefix, Relaxed);
        self.per_user.store(limits.per_user, Relaxed);
        self.anonymous.store(limits.anonymous, Relaxed);
        self.anonymous_per_ip
            .store(limits.anonymous_per_ip, Relaxed);
        self.unknown.store(limits.unknown, Relaxed);
        self.has_rates.store(
            limits.ip_rate.is_some() || limits.user_rate.is_some(),
            Relaxed,
        );
    }
}

/// The connect rates, with the arrival times of networks and users.
#[derive(Default)]
pub(super) struct Rates {
    per_ip: Option<Rate>,
    per_user: Option<Rate>,
    ip_cells: Cells<Address>,
    user_cells: Cells<UserKey>,
}

impl Rates {
    /// Replaces the rates.
    pub(super) fn replace(&mut self, limits: Limits) {
        // An arrival time computed at another rate has no meaning at this one.
        if self.per_ip != limits.ip_rate {
            self.ip_cells = Cells::default();
        }
        if self.per_user != limits.user_rate {
            self.user_cells = Cells::default();
        }
        self.per_ip = limits.ip_rate;
        self.per_user = limits.user_rate;
    }

    /// Spends the connect rate of a network.
    pub(super) fn spend_network(&mut self, network: Address, now: f64) -> Result<(), Refusal> {
        match self.per_ip {
            Some(rate) => spend(&mut self.ip_cells, network, now, rate, RefusalCode::IpRate),
            None => Ok(()),
        }
    }

    /// Spends the connect rate of a user.
    pub(super) fn spend_user(&mut self, user: UserKey, now: f64) -> Result<(), Refusal> {
        match self.per_user {
            Some(rate) => spend(&mut self.user_cells, user, now, rate, RefusalCode::UserRate),
            None => Ok(()),
        }
    }
}

/// Spends a rate of one key; a refusal changes nothing.
fn spend<K: Hash + Eq + Copy>(
    cells: &mut Cells<K>,
    key: K,
    now: f64,
    rate: Rate,
    code: RefusalCode,
) -> Result<(), Refusal> {
    let arrival = cells.arrival(key);
    let next = rate.check(arrival, now).map_err(|retry_after_ms| Refusal {
        code,
        retry_after_ms,
    })?;
    cells.record(key, next);
    Ok(())
}
