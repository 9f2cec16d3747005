//! A stall with its thread and the requests in flight, and its line in the log.

use crate::resources::{Cause, Stall, system_call_name};

/// A stall and its circumstances when it was noticed.
#[derive(Debug, Clone)]
pub struct StallRecord {
    /// Number of the stall on its thread, from 1.
    pub id: u64,
    /// Name of the thread.
    pub thread: String,
    /// The stall.
    pub stall: Stall,
    /// Label of the request or message begun last; empty if it has none.
    pub label: String,
    /// Requests in flight.
    pub in_flight: f64,
}

impl StallRecord {
    /// Returns the line of the log.
    pub(super) fn line(&self, is_over: bool) -> String {
        let verb = if is_over { "was" } else { "has been" };
        let place = if self.label.is_empty() {
            String::new()
        } else {
            format!(", in {}", self.label)
        };
        let flight = match self.in_flight {
            count if count >= 2.0 => format!(", {count} requests in flight"),
            count if count >= 1.0 => ", 1 request in flight".to_owned(),
            _ => String::new(),
        };
        format!(
            "event loop of {} {verb} blocked for {:.0} ms ({}){place}{flight}",
            self.thread,
            self.stall.duration_ms,
            why(&self.stall)
        )
    }
}

fn why(stall: &Stall) -> String {
    let percent = |share: Option<f64>| share.unwrap_or(0.0) * 100.0;
    match stall.cause {
        Cause::Busy => format!("busy, {:.0} % on the CPU", percent(stall.on_cpu)),
        Cause::Blocked => match stall.system_call {
            Some(number) => match system_call_name(number) {
                Some(name) => format!("blocked in system call {name}"),
                None => format!("blocked in system call {number}"),
            },
            None => "blocked outside of system calls, such as by paging".to_owned(),
        },
        Cause::Starved => format!(
            "starved, waiting for a CPU for {:.0} % of it",
            percent(stall.waiting)
        ),
        Cause::Throttled => format!(
            "throttled by its CPU quota, waiting for {:.0} % of it",
            percent(stall.waiting)
        ),
        Cause::Unknown => "cause unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_one_line() {
        let stall = Stall {
            since_ms: 0.0,
            duration_ms: 104.4,
            noticed_after_ms: 101.0,
            cause: Cause::Busy,
            was_asleep: false,
            system_call: None,
            on_cpu: Some(0.98),
            waiting: Some(0.01),
        };
        let record = StallRecord {
            id: 1,
            thread: "main".to_owned(),
            stall,
            label: "GET /report".to_owned(),
            in_flight: 3.0,
        };
        assert_eq!(
            record.line(false),
            "event loop of main has been blocked for 104 ms (busy, 98 % on the CPU), in GET /report, 3 requests in flight"
        );
        let blocked = Stall {
            cause: Cause::Blocked,
            system_call: Some(99_999),
            ..stall
        };
        let record = StallRecord {
            id: 2,
            thread: "w".to_owned(),
            stall: blocked,
            label: String::new(),
            in_flight: 0.0,
        };
        assert_eq!(
            record.line(true),
            "event loop of w was blocked for 104 ms (blocked in system call 99999)"
        );
    }
}
