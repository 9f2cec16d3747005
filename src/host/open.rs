//! The names that this process counts in over its host: all managers of a name share a column.

use super::error::HostError;
use super::layout::Layout;
use super::mapping::user;
use super::seats::HostSeats;
use crate::connections::Limits;
use siphasher::sip128::SipHasher13;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Where the files are: memory that all processes of the host see, and that a restart empties.
const FOLDER: &str = "/dev/shm";

/// The seats of one name, once they are open.
type Place = Arc<Mutex<Weak<HostSeats>>>;
static NAMED: LazyLock<Mutex<HashMap<String, Place>>> = LazyLock::new(Mutex::default);

/// Returns the place of a name, and forgets those that nobody uses. A process that is stopped while it has the file of a
/// name makes others wait for this name only.
fn place_of(name: &str) -> Place {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    named.retain(|_, place| {
        Arc::strong_count(place) > 1 || place.lock().is_ok_and(|seats| seats.strong_count() > 0)
    });
    Arc::clone(named.entry(name.to_owned()).or_default())
}

/// Returns the file of a name. The name may be anything, so the file has its hash.
fn path_of(folder: &Path, name: &str) -> PathBuf {
    let hash = SipHasher13::new().hash(name.as_bytes());
    let file = format!("portcullis-{}-{:016x}{:016x}", user(), hash.h1, hash.h2);
    folder.join(file)
}

/// Opens the seats of that name over all processes of the host, or makes them.
///
/// # Errors
/// [`HostError`]
pub fn open(
    name: &str,
    capacity: usize,
    processes: usize,
    limits: Limits,
) -> Result<Arc<HostSeats>, HostError> {
    let layout = Layout::new(capacity, processes);
    let place = place_of(name);
    let mut seats = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = seats.upgrade() {
        let field = index.difference(layout, &limits);
        return field.map_or(Ok(index), |field| Err(HostError::Conflict { field }));
    }
    let path = path_of(Path::new(FOLDER), name);
    let mut index = HostSeats::open(&path, layout, limits)?;
    index
        .watch()
        .map_err(|error| HostError::Thread(error.to_string()))?;
    let index = Arc::new(index);
    *seats = Arc::downgrade(&index);
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::super::file::opened_and_locked;
    use super::{FOLDER, open, path_of, place_of};
    use crate::connections::Limits;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_name_whose_file_is_being_opened_keeps_no_other_name_waiting() {
        let [stopped, other] = ["stopped", "other"].map(|name| {
            let process = std::process::id();
            format!("{name}-{process}")
        });
        let file = opened_and_locked(&path_of(Path::new(FOLDER), &stopped));
        let place = place_of(&stopped);
        let waiting = thread::spawn(move || open(&stopped, 16, 2, Limits::default()).err());
        while place.try_lock().is_ok() {
            thread::yield_now();
        }
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(open(&other, 16, 2, Limits::default()).err()));
        let answer = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(answer, Ok(None), "the other name waits, too");
        assert!(!waiting.is_finished());
        drop(file);
        assert_eq!(waiting.join().expect("no panic"), None);
    }
}
