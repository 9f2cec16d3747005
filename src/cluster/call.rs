//! The calls of a member: their contents, and their form on the wire.

use super::column::{Column, Key, Name, Scope};
use super::script::{Script, holds};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::Hasher;

/// Bytes of a field: its scope, and a hash of 72 bits. Of a million names, two share one with a chance of 1 in 10^10.
pub(super) const FIELD: usize = 10;
/// Buckets of a generation.
pub(super) const BUCKETS: u32 = 16_384;
/// Flag of a client that the limits of its address do not refuse.
pub(super) const EXEMPT: u8 = 1;
/// Flag of a client whose address is unknown.
pub(super) const UNKNOWN: u8 = 2;
/// Flag of an admission that moves a seat to a user: it takes no seat of the totals, and only the limit of that user
/// can refuse it.
pub(super) const MOVE: u8 = 4;
/// Flag of an admission that replaces the oldest seat of its user, if the user is at the limit.
pub(super) const TAKE: u8 = 8;
/// Flag of a question of such an admission: whether it may open now.
pub(super) const LOOK: u8 = 16;
/// Flag of such a question that has been asked in vain: all processes are told again how many seats they may keep.
pub(super) const INSIST: u8 = 32;
/// Keys of one call that publishes.
pub(super) const PUBLISH_MAX: usize = 1000;
/// Buckets of one call that walks them.
pub(super) const WALK: u32 = 64;

/// The place of a member on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) generation: String,
    pub(super) index: u32,
    pub(super) identity: String,
    pub(super) secret: Vec<u8>,
}

/// An admission that a batch asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Number of the ticket.
    pub(super) ticket: u64,
    /// Address, prefix, user, anonymous address.
    pub(super) keys: [Option<Key>; 4],
    pub(super) flags: u8,
}

/// The contents of a numbered call.
#[derive(Debug, Clone)]
pub(super) enum Contents {
    /// Counts of keys as they are, and of all seats.
    Publish {
        counts: Vec<(Key, u32)>,
        seats: u32,
        anonymous: u32,
        is_audit: bool,
    },
    Activate,
    Batch {
        releases: Vec<(Key, u32)>,
        seats: u32,
        anonymous: u32,
        asked: Vec<Asked>,
        rates: BatchRates,
    },
}

/// The connect rates that a batch spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchRates {
    pub(super) of_network: bool,
    pub(super) of_user: bool,
    /// True to admit nobody who may have spent a rate that the server has lost.
    pub(super) is_strict: bool,
}

/// A command for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The script to run.
    pub script: Script,
    /// Its keys.
    pub keys: Vec<Vec<u8>>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
}

/// Keys of one manager name.
pub(super) struct Space {
    /// `{pc2:name}:`, so that all keys lie in one slot.
    prefix: String,
}

