//! Users, by a keyed hash of their names. An index stores these keys instead of the names.
//!
//! Invariant: the keys of one index come from one secret, so that clients cannot choose names that
//! collide.

use siphasher::sip128::SipHasher13;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroU32;

/// Size of the stack buffer; a shorter Latin-1 name is hashed without an allocation.
const NAME_INLINE: usize = 128;

/// A user name as a keyed hash of 96 bits: of fixed size, and clients cannot make two names
/// collide. By chance, two of a million names collide once in 10^17 cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKey(NonZeroU32, u32, u32);

impl UserKey {
    /// Returns the 96 bits of the hash.
    #[must_use]
    pub fn bits(self) -> u128 {
        let first = u128::from(self.0.get());
        first << 64 | u128::from(self.1) << 32 | u128::from(self.2)
    }
}

impl Hash for UserKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The key is a keyed hash already.
        state.write_u64(u64::from(self.0.get()) << 32 | u64::from(self.1));
    }
}

/// A hasher that returns the 64 bits of a key unchanged.
#[derive(Default, Clone, Copy)]
pub struct PassOn(u64);

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "only keys that are hashes already");
    }
    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

/// The hasher for maps with [`UserKey`] keys.
pub(super) type UserHashes = BuildHasherDefault<PassOn>;

/// The secret of one index.
pub(super) struct UserKeys(u64, u64);

impl Default for UserKeys {
    fn default() -> Self {
        Self(
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1),
        )
    }
}

impl UserKeys {
    /// Returns the keys of a secret that other processes have, too.
    pub(super) fn new(secret: (u64, u64)) -> Self {
        Self(secret.0, secret.1)
    }

    /// Returns the key of a name given in UTF-16 units.
    pub(super) fn key(&self, name: &[u16]) -> UserKey {
        let sip = SipHasher13::new_with_keys(self.0, self.1);
        let seen = name.iter().fold(0, |seen, unit| seen | unit);
        // One byte per unit where that suffices halves the SipHash rounds. The first byte tells the
        // two encodings apart.
        let hash = if seen <= 0xff && name.len() < NAME_INLINE {
            let mut bytes = [1u8; NAME_INLINE];
            for (byte, unit) in bytes[1..].iter_mut().zip(name) {
                *byte = *unit as u8;
            }
            sip.hash(&bytes[..=name.len()])
        } else {
            let mut bytes = vec![2u8];
            bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
            sip.hash(&bytes)
        };
        let first = NonZeroU32::new(hash.h2 as u32).unwrap_or(NonZeroU32::MIN);
        UserKey(first, (hash.h1 >> 32) as u32, hash.h1 as u32)
    }
}
