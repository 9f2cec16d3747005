//! Checks the claims set against a policy (RFC 7519, section 4.1).
//!
//! Owns the checks of presence, names and dates. Does not own reading the object (`json_object`) or
//! revocation.

use super::json_object::{Flaw, Value, read};
use super::policy::{ClaimName, Policy, Refused, Report};
use crate::validators::Failure;
use std::borrow::Cow;

/// Greatest date; later ones count as this one, since doubles cannot hold single seconds above it.
const DATE_MAX: f64 = 9_007_199_254_740_992.0;

/// The claims that later steps need.
#[derive(Debug, Default)]
pub(super) struct Claims<'a> {
    /// The time at which the token becomes invalid: the earlier of `exp` and the end of its maximum
    /// age, plus the tolerance.
    pub deadline: f64,
    pub issuer: Option<Cow<'a, str>>,
    pub subject: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
    pub issued_at: Option<f64>,
}

/// The members of a claims set that a policy may ask about.
struct Members<'a> {
    /// By [`ClaimName::number`].
    registered: [Option<Value<'a>>; 7],
    /// A bit for each of [`Policy::required`] that is present.
    required: u32,
}

/// Reads decoded claims and reports violations of the policy; `now` in wall-clock seconds.
pub(super) fn judge<'a>(
    bytes: &'a [u8],
    policy: &Policy,
    now: f64,
    report: Report<'_>,
) -> Result<Claims<'a>, Refused> {
    let mut members = Members {
        registered: [None; 7],
        required: 0,
    };
    let read = read(bytes, policy.max_depth, |name, value| {
        members.add(policy, name, value);
    });
    if let Err(flaw) = read {
        report(match flaw {
            Flaw::Duplicate => Failure::TokenClaimDuplicate.into(),
            Flaw::Depth => Failure::TokenClaimsTooComplex.into(),
            Flaw::Syntax | Flaw::Proto => Failure::TokenClaims.into(),
        })?;
        return Ok(Claims::default());
    }
    let mut claims = Claims::default();
    members.check_presence(policy, report)?;
    members.check_names(&mut claims, policy, report)?;
    members.check_dates(&mut claims, policy, now, report)?;
    Ok(claims)
}

impl<'a> Members<'a> {
    fn add(&mut self, policy: &Policy, name: &str, value: Value<'a>) {
        let mut registered = ClaimName::REGISTERED.iter();
        if let Some((_, claim)) = registered.find(|(registered, _)| *registered == name) {
            self.registered[claim.number() as usize] = Some(value);
            return;
        }
        let mut required = policy.required.iter().take(32);
        if let Some(at) = required.position(|required| required == name) {
            self.required |= 1 << at;
        }
    }

    fn value(&self, claim: ClaimName) -> Option<Value<'a>> {
        self.registered[claim.number() as usize]
    }

    fn check_presence(&self, policy: &Policy, report: Report<'_>) -> Result<(), Refused> {
        for (_, claim) in ClaimName::REGISTERED {
            if self.value(claim).is_none() && policy.requires(claim) {
                report(Refused::claim(Failure::TokenClaimMissing, claim))?;
            }
        }
        for at in 0..policy.required.len().min(32) as u8 {
            if self.required & (1 << at) == 0 {
                report(Refused::claim(
                    Failure::TokenClaimMissing,
                    ClaimName::Required(at),
                ))?;
            }
        }
        Ok(())
    }

    /// Checks issuer, subject, id and audience.
    fn check_names(
        &self,
        claims: &mut Claims<'a>,
        policy: &Policy,
        report: Report<'_>,
    ) -> Result<(), Refused> {
        for (claim, place) in [
            (ClaimName::Issuer, &mut claims.issuer),
            (ClaimName::Subject, &mut claims.subject),
            (ClaimName::Id, &mut claims.id),
        ] {
            if let Some(value) = self.value(claim) {
                *place = value.string();
                if place.is_none() {
                    report(Refused::claim(Failure::TokenClaimInvalid, claim))?;
                }
            }
        }
        if let Some(issuer) = &claims.issuer
            && !policy.issuers.is_empty()
            && !policy.issuers.iter().any(|one| one == issuer)
        {
            report(Refused::claim(Failure::TokenIssuer, ClaimName::Issuer))?;
        }
        if let (Some(expected), Some(subject)) = (&policy.subject, &claims.subject)
            && expected != subject
        {
            report(Refused::claim(Failure::TokenSubject, ClaimName::Subject))?;
        }
        match self.value(ClaimName::Audience) {
            Some(audience) => judge_audience(audience, policy, report),
            None => Ok(()),
        }
    }

    fn check_dates(
        &self,
        claims: &mut Claims<'a>,
        policy: &Policy,
        now: f64,
        report: Report<'_>,
    ) -> Result<(), Refused> {
        let tolerance = policy.tolerance_seconds;
        claims.deadline = f64::INFINITY;
        if let Some(expiry) = self.date(ClaimName::Expiry, report)? {
            claims.deadline = expiry + tolerance;
            // The token must not be accepted "on or after" this time (RFC 7519, section 4.1.4), nor
            // at a time that is not a number.
            if now >= claims.deadline || now.is_nan() {
                report(Refused::claim(Failure::TokenExpired, ClaimName::Expiry))?;
            }
        }
        if let Some(not_before) = self.date(ClaimName::NotBefore, report)?
            && now + tolerance < not_before
        {
            report(Refused::claim(
                Failure::TokenNotYetValid,
                ClaimName::NotBefore,
            ))?;
        }
        claims.issued_at = self.date(ClaimName::IssuedAt, report)?;
        if let Some(issued_at) = claims.issued_at {
            if issued_at > now + tolerance {
                report(Refused::claim(
                    Failure::TokenIssuedInFuture,
                    ClaimName::IssuedAt,
                ))?;
            }
            if let Some(max_age) = policy.max_age_seconds {
                let end = issued_at + max_age + tolerance;
                claims.deadline = claims.deadline.min(end);
                if now > end {
                    report(Refused::claim(Failure::TokenTooOld, ClaimName::IssuedAt))?;
                }
            }
        }
        Ok(())
    }

    /// Reads a NumericDate: finite, not negative, whole or fractional seconds. Dates beyond
    /// [`DATE_MAX`] saturate: some issuers write a date of the far future for "never".
    fn date(&self, claim: ClaimName, report: Report<'_>) -> Result<Option<f64>, Refused> {
        let Some(value) = self.value(claim) else {
            return Ok(None);
        };
        let date = value
            .number()
            .filter(|date| *date >= 0.0)
            .map(|date| date.min(DATE_MAX));
        if date.is_none() {
            report(Refused::claim(Failure::TokenClaimInvalid, claim))?;
        }
        Ok(date)
    }
}

fn judge_audience(audience: Value<'_>, policy: &Policy, report: Report<'_>) -> Result<(), Refused> {
    let mut is_ours = policy.any_audience;
    let mut look = |one: &str| is_ours |= policy.audiences.iter().any(|ours| ours == one);
    let is_valid = match audience.string() {
        Some(one) => {
            look(&one);
            true
        }
        None => audience.strings(|one| look(&one)),
    };
    if !is_valid {
        report(Refused::claim(
            Failure::TokenClaimInvalid,
            ClaimName::Audience,
        ))
    } else if !is_ours {
        report(Refused::claim(Failure::TokenAudience, ClaimName::Audience))
    } else {
        Ok(())
    }
}
