//! The log that the watcher writes itself, since the event loop is blocked during a stall.
//!
//! Owns the rate limit. Does not own the text of the lines (`stall_record`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// Lines that may come at once, and the interval for each further one: the rate limit keeps
/// repeated stalls from filling the disk.
const BURST: f64 = 20.0;
const EVERY_MS: f64 = 1000.0;

/// The destination of the lines.
#[derive(Debug)]
pub enum Target {
    /// Standard error of the process.
    Stderr,
    /// A file to append to.
    File(File),
}

impl Target {
    /// Opens a file to append to.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn file(path: &str) -> io::Result<Self> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(Self::File)
    }

    fn write(&mut self, line: &str) {
        // A failing write must not end the watch.
        let _ = match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::File(file) => file.write_all(line.as_bytes()),
        };
    }
}

/// A log with a rate limit.
#[derive(Debug)]
pub(super) struct Log {
    target: Target,
    room: f64,
    at_ms: f64,
    suppressed: u32,
}

impl Log {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            room: BURST,
            at_ms: 0.0,
            suppressed: 0,
        }
    }

    /// Writes a line, or counts it as suppressed.
    pub(super) fn write(&mut self, now_ms: f64, line: &str) {
        self.room = (self.room + (now_ms - self.at_ms).max(0.0) / EVERY_MS).min(BURST);
        self.at_ms = now_ms;
        if self.room < 1.0 {
            self.suppressed += 1;
            return;
        }
        self.room -= 1.0;
        let note = match std::mem::take(&mut self.suppressed) {
            0 => String::new(),
            suppressed => format!(" ({suppressed} lines suppressed)"),
        };
        self.target.write(&format!("portcullis: {line}{note}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_writes_20_lines_then_one_per_second_and_counts_the_suppressed() {
        let path = std::env::temp_dir().join(format!("portcullis-log-{}", std::process::id()));
        let mut log = Log::new(Target::file(path.to_str().unwrap()).unwrap());
        for at in 0..100 {
            log.write(f64::from(at), "x");
        }
        log.write(2000.0, "y");
        let text = std::fs::read_to_string(&path).unwrap();
        let _ = std::fs::remove_file(&path);
        assert_eq!(text.lines().count(), 21);
        assert!(
            text.ends_with("portcullis: y (80 lines suppressed)\n"),
            "{text}"
        );
    }
}
