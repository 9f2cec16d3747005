//! A server in memory, which does what the scripts do in the most naive way.

use super::super::call::FIELD;
use super::super::reply::Reply;
use super::super::script::Script;
use std::collections::{BTreeMap, HashMap};

/// Key of the fields.
pub(super) const SECRET: &str = "0123456789abcdef";

#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) owner: String,
    pub(super) number: u64,
    pub(super) results: Vec<u8>,
    pub(super) beat: u64,
    pub(super) is_up: bool,
    pub(super) counts: HashMap<Vec<u8>, u32>,
    pub(super) seats: u32,
    pub(super) anonymous: u32,
}

/// A server that keeps a column for each member, and sums them up at every question.
#[derive(Clone, Default)]
pub(super) struct Server {
    pub(super) generation: String,
    pub(super) born: f64,
    pub(super) places: BTreeMap<u32, Place>,
    pub(super) revision: i64,
    pub(super) limits: Vec<f64>,
    /// Number of the latest drain, and its end.
    pub(super) drain: (u64, f64),
    /// Calls that spent rates.
    pub(super) takes: usize,
    /// Events of newcomers that replace a seat.
    pub(super) events: Vec<Vec<u8>>,
    /// Names of users, by field.
    pub(super) names: BTreeMap<Vec<u8>, String>,
    /// Processes by the time of their latest admission, of each field.
    pub(super) order: HashMap<Vec<u8>, Vec<u32>>,
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    text(bytes).parse().expect("a number")
}

pub(super) fn say(answer: &str) -> Reply {
    Reply::Text(answer.as_bytes().to_vec())
}

impl Server {
    pub(super) fn sum(&self, field: &[u8]) -> u32 {
        let counts = self.places.values();
        counts.filter_map(|place| place.counts.get(field)).sum()
    }

    pub(super) fn total(&self) -> u32 {
        self.places.values().map(|place| place.seats).sum()
    }

    pub(super) fn anonymous(&self) -> u32 {
        self.places.values().map(|place| place.anonymous).sum()
    }

    pub(super) fn run(&mut self, script: Script, args: &[Vec<u8>], now: f64) -> Reply {
        if script == Script::Join {
            return self.join(args, now);
        }
        if script == Script::Take && text(&args[0]) == self.generation {
            self.takes += 1;
            let parts = args[2..].chunks(4);
            let parts = parts.flat_map(|take| [say("1"), say(&text(&take[3])), say("0"), say("0")]);
            return Reply::List(parts.collect());
        }
        if text(&args[0]) != self.generation {
            return say("GEN");
        }
        match script {
            Script::Dead => {
                let index = number(&args[1]) as u32;
                let is_same = self.places.get(&index).is_some_and(|place| {
                    place.owner.as_bytes() == args[2] && place.beat == number(&args[3])
                });
                if is_same {
                    self.places.remove(&index);
                }
                return say(if is_same { "+1" } else { "+0" });
            }
            Script::Walk | Script::Clean | Script::Forget => return say("+"),
            Script::Names => {
                for (field, name) in args[1..].chunks(2).map(|pair| (&pair[0], &pair[1])) {
                    if !name.is_empty() {
                        self.names.insert(field.clone(), text(name));
                    } else if self.sum(field) == 0 {
                        self.names.remove(field);
                    }
                }
                return say("+");
            }
            Script::Limits | Script::Drain | Script::Who => return self.change(script, args, now),
            _ => {}
        }
        let index = number(&args[1]) as u32;
        let owner = text(&args[2]);
        if self.places.get(&index).map(|place| &place.owner) != Some(&owner) {
            return say("FENCED");
        }
        match script {
            Script::Beat => self.beat(index, args, now),
            Script::Leave => {
                self.places.remove(&index);
                say("+")
            }
            _ => self.numbered(script, index, args),
        }
    }

