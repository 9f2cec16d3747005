//! Files of the operating system, below a root that tests replace.
//!
//! Owns open files, and the recognition of the loop's own epoll. Does not own the parsing
//! (`crate::resources`).

use crate::resources::{
    ProcessFiles, Scheduled, Source, SystemCall, ThreadState, is_epoll, is_futex, parse_scheduled,
    parse_system_call,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

/// Longest file that is read: `mountinfo` of a busy machine has some hundred kB.
const READ_MAX: u64 = 1 << 20;

/// Reads the figures of the process that only an exposition asks for, with its number of open files;
/// empty where there is no `/proc`.
#[must_use]
pub fn process_files() -> (ProcessFiles, Option<u64>) {
    let kernel = Kernel::new("");
    let text = |path| kernel.read(path).unwrap_or_default();
    let files = ProcessFiles::parse(&text("/proc/self/status"), &text("/proc/self/limits"));
    // One of them is the open directory.
    let open = fs::read_dir("/proc/self/fd").ok();
    (
        files,
        open.map(|entries| (entries.count() as u64).saturating_sub(1)),
    )
}

/// The file system below `root`.
#[derive(Debug)]
pub(super) struct Kernel {
    root: String,
    /// Files that stay open: reading one again costs a third of opening it, and works when the
    /// process has run out of descriptors.
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
        // Files of a test come and go, unlike those of the kernel.
        if !self.root.is_empty() {
            return self.read(path);
        }
        let mut open = self.open.borrow_mut();
        if let Some(file) = open.get(path) {
            match reread::<8192>(file) {
                Some(text) => return Some(text),
                // For example, a file of a control group that the process has left.
                None => drop(open.remove(path)),
            }
        }
        let file = self.open(path)?;
        let text = reread::<8192>(&file)?;
        open.insert(path.to_owned(), file);
        Some(text)
    }
}

/// The scheduler figures of the thread that opened them.
#[derive(Debug)]
pub(super) struct OwnFigures(File);

impl OwnFigures {
    /// Opens the figures of the calling thread.
    pub(super) fn open() -> Option<Self> {
        File::open("/proc/thread-self/schedstat").ok().map(Self)
    }

    pub(super) fn read(&self) -> Option<Scheduled> {
        parse_scheduled(&reread::<128>(&self.0)?)
    }
}

/// Reads the CPU time of a thread, ns. It is asked instead of a file, which costs five times as much,
/// whether the thread has run at all.
pub type CpuClock = Box<dyn Fn() -> Option<u64> + Send>;

/// A thread of this process as the kernel shows it. Its files stay open: reading them again costs a
/// third of opening them.
pub(super) struct KernelThread {
    pub(super) clock: Option<CpuClock>,
    /// Time of the clock before the latest look at the files.
    clock_ns: Option<u64>,
    scheduled: File,
    system_call: File,
    /// Epolls that were open while the thread ran JavaScript. The epoll of a nested loop, which a
    /// synchronous call such as `execSync` waits in, is not among them.
    candidates: Vec<u64>,
    /// The loop's own epoll, once it is known.
    poll: Option<u64>,
    suspect: Option<u64>,
    last: Option<Scheduled>,
    was_in_poll: bool,
    /// Scheduler figures of the engine's collector threads, while the thread may wait for them.
    collectors: Option<Vec<File>>,
    root: String,
}

/// Ends of the names of threads on which JavaScriptCore collects; the kernel keeps 15 characters.
const COLLECTORS: [&str; 2] = ["HeapHelper", "ollector Thread"];

/// An answer within this time comes from the poll in which the thread was seen.
const PROMPT_MS: f64 = 5.0;

impl KernelThread {
    /// Opens the calling thread; `None` if the kernel does not show it.
    pub(super) fn current(root: &str) -> Option<Self> {
        let link = fs::read_link(format!("{root}/proc/thread-self")).ok()?;
        let thread = link.file_name()?.to_str()?.to_owned();
        let open = |name: &str| File::open(format!("{root}/proc/self/task/{thread}/{name}")).ok();
        let mut thread = Self {
            clock: None,
            clock_ns: None,
            scheduled: open("schedstat")?,
            system_call: open("syscall")?,
            candidates: epolls(root),
            poll: None,
            suspect: None,
            last: None,
            was_in_poll: false,
            collectors: None,
            root: root.to_owned(),
        };
        // Both files must be readable: the kernel checks permissions at the read, not at the open.
        thread.scheduled()?;
        parse_system_call(&reread::<256>(&thread.system_call)?)?;
        Some(thread)
    }

