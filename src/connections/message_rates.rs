//! Message rates over all connections of one user, or of one network, by GCRA.
//!
//! Owns the rates, and an arrival time for each key with a connection that has sent a message. Does
//! not read a clock, and does not own the slots (`table`).
//!
//! ```text
//!  slot -> held cells (user, network)     found at the first message of a connection, then kept
//!  live    key -> cell                    keys that a slot holds
//!  left    key -> arrival time            keys whose last connection went, the latest ones
//! ```
//!
//! A message looks nothing up and takes no lock: its slot holds the cells. The last connection of a
//! key moves its arrival time to `left`, which is bounded: a client that connects anew does not begin
//! anew.
//!
//! Invariants: a message over a rate changes nothing; a key is live for as long as a slot holds it.

use super::address::Address;
use super::counts::Sharing;
use super::limits::Limits;
use super::rate::{Cells, Rate};
use super::user_key::{UserHashes, UserKey};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Live keys for which the memory stays.
const ROOM_MIN: usize = 64;

/// The rate that a message exceeds. The binding returns the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceededRate {
    /// The rate of all connections of the user.
    User = 1,
    /// The rate of all connections of the network.
    Ip = 2,
}

/// The arrival time of one key: the bits of an `f64`, ms.
type Cell = AtomicU64;

/// The cells that a slot holds.
#[derive(Default)]
pub struct HeldCells {
    user: Option<Arc<Cell>>,
    network: Option<Arc<Cell>>,
}

/// The arrival times of one kind of keys.
struct Keys<K, S> {
    live: HashMap<K, Arc<Cell>, S>,
    left: Cells<K>,
}

impl<K: Hash + Eq + Copy, S: BuildHasher + Default> Default for Keys<K, S> {
    fn default() -> Self {
        Self {
            live: HashMap::default(),
            left: Cells::default(),
        }
    }
}

impl<K: Hash + Eq + Copy, S: BuildHasher> Keys<K, S> {
    fn join(&mut self, key: K) -> Arc<Cell> {
        let left = &self.left;
        let cell = self
            .live
            .entry(key)
            .or_insert_with(|| Arc::new(Cell::new(left.arrival(key).to_bits())));
        Arc::clone(cell)
    }

    fn leave(&mut self, key: K, cell: Arc<Cell>) {
        let arrival = f64::from_bits(cell.load(Relaxed));
        // Dropped under the lock: of two slots that leave at once, the second one finds the count at 1.
        drop(cell);
        if self
            .live
            .get(&key)
            .is_none_or(|live| Arc::strong_count(live) > 1)
        {
            return;
        }
        self.live.remove(&key);
        self.left.record(key, arrival);
        if self.live.capacity() > ROOM_MIN && self.live.len() < self.live.capacity() / 4 {
            self.live.shrink_to(self.live.len() * 2);
        }
    }

    /// Forgets all arrival times; the cells stay where they are held.
    fn forget(&mut self) {
        self.left = Cells::default();
        for cell in self.live.values() {
            cell.store(0, Relaxed);
        }
    }
}

/// A rate that changes at run time; an interval of 0 is no rate. Both numbers are read by themselves:
/// a message that is judged meanwhile may see one of the old and one of the new rate.
#[derive(Default)]
struct LiveRate {
    interval_ms: AtomicU64,
    burst: AtomicU64,
}

impl LiveRate {
    fn load(&self) -> Option<Rate> {
        let interval_ms = f64::from_bits(self.interval_ms.load(Relaxed));
        (interval_ms > 0.0).then(|| Rate {
            interval_ms,
            burst: f64::from_bits(self.burst.load(Relaxed)),
        })
    }

    /// Replaces the rate; returns whether it differs.
    fn store(&self, rate: Option<Rate>) -> bool {
        if self.load() == rate {
            return false;
        }
        let Rate { interval_ms, burst } = rate.unwrap_or(Rate {
            interval_ms: 0.0,
            burst: 0.0,
        });
        self.interval_ms.store(interval_ms.to_bits(), Relaxed);
        self.burst.store(burst.to_bits(), Relaxed);
        true
    }
}

/// The message rates of an index.
#[derive(Default)]
pub(super) struct MessageRates {
    per_user: LiveRate,
    per_ip: LiveRate,
    users: Mutex<Keys<UserKey, UserHashes>>,
    networks: Mutex<Keys<Address, ahash::RandomState>>,
}

impl MessageRates {
    /// Replaces the rates.
    pub(super) fn replace(&self, limits: &Limits) {
        // An arrival time of another rate has no meaning at this one.
        if self.per_user.store(limits.message_user_rate) {
            lock(&self.users).forget();
        }
        if self.per_ip.store(limits.message_ip_rate) {
            lock(&self.networks).forget();
        }
    }

