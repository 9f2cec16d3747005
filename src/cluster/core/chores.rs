//! Work for the others: members that are dead are declared so, and their entries and those of old
//! generations are removed, a part of the buckets with each call.

use super::super::call::{BUCKETS, Command, Space, WALK};
use super::super::observer::Suspect;
use super::super::reply::Reply;
use super::super::script::Script;
use std::collections::VecDeque;

/// Pause between two calls, ms.
const CHORE_MS: f64 = 5.0;

enum Chore {
    Walk {
        generation: String,
        from: u32,
        ended: Vec<(u32, Vec<u8>)>,
    },
    Forget {
        generation: String,
        from: u32,
    },
}

/// The work of one member for the others: one call at a time, and not more than one in [`CHORE_MS`].
pub(super) struct Chores {
    suspects: VecDeque<Suspect>,
    chore: Option<Chore>,
    /// Number of the call under way.
    sent: Option<u64>,
    next_ms: f64,
}

impl Chores {
    pub(super) fn new(now: f64) -> Self {
        Self {
            suspects: VecDeque::new(),
            chore: None,
            sent: None,
            next_ms: now,
        }
    }

    /// Gives up the clean-up under way: a call of it may not have run, and an index must not be given
    /// out again while a bucket names it.
    pub(super) fn give_up(&mut self) {
        self.chore = None;
        self.sent = None;
    }

    /// Gives all work up.
    pub(super) fn clear(&mut self) {
        self.suspects.clear();
        self.give_up();
    }

    /// Adds members to declare dead.
    pub(super) fn suspect(&mut self, suspects: Vec<Suspect>) {
        for suspect in suspects {
            let mut known = self.suspects.iter();
            if !known.any(|known| known.index == suspect.index) {
                self.suspects.push_back(suspect);
            }
        }
    }

    /// Begins to clean up, unless that is under way.
    /// `ended`: dead members by index; `old`: a generation that nobody is in any more.
    pub(super) fn take_on(
        &mut self,
        generation: String,
        ended: Vec<(u32, Vec<u8>)>,
        old: Option<&String>,
    ) {
        if self.chore.is_some() {
            return;
        }
        if !ended.is_empty() {
            self.chore = Some(Chore::Walk {
                generation,
                from: 0,
                ended,
            });
        } else if let Some(old) = old {
            self.chore = Some(Chore::Forget {
                generation: old.clone(),
                from: 0,
            });
        }
    }

    /// Returns the time of the next call.
    pub(super) fn due_ms(&self) -> f64 {
        let has_work = self.chore.is_some() || !self.suspects.is_empty();
        if self.sent.is_none() && has_work {
            self.next_ms
        } else {
            f64::INFINITY
        }
    }

    /// Returns the next call, if one is due; `sent` notes its number.
    pub(super) fn next(&mut self, now: f64, space: &Space, generation: &str) -> Option<Command> {
        if self.sent.is_some() || now < self.next_ms {
            return None;
        }
        let command = match self.suspects.pop_front() {
            Some(suspect) => Command {
                script: Script::Dead,
                keys: vec![space.meta(), space.events()],
                args: vec![
                    generation.to_owned().into_bytes(),
                    suspect.index.to_string().into_bytes(),
                    suspect.owner,
                    suspect.beat,
                ],
            },
            None => self.clean(space, generation)?,
        };
        self.next_ms = now + CHORE_MS;
        Some(command)
    }

    /// Returns the next call of the clean-up.
    fn clean(&mut self, space: &Space, generation: &str) -> Option<Command> {
        Some(match &mut self.chore {
            None => return None,
            Some(Chore::Walk { from, ended, .. }) if *from >= BUCKETS => {
                let mut args = vec![generation.to_owned().into_bytes()];
                for (index, owner) in std::mem::take(ended) {
                    args.push(index.to_string().into_bytes());
                    args.push(owner);
                }
                self.chore = None;
                Command {
                    script: Script::Clean,
                    keys: vec![space.meta()],
                    args,
                }
            }
            Some(Chore::Walk {
                generation, from, ..
            }) => {
                let keys = space.walk(generation, *from);
                let args = vec![generation.clone().into_bytes()];
                *from += WALK;
                Command {
                    script: Script::Walk,
                    keys,
                    args,
                }
            }
            Some(Chore::Forget { generation, from }) => {
                let keys = space.walk(generation, *from);
                *from += WALK;
                let is_last = *from >= BUCKETS;
                let args = vec![
                    generation.clone().into_bytes(),
                    u8::from(is_last).to_string().into_bytes(),
                ];
                if is_last {
                    self.chore = None;
                }
                Command {
                    script: Script::Forget,
                    keys,
                    args,
                }
            }
        })
    }

    /// Notes the number of the call that `next` has returned.
    pub(super) fn sent(&mut self, number: u64) {
        self.sent = Some(number);
    }

    /// Takes a reply: `None` if the number is another call's, otherwise whether a member was declared dead.
    pub(super) fn replied(&mut self, number: u64, reply: &Reply) -> Option<bool> {
        if self.sent != Some(number) {
            return None;
        }
        self.sent = None;
        let text = reply.text();
        if !matches!(text, Some([b'+', ..])) {
            self.give_up();
        }
        Some(text == Some(b"+1"))
    }
}
