//! The files of the operating system, below a root that tests replace.

use crate::resources::{
    Scheduled, Source, SystemCall, is_epoll, parse_scheduled, parse_system_call, system_call_name,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

/// Longest file that is read: `mountinfo` of a busy machine has some hundred kB.
const READ_MAX: u64 = 1 << 20;

/// The file system from `root` on.
#[derive(Debug)]
pub(super) struct Kernel {
    root: String,
    /// Files that stay open: reading one again costs a third of opening it, and needs no descriptor
    /// where the process has run out of them.
    open: RefCell<HashMap<String, File>>,
}

impl Kernel {
    pub(super) fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
            open: RefCell::default(),
        }
    }

    fn open(&self, path: &str) -> Option<File> {
        File::open(format!("{}{path}", self.root)).ok()
    }
}

impl Source for Kernel {
    fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(4096);
        let file = self.open(path)?;
        file.take(READ_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_often(&self, path: &str) -> Option<String> {
        // Files of a test come and go, and those of the kernel do not.
        if !self.root.is_empty() {
            return self.read(path);
        }
        let mut open = self.open.borrow_mut();
        if let Some(file) = open.get(path) {
            match again::<8192>(file) {
                Some(text) => return Some(text),
                // Of a control group that the process has left, for one.
                None => drop(open.remove(path)),
            }
        }
        let file = self.open(path)?;
        let text = again::<8192>(&file)?;
        open.insert(path.to_owned(), file);
        Some(text)
    }
}

/// The scheduler figures of the thread that opened them.
#[derive(Debug)]
pub(super) struct OwnFigures(File);

impl OwnFigures {
    /// Those of the calling thread.
    pub(super) fn open() -> Option<Self> {
        File::open("/proc/thread-self/schedstat").ok().map(Self)
    }

    pub(super) fn read(&self) -> Option<Scheduled> {
        parse_scheduled(&again::<128>(&self.0)?)
    }
}

/// A thread of this process, as the kernel sees it. Its files stay open: reading them again costs
/// a third of opening them.
#[derive(Debug)]
pub(super) struct Thread {
    scheduled: File,
    system_call: File,
    /// Epolls that were open when the thread ran JavaScript, so that none of them is that of a loop
    /// which a synchronous call of the thread runs within.
    candidates: Vec<u64>,
    /// The one that has been seen to answer.
    poll: Option<u64>,
    suspect: Option<u64>,
    last: Option<Scheduled>,
    was_in_poll: bool,
    /// The call of the poll it is in, its fourth argument, and since when at the latest.
    asleep: Option<(u32, u64, f64)>,
    memory: Option<File>,
}

/// An answer that comes this soon comes from the poll the thread was seen in.
const PROMPT_MS: f64 = 5.0;

/// Where a thread was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Poll,
    Running,
    Asleep(Option<u32>),
    Unknown,
}

impl Thread {
    /// The calling thread; `None` where the kernel does not show it.
    pub(super) fn current(root: &str) -> Option<Self> {
        let link = fs::read_link(format!("{root}/proc/thread-self")).ok()?;
        let thread = link.file_name()?.to_str()?.to_owned();
        let open = |name: &str| File::open(format!("{root}/proc/self/task/{thread}/{name}")).ok();
        let mut thread = Self {
            scheduled: open("schedstat")?,
            system_call: open("syscall")?,
            candidates: epolls(root),
            poll: None,
            suspect: None,
            last: None,
            was_in_poll: false,
            asleep: None,
            memory: None,
        };
        // Both must be readable, not only open: the kernel checks at the read.
        thread.scheduled()?;
        parse_system_call(&again::<256>(&thread.system_call)?)?;
        Some(thread)
    }

    fn scheduled(&mut self) -> Option<Scheduled> {
        parse_scheduled(&again::<128>(&self.scheduled)?)
    }

