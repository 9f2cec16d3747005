//! Settings of a member.

/// Action for newcomers while the server cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each member has its share of every limit.
    Share,
    /// Each member has the whole of every limit.
    Open,
    /// Everybody is refused.
    Closed,
}

/// Limits that hold over all members. `u32::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterLimits {
    /// All connections.
    pub total: u32,
    /// Connections of an IPv6 prefix.
    pub prefix: u32,
    /// Connections of an address.
    pub address: u32,
    /// Connections of a user.
    pub user: u32,
    /// Connections without a user.
    pub anonymous: u32,
    /// Connections without a user of an address.
    pub anonymous_address: u32,
    /// Connections without an address.
    pub unknown: u32,
    /// Connect rate of an address, of IPv6 of a prefix: ms for each connect, and connects at once; zeros for none.
    pub ip_rate: [f64; 2],
    /// The same of a user.
    pub user_rate: [f64; 2],
}

impl ClusterLimits {
    /// Returns the limits in the order in which they cross.
    #[must_use]
    pub fn numbers(&self) -> [f64; 11] {
        let [ip_interval, ip_burst] = self.ip_rate;
        let [user_interval, user_burst] = self.user_rate;
        let counts = [
            self.total,
            self.prefix,
            self.address,
            self.user,
            self.anonymous,
            self.anonymous_address,
            self.unknown,
        ];
        let [a, b, c, d, e, f, g] = counts.map(f64::from);
        let [h, i, j, k] = [ip_interval, ip_burst, user_interval, user_burst];
        [a, b, c, d, e, f, g, h, i, j, k]
    }

    /// Returns the limits of [`Self::numbers`].
    #[must_use]
    pub fn of(numbers: &[f64; 11]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k] = *numbers;
        let [
            total,
            prefix,
            address,
            user,
            anonymous,
            anonymous_address,
            unknown,
        ] = [a, b, c, d, e, f, g].map(|number| number as u32);
        Self {
            total,
            prefix,
            address,
            user,
            anonymous,
            anonymous_address,
            unknown,
            ip_rate: [h, i],
            user_rate: [j, k],
        }
    }
}

/// Settings of a member. Times are in ms.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Name of the managers whose connections count together.
    pub name: String,
    /// Prefix of all keys.
    pub prefix: String,
    /// Name of the process, for people.
    pub node_name: String,
    /// Identity of the process; never used twice.
    pub node: String,
    /// Time without a beat after which a member is dead.
    pub lease_ms: f64,
    /// Interval of beats.
    pub beat_ms: f64,
    /// Longest wait of a client for the server's answer.
    pub admit_timeout_ms: f64,
    /// Members that are expected at least; 0 if unknown.
    pub expected_members: u32,
    /// Revision of `limits`: the highest is in force.
    pub revision: u32,
    /// Declared limits.
    pub limits: ClusterLimits,
    /// Action while the server cannot be asked.
    pub policy: Policy,
    /// Most admissions of a batch.
    pub batch_max: usize,
    /// Time for which a refusal is repeated here without asking.
    pub reject_cache_ms: f64,
    /// Longest time from a released seat to the call that tells it: releases of one moment go together.
    pub release_delay_ms: f64,
    /// Seats of the total that are held ahead, where it is the only limit; 0 for none.
    pub lease_total: u32,
    /// True if a newcomer of a user at the limit replaces the oldest connection of this user.
    pub closes_oldest: bool,
    /// True if the names of users are told, for `online()`.
    pub keeps_names: bool,
    /// Randomness for names that must be unique.
    pub entropy: [u64; 4],
}
