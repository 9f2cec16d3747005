//! A limiter of one thread, or of all threads that open its name.

use super::algorithm::Algorithm;
use super::algorithm::{Answer, Quota, Reading, Spent};
use super::fixed_window::FixedWindow;
use super::gcra::Gcra;
use super::key::{KeyHash, Secret};
use super::packed_window::PackedWindow;
use super::refused_keys::{Noted, RefusedKey, RefusedKeys};
use super::sliding_window::SlidingWindow;
use super::table::Table;
use crate::error::Error;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Locks of a shared limiter, a power of two.
const SHARDS: usize = 16;

/// The algorithm of a limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generic cell rate algorithm.
    Gcra,
    /// Sliding windows.
    SlidingWindow,
    /// Fixed windows.
    FixedWindow,
}

/// The settings of a limiter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The algorithm.
    pub kind: Kind,
    /// The limit of each key.
    pub quota: Quota,
    /// Most keys.
    pub max_keys: usize,
}

impl Settings {
    /// Returns the first option that differs.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.kind != other.kind, "algorithm"),
            (self.quota.limit != other.quota.limit, "limit"),
            (self.quota.window_ms != other.quota.window_ms, "windowMs"),
            (self.quota.burst != other.quota.burst, "burst"),
            (self.max_keys != other.max_keys, "maxKeys"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// The outcome of `Limiter::take`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// The answer.
    pub answer: Answer,
    /// The counted refusal.
    pub noted: Option<Noted>,
}

/// Counts of a limiter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that are known.
    pub keys: usize,
    /// Keys that were forgotten before they had their whole limit again.
    pub evicted: u64,
    /// Bytes of the table.
    pub bytes: usize,
}

enum Tables {
    Gcra(Table<Gcra>),
    SlidingWindow(Table<SlidingWindow>),
    PackedWindow(Table<PackedWindow>),
    FixedWindow(Table<FixedWindow>),
}

macro_rules! each {
    ($tables:expr, $table:ident => $body:expr) => {
        match $tables {
            Tables::Gcra($table) => $body,
            Tables::SlidingWindow($table) => $body,
            Tables::PackedWindow($table) => $body,
            Tables::FixedWindow($table) => $body,
        }
    };
}

impl Tables {
    fn new(settings: &Settings, most: usize) -> Self {
        let quota = settings.quota;
        match settings.kind {
            Kind::Gcra => Self::Gcra(Table::new(Gcra::new(quota), most)),
            Kind::SlidingWindow if PackedWindow::holds(quota) => {
                Self::PackedWindow(Table::new(PackedWindow::new(quota), most))
            }
            Kind::SlidingWindow => Self::SlidingWindow(Table::new(SlidingWindow::new(quota), most)),
            Kind::FixedWindow => Self::FixedWindow(Table::new(FixedWindow::new(quota), most)),
        }
    }
}

/// The tables of a limiter that threads share.
struct Shared {
    settings: Settings,
    secret: Secret,
    shards: [Mutex<Tables>; SHARDS],
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

enum Home {
    Own(Box<(Secret, Tables)>),
    Named(Arc<Shared>),
}

/// A limiter.
pub struct Limiter {
    home: Home,
    /// Keys that this limiter refused; those of other threads are not among them.
    refused: RefusedKeys,
    window_ms: f64,
}

impl Limiter {
    /// Creates a limiter of one thread.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let tables = Tables::new(settings, settings.max_keys);
        Self::at(Home::Own(Box::new((Secret::default(), tables))), settings)
    }

    fn at(home: Home, settings: &Settings) -> Self {
        Self {
            home,
            refused: RefusedKeys::default(),
            window_ms: settings.quota.window_ms,
        }
    }

