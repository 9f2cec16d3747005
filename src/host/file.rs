//! The file of one name: making, checking and opening it, and the column of this process.
//!
//! ```text
//!  byte 0 locked        somebody opens or leaves the file
//!  byte 1 + i locked    the process of column i lives
//! ```
//! Lock byte 0 comes first, and nobody takes a column without it. So a process that holds it and
//! finds all columns free is alone: it makes the file anew, whatever was left in it.
//!
//! A column is dirty from the moment at which a process takes it until it was set to zeros. Whoever
//! holds the lock of a dirty column may do that: its process is gone, since the kernel has freed
//! the lock.

use super::error::HostError;
use super::layout::{COLUMNS_MAX, HEADER_BYTES, LIMITS, Layout, MAGIC, STATES_AT, VERSION, word};
use super::mapping::{Mapping, lock, user};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

const OPENING: i64 = 0;
const FIRST_COLUMN: i64 = 1;
const COLUMNS: i64 = COLUMNS_MAX as i64;
const CLEAN: u32 = 0;
const DIRTY: u32 = 1;
/// Rights of the file: those of its user alone.
const MODE: u32 = 0o600;
/// Looks for the lock of the file, 1 ms apart. Making a large file takes its time.
const TRIES: u32 = 5000;
/// The same for a process that leaves: nothing depends on it but a file that stays.
const LEAVE_TRIES: u32 = 250;

/// The file, with a column of this process.
pub struct HostFile {
    // First: dropped before the file, whose locks say that the mapping is in use.
    mapping: Mapping,
    file: File,
    path: PathBuf,
    layout: Layout,
    column: usize,
}

fn problem(path: &Path, problem: impl ToString) -> HostError {
    HostError::File {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

/// Opens the file or makes it; true if it was made.
fn opened_or_made(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(MODE)
        // A link may lead anywhere, and opening a pipe may wait.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    loop {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(|file| (file, false)),
        }
        match options.clone().create_new(true).open(path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                // A umask may have taken rights from this user, too.
                file.set_permissions(Permissions::from_mode(MODE))?;
                return Ok((file, true));
            }
        }
    }
}

