//! The slots of one JavaScript thread: the seat of each connection, its lease, and the sweep for
//! idle connections.
//!
//! Owns slots, generations and leases. Does not own the counts (`seats`), the sockets, or the
//! column of stamps, which JavaScript allocates.
//!
//! Invariants: `taken` is the number of slots that are not free; a slot that becomes free gets the
//! next generation, so old handles to it no longer match.

use super::address::Address;
use super::leases::Leases;
use super::ledger::Ledger;
use super::limits::{Limits, Mode, Refusal, RefusalCode};
use super::message_rates::{ExceededRate, HeldCells};
use super::seats::{Admission, Holder, Scope, SeatIndex};
use super::slot::{Life, Slot, State};
use super::user_key::UserKey;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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
    mode: Mode,
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
            mode: Mode::default(),
            ledger: None,
            tickets: Vec::new(),
            held: Vec::new(),
            moves: HashMap::new(),
        }
    }

    /// Returns what the limits do to newcomers of this table.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Changes what the limits do to newcomers of this table.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
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
        let observed = index.reserve(
            newcomer.address,
            user,
            newcomer.now,
            replaced,
            over,
            self.mode,
        )?;
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
        let observed = self.index.admission().arrive(address, now, self.mode)?;
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
        let verdict = index.identify(address, user, now, over, self.mode);
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
            .rebind(found.address, found.user, to, self.mode)?;
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
        index.add_user(to, self.mode)?;
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
        for (chunk_at, chunk) in stamps.chunks(CHUNK).enumerate() {
            if !any_idle(now, idle, chunk) {
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

    /// Counts the live slots among those from `from` on, whose stamps are `stamps`, that have been
    /// idle for more than `idle_ms`: those that [`Table::sweep`] finds.
    pub fn count_idle(&self, now: u32, idle_ms: u32, from: u32, stamps: &[AtomicU32]) -> u32 {
        if idle_ms > AGE_MAX_MS {
            return 0;
        }
        let mut count = 0;
        for (chunk_at, chunk) in stamps.chunks(CHUNK).enumerate() {
            if !any_idle(now, idle_ms, chunk) {
                continue;
            }
            for (offset, stamp) in chunk.iter().enumerate() {
                let at = from + (chunk_at * CHUNK + offset) as u32;
                if age_of(now, stamp.load(Relaxed)) > idle_ms && self.live(at).is_some() {
                    count += 1;
                }
            }
        }
        count
    }
}

/// True if one of at most `CHUNK` stamps is older than `idle_ms`.
fn any_idle(now: u32, idle_ms: u32, stamps: &[AtomicU32]) -> bool {
    // A copy, and no branch per stamp, so that the compiler can compare many at once.
    let mut copy = [now; CHUNK];
    for (copy, stamp) in copy.iter_mut().zip(stamps) {
        *copy = stamp.load(Relaxed);
    }
    copy.iter()
        .fold(false, |any, &stamp| any | (age_of(now, stamp) > idle_ms))
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
mod tests;
