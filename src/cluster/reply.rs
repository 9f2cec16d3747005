//! Replies of the server, taken apart.

use super::observer::Seen;

/// A reply, as the protocol has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A number.
    Number(i64),
    /// A text.
    Text(Vec<u8>),
    /// Several replies.
    List(Vec<Reply>),
    /// The server refused the command.
    Failed(String),
}

impl Reply {
    /// Returns a text.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Reply]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Describes a reply that is not as expected.
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            Self::Failed(problem) => problem.clone(),
            Self::Text(text) if text == b"FULL" => "4,096 members have joined".to_owned(),
            Self::Text(text) => {
                let text = String::from_utf8_lossy(text);
                format!("an unexpected reply: {}", readable(&text))
            }
            Self::Number(number) => format!("an unexpected reply: {number}"),
            // Not its parts: one of them may be the key of the hashes.
            Self::List(list) => format!("an unexpected reply: a list of {}", list.len()),
        }
    }
}

/// Characters of a server's text in a problem.
const READABLE_MAX: usize = 200;

/// Returns the beginning of a server's text, for people: on one line and without control characters.
pub(super) fn readable(text: &str) -> String {
    let mut characters = text.chars();
    let mut readable: String = characters
        .by_ref()
        .take(READABLE_MAX)
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect();
    if characters.next().is_some() {
        readable.push('…');
    }
    readable
}

fn string(reply: &Reply) -> Option<String> {
    String::from_utf8(reply.text()?.to_vec()).ok()
}

/// The reply to a join.
pub(super) struct JoinReply {
    pub(super) index: u32,
    pub(super) generation: String,
    pub(super) age_ms: f64,
    pub(super) secret: Vec<u8>,
    pub(super) members: u32,
    pub(super) revision: u32,
    pub(super) limits: [f64; 11],
}

fn limits_of(reply: &Reply) -> Option<[f64; 11]> {
    let list = reply.list()?;
    let mut limits = [0.0; 11];
    if list.len() != limits.len() {
        return None;
    }
    for (limit, text) in limits.iter_mut().zip(list) {
        *limit = std::str::from_utf8(text.text()?).ok()?.parse().ok()?;
    }
    Some(limits)
}

impl JoinReply {
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let [index, generation, age, secret, members, revision, limits] = reply.list()? else {
            return None;
        };
        Some(Self {
            index: index.number()? as u32,
            generation: string(generation)?,
            age_ms: age.number()? as f64,
            secret: secret.text()?.to_vec(),
            members: members.number()? as u32,
            revision: revision.number()? as u32,
            limits: limits_of(limits)?,
        })
    }
}

/// The reply to a beat.
pub(super) struct BeatReply {
    pub(super) age_ms: f64,
    pub(super) joining: u32,
    pub(super) members: u32,
    pub(super) revision: u32,
    pub(super) is_cleaner: bool,
    pub(super) old_generations: Vec<String>,
    pub(super) ended: Vec<(u32, Vec<u8>)>,
    pub(super) seen: Vec<Seen>,
    /// Number of the latest drain, the time that is left of it, and its reason.
    pub(super) drain: (u64, f64, String),
    /// Number of the latest event.
    pub(super) events: u64,
    /// Seats of all members.
    pub(super) total: u32,
    pub(super) limits: [f64; 11],
}

/// Returns number, time left and reason of a drain.
pub(super) fn drain_of(parts: &[Reply]) -> Option<(u64, f64, String)> {
    let [number, left, reason] = parts else {
        return None;
    };
    Some((
        number.number()? as u64,
        left.number()? as f64,
        String::from_utf8_lossy(reason.text()?).into_owned(),
    ))
}

impl BeatReply {
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let [
            age,
            joining,
            members,
            revision,
            cleaner,
            old,
            ended,
            seen,
            drain @ ..,
            events,
            total,
            limits,
        ] = reply.list()?
        else {
            return None;
        };
        let ended = ended.list()?.chunks_exact(2);
        let seen = seen.list()?.chunks_exact(3);
        Some(Self {
            drain: drain_of(drain)?,
            events: events.number()? as u64,
            total: total.number()?.max(0) as u32,
            limits: limits_of(limits)?,
            age_ms: age.number()? as f64,
            joining: joining.number()? as u32,
            members: members.number()? as u32,
            revision: revision.number()? as u32,
            is_cleaner: cleaner.number()? != 0,
            old_generations: string(old)?
                .split(',')
                .filter(|one| !one.is_empty())
                .map(str::to_owned)
                .collect(),
            ended: ended
                .map(|pair| Some((pair[0].number()? as u32, pair[1].text()?.to_vec())))
                .collect::<Option<_>>()?,
            seen: seen
                .map(|one| {
                    Some((
                        one[0].number()? as u32,
                        one[1].text()?.to_vec(),
                        one[2].text()?.to_vec(),
                    ))
                })
                .collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_short_text_and_shows_no_part_of_a_list() {
        let long = Reply::Text(vec![0xff; 100_000]).problem();
        assert!(long.chars().count() < 250, "{long}");
        let lines = Reply::Text(b"HTTP/1.1 400\r\nno\0".to_vec()).problem();
        assert_eq!(lines, "an unexpected reply: HTTP/1.1 400  no ");
        let secret = Reply::List(vec![Reply::Number(1), Reply::Text(b"hidden".to_vec())]);
        assert_eq!(secret.problem(), "an unexpected reply: a list of 2");
    }
}
