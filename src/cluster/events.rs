//! The reader of the stream of events: its place in the stream, and the proof that it has missed none.
//!
//! State lies in keys; an event only tells that it has changed. So a reader that has missed events reads
//! the state again. An event carries a number within its generation; a reader that starts again goes on
//! from the last entry that it has read, if that entry is still there, and begins at the end otherwise.
//!
//! Does not own the connection (`listener`).

use super::reply::Reply;

/// Work for the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Nothing: the member has no place on the server yet.
    Nothing,
    /// Looks up the entry of this id, in order to go on from there.
    Verify(String),
    /// Looks up the last entry.
    Tail,
    /// Waits for entries after this id.
    After(String),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: u8,
    pub(super) data: Vec<u8>,
}

/// Meaning of a reply of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) events: Vec<Event>,
    /// True if events were missed, or may have been.
    pub(super) has_gap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The place must be proved: the connection or the generation is new.
    Unsure,
    Reading,
}

/// The reader's place.
pub(super) struct Events {
    phase: Phase,
    /// Id of the last entry that was read; empty before the first.
    position: String,
    generation: String,
    number: u64,
    /// Number of the latest event as of the beat before, and its generation.
    told: (String, u64),
    /// Generation and number of the latest event before the state was last read as a whole. The stream may have lost
    /// that event: without this note, every second beat would report a gap.
    covered: (String, u64),
}

impl Default for Events {
    fn default() -> Self {
        Self {
            phase: Phase::Unsure,
            position: String::new(),
            generation: String::new(),
            number: 0,
            told: (String::new(), 0),
            covered: (String::new(), 0),
        }
    }
}

impl Events {
    /// Notes that the place must be proved again.
    pub(super) fn unsure(&mut self) {
        self.phase = Phase::Unsure;
    }

    /// Returns the next thing to read.
    pub(super) fn next(&self) -> Read {
        match self.phase {
            Phase::Reading => Read::After(self.position.clone()),
            Phase::Unsure if self.position.is_empty() || self.position == "0-0" => Read::Tail,
            Phase::Unsure => Read::Verify(self.position.clone()),
        }
    }

    /// Notes the number of the latest event that a beat tells; `true` if the reader has missed one that
    /// was there at the beat before.
    pub(super) fn beaten(&mut self, generation: &str, number: u64) -> bool {
        let own = |known: &str, number| if known == generation { number } else { 0 };
        let seen = own(&self.generation, self.number).max(own(&self.covered.0, self.covered.1));
        let is_behind = self.told.0 == generation && seen < self.told.1;
        self.told = (generation.to_owned(), number);
        if is_behind {
            // A stream that was lost may give out ids below the position: the reader begins at the end.
            *self = Self {
                told: std::mem::take(&mut self.told),
                ..Self::default()
            };
            // The state is read after this beat was answered.
            self.covered.clone_from(&self.told);
        }
        is_behind
    }

    /// Takes the reply to `read`.
    pub(super) fn read(&mut self, read: &Read, reply: &Reply) -> Option<News> {
        match read {
            Read::Nothing => Some(News::default()),
            Read::Verify(id) => {
                let found = entries(reply)?;
                if self.phase == Phase::Unsure && self.position == *id {
                    if found.is_empty() {
                        self.position.clear();
                    } else {
                        self.phase = Phase::Reading;
                    }
                }
                Some(News::default())
            }
            Read::Tail => {
                let found = entries(reply)?;
                let last = found.into_iter().next();
                self.phase = Phase::Reading;
                (self.position, self.generation, self.number) = match last {
                    Some(entry) => (entry.id, entry.generation, entry.number),
                    None => ("0-0".to_owned(), String::new(), 0),
                };
                Some(News {
                    events: Vec::new(),
                    has_gap: true,
                })
            }
            Read::After(id) => {
                // A place that was given up meanwhile is not moved.
                if self.phase != Phase::Reading || self.position != *id {
                    return Some(News::default());
                }
                Some(self.advance(stream_entries(reply)?))
            }
        }
    }

    fn advance(&mut self, found: Vec<Entry>) -> News {
        let mut news = News::default();
        for entry in found {
            let expected = if entry.generation == self.generation {
                self.number + 1
            } else {
                1
            };
            news.has_gap |= entry.number != expected;
            self.position = entry.id;
            self.generation = entry.generation;
            self.number = entry.number;
            news.events.push(entry.event);
        }
        news
    }
}

struct Entry {
    id: String,
    generation: String,
    number: u64,
    event: Event,
}

/// The entries of XRANGE: pairs of an id and fields.
fn entries(reply: &Reply) -> Option<Vec<Entry>> {
    let list = match reply {
        // No such stream.
        Reply::Failed(_) => return None,
        other => other.list()?,
    };
    list.iter().map(entry).collect()
}

/// The entries of XREAD: a list of streams, or nothing after its time.
fn stream_entries(reply: &Reply) -> Option<Vec<Entry>> {
    let list = reply.list()?;
    match list.first() {
        None => Some(Vec::new()),
        Some(stream) => entries(stream.list()?.get(1)?),
    }
}

