//! Verification of signed tokens (JWS in compact form, RFC 7515) and their claims (JWT, RFC 7519).
//!
//! Owns form, header, key selection, signature, claims, policy and revocation. Does not own clocks
//! (`now` is an argument), the fetching of key sets, or the cache of results.
//!
//! ```text
//!  bytes -> compact::split -> header -> key set -> signature -> claims -> policy -> revocation
//! ```
//!
//! # Invariants
//! - The algorithms come from the key; the token's `alg` must be one of them. They are of one key type.
//! - No part of the payload is decoded before its signature is verified (except by `explain`).
//! - A failed check is reported as a [`Refused`]: no text of the token leaves this module.
//!
//! The `jsonwebtoken` crate reads PEM keys and is the oracle of the tests. Its `decode` is not
//! used: it ignores `crit`, accepts a missing or mistyped `aud`, `iss` or `sub`, and prepares the
//! key again on each call.

mod algorithm;
mod claims;
mod compact;
mod header;
mod json_object;
mod jwk;
mod jwk_encoding;
mod key;
mod key_problem;
mod key_set;
mod policy;
mod revocation;
mod spki;
mod verifier;
mod weak_keys;

pub use algorithm::{Algorithm, Algorithms};
pub use key_problem::{KeyError, KeyProblem};
pub use key_set::{KEYS_MAX, KeySet, KeySource, Loaded, SetProblem};
pub use policy::{ClaimName, Policy, Refused, TypRule};
pub use revocation::{Revocations, RevocationsFull};
pub use verifier::{Scratch, Verified, Verifier};
