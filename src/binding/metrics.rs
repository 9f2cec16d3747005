//! What was counted, active users and the exposition, for `ts/kpi`.
//!
//! Rendering copies the counts on the JavaScript thread, a few hundred kB at most, and writes the
//! text on a thread of libuv's pool: nothing of JavaScript's is read there.

use super::args::Args;
use super::bound::{NumberFunction, bind, bound_function};
use super::memory::InvalidCall;
use crate::metrics::{
    Exposition, Format, LABELLED, Labels, Ledger, Naming, Outcome, Quantiles, SCALARS, Sums,
    TRAFFIC, Traffic, Users, Window,
};
use napi::bindgen_prelude::{AsyncTask, Env, Float64ArraySlice, Object, Result, Uint32ArraySlice};
use napi::{JsString, ScopedTask};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

bound_function!(Record of Users, c"record", |users, args| {
    let minute = u64::from(args.uint32(1)?);
    args.with_utf16(0, |id| match id {
        Some(id) => {
            users.record(id, minute);
            Ok(0.0)
        }
        None => Err(InvalidCall(c"expected a string")),
    })
});

bound_function!(Count of Users, c"count", |users, args| {
    Ok(users.count(u64::from(args.uint32(0)?), u64::from(args.uint32(1)?)))
});

/// Counts users by minute.
#[napi(
    catch_unwind,
    ts_return_type = "{ record(id: string, minute: number): number; count(minute: number, window: number): number }"
)]
pub fn create_users(env: &Env) -> Result<Object<'_>> {
    let users = Rc::new(RefCell::new(Users::default()));
    let object = Object::new(env)?;
    bind::<Record>(env, &object, &users)?;
    bind::<Count>(env, &object, &users)?;
    Ok(object)
}

/// The figures that the exposition asks for.
#[napi(object)]
pub struct MetricLayout {
    /// Those without labels, in their order.
    pub scalars: Vec<String>,
    /// Those with labels.
    pub labelled: Vec<String>,
    /// How many figures are counted beside requests.
    pub traffic: u32,
}

/// What both sides must agree on.
#[napi(catch_unwind)]
pub fn metric_layout() -> MetricLayout {
    MetricLayout {
        scalars: SCALARS.iter().map(|scalar| scalar.key.to_owned()).collect(),
        labelled: LABELLED
            .iter()
            .map(|labelled| labelled.key.to_owned())
            .collect(),
        traffic: TRAFFIC as u32,
    }
}

/// Writes the text on another thread.
pub struct Render(Exposition);

impl<'env> ScopedTask<'env> for Render {
    type Output = String;
    type JsValue = JsString<'env>;

    fn compute(&mut self) -> Result<String> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.0.render()))
            .map_err(|_| napi::Error::from_reason("a bug in the native core was contained"))
    }

    fn resolve(&mut self, env: &'env Env, text: String) -> Result<JsString<'env>> {
        // Both engines copy Latin-1 as it is, and look through UTF-8 first.
        if text.is_ascii() {
            env.create_string_latin1(text.as_bytes())
        } else {
            env.create_string(&text)
        }
    }
}

/// Quantiles in milliseconds.
#[napi(object)]
pub struct LatencyNumbers {
    /// Quantile.
    pub p50: f64,
    /// Quantile.
    pub p90: f64,
    /// Quantile.
    pub p95: f64,
    /// Quantile.
    pub p99: f64,
    /// Quantile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// On average.
    pub mean: f64,
}

impl From<Quantiles> for LatencyNumbers {
    fn from(found: Quantiles) -> Self {
        Self {
            p50: found.p50,
            p90: found.p90,
            p95: found.p95,
            p99: found.p99,
            p999: found.p999,
            max: found.max,
            mean: found.mean,
        }
    }
}

/// Sums over a window.
#[napi(object, use_nullable = true)]
pub struct WindowNumbers {
    /// Time it covers.
    pub covered_ms: f64,
    /// Requests.
    pub requests: f64,
    /// Those that failed.
    pub errors: f64,
    /// By the client's fault.
    pub client_errors: f64,
    /// Turned away.
    pub refused: f64,
    /// Messages.
    pub messages_in: f64,
    /// Messages.
    pub messages_out: f64,
    /// Of messages.
    pub bytes_in: f64,
    /// Of messages.
    pub bytes_out: f64,
    /// 0 to 1.
    pub apdex: Option<f64>,
    /// Of requests.
    pub latency_ms: Option<LatencyNumbers>,
}

impl From<Sums> for WindowNumbers {
    fn from(sums: Sums) -> Self {
        let Sums {
            covered_ms,
            figures,
            latency,
        } = sums;
        Self {
            covered_ms,
            requests: figures.requests() as f64,
            errors: figures.ended(Outcome::Failed) as f64,
            client_errors: figures.ended(Outcome::ClientError) as f64,
            refused: figures.traffic(Traffic::Refused),
            messages_in: figures.traffic(Traffic::In),
            messages_out: figures.traffic(Traffic::Out),
            bytes_in: figures.traffic(Traffic::BytesIn),
            bytes_out: figures.traffic(Traffic::BytesOut),
            apdex: figures.apdex(),
            latency_ms: latency.map(LatencyNumbers::from),
        }
    }
}

