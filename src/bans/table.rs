//! The bounded table of failures and bans. Times are whole milliseconds; those of bans that are older
//! than the process are negative.
//!
//! A full table forgets, for a new address, the address whose latest failure is the oldest. It
//! forgets an active ban only if all addresses are banned, and then the one that ends first. So an
//! attacker with fresh addresses needs as many as the table holds to get one of its own forgotten,
//! and cannot end its bans that way.

use crate::connections::Address;
use crate::limiter::{EventCount, Events};
use ahash::RandomState;
use std::collections::{BTreeSet, HashMap};

/// Addresses that a new one may find forgotten and drops, so that the table shrinks again.
const VISITS: usize = 2;

/// The settings of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Failures within the window that ban an address; `u32::MAX` for bans by hand only.
    pub failures: u32,
    /// Length of the window, ms.
    pub window_ms: u32,
    /// Length of the first ban, ms.
    pub ban_ms: u32,
    /// Length of the longest ban by failures, ms.
    pub max_ban_ms: u32,
    /// Time from the end of a ban until the next one is as short as the first, ms.
    pub forget_ms: u32,
    /// Most addresses, at least 1.
    pub max_addresses: usize,
    /// Bits of an IPv6 address that count.
    pub prefix_bits: u8,
}

impl Settings {
    /// Returns the first option that differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.failures != other.failures, "banAfter.failures"),
            (self.window_ms != other.window_ms, "banAfter.windowMs"),
            (self.ban_ms != other.ban_ms, "banAfter.banMs"),
            (self.max_ban_ms != other.max_ban_ms, "banAfter.maxBanMs"),
            (self.forget_ms != other.forget_ms, "banAfter.forgetMs"),
            (
                self.max_addresses != other.max_addresses,
                "banAfter.maxAddresses",
            ),
            (self.prefix_bits != other.prefix_bits, "ipv6PrefixBits"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }

    /// Returns the length of a ban after `earlier` others.
    fn length_ms(&self, earlier: u32) -> i64 {
        let doubled = i64::from(self.ban_ms) << earlier.min(31);
        doubled.min(i64::from(self.max_ban_ms))
    }
}

/// The cause of a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Failures of the address.
    Failures = 0,
    /// A call of the application.
    Call = 1,
    /// A ban by another process.
    Cluster = 2,
}

/// A ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// The address, or the network that counts for it.
    pub network: Address,
    /// Its start, ms.
    pub since_ms: i64,
    /// Its end, ms.
    pub until_ms: i64,
    /// Failures since the address is known.
    pub failures: u32,
    /// Bans by failures in a row; each doubles the next.
    pub bans: u32,
    /// Its cause.
    pub cause: Cause,
}

/// Counts of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bans that are active.
    pub active: usize,
    /// Addresses that are known, those that are forgotten and not yet dropped included.
    pub addresses: usize,
    /// Failures that were counted.
    pub failures: u64,
    /// Bans so far, whatever their cause.
    pub banned: u64,
    /// Bans that were lifted by a call.
    pub lifted: u64,
    /// Addresses that a full table has forgotten early.
    pub evicted: u64,
}

/// One address.
#[derive(Clone, Copy)]
struct Record {
    network: Address,
    window: Events,
    /// Its place in one of the orders: the latest failure, or the end of the active ban.
    order: i64,
    is_active: bool,
    last_ms: i64,
    since_ms: i64,
    until_ms: i64,
    failures: u32,
    bans: u32,
    cause: Cause,
}

impl Record {
    fn new(network: Address) -> Self {
        Self {
            network,
            window: Events::default(),
            order: 0,
            is_active: false,
            last_ms: 0,
            since_ms: i64::MIN,
            until_ms: i64::MIN,
            failures: 0,
            bans: 0,
            cause: Cause::Failures,
        }
    }

    fn ban(&self) -> Ban {
        Ban {
            network: self.network,
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            failures: self.failures,
            bans: self.bans,
            cause: self.cause,
        }
    }
}

/// Failures and bans by address.
pub(super) struct Table {
    settings: Settings,
    window: EventCount,
    records: HashMap<u128, Record, RandomState>,
    /// Active bans by their end.
    active: BTreeSet<(i64, u128)>,
    /// All other addresses by their latest failure or ban.
    idle: BTreeSet<(i64, u128)>,
    counts: Counts,
}

impl Table {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            window: EventCount::new(f64::from(settings.window_ms)),
            records: HashMap::default(),
            active: BTreeSet::new(),
            idle: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Returns the time that is left of the ban of a network, ms: 0 without one.
    pub(super) fn left_ms(&self, network: Address, now: i64) -> i64 {
        self.records
            .get(&network.bits())
            .map_or(0, |record| record.until_ms.saturating_sub(now).max(0))
    }

    /// Counts a failure of a network; returns the ban that it causes.
    pub(super) fn fail(&mut self, network: Address, now: i64) -> Option<Ban> {
        let mut record = self.known(network, now);
        if record.until_ms > now {
            return None;
        }
        self.counts.failures += 1;
        record.failures = record.failures.saturating_add(1);
        record.last_ms = now;
        let count = self.window.add(&mut record.window, now as f64);
        let ban = (count >= self.settings.failures).then(|| {
            record.since_ms = now;
            record.until_ms = now + self.settings.length_ms(record.bans);
            record.bans = record.bans.saturating_add(1);
            record.cause = Cause::Failures;
            self.banned(&mut record)
        });
        self.store(record, now);
        ban
    }

