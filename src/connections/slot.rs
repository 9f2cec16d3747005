//! One slot of a table: whose seat it holds, its state, and the generation that tells old handles from
//! new ones.

use super::address::Address;
use super::seats::Holder;
use super::user_key::UserKey;

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

/// A seat, taken or not.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) address: Address,
    pub(super) user: Option<UserKey>,
    pub(super) life: Life,
}

// Address 16, user key 12 (`None` is its niche), life 4.
const _: () = assert!(size_of::<Slot>() == 32);

/// The generation of a slot, modulo 2^30, with its state in the lowest two bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Life(u32);

impl Life {
    pub(super) const fn new(generation: u32, state: State) -> Self {
        Self(generation << 2 | state as u32)
    }

    pub(super) const fn generation(self) -> u32 {
        self.0 >> 2
    }

    pub(super) fn is(self, state: State) -> bool {
        self.0 & 3 == state as u32
    }

    pub(super) fn is_free(self) -> bool {
        self.is(State::Free)
    }

    /// Returns the free state of the next generation.
    pub(super) const fn ended(self) -> Self {
        Self::new(self.generation().wrapping_add(1), State::Free)
    }
}

impl Slot {
    pub(super) fn holder(&self) -> Holder {
        if self.life.is(State::Pending) {
            Holder::Pending
        } else {
            Holder::from(self.user)
        }
    }
}