    /// Opens the limiter of that name, or creates it.
    ///
    /// # Errors
    /// [`Error::LimitsConflict`] if it is open with other settings.
    pub fn open(name: &str, settings: &Settings) -> Result<Self, Error> {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return match shared.settings.difference(settings) {
                None => Ok(Self::at(Home::Named(shared), settings)),
                Some(field) => Err(Error::LimiterConflict { field }),
            };
        }
        named.retain(|_, shared| shared.strong_count() > 0);
        let most = settings.max_keys.div_ceil(SHARDS);
        let shared = Arc::new(Shared {
            settings: *settings,
            secret: Secret::default(),
            shards: std::array::from_fn(|_| Mutex::new(Tables::new(settings, most))),
        });
        named.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(Self::at(Home::Named(shared), settings))
    }

    fn with<R>(&mut self, key: &[u16], run: impl FnOnce(&mut Tables, KeyHash) -> R) -> R {
        match &mut self.home {
            Home::Own(own) => {
                let (secret, tables) = &mut **own;
                run(tables, secret.hash(key))
            }
            Home::Named(shared) => {
                let hash = shared.secret.hash(key);
                // The table itself uses the first word.
                let shard = &shared.shards[hash[2] as usize % SHARDS];
                run(
                    &mut shard.lock().unwrap_or_else(PoisonError::into_inner),
                    hash,
                )
            }
        }
    }

    /// Spends `cost` of a key, if it conforms; counts the refusal, if it does not.
    pub fn take(&mut self, key: &[u16], cost: f64, now: f64) -> Taken {
        let (answer, key) = self.with(key, |tables, key| {
            (each!(tables, table => table.take(key, cost, now)), key)
        });
        let window_ms = self.window_ms;
        Taken {
            answer,
            noted: (!answer.admitted).then(|| self.refused.note(key, now, window_ms)),
        }
    }

    /// Returns the `most` keys that this limiter refused most often, the first one first.
    #[must_use]
    pub fn refused_keys(&self, most: usize) -> Vec<RefusedKey> {
        self.refused.top(most)
    }

    /// Returns the answer of `take`, and spends nothing.
    pub fn peek(&mut self, key: &[u16], cost: f64, now: f64) -> Answer {
        self.with(
            key,
            |tables, key| each!(tables, table => table.peek(key, cost, now)),
        )
    }

    /// Spends `points` of a key, whether they conform or not.
    pub fn penalty(&mut self, key: &[u16], points: f64, now: f64) -> Reading {
        self.with(
            key,
            |tables, key| each!(tables, table => table.charge(key, points, now)),
        )
    }

    /// Gives spent `points` of a key back.
    pub fn reward(&mut self, key: &[u16], points: f64, now: f64) -> Reading {
        self.with(
            key,
            |tables, key| each!(tables, table => table.refund(key, points, now)),
        )
    }

    /// Gives one admitted cost of a key back, as far as it still counts.
    pub fn give_back(&mut self, key: &[u16], spent: Spent, now: f64) -> Reading {
        self.with(
            key,
            |tables, key| each!(tables, table => table.give_back(key, spent, now)),
        )
    }

    /// Refuses a key until `until`, after which it begins anew.
    pub fn block(&mut self, key: &[u16], until: f64, now: f64) -> Reading {
        self.with(
            key,
            |tables, key| each!(tables, table => table.block(key, until, now)),
        )
    }

    /// Forgets a key; returns whether it was known.
    pub fn reset(&mut self, key: &[u16]) -> bool {
        self.with(key, |tables, key| each!(tables, table => table.forget(key)))
    }

    fn for_each(&mut self, mut run: impl FnMut(&mut Tables)) {
        match &mut self.home {
            Home::Own(own) => run(&mut own.1),
            Home::Named(shared) => {
                for shard in &shared.shards {
                    run(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.for_each(|tables| each!(tables, table => table.clear()));
    }

    /// Returns the counts, those of all threads of a named limiter.
    pub fn counts(&mut self) -> Counts {
        let mut counts = Counts::default();
        self.for_each(|tables| {
            each!(tables, table => {
                counts.keys += table.len();
                counts.evicted += table.evicted();
                counts.bytes += table.bytes();
            });
        });
        counts
    }
}
