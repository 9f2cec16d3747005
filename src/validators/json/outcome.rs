//! The outcome of a scan: a report, or a refusal with its place.

use super::keys::Repeated;
use crate::validators::Failure;

/// Why a text was refused, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The failure.
    pub failure: Failure,
    /// Offset of the failure, bytes.
    pub offset: usize,
    /// The limit that was exceeded, if the failure is one.
    pub limit: Option<usize>,
}

/// Properties of a text that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Scalars, arrays and objects.
    pub values: usize,
    /// Greatest nesting.
    pub depth: usize,
    /// Whether every byte is ASCII.
    pub is_ascii: bool,
    /// Whether an integer is beyond 2^53.
    pub has_unsafe_integers: bool,
    /// Whether a string contains `\u0000`.
    pub has_nul: bool,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A key; a long one is cut and ends with `…`.
    Key(String),
    /// An index.
    Index(usize),
}

/// The outcome of a part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The whole text passed.
    Passed(Report),
    /// No failure so far.
    More,
    /// The part ends within something long: the whole text must be scanned from its start.
    Cut,
}

impl Step {
    /// True if the next part is needed.
    #[must_use]
    pub fn is_more(self) -> bool {
        self == Self::More
    }

    /// Returns the report if the whole text passed.
    #[must_use]
    pub fn report(self) -> Option<Report> {
        match self {
            Self::Passed(report) => Some(report),
            Self::More | Self::Cut => None,
        }
    }
}

pub(super) fn at(failure: Failure, offset: usize) -> Refusal {
    Refusal {
        failure,
        offset,
        limit: None,
    }
}

pub(super) fn beyond(failure: Failure, offset: usize, limit: usize) -> Refusal {
    Refusal {
        failure,
        offset,
        limit: Some(limit),
    }
}

impl From<(Failure, usize)> for Refusal {
    fn from((failure, offset): (Failure, usize)) -> Self {
        at(failure, offset)
    }
}

impl From<Repeated> for Refusal {
    fn from(Repeated(offset): Repeated) -> Self {
        at(Failure::JsonDuplicateKey, offset)
    }
}
