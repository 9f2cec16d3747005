//! Request metrics, active users and the exposition, for `ts/metrics`.
//!
//! Rendering shares the counts, and writes the text on a thread of libuv's pool, which reads no memory of
//! JavaScript.

use super::args::Args;
use super::bound::{NumberFunction, bind, bound_function};
use super::memory::InvalidCall;
use crate::metrics::{
    Exposition, Family, Format, HISTOGRAMS, LABELLED, Labels, Ledger, Naming, Outcome, Quantiles,
    REQUESTS, SCALARS, Sums, TRAFFIC, Traffic, Users, Window,
};
use crate::sampler::process_files;
use flate2::Compression;
use flate2::write::GzEncoder;
use napi::bindgen_prelude::{
    AsyncTask, BufferSlice, Env, Float64ArraySlice, Object, Result, Uint32ArraySlice,
};
use napi::{JsString, ScopedTask};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::io::Write;
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

/// Creates a counter of active users by minute.
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

/// The figures that the exposition expects, for a check on the JavaScript side.
#[napi(object)]
pub struct MetricLayout {
    /// Keys of the figures without labels, in their order.
    pub scalars: Vec<String>,
    /// Keys of the figures with labels.
    pub labelled: Vec<String>,
    /// Names of all families; those of counters without `_total`.
    pub families: Vec<String>,
    /// Number of figures counted beside requests.
    pub traffic: u32,
}

/// Returns the layout that both sides must agree on.
#[napi(catch_unwind)]
pub fn metric_layout() -> MetricLayout {
    MetricLayout {
        scalars: SCALARS.iter().map(|scalar| scalar.key.to_owned()).collect(),
        labelled: LABELLED
            .iter()
            .map(|labelled| labelled.key.to_owned())
            .collect(),
        families: family_names(),
        traffic: TRAFFIC as u32,
    }
}

fn family_names() -> Vec<String> {
    let scalars = SCALARS.iter().flat_map(|scalar| scalar.families);
    let labelled = LABELLED.iter().chain(HISTOGRAMS).map(|one| &one.family);
    let requests = REQUESTS
        .iter()
        .flat_map(|words| [words.duration, words.requests]);
    let own = scalars.chain(labelled).map(|family: &Family| family.name);
    own.chain(requests).map(str::to_owned).collect()
}

/// Contains a panic, on a thread of the pool: it must not end the process.
fn contained<T>(run: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .map_err(|_| napi::Error::from_reason("a bug in the native core was contained"))
}

/// An exposition that is rendered on another thread.
struct Rendering(Exposition);

impl Rendering {
    /// Renders the text.
    fn text(&mut self) -> Result<String> {
        contained(|| {
            self.read_process();
            self.0.render()
        })
    }

    /// Adds the figures of `/proc`: reading it takes long for a process with many open files.
    fn read_process(&mut self) {
        let Exposition {
            naming, scalars, ..
        } = &mut self.0;
        if !naming.has(Naming::Prom) {
            return;
        }
        let files = process_files();
        for (scalar, value) in SCALARS.iter().zip(scalars) {
            let found = match scalar.key {
                "virtualBytes" => files.0.virtual_bytes,
                "dataBytes" => files.0.data_bytes,
                "maxFiles" => files.0.max_files,
                "openFiles" => files.1,
                _ => None,
            };
            if let Some(found) = found {
                *value = found as f64;
            }
        }
    }
}

/// Renders the exposition as a string, which the JavaScript thread has to make: in proportion to its
/// length.
pub struct RenderText(Rendering);

impl<'env> ScopedTask<'env> for RenderText {
    type Output = String;
    type JsValue = JsString<'env>;

    fn compute(&mut self) -> Result<String> {
        self.0.text()
    }

    fn resolve(&mut self, env: &'env Env, text: String) -> Result<JsString<'env>> {
        // Both engines copy Latin-1 as it is, but scan UTF-8 first.
        if text.is_ascii() {
            env.create_string_latin1(text.as_bytes())
        } else {
            env.create_string(&text)
        }
    }
}

/// Length of a text from which its memory is freed on another thread: the system takes a millisecond or two to get
/// 40 MB of pages back.
const SLOW_TO_FREE: usize = 1 << 20;

/// Renders the exposition as bytes of UTF-8. JavaScript gets the memory that they were written to.
pub struct RenderBytes {
    rendering: Rendering,
    is_compressed: bool,
}

impl<'env> ScopedTask<'env> for RenderBytes {
    type Output = Vec<u8>;
    type JsValue = BufferSlice<'env>;

