//! The log that the watcher writes itself, since the event loop is blocked during a stall.
//!
//! Owns the rate limit and the thread that writes: a full pipe whose reader has stopped blocks this
//! thread, and not the watch. Does not own the text of the lines (`stall_record`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Lines that may come at once, and the interval for each further one: the rate limit keeps
/// repeated stalls from filling the disk.
const BURST: f64 = 20.0;
const EVERY_MS: f64 = 1000.0;
/// Lines that may wait for the writer: more than come at once.
const WAITING_MAX: usize = 32;
/// Longest time to wait for the last lines; it only takes long if they cannot be written.
const END_MS: u64 = 30;
const STACK_BYTES: usize = 64 * 1024;

/// The destination of the lines.
#[derive(Debug)]
pub enum Target {
    /// Standard error of the process.
    Stderr,
    /// A file to append to.
    File(File),
}

impl Target {
    /// Opens a file to append to. A FIFO must have a reader: to wait for one would block the caller.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn file(path: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        options.open(path).map(Self::File)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::File(file) => file.write_all(line.as_bytes()),
        }
    }
}

/// A log with a rate limit.
#[derive(Debug)]
pub(super) struct Log {
    /// Ends the writer when it is dropped.
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    /// Disconnected once the writer has ended.
    ended: Receiver<()>,
    /// Lines that the writer could not write.
    lost: Arc<AtomicU32>,
    room: f64,
    at_ms: f64,
    suppressed: u32,
}

impl Log {
    /// Starts the writer.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub(super) fn start(mut target: Target) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING_MAX);
        let (alive, ended) = channel();
        let lost = Arc::new(AtomicU32::new(0));
        let failed = Arc::clone(&lost);
        let write = move || {
            let _alive: std::sync::mpsc::Sender<()> = alive;
            for line in waiting {
                if target.write(&line).is_err() {
                    failed.fetch_add(1, Relaxed);
                }
            }
        };
        let builder = Builder::new().name("portcullis-log".into());
        let writer = builder.stack_size(STACK_BYTES).spawn(write)?;
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
            ended,
            lost,
            room: BURST,
            at_ms: 0.0,
            suppressed: 0,
        })
    }

    /// Hands a line to the writer, or counts it as suppressed. Never waits.
    pub(super) fn write(&mut self, now_ms: f64, line: &str) {
        self.room = (self.room + (now_ms - self.at_ms).max(0.0) / EVERY_MS).min(BURST);
        self.at_ms = now_ms;
        if self.room < 1.0 {
            self.suppressed += 1;
            return;
        }
        self.room -= 1.0;
        self.suppressed += self.lost.swap(0, Relaxed);
        let note = match self.suppressed {
            0 => String::new(),
            suppressed => format!(" ({suppressed} lines suppressed)"),
        };
        let line = format!("portcullis: {line}{note}\n");
        let is_taken = self
            .lines
            .as_ref()
            .is_some_and(|lines| lines.try_send(line).is_ok());
        self.suppressed = if is_taken { 0 } else { self.suppressed + 1 };
    }
}

impl Drop for Log {
    /// Waits for the last lines, for at most [`END_MS`]. The addon may be unloaded with the last
    /// thread that uses it: the writer must have ended by then. One that is blocked stays.
    fn drop(&mut self) {
        self.lines = None;
        let end = self.ended.recv_timeout(Duration::from_millis(END_MS));
        if end == Err(RecvTimeoutError::Disconnected)
            && let Some(writer) = self.writer.take()
        {
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_writes_20_lines_then_one_per_second_and_counts_the_suppressed() {
        let path = std::env::temp_dir().join(format!("portcullis-log-{}", std::process::id()));
        let mut log = Log::start(Target::file(path.to_str().unwrap()).unwrap()).unwrap();
        for at in 0..100 {
            log.write(f64::from(at), "x");
        }
        log.write(2000.0, "y");
        log.lines = None;
        log.writer.take().unwrap().join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let _ = std::fs::remove_file(&path);
        assert_eq!(text.lines().count(), 21);
        assert!(
            text.ends_with("portcullis: y (80 lines suppressed)\n"),
            "{text}"
        );
    }
    #[cfg(unix)]
    #[test]
    fn a_log_that_cannot_be_written_never_waits_and_counts_what_it_lost() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut log = Log::start(Target::File(file)).unwrap();
        // Two of them are more than a pipe holds, and nobody reads.
        let long = "x".repeat(40_000);
        for at in 0..100 {
            log.write(f64::from(at) * EVERY_MS, &long);
        }
        let suppressed = log.suppressed as usize;
        assert!(suppressed >= 100 - WAITING_MAX - 2, "{suppressed}");
        drop(log);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text.lines().count(), 100 - suppressed);
    }

    #[cfg(unix)]
    #[test]
    fn a_line_that_fails_is_counted_in_the_next_one() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut log = Log::start(Target::File(file)).unwrap();
        log.write(0.0, "x");
        log.lines = None;
        log.writer.take().unwrap().join().unwrap();
        assert_eq!(log.lost.load(Relaxed), 1);
        log.write(0.0, "y");
        assert_eq!(log.suppressed, 2);
    }
}
