//! Token verification for `ts/tokens`.
//!
//! A token crosses once, as UTF-16: both engines copy it fastest, and no encoding maps two strings
//! to one. Claims go back as text for `JSON.parse`: in an object built here, a claim named
//! `__proto__` could set the object's prototype.

use super::args::Args;
use super::bound::{BoundFunction, NumberFunction, bind, bound_function};
use super::memory::{Element, InvalidCall, Memory};
use super::token_policy::TokenPolicy;
use crate::tokens::{
    Algorithm, KeySet, KeySource, Policy, Refused, Scratch, SetProblem, Verified, Verifier,
};
use crate::validators::Failure;
use napi::bindgen_prelude::{
    AsyncTask, Buffer, Either, Env, Object, Task, Uint32Array, Utf16String,
};
use napi::sys;
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// The part of a verifier that belongs to one JavaScript thread.
struct Tokens {
    verifier: Arc<Verifier>,
    scratch: Scratch,
    units: Vec<u16>,
    bytes: Vec<u8>,
    /// Deadline of the token that was verified last, s; length of its subject, or -1.
    cells: Option<Memory<f64>>,
    /// The subject, if it is ASCII and has room.
    subject: Option<Memory<u8>>,
}

/// Writes the bytes of a token; refuses a token that is not ASCII.
fn narrow(units: &[u16], bytes: &mut Vec<u8>) -> Result<(), Refused> {
    bytes.clear();
    bytes.extend(units.iter().map(|unit| *unit as u8));
    if units.iter().fold(0, |all, unit| all | unit) < 0x80 {
        Ok(())
    } else {
        Err(Failure::TokenEncoding.into())
    }
}

impl Tokens {
    /// Verifies the token in the first argument at the time in the second.
    fn verify(&mut self, args: &Args) -> Result<(), Refused> {
        let most = self.verifier.policy().max_token_bytes;
        if !args.copy_utf16(0, &mut self.units, most) {
            return Err(Failure::TokenType.into());
        }
        if self.units.len() > most {
            return Err(Failure::TokenTooLong.into());
        }
        narrow(&self.units, &mut self.bytes)?;
        let verified = self
            .verifier
            .verify(&self.bytes, args.number(1), &mut self.scratch)?;
        self.tell(&verified);
        Ok(())
    }

    /// Writes the deadline and the subject of a verified token into the shared cells.
    fn tell(&self, verified: &Verified) {
        let (Some(cells), Some(room)) = (&self.cells, &self.subject) else {
            return;
        };
        let subject = verified
            .subject
            .clone()
            .and_then(|place| self.scratch.payload().get(place))
            .filter(|subject| subject.len() <= room.cells().len());
        for (cell, byte) in room.cells().iter().zip(subject.unwrap_or_default()) {
            u8::store(cell, *byte);
        }
        let length = subject.map_or(-1.0, |subject| subject.len() as f64);
        for (cell, number) in cells.cells().iter().zip([verified.deadline, length]) {
            f64::store(cell, number);
        }
    }
}

bound_function!(
    /// `check(token, nowSeconds)`: returns 0, or the number of a refusal.
    Check of Tokens, c"check", |core, args| Ok(core
        .verify(args)
        .map_or_else(|refused| f64::from(refused.number()), |()| 0.0))
);

/// `verify(token, nowSeconds)`: returns the text of the claims, or the number of a refusal.
struct Verify;
impl BoundFunction for Verify {
    type Core = Tokens;
    const NAME: &'static CStr = c"verify";
    fn call(core: &mut Tokens, args: &Args) -> std::result::Result<sys::napi_value, InvalidCall> {
        Ok(match core.verify(args) {
            Ok(()) => args.new_string(core.scratch.payload()),
            Err(refused) => args.new_number(f64::from(refused.number())),
        })
    }
}

bound_function!(
    /// `share(cells, subject)`: takes the memory for each verified token: two cells for its deadline and the
    /// length of its subject, and the bytes for the subject.
    Share of Tokens, c"share", |core, args| {
        core.cells = Some(args.memory(0)?);
        core.subject = Some(args.memory(1)?);
        Ok(0.0)
    }
);