    /// Its figures and its place.
    pub(super) fn look(&mut self, now_ms: f64) -> (Option<Scheduled>, Seen) {
        let now = self.scheduled();
        // It has not run since it was seen in poll: it is there still.
        if self.was_in_poll && now.is_some() && now == self.last {
            return (now, Seen::Poll);
        }
        self.last = now;
        self.suspect = None;
        self.asleep = None;
        let seen = match again::<256>(&self.system_call)
            .as_deref()
            .and_then(parse_system_call)
        {
            None => Seen::Unknown,
            Some(SystemCall::Running) => Seen::Running,
            Some(SystemCall::Outside) => Seen::Asleep(None),
            Some(SystemCall::In {
                number,
                first,
                fourth,
            }) if is_epoll(number) && self.poll == Some(first) => {
                self.asleep = Some((number, fourth, now_ms));
                Seen::Poll
            }
            Some(SystemCall::In { number, first, .. }) => {
                if is_epoll(number) && self.candidates.contains(&first) {
                    self.suspect = Some(first);
                }
                Seen::Asleep(Some(number))
            }
        };
        self.was_in_poll = seen == Seen::Poll;
        (now, seen)
    }

    /// The loop has answered after `delay_ms`.
    pub(super) fn answered(&mut self, delay_ms: f64, suspect: Option<u64>) {
        if self.poll.is_none() && delay_ms <= PROMPT_MS && suspect.is_some() {
            self.poll = suspect;
        }
    }

    /// The epoll it sleeps in, if that may be the loop's own.
    pub(super) fn suspect(&self) -> Option<u64> {
        self.suspect
    }

    /// The loop's own epoll, once it is known.
    pub(super) fn poll(&self) -> Option<u64> {
        self.poll
    }

    /// Until when at most the poll it is in lasts if nothing comes; infinity for ever, `None` if the
    /// kernel does not say. Since it was entered shortly before it was seen, that is shortly after.
    pub(super) fn sleeps_until_ms(&mut self) -> Option<f64> {
        let (number, argument, since_ms) = self.asleep?;
        if system_call_name(number) == Some("epoll_pwait2") {
            if argument == 0 {
                return Some(f64::INFINITY);
            }
            if self.memory.is_none() {
                self.memory = File::open("/proc/self/mem").ok();
            }
            return Some(since_ms + timespec_ms(self.memory.as_ref()?, argument)?);
        }
        let ms = argument as u32 as i32;
        Some(if ms < 0 {
            f64::INFINITY
        } else {
            since_ms + f64::from(ms)
        })
    }
}

/// A `timespec` on the stack of a thread that sleeps in the call it was given to, as the kernel
/// reads it: nothing is dereferenced here, and an address that is gone is an error.
fn timespec_ms(memory: &File, address: u64) -> Option<f64> {
    let mut bytes = [0u8; 16];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(memory, &mut bytes, address).ok()?;
    #[cfg(not(unix))]
    let _ = (memory, address);
    let (seconds, nanoseconds) = bytes.split_at(8);
    let seconds = i64::from_ne_bytes(seconds.try_into().ok()?);
    let nanoseconds = i64::from_ne_bytes(nanoseconds.try_into().ok()?);
    let is_sane = seconds >= 0 && (0..1_000_000_000).contains(&nanoseconds);
    is_sane.then(|| seconds as f64 * 1e3 + nanoseconds as f64 / 1e6)
}

/// Reads an open file of the kernel from its beginning; `None` also for one that does not fit.
fn again<const MOST: usize>(file: &File) -> Option<String> {
    let mut buffer = [0u8; MOST];
    #[cfg(unix)]
    let length = std::os::unix::fs::FileExt::read_at(file, &mut buffer, 0).ok()?;
    #[cfg(not(unix))]
    let length = {
        let _ = file;
        0
    };
    if length == MOST {
        return None;
    }
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The epolls of this process.
fn epolls(root: &str) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("{root}/proc/self/fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|link| link.to_string_lossy().ends_with("[eventpoll]"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
