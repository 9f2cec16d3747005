//! The slots of one JavaScript thread: the seat of each connection, its lease, and the sweep for
//! idle connections.
//!
//! Owns slots, generations and leases. Does not own the counts (`seats`), the sockets, or the
//! column of stamps, which JavaScript allocates.
//!
//! Invariants: `taken` is the number of slots that are not free; a slot that becomes free gets the
//! next generation, so old handles to it no longer match.

use super::address::Address;
use super::limits::{Limits, Refusal};
use super::seats::{Admission, Scope, SeatIndex};
use super::user_key::UserKey;
use std::collections::VecDeque;

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Unused.
    Free,
    /// Admitted but not yet open; the lease expires by itself.
    Reserved,
    /// Open.
    Live,
}

#[derive(Clone, Copy)]
struct Slot {
    address: Address,
    user: Option<UserKey>,
    life: Life,
}

// Address 16, user key 12 (`None` is its niche), life 4.
const _: () = assert!(size_of::<Slot>() == 32);

/// The generation of a slot, modulo 2^30, with its state in the lowest two bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Life(u32);

impl Life {
    const fn new(generation: u32, state: State) -> Self {
        Self(generation << 2 | state as u32)
    }

    const fn generation(self) -> u32 {
        self.0 >> 2
    }

    fn is_free(self) -> bool {
        self.0 & 3 == State::Free as u32
    }

    /// Returns the free state of the next generation.
    const fn ended(self) -> Self {
        Self::new(self.generation().wrapping_add(1), State::Free)
    }
}

/// Slots over an index. Dropping the table gives every seat back.
///
/// Stamps are loop-time milliseconds modulo 2^32. The caller keeps them in a dense column
/// (`stamps[slot]`), so that a message costs one store and a sweep reads nothing else.
pub struct Table {
    index: Scope,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slot, generation and stamp of each lease, the oldest first: all leases are equally long.
    /// Committed ones are skipped when they reach the front.
    leases: VecDeque<(u32, u32, u32)>,
    taken: u32,
    capacity: u32,
    closed: bool,
}

/// Greatest age that is reported; it keeps old stamps apart from stamps in the future.
// The longest timeout is 2^30 ms; the tolerances added to it stay below this.
const AGE_MAX_MS: u32 = (1 << 30) + 4096;
/// Stamps that are compared at once.
const CHUNK: usize = 64;
/// Leases that one call handles.
const EXPIRE_MAX: usize = 4096;

impl Table {
    /// Creates a table without capacity; see [`Table::grow`].
    #[must_use]
    pub fn new(index: Scope) -> Self {
        Self {
            index,
            slots: Vec::new(),
            free: Vec::new(),
            leases: VecDeque::new(),
            taken: 0,
            capacity: 0,
            closed: false,
        }
    }

    /// Returns the index that the seats are taken from.
    #[must_use]
    pub fn index(&self) -> &dyn Admission {
        self.index.admission()
    }

    /// Adds capacity for `by` slots.
    pub fn grow(&mut self, by: u32) {
        self.capacity += by;
        self.slots.reserve_exact(by as usize);
    }

