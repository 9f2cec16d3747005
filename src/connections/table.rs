//! The slots of one JavaScript thread: the seat of each connection, its lease, and the sweep for
//! idle connections.
//!
//! Owns slots, generations and leases. Does not own the counts (`seats`), the sockets, or the
//! column of stamps, which JavaScript allocates.
//!
//! Invariants: `taken` is the number of slots that are not free; a slot that becomes free gets the
//! next generation, so old handles to it no longer match.

use super::address::Address;
use super::limits::{Limits, Refusal, RefusalCode};
use super::message_rates::{ExceededRate, HeldCells};
use super::seats::{Admission, Holder, Scope, SeatIndex};
use super::user_key::UserKey;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Unused.
    Free,
    /// Admitted but not yet open; the lease expires by itself.
    Reserved,
    /// Open.
    Live,
    /// Admitted by its address, not yet identified; the lease expires by itself.
    Pending,
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

    fn is(self, state: State) -> bool {
        self.0 & 3 == state as u32
    }

    fn is_free(self) -> bool {
        self.is(State::Free)
    }

    /// Returns the free state of the next generation.
    const fn ended(self) -> Self {
        Self::new(self.generation().wrapping_add(1), State::Free)
    }
}

impl Slot {
    fn holder(&self) -> Holder {
        if self.life.is(State::Pending) {
            Holder::Pending
        } else {
            Holder::from(self.user)
        }
    }
}

/// Leases of one length, the oldest first.
#[derive(Default)]
struct Leases {
    /// Slot, generation and stamp.
    queue: VecDeque<(u32, u32, u32)>,
    /// Leases in the queue that have ended: at most as many as are under way, and a few.
    ended: usize,
}

impl Leases {
    fn push(&mut self, slot: u32, generation: u32, stamp: u32) {
        self.queue.push_back((slot, generation, stamp));
    }

    /// Notes that a lease has ended. Removes the ended ones once they are the greater half, so that
    /// the queue is bounded by the leases under way, at constant amortized cost.
    fn end(&mut self, is_open: impl Fn(u32, u32) -> bool) {
        self.ended += 1;
        if self.ended > self.queue.len() / 2 + ENDED_MIN {
            self.queue
                .retain(|&(slot, generation, _)| is_open(slot, generation));
            self.ended = 0;
        }
    }
}

/// Seats that are counted outside of this process, too.
pub trait Ledger {
    /// Asks for a seat. Returns its ticket, and an answer: 0 if it is granted, -1 if the answer comes
    /// later, a code if it is refused; the ticket is 0 then.
    fn ask(&self, address: Address, user: Option<&[u16]>, is_exempt: bool) -> (u64, i32);

    /// Asks for a seat of `user` for the seat of a ticket; returns as `ask`, with a ticket of the question. The seat
    /// has moved with the answer 0, and is where it was with any other.
    fn rebind(&self, ticket: u64, user: &[u16]) -> (u64, i32);

    /// Gives a seat back, or ends the wait for one. Ignores a ticket that was refused.
    fn release(&self, ticket: u64);
}

/// A seat on its way to another user: both are counted.
struct Move {
    to: UserKey,
    /// Ticket of the question to the ledger.
    ticket: u64,
}

/// Slots over an index. Dropping the table gives every seat back.
///
/// Stamps are loop-time milliseconds modulo 2^32. The caller keeps them in a dense column
/// (`stamps[slot]`), so that a message costs one store and a sweep reads nothing else.
pub struct Table {
    index: Scope,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Leases of identified clients.
    reserved: Leases,
    /// Leases of clients that are not identified yet.
    pending: Leases,
    /// Leases that a user holds beyond the limit: one that opens closes an older connection.
    claims: HashMap<u32, UserKey>,
    claims_of: HashMap<UserKey, u32>,
    taken: u32,
    capacity: u32,
    closed: bool,
    ledger: Option<Box<dyn Ledger>>,
    /// Tickets of the ledger, by slot; 0 is none.
    tickets: Vec<u64>,
    /// Cells of the message rates, by slot; empty until a message is rated.
    held: Vec<HeldCells>,
    /// Live slots whose seat is about to move, by slot.
    moves: HashMap<u32, Move>,
}

/// Greatest age that is reported; it keeps old stamps apart from stamps in the future.
// The longest timeout is 2^30 ms; the tolerances added to it stay below this.
const AGE_MAX_MS: u32 = (1 << 30) + 4096;
/// Stamps that are compared at once.
const CHUNK: usize = 64;
/// Leases that one call handles.
const EXPIRE_MAX: usize = 4096;
/// Ended leases that may stay in a queue.
const ENDED_MIN: usize = 64;

