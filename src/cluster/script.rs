//! The scripts that run on the server, and the safety rules in them.

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Gives an index to a process.
    Join,
    /// Replaces counts of the caller's column.
    Publish,
    /// Marks the caller as up.
    Activate,
    /// Gives seats back and takes seats.
    Batch,
    /// Shows that the caller lives; returns the members.
    Beat,
    /// Ends the index of a member that has stopped beating.
    Dead,
    /// Ends the caller's index.
    Leave,
    /// Strips buckets of ended indexes.
    Walk,
    /// Makes ended indexes free.
    Clean,
    /// Deletes the buckets of a generation that is over.
    Forget,
    /// Tells all to close the connections of a user.
    Kick,
    /// Returns the processes that hold connections of a user.
    Who,
    /// Returns all processes.
    Nodes,
    /// Refuses newcomers everywhere, or admits them again.
    Drain,
    /// Replaces the limits in force.
    Limits,
    /// Adds revocations.
    Revoke,
    /// Returns some revocations.
    Revocations,
    /// Spends rates.
    Take,
    /// Tells names of users, or takes them back.
    Names,
    /// Returns the names of users that have a seat.
    Online,
}

/// All scripts, in the order of their numbers.
pub const SCRIPTS: [Script; 20] = [
    Script::Join,
    Script::Publish,
    Script::Activate,
    Script::Batch,
    Script::Beat,
    Script::Dead,
    Script::Leave,
    Script::Walk,
    Script::Clean,
    Script::Forget,
    Script::Kick,
    Script::Who,
    Script::Nodes,
    Script::Drain,
    Script::Limits,
    Script::Revoke,
    Script::Revocations,
    Script::Take,
    Script::Names,
    Script::Online,
];

const COMMON: &str = include_str!("lua/common.lua");
const OWNER: &str = include_str!("lua/owner.lua");
const NUMBERED: &str = include_str!("lua/numbered.lua");
const RATE: &str = include_str!("lua/rate.lua");

impl Script {
    /// Returns the text of the script.
    #[must_use]
    pub fn text(self) -> String {
        let parts: &[&str] = match self {
            Self::Join => &[COMMON, include_str!("lua/join.lua")],
            Self::Publish => &[COMMON, OWNER, NUMBERED, include_str!("lua/publish.lua")],
            Self::Activate => &[COMMON, OWNER, NUMBERED, include_str!("lua/activate.lua")],
            Self::Batch => &[COMMON, OWNER, NUMBERED, RATE, include_str!("lua/batch.lua")],
            Self::Beat => &[COMMON, OWNER, include_str!("lua/beat.lua")],
            Self::Dead => &[COMMON, include_str!("lua/dead.lua")],
            Self::Leave => &[COMMON, OWNER, include_str!("lua/leave.lua")],
            Self::Walk => &[COMMON, include_str!("lua/walk.lua")],
            Self::Clean => &[COMMON, include_str!("lua/clean.lua")],
            Self::Forget => &[COMMON, include_str!("lua/forget.lua")],
            Self::Kick => &[COMMON, include_str!("lua/kick.lua")],
            Self::Who => &[COMMON, include_str!("lua/who.lua")],
            Self::Nodes => &[COMMON, include_str!("lua/nodes.lua")],
            Self::Drain => &[COMMON, include_str!("lua/drain.lua")],
            Self::Limits => &[COMMON, include_str!("lua/limits.lua")],
            Self::Revoke => &[COMMON, include_str!("lua/revoke.lua")],
            Self::Revocations => &[COMMON, include_str!("lua/revocations.lua")],
            Self::Take => &[COMMON, RATE, include_str!("lua/take.lua")],
            Self::Names => &[COMMON, include_str!("lua/names.lua")],
            Self::Online => &[COMMON, include_str!("lua/online.lua")],
        };
        let mut text = String::new();
        for line in parts.iter().flat_map(|part| part.lines()) {
            let (code, note) = line.split_once("--").unwrap_or((line, ""));
            let rule = note.trim().strip_prefix("rule: ");
            let kept = match rule {
                Some(rule) if !holds(rule) => continue,
                _ => code.trim(),
            };
            if !kept.is_empty() {
                text.push_str(kept);
                text.push('\n');
            }
        }
        text
    }
}

/// True if a safety rule holds: always, but in the build of the fault harness, which names the broken
/// ones in `PORTCULLIS_TRIAL_WITHOUT`.
#[cfg(not(feature = "cluster-trial"))]
pub(super) const fn holds(_rule: &str) -> bool {
    true
}

/// True if a safety rule holds; see above.
#[cfg(feature = "cluster-trial")]
pub(super) fn holds(rule: &str) -> bool {
    use std::sync::LazyLock;
    static BROKEN: LazyLock<String> =
        LazyLock::new(|| std::env::var("PORTCULLIS_TRIAL_WITHOUT").unwrap_or_default());
    !BROKEN.split(',').any(|broken| broken == rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_carry_no_comments_and_keep_their_rules() {
        for script in SCRIPTS {
            let text = script.text();
            assert!(!text.contains("--"), "{text}");
            assert!(text.starts_with("local call"));
        }
        assert!(Script::Batch.text().contains("return 'FENCED' end"));
        assert!(Script::Batch.text().contains("return 'LOST' end"));
    }
}