fn entry(reply: &Reply) -> Option<Entry> {
    let [id, fields] = reply.list()? else {
        return None;
    };
    let fields = fields.list()?;
    let field = |name: &[u8]| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| {
            (pair[0].text() == Some(name))
                .then(|| pair[1].text())
                .flatten()
        })
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // An entry that is nobody's, of a hand or of another program, is a gap and no event.
    Some(Entry {
        id: text(id.text()?),
        generation: field(b"g").map(text).unwrap_or_default(),
        number: field(b"n")
            .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok())
            .unwrap_or(0),
        event: Event {
            kind: field(b"k")
                .and_then(|kind| kind.first().copied())
                .unwrap_or(0),
            data: field(b"d").unwrap_or_default().to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn say(text: &str) -> Reply {
        Reply::Text(text.as_bytes().to_vec())
    }

    /// A stream as the server keeps it: id, generation, number.
    type Stored = (u64, u32, u64);

    fn reply(entries: &[Stored]) -> Reply {
        let entries = entries.iter().map(|(id, generation, number)| {
            let fields = [
                say("g"),
                say(&generation.to_string()),
                say("n"),
                say(&number.to_string()),
                say("k"),
                say("k"),
                say("d"),
                say(&format!("{generation}/{number}")),
            ];
            Reply::List(vec![say(&format!("{id}-0")), Reply::List(fields.to_vec())])
        });
        Reply::List(entries.collect())
    }

    struct Model {
        events: Events,
        stream: Vec<Stored>,
        next_id: u64,
        generation: u32,
        number: u64,
        /// Events that the reader has to hear, or to be told that it has missed some.
        owed: Vec<String>,
        has_gap: bool,
    }

    impl Model {
        fn new() -> Self {
            Self {
                events: Events::default(),
                stream: Vec::new(),
                next_id: 1,
                generation: 1,
                number: 0,
                owed: Vec::new(),
                has_gap: false,
            }
        }

        fn tell(&mut self) {
            self.number += 1;
            self.stream
                .push((self.next_id, self.generation, self.number));
            self.next_id += 1;
            self.owed
                .push(format!("{}/{}", self.generation, self.number));
        }

        fn turn(&mut self) {
            let read = self.events.next();
            let id = |text: &str| text.trim_end_matches("-0").parse::<u64>().unwrap_or(0);
            let answer = match &read {
                Read::Nothing => return,
                Read::Verify(at) => {
                    let found = self.stream.iter().filter(|(one, ..)| *one == id(at));
                    reply(&found.copied().collect::<Vec<_>>())
                }
                Read::Tail => reply(&self.stream.last().copied().into_iter().collect::<Vec<_>>()),
                Read::After(at) => {
                    let found = self.stream.iter().filter(|(one, ..)| *one > id(at)).take(3);
                    let found: Vec<_> = found.copied().collect();
                    match found.is_empty() {
                        true => Reply::List(Vec::new()),
                        false => Reply::List(vec![Reply::List(vec![say("e"), reply(&found)])]),
                    }
                }
            };
            let news = self.events.read(&read, &answer).expect("a reply");
            if news.has_gap {
                // Everything before is read as state.
                self.owed.clear();
                self.has_gap = true;
                return;
            }
            for event in news.events {
                let data = String::from_utf8(event.data).expect("text");
                // One that was told before a gap may still come.
                if let Some(at) = self.owed.iter().position(|owed| *owed == data) {
                    assert_eq!(at, 0, "{data} before {:?}", self.owed);
                    self.owed.remove(0);
                }
            }
        }

        fn beat(&mut self) {
            let generation = self.generation.to_string();
            if self.events.beaten(&generation, self.number) {
                self.has_gap = true;
                self.owed.clear();
            }
        }
    }

    #[test]
    fn a_lost_stream_is_no_gap_with_every_beat() {
        let mut model = Model::new();
        model.turn();
        model.tell();
        model.beat();
        model.turn();
        // It is lost, and the reader has a new connection.
        model.stream.clear();
        model.events.unsure();
        for _ in 0..3 {
            model.turn();
            model.beat();
        }
        model.has_gap = false;
        for _ in 0..9 {
            model.turn();
            model.beat();
        }
        assert!(!model.has_gap);
        model.tell();
        model.turn();
        assert!(model.owed.is_empty());
    }

    proptest! {
        #[test]
        fn every_event_is_heard_or_a_gap_is_told(
            steps in prop::collection::vec(0..9u8, 1..120),
        ) {
            let mut model = Model::new();
            model.turn();
            for step in steps {
                match step {
                    0..=2 => model.tell(),
                    3..=4 => model.turn(),
                    5 => model.events.unsure(),
                    6 => model.beat(),
                    // The stream is lost or trimmed; what was in it is not heard any more.
                    7 => model.stream.clear(),
                    // The server has lost everything, and its clock may be behind.
                    _ => {
                        model.stream.clear();
                        model.generation += 1;
                        model.number = 0;
                        model.next_id = 1;
                        model.events.unsure();
                    }
                }
            }
            // Two beats apart, the reader has read everything that was there before or knows that it has not.
            model.has_gap = false;
            model.beat();
            for _ in 0..60 {
                model.turn();
            }
            model.beat();
            for _ in 0..60 {
                model.turn();
            }
            prop_assert!(model.owed.is_empty() || model.has_gap, "{:?}", model.owed);
            // And it hears what comes next.
            model.tell();
            model.has_gap = false;
            model.turn();
            prop_assert!(model.owed.is_empty() || model.has_gap, "{:?}", model.owed);
        }
    }
}
