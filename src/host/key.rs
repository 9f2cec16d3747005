//! Keys of rows: what a seat is counted by, as a keyed hash.
//!
//! Invariant: the hashes of one file come from one secret, so that clients cannot choose names or
//! addresses that fall together.

use super::layout::{BUCKET_ROWS, Layout};
use crate::connections::{Address, UserKey};
use siphasher::sip128::SipHasher13;

/// Bits of a hash that a row keeps. With the two buckets that it may stand in, a million keys hold
/// two that are taken for one in 2 of 10^6 cases.
pub const TAG_BITS: u32 = 44;

/// A key: the bits that its row keeps, and the first rows of its two buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub(super) tag: u64,
    pub(super) buckets: [usize; 2],
}

/// Makes the keys of one file.
pub struct Keys {
    hasher: SipHasher13,
    /// Buckets for keys: all but the first.
    buckets: u64,
}

impl Keys {
    /// Makes the keys of a file with that secret.
    #[must_use]
    pub fn new(secret: (u64, u64), layout: Layout) -> Self {
        Self {
            hasher: SipHasher13::new_with_keys(secret.0, secret.1),
            buckets: layout.buckets as u64 - 1,
        }
    }

    /// Returns the key of all seats of an address.
    #[must_use]
    pub fn address(&self, address: Address) -> Key {
        self.key(b'i', address.bits())
    }

    /// Returns the key of the seats without a user of an address.
    #[must_use]
    pub fn anonymous(&self, address: Address) -> Key {
        self.key(b'a', address.bits())
    }

    /// Returns the key of a prefix.
    #[must_use]
    pub fn prefix(&self, prefix: Address) -> Key {
        self.key(b'p', prefix.bits())
    }

    /// Returns the key of a user.
    #[must_use]
    pub fn user(&self, user: UserKey) -> Key {
        self.key(b'u', user.bits())
    }

    fn key(&self, kind: u8, bits: u128) -> Key {
        let mut bytes = [kind; 17];
        bytes[1..].copy_from_slice(&bits.to_le_bytes());
        let hash = self.hasher.hash(&bytes);
        // Each bucket by 32 bits of its own: a product instead of a remainder.
        let first = ((hash.h2 >> 32) * self.buckets) >> 32;
        let second = ((hash.h2 & 0xffff_ffff) * (self.buckets - 1)) >> 32;
        let second = second + u64::from(second >= first);
        Key {
            tag: hash.h1 >> (64 - TAG_BITS),
            buckets: [first, second].map(|bucket| (bucket as usize + 1) * BUCKET_ROWS),
        }
    }
}
