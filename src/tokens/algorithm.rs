//! Signature algorithms with the names of RFC 7518, 8037, 8812 and 9864, and sets of them.

/// A signature algorithm. `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    ES256K,
    EdDSA,
    Ed25519,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 15] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::ES256K,
        Self::EdDSA,
        Self::Ed25519,
    ];

    /// Returns its name in the header's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::ES256K => "ES256K",
            Self::EdDSA => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Returns the algorithm with exactly that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u16);

impl Algorithms {
    /// The algorithms of HMAC secrets.
    pub const HMAC: Self = Self::of(&[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]);
    /// The algorithms of RSA keys.
    pub const RSA: Self = Self::of(&[
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ]);
    /// The algorithms of RSA keys with the padding of PSS.
    pub const PSS: Self = Self::of(&[Algorithm::PS256, Algorithm::PS384, Algorithm::PS512]);
    /// The algorithm of Ed25519 keys, under both of its names.
    pub const ED25519: Self = Self::of(&[Algorithm::EdDSA]);

    /// Creates a set. `EdDSA` and `Ed25519` are one algorithm: each stands for both.
    #[must_use]
    pub const fn of(list: &[Algorithm]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < list.len() {
            bits |= 1 << list[at] as u8;
            at += 1;
        }
        let edwards = 1 << Algorithm::EdDSA as u8 | 1 << Algorithm::Ed25519 as u8;
        if bits & edwards != 0 {
            bits |= edwards;
        }
        Self(bits)
    }

    /// True if the set contains `algorithm`.
    #[must_use]
    pub const fn has(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u8) != 0
    }

    /// Returns the intersection of two sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if the set is a single algorithm; `EdDSA` and `Ed25519` are the same one.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.0.is_power_of_two() || self.0 == Self::ED25519.0
    }

    /// Returns one of the algorithms.
    #[must_use]
    pub fn first(self) -> Option<Algorithm> {
        self.iter().next()
    }

    /// Iterates over the algorithms; `Ed25519` is left out, since `EdDSA` is the same.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(move |one| self.has(*one) && *one != Algorithm::Ed25519)
    }
}
