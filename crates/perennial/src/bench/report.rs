//! What was found: a line for each figure for people, the same as JSON for programs, and panels for a picture.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use event_log::limits::MIB;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::ledger::Faults;
use super::meter::{Course, Sample, millis, rounded};
use super::plot::{self, Panel};
use super::session::Session;
use crate::cli::BenchOptions;
use crate::client::table::{self, Align, grouped};

/// The quantiles of a latency that are told.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];
/// Above this share of its threads' time this program is the bottleneck, or close to it.
const BUSY: f64 = 0.85;

/// What readers were given, held against what was published.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verdict {
    pub(super) faults: Faults,
    /// Events that were checked.
    pub(super) events: u64,
}

/// The outcome of one run.
pub(super) struct Report {
    command: &'static str,
    settings: Value,
    figures: Map<String, Value>,
    /// Name, value and unit of each figure.
    rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
    pub(super) verdict: Verdict,
    samples: Vec<Sample>,
    pub(super) panels: Vec<Panel>,
}

impl Report {
    /// A report of this command, with what was asked for.
    pub(super) fn new(command: &'static str, settings: Value, verdict: Verdict) -> Self {
        Report {
            command,
            settings,
            figures: Map::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            verdict,
            samples: Vec::new(),
            panels: Vec::new(),
        }
    }

    /// Adds a figure, under its key for programs and its name for people.
    pub(super) fn figure(&mut self, key: &str, name: &str, value: f64, unit: &str) {
        self.figures.insert(key.to_owned(), json!(rounded(value)));
        self.rows.push(vec![name.to_owned(), shown(value), unit.to_owned()]);
    }

    /// Adds the data alone of so many events a second, of so many bytes each.
    pub(super) fn data_rate(&mut self, events_per_second: f64, bytes: usize) {
        let rate = events_per_second * bytes as f64 / MIB as f64;
        self.figure("mib_per_second", "data alone", rate, "MiB/s");
    }

    /// Adds the quantiles of what took time, in milliseconds.
    pub(super) fn latencies(&mut self, key: &str, name: &str, latencies: &Histogram<u64>) {
        let mut told = Map::from_iter([("count".to_owned(), json!(latencies.len()))]);
        for (quantile, share) in QUANTILES {
            let value = millis(latencies.value_at_quantile(share).min(latencies.max()));
            told.insert(quantile.to_owned(), json!(rounded(value)));
            let quantile = quantile.replace("p999", "p99.9");
            self.rows.push(vec![format!("{name}, {quantile}"), format!("{value:.3}"), "ms".to_owned()]);
        }
        self.figures.insert(format!("{key}_ms"), Value::Object(told));
    }

    /// Adds how long the measuring took, and how much this program had to do for it.
    pub(super) fn course(&mut self, course: Course, threads: usize) {
        let cores = course.processor.as_secs_f64() / course.length.as_secs_f64().max(1e-6);
        self.figure("seconds", "measured for", course.length.as_secs_f64(), "s");
        self.figure("bench_cores", "used by this program", cores, "cores");
        if cores > BUSY * threads as f64 {
            self.notes.push(format!(
                "this program used {cores:.2} cores for its {threads} threads: it may be the bottleneck; give it more \
                 (--threads), or another machine"
            ));
        }
        self.samples = course.samples;
    }

    /// The rate and the latencies over time, for the picture.
    pub(super) fn over_time(&mut self, what: &'static str, with_latencies: bool) {
        let panels = plot::over_time(what, &self.samples, with_latencies);
        self.panels.extend(panels);
    }

