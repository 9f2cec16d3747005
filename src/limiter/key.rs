//! Keys, by a keyed hash of their UTF-16 units: of fixed size, and clients cannot make two collide.
//!
//! Invariant: the keys of one limiter come from one secret.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Units that are hashed at a time.
const PIECE: usize = 128;
/// First byte of a key of one byte for each unit, and of two: it tells the two encodings apart.
const NARROW: u8 = 1;
const WIDE: u8 = 2;

/// 96 bits of a keyed hash. By chance, two of a million keys share one in 10^17 cases.
pub(super) type KeyHash = [u32; 3];

/// The secret of one limiter.
pub(super) struct Secret(u64, u64);

impl Default for Secret {
    fn default() -> Self {
        Self(
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1),
        )
    }
}

impl Secret {
    /// Returns the hash of a key.
    pub(super) fn hash(&self, key: &[u16]) -> KeyHash {
        let sip = SipHasher13::new_with_keys(self.0, self.1);
        let is_narrow = key.iter().fold(0, |seen, unit| seen | unit) <= 0xff;
        if is_narrow && key.len() < PIECE {
            let mut bytes = [NARROW; PIECE];
            for (byte, unit) in bytes[1..].iter_mut().zip(key) {
                *byte = *unit as u8;
            }
            let hash = sip.hash(&bytes[..=key.len()]);
            return [hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32];
        }
        Self::long(sip, key)
    }

    /// Hashes a key in pieces, without a copy of the whole.
    fn long(mut sip: SipHasher13, key: &[u16]) -> KeyHash {
        sip.write(&[WIDE]);
        let mut bytes = [0u8; 2 * PIECE];
        for piece in key.chunks(PIECE) {
            for (pair, unit) in bytes.chunks_exact_mut(2).zip(piece) {
                pair.copy_from_slice(&unit.to_le_bytes());
            }
            sip.write(&bytes[..2 * piece.len()]);
        }
        let hash = sip.finish128();
        [hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32]
    }
}
