//! The policy of a verifier, and the refusals that name the violated rule.

use super::algorithm::Algorithms;
use crate::validators::Failure;

/// A registered claim (RFC 7519, section 4.1), or a claim that the policy requires, by its index
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimName {
    /// `iss`
    Issuer,
    /// `sub`
    Subject,
    /// `aud`
    Audience,
    /// `exp`
    Expiry,
    /// `nbf`
    NotBefore,
    /// `iat`
    IssuedAt,
    /// `jti`
    Id,
    /// Another claim, by its index in [`Policy::required`].
    Required(u8),
}

impl ClaimName {
    /// The registered claims, in the order of their numbers.
    pub const REGISTERED: [(&'static str, Self); 7] = [
        ("iss", Self::Issuer),
        ("sub", Self::Subject),
        ("aud", Self::Audience),
        ("exp", Self::Expiry),
        ("nbf", Self::NotBefore),
        ("iat", Self::IssuedAt),
        ("jti", Self::Id),
    ];

    /// Returns its number: registered claims from 0, required ones from 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Issuer => 0,
            Self::Subject => 1,
            Self::Audience => 2,
            Self::Expiry => 3,
            Self::NotBefore => 4,
            Self::IssuedAt => 5,
            Self::Id => 6,
            Self::Required(at) => 7 + at,
        }
    }
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The failure.
    pub failure: Failure,
    /// The claim that failed.
    pub claim: Option<ClaimName>,
}

impl Refused {
    pub(super) const fn claim(failure: Failure, claim: ClaimName) -> Self {
        Self {
            failure,
            claim: Some(claim),
        }
    }

    /// Returns both as one number: the failure in the low eight bits, the claim's number plus one
    /// above them.
    #[must_use]
    pub const fn number(self) -> u32 {
        let claim = match self.claim {
            Some(claim) => claim.number() as u32 + 1,
            None => 0,
        };
        self.failure as u32 | claim << 8
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            claim: None,
        }
    }
}

/// Called with every failed check; an `Err` ends the verification.
pub(super) type Report<'r> = &'r mut dyn FnMut(Refused) -> Result<(), Refused>;

/// The rule for the header's `typ`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TypRule {
    /// None, or `JWT`: a token that declares another type is not an ordinary token.
    #[default]
    Plain,
    /// One of these media types; `true` also for a header without `typ`.
    OneOf(Vec<String>, bool),
    /// Any value.
    Any,
}

impl TypRule {
    /// Creates a rule from media types, whose `application/` may be omitted. With `or_absent`, a
    /// header may lack `typ`.
    #[must_use]
    pub fn one_of(types: &[String], or_absent: bool) -> Self {
        Self::OneOf(types.iter().map(|one| media_type(one)).collect(), or_absent)
    }

    pub(super) fn allows(&self, typ: Option<&str>) -> bool {
        match (self, typ) {
            (Self::Any, _) | (Self::Plain, None) => true,
            (Self::Plain, Some("JWT")) => true,
            (Self::Plain, Some(typ)) => media_type(typ) == "application/jwt",
            (Self::OneOf(types, _), Some(typ)) => types.contains(&media_type(typ)),
            (Self::OneOf(_, or_absent), None) => *or_absent,
        }
    }
}

/// Completes a media type: a `typ` without a slash stands for `application/` and itself (RFC 7515,
/// section 4.1.9).
fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    if lower.contains('/') {
        lower
    } else {
        format!("application/{lower}")
    }
}

/// The policy of a verifier. A configured claim is a required claim.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Allowed algorithms.
    pub algorithms: Algorithms,
    /// Allowed values of `iss`; empty for any.
    pub issuers: Vec<String>,
    /// Accepted values in `aud`; if empty, tokens with an audience are refused.
    pub audiences: Vec<String>,
    /// Accepts tokens for any audience.
    pub any_audience: bool,
    /// Required value of `sub`.
    pub subject: Option<String>,
    /// Registered claims that must be present, as bits by [`ClaimName::number`], in addition to
    /// `exp` and to the claims that other options require.
    pub required_registered: u8,
    /// Other claims that must be present; at most 32.
    pub required: Vec<String>,
    /// Maximum age of a token since `iat`, s.
    pub max_age_seconds: Option<f64>,
    /// Tolerance for differences of clocks, s.
    pub tolerance_seconds: f64,
    /// Rule for the header's `typ`.
    pub typ: TypRule,
    /// Names that `crit` may contain.
    pub critical: Vec<String>,
    /// Refuses tokens that contain a key (`jwk`, `jku`, `x5u`, `x5c`); otherwise these members are
    /// ignored.
    pub refuse_embedded_keys: bool,
    /// Maximum length of a token, bytes.
    pub max_token_bytes: usize,
    /// Maximum nesting of the claims, including the object itself.
    pub max_depth: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            algorithms: Algorithms::default(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            any_audience: false,
            subject: None,
            required_registered: 0,
            required: Vec::new(),
            max_age_seconds: None,
            tolerance_seconds: 0.0,
            typ: TypRule::Plain,
            critical: Vec::new(),
            refuse_embedded_keys: false,
            max_token_bytes: 2048,
            max_depth: 32,
        }
    }
}

impl Policy {
    pub(super) fn requires(&self, claim: ClaimName) -> bool {
        self.required_registered & (1 << claim.number()) != 0
            || match claim {
                ClaimName::Expiry => true,
                ClaimName::Issuer => !self.issuers.is_empty(),
                ClaimName::Audience => !self.audiences.is_empty(),
                ClaimName::Subject => self.subject.is_some(),
                ClaimName::IssuedAt => self.max_age_seconds.is_some(),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::TypRule;

    #[test]
    fn typ_is_a_media_type() {
        let plain = TypRule::Plain;
        for typ in [None, Some("JWT"), Some("jwt"), Some("application/jwt")] {
            assert!(plain.allows(typ), "{typ:?}");
        }
        for typ in ["at+jwt", "", "JOSE", "text/jwt"] {
            assert!(!plain.allows(Some(typ)), "{typ}");
        }
        let access = TypRule::one_of(&["at+JWT".to_owned()], false);
        assert!(access.allows(Some("application/at+jwt")) && access.allows(Some("AT+JWT")));
        assert!(!access.allows(None) && !access.allows(Some("JWT")));
        let either = TypRule::one_of(&["at+jwt".to_owned()], true);
        assert!(either.allows(None) && either.allows(Some("at+jwt")));
        assert!(!either.allows(Some("JWT")) && !either.allows(Some("")));
        assert!(TypRule::Any.allows(Some("x")) && TypRule::Any.allows(None));
    }
}
