//! Sums that are counted over some time.

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Answered,
    /// By the client's fault.
    ClientError,
    /// By the server's.
    Failed,
}

/// Figures that are counted beside requests; `ts/kpi/ledger.ts` has the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Messages that came in.
    In,
    /// Their bytes.
    BytesIn,
    /// Messages that went out.
    Out,
    /// Their bytes.
    BytesOut,
    /// Errors outside of requests.
    OtherErrors,
    /// What limits have turned away.
    Refused,
}

/// How many of those there are.
pub const TRAFFIC: usize = 6;

/// Sums over some time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Requests by outcome, and by whether they took up to T, up to 4 T, or longer.
    requests: [[u64; 3]; 3],
    pub(super) sum_ms: f64,
    /// The longest: the only one that is no sum.
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

    /// Adds figures that are counted beside requests.
    pub(super) fn add_traffic(&mut self, traffic: &[f64]) {
        for (into, from) in self.traffic.iter_mut().zip(traffic) {
            *into += from;
        }
    }

    /// Counts a request; `speed` is 0 up to T, 1 up to 4 T, 2 beyond.
    pub fn record(&mut self, duration_ms: f64, outcome: Outcome, speed: usize) {
        self.requests[outcome as usize][speed] += 1;
        self.sum_ms += duration_ms;
        self.max_ms = self.max_ms.max(duration_ms);
    }

    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.as_flattened().iter().sum()
    }

    /// Of that outcome.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.requests[outcome as usize].iter().sum()
    }

    /// That took longer than T.
    #[must_use]
    pub fn slow(&self) -> u64 {
        self.requests.iter().map(|by| by[1] + by[2]).sum()
    }

    /// (satisfied + tolerating / 2) / all; a failure satisfies nobody. `None` without requests.
    #[must_use]
    pub fn apdex(&self) -> Option<f64> {
        let [answered, client, _] = self.requests;
        let satisfied = (answered[0] + client[0]) as f64;
        let tolerating = (answered[1] + client[1]) as f64;
        let all = self.requests();
        (all > 0).then(|| (satisfied + tolerating / 2.0) / all as f64)
    }

    /// Of the figures beside requests.
    #[must_use]
    pub fn traffic(&self, which: Traffic) -> f64 {
        self.traffic[which as usize]
    }
}

/// Requests over minutes to days, for the budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// All.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those that took longer than T.
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
