//! Users by a keyed hash of their names, so that an index stores no names.

use siphasher::sip128::SipHasher13;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroU32;

/// A name of so many units is hashed without an allocation.
const NAME_INLINE: usize = 128;

/// A user's name as a keyed hash of 96 bits: of fixed size, and nobody outside can make two
/// collide. By chance two of a million do once in 10^17 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKey(NonZeroU32, u32, u32);

impl Hash for UserKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // It is a keyed hash already.
        state.write_u64(u64::from(self.0.get()) << 32 | u64::from(self.1));
    }
}

/// Takes over the 64 bits that a key hands it.
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

/// The hasher of maps by [`UserKey`].
pub(super) type UserHashes = BuildHasherDefault<PassOn>;

/// The secret of one index that its users' keys are made with.
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
    /// The key of a user's name, in UTF-16 units.
    pub(super) fn key(&self, name: &[u16]) -> UserKey {
        let sip = SipHasher13::new_with_keys(self.0, self.1);
        let seen = name.iter().fold(0, |seen, unit| seen | unit);
        // A byte a unit where that is enough: half the rounds. The first byte tells which.
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
