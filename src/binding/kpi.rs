//! Active users and the exposition, for `ts/kpi`.
//!
//! Rendering copies the numbers on the JavaScript thread, a few hundred kB at most, and writes the
//! text on a thread of libuv's pool: nothing of JavaScript's is read there.

use super::bound::{Args, Bound, Wrong, bind};
use crate::kpi::{Exposition, Format, LABELLED, Naming, ROW, Rows, SCALARS, Users};
use napi::bindgen_prelude::{AsyncTask, Env, Float64ArraySlice, Object, Result};
use napi::{JsString, ScopedTask};
use napi_derive::napi;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

struct Record;
impl Bound for Record {
    type Core = Users;
    const NAME: &'static CStr = c"record";
    fn call(users: &mut Users, args: &Args) -> std::result::Result<f64, Wrong> {
        let minute = u64::from(args.index(1)?);
        args.units(0, |id| match id {
            Some(id) => {
                users.record(id, minute);
                Ok(0.0)
            }
            None => Err(Wrong(c"expected a string")),
        })
    }
}

struct Count;
impl Bound for Count {
    type Core = Users;
    const NAME: &'static CStr = c"count";
    fn call(users: &mut Users, args: &Args) -> std::result::Result<f64, Wrong> {
        Ok(users.count(u64::from(args.index(0)?), u64::from(args.index(1)?)))
    }
}

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

/// What both sides must agree on.
#[napi(object)]
pub struct MetricLayout {
    /// Numbers of a row.
    pub row: u32,
    /// The figures without labels, in their order.
    pub scalars: Vec<String>,
    /// The figures with labels.
    pub labelled: Vec<String>,
}

/// What both sides must agree on.
#[napi(catch_unwind)]
pub fn metric_layout() -> MetricLayout {
    MetricLayout {
        row: ROW as u32,
        scalars: SCALARS.iter().map(|scalar| scalar.key.to_owned()).collect(),
        labelled: LABELLED
            .iter()
            .map(|labelled| labelled.key.to_owned())
            .collect(),
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

/// Names of rows and statuses, and the exposition of their numbers.
#[napi]
pub struct MetricTexts {
    rows: Rows,
}

#[napi]
impl MetricTexts {
    /// None yet.
    #[napi(constructor, catch_unwind)]
    pub fn new() -> Self {
        Self {
            rows: Rows::default(),
        }
    }

    /// Adds a row.
    #[napi(catch_unwind)]
    pub fn add_row(&mut self, route: String, method: String) {
        self.rows.push(&route, &method);
    }

    /// Adds a status.
    #[napi(catch_unwind)]
    pub fn add_status(&mut self, status: u16) {
        self.rows.push_status(status);
    }

    /// Resolves with the text.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn render(
        &self,
        columns: Float64ArraySlice<'_>,
        scalars: Float64ArraySlice<'_>,
        samples: String,
        values: Float64ArraySlice<'_>,
        format: String,
        naming: String,
    ) -> AsyncTask<Render> {
        let used = (self.rows.len() * ROW).min(columns.len());
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
            rows: self.rows.clone(),
            columns: columns[..used].to_vec(),
            scalars: scalars.to_vec(),
            samples,
            values: values.to_vec(),
        }))
    }
}
