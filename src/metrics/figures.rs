//! Sums over a span of time: requests by outcome and speed, durations, messages, errors, refusals.

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered without an error.
    Answered,
    /// Failed by the client's fault.
    ClientError,
    /// Failed by the server's fault.
    Failed,
}

/// Figures counted beside requests, in the order of `ts/metrics/ledger.ts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Messages received.
    In,
    /// Bytes received in messages.
    BytesIn,
    /// Messages sent.
    Out,
    /// Bytes sent in messages.
    BytesOut,
    /// Errors outside of requests.
    OtherErrors,
    /// Connections and requests refused by limits.
    Refused,
}

/// The number of variants of [`Traffic`].
pub const TRAFFIC: usize = 6;

/// Sums over a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Requests by outcome, and by duration: up to T, up to 4 T, longer.
    requests: [[u64; 3]; 3],
    pub(super) sum_ms: f64,
    /// The longest duration; the only member that is not a sum.
    pub(super) max_ms: f64,
    traffic: [f64; TRAFFIC],
}

impl Figures {
    pub(super) fn add(&mut self, other: &Self) {
        for (into, from) in self.requests.iter_mut().zip(&other.requests) {
            for (into, from) in into.iter_mut().zip(from) {
                *into += from;
            }
        }
        self.sum_ms += other.sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
        for (into, from) in self.traffic.iter_mut().zip(&other.traffic) {
            *into += from;
        }
    }

    /// Adds figures counted beside requests.
    pub(super) fn add_traffic(&mut self, traffic: &[f64]) {
        for (into, from) in self.traffic.iter_mut().zip(traffic) {
            *into += from;
        }
    }

    /// Counts a request; `speed` is 0 for up to T, 1 for up to 4 T, 2 for longer.
    pub fn record(&mut self, duration_ms: f64, outcome: Outcome, speed: usize) {
        self.requests[outcome as usize][speed] += 1;
        self.sum_ms += duration_ms;
        self.max_ms = self.max_ms.max(duration_ms);
    }

    /// Returns the number of requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.as_flattened().iter().sum()
    }

    /// Returns the number of requests with that outcome.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.requests[outcome as usize].iter().sum()
    }

    /// Returns the number of requests that took longer than T.
    #[must_use]
    pub fn slow(&self) -> u64 {
        self.requests.iter().map(|by| by[1] + by[2]).sum()
    }

    /// Returns Apdex: (satisfied + tolerating / 2) / all, where failed requests count as
    /// frustrated. `None` without requests.
    #[must_use]
    pub fn apdex(&self) -> Option<f64> {
        let [answered, client, _] = self.requests;
        let satisfied = (answered[0] + client[0]) as f64;
        let tolerating = (answered[1] + client[1]) as f64;
        let all = self.requests();
        (all > 0).then(|| (satisfied + tolerating / 2.0) / all as f64)
    }

    /// Returns one of the figures counted beside requests.
    #[must_use]
    pub fn traffic(&self, which: Traffic) -> f64 {
        self.traffic[which as usize]
    }
}

/// Requests over minutes to days, for error budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// All requests.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests that took longer than T.
    pub slow: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.slow += other.slow;
    }
}

impl From<&Figures> for Totals {
    fn from(figures: &Figures) -> Self {
        Self {
            requests: figures.requests(),
            errors: figures.ended(Outcome::Failed),
            slow: figures.slow(),
        }
    }
}
