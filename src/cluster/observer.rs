//! The watch of one member over the others: it declares those dead whose beat has not changed for a
//! lease, by its own clock.

use std::collections::HashMap;

/// A member as a beat shows it: index, owner, number of its last beat.
pub(super) type Seen = (u32, Vec<u8>, Vec<u8>);

/// A member whose beat has not changed for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) index: u32,
    pub(super) owner: Vec<u8>,
    pub(super) beat: Vec<u8>,
}

/// The latest beats, and the times since which they have not changed.
pub(super) struct Observer {
    lease_ms: f64,
    gap_ms: f64,
    known: HashMap<u32, (Vec<u8>, Vec<u8>, f64)>,
    last_ms: f64,
}

impl Observer {
    pub(super) fn new(lease_ms: f64, beat_ms: f64) -> Self {
        Self {
            lease_ms,
            gap_ms: 3.0 * beat_ms,
            known: HashMap::new(),
            last_ms: f64::NEG_INFINITY,
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.last_ms = f64::NEG_INFINITY;
    }

    /// Takes what a beat shows; returns the members to declare dead.
    pub(super) fn see(&mut self, now: f64, seen: &[Seen]) -> Vec<Suspect> {
        // Only time in which this member itself was well counts.
        if now - self.last_ms > self.gap_ms {
            self.known.clear();
        }
        self.last_ms = now;
        let mut suspects = Vec::new();
        for (index, owner, beat) in seen {
            match self.known.get(index) {
                Some((known, at, since)) if known == owner && at == beat => {
                    if now - since > self.lease_ms {
                        suspects.push(Suspect {
                            index: *index,
                            owner: owner.clone(),
                            beat: beat.clone(),
                        });
                    }
                }
                _ => {
                    self.known
                        .insert(*index, (owner.clone(), beat.clone(), now));
                }
            }
        }
        suspects
    }
}
