//! The tickets of a member: each stands for a seat that it asks for or holds, or for a seat that moves.
//! A number names one ticket and no later one in its place.

use super::super::column::Key;
use std::ops::{Index, IndexMut};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// Waits for the next batch.
    Waiting,
    /// Named by the call under way.
    Flying,
    /// It has its seat, and waits for the end of the one that it replaces.
    Taking,
    /// Admitted.
    Held,
}

pub(super) struct Ticket {
    pub(super) generation: u32,
    pub(super) place: Place,
    pub(super) port: u32,
    pub(super) keys: [Option<Key>; 4],
    pub(super) flags: u8,
    /// Ticket of the seat that moves, of a [`MOVE`]; else 0.
    pub(super) base: u64,
    /// True once a newcomer replaces it.
    pub(super) is_replaced: bool,
    /// False once nobody waits for the answer: it was answered by the policy, or given back.
    pub(super) is_awaited: bool,
    /// True if it counts as held, whatever the call under way brings.
    pub(super) is_held: bool,
}

/// The tickets by their place; places are used again.
#[derive(Default)]
pub(super) struct Tickets {
    all: Vec<Ticket>,
    free: Vec<u32>,
}

impl Tickets {
    /// Issues a ticket that waits; returns its number.
    pub(super) fn issue(&mut self, port: u32, keys: [Option<Key>; 4], flags: u8, base: u64) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(Ticket {
                generation: 0,
                place: Place::Free,
                port,
                keys: [None; 4],
                flags: 0,
                base: 0,
                is_replaced: false,
                is_awaited: false,
                is_held: false,
            });
            (self.all.len() - 1) as u32
        });
        let ticket = &mut self.all[at as usize];
        // 20 bits, so that a ticket is a whole number of JavaScript; never 0.
        ticket.generation = (ticket.generation % 0xf_ffff) + 1;
        ticket.place = Place::Waiting;
        ticket.port = port;
        ticket.keys = keys;
        ticket.flags = flags;
        ticket.base = base;
        ticket.is_replaced = false;
        ticket.is_awaited = true;
        ticket.is_held = false;
        self.number(at as usize)
    }

    /// Returns the place of a ticket that has not ended.
    pub(super) fn find(&self, ticket: u64) -> Option<usize> {
        let at = (ticket & 0xffff_ffff) as usize;
        let found = self.all.get(at)?;
        (found.place != Place::Free && u64::from(found.generation) == ticket >> 32).then_some(at)
    }

    /// Returns the number of the ticket at a place.
    pub(super) fn number(&self, at: usize) -> u64 {
        u64::from(self.all[at].generation) << 32 | at as u64
    }

    /// Ends a ticket; returns its keys, which it uses no longer.
    pub(super) fn end(&mut self, at: usize) -> [Option<Key>; 4] {
        self.free.push(at as u32);
        let ticket = &mut self.all[at];
        ticket.place = Place::Free;
        ticket.keys
    }
}

impl Index<usize> for Tickets {
    type Output = Ticket;

    fn index(&self, at: usize) -> &Ticket {
        &self.all[at]
    }
}

impl IndexMut<usize> for Tickets {
    fn index_mut(&mut self, at: usize) -> &mut Ticket {
        &mut self.all[at]
    }
}
