//! The protected header: what it says of the key, and what of it is refused.

use super::algorithm::Algorithm;
use super::json_object::{Flaw, Value, read};
use super::policy::{Policy, Report};
use crate::validators::Failure;
use std::borrow::Cow;

/// A key id beyond this, or with anything but visible ASCII, is nobody's.
pub(super) const KID_MAX_BYTES: usize = 256;
const DEPTH_MAX: usize = 8;

/// Whether a text can be a key id.
pub(super) fn is_kid(kid: &str) -> bool {
    (1..=KID_MAX_BYTES).contains(&kid.len()) && kid.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// What a header says of the key.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    pub algorithm: Option<Algorithm>,
    pub kid: Option<Cow<'a, str>>,
}

/// Reads a decoded header and reports what the policy does not allow.
pub(super) fn judge<'a>(
    bytes: &'a [u8],
    policy: &Policy,
    report: Report<'_>,
) -> Result<Header<'a>, super::Refused> {
    let (mut alg, mut kid, mut typ, mut crit) = (None, None, None, None);
    let (mut b64, mut zip, mut enc, mut brings_key) = (None, false, false, false);
    // Names that are no extension: `crit` must not hold them (RFC 7515, section 4.1.11).
    let mut extensions: Vec<String> = Vec::new();
    let read = read(bytes, DEPTH_MAX, |name, value| match name {
        "alg" => alg = Some(value),
        "kid" => kid = Some(value),
        "typ" => typ = Some(value),
        "crit" => crit = Some(value),
        "b64" => b64 = Some(value),
        "zip" => zip = true,
        "enc" => enc = true,
        "jwk" | "jku" | "x5u" | "x5c" => brings_key = true,
        "cty" | "x5t" | "x5t#S256" => {}
        other => {
            if !policy.critical.is_empty() {
                extensions.push(other.to_owned());
            }
        }
    });
    if let Err(flaw) = read {
        report(match flaw {
            Flaw::Duplicate => Failure::TokenHeaderDuplicate.into(),
            _ => Failure::TokenHeader.into(),
        })?;
        return Ok(Header::default());
    }
    if enc {
        report(Failure::TokenEncrypted.into())?;
    }
    if zip {
        report(Failure::TokenCompressed.into())?;
    }
    if !matches!(b64, None | Some(Value::True)) {
        report(Failure::TokenUnencoded.into())?;
    }
    if let Some(crit) = crit {
        let mut names: Vec<String> = Vec::new();
        let is_list = crit.strings(|name| names.push(name.into_owned()));
        let understood = |at: usize, name: &String| {
            policy.critical.contains(name)
                && extensions.contains(name)
                && !names[..at].contains(name)
        };
        if !is_list
            || names.is_empty()
            || !names
                .iter()
                .enumerate()
                .all(|(at, name)| understood(at, name))
        {
            report(Failure::TokenCritical.into())?;
        }
    }
    if brings_key && policy.refuse_embedded_keys {
        report(Failure::TokenEmbeddedKey.into())?;
    }
    let mut header = Header::default();
    match alg.and_then(Value::string) {
        None => report(Failure::TokenHeader.into())?,
        Some(name) => {
            header.algorithm = Algorithm::named(&name).filter(|one| policy.algorithms.has(*one));
            if header.algorithm.is_none() {
                report(Failure::TokenAlgorithm.into())?;
            }
        }
    }
    let typ_text = typ.and_then(Value::string);
    if (typ.is_some() && typ_text.is_none()) || !policy.typ.allows(typ_text.as_deref()) {
        report(Failure::TokenTyp.into())?;
    }
    if let Some(kid) = kid {
        header.kid = kid.string().filter(|kid| is_kid(kid));
        if header.kid.is_none() {
            report(Failure::TokenKid.into())?;
        }
    }
    Ok(header)
}