    /// True if no slot is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.taken == self.capacity
    }

    /// Returns the number of slots that are reserved or live.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Takes a seat and a slot, leased (`State::Reserved`) or open at once (`State::Live`). The
    /// caller makes sure that the table is not full.
    ///
    /// # Errors
    /// The limit that refused.
    pub fn reserve(
        &mut self,
        address: Address,
        user: Option<&[u16]>,
        now: f64,
        state: State,
    ) -> Result<u32, Refusal> {
        debug_assert!(state != State::Free);
        debug_assert!(!self.is_full());
        let user = user.map(|name| self.index.admission().user_key(name));
        self.index.admission().reserve(address, user, now)?;
        self.taken += 1;
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self.generation(at);
        let slot = Slot {
            address,
            user,
            life: Life::new(generation, state),
        };
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        Ok(at)
    }

    /// Returns the generation of a slot. Slot and generation form a handle that goes stale.
    #[must_use]
    pub fn generation(&self, slot: u32) -> u32 {
        self.slots
            .get(slot as usize)
            .map_or(0, |slot| slot.life.generation())
    }

    /// True if the handle names a slot in that state.
    #[must_use]
    pub fn is(&self, slot: u32, generation: u32, state: State) -> bool {
        self.slots
            .get(slot as usize)
            .is_some_and(|slot| slot.life == Life::new(generation, state))
    }

    /// Starts the lease of a reserved slot.
    pub fn lease(&mut self, slot: u32, now: u32) {
        debug_assert!(self.is(slot, self.generation(slot), State::Reserved));
        self.leases.push_back((slot, self.generation(slot), now));
    }

    /// Releases slots that were reserved more than `lease_ms` ago and never opened; at most
    /// [`EXPIRE_MAX`] per call.
    pub fn expire(&mut self, now: u32, lease_ms: u32) {
        for _ in 0..EXPIRE_MAX {
            match self.leases.front() {
                Some(&(slot, generation, stamp)) => {
                    let reserved = self.is(slot, generation, State::Reserved);
                    if reserved && age_of(now, stamp) <= lease_ms {
                        return;
                    }
                    if reserved {
                        self.release(slot, generation);
                    }
                    self.leases.pop_front();
                }
                None => return,
            }
        }
    }

    /// Releases all reserved slots, and leaves the index once the last seat is given back: a name
    /// becomes free when all its tables are closed, without waiting for garbage collection.
    pub fn close(&mut self) {
        for (slot, generation, _) in std::mem::take(&mut self.leases) {
            if self.is(slot, generation, State::Reserved) {
                self.release(slot, generation);
            }
        }
        self.closed = true;
        self.leave_if_done();
    }

    fn leave_if_done(&mut self) {
        if self.closed && self.taken == 0 && matches!(self.index, Scope::Named(_)) {
            self.index = Scope::Own(Box::new(SeatIndex::new(Limits::default())));
        }
    }

    /// Opens a reserved slot; returns `false` if the lease has expired or was used.
    pub fn commit(&mut self, slot: u32, generation: u32) -> bool {
        let reserved = self.is(slot, generation, State::Reserved);
        if reserved {
            self.slots[slot as usize].life = Life::new(generation, State::Live);
        }
        reserved
    }

    /// Returns the generation of a live slot.
    #[must_use]
    pub fn live(&self, slot: u32) -> Option<u32> {
        let found = self.slots.get(slot as usize)?;
        let generation = found.life.generation();
        (found.life == Life::new(generation, State::Live)).then_some(generation)
    }

    /// Gives the slot and its seat back; returns `false` for a stale handle.
    pub fn release(&mut self, slot: u32, generation: u32) -> bool {
        let Some(found) = self.slots.get_mut(slot as usize) else {
            return false;
        };
        if found.life.generation() != generation || found.life.is_free() {
            return false;
        }
        found.life = found.life.ended();
        let (address, user) = (found.address, found.user);
        self.index.admission().release(address, user);
        self.free.push(slot);
        self.taken -= 1;
        self.leave_if_done();
        true
    }

    /// Moves a slot to `user`. Returns `Ok(false)` for a stale handle.
    ///
    /// # Errors
    /// The limit of that user is reached.
    pub fn bind_user(&mut self, slot: u32, generation: u32, user: &[u16]) -> Result<bool, Refusal> {
        let Some(found) = self.slots.get_mut(slot as usize) else {
            return Ok(false);
        };
        if found.life.generation() != generation || found.life.is_free() {
            return Ok(false);
        }
        let to = self.index.admission().user_key(user);
        self.index
            .admission()
            .rebind(found.address, found.user, to)?;
        found.user = Some(to);
        Ok(true)
    }

    /// Scans the slots from `from` on, whose stamps are `stamps`, and writes the live ones that
    /// have been idle for more than `idle_ms` to `due`. Returns their number and the slot to
    /// continue from.
    ///
    /// Free and reserved slots get a new stamp, so that the next scans skip them.
    pub fn sweep(
        &self,
        now: u32,
        idle_ms: u32,
        from: u32,
        stamps: &mut [u32],
        due: &mut [u32],
    ) -> (usize, u32) {
        let mut count = 0;
        let idle = idle_ms.min(AGE_MAX_MS);
        for (chunk_at, chunk) in stamps.chunks_mut(CHUNK).enumerate() {
            // No branch per stamp, so that the compiler can compare many at once.
            if !chunk
                .iter()
                .fold(false, |any, &stamp| any | (age_of(now, stamp) > idle))
            {
                continue;
            }
            for (offset, stamp) in chunk.iter_mut().enumerate() {
                if age_of(now, *stamp) <= idle {
                    continue;
                }
                let at = from + (chunk_at * CHUNK + offset) as u32;
                if self.live(at).is_none() {
                    *stamp = now;
                } else if idle_ms > AGE_MAX_MS {
                    *stamp = now.wrapping_sub(AGE_MAX_MS);
                } else if count == due.len() {
                    return (count, at);
                } else {
                    due[count] = at;
                    count += 1;
                }
            }
        }
        (count, from + stamps.len() as u32)
    }
}