    /// Spends one message at `now`, of the user and of the network, or of neither.
    ///
    /// # Errors
    /// The rate that the message exceeds.
    pub(super) fn spend<R: Sharing>(
        &self,
        held: &mut HeldCells,
        network: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), ExceededRate> {
        let by_user = user.zip(self.per_user.load()).map(|(user, rate)| {
            let join = || lock(&self.users).join(user);
            (&**held.user.get_or_insert_with(join), rate)
        });
        let by_ip = self.per_ip.load().map(|rate| {
            let join = || lock(&self.networks).join(network);
            (&**held.network.get_or_insert_with(join), rate)
        });
        // Looked at first, so that the user's rate is given back only after a race of two threads.
        if exceeds(by_user, now) {
            return Err(ExceededRate::User);
        }
        if exceeds(by_ip, now) {
            return Err(ExceededRate::Ip);
        }
        if let Some((cell, rate)) = by_user {
            take::<R>(cell, rate, now).map_err(|()| ExceededRate::User)?;
        }
        if let Some((cell, rate)) = by_ip
            && take::<R>(cell, rate, now).is_err()
        {
            if let Some((cell, rate)) = by_user {
                give_back::<R>(cell, rate);
            }
            return Err(ExceededRate::Ip);
        }
        Ok(())
    }

    /// Gives the cells of a slot back.
    pub(super) fn leave(&self, held: HeldCells, network: Address, user: Option<UserKey>) {
        self.leave_user(held.user, user);
        if let Some(cell) = held.network {
            lock(&self.networks).leave(network, cell);
        }
    }

    /// Gives the cell of the user back, of a slot that moves to another user.
    pub(super) fn move_user(&self, held: &mut HeldCells, from: Option<UserKey>) {
        self.leave_user(held.user.take(), from);
    }

    fn leave_user(&self, cell: Option<Arc<Cell>>, user: Option<UserKey>) {
        if let Some((cell, user)) = cell.zip(user) {
            lock(&self.users).leave(user, cell);
        }
    }

    /// Returns the number of users and networks that slots hold.
    pub(super) fn keys(&self) -> usize {
        lock(&self.users).live.len() + lock(&self.networks).live.len()
    }
}

fn lock<K, S>(keys: &Mutex<Keys<K, S>>) -> MutexGuard<'_, Keys<K, S>> {
    // No critical section can panic half-way, so a poisoned lock still holds valid state.
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