impl Space {
    pub(super) fn new(prefix: &str, name: &str) -> Self {
        // The number is that of the format. A brace in the name would end the tag early.
        let name: String = name
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02x}"),
            })
            .collect();
        Self {
            prefix: format!("{{{prefix}2:{name}}}:"),
        }
    }

    pub(super) fn meta(&self) -> Vec<u8> {
        format!("{}m", self.prefix).into_bytes()
    }

    fn bucket(&self, generation: &str, bucket: u32) -> Vec<u8> {
        let generation = if holds("generation") { generation } else { "" };
        format!("{}b:{generation}:{bucket}", self.prefix).into_bytes()
    }

    fn names(&self, generation: &str, bucket: u32) -> Vec<u8> {
        format!("{}o:{generation}:{bucket}", self.prefix).into_bytes()
    }

    /// Returns the key of the names in the bucket of a field.
    pub(super) fn names_of(&self, seat: &Seat, field: &[u8]) -> Vec<u8> {
        self.names(&seat.generation, bucket_of(field))
    }

    /// Returns the keys of names and counts of the buckets from `from` on, by turns.
    pub(super) fn online(&self, generation: &str, from: u32, count: u32) -> Vec<Vec<u8>> {
        (from..(from + count).min(BUCKETS))
            .flat_map(|bucket| {
                [
                    self.names(generation, bucket),
                    self.bucket(generation, bucket),
                ]
            })
            .collect()
    }

    pub(super) fn events(&self) -> Vec<u8> {
        format!("{}e", self.prefix).into_bytes()
    }

    pub(super) fn revocations(&self) -> Vec<u8> {
        format!("{}v", self.prefix).into_bytes()
    }

    /// Returns the key of a rate: of fixed size, whatever the name is.
    pub(super) fn rate(&self, secret: &[u8], name: Name) -> Vec<u8> {
        let field = field_of(secret, name);
        let mut key = format!("{}r:{}", self.prefix, char::from(field[0]));
        for byte in &field[1..] {
            key.push_str(&format!("{byte:02x}"));
        }
        key.into_bytes()
    }

    /// Returns the field of a user, and the key of its bucket.
    pub(super) fn user(&self, seat: &Seat, digest: u128) -> (Vec<u8>, Vec<u8>) {
        let name = Name {
            scope: Scope::User,
            digest,
        };
        let field = field_of(&seat.secret, name);
        (
            field.to_vec(),
            self.bucket(&seat.generation, bucket_of(&field)),
        )
    }

    /// Returns the keys of a call on the buckets from `from` on: the buckets, then their names.
    pub(super) fn walk(&self, generation: &str, from: u32) -> Vec<Vec<u8>> {
        let buckets = from..(from + WALK).min(BUCKETS);
        let mut keys = vec![self.meta()];
        keys.extend(
            buckets
                .clone()
                .map(|bucket| self.bucket(generation, bucket)),
        );
        keys.extend(buckets.map(|bucket| self.names(generation, bucket)));
        keys
    }
}

/// Returns the bucket of a field.
fn bucket_of(field: &[u8]) -> u32 {
    u32::from(u16::from_be_bytes([field[1], field[2]])) % BUCKETS
}

/// Returns the field of a name: its scope and 72 bits of a keyed hash.
pub(super) fn field_of(secret: &[u8], name: Name) -> [u8; FIELD] {
    let mut key = [0u8; 16];
    let length = secret.len().min(16);
    key[..length].copy_from_slice(&secret[..length]);
    let mut sip = SipHasher13::new_with_key(&key);
    sip.write(&[name.scope as u8]);
    sip.write(&name.digest.to_be_bytes());
    let hash = sip.finish128();
    let mut field = [name.scope as u8; FIELD];
    field[1..9].copy_from_slice(&hash.h1.to_be_bytes());
    field[9..].copy_from_slice(&hash.h2.to_be_bytes()[..FIELD - 9]);
    field
}

/// Collects the fields of a call, each once, and the keys that hold them.
struct Fields<'a> {
    space: &'a Space,
    seat: &'a Seat,
    column: &'a Column,
    keys: Vec<Vec<u8>>,
    places: HashMap<u32, u16, ahash::RandomState>,
    known: HashMap<Key, u16, ahash::RandomState>,
    rates: HashMap<(Key, Scope), u16, ahash::RandomState>,
    fields: Vec<u8>,
    buckets: Vec<u8>,
}

impl<'a> Fields<'a> {
    fn new(space: &'a Space, seat: &'a Seat, column: &'a Column) -> Self {
        Self {
            space,
            seat,
            column,
            keys: vec![space.meta()],
            places: HashMap::default(),
            known: HashMap::default(),
            rates: HashMap::default(),
            fields: Vec::new(),
            buckets: Vec::new(),
        }
    }

    /// Returns the number of a key's field, from 1.
    fn number(&mut self, key: Key) -> u16 {
        if let Some(&number) = self.known.get(&key) {
            return number;
        }
        let field = field_of(&self.seat.secret, self.column.name(key));
        let bucket = bucket_of(&field);
        let place = match self.places.get(&bucket) {
            Some(&place) => place,
            None => {
                self.keys
                    .push(self.space.bucket(&self.seat.generation, bucket));
                let place = self.keys.len() as u16;
                self.places.insert(bucket, place);
                place
            }
        };
        self.fields.extend(field);
        self.buckets.extend(place.to_be_bytes());
        let number = (self.fields.len() / FIELD) as u16;
        self.known.insert(key, number);
        number
    }