    fn compute(&mut self) -> Result<Vec<u8>> {
        let text = self.rendering.text()?;
        if !self.is_compressed {
            return Ok(text.into_bytes());
        }
        contained(|| gzip(text.as_bytes()))?.map_err(napi::Error::from)
    }

    fn resolve(&mut self, env: &'env Env, mut bytes: Vec<u8>) -> Result<BufferSlice<'env>> {
        if bytes.len() < SLOW_TO_FREE {
            return BufferSlice::from_data(env, bytes);
        }
        let (data, length) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: the hint owns the memory, and is dropped only by the callback, which JavaScript's garbage
        // collector calls once nobody has the buffer.
        unsafe {
            BufferSlice::from_external(env, data, length, bytes, |_, bytes| free_elsewhere(bytes))
        }
    }
}

/// Compresses a text by gzip (RFC 1952), at the lowest level: names and labels repeat so often that a higher one gains
/// little.
fn gzip(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

/// Frees memory on a thread of its own; here, if there can be none.
fn free_elsewhere(bytes: Vec<u8>) {
    // Windows unloads the addon with its last environment, and a thread must not outlive its code.
    if cfg!(windows) {
        return drop(bytes);
    }
    let thread = std::thread::Builder::new().name("portcullis-free".to_owned());
    // A failed spawn drops the closure, and the bytes with it.
    let _ = thread.spawn(move || drop(bytes));
}

/// Quantiles of latency, ms.
#[napi(object)]
pub struct LatencyNumbers {
    /// Median, ms.
    pub p50: f64,
    /// 90th percentile, ms.
    pub p90: f64,
    /// 95th percentile, ms.
    pub p95: f64,
    /// 99th percentile, ms.
    pub p99: f64,
    /// 99.9th percentile, ms.
    pub p999: f64,
    /// Maximum, ms.
    pub max: f64,
    /// Mean, ms.
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
    /// Time that the window covers, ms.
    pub covered_ms: f64,
    /// Requests.
    pub requests: f64,
    /// Requests that failed.
    pub errors: f64,
    /// Requests that failed by the client's fault.
    pub client_errors: f64,
    /// Connections and requests refused by limits.
    pub refused: f64,
    /// Messages received.
    pub messages_in: f64,
    /// Messages sent.
    pub messages_out: f64,
    /// Bytes received in messages.
    pub bytes_in: f64,
    /// Bytes sent in messages.
    pub bytes_out: f64,
    /// Apdex, 0 to 1; null without requests.
    pub apdex: Option<f64>,
    /// Latency of requests; null without requests.
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

/// Requests over minutes to days, for error budgets.
#[napi(object)]
pub struct TotalNumbers {
    /// All requests.
    pub requests: f64,
    /// Requests that failed.
    pub errors: f64,
    /// Requests that took longer than T, the satisfied threshold of Apdex.
    pub slow: f64,
}

/// Figures of one route over the last one to two minutes.
#[napi(object, use_nullable = true)]
pub struct RouteNumbers {
    /// Number of its row.
    pub row: u32,
    /// Requests.
    pub requests: f64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Share of failed requests, 0 to 1; null without requests.
    pub error_rate: Option<f64>,
    /// Latency of requests; null without requests.
    pub latency_ms: Option<LatencyNumbers>,
    /// Requests since the start.
    pub total: f64,
}

/// Counts of all rows.
#[napi(object)]
pub struct RowNumbers {
    /// Cells of all rows, one row after the other.
    pub cells: Vec<f64>,
    /// The status of each place but the first, which counts requests without a status.
    pub statuses: Vec<u32>,
}

/// Texts that an exposition is made of.
#[napi(object)]
pub struct RenderTexts {
    /// `openmetrics` or `prometheus`.
    pub format: String,
    /// `otel`, `prom` or `both`.
    pub naming: String,
    /// Figures with labels, one a line: key and labels, separated by tabs.
    pub samples: String,
    /// Lines of the application's families, without values.
    pub template: String,
}

/// The core of `ts/metrics/ledger.ts`: counts requests by time and by route.
#[napi]
pub struct RequestLedger {
    // Napi borrows an instance for as long as one of its promises is pending, so no method takes
    // `&mut self`.
    ledger: RefCell<Ledger>,
    labels: RefCell<Labels>,
}

#[napi]
impl RequestLedger {
    /// Creates an empty ledger.
    #[napi(constructor, catch_unwind)]
    pub fn new(now_ms: f64, satisfied_ms: f64, heat_edges_ms: Float64ArraySlice<'_>) -> Self {
        Self {
            ledger: RefCell::new(Ledger::new(now_ms, satisfied_ms, &heat_edges_ms)),
            labels: RefCell::default(),
        }
    }

    /// Adds a row for a route.
    #[napi(catch_unwind)]
    pub fn add_row(&self, route: String, method: String) {
        self.labels.borrow_mut().push(&route, &method);
        self.ledger.borrow_mut().routes.add();
    }

    /// Counts the first `count` requests of the two columns.
    #[napi(catch_unwind)]
    pub fn fold(&self, durations: Float64ArraySlice<'_>, keys: Uint32ArraySlice<'_>, count: u32) {
        let count = (count as usize).min(durations.len()).min(keys.len());
        self.ledger
            .borrow_mut()
            .fold(&durations[..count], &keys[..count]);
    }

    /// Adds figures counted beside requests, then advances the time.
    #[napi(catch_unwind)]
    pub fn advance(&self, now_ms: f64, traffic: Float64ArraySlice<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.windows.add_traffic(&traffic);
        ledger.advance(now_ms);
    }

    /// Returns the time since the start, ms.
    #[napi(catch_unwind)]
    pub fn uptime_ms(&self) -> f64 {
        self.ledger.borrow().windows.uptime_ms()
    }

    /// Returns the sums over a window, by its number.
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

    /// Returns the requests of the last minutes.
    #[napi(catch_unwind)]
    pub fn totals(&self, minutes: u32) -> TotalNumbers {
        let totals = self.ledger.borrow().windows.totals(u64::from(minutes));
        TotalNumbers {
            requests: totals.requests as f64,
            errors: totals.errors as f64,
            slow: totals.slow as f64,
        }
    }

    /// Returns the requests of each of the last seconds, by band of the heat map.
    #[napi(catch_unwind)]
    pub fn heat(&self, seconds: u32) -> Vec<Vec<u32>> {
        self.ledger.borrow().heat(seconds as usize)
    }

    /// Returns the routes with the most requests.
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

    /// Returns the requests of a row since the start.
    #[napi(catch_unwind)]
    pub fn total(&self, row: u32) -> f64 {
        self.ledger.borrow().routes.total(row as usize) as f64
    }

    /// Returns the counts of all rows since the start: for each row, requests by classic bucket, the
    /// sum of durations in ms, then requests by place of the status.
    #[napi(catch_unwind)]
    pub fn counts(&self) -> RowNumbers {
        let (cells, statuses) = self.ledger.borrow_mut().routes.snapshot().into_parts();
        RowNumbers {
            cells,
            statuses: statuses.into_iter().map(u32::from).collect(),
        }
    }

    /// Renders the exposition on another thread; resolves with the text.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn render(
        &self,
        scalars: Float64ArraySlice<'_>,
        values: Float64ArraySlice<'_>,
        template_values: Float64ArraySlice<'_>,
        texts: RenderTexts,
    ) -> AsyncTask<RenderText> {
        AsyncTask::new(RenderText(self.rendering(
            &scalars,
            &values,
            &template_values,
            texts,
        )))
    }

    /// Renders the exposition on another thread; resolves with its bytes, in UTF-8, or compressed by gzip.
    #[napi(catch_unwind, ts_return_type = "Promise<Buffer>")]
    pub fn render_bytes(
        &self,
        scalars: Float64ArraySlice<'_>,
        values: Float64ArraySlice<'_>,
        template_values: Float64ArraySlice<'_>,
        texts: RenderTexts,
        is_compressed: bool,
    ) -> AsyncTask<RenderBytes> {
        AsyncTask::new(RenderBytes {
            rendering: self.rendering(&scalars, &values, &template_values, texts),
            is_compressed,
        })
    }
}

impl RequestLedger {
    fn rendering(
        &self,
        scalars: &[f64],
        values: &[f64],
        template_values: &[f64],
        texts: RenderTexts,
    ) -> Rendering {
        Rendering(Exposition {
            format: match texts.format.as_str() {
                "openmetrics" => Format::OpenMetrics,
                _ => Format::Prometheus,
            },
            naming: match texts.naming.as_str() {
                "otel" => Naming::Otel,
                "prom" => Naming::Prom,
                _ => Naming::Both,
            },
            labels: self.labels.borrow().clone(),
            counts: self.ledger.borrow_mut().routes.snapshot(),
            scalars: scalars.to_vec(),
            samples: texts.samples,
            values: values.to_vec(),
            template: texts.template,
            template_values: template_values.to_vec(),
        })
    }
}
