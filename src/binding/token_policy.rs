//! The policy of a verifier, converted from its JavaScript object. `ts/tokens` checks the values.

use crate::tokens::{Algorithm, Algorithms, ClaimName, Policy, TypRule};
use napi_derive::napi;

/// The policy of a verifier; checked in `ts/tokens`.
#[napi(object)]
pub struct TokenPolicy {
    pub algorithms: Vec<String>,
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub any_audience: bool,
    pub subject: Option<String>,
    pub required: Vec<String>,
    pub max_age_seconds: Option<f64>,
    pub tolerance_seconds: f64,
    /// Absent: the `typ` of an ordinary token (none, or `JWT`).
    pub types: Option<Vec<String>>,
    /// With `types`: whether a header may lack `typ`.
    pub type_may_be_absent: bool,
    pub any_type: bool,
    pub critical: Vec<String>,
    pub refuse_embedded_keys: bool,
    pub max_token_bytes: u32,
    pub max_depth: u32,
    pub max_revocations: u32,
}

impl From<&TokenPolicy> for Policy {
    fn from(given: &TokenPolicy) -> Self {
        let mut required_registered = 0;
        let mut required = Vec::new();
        for name in &given.required {
            match ClaimName::REGISTERED
                .iter()
                .find(|(registered, _)| registered == name)
            {
                Some((_, claim)) => required_registered |= 1 << claim.number(),
                None => required.push(name.clone()),
            }
        }
        Self {
            algorithms: algorithms(&given.algorithms),
            issuers: given.issuers.clone(),
            audiences: given.audiences.clone(),
            any_audience: given.any_audience,
            subject: given.subject.clone(),
            required_registered,
            required,
            max_age_seconds: given.max_age_seconds,
            tolerance_seconds: given.tolerance_seconds,
            typ: match &given.types {
                _ if given.any_type => TypRule::Any,
                Some(types) => TypRule::one_of(types, given.type_may_be_absent),
                None => TypRule::Plain,
            },
            critical: given.critical.clone(),
            refuse_embedded_keys: given.refuse_embedded_keys,
            max_token_bytes: given.max_token_bytes as usize,
            max_depth: given.max_depth as usize,
        }
    }
}

fn algorithms(names: &[String]) -> Algorithms {
    let known: Vec<_> = names
        .iter()
        .filter_map(|name| Algorithm::named(name))
        .collect();
    Algorithms::of(&known)
}
