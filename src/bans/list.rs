//! A list of bans that all threads with one name share.

use super::table::{Ban, Cause, Counts, Settings, Table};
use crate::connections::Address;
use crate::error::Error;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Times of one ban are rounded on their way through wall clocks: two bans that begin as close are the
/// same.
const TOLERANCE_MS: i64 = 10;

struct Shared {
    settings: Settings,
    /// No ban ends later: without bans a look needs no lock.
    latest_ms: AtomicI64,
    table: Mutex<Table>,
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

/// The failures and bans of one manager, or of all managers of one name.
pub struct BanList(Arc<Shared>);

impl BanList {
    /// Opens the list of that name, or creates it; without a name, one of its own.
    ///
    /// # Errors
    /// [`Error::BansConflict`] if it is open with other settings.
    pub fn open(name: Option<&str>, settings: Settings) -> Result<Self, Error> {
        let create = || {
            Arc::new(Shared {
                settings,
                latest_ms: AtomicI64::new(0),
                table: Mutex::new(Table::new(settings)),
            })
        };
        let Some(name) = name else {
            return Ok(Self(create()));
        };
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return match shared.settings.difference(&settings) {
                None => Ok(Self(shared)),
                Some(field) => Err(Error::BansConflict { field }),
            };
        }
        named.retain(|_, shared| shared.strong_count() > 0);
        let shared = create();
        named.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(Self(shared))
    }

    /// Returns the network that counts for an address; `None` for an address that is never banned:
    /// an unknown one, and that of the machine itself.
    #[must_use]
    pub fn network(&self, address: Address) -> Option<Address> {
        // An address of a translator counts as the IPv4 address inside of it.
        let v4 = address.v4().map(|bits| IpAddr::V4(bits.into()));
        let is_loopback = v4.or(address.ip())?.is_loopback();
        let network = address.network(self.0.settings.prefix_bits);
        (!is_loopback && network != Address::UNKNOWN).then_some(network)
    }

    /// Returns a network as text: an address, or an IPv6 network such as `2001:db8::/64`.
    #[must_use]
    pub fn text(&self, network: Address) -> String {
        let bits = self.0.settings.prefix_bits;
        let ip = network.ip().map_or(String::new(), |ip| ip.to_string());
        match network.prefix(bits) {
            Some(_) if bits < 128 => format!("{ip}/{bits}"),
            _ => ip,
        }
    }

    /// Returns the time that is left of the ban of an address, ms: 0 without one.
    #[must_use]
    pub fn left_ms(&self, address: Address, now: i64) -> i64 {
        // Relaxed: a look beside a ban that another thread makes at the same time may miss it.
        if self.0.latest_ms.load(Relaxed) <= now {
            return 0;
        }
        self.network(address)
            .map_or(0, |network| self.table(|table| table.left_ms(network, now)))
    }

    /// Returns the active ban of an address.
    #[must_use]
    pub fn find(&self, address: Address, now: i64) -> Option<Ban> {
        let network = self.network(address)?;
        self.table(|table| table.find(network, now))
    }

    /// Counts a failure of an address; returns the ban that it causes.
    pub fn fail(&mut self, address: Address, now: i64) -> Option<Ban> {
        let network = self.network(address)?;
        self.noted(self.table(|table| table.fail(network, now)))
    }

    /// Bans an address for a time; `None` for one that is never banned.
    pub fn ban(&mut self, address: Address, for_ms: i64, now: i64) -> Option<Ban> {
        let network = self.network(address)?;
        self.noted(Some(self.table(|table| table.ban(network, for_ms, now))))
    }

    /// Takes the ban of another process over; `None` if it is no news. `ban.network` is an address
    /// of it.
    pub fn learn(&mut self, ban: Ban, now: i64) -> Option<Ban> {
        let network = self.network(ban.network)?;
        let ban = Ban {
            network,
            cause: Cause::Cluster,
            ..ban
        };
        self.noted(self.table(|table| table.learn(ban, TOLERANCE_MS, now)))
    }

    /// Forgets an address; returns its ban if it was active.
    pub fn lift(&mut self, address: Address, now: i64) -> Option<Ban> {
        let network = self.network(address)?;
        self.table(|table| table.lift(network, now))
    }

    /// Returns the latest active bans, the latest first.
    #[must_use]
    pub fn list(&self, most: usize, now: i64) -> Vec<Ban> {
        self.table(|table| table.list(most, now))
    }

    /// Returns the counts.
    #[must_use]
    pub fn counts(&self, now: i64) -> Counts {
        self.table(|table| table.counts(now))
    }

    fn table<R>(&self, run: impl FnOnce(&mut Table) -> R) -> R {
        run(&mut self.0.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn noted(&self, ban: Option<Ban>) -> Option<Ban> {
        if let Some(ban) = ban {
            self.0.latest_ms.fetch_max(ban.until_ms, Relaxed);
        }
        ban
    }
}