/// A request for a seat.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer<'name> {
    /// The client's address.
    pub address: Address,
    /// The user's name, in UTF-16 units.
    pub user: Option<&'name [u16]>,
    /// Time for the connect rates, ms.
    pub now: f64,
    /// Live slot that ends if the newcomer is admitted.
    pub replaces: Option<u32>,
    /// Open connections of this user in this table, one of which may be closed for the newcomer.
    pub claimable: u32,
}

/// A seat that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The slot.
    pub slot: u32,
    /// True if the user is over the limit: an older connection has to close once this one opens.
    pub claims: bool,
    /// First limit that would have refused, if the limits are only observed.
    pub observed: Option<RefusalCode>,
}

/// The outcome of an identification or a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The handle names no such lease.
    Stale,
    /// Done.
    Done,
    /// Done; the user is over the limit, and an older connection has to close.
    Over,
}

impl Table {
    /// Creates a table without capacity; see [`Table::grow`].
    #[must_use]
    pub fn new(index: Scope) -> Self {
        Self {
            index,
            slots: Vec::new(),
            free: Vec::new(),
            reserved: Leases::default(),
            pending: Leases::default(),
            claims: HashMap::new(),
            claims_of: HashMap::new(),
            taken: 0,
            capacity: 0,
            closed: false,
            ledger: None,
            tickets: Vec::new(),
            held: Vec::new(),
            moves: HashMap::new(),
        }
    }

    /// Counts seats in `ledger`, too, once `ask` has asked for them.
    pub fn count_in(&mut self, ledger: Box<dyn Ledger>) {
        self.ledger = Some(ledger);
    }

    /// Asks the ledger for the seat of a reserved slot; returns `None` for a stale handle or without
    /// a ledger. A refusal gives the slot and its seat back. The slot's seat in the ledger is given
    /// back with the slot.
    pub fn ask(
        &mut self,
        slot: u32,
        generation: u32,
        user: Option<&[u16]>,
        is_exempt: bool,
    ) -> Option<(u64, i32)> {
        if !self.is(slot, generation, State::Reserved) || self.ticket(slot) != 0 {
            return None;
        }
        let address = self.slots[slot as usize].address;
        let (ticket, code) = self.ledger.as_ref()?.ask(address, user, is_exempt);
        if code > 0 {
            self.release(slot, generation);
        } else {
            if self.tickets.len() <= slot as usize {
                self.tickets.resize(self.slots.len(), 0);
            }
            self.tickets[slot as usize] = ticket;
        }
        Some((ticket, code))
    }

    fn ticket(&self, slot: u32) -> u64 {
        self.tickets.get(slot as usize).copied().unwrap_or_default()
    }