    /// Bans a network for a time, in the place of an active ban.
    pub(super) fn ban(&mut self, network: Address, for_ms: i64, now: i64) -> Ban {
        let mut record = self.known(network, now);
        record.last_ms = now;
        record.since_ms = now;
        record.until_ms = now.saturating_add(for_ms);
        record.cause = Cause::Call;
        let ban = self.banned(&mut record);
        self.store(record, now);
        ban
    }

    /// Takes the ban of another process over, unless the active ban of the network began later, or is the
    /// same. `tolerance_ms` is the difference in which two starts of one ban may be read.
    pub(super) fn learn(&mut self, ban: Ban, tolerance_ms: i64, now: i64) -> Option<Ban> {
        if ban.until_ms <= now {
            return None;
        }
        let mut record = self.known(ban.network, now);
        let is_active = record.until_ms > now;
        let is_news = !is_active || ban.since_ms > record.since_ms.saturating_add(tolerance_ms);
        record.bans = record.bans.max(ban.bans);
        if is_news {
            record.last_ms = now;
            record.since_ms = ban.since_ms;
            record.until_ms = ban.until_ms;
            record.failures = record.failures.max(ban.failures);
            record.cause = Cause::Cluster;
        }
        let news = is_news.then(|| self.banned(&mut record));
        self.store(record, now);
        news
    }

    fn banned(&mut self, record: &mut Record) -> Ban {
        record.window = Events::default();
        self.counts.banned += 1;
        record.ban()
    }

    /// Returns the active ban of a network.
    pub(super) fn find(&self, network: Address, now: i64) -> Option<Ban> {
        let record = self.records.get(&network.bits())?;
        (record.until_ms > now).then(|| record.ban())
    }

    /// Forgets a network; returns its ban if it was active.
    pub(super) fn lift(&mut self, network: Address, now: i64) -> Option<Ban> {
        let record = self.remove(network.bits())?;
        let ban = (record.until_ms > now).then(|| record.ban());
        self.counts.lifted += u64::from(ban.is_some());
        ban
    }

    /// Returns the latest active bans, the latest first.
    pub(super) fn list(&mut self, most: usize, now: i64) -> Vec<Ban> {
        self.settle(now);
        let active = self
            .active
            .iter()
            .filter_map(|(_, key)| self.records.get(key));
        let mut bans: Vec<Ban> = active.map(Record::ban).collect();
        let order = |ban: &Ban| (std::cmp::Reverse(ban.since_ms), ban.network.bits());
        if most < bans.len() {
            bans.select_nth_unstable_by_key(most, order);
            bans.truncate(most);
        }
        bans.sort_unstable_by_key(order);
        bans
    }

    pub(super) fn counts(&mut self, now: i64) -> Counts {
        self.settle(now);
        Counts {
            active: self.active.len(),
            addresses: self.records.len(),
            ..self.counts
        }
    }

    /// Returns the record of a network, as that of an unknown one if it is forgotten.
    fn known(&self, network: Address, now: i64) -> Record {
        match self.records.get(&network.bits()) {
            Some(record) if !self.is_forgotten(record, now) => {
                let mut record = *record;
                if record
                    .until_ms
                    .saturating_add(i64::from(self.settings.forget_ms))
                    <= now
                {
                    record.bans = 0;
                }
                record
            }
            _ => Record::new(network),
        }
    }

    /// True if an address equals one that is not known.
    fn is_forgotten(&self, record: &Record, now: i64) -> bool {
        let kept_ms = match record.bans {
            0 => 0,
            _ => i64::from(self.settings.forget_ms),
        };
        record.until_ms.saturating_add(kept_ms) <= now
            && self.window.forgotten_at(&record.window) <= now as f64
    }

    fn store(&mut self, mut record: Record, now: i64) {
        let key = record.network.bits();
        if self.remove(key).is_none() {
            self.make_room(now);
        }
        record.is_active = record.until_ms > now;
        record.order = if record.is_active {
            record.until_ms
        } else {
            record.last_ms
        };
        self.order(record.is_active).insert((record.order, key));
        self.records.insert(key, record);
    }

    fn order(&mut self, is_active: bool) -> &mut BTreeSet<(i64, u128)> {
        if is_active {
            &mut self.active
        } else {
            &mut self.idle
        }
    }

    fn remove(&mut self, key: u128) -> Option<Record> {
        let record = self.records.remove(&key)?;
        self.order(record.is_active).remove(&(record.order, key));
        Some(record)
    }

    /// Moves the bans that have ended to the other order.
    fn settle(&mut self, now: i64) {
        while let Some(&(until_ms, key)) = self.active.first()
            && until_ms <= now
        {
            self.active.remove(&(until_ms, key));
            if let Some(record) = self.records.get_mut(&key) {
                record.is_active = false;
                record.order = record.last_ms;
                self.idle.insert((record.order, key));
            }
        }
    }

    /// Makes room for one more address.
    fn make_room(&mut self, now: i64) {
        self.settle(now);
        for _ in 0..VISITS {
            let first = self.idle.first().and_then(|(_, key)| self.records.get(key));
            match first {
                Some(record) if self.is_forgotten(record, now) => {
                    self.remove(record.network.bits());
                }
                _ => break,
            }
        }
        if self.records.len() < self.settings.max_addresses {
            return;
        }
        let victim = self.idle.first().or_else(|| self.active.first());
        if let Some(&(_, key)) = victim {
            self.remove(key);
            self.counts.evicted += 1;
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.records.len(), self.active.len() + self.idle.len());
        assert!(self.records.len() <= self.settings.max_addresses.max(1));
        for (key, record) in &self.records {
            let order = if record.is_active {
                &self.active
            } else {
                &self.idle
            };
            assert!(order.contains(&(record.order, *key)));
        }
    }
}
