//! The questions of a table about seats that are counted outside of its process, as those of a cluster are.

use super::address::Address;

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