fn arrival(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn exceeds(of: Option<(&Cell, Rate)>, now: f64) -> bool {
    of.is_some_and(|(cell, rate)| rate.check(arrival(cell.load(Relaxed)), now).is_err())
}

fn take<R: Sharing>(cell: &Cell, rate: Rate, now: f64) -> Result<(), ()> {
    R::update(cell, |bits| {
        rate.check(arrival(bits), now).ok().map(f64::to_bits)
    })
    .map(drop)
    .map_err(drop)
}

fn give_back<R: Sharing>(cell: &Cell, rate: Rate) {
    let given = R::update(cell, |bits| {
        Some((arrival(bits) - rate.interval_ms).to_bits())
    });
    debug_assert!(given.is_ok());
}

#[cfg(test)]
mod tests {
    use super::super::counts::{Count, Key, Local, LocalCounts};
    use super::super::{Newcomer, Scope, SeatIndex, State, Table};
    use super::*;
    use proptest::prelude::*;

    const PER_USER: Rate = Rate {
        interval_ms: 30.0,
        burst: 4.0,
    };
    const PER_IP: Rate = Rate {
        interval_ms: 20.0,
        burst: 6.0,
    };

    fn limits(per_user: Option<Rate>, per_ip: Option<Rate>) -> Limits {
        Limits {
            message_user_rate: per_user,
            message_ip_rate: per_ip,
            ..Limits::default()
        }
    }

    fn admit(table: &mut Table, ip: &str, user: Option<u16>) -> u32 {
        let name = user.map(|user| [user]);
        let newcomer = Newcomer {
            address: Address::parse(ip),
            user: name.as_ref().map(|name| &name[..]),
            now: 0.0,
            replaces: None,
            claimable: 0,
        };
        table.reserve(&newcomer, State::Live).unwrap().slot
    }

    fn release(table: &mut Table, slot: u32) {
        assert!(table.release(slot, table.generation(slot)));
    }

    /// A bucket of whole milliseconds, which fills by one each millisecond.
    #[derive(Clone, Copy)]
    struct Bucket {
        rate: Rate,
        level: u64,
        at: u64,
    }

    impl Bucket {
        fn new(rate: Rate) -> Self {
            let level = (rate.interval_ms * rate.burst) as u64;
            Self { rate, level, at: 0 }
        }

        fn fill(&mut self, now: u64) {
            let most = (self.rate.interval_ms * self.rate.burst) as u64;
            self.level = most.min(self.level + now - self.at);
            self.at = now;
        }

        fn has_room(&self) -> bool {
            self.level >= self.rate.interval_ms as u64
        }

        fn spend(&mut self) {
            self.level -= self.rate.interval_ms as u64;
        }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Admit(u8, Option<u16>),
        Message(usize, u64),
        Release(usize),
        Bind(usize, u16),
        Rates(bool, bool),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            2 => (0u8..6, proptest::option::of(0u16..3)).prop_map(|(ip, user)| Action::Admit(ip, user)),
            8 => (any::<usize>(), 0u64..25).prop_map(|(at, gap)| Action::Message(at, gap)),
            1 => any::<usize>().prop_map(Action::Release),
            1 => (any::<usize>(), 0u16..3).prop_map(|(at, user)| Action::Bind(at, user)),
            1 => (any::<bool>(), any::<bool>()).prop_map(|(user, ip)| Action::Rates(user, ip)),
        ]
    }

    /// Two networks of two addresses each, an IPv4 address, and the unknown address.
    const IPS: [&str; 6] = [
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
        "2001:db8:0:1::2",
        "192.0.2.1",
        "unknown",
    ];
    const NETWORKS: [usize; 6] = [0, 0, 1, 1, 2, 3];

    struct Row {
        table: usize,
        slot: u32,
        network: usize,
        user: Option<u16>,
        has_user_cell: bool,
        has_network_cell: bool,
    }

    /// Applies the actions to tables of one index, and to buckets that know all keys for good.
    fn agrees(tables: &mut [Table], actions: Vec<Action>) -> Result<(), TestCaseError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut users = [Bucket::new(PER_USER); 3];
        let mut networks = [Bucket::new(PER_IP); 4];
        let (mut by_user, mut by_ip) = (true, true);
        let mut now = 1_000;
        for table in &mut *tables {
            table.grow(512);
        }
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Admit(ip, user) => {
                    let table = step % tables.len();
                    let slot = admit(&mut tables[table], IPS[ip as usize], user);
                    rows.push(Row {
                        table,
                        slot,
                        network: NETWORKS[ip as usize],
                        user,
                        has_user_cell: false,
                        has_network_cell: false,
                    });
                }
                Action::Message(at, gap) if !rows.is_empty() => {
                    now += gap;
                    let at = at % rows.len();
                    let row = &mut rows[at];
                    for bucket in users.iter_mut().chain(&mut networks) {
                        bucket.fill(now);
                    }
                    row.has_user_cell |= by_user && row.user.is_some();
                    row.has_network_cell |= by_ip;
                    let user = row.user.filter(|_| by_user).map(usize::from);
                    let expected = if user.is_some_and(|user| !users[user].has_room()) {
                        Err(ExceededRate::User)
                    } else if by_ip && !networks[row.network].has_room() {
                        Err(ExceededRate::Ip)
                    } else {
                        if let Some(user) = user {
                            users[user].spend();
                        }
                        if by_ip {
                            networks[row.network].spend();
                        }
                        Ok(())
                    };
                    let got = tables[row.table].message(row.slot, now as f64);
                    prop_assert_eq!(got, expected);
                }
                Action::Release(at) if !rows.is_empty() => {
                    let row = rows.swap_remove(at % rows.len());
                    release(&mut tables[row.table], row.slot);
                    prop_assert_eq!(tables[row.table].message(row.slot, now as f64), Ok(()));
                }
                Action::Bind(at, user) if !rows.is_empty() => {
                    let at = at % rows.len();
                    let row = &mut rows[at];
                    let table = &mut tables[row.table];
                    let generation = table.generation(row.slot);
                    prop_assert!(table.bind_user(row.slot, generation, &[user]).is_ok());
                    row.has_user_cell &= row.user == Some(user);
                    row.user = Some(user);
                }
                Action::Rates(user, ip) => {
                    // The rates of a key begin anew when its rate changes.
                    if user != by_user {
                        users = [Bucket::new(PER_USER); 3];
                    }
                    if ip != by_ip {
                        networks = [Bucket::new(PER_IP); 4];
                    }
                    (by_user, by_ip) = (user, ip);
                    let changed = limits(user.then_some(PER_USER), ip.then_some(PER_IP));
                    tables[0].index().change_limits(&|limits| *limits = changed);
                }
                _ => {}
            }
            let distinct = |keys: Vec<usize>| {
                keys.into_iter()
                    .collect::<std::collections::HashSet<_>>()
                    .len()
            };
            let held = rows.iter().filter(|row| row.has_user_cell);
            let of_users = distinct(held.filter_map(|row| row.user.map(usize::from)).collect());
            let held = rows.iter().filter(|row| row.has_network_cell);
            let of_networks = distinct(held.map(|row| row.network).collect());
            prop_assert_eq!(
                tables[0].index().message_keys() as usize,
                of_users + of_networks
            );
        }
        Ok(())
    }

    proptest! {
        /// Properties: messages of all connections of a key spend one bucket, whichever table they
        /// are in; a refused message spends nothing; a key that leaves and returns goes on; keys are
        /// held for as long as a connection that has sent holds them.
        #[test]
        fn agree_with_buckets_of_all_keys(actions in proptest::collection::vec(action(), 1..300)) {
            let both = limits(Some(PER_USER), Some(PER_IP));
            let own = Scope::Own(Box::new(SeatIndex::<Local>::new(both)));
            agrees(&mut [Table::new(own)], actions.clone())?;
            let index = Arc::new(SeatIndex::new(both));
            let mut tables = [0, 1].map(|_| Table::new(Scope::Named(Arc::clone(&index))));
            agrees(&mut tables, actions)?;
            drop(tables);
            prop_assert_eq!(super::super::Admission::message_keys(&*index), 0);
        }
    }

    #[test]
    fn threads_spend_a_burst_exactly() {
        // All threads have one user; two of them share each network.
        let per_user = Rate {
            interval_ms: 1e6,
            burst: 900.0,
        };
        let per_ip = Rate {
            interval_ms: 1e6,
            burst: 200.0,
        };
        let index = Arc::new(SeatIndex::new(limits(Some(per_user), Some(per_ip))));
        let run = |ip: &str, messages: usize| {
            let mut table = Table::new(Scope::Named(Arc::clone(&index)));
            table.grow(4);
            let slot = admit(&mut table, ip, Some(1));
            (0..messages)
                .filter(|_| table.message(slot, 1.0).is_ok())
                .count()
        };
        let spent: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let ip = format!("10.0.0.{}", thread / 2);
                    scope.spawn(move || run(&ip, 5_000))
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(spent, 400);
        // A message that the network refuses has spent nothing of the user.
        let rest: usize = (2..5).map(|ip| run(&format!("10.0.0.{ip}"), 1_000)).sum();
        assert_eq!(rest, 500);
    }

    std::thread_local! {
        /// Cell that another thread spends after the next update.
        static RIVAL: std::cell::RefCell<Option<Arc<Cell>>> = const { std::cell::RefCell::new(None) };
    }

    /// Updates as `Local` does, and then lets a rival spend a cell.
    struct Racing;

    impl Sharing for Racing {
        type Counts<K: Key, V: Count, S: BuildHasher + Clone + Default> = LocalCounts<K, V, S>;

        fn update(word: &AtomicU64, next: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
            let updated = Local::update(word, next);
            if let Some(cell) = RIVAL.take() {
                cell.store(1e9f64.to_bits(), Relaxed);
            }
            updated
        }
    }

    #[test]
    fn a_message_that_loses_a_race_for_the_network_has_spent_nothing_of_the_user() {
        let rates = MessageRates::default();
        rates.replace(&limits(Some(PER_USER), Some(PER_IP)));
        let user = super::super::user_key::UserKeys::default().key(&[1]);
        let network = Address::parse("192.0.2.1");
        let mut held = HeldCells::default();
        let spend = |held: &mut HeldCells| rates.spend::<Racing>(held, network, Some(user), 1.0);
        assert_eq!(spend(&mut held), Ok(()));
        RIVAL.set(held.network.clone());
        assert_eq!(spend(&mut held), Err(ExceededRate::Ip));
        let spent = held.user.as_ref().map(|cell| arrival(cell.load(Relaxed)));
        assert_eq!(spent, Some(1.0 + PER_USER.interval_ms));
    }

    #[test]
    fn a_hundred_thousand_users_leave_nothing_behind() {
        let rates = MessageRates::default();
        rates.replace(&limits(Some(PER_USER), Some(PER_IP)));
        let keys = super::super::user_key::UserKeys::default();
        let mut held: Vec<_> = (0..100_000u32)
            .map(|user| {
                let key = keys.key(&[user as u16, (user >> 16) as u16]);
                let network = Address::from_ip(std::net::Ipv4Addr::from_bits(user).into());
                let mut held = HeldCells::default();
                let spent = rates.spend::<Local>(&mut held, network, Some(key), 1.0);
                assert_eq!(spent, Ok(()));
                (held, network, key)
            })
            .collect();
        assert_eq!(rates.keys(), 200_000);
        for (held, network, user) in held.drain(..) {
            rates.leave(held, network, Some(user));
        }
        assert_eq!(rates.keys(), 0);
        let room = lock(&rates.users).live.capacity() + lock(&rates.networks).live.capacity();
        assert!(room <= 4 * ROOM_MIN);
    }
}