    pub(super) fn join(&mut self, args: &[Vec<u8>], now: f64) -> Reply {
        if self.generation.is_empty() || args[5] == self.generation.as_bytes() {
            let is_new = self.generation.is_empty();
            *self = Self {
                generation: text(&args[3]),
                born: now,
                places: BTreeMap::new(),
                names: BTreeMap::new(),
                revision: if is_new { -1 } else { self.revision },
                ..self.clone()
            };
        }
        let revision = number(&args[7]) as i64;
        if revision > self.revision {
            self.revision = revision;
            self.limits = args[8..19]
                .iter()
                .map(|limit| text(limit).parse().expect("a limit"))
                .collect();
        }
        if number(&args[20]) > self.drain.0 {
            self.drain = (number(&args[20]), now + number(&args[21]) as f64);
        }
        let owner = text(&args[0]);
        let known = self.places.iter().find(|(_, place)| place.owner == owner);
        let index = known.map(|(index, _)| *index).unwrap_or_else(|| {
            let free = (0..).find(|index| !self.places.contains_key(index));
            free.unwrap_or_default()
        });
        self.places.entry(index).or_insert(Place {
            owner,
            results: b"+".to_vec(),
            ..Place::default()
        });
        Reply::List(vec![
            Reply::Number(i64::from(index)),
            say(&self.generation),
            Reply::Number((now - self.born) as i64),
            say(SECRET),
            Reply::Number(self.places.len() as i64),
            Reply::Number(self.revision),
            self.limits(),
        ])
    }

    pub(super) fn change(&mut self, script: Script, args: &[Vec<u8>], now: f64) -> Reply {
        match script {
            Script::Limits if number(&args[1]) as i64 != self.revision => return say("CONFLICT"),
            Script::Limits => {
                self.revision += 1;
                let limits = args[2..].iter();
                self.limits = limits
                    .map(|limit| text(limit).parse().expect("a limit"))
                    .collect();
            }
            Script::Drain => {
                self.drain = (self.drain.0 + 1, now + number(&args[1]) as f64);
                let number = say(&self.drain.0.to_string());
                return Reply::List(vec![number, say(&text(&args[1])), say(&text(&args[2]))]);
            }
            _ => {}
        }
        Reply::List(vec![say(&self.revision.to_string())])
    }

    pub(super) fn limits(&self) -> Reply {
        Reply::List(
            self.limits
                .iter()
                .map(|limit| say(&limit.to_string()))
                .collect(),
        )
    }

    pub(super) fn beat(&mut self, index: u32, args: &[Vec<u8>], now: f64) -> Reply {
        let Some(place) = self.places.get_mut(&index) else {
            return say("FENCED");
        };
        if place.beat < number(&args[4]) || place.number < number(&args[5]) {
            return say("LOST");
        }
        place.beat = place.beat.max(number(&args[3]));
        let others = self.places.iter().filter(|(other, _)| **other != index);
        let joining = others.clone().filter(|(_, place)| !place.is_up).count();
        let seen = others.flat_map(|(other, place)| {
            [
                Reply::Number(i64::from(*other)),
                say(&place.owner),
                say(&place.beat.to_string()),
            ]
        });
        Reply::List(vec![
            Reply::Number((now - self.born) as i64),
            Reply::Number(joining as i64),
            Reply::Number(self.places.len() as i64),
            Reply::Number(self.revision),
            Reply::Number(0),
            say(""),
            Reply::List(Vec::new()),
            Reply::List(seen.collect()),
            Reply::Number(self.drain.0 as i64),
            Reply::Number((self.drain.1 - now).max(0.0) as i64),
            say(""),
            Reply::Number(0),
            Reply::Number(i64::from(self.total())),
            self.limits(),
        ])
    }

    pub(super) fn numbered(&mut self, script: Script, index: u32, args: &[Vec<u8>]) -> Reply {
        let mut place = self.places[&index].clone();
        let called = number(&args[3]);
        if called == place.number {
            return Reply::Text(place.results);
        }
        if called != place.number + 1 {
            return say("LOST");
        }
        let mut results = b"+".to_vec();
        match script {
            Script::Activate => {
                let node = place.owner.split('.').next().map(str::to_owned);
                self.places.retain(|other, found| {
                    *other == index || found.owner.split('.').next().map(str::to_owned) != node
                });
                place.is_up = true;
            }
            Script::Publish => {
                for (field, count) in args[4].chunks(FIELD).zip(args[6].chunks(3)) {
                    let order = self.order.entry(field.to_vec()).or_default();
                    if !order.contains(&index) {
                        order.push(index);
                    }
                    let count = u32::from_be_bytes([0, count[0], count[1], count[2]]);
                    place.counts.insert(field.to_vec(), count);
                }
                place.seats = number(&args[7]) as u32;
                place.anonymous = number(&args[8]) as u32;
                results.push(b'0');
            }
            _ => self.batch(&mut place, index, args, &mut results),
        }
        place.number = called;
        place.results.clone_from(&results);
        self.places.insert(index, place);
        Reply::Text(results)
    }