    fn scheduled(&mut self) -> Option<Scheduled> {
        parse_scheduled(&reread::<128>(&self.scheduled)?)
    }

    /// True if the thread was in poll at the latest look at its files, and has not run since, by its
    /// clock.
    pub(super) fn has_not_run(&self) -> bool {
        self.was_in_poll
            && self.clock_ns.is_some()
            && self.clock.as_ref().and_then(|read| read()) == self.clock_ns
    }

    /// Returns the scheduler figures and the state.
    pub(super) fn observe(&mut self) -> (Option<Scheduled>, ThreadState) {
        let clock_ns = self.clock.as_ref().and_then(|read| read());
        // The thread has not run since it was seen in poll, so it is still there.
        if self.was_in_poll && clock_ns.is_some() && clock_ns == self.clock_ns {
            return (self.last, ThreadState::Poll);
        }
        // Read before the files: a thread that runs in between has another time at the next look.
        self.clock_ns = clock_ns;
        let now = self.scheduled();
        if self.was_in_poll && now.is_some() && now == self.last {
            return (now, ThreadState::Poll);
        }
        self.last = now;
        self.suspect = None;
        let state = match reread::<256>(&self.system_call)
            .as_deref()
            .and_then(parse_system_call)
        {
            None => ThreadState::Unknown,
            Some(SystemCall::Running) => ThreadState::Running,
            Some(SystemCall::Outside) => ThreadState::Asleep(None),
            Some(SystemCall::In { number, first })
                if is_epoll(number) && self.poll == Some(first) =>
            {
                ThreadState::Poll
            }
            Some(SystemCall::In { number, first }) => {
                if is_epoll(number) && self.candidates.contains(&first) {
                    self.suspect = Some(first);
                }
                ThreadState::Asleep(Some(number))
            }
        };
        self.was_in_poll = state == ThreadState::Poll;
        (now, state)
    }

    /// Returns the CPU time of the engine's collector threads from the first time on at which the
    /// thread sleeps in a futex, as it does while it waits for them, until it is in poll.
    pub(super) fn collectors_ns(&mut self, state: ThreadState) -> Option<u64> {
        match state {
            ThreadState::Poll => self.collectors = None,
            ThreadState::Asleep(Some(call)) if self.collectors.is_none() && is_futex(call) => {
                self.collectors = Some(collectors(&self.root));
            }
            _ => {}
        }
        let spent = |file: &File| parse_scheduled(&reread::<128>(file)?).map(|own| own.on_cpu_ns);
        let files = self.collectors.as_ref()?;
        Some(files.iter().filter_map(spent).sum())
    }

    /// Takes note that the loop answered after `delay_ms`; a prompt answer identifies the loop's
    /// epoll.
    pub(super) fn answered(&mut self, delay_ms: f64, suspect: Option<u64>) {
        if self.poll.is_none() && delay_ms <= PROMPT_MS && suspect.is_some() {
            self.poll = suspect;
        }
    }

    /// Returns the epoll in which the thread sleeps, if that may be the loop's own.
    pub(super) fn suspect(&self) -> Option<u64> {
        self.suspect
    }
}

/// Reads an open file of the kernel from its start; `None` also for a file that does not fit.
fn reread<const MOST: usize>(file: &File) -> Option<String> {
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

/// Opens the scheduler figures of the engine's collector threads.
fn collectors(root: &str) -> Vec<File> {
    let Ok(tasks) = fs::read_dir(format!("{root}/proc/self/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter(|task| {
            fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| COLLECTORS.iter().any(|end| name.trim_end().ends_with(end)))
        })
        .filter_map(|task| File::open(task.path().join("schedstat")).ok())
        .collect()
}

/// Returns the epolls of this process.
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