/// Returns the age of a stamp; 0 for a stamp in the future.
fn age_of(now: u32, stamp: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX / 2 { 0 } else { age }
}

impl Drop for Table {
    fn drop(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            self.release(slot, self.generation(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::RefusalCode;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn own(limits: Limits) -> Table {
        Table::new(Scope::Own(Box::new(SeatIndex::new(limits))))
    }

    type Row = (u32, u32, u8, Option<u8>);

    #[derive(Debug, Clone)]
    enum Action {
        Reserve(u8, Option<u8>),
        Release(usize),
        Bind(usize, u8),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (0u8..6, proptest::option::of(0u8..4)).prop_map(|(ip, user)| Action::Reserve(ip, user)),
            2 => any::<usize>().prop_map(Action::Release),
            1 => (any::<usize>(), 0u8..4).prop_map(|(at, user)| Action::Bind(at, user)),
        ]
    }

    fn ip(number: u8) -> String {
        // Two prefixes of two addresses each, and two IPv4 addresses.
        match number {
            0..4 => format!("2001:db8:0:{}::{}", number / 2, number),
            _ => format!("10.0.0.{number}"),
        }
    }

    const LIMITS: Limits = Limits {
        total: 9,
        per_ip: 3,
        per_prefix: 4,
        per_user: 3,
        anonymous: 5,
        anonymous_per_ip: 2,
        unknown: u32::MAX,
        prefix_bits: 64,
        ip_rate: None,
        user_rate: None,
    };

    fn agrees(table: &mut Table, actions: Vec<Action>) -> Result<(), TestCaseError> {
        table.grow(16);
        let mut model: Vec<Row> = Vec::new();
        for action in actions {
            match action {
                Action::Reserve(number, user) => {
                    let count =
                        |test: &dyn Fn(&Row) -> bool| model.iter().filter(|row| test(row)).count();
                    let expected = if model.len() >= 9 {
                        Some(RefusalCode::Total)
                    } else if number < 4 && count(&|row| row.2 < 4 && row.2 / 2 == number / 2) >= 4
                    {
                        Some(RefusalCode::Prefix)
                    } else if count(&|row| row.2 == number) >= 3 {
                        Some(RefusalCode::Ip)
                    } else if user.is_some() && count(&|row| row.3 == user) >= 3 {
                        Some(RefusalCode::User)
                    } else if user.is_none()
                        && count(&|row| row.2 == number && row.3.is_none()) >= 2
                    {
                        Some(RefusalCode::AnonymousIp)
                    } else if user.is_none() && count(&|row| row.3.is_none()) >= 5 {
                        Some(RefusalCode::Anonymous)
                    } else {
                        None
                    };
                    let name = user.map(|user| [u16::from(user)]);
                    let got = table.reserve(
                        Address::parse(&ip(number)),
                        name.as_ref().map(|name| &name[..]),
                        0.0,
                        State::Reserved,
                    );
                    prop_assert_eq!(got.as_ref().err().map(|refusal| refusal.code), expected);
                    if let Ok(slot) = got {
                        model.push((slot, table.generation(slot), number, user));
                    }
                }
                Action::Release(at) if !model.is_empty() => {
                    let (slot, generation, ..) = model.swap_remove(at % model.len());
                    prop_assert!(table.release(slot, generation));
                    prop_assert!(!table.release(slot, generation));
                }
                Action::Bind(at, user) if !model.is_empty() => {
                    let at = at % model.len();
                    let others = model.iter().filter(|row| row.3 == Some(user)).count();
                    let allowed = model[at].3 == Some(user) || others < 3;
                    let got = table.bind_user(model[at].0, model[at].1, &[u16::from(user)]);
                    prop_assert_eq!(got.is_ok(), allowed);
                    if allowed {
                        model[at].3 = Some(user);
                    }
                }
                _ => {}
            }
            let distinct = |mut keys: Vec<u8>| {
                keys.sort_unstable();
                keys.dedup();
                keys.len() as u32
            };
            prop_assert_eq!(
                table.index().counts(),
                [
                    model.len() as u32,
                    distinct(model.iter().map(|row| row.2).collect()),
                    distinct(model.iter().filter_map(|row| row.3).collect()),
                    model.iter().filter(|row| row.3.is_none()).count() as u32,
                ]
            );
        }
        Ok(())
    }

    proptest! {
        /// Properties: the same outcomes and counts as a list of (ip, user); stale handles change
        /// nothing; a dropped table leaves no seat taken.
        #[test]
        fn agrees_with_a_list(actions in proptest::collection::vec(action(), 1..200)) {
            agrees(&mut own(LIMITS), actions.clone())?;
            let index = Arc::new(SeatIndex::new(LIMITS));
            let mut table = Table::new(Scope::Named(index.clone()));
            agrees(&mut table, actions)?;
            drop(table);
            prop_assert_eq!(index.counts(), [0, 0, 0, 0]);
        }
    }

    #[test]
    fn threads_never_exceed_a_limit_and_leave_no_seat_taken() {
        let index = Arc::new(SeatIndex::new(Limits {
            total: 50,
            per_ip: 7,
            per_user: 5,
            ..Limits::default()
        }));
        std::thread::scope(|scope| {
            for seed in 0..4u32 {
                let index = index.clone();
                scope.spawn(move || {
                    let mut table = Table::new(Scope::Named(index.clone()));
                    table.grow(64);
                    let mut held = Vec::new();
                    let mut random = seed + 1;
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let pick = random >> 16;
                        if held.len() < 60 && pick % 2 == 0 {
                            let address = Address::parse(&format!("10.0.0.{}", pick % 9));
                            if let Ok(slot) = table.reserve(
                                address,
                                Some(&[(pick % 13) as u16]),
                                0.0,
                                State::Live,
                            ) {
                                held.push(slot);
                            }
                        } else if let Some(slot) = held.pop() {
                            assert!(table.release(slot, table.generation(slot)));
                        }
                        assert!(index.counts()[0] <= 50);
                    }
                });
            }
        });
        assert_eq!(index.counts(), [0, 0, 0, 0]);
    }

    #[test]
    fn a_sweep_finds_idle_slots_only() {
        let mut table = own(Limits::default());
        table.grow(8);
        for slot in 0..4 {
            assert_eq!(
                table.reserve(Address::UNKNOWN, None, 0.0, State::Reserved),
                Ok(slot)
            );
        }
        for slot in 0..3 {
            assert!(table.commit(slot, 0));
        }
        let mut stamps = [0, 950, 499, 0, 0, 0, 0, 0];
        let mut due = [0; 8];
        let (count, next) = table.sweep(1_000, 500, 0, &mut stamps, &mut due);
        assert_eq!((&due[..count], next), (&[0, 2][..], 8));
        assert_eq!(stamps[3..], [1_000; 5]);
        // A full list returns the slot to continue from.
        let mut stamps = [0, 0, 0, 0];
        let (count, next) = table.sweep(1_000, 500, 0, &mut stamps, &mut due[..2]);
        assert_eq!((count, next), (2, 2));
        // Ages stay right when the clock wraps around.
        let mut stamps = [u32::MAX - 400, u32::MAX - 10, 10, 10];
        let (count, _) = table.sweep(200, 500, 0, &mut stamps, &mut due);
        assert_eq!(&due[..count], &[0]);
    }

    #[test]
    fn a_lease_expires_unless_it_was_committed() {
        let mut table = own(Limits::default());
        table.grow(8);
        for slot in 0..3 {
            assert_eq!(
                table.reserve(Address::UNKNOWN, None, 0.0, State::Reserved),
                Ok(slot)
            );
            table.lease(slot, slot * 10);
        }
        assert!(table.commit(0, 0));
        table.expire(30, 20);
        assert_eq!((table.taken(), table.generation(0)), (3, 0));
        table.expire(31, 20);
        assert_eq!(
            (table.taken(), table.generation(1), table.generation(2)),
            (2, 1, 0)
        );
        assert!(!table.commit(1, 0));
        // Another connection uses the slot by now: the expired lease must not touch it.
        assert_eq!(
            table.reserve(Address::UNKNOWN, None, 0.0, State::Live),
            Ok(1)
        );
        table.expire(1_000, 20);
        assert_eq!(table.taken(), 2);
    }
}
