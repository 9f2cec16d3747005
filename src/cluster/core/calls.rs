//! The calls of a member that go to the network, by the numbers of their messages.

use super::super::call::{Command, Contents};

/// Work for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a command; its reply comes with this number.
    Call(u64, Command),
    /// Drops the connection and makes a new one.
    Reconnect,
}

/// A numbered call that is under way.
pub(super) struct Flight {
    /// Number of the message under which it was sent last; `None` if it has to be sent (again).
    pub(super) sent: Option<u64>,
    pub(super) contents: Contents,
    /// True if it was unanswered when the server became unreachable.
    pub(super) is_suspect: bool,
}

/// The work that was not handed over yet.
#[derive(Default)]
pub(super) struct Calls {
    messages: u64,
    actions: Vec<Action>,
}

impl Calls {
    /// Adds a call; returns the number of its message.
    pub(super) fn send(&mut self, command: Command) -> u64 {
        self.messages += 1;
        self.actions.push(Action::Call(self.messages, command));
        self.messages
    }

    /// Returns the number of messages so far.
    pub(super) fn count(&self) -> u64 {
        self.messages
    }

    /// Drops the connection, and the calls that it has not carried yet.
    pub(super) fn reconnect(&mut self) {
        self.actions.clear();
        self.actions.push(Action::Reconnect);
    }

    /// Hands the work over.
    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}