/// Opens the file or makes it, and checks whose it is before anything in it is read; true if it was made.
fn opened(path: &Path) -> Result<(File, bool), HostError> {
    let (file, is_new) = opened_or_made(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => problem(path, "it is a symbolic link"),
        _ => problem(path, error),
    })?;
    let found = file.metadata().map_err(|error| problem(path, error))?;
    if !found.is_file() {
        return Err(problem(path, "it is no regular file"));
    }
    if found.uid() != user() {
        return Err(problem(path, "it is another user's"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(problem(path, "other users may access it: remove it"));
    }
    Ok((file, is_new))
}

/// Locks bytes of the file; `false` if another process has them.
///
/// # Errors
/// There can be no such lock: the file system or a sandbox refuses it.
fn try_lock(file: &File, from: i64, length: i64) -> io::Result<bool> {
    match lock(file, from, length, true) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Waits for the lock of the file; `false` if others have it all the time.
fn wait_for(file: &File, tries: u32) -> io::Result<bool> {
    for _ in 1..tries {
        if try_lock(file, OPENING, 1)? {
            return Ok(true);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    try_lock(file, OPENING, 1)
}

/// The problem of a lock that there cannot be.
fn no_lock(path: &Path, error: &io::Error) -> HostError {
    problem(path, format!("it cannot be locked: {error}"))
}

/// Opens a file as a process does that is stopped right afterwards, for tests: it is locked until the result is dropped.
#[cfg(test)]
pub(super) fn opened_and_locked(path: &Path) -> File {
    let (file, _) = opened(path).expect("a file");
    lock(&file, OPENING, 1, true).expect("nobody else opens it");
    file
}

/// Removes a file that was begun: the next process must not find half of one, and the system needs the memory.
fn discard(path: &Path, file: &File) {
    let _ = file.set_len(0);
    let _ = std::fs::remove_file(path);
}

/// Makes the file anew, of zeros that are written: memory that is only promised would end the
/// process when a full file system has none.
fn fill(file: &File, layout: Layout) -> io::Result<()> {
    file.set_len(0)?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < layout.bytes() {
        let count = zeros.len().min(layout.bytes() - at);
        file.write_all_at(&zeros[..count], at as u64)?;
        at += count;
    }
    Ok(())
}

fn header_word(file: &File, place: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, place as u64 * 8)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Checks a file that running processes use.
fn check(path: &Path, file: &File, layout: Layout) -> Result<(), HostError> {
    let read = |place| header_word(file, place).map_err(|_| problem(path, "it was shortened"));
    if read(word::MAGIC)? != MAGIC {
        return Err(problem(path, "it is not of this package"));
    }
    let found = read(word::VERSION)?;
    if found != VERSION {
        let path = path.display().to_string();
        return Err(HostError::Version {
            path,
            found,
            own: VERSION,
        });
    }
    if read(word::COLUMNS)? != layout.columns as u64 {
        return Err(HostError::Conflict {
            field: "hostProcesses",
        });
    }
    if read(word::BUCKETS)? != layout.buckets as u64 {
        return Err(HostError::Conflict {
            field: "hostCapacity",
        });
    }
    let size = file.metadata().map_err(|error| problem(path, error))?.len();
    if size != layout.bytes() as u64 {
        return Err(problem(path, "it has another size than its header says"));
    }
    Ok(())
}

/// Checks that a file that nobody uses may be replaced.
fn check_left(path: &Path, file: &File) -> Result<(), HostError> {
    let size = file.metadata().map_err(|error| problem(path, error))?.len();
    if size == 0 {
        return Ok(());
    }
    // Zeros: its process ended while it made the file.
    match header_word(file, word::MAGIC) {
        Ok(MAGIC | 0) => Ok(()),
        _ => Err(problem(path, "it is not of this package: remove it")),
    }
}

impl HostFile {
    /// Opens the file, or makes it, and takes a column.
    ///
    /// `declared` are the limits that a new file gets; in a file that running processes use they are
    /// compared by the caller ([`HostFile::declared`]).
    ///
    /// # Errors
    /// [`HostError`]; a file that running processes use has not changed then.
    pub fn open(path: &Path, layout: Layout, declared: &[u64; LIMITS]) -> Result<Self, HostError> {
        loop {
            let (file, is_new) = opened(path)?;
            match wait_for(&file, TRIES) {
                Ok(true) => {}
                Ok(false) => {
                    let busy = "another process has been opening it for too long";
                    return Err(problem(path, busy));
                }
                Err(error) => {
                    // Without a lock it may be used by others since: only one that is empty is of no use.
                    if is_new && file.metadata().is_ok_and(|found| found.len() == 0) {
                        discard(path, &file);
                    }
                    return Err(no_lock(path, &error));
                }
            }
            // Its last user may have removed it meanwhile.
            let links = file
                .metadata()
                .map_err(|error| problem(path, error))?
                .nlink();
            match links {
                0 => continue,
                1 => return Self::locked(path, file, layout, declared),
                _ => return Err(problem(path, "it has a second name")),
            }
        }
    }

    fn locked(
        path: &Path,
        file: File,
        layout: Layout,
        declared: &[u64; LIMITS],
    ) -> Result<Self, HostError> {
        let is_alone =
            try_lock(&file, FIRST_COLUMN, COLUMNS).map_err(|error| no_lock(path, &error))?;
        if is_alone {
            check_left(path, &file)?;
            if let Err(error) = fill(&file, layout) {
                discard(path, &file);
                return Err(problem(path, error));
            }
        } else {
            check(path, &file, layout)?;
        }
        let mapping = match Mapping::new(&file, layout.bytes()) {
            Ok(mapping) => mapping,
            Err(error) => {
                if is_alone {
                    discard(path, &file);
                }
                return Err(problem(path, error));
            }
        };
        let mut opened = Self {
            mapping,
            file,
            path: path.to_owned(),
            layout,
            column: COLUMNS_MAX,
        };
        if is_alone {
            opened
                .begin(declared)
                .inspect_err(|_| discard(path, &opened.file))?;
        }
        opened.column = opened.take_column(is_alone).inspect_err(|_| {
            if is_alone {
                discard(path, &opened.file);
            }
        })?;
        let unlocked = lock(&opened.file, OPENING, 1, false);
        unlocked.map_err(|error| problem(path, error))?;
        Ok(opened)
    }

    /// Writes the header of a new file.
    fn begin(&self, declared: &[u64; LIMITS]) -> Result<(), HostError> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)
            .map_err(|_| problem(&self.path, "the system has no random numbers"))?;
        let header = self.header();
        let (first, second) = secret.split_at(8);
        for (place, half) in [first, second].into_iter().enumerate() {
            let half = half
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            header[word::SECRET + place].store(half, SeqCst);
        }
        for (place, limit) in declared.iter().enumerate() {
            header[word::DECLARED + place].store(*limit, SeqCst);
            header[word::IN_FORCE + place].store(*limit, SeqCst);
        }
        header[word::COLUMNS].store(self.layout.columns as u64, SeqCst);
        header[word::BUCKETS].store(self.layout.buckets as u64, SeqCst);
        header[word::VERSION].store(VERSION, SeqCst);
        header[word::MAGIC].store(MAGIC, SeqCst);
        Ok(())
    }

    /// Takes a free column, a clean one if there is one.
    fn take_column(&self, is_alone: bool) -> Result<usize, HostError> {
        if is_alone {
            // All columns are locked: give the others back.
            lock(&self.file, FIRST_COLUMN + 1, COLUMNS - 1, false)
                .map_err(|error| problem(&self.path, error))?;
        }
        let states = &self.states()[..self.layout.columns];
        let column = self
            .free_column(states)
            .map_err(|error| no_lock(&self.path, &error))?
            .ok_or(HostError::Full {
                columns: self.layout.columns,
            })?;
        if states[column].load(SeqCst) == DIRTY {
            self.zero(column);
        }
        // Both before the first seat of this column, in the one order of all `SeqCst` operations:
        // whoever misses the column in `used` has added its own seat before this store, and the
        // first sum of this process sees that seat.
        states[column].store(DIRTY, SeqCst);
        self.header()[word::USED].fetch_max(column as u64 + 1, SeqCst);
        Ok(column)
    }

    /// Locks a column that no process has, a clean one if there is one.
    fn free_column(&self, states: &[AtomicU32]) -> io::Result<Option<usize>> {
        for state in [CLEAN, DIRTY] {
            for (column, found) in states.iter().enumerate() {
                if found.load(SeqCst) == state
                    && try_lock(&self.file, FIRST_COLUMN + column as i64, 1)?
                {
                    return Ok(Some(column));
                }
            }
        }
        Ok(None)
    }

    fn header(&self) -> &[AtomicU64] {
        self.mapping.words(0, HEADER_BYTES / 8)
    }

    fn states(&self) -> &[AtomicU32] {
        self.mapping.cells(STATES_AT, COLUMNS_MAX)
    }

    /// Returns the sizes of the file.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the column of this process.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// Returns the secret of the hashes.
    #[must_use]
    pub fn secret(&self) -> (u64, u64) {
        let header = self.header();
        (
            header[word::SECRET].load(SeqCst),
            header[word::SECRET + 1].load(SeqCst),
        )
    }

    /// Returns the limits that the first process declared.
    #[must_use]
    pub fn declared(&self) -> &[AtomicU64] {
        self.mapping.words(word::DECLARED * 8, LIMITS)
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn in_force(&self) -> &[AtomicU64] {
        self.mapping.words(word::IN_FORCE * 8, LIMITS)
    }

    /// Returns the words of the rows.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.mapping.words(HEADER_BYTES, self.layout.rows())
    }

    /// Returns the cells of a row.
    #[must_use]
    pub fn cells(&self, row: usize) -> &[AtomicU32] {
        let columns = self.layout.columns;
        let at = self.layout.cells_at() + row * columns * 4;
        self.mapping.cells(at, columns)
    }

    /// Returns how many columns were ever used; the others hold zeros.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.header()[word::USED].load(SeqCst) as usize).min(self.layout.columns)
    }

    /// Returns how many processes have a column, this one included.
    #[must_use]
    pub fn processes(&self) -> usize {
        let states = &self.states()[..self.used()];
        let is_dirty = |state: &&AtomicU32| state.load(SeqCst) == DIRTY;
        states.iter().filter(is_dirty).count()
    }

    /// Sets a column to zeros; the caller holds its lock.
    fn zero(&self, column: usize) {
        for row in 0..self.layout.rows() {
            let cell = &self.cells(row)[column];
            // Most are zero: reading them leaves their cache lines to others.
            if cell.load(SeqCst) != 0 {
                cell.store(0, SeqCst);
            }
        }
    }

    /// Frees the seats of processes that have ended, and returns how many columns had some. Takes a
    /// call of the kernel for each process, and time for each row after the end of one.
    pub fn reclaim(&self) -> usize {
        let mut reclaimed = 0;
        for (column, state) in self.states()[..self.used()].iter().enumerate() {
            if column == self.column || state.load(SeqCst) != DIRTY {
                continue;
            }
            let at = FIRST_COLUMN + column as i64;
            // Also if there can be no lock: the process may live.
            if !matches!(try_lock(&self.file, at, 1), Ok(true)) {
                continue;
            }
            // Another process may have taken and left it since it was seen: it is dirty all the same.
            self.zero(column);
            state.store(CLEAN, SeqCst);
            // It cannot fail: the lock is this file's. A lock that stayed would only cost a column.
            let _ = lock(&self.file, at, 1, false);
            reclaimed += 1;
        }
        reclaimed
    }
}

impl Drop for HostFile {
    /// Removes the file if this process is the last one. Its locks end with the descriptor, and the
    /// column stays dirty: another process sets it to zeros.
    fn drop(&mut self) {
        if matches!(wait_for(&self.file, LEAVE_TRIES), Ok(true))
            && matches!(try_lock(&self.file, FIRST_COLUMN, COLUMNS), Ok(true))
            && let (Ok(own), Ok(found)) =
                (self.file.metadata(), std::fs::symlink_metadata(&self.path))
            && (own.dev(), own.ino()) == (found.dev(), found.ino())
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TRIES, try_lock, wait_for};
    use std::fs::File;

    #[test]
    fn a_lock_that_the_system_refuses_is_no_busy_file() {
        // The kernel refuses to lock a file for writing that is open for reading.
        let file = File::open(std::env::current_exe().expect("a path")).expect("a file");
        for refused in [
            try_lock(&file, 0, 1).expect_err("no lock"),
            wait_for(&file, TRIES).expect_err("no lock"),
        ] {
            assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
        }
    }
}
