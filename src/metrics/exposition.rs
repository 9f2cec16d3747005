//! The exposition: metrics as text in OpenMetrics 1.0 or in Prometheus' format 0.0.4.
//!
//! Owns the formats. Does not own the names (`families`) or the counts, of which it gets a snapshot, so that rendering
//! may run on any thread.

use super::counts::{EDGES_MS, RowCounts, Snapshot};
use super::families::{Family, Kind, LABELLED, Labelled, Naming, REQUESTS, RequestWords, SCALARS};
use std::fmt::Write;
use std::sync::Arc;

/// The classic buckets in seconds, as OpenMetrics and Prometheus write them.
const EDGES: [(&str, &str); EDGES_MS.len() + 1] = [
    ("0.005", "0.005"),
    ("0.01", "0.01"),
    ("0.025", "0.025"),
    ("0.05", "0.05"),
    ("0.075", "0.075"),
    ("0.1", "0.1"),
    ("0.25", "0.25"),
    ("0.5", "0.5"),
    ("0.75", "0.75"),
    ("1.0", "1"),
    ("2.5", "2.5"),
    ("5.0", "5"),
    ("7.5", "7.5"),
    ("10.0", "10"),
    ("+Inf", "+Inf"),
];
/// The format of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

/// The labels of a row as text, in the order of `REQUESTS`.
#[derive(Debug, Clone)]
struct Row([String; 2]);

/// The labels of all rows; shared with renderings under way.
#[derive(Debug, Clone, Default)]
pub struct Labels(Arc<Vec<Row>>);

/// Escapes the value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn pair(out: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    out.push_str(&escape(value));
    out.push('"');
}

impl Labels {
    /// Adds the labels of the next row.
    pub fn push(&mut self, route: &str, method: &str) {
        let labels = [0, 1].map(|at| {
            let words = &REQUESTS[at];
            let mut labels = String::new();
            pair(&mut labels, words.method, method);
            pair(&mut labels, words.route, route);
            labels
        });
        Arc::make_mut(&mut self.0).push(Row(labels));
    }
}

/// The content of one exposition.
#[derive(Debug)]
pub struct Exposition {
    /// The format.
    pub format: Format,
    /// The naming.
    pub naming: Naming,
    /// Labels of the rows.
    pub labels: Labels,
    /// Counts of the rows.
    pub counts: Snapshot,
    /// Figures in the order of `SCALARS`; NaN if not known.
    pub scalars: Vec<f64>,
    /// Lines of a key and label values, separated by tabs.
    pub samples: String,
    /// The value of each line.
    pub values: Vec<f64>,
    /// Finished lines for families of the application, in which the values are missing: comments,
    /// and names of series with their labels.
    pub template: String,
    /// The value of each series of the template.
    pub template_values: Vec<f64>,
}

impl Exposition {
    /// Renders the text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(4096 + self.labels.0.len() * 2400);
        for words in REQUESTS {
            if self.naming.has(words.naming) {
                self.durations(&mut out, words);
                self.requests(&mut out, words);
            }
        }
        for (scalar, value) in SCALARS.iter().zip(&self.scalars) {
            if !value.is_finite() {
                continue;
            }
            for family in scalar.families {
                if self.naming.has(family.naming) {
                    self.head(&mut out, family);
                    self.sample(&mut out, family, "", *value);
                }
            }
        }
        for labelled in LABELLED {
            self.labelled(&mut out, labelled);
        }
        self.fill(&mut out);
        if self.format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    /// Writes the template with its values.
    fn fill(&self, out: &mut String) {
        let mut values = self.template_values.iter();
        for text in self.template.split('\n').filter(|text| !text.is_empty()) {
            out.push_str(text);
            if text.starts_with('#') {
                out.push('\n');
            } else {
                line(out, "", values.next().copied().unwrap_or(f64::NAN));
            }
        }
    }

