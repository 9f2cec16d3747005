//! Token verification for `ts/tokens`.
//!
//! A token crosses once, as UTF-16 (which both engines copy fastest, and in which no character
//! can pass for another). Claims go back as text for `JSON.parse`: an object built here would let
//! a claim named `__proto__` choose its own prototype.

use super::args::Args;
use super::bound::{BoundFunction, NumberFunction, bind, bound_function};
use super::memory::InvalidCall;
use super::token_policy::TokenPolicy;
use crate::tokens::{Algorithm, KeySet, Policy, Refused, Scratch, SetProblem, Tolerance, Verifier};
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

/// One JS thread's side of a verifier.
struct Tokens {
    verifier: Arc<Verifier>,
    scratch: Scratch,
    units: Vec<u16>,
    bytes: Vec<u8>,
    deadline: f64,
}

/// The bytes of a token, if it is ASCII.
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
        self.deadline = self
            .verifier
            .verify(&self.bytes, args.number(1), &mut self.scratch)?;
        Ok(())
    }
}

bound_function!(
    /// `check(token, nowSeconds)`: 0, or the number of a refusal.
    Check of Tokens, c"check", |core, args| Ok(core
        .verify(args)
        .map_or_else(|refused| f64::from(refused.number()), |()| 0.0))
);

/// `verify(token, nowSeconds)`: the text of the claims, or the number of a refusal.
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
    /// `deadline()`: when the token that was found good last stops being so, in seconds.
    Deadline of Tokens, c"deadline", |core, _args| Ok(core.deadline)
);

/// The names that `algorithms` may hold.
#[napi(catch_unwind)]
#[must_use]
pub fn token_algorithms() -> Vec<String> {
    Algorithm::ALL
        .iter()
        .map(|one| one.name().to_owned())
        .collect()
}

/// What `load` made of a key set.
#[napi(object)]
pub struct KeysLoaded {
    /// How many keys are in use now; 0 if the set was refused.
    pub loaded: u32,
    /// Why the set was refused.
    pub problem: Option<String>,
    /// Which key it was refused for.
    pub index: Option<u32>,
    /// The keys that were left out.
    pub skipped: Vec<KeySkipped>,
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
    /// Without keys, until some are loaded.
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

    /// The functions of the hot path, bound to this core.
    #[napi(
        catch_unwind,
        ts_return_type = "{ check(token: unknown, nowSeconds: number): number; verify(token: unknown, nowSeconds: number): string | number; deadline(): number }"
    )]
    pub fn bound<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let core = Rc::new(RefCell::new(Tokens {
            verifier: Arc::clone(&self.verifier),
            scratch: Scratch::default(),
            units: Vec::new(),
            bytes: Vec::new(),
            deadline: 0.0,
        }));
        let object = Object::new(env)?;
        bind::<Check>(env, &object, &core)?;
        bind::<Verify>(env, &object, &core)?;
        bind::<Deadline>(env, &object, &core)?;
        Ok(object)
    }

    /// Exchanges all keys at once; a refused set leaves them as they are. `tolerance` says which
    /// keys may be left out: `nothing`, `foreign` (those for another purpose), `unusable`.
    #[napi(catch_unwind)]
    pub fn load(
        &self,
        set: String,
        #[napi(ts_arg_type = "'nothing' | 'foreign' | 'unusable'")] tolerance: String,
    ) -> KeysLoaded {
        let tolerance = match tolerance.as_str() {
            "unusable" => Tolerance::Unusable,
            "foreign" => Tolerance::Foreign,
            _ => Tolerance::Nothing,
        };
        match KeySet::load(&set, self.verifier.policy().algorithms, tolerance) {
            Ok(loaded) => {
                let count = loaded.set.len() as u32;
                self.verifier.set_keys(loaded.set);
                let skipped = loaded.skipped.iter();
                KeysLoaded {
                    loaded: count,
                    problem: None,
                    index: None,
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
                }
            }
        }
    }

    /// Drops all keys.
    #[napi(catch_unwind)]
    pub fn forget_keys(&self) {
        self.verifier.set_keys(KeySet::empty());
    }

    /// How many keys there are.
    #[napi(catch_unwind)]
    pub fn key_count(&self) -> u32 {
        self.verifier.key_count() as u32
    }

    /// The numbers of all checks that a token fails.
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

    /// The payload of a token whose signature is good, or the number of a refusal.
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

    /// Revokes one token until it expires; `false` if there is no room.
    #[napi(catch_unwind)]
    pub fn revoke(
        &self,
        issuer: String,
        id: String,
        expiry_seconds: f64,
        now_seconds: f64,
    ) -> bool {
        self.verifier
            .revoke(&issuer, &id, expiry_seconds, now_seconds)
            .is_ok()
    }

    /// Revokes a subject's tokens that were issued before a moment; `false` if there is no room.
    #[napi(catch_unwind)]
    pub fn not_before(
        &self,
        subject: String,
        seconds: f64,
        until_seconds: Option<f64>,
        now_seconds: f64,
    ) -> bool {
        self.verifier
            .not_before(&subject, seconds, until_seconds, now_seconds)
            .is_ok()
    }

    /// How many revocations are held.
    #[napi(catch_unwind)]
    pub fn revocation_count(&self, now_seconds: f64) -> u32 {
        self.verifier.revocation_count(now_seconds) as u32
    }

    /// Verifies many tokens on another thread. `text` is all of them in a row, `lengths` where
    /// each ends. Resolves with JSON: an array of the claims of those that are good, and at its end
    /// an array with 0, or the number of a refusal, for each.
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

/// Tokens that are verified on a thread of the host's pool.
pub struct Batch {
    verifier: Arc<Verifier>,
    text: Utf16String,
    lengths: Vec<u32>,
    now: f64,
}

impl Batch {
    /// One text, and no typed array: memory that was handed over to an environment which is being
    /// torn down would be nobody's.
    fn verify_all(&self) -> String {
        let mut scratch = Scratch::default();
        let mut bytes = Vec::new();
        let (mut answer, mut numbers) = (String::from("["), String::new());
        let mut rest: &[u16] = &self.text;
        for length in &self.lengths {
            let (units, after) = rest.split_at((*length as usize).min(rest.len()));
            rest = after;
            let outcome = narrow(units, &mut bytes)
                .and_then(|()| self.verifier.verify(&bytes, self.now, &mut scratch));
            if !numbers.is_empty() {
                numbers.push(',');
            }
            numbers.push_str(&outcome.map_or_else(Refused::number, |_| 0).to_string());
            if let (Ok(_), Ok(text)) = (outcome, std::str::from_utf8(scratch.payload())) {
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
