//! Checks the protected header against a policy, and returns the members that select the key:
//! algorithm and key id.

use super::algorithm::Algorithm;
use super::json_object::{Flaw, Value, read};
use super::policy::{Policy, Refused, Report};
use crate::validators::Failure;
use std::borrow::Cow;

/// Longest key id; longer ones, and those with other than printable ASCII, are refused.
pub(super) const KID_MAX_BYTES: usize = 256;
const DEPTH_MAX: usize = 8;

/// True if the text is a valid key id.
pub(super) fn is_kid(kid: &str) -> bool {
    (1..=KID_MAX_BYTES).contains(&kid.len()) && kid.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// The members that select a key.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    pub algorithm: Option<Algorithm>,
    pub kid: Option<Cow<'a, str>>,
}

/// The members of a header that matter.
#[derive(Default)]
struct Members<'a> {
    alg: Option<Value<'a>>,
    kid: Option<Value<'a>>,
    typ: Option<Value<'a>>,
    crit: Option<Value<'a>>,
    b64: Option<Value<'a>>,
    zip: bool,
    enc: bool,
    brings_key: bool,
    /// Names that are not registered: `crit` must not list registered names (RFC 7515, section
    /// 4.1.11).
    extensions: Vec<String>,
}

/// Reads a decoded header and reports violations of the policy.
pub(super) fn judge<'a>(
    bytes: &'a [u8],
    policy: &Policy,
    report: Report<'_>,
) -> Result<Header<'a>, Refused> {
    let mut members = Members::default();
    let read = read(bytes, DEPTH_MAX, |name, value| {
        members.add(policy, name, value);
    });
    if let Err(flaw) = read {
        report(match flaw {
            Flaw::Duplicate => Failure::TokenHeaderDuplicate.into(),
            _ => Failure::TokenHeader.into(),
        })?;
        return Ok(Header::default());
    }
    members.check_form(policy, report)?;
    members.header(policy, report)
}

impl<'a> Members<'a> {
    fn add(&mut self, policy: &Policy, name: &str, value: Value<'a>) {
        match name {
            "alg" => self.alg = Some(value),
            "kid" => self.kid = Some(value),
            "typ" => self.typ = Some(value),
            "crit" => self.crit = Some(value),
            "b64" => self.b64 = Some(value),
            "zip" => self.zip = true,
            "enc" => self.enc = true,
            "jwk" | "jku" | "x5u" | "x5c" => self.brings_key = true,
            "cty" | "x5t" | "x5t#S256" => {}
            other => {
                if !policy.critical.is_empty() {
                    self.extensions.push(other.to_owned());
                }
            }
        }
    }

    /// Refuses encrypted, compressed and unencoded tokens, unknown critical extensions, and
    /// embedded keys.
    fn check_form(&self, policy: &Policy, report: Report<'_>) -> Result<(), Refused> {
        if self.enc {
            report(Failure::TokenEncrypted.into())?;
        }
        if self.zip {
            report(Failure::TokenCompressed.into())?;
        }
        if !matches!(self.b64, None | Some(Value::True)) {
            report(Failure::TokenUnencoded.into())?;
        }
        if let Some(crit) = self.crit
            && !self.understands(crit, policy)
        {
            report(Failure::TokenCritical.into())?;
        }
        if self.brings_key && policy.refuse_embedded_keys {
            report(Failure::TokenEmbeddedKey.into())?;
        }
        Ok(())
    }

    /// True if `crit` lists extensions that the header has and the policy allows, each once.
    fn understands(&self, crit: Value<'a>, policy: &Policy) -> bool {
        let mut names: Vec<String> = Vec::new();
        let is_list = crit.strings(|name| names.push(name.into_owned()));
        let is_understood = |(at, name): (usize, &String)| {
            policy.critical.contains(name)
                && self.extensions.contains(name)
                && !names[..at].contains(name)
        };
        is_list && !names.is_empty() && names.iter().enumerate().all(is_understood)
    }

    /// Checks algorithm, type and key id.
    fn header(&self, policy: &Policy, report: Report<'_>) -> Result<Header<'a>, Refused> {
        let mut header = Header::default();
        match self.alg.and_then(Value::string) {
            None => report(Failure::TokenHeader.into())?,
            Some(name) => {
                header.algorithm =
                    Algorithm::named(&name).filter(|one| policy.algorithms.has(*one));
                if header.algorithm.is_none() {
                    report(Failure::TokenAlgorithm.into())?;
                }
            }
        }
        let typ = self.typ.and_then(Value::string);
        if (self.typ.is_some() && typ.is_none()) || !policy.typ.allows(typ.as_deref()) {
            report(Failure::TokenTyp.into())?;
        }
        if let Some(kid) = self.kid {
            header.kid = kid.string().filter(|kid| is_kid(kid));
            if header.kid.is_none() {
                report(Failure::TokenKid.into())?;
            }
        }
        Ok(header)
    }
}