    fn suffix(&self, kind: Kind) -> &'static str {
        if kind == Kind::Counter { "_total" } else { "" }
    }

    fn head(&self, out: &mut String, family: &Family) {
        let Family {
            name,
            kind,
            unit,
            help,
            ..
        } = family;
        // Format 0.0.4 names a counter as its samples are named.
        let suffix = match self.format {
            Format::OpenMetrics => "",
            Format::Prometheus => self.suffix(*kind),
        };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.head_of(out, name, suffix, word, unit, help);
    }

    fn head_of(
        &self,
        out: &mut String,
        name: &str,
        suffix: &str,
        kind: &str,
        unit: &str,
        help: &str,
    ) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name}{suffix} {help}.");
        let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
        if self.format == Format::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
    }

    fn sample(&self, out: &mut String, family: &Family, labels: &str, value: f64) {
        out.push_str(family.name);
        out.push_str(self.suffix(family.kind));
        line(out, labels, value);
    }

    /// Returns the rows with at least one request, with their counts.
    fn counted(&self) -> impl Iterator<Item = (&Row, RowCounts<'_>)> {
        let rows = self.labels.0.iter().zip(self.counts.rows());
        rows.filter(|(_, counts)| !counts.is_empty())
    }

    fn durations(&self, out: &mut String, words: &RequestWords) {
        let name = words.duration;
        let at = usize::from(words.naming == Naming::Prom);
        let mut has_head = false;
        for (row, counts) in self.counted() {
            if !has_head {
                self.head_of(
                    out,
                    name,
                    "",
                    "histogram",
                    "seconds",
                    "Duration of HTTP requests",
                );
                has_head = true;
            }
            let labels = row.0[at].as_str();
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0.0;
            for (edge, in_bucket) in EDGES.iter().zip(counts.buckets()) {
                count += in_bucket;
                let le = match self.format {
                    Format::OpenMetrics => edge.0,
                    Format::Prometheus => edge.1,
                };
                out.push_str(name);
                out.push_str("_bucket{");
                out.push_str(labels);
                out.push_str(comma);
                out.push_str("le=\"");
                out.push_str(le);
                out.push_str("\"} ");
                number(out, count);
                out.push('\n');
            }
            out.push_str(name);
            out.push_str("_sum");
            line(out, labels, counts.sum_ms() / 1000.0);
            out.push_str(name);
            out.push_str("_count");
            line(out, labels, count);
        }
    }

    fn requests(&self, out: &mut String, words: &RequestWords) {
        let at = usize::from(words.naming == Naming::Prom);
        let family = Family {
            naming: words.naming,
            name: words.requests,
            kind: Kind::Counter,
            unit: "",
            help: "HTTP requests by status",
        };
        let mut has_head = false;
        for (row, counts) in self.counted() {
            for (status, count) in counts.statuses() {
                if !has_head {
                    self.head(out, &family);
                    has_head = true;
                }
                let mut labels = row.0[at].clone();
                if status != 0 {
                    pair(&mut labels, words.status, &status.to_string());
                }
                self.sample(out, &family, &labels, count);
            }
        }
    }

    fn labelled(&self, out: &mut String, labelled: &Labelled) {
        let mut has_head = false;
        if !self.naming.has(labelled.family.naming) {
            return;
        }
        for (line, value) in self.samples.lines().zip(&self.values) {
            let mut fields = line.split('\t');
            if fields.next() != Some(labelled.key) || !value.is_finite() {
                continue;
            }
            if !has_head {
                self.head(out, &labelled.family);
                has_head = true;
            }
            let mut labels = String::new();
            for (name, field) in labelled.labels.iter().zip(fields) {
                pair(&mut labels, name, field);
            }
            self.sample(out, &labelled.family, &labels, *value);
        }
    }
}

fn line(out: &mut String, labels: &str, value: f64) {
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    out.push('\n');
}

/// Writes a number, the special ones as both formats spell them. Integers take a shortcut that is far faster than formatting a float.
fn number(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        });
        return;
    }
    let whole = value as u64;
    // Writing to a string cannot fail.
    let _ = if whole as f64 == value && whole < 1 << 53 {
        write!(out, "{whole}")
    } else {
        write!(out, "{value}")
    };
}