    /// Returns the live slot of a ticket of the ledger, whose seat a newcomer replaces. A lease gives its seat back.
    pub fn replaced(&mut self, ticket: u64) -> Option<u32> {
        let slot = self.tickets.iter().position(|&one| one == ticket)? as u32;
        if self.live(slot).is_some() {
            return Some(slot);
        }
        self.release(slot, self.generation(slot));
        None
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

    /// True if slots that ended must be released before a seat is taken: others wait for their seats, or a refusal
    /// would have spent a connect rate already.
    #[must_use]
    pub fn settles_first(&self) -> bool {
        self.ledger.is_some() || self.index().has_rates()
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
    /// A user at the limit is admitted if fewer than `claimable` leases claim a connection of that
    /// user already.
    ///
    /// # Errors
    /// The limit that refused.
    pub fn reserve(&mut self, newcomer: &Newcomer<'_>, state: State) -> Result<Admitted, Refusal> {
        debug_assert!(matches!(state, State::Reserved | State::Live));
        debug_assert!(!self.is_full());
        let index = self.index.admission();
        let user = newcomer.user.map(|name| index.user_key(name));
        let replaced = newcomer
            .replaces
            .and_then(|slot| self.slots.get(slot as usize))
            .filter(|slot| slot.life.is(State::Live))
            .map(|slot| (slot.address, slot.holder()));
        // A user who replaces a connection gets room by that.
        let replaces_own =
            user.is_some() && replaced.map(|(_, from)| from) == user.map(Holder::User);
        let over = !replaces_own && self.may_claim(user, newcomer.claimable);
        let observed = index.reserve(newcomer.address, user, newcomer.now, replaced, over)?;
        let claims = over && user.is_some_and(|user| index.is_over(user));
        let slot = self.occupy(newcomer.address, user, state);
        if claims && state == State::Reserved {
            self.claim(slot, user);
        }
        Ok(Admitted {
            slot,
            claims,
            observed,
        })
    }

    /// Takes a seat and a slot for a client that is not identified yet. The caller makes sure that
    /// the table is not full.
    ///
    /// # Errors
    /// The limit that refused.
    pub fn arrive(&mut self, address: Address, now: f64) -> Result<Admitted, Refusal> {
        debug_assert!(!self.is_full());
        let observed = self.index.admission().arrive(address, now)?;
        Ok(Admitted {
            slot: self.occupy(address, None, State::Pending),
            claims: false,
            observed,
        })
    }

    /// Gives a pending slot to a user, or to an anonymous client; returns `None` for a stale handle.
    /// `claimable` as in [`Newcomer`].
    ///
    /// # Errors
    /// The limit that refused; the slot and its seat are given back then.
    pub fn identify(
        &mut self,
        slot: u32,
        generation: u32,
        user: Option<&[u16]>,
        now: f64,
        claimable: u32,
    ) -> Result<Option<Admitted>, Refusal> {
        if !self.is(slot, generation, State::Pending) {
            return Ok(None);
        }
        let index = self.index.admission();
        let address = self.slots[slot as usize].address;
        let user = user.map(|name| index.user_key(name));
        let over = self.may_claim(user, claimable);
        let verdict = index.identify(address, user, now, over);
        let claims = over && verdict.is_ok() && user.is_some_and(|user| index.is_over(user));
        let observed = match verdict {
            Ok(observed) => observed,
            Err(refusal) => {
                self.release(slot, generation);
                return Err(refusal);
            }
        };
        let found = &mut self.slots[slot as usize];
        found.user = user;
        found.life = Life::new(generation, State::Reserved);
        self.end_lease(State::Pending);
        if claims {
            self.claim(slot, user);
        }
        Ok(Some(Admitted {
            slot,
            claims,
            observed,
        }))
    }

    /// True if the user may hold one more lease beyond the limit.
    fn may_claim(&self, user: Option<UserKey>, claimable: u32) -> bool {
        claimable > 0
            && user.is_some_and(|user| {
                self.claims_of.get(&user).copied().unwrap_or_default() < claimable
            })
    }

    fn claim(&mut self, slot: u32, user: Option<UserKey>) {
        if let Some(user) = user {
            self.claims.insert(slot, user);
            *self.claims_of.entry(user).or_default() += 1;
        }
    }

    /// Ends the claim of a slot, if it has one, and returns its user.
    fn unclaim(&mut self, slot: u32) -> Option<UserKey> {
        // Nearly always empty: no lookup for each connection then.
        if self.claims.is_empty() {
            return None;
        }
        let user = self.claims.remove(&slot)?;
        if let Entry::Occupied(mut entry) = self.claims_of.entry(user) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        Some(user)
    }

    fn occupy(&mut self, address: Address, user: Option<UserKey>, state: State) -> u32 {
        self.taken += 1;
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        let slot = Slot {
            address,
            user,
            life: Life::new(self.generation(at), state),
        };
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        at
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

    /// Starts the lease of a reserved or pending slot.
    pub fn lease(&mut self, slot: u32, now: u32) {
        let generation = self.generation(slot);
        if self.is(slot, generation, State::Pending) {
            self.pending.push(slot, generation, now);
        } else {
            debug_assert!(self.is(slot, generation, State::Reserved));
            self.reserved.push(slot, generation, now);
        }
    }

    /// Notes that a lease of a slot in that state has ended.
    fn end_lease(&mut self, state: State) {
        let Self {
            slots,
            reserved,
            pending,
            ..
        } = self;
        let leases = if state == State::Pending {
            pending
        } else {
            reserved
        };
        leases.end(|slot, generation| {
            slots
                .get(slot as usize)
                .is_some_and(|found| found.life == Life::new(generation, state))
        });
    }

    /// Releases slots that were reserved more than `lease_ms` ago, or are pending for more than
    /// `pending_ms`, and never opened. Handles at most [`EXPIRE_MAX`] of each per call; returns
    /// `true` if there may be more.
    pub fn expire(&mut self, now: u32, lease_ms: u32, pending_ms: u32) -> bool {
        let reserved = self.expire_in(State::Reserved, now, lease_ms);
        self.expire_in(State::Pending, now, pending_ms) || reserved
    }

    fn expire_in(&mut self, state: State, now: u32, lease_ms: u32) -> bool {
        for _ in 0..EXPIRE_MAX {
            let leases = if state == State::Pending {
                &mut self.pending
            } else {
                &mut self.reserved
            };
            let Some(&(slot, generation, stamp)) = leases.queue.front() else {
                return false;
            };
            let is_open = self.is(slot, generation, state);
            if is_open && age_of(now, stamp) <= lease_ms {
                return false;
            }
            let leases = if state == State::Pending {
                &mut self.pending
            } else {
                &mut self.reserved
            };
            leases.queue.pop_front();
            if is_open {
                self.give_up(slot);
            } else {
                leases.ended = leases.ended.saturating_sub(1);
            }
        }
        true
    }

    /// Releases all leases, and leaves the index once the last seat is given back: a name becomes
    /// free when all its tables are closed, without waiting for garbage collection.
    pub fn close(&mut self) {
        for (leases, state) in [
            (std::mem::take(&mut self.reserved), State::Reserved),
            (std::mem::take(&mut self.pending), State::Pending),
        ] {
            for (slot, generation, _) in leases.queue {
                if self.is(slot, generation, state) {
                    self.give_up(slot);
                }
            }
        }
        self.closed = true;
        self.leave_if_done();
    }

    /// Returns the leases in the queues, those that have ended included.
    #[cfg(test)]
    fn queued(&self) -> usize {
        self.reserved.queue.len() + self.pending.queue.len()
    }

    fn leave_if_done(&mut self) {
        if self.closed && self.taken == 0 && !matches!(self.index, Scope::Own(_)) {
            self.index = Scope::Own(Box::new(SeatIndex::new(Limits::default())));
        }
    }

    /// Opens a reserved slot.
    pub fn commit(&mut self, slot: u32, generation: u32) -> Outcome {
        if !self.is(slot, generation, State::Reserved) {
            return Outcome::Stale;
        }
        self.slots[slot as usize].life = Life::new(generation, State::Live);
        self.end_lease(State::Reserved);
        match self.unclaim(slot) {
            Some(user) if self.index.admission().is_over(user) => Outcome::Over,
            _ => Outcome::Done,
        }
    }

    /// True if the user of a live slot has more seats than the limit allows.
    #[must_use]
    pub fn is_over(&self, slot: u32) -> bool {
        self.slots
            .get(slot as usize)
            .filter(|found| found.life.is(State::Live))
            .and_then(|found| found.user)
            .is_some_and(|user| self.index.admission().is_over(user))
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
        let Some(found) = self.slots.get(slot as usize) else {
            return false;
        };
        if found.life.generation() != generation || found.life.is_free() {
            return false;
        }
        let state = match found.holder() {
            Holder::Pending => Some(State::Pending),
            _ if found.life.is(State::Reserved) => Some(State::Reserved),
            _ => None,
        };
        self.give_up(slot);
        if let Some(state) = state {
            self.end_lease(state);
        }
        true
    }

    /// Frees a slot that is taken, and gives its seat back.
    fn give_up(&mut self, slot: u32) {
        self.unclaim(slot);
        self.end_move(slot, false);
        if let Some(ledger) = &self.ledger
            && let Some(ticket) = self.tickets.get_mut(slot as usize)
            && *ticket != 0
        {
            ledger.release(std::mem::take(ticket));
        }
        let found = &mut self.slots[slot as usize];
        let (address, holder, user) = (found.address, found.holder(), found.user);
        found.life = found.life.ended();
        if let Some(held) = self.held.get_mut(slot as usize) {
            let held = std::mem::take(held);
            self.index.admission().release_cells(held, address, user);
        }
        self.index.admission().release(address, holder);
        self.free.push(slot);
        self.taken -= 1;
        self.leave_if_done();
    }

    /// Spends one message of a live slot, in the message rates of its user and its network.
    ///
    /// # Errors
    /// The rate that is exceeded; the message has spent nothing.
    pub fn message(&mut self, slot: u32, now: f64) -> Result<(), ExceededRate> {
        let Some(found) = self.slots.get(slot as usize) else {
            return Ok(());
        };
        if !found.life.is(State::Live) {
            return Ok(());
        }
        if self.held.len() <= slot as usize {
            self.held.resize_with(self.slots.len(), HeldCells::default);
        }
        let held = &mut self.held[slot as usize];
        self.index
            .admission()
            .message(held, found.address, found.user, now)
    }

    /// Moves a slot to `user`. Returns `Ok(None)` for a stale handle.
    ///
    /// # Errors
    /// The limit of that user is reached.
    pub fn bind_user(
        &mut self,
        slot: u32,
        generation: u32,
        user: &[u16],
    ) -> Result<Option<Admitted>, Refusal> {
        if !self.is(slot, generation, State::Live) && !self.is(slot, generation, State::Reserved) {
            return Ok(None);
        }
        let found = &mut self.slots[slot as usize];
        let to = self.index.admission().user_key(user);
        let observed = self
            .index
            .admission()
            .rebind(found.address, found.user, to)?;
        let from = found.user.replace(to);
        if let Some(held) = self.held.get_mut(slot as usize)
            && from != Some(to)
        {
            self.index.admission().move_cells(held, from);
        }
        Ok(Some(Admitted {
            slot,
            claims: false,
            observed,
        }))
    }

    /// Asks the ledger to move a live slot to `user`. Until [`Table::end_move`] the slot holds a seat of both users.
    /// Returns the ticket and the answer, as [`Table::ask`] does; `None` for a stale handle, without a ledger, and
    /// while another move of the slot is under way.
    ///
    /// # Errors
    /// The limit of that user is reached in this index; nothing has changed then.
    pub fn ask_move(
        &mut self,
        slot: u32,
        generation: u32,
        user: &[u16],
    ) -> Result<Option<(u64, i32)>, Refusal> {
        let is_live = self.is(slot, generation, State::Live);
        let Some(ledger) = self.ledger.as_ref().filter(|_| is_live) else {
            return Ok(None);
        };
        if self.moves.contains_key(&slot) {
            return Ok(None);
        }
        let index = self.index.admission();
        let to = index.user_key(user);
        if self.slots[slot as usize].user == Some(to) {
            return Ok(Some((0, 0)));
        }
        index.add_user(to)?;
        let (ticket, code) = ledger.rebind(self.ticket(slot), user);
        if code > 0 {
            index.leave_user(self.slots[slot as usize].address, Some(to));
        } else {
            self.moves.insert(slot, Move { to, ticket });
        }
        Ok(Some((ticket, code)))
    }

    /// Ends a move: the slot is the new user's from now on, or stays where it was. Returns `false` if none is under way.
    pub fn end_move(&mut self, slot: u32, is_granted: bool) -> bool {
        // Nearly always empty: no lookup for each connection then.
        if self.moves.is_empty() {
            return false;
        }
        let Some(Move { to, ticket }) = self.moves.remove(&slot) else {
            return false;
        };
        let found = &mut self.slots[slot as usize];
        let index = self.index.admission();
        if is_granted {
            index.leave_user(found.address, found.user);
            found.user = Some(to);
            return true;
        }
        index.leave_user(found.address, Some(to));
        if let Some(ledger) = &self.ledger {
            ledger.release(ticket);
        }
        true
    }

    /// Scans the slots from `from` on, whose stamps are `stamps`, and writes the live ones that
    /// have been idle for more than `idle_ms` to `due`. Returns their number and the slot to
    /// continue from.
    ///
    /// Free and reserved slots get a new stamp, so that the next scans skip them.
    ///
    /// The stamps are atomics, since JavaScript's threads share their memory. Relaxed: no stamp
    /// depends on another.
    pub fn sweep(
        &self,
        now: u32,
        idle_ms: u32,
        from: u32,
        stamps: &[AtomicU32],
        due: &mut [u32],
    ) -> (usize, u32) {
        let mut count = 0;
        let idle = idle_ms.min(AGE_MAX_MS);
        let mut copy = [now; CHUNK];
        for (chunk_at, chunk) in stamps.chunks(CHUNK).enumerate() {
            for (copy, stamp) in copy.iter_mut().zip(chunk) {
                *copy = stamp.load(Relaxed);
            }
            // A copy, and no branch per stamp, so that the compiler can compare many at once.
            if !copy[..chunk.len()]
                .iter()
                .fold(false, |any, &stamp| any | (age_of(now, stamp) > idle))
            {
                continue;
            }
            for (offset, stamp) in chunk.iter().enumerate() {
                if age_of(now, stamp.load(Relaxed)) <= idle {
                    continue;
                }
                let at = from + (chunk_at * CHUNK + offset) as u32;
                if self.live(at).is_none() {
                    stamp.store(now, Relaxed);
                } else if idle_ms > AGE_MAX_MS {
                    stamp.store(now.wrapping_sub(AGE_MAX_MS), Relaxed);
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

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Who {
        Pending,
        Anonymous,
        User(u8),
    }

    fn who(user: Option<u8>) -> Who {
        user.map_or(Who::Anonymous, Who::User)
    }

    #[derive(Debug, Clone, Copy)]
    struct Row {
        slot: u32,
        generation: u32,
        ip: u8,
        who: Who,
    }

    #[derive(Debug, Clone)]
    enum Action {
        /// Opens a connection, which may replace another one.
        Admit(u8, Option<u8>, Option<usize>),
        Arrive(u8),
        Identify(usize, Option<u8>),
        Release(usize),
        Bind(usize, u8),
    }

    fn action() -> impl Strategy<Value = Action> {
        let user = || proptest::option::of(0u8..4);
        prop_oneof![
            3 => (0u8..7, user(), proptest::option::weighted(0.3, any::<usize>()))
                .prop_map(|(ip, user, at)| Action::Admit(ip, user, at)),
            2 => (0u8..7).prop_map(Action::Arrive),
            2 => (any::<usize>(), user()).prop_map(|(at, user)| Action::Identify(at, user)),
            2 => any::<usize>().prop_map(Action::Release),
            1 => (any::<usize>(), 0u8..4).prop_map(|(at, user)| Action::Bind(at, user)),
        ]
    }

    fn ip(number: u8) -> String {
        // Two prefixes of two addresses each, two IPv4 addresses, and the unknown address.
        match number {
            0..4 => format!("2001:db8:0:{}::{}", number / 2, number),
            4..6 => format!("10.0.0.{number}"),
            _ => "unknown".to_owned(),
        }
    }

    const LIMITS: Limits = Limits {
        total: 9,
        per_ip: 3,
        per_prefix: 4,
        per_user: 3,
        anonymous: 5,
        anonymous_per_ip: 2,
        unknown: 2,
        prefix_bits: 64,
        ip_rate: None,
        user_rate: None,
        message_user_rate: None,
        message_ip_rate: None,
        observes: false,
    };

    /// The limits without an identity, of a list from which the replaced row has been removed.
    fn refused_at_door(rows: &[Row], number: u8) -> Option<RefusalCode> {
        let count = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();
        if rows.len() >= 9 {
            Some(RefusalCode::Total)
        } else if number < 4 && count(&|row| row.ip < 4 && row.ip / 2 == number / 2) >= 4 {
            Some(RefusalCode::Prefix)
        } else if number == 6 && count(&|row| row.ip == 6) >= 2 {
            Some(RefusalCode::Unknown)
        } else if number != 6 && count(&|row| row.ip == number) >= 3 {
            Some(RefusalCode::Ip)
        } else {
            None
        }
    }

    fn refused_by_identity(rows: &[Row], number: u8, user: Option<u8>) -> Option<RefusalCode> {
        let count = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();
        match user {
            Some(_) if count(&|row| row.who == who(user)) >= 3 => Some(RefusalCode::User),
            None if count(&|row| row.ip == number && row.who == Who::Anonymous) >= 2 => {
                Some(RefusalCode::AnonymousIp)
            }
            None if count(&|row| row.who == Who::Anonymous) >= 5 => Some(RefusalCode::Anonymous),
            _ => None,
        }
    }

    fn newcomer(number: u8, name: Option<&[u16]>) -> Newcomer<'_> {
        Newcomer {
            address: Address::parse(&ip(number)),
            user: name,
            now: 0.0,
            replaces: None,
            claimable: 0,
        }
    }

    /// Applies the actions to a table and to a list of rows. Limits that are only observed refuse
    /// nothing, and name the refusal of the list.
    fn agrees(
        table: &mut Table,
        actions: Vec<Action>,
        observes: bool,
    ) -> Result<(), TestCaseError> {
        table.grow(256);
        let mut model: Vec<Row> = Vec::new();
        for action in actions {
            match action {
                Action::Admit(number, user, replaced) => {
                    let live: Vec<usize> = (0..model.len())
                        .filter(|&at| table.live(model[at].slot).is_some())
                        .collect();
                    let replaced = replaced
                        .filter(|_| !live.is_empty())
                        .map(|at| live[at % live.len()]);
                    let mut rest = model.clone();
                    if let Some(at) = replaced {
                        rest.remove(at);
                    }
                    let expected = refused_at_door(&rest, number)
                        .or_else(|| refused_by_identity(&rest, number, user));
                    let name = user.map(|user| [u16::from(user)]);
                    let got = table.reserve(
                        &Newcomer {
                            replaces: replaced.map(|at| model[at].slot),
                            ..newcomer(number, name.as_ref().map(|name| &name[..]))
                        },
                        State::Live,
                    );
                    check(&got, expected, observes)?;
                    if let Ok(Admitted { slot, .. }) = got {
                        if let Some(at) = replaced {
                            let old = model.remove(at);
                            prop_assert!(table.release(old.slot, old.generation));
                        }
                        let generation = table.generation(slot);
                        model.push(Row {
                            slot,
                            generation,
                            ip: number,
                            who: who(user),
                        });
                    }
                }
                Action::Arrive(number) => {
                    let expected = refused_at_door(&model, number);
                    let got = table.arrive(Address::parse(&ip(number)), 0.0);
                    check(&got, expected, observes)?;
                    if let Ok(Admitted { slot, .. }) = got {
                        let generation = table.generation(slot);
                        model.push(Row {
                            slot,
                            generation,
                            ip: number,
                            who: Who::Pending,
                        });
                    }
                }
                Action::Identify(at, user) if !model.is_empty() => {
                    let at = at % model.len();
                    let Row {
                        slot,
                        generation,
                        ip: number,
                        who: before,
                    } = model[at];
                    let name = user.map(|user| [u16::from(user)]);
                    let name = name.as_ref().map(|name| &name[..]);
                    let got = table.identify(slot, generation, name, 0.0, 0);
                    if before != Who::Pending {
                        prop_assert_eq!(got, Ok(None));
                        continue;
                    }
                    let expected = refused_by_identity(&model, number, user);
                    match got {
                        Ok(None) => prop_assert!(false, "the handle is not stale"),
                        Ok(Some(admitted)) => {
                            check(&Ok(admitted), expected, observes)?;
                            model[at].who = who(user);
                        }
                        Err(refusal) => {
                            check(&Err(refusal), expected, observes)?;
                            prop_assert!(!table.release(slot, generation));
                            model.swap_remove(at);
                        }
                    }
                }
                Action::Release(at) if !model.is_empty() => {
                    let row = model.swap_remove(at % model.len());
                    prop_assert!(table.release(row.slot, row.generation));
                    prop_assert!(!table.release(row.slot, row.generation));
                }
                Action::Bind(at, user) if !model.is_empty() => {
                    let at = at % model.len();
                    let row = model[at];
                    if row.who == Who::Pending {
                        continue;
                    }
                    let others = model
                        .iter()
                        .filter(|row| row.who == Who::User(user))
                        .count();
                    let allowed = observes || row.who == Who::User(user) || others < 3;
                    let got = table.bind_user(row.slot, row.generation, &[u16::from(user)]);
                    prop_assert_eq!(got.is_ok(), allowed);
                    if allowed {
                        model[at].who = Who::User(user);
                    }
                }
                _ => {}
            }
            let distinct = |mut keys: Vec<u8>| {
                keys.sort_unstable();
                keys.dedup();
                keys.len() as u32
            };
            let users = model.iter().filter_map(|row| match row.who {
                Who::User(user) => Some(user),
                _ => None,
            });
            prop_assert_eq!(
                table.index().counts(),
                [
                    model.len() as u32,
                    distinct(model.iter().map(|row| row.ip).collect()),
                    distinct(users.collect()),
                    model.iter().filter(|row| row.who == Who::Anonymous).count() as u32,
                ]
            );
        }
        Ok(())
    }

    fn check(
        got: &Result<Admitted, Refusal>,
        expected: Option<RefusalCode>,
        observes: bool,
    ) -> Result<(), TestCaseError> {
        match got {
            Ok(admitted) => {
                prop_assert!(observes || expected.is_none());
                prop_assert_eq!(admitted.observed, expected);
                prop_assert!(!admitted.claims);
            }
            Err(refusal) => prop_assert_eq!((Some(refusal.code), observes), (expected, false)),
        }
        Ok(())
    }

    proptest! {
        /// Properties: the same outcomes and counts as a list of (ip, user); stale handles change
        /// nothing; a dropped table leaves no seat taken.
        #[test]
        fn agrees_with_a_list(actions in proptest::collection::vec(action(), 1..200)) {
            agrees(&mut own(LIMITS), actions.clone(), false)?;
            let observed = Limits { observes: true, ..LIMITS };
            agrees(&mut own(observed), actions.clone(), true)?;
            let index = Arc::new(SeatIndex::new(LIMITS));
            let mut table = Table::new(Scope::Named(index.clone()));
            agrees(&mut table, actions, false)?;
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
                            let name = [(pick % 13) as u16];
                            let newcomer = Newcomer {
                                address,
                                ..newcomer(0, Some(&name))
                            };
                            // Half of them in two steps, whose seats overlap with those of others.
                            let got = if pick % 4 == 0 {
                                table.reserve(&newcomer, State::Live)
                            } else {
                                table
                                    .arrive(address, 0.0)
                                    .and_then(|Admitted { slot, .. }| {
                                        let generation = table.generation(slot);
                                        table
                                            .identify(slot, generation, Some(&name), 0.0, 0)
                                            .map(|admitted| admitted.unwrap())
                                    })
                            };
                            if let Ok(Admitted { slot, .. }) = got {
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
            assert_eq!(reserved(&mut table, State::Reserved), slot);
        }
        for slot in 0..3 {
            assert_eq!(table.commit(slot, 0), Outcome::Done);
        }
        let stamps = [0, 950, 499, 0, 0, 0, 0, 0].map(AtomicU32::new);
        let mut due = [0; 8];
        let (count, next) = table.sweep(1_000, 500, 0, &stamps, &mut due);
        assert_eq!((&due[..count], next), (&[0, 2][..], 8));
        assert!(stamps[3..].iter().all(|stamp| stamp.load(Relaxed) == 1_000));
        // A full list returns the slot to continue from.
        let stamps = [0, 0, 0, 0].map(AtomicU32::new);
        let (count, next) = table.sweep(1_000, 500, 0, &stamps, &mut due[..2]);
        assert_eq!((count, next), (2, 2));
        // Ages stay right when the clock wraps around.
        let stamps = [u32::MAX - 400, u32::MAX - 10, 10, 10].map(AtomicU32::new);
        let (count, _) = table.sweep(200, 500, 0, &stamps, &mut due);
        assert_eq!(&due[..count], &[0]);
    }

    fn reserved(table: &mut Table, state: State) -> u32 {
        table.reserve(&newcomer(6, None), state).unwrap().slot
    }

    #[test]
    fn a_lease_expires_unless_it_was_committed() {
        let mut table = own(Limits::default());
        table.grow(8);
        for slot in 0..3 {
            assert_eq!(reserved(&mut table, State::Reserved), slot);
            table.lease(slot, slot * 10);
        }
        assert_eq!(table.commit(0, 0), Outcome::Done);
        assert!(!table.expire(30, 20, 20));
        assert_eq!((table.taken(), table.generation(0)), (3, 0));
        table.expire(31, 20, 20);
        assert_eq!(
            (table.taken(), table.generation(1), table.generation(2)),
            (2, 1, 0)
        );
        assert_eq!(table.commit(1, 0), Outcome::Stale);
        // Another connection uses the slot by now: the expired lease must not touch it.
        assert_eq!(reserved(&mut table, State::Live), 1);
        table.expire(1_000, 20, 20);
        assert_eq!(table.taken(), 2);
    }

    #[test]
    fn a_client_that_is_not_identified_has_its_own_time() {
        let mut table = own(Limits::default());
        table.grow(8);
        let slot = table.arrive(Address::UNKNOWN, 0.0).unwrap().slot;
        table.lease(slot, 0);
        table.expire(500, 20, 1_000);
        assert_eq!(table.taken(), 1);
        // The lease of an identified client begins anew.
        assert!(table.identify(slot, 0, None, 0.0, 0).unwrap().is_some());
        table.lease(slot, 500);
        table.expire(520, 20, 1_000);
        assert_eq!(table.taken(), 1);
        table.expire(521, 20, 1_000);
        assert_eq!((table.taken(), table.queued()), (0, 0));
    }

    #[test]
    fn the_queue_of_leases_stays_as_short_as_the_leases_under_way() {
        let mut table = own(Limits::default());
        table.grow(4_096);
        // Far more a second than one call of `expire` handles.
        for second in 0..60u32 {
            for _ in 0..10_000 {
                let slot = reserved(&mut table, State::Reserved);
                table.lease(slot, second * 1_000);
                assert!(table.release(slot, table.generation(slot)));
                assert!(table.queued() <= 2 * ENDED_MIN + 2);
            }
        }
        // Leases that nobody ends expire on time, whatever their number is.
        for _ in 0..4_000 {
            let slot = reserved(&mut table, State::Reserved);
            table.lease(slot, 60_000);
        }
        while table.expire(70_001, 10_000, 10_000) {}
        assert_eq!((table.taken(), table.queued()), (0, 0));
    }

    #[test]
    fn a_user_claims_no_more_connections_than_there_are() {
        let limits = Limits {
            per_user: 2,
            ..Limits::default()
        };
        let mut table = own(limits);
        table.grow(16);
        let name = [7u16];
        let claim = |table: &mut Table, state| {
            table.reserve(
                &Newcomer {
                    claimable: 2,
                    ..newcomer(4, Some(&name))
                },
                state,
            )
        };
        for _ in 0..2 {
            table
                .reserve(&newcomer(4, Some(&name)), State::Live)
                .unwrap();
        }
        let first = claim(&mut table, State::Reserved).unwrap();
        let second = claim(&mut table, State::Reserved).unwrap();
        assert!(first.claims && second.claims);
        assert_eq!(
            claim(&mut table, State::Reserved).unwrap_err().code,
            RefusalCode::User
        );
        // A lease that is given back gives its claim back.
        assert!(table.release(first.slot, table.generation(first.slot)));
        let third = claim(&mut table, State::Reserved).unwrap();
        assert_eq!(
            table.commit(third.slot, table.generation(third.slot)),
            Outcome::Over
        );
        // The older connections have gone: the last claim closes nobody.
        for slot in [0, 1] {
            assert!(table.release(slot, 0));
        }
        assert_eq!(
            table.commit(second.slot, table.generation(second.slot)),
            Outcome::Done
        );
        assert_eq!(table.index().counts()[0], 2);
    }
}