/// Returns 32 random bytes of the operating system in hexadecimal: a secret that nobody can guess.
/// The first use of the host's own generator costs 2 ms on Node.
#[napi(catch_unwind)]
pub fn random_secret() -> napi::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| napi::Error::from_reason("the system has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the names that `algorithms` may contain.
#[napi(catch_unwind)]
#[must_use]
pub fn token_algorithms() -> Vec<String> {
    Algorithm::ALL
        .iter()
        .map(|one| one.name().to_owned())
        .collect()
}

/// The outcome of `load`.
#[napi(object)]
pub struct KeysLoaded {
    /// Keys in use now; 0 if the set was refused.
    pub loaded: u32,
    /// Why the set was refused.
    pub problem: Option<String>,
    /// Index of the key that the set was refused for.
    pub index: Option<u32>,
    /// Keys that were left out.
    pub skipped: Vec<KeySkipped>,
    /// Keys in a form that their RFC does not allow.
    pub lenient: u32,
}

/// A key that was left out of a set.
#[napi(object)]
pub struct KeySkipped {
    pub index: u32,
    pub problem: String,
}

/// A policy with its keys.
#[napi]
pub struct TokenCore {
    verifier: Arc<Verifier>,
}

#[napi]
impl TokenCore {
    /// Creates a verifier without keys; `load` adds them.
    #[napi(constructor, catch_unwind)]
    pub fn new(policy: TokenPolicy) -> Self {
        let verifier = Verifier::new(
            Policy::from(&policy),
            KeySet::empty(),
            policy.max_revocations as usize,
        );
        Self {
            verifier: Arc::new(verifier),
        }
    }

    /// Returns the functions of the hot path, bound to this core.
    #[napi(
        catch_unwind,
        ts_return_type = "{ check(token: unknown, nowSeconds: number): number; verify(token: unknown, nowSeconds: number): string | number; share(cells: Float64Array, subject: Uint8Array): number }"
    )]
    pub fn bound<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let core = Rc::new(RefCell::new(Tokens {
            verifier: Arc::clone(&self.verifier),
            scratch: Scratch::default(),
            units: Vec::new(),
            bytes: Vec::new(),
            cells: None,
            subject: None,
        }));
        let object = Object::new(env)?;
        bind::<Check>(env, &object, &core)?;
        bind::<Verify>(env, &object, &core)?;
        bind::<Share>(env, &object, &core)?;
        Ok(object)
    }

    /// Replaces all keys at once; a refused set leaves the keys as they are. `source` says where they
    /// come from: `chosen` keys must all be usable; of those that an issuer has `published`, and of a
    /// `fetched` set, the others are left out.
    #[napi(catch_unwind)]
    pub fn load(
        &self,
        set: String,
        #[napi(ts_arg_type = "'chosen' | 'published' | 'fetched'")] source: String,
        max_keys: u32,
    ) -> KeysLoaded {
        let source = match source.as_str() {
            "fetched" => KeySource::Fetched,
            "published" => KeySource::Published,
            _ => KeySource::Chosen,
        };
        let algorithms = self.verifier.policy().algorithms;
        match KeySet::load(&set, algorithms, source, max_keys as usize) {
            Ok(loaded) => {
                let count = loaded.set.len() as u32;
                self.verifier.set_keys(loaded.set);
                let skipped = loaded.skipped.iter();
                KeysLoaded {
                    loaded: count,
                    problem: None,
                    index: None,
                    lenient: loaded.lenient as u32,
                    skipped: skipped
                        .map(|error| KeySkipped {
                            index: error.index as u32,
                            problem: error.problem.to_string(),
                        })
                        .collect(),
                }
            }
            Err(problem) => {
                let (problem, index) = match problem {
                    SetProblem::Key(error) => (error.problem.to_string(), Some(error.index as u32)),
                    other => (other.to_string(), None),
                };
                KeysLoaded {
                    loaded: 0,
                    problem: Some(problem),
                    index,
                    skipped: Vec::new(),
                    lenient: 0,
                }
            }
        }
    }

    /// Removes all keys.
    #[napi(catch_unwind)]
    pub fn forget_keys(&self) {
        self.verifier.set_keys(KeySet::empty());
    }

    /// Returns the number of keys.
    #[napi(catch_unwind)]
    pub fn key_count(&self) -> u32 {
        self.verifier.key_count() as u32
    }

    /// Returns the numbers of all checks that a token fails.
    #[napi(catch_unwind)]
    pub fn explain(&self, token: Utf16String, now_seconds: f64) -> Vec<u32> {
        if token.len() > self.verifier.policy().max_token_bytes {
            return vec![Refused::from(Failure::TokenTooLong).number()];
        }
        let mut bytes = Vec::new();
        if let Err(refused) = narrow(&token, &mut bytes) {
            return vec![refused.number()];
        }
        self.verifier
            .explain(&bytes, now_seconds)
            .iter()
            .map(|refused| refused.number())
            .collect()
    }

    /// Returns the payload of a token with a valid signature, or the number of a refusal.
    #[napi(catch_unwind)]
    pub fn payload(&self, token: Utf16String) -> Either<Buffer, u32> {
        let mut scratch = Scratch::default();
        let mut bytes = Vec::new();
        let outcome = if token.len() > self.verifier.policy().max_token_bytes {
            Err(Failure::TokenTooLong.into())
        } else {
            narrow(&token, &mut bytes)
                .and_then(|()| self.verifier.verify_signature(&bytes, &mut scratch))
        };
        match outcome {
            Ok(()) => Either::A(scratch.payload().to_vec().into()),
            Err(refused) => Either::B(refused.number()),
        }
    }

    /// Revokes one token until it expires; returns `false` if the list is full.
    #[napi(catch_unwind)]
    pub fn revoke(
        &self,
        issuer: String,
        id: String,
        expiry_seconds: f64,
        now_seconds: f64,
        is_foreign: bool,
    ) -> bool {
        self.verifier
            .revoke(&issuer, &id, expiry_seconds, now_seconds, is_foreign)
            .is_ok()
    }

    /// Revokes a subject's tokens issued before a time; returns `false` if the list is full.
    #[napi(catch_unwind)]
    pub fn not_before(
        &self,
        subject: String,
        seconds: f64,
        until_seconds: Option<f64>,
        now_seconds: f64,
        is_foreign: bool,
    ) -> bool {
        self.verifier
            .not_before(&subject, seconds, until_seconds, now_seconds, is_foreign)
            .is_ok()
    }

    /// True if a verified token with these claims has been revoked since.
    #[napi(catch_unwind)]
    pub fn is_revoked(
        &self,
        issuer: Option<String>,
        id: Option<String>,
        subject: Option<String>,
        issued_at_seconds: Option<f64>,
    ) -> bool {
        self.verifier.is_revoked(
            issuer.as_deref(),
            id.as_deref(),
            subject.as_deref(),
            issued_at_seconds,
        )
    }

    /// Removes expired revocations; returns the number of those that are held.
    #[napi(catch_unwind)]
    pub fn purge_revocations(&self, now_seconds: f64) -> u32 {
        self.verifier.purge_revocations(now_seconds) as u32
    }

    /// Verifies many tokens on another thread. `text` is all tokens in a row, `lengths` the length
    /// of each. Resolves with JSON: an array with the claims of each valid token, and as its last
    /// item an array with 0 or the number of a refusal for each token.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn batch(
        &self,
        text: Utf16String,
        lengths: Uint32Array,
        now_seconds: f64,
    ) -> AsyncTask<Batch> {
        AsyncTask::new(Batch {
            verifier: Arc::clone(&self.verifier),
            text,
            lengths: lengths.to_vec(),
            now: now_seconds,
        })
    }
}