/// Requests of the last minutes to days.
#[napi(object)]
pub struct TotalNumbers {
    /// All.
    pub requests: f64,
    /// Those that failed.
    pub errors: f64,
    /// Those that took longer than T.
    pub slow: f64,
}

/// One route.
#[napi(object, use_nullable = true)]
pub struct RouteNumbers {
    /// Its row.
    pub row: u32,
    /// Lately.
    pub requests: f64,
    /// Lately.
    pub requests_per_second: f64,
    /// Lately.
    pub error_rate: Option<f64>,
    /// Lately.
    pub latency_ms: Option<LatencyNumbers>,
    /// Since the beginning.
    pub total: f64,
}

/// What was counted, for `ts/kpi/ledger.ts`.
#[napi]
pub struct RequestLedger {
    // Napi holds on to an instance for as long as a promise of it is open: nothing is `&self`.
    ledger: RefCell<Ledger>,
    labels: RefCell<Labels>,
}

#[napi]
impl RequestLedger {
    /// Nothing yet.
    #[napi(constructor, catch_unwind)]
    pub fn new(now_ms: f64, satisfied_ms: f64, heat_edges_ms: Float64ArraySlice<'_>) -> Self {
        Self {
            ledger: RefCell::new(Ledger::new(now_ms, satisfied_ms, &heat_edges_ms)),
            labels: RefCell::default(),
        }
    }

    /// Adds a row.
    #[napi(catch_unwind)]
    pub fn add_row(&self, route: String, method: String) {
        self.labels.borrow_mut().push(&route, &method);
        self.ledger.borrow_mut().routes.add();
    }

    /// Counts the first `count` requests that were written down.
    #[napi(catch_unwind)]
    pub fn fold(&self, durations: Float64ArraySlice<'_>, keys: Uint32ArraySlice<'_>, count: u32) {
        let count = (count as usize).min(durations.len()).min(keys.len());
        self.ledger
            .borrow_mut()
            .fold(&durations[..count], &keys[..count]);
    }

    /// Adds what was counted beside requests, then lets time pass.
    #[napi(catch_unwind)]
    pub fn advance(&self, now_ms: f64, traffic: Float64ArraySlice<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.windows.add_traffic(&traffic);
        ledger.advance(now_ms);
    }

    /// Since the beginning.
    #[napi(catch_unwind)]
    pub fn uptime_ms(&self) -> f64 {
        self.ledger.borrow().windows.uptime_ms()
    }

    /// Sums over a window, by its number.
    #[napi(catch_unwind)]
    pub fn window(&self, window: u32) -> WindowNumbers {
        let window = match window {
            0 => Window::Short,
            1 => Window::Minute,
            2 => Window::Five,
            3 => Window::Quarter,
            _ => Window::Lifetime,
        };
        self.ledger.borrow().windows.sums(window).into()
    }

    /// Requests of the last minutes.
    #[napi(catch_unwind)]
    pub fn totals(&self, minutes: u32) -> TotalNumbers {
        let totals = self.ledger.borrow().windows.totals(u64::from(minutes));
        TotalNumbers {
            requests: totals.requests as f64,
            errors: totals.errors as f64,
            slow: totals.slow as f64,
        }
    }

    /// Requests of the last seconds, by band.
    #[napi(catch_unwind)]
    pub fn heat(&self, seconds: u32) -> Vec<Vec<u32>> {
        self.ledger.borrow().heat(seconds as usize)
    }

    /// The busiest routes.
    #[napi(catch_unwind)]
    pub fn routes(&self, now_ms: f64, count: u32) -> Vec<RouteNumbers> {
        let routes = self.ledger.borrow().routes.figures(now_ms, count as usize);
        routes
            .into_iter()
            .map(|figures| RouteNumbers {
                row: figures.row as u32,
                requests: figures.requests as f64,
                requests_per_second: figures.requests_per_second,
                error_rate: figures.error_rate,
                latency_ms: figures.latency.map(LatencyNumbers::from),
                total: figures.total as f64,
            })
            .collect()
    }

    /// How many requests a row has counted since the beginning.
    #[napi(catch_unwind)]
    pub fn total(&self, row: u32) -> f64 {
        self.ledger.borrow().routes.total(row as usize) as f64
    }

    /// Resolves with the text.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn render(
        &self,
        scalars: Float64ArraySlice<'_>,
        samples: String,
        values: Float64ArraySlice<'_>,
        format: String,
        naming: String,
    ) -> AsyncTask<Render> {
        AsyncTask::new(Render(Exposition {
            format: match format.as_str() {
                "openmetrics" => Format::OpenMetrics,
                _ => Format::Prometheus,
            },
            naming: match naming.as_str() {
                "otel" => Naming::Otel,
                "prom" => Naming::Prom,
                _ => Naming::Both,
            },
            labels: self.labels.borrow().clone(),
            counts: self.ledger.borrow().routes.snapshot(),
            scalars: scalars.to_vec(),
            samples,
            values: values.to_vec(),
        }))
    }
}