    /// One line for each figure.
    fn text(&self, session: &Session, is_purged: bool) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        writeln!(out, "{} of {} on topic {}", self.command, session.server.url(&[]), session.topic)?;
        let asked = self.settings.as_object().into_iter().flatten().map(|(key, value)| match value {
            Value::String(word) => format!("{key} {word}"),
            number => format!("{key} {number}"),
        });
        writeln!(out, "{}\n", asked.collect::<Vec<_>>().join(", "))?;
        let head = [("FIGURE", Align::Left), ("VALUE", Align::Right), ("UNIT", Align::Left)];
        table::write(&mut out, &head, &self.rows)?;
        writeln!(out)?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if self.is_exact() {
            writeln!(out, "exact: {} events checked, each once and in order", grouped(self.verdict.events))?;
        }
        if !is_purged {
            writeln!(out, "the events stay in the topic {}", session.topic)?;
        }
        Ok(out)
    }

    fn json(&self, session: &Session, is_purged: bool) -> Value {
        json!({
            "command": self.command,
            "version": env!("CARGO_PKG_VERSION"),
            "broker_version": session.broker_version,
            "url": session.server.url(&[]).as_str(),
            "topic": session.topic,
            "purged": is_purged,
            "settings": self.settings,
            "figures": self.figures,
            "exact": self.is_exact(),
            "events_checked": self.verdict.events,
            "faults": self.verdict.faults,
            "notes": self.notes,
            "samples": self.samples,
        })
    }

    pub(super) fn is_exact(&self) -> bool {
        self.verdict.faults.total() == 0
    }
}

/// The files that a report goes to. They are made before anything is measured, so that a long run does not end with a
/// path that cannot be written.
pub(super) struct Outputs {
    json: Option<(PathBuf, File)>,
    svg: Option<(PathBuf, File)>,
}

impl Outputs {
    pub(super) fn create(options: &BenchOptions) -> anyhow::Result<Self> {
        Ok(Outputs { json: create(options.json.as_deref())?, svg: create(options.svg.as_deref())? })
    }

    pub(super) fn write(self, report: &Report, session: &Session, is_purged: bool) -> anyhow::Result<()> {
        table::print(&report.text(session, is_purged)?)?;
        if let Some(file) = self.json {
            let text = serde_json::to_string_pretty(&report.json(session, is_purged))?;
            write(file, &format!("{text}\n"))?;
        }
        if let Some(file) = self.svg {
            let title = format!("perennial bench {}", report.command);
            write(file, &plot::draw(&title, &report.panels)?)?;
        }
        Ok(())
    }
}

fn create(path: Option<&Path>) -> anyhow::Result<Option<(PathBuf, File)>> {
    path.map(|path| {
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok((path.to_owned(), file))
    })
    .transpose()
}

fn write((path, mut file): (PathBuf, File), text: &str) -> anyhow::Result<()> {
    file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
}

/// A number for people: whole, with its thousands apart, when it is large or whole anyway.
pub(super) fn shown(value: f64) -> String {
    match value >= 1_000.0 || value.fract() == 0.0 {
        true => grouped(value.round() as u64),
        false => format!("{value:.3}"),
    }
}

/// Seconds of a length of time, for settings.
pub(super) fn seconds(length: Duration) -> f64 {
    rounded(length.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::meter::histogram;

    #[test]
    fn a_figure_has_one_line_for_people_and_one_key_for_programs() {
        let mut report = Report::new("publish", json!({"batch": 1}), Verdict::default());
        report.figure("events_per_second", "published", 12_345.678_9, "events/s");
        let mut latencies = histogram();
        (1..=1_000).for_each(|micros| latencies.saturating_record(micros * 10));
        report.latencies("latency", "request to answer", &latencies);
        assert_eq!(report.rows[0], ["published", "12,346", "events/s"]);
        assert_eq!(report.rows[4], ["request to answer, p99.9", "9.991", "ms"]);
        assert_eq!(report.figures["events_per_second"], 12_345.679);
        assert_eq!(report.figures["latency_ms"]["count"], 1_000);
        assert!(report.figures["latency_ms"]["p50"].as_f64().is_some_and(|p50| (5.0..5.01).contains(&p50)));
        assert!(report.is_exact());
    }

    #[test]
    fn numbers_for_people_have_as_many_digits_as_help() {
        for (value, text) in [(0.0, "0"), (0.1234, "0.123"), (999.9, "999.900"), (1_234_567.8, "1,234,568")] {
            assert_eq!(shown(value), text);
        }
    }
}