/// Tokens to verify on a thread of the host's pool.
pub struct Batch {
    verifier: Arc<Verifier>,
    text: Utf16String,
    lengths: Vec<u32>,
    now: f64,
}

impl Batch {
    /// Returns a string, not a typed array: memory handed to an ending environment would leak.
    fn verify_all(&self) -> String {
        let mut scratch = Scratch::default();
        let mut bytes = Vec::new();
        let (mut answer, mut numbers) = (String::from("["), String::new());
        let mut rest: &[u16] = &self.text;
        for length in &self.lengths {
            let (units, after) = rest.split_at((*length as usize).min(rest.len()));
            rest = after;
            let outcome = narrow(units, &mut bytes)
                .and_then(|()| self.verifier.verify(&bytes, self.now, &mut scratch))
                .map(|_| ());
            if !numbers.is_empty() {
                numbers.push(',');
            }
            numbers.push_str(&outcome.map_or_else(Refused::number, |()| 0).to_string());
            if let (Ok(()), Ok(text)) = (outcome, std::str::from_utf8(scratch.payload())) {
                answer.push_str(text);
                answer.push(',');
            }
        }
        answer.push('[');
        answer.push_str(&numbers);
        answer.push_str("]]");
        answer
    }
}

impl Task for Batch {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.verify_all()))
            .map_err(|_| napi::Error::from_reason("a bug in the native core was contained"))
    }

    fn resolve(&mut self, _env: Env, answer: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(answer)
    }
}
