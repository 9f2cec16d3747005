//! Users, by a keyed hash of their names. An index stores these keys instead of the names.
//!
//! Invariant: the keys of one index come from its secrets, so that clients cannot choose names that
//! collide.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroU32;

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

/// The key of an empty cell.
impl Default for UserKey {
    fn default() -> Self {
        Self(NonZeroU32::MIN, 0, 0)
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

/// The secrets of one index.
pub(super) struct UserKeys {
    /// For names of Latin-1 units, which are hashed as one byte each: half the rounds.
    narrow: Secret,
    /// For all other names. A secret of its own keeps the two encodings apart.
    wide: Secret,
}

type Secret = (u64, u64);

impl Default for UserKeys {
    fn default() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self {
            narrow: (random(), random()),
            wide: (random(), random()),
        }
    }
}

impl UserKeys {
    /// Returns the keys of a secret that other processes have, too.
    pub(super) fn new(secret: Secret) -> Self {
        let derived = |number: u16| hash(secret, &[number], |[unit]: [u16; 1]| u64::from(unit));
        Self {
            narrow: derived(1),
            wide: derived(2),
        }
    }

    /// Returns the key of a name given in UTF-16 units.
    pub(super) fn key(&self, name: &[u16]) -> UserKey {
        let seen = name.iter().fold(0, |seen, unit| seen | unit);
        let (low, high) = if seen <= 0xff {
            hash(self.narrow, name, |units: [u16; 8]| {
                u64::from_le_bytes(units.map(|unit| unit as u8))
            })
        } else {
            hash(self.wide, name, |units: [u16; 4]| {
                let [a, b, c, d] = units.map(u64::from);
                a | b << 16 | c << 32 | d << 48
            })
        };
        let first = NonZeroU32::new(high as u32).unwrap_or(NonZeroU32::MIN);
        UserKey(first, (low >> 32) as u32, low as u32)
    }
}

/// Returns the 128 bits of SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) over `units`,
/// of which `word` packs `N` into the 8 bytes of a word, the first into the lowest.
///
/// Not the crate's hasher: that takes bytes, and the copy of a name to bytes cost as much as its hash. The test compares
/// the two.
fn hash<const N: usize>(
    secret: Secret,
    units: &[u16],
    word: impl Fn([u16; N]) -> u64,
) -> (u64, u64) {
    let mut state = Sip::new(secret);
    let mut chunks = units.chunks_exact(N);
    for chunk in &mut chunks {
        let mut packed = [0; N];
        packed.copy_from_slice(chunk);
        state.absorb(word(packed));
    }
    let mut rest = [0; N];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    let bytes = units.len() * (8 / N);
    state.finish(word(rest) | (bytes as u64) << 56)
}

/// The state of SipHash-1-3 with a result of 128 bits.
struct Sip([u64; 4]);

impl Sip {
    fn new((k0, k1): Secret) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let v = &mut self.0;
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    /// Absorbs the last word, and returns the result: the lower half, the higher half.
    fn finish(mut self, last: u64) -> (u64, u64) {
        self.absorb(last);
        self.0[2] ^= 0xee;
        let low = self.squeeze();
        self.0[1] ^= 0xdd;
        (low, self.squeeze())
    }

    fn squeeze(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        self.0.iter().fold(0, |all, word| all ^ word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use siphasher::sip128::SipHasher13;

    fn expected((k0, k1): Secret, bytes: &[u8]) -> UserKey {
        let hash = SipHasher13::new_with_keys(k0, k1).hash(bytes);
        let first = NonZeroU32::new(hash.h2 as u32).unwrap_or(NonZeroU32::MIN);
        UserKey(first, (hash.h1 >> 32) as u32, hash.h1 as u32)
    }

    proptest! {
        /// Property: a key is SipHash-1-3 of the name's bytes, one or two for each unit.
        #[test]
        fn agrees_with_the_crate(
            narrow in proptest::collection::vec(0u16..256, 0..300),
            wide in proptest::collection::vec(any::<u16>(), 0..300),
        ) {
            let keys = UserKeys::default();
            let bytes: Vec<u8> = narrow.iter().map(|&unit| unit as u8).collect();
            prop_assert_eq!(keys.key(&narrow), expected(keys.narrow, &bytes));
            if wide.iter().any(|&unit| unit > 0xff) {
                let bytes: Vec<u8> = wide.iter().flat_map(|unit| unit.to_le_bytes()).collect();
                prop_assert_eq!(keys.key(&wide), expected(keys.wide, &bytes));
            }
        }
    }
}