    pub(super) fn batch(
        &mut self,
        place: &mut Place,
        index: u32,
        args: &[Vec<u8>],
        results: &mut Vec<u8>,
    ) {
        let field =
            |at: u16| args[4][usize::from(at) * FIELD - FIELD..usize::from(at) * FIELD].to_vec();
        for release in args[6].chunks(5) {
            let at = u16::from_be_bytes([release[0], release[1]]);
            let count = u32::from_be_bytes([0, release[2], release[3], release[4]]);
            let held = place.counts.entry(field(at)).or_default();
            *held = held.saturating_sub(count);
        }
        place.seats = place.seats.saturating_sub(number(&args[7]) as u32);
        place.anonymous = place.anonymous.saturating_sub(number(&args[8]) as u32);
        let mut digests = args[12].chunks(16);
        for asked in args[9].chunks(9) {
            self.places.insert(index, place.clone());
            let keys = asked[..8]
                .chunks(2)
                .map(|at| u16::from_be_bytes([at[0], at[1]]));
            let keys: Vec<u16> = keys.collect();
            let user = keys[2];
            // A seat that moves is a seat already.
            let is_new = asked[8] & 4 == 0;
            let digest = (asked[8] & (8 | 32) != 0).then(|| digests.next()).flatten();
            let most = self.limits[3] as u32;
            if asked[8] & 16 != 0 {
                let over = self.sum(&field(user)).saturating_sub(most);
                results.push(b'0' + if over > 0 { 11 } else { 0 });
                if let Some(digest) = digest {
                    for before in 0..over.min(8) {
                        self.tell_holder(&field(user), digest, before, None);
                    }
                }
                continue;
            }
            let mut granted = b'0';
            let is_anonymous = keys[3] > 0;
            if is_new && self.total() >= self.limits[0] as u32 {
                results.push(b'0' + 2);
            } else if user > 0
                && self.sum(&field(user)) >= most
                && (digest.is_none() || self.sum(&field(user)) >= most * 2)
            {
                results.push(b'0' + 5);
            } else if is_anonymous && self.anonymous() >= self.limits[4] as u32 {
                results.push(b'0' + 6);
            } else {
                if let Some(digest) = digest
                    && self.sum(&field(user)) >= most
                {
                    let before = self.sum(&field(user)) - most;
                    self.tell_holder(&field(user), digest, before, Some(index));
                    granted += 11;
                }
                results.push(granted);
                place.seats += u32::from(is_new);
                place.anonymous += u32::from(is_anonymous);
                for key in keys.into_iter().filter(|key| *key > 0) {
                    let order = self.order.entry(field(key)).or_default();
                    order.retain(|one| *one != index);
                    order.push(index);
                    *place.counts.entry(field(key)).or_default() += 1;
                }
            }
        }
    }
}

impl Server {
    /// Tells the process of a seat how many it may keep; `before` counts the older seats, `newcomer` is the process of
    /// a seat that is taken next.
    pub(super) fn tell_holder(
        &mut self,
        field: &[u8],
        digest: &[u8],
        mut before: u32,
        newcomer: Option<u32>,
    ) {
        for index in &self.order[field] {
            let Some(place) = self.places.get(index) else {
                continue;
            };
            let count = place.counts.get(field).copied().unwrap_or_default();
            if before < count {
                let keeps = count - before - 1 + u32::from(newcomer == Some(*index));
                let mut event = format!("{} {keeps} ", place.owner).into_bytes();
                event.extend(digest);
                return self.events.push(event);
            }
            before -= count;
        }
    }
}
