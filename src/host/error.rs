//! The reasons why a host's counts cannot be used.

/// The reason why a file of counts cannot be used, with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Another system than Linux.
    #[error(
        "cluster: 'host' needs Linux: it counts in a file in /dev/shm, whose locks end with their process"
    )]
    Unsupported,
    /// The file cannot be made, opened, locked or mapped.
    #[error("the counts of this host cannot be kept in {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// The reason, in words.
        problem: String,
    },
    /// The thread that looks after the file cannot be started.
    #[error("the thread that looks after the counts of this host cannot be started: {0}")]
    Thread(String),
    /// Running processes use another version of the layout.
    #[error(
        "running processes count in {path} in version {found} of its layout, and this one has version {own}: stop them first, or use another name"
    )]
    Version {
        /// The file.
        path: String,
        /// Version in the file.
        found: u64,
        /// Version of this process.
        own: u64,
    },
    /// Running processes, or other managers of this one, declare another limit or size.
    #[error("the name is open on this host with another {field}")]
    Conflict {
        /// The field that differs.
        field: &'static str,
    },
    /// No column is free.
    #[error(
        "{columns} processes of this host count in this name already: raise hostProcesses in all of them"
    )]
    Full {
        /// Columns of the file.
        columns: usize,
    },
}

impl HostError {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported => "ERR_UNSUPPORTED",
            Self::File { .. } => "ERR_HOST_FILE",
            Self::Thread(_) => crate::error::NO_THREAD,
            Self::Version { .. } => "ERR_CLUSTER_INCOMPATIBLE",
            Self::Conflict { .. } => "ERR_LIMITS_CONFLICT",
            Self::Full { .. } => "ERR_CLUSTER_FULL",
        }
    }
}