    /// Returns the place of a rate among the keys; 0 if it is not spent.
    fn rate(&mut self, key: Option<Key>, scope: Scope, is_spent: bool) -> u16 {
        let Some(key) = key.filter(|_| is_spent) else {
            return 0;
        };
        if let Some(&place) = self.rates.get(&(key, scope)) {
            return place;
        }
        let digest = self.column.name(key).digest;
        self.keys
            .push(self.space.rate(&self.seat.secret, Name { scope, digest }));
        let place = self.keys.len() as u16;
        self.rates.insert((key, scope), place);
        place
    }
}

fn u24(count: u32) -> [u8; 3] {
    let [_, a, b, c] = count.min(0xff_ffff).to_be_bytes();
    [a, b, c]
}

fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Returns the arguments that every call of an owner begins with.
pub(super) fn owned(seat: &Seat) -> Vec<Vec<u8>> {
    vec![
        text(&seat.generation),
        text(seat.index),
        text(&seat.identity),
    ]
}

impl Contents {
    /// Returns the command of call number `number`.
    pub(super) fn command(
        &self,
        number: u64,
        space: &Space,
        seat: &Seat,
        column: &Column,
    ) -> Command {
        let mut args = owned(seat);
        args.push(text(number));
        let mut fields = Fields::new(space, seat, column);
        match self {
            Self::Activate => Command {
                script: Script::Activate,
                keys: vec![space.meta(), space.events()],
                args,
            },
            Self::Publish {
                counts,
                seats,
                anonymous,
                ..
            } => {
                let mut told = Vec::new();
                for &(key, count) in counts {
                    fields.number(key);
                    told.extend(u24(count));
                }
                args.extend([
                    fields.fields,
                    fields.buckets,
                    told,
                    text(seats),
                    text(anonymous),
                ]);
                Command {
                    script: Script::Publish,
                    keys: fields.keys,
                    args,
                }
            }
            Self::Batch {
                releases,
                seats,
                anonymous,
                asked,
                rates,
            } => {
                let mut given = Vec::new();
                for &(key, count) in releases {
                    given.extend(fields.number(key).to_be_bytes());
                    given.extend(u24(count));
                }
                let mut wanted = Vec::new();
                for admission in asked {
                    for key in admission.keys {
                        let number = key.map_or(0, |key| fields.number(key));
                        wanted.extend(number.to_be_bytes());
                    }
                    wanted.push(admission.flags);
                }
                let mut spent = Vec::new();
                if rates.of_network || rates.of_user {
                    for admission in asked {
                        let [address, prefix, user, _] = admission.keys;
                        let is_bound = admission.flags & (EXEMPT | MOVE | LOOK) == 0;
                        let network = fields.rate(
                            prefix.or(address),
                            Scope::NetworkRate,
                            rates.of_network && is_bound,
                        );
                        let of_user = fields.rate(user, Scope::UserRate, rates.of_user && is_bound);
                        spent.extend(network.to_be_bytes());
                        spent.extend(of_user.to_be_bytes());
                    }
                }
                let mut takers = Vec::new();
                let taking = asked.iter().filter(|one| one.flags & (TAKE | INSIST) != 0);
                for user in taking.filter_map(|one| one.keys[2]) {
                    takers.extend(column.name(user).digest.to_be_bytes());
                }
                let mut keys = fields.keys;
                let stream = if takers.is_empty() {
                    0
                } else {
                    keys.push(space.events());
                    keys.len()
                };
                args.extend([
                    fields.fields,
                    fields.buckets,
                    given,
                    text(seats),
                    text(anonymous),
                    wanted,
                    spent,
                    text(u8::from(rates.is_strict)),
                    takers,
                    text(stream),
                ]);
                Command {
                    script: Script::Batch,
                    keys,
                    args,
                }
            }
        }
    }

    /// Returns the keys that the call uses until it is over.
    pub(super) fn kept(&self) -> Vec<Key> {
        match self {
            Self::Activate => Vec::new(),
            Self::Publish { counts, .. } => counts.iter().map(|&(key, _)| key).collect(),
            Self::Batch {
                releases, asked, ..
            } => releases
                .iter()
                .map(|&(key, _)| key)
                .chain(asked.iter().flat_map(|one| one.keys.into_iter().flatten()))
                .collect(),
        }
    }
}
