//! News for the JavaScript threads, and the drain in force.

/// News of a member, for all threads that share it.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Other limits are in force.
    Limits {
        /// Their revision.
        revision: u32,
        /// The limits, in the order in which they cross.
        numbers: [f64; 11],
    },
    /// The member has joined: the server may have lost what it was told.
    Joined,
    /// Events were missed.
    Gap,
    /// An event, by the first letter of its kind.
    Event {
        /// The kind: `k` kick, `v` revocations, `j` joined, `l` left, `d` declared dead.
        kind: u8,
        /// Its data.
        data: Vec<u8>,
    },
    /// An audit has found counts that the server had lost or changed.
    Drift(u64),
    /// More is held than a limit allows: connections over the total, and users over their limit.
    Over(u32, u64),
}

impl Notice {
    /// Returns the notice as it crosses: its kind, then its data.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let text = |value: String| value.into_bytes();
        match self {
            Self::Limits { revision, numbers } => {
                let mut parts = vec![b"limits".to_vec(), text(revision.to_string())];
                parts.extend(numbers.map(|number| text(number.to_string())));
                parts
            }
            Self::Joined => vec![b"joined".to_vec()],
            Self::Gap => vec![b"gap".to_vec()],
            Self::Event { kind, data } => vec![vec![*kind], data.clone()],
            Self::Drift(count) => vec![b"drift".to_vec(), text(count.to_string())],
            Self::Over(total, users) => vec![
                b"over".to_vec(),
                text(total.to_string()),
                text(users.to_string()),
            ],
        }
    }
}

/// The latest drain.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Drain {
    /// Number of the drain: the highest is in force.
    pub(super) number: u64,
    pub(super) until_ms: f64,
    pub(super) reason: String,
}

impl Drain {
    pub(super) fn left_ms(&self, now: f64) -> f64 {
        (self.until_ms - now).max(0.0)
    }
}
