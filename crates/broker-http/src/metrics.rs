//! `GET /metrics`: the broker's counts in the text format of Prometheus.
//!
//! What is counted lives where it happens; the families are made from it for each answer, so nothing is counted twice.

use std::sync::atomic::Ordering;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use broker::RetentionCounts;
use event_log::Bounds;
use prometheus::{Counter, Gauge, IntCounter, IntGauge, Opts, Registry, TEXT_FORMAT, TextEncoder};

use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

pub(crate) async fn metrics(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let text = text(&state).map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        Problem::unavailable("metrics-unavailable", error.to_string(), 5)
    })?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).insert_header((CACHE_CONTROL, "no-store")).body(text))
}

fn text(state: &State) -> prometheus::Result<String> {
    let families = Families(Registry::new());
    let build = Opts::new("perennial_build_info", "Always 1; its labels say what runs.");
    families.int_gauge(build.const_label("version", &state.options.version), 1)?;
    families.gauge(
        "perennial_uptime_seconds",
        "Time since the start.",
        state.started.elapsed().as_secs_f64(),
    )?;
    let streams = state.streams.load(Ordering::Relaxed) as u64;
    families.int_gauge(Opts::new("perennial_streams", "Event streams that are open."), streams)?;
    families.int_counter(
        "perennial_connections_turned_away_total",
        "Connections let go at once because their address had its number.",
        state.doors.turned_away(),
    )?;
    let published = state.broker.published();
    families.int_counter(
        "perennial_events_published_total",
        "Events that became durable since the start.",
        published,
    )?;
    families.log(&state.broker.log().bounds())?;
    families.retention(&state.broker.retention().counts())?;
    TextEncoder::new().encode_to_string(&families.0.gather())
}

/// The families of one answer.
struct Families(Registry);

impl Families {
    fn log(&self, bounds: &Bounds) -> prometheus::Result<()> {
        for (name, help, value) in [
            ("perennial_head_sequence", "Sequence of the newest event.", bounds.head.get()),
            ("perennial_events", "Events kept.", bounds.events),
            ("perennial_bytes", "Bytes of the events kept, as policies count them.", bounds.bytes),
            ("perennial_bytes_on_disk", "Bytes that the log takes on disk.", bounds.bytes_on_disk),
        ] {
            self.int_gauge(Opts::new(name, help), value)?;
        }
        Ok(())
    }

    fn retention(&self, counts: &RetentionCounts) -> prometheus::Result<()> {
        let RetentionCounts { trimmed, superseded, .. } = counts;
        for (name, help, value) in [
            ("passes_total", "Times that policies were carried out.", counts.passes),
            ("steps_total", "Removals that the log was asked for.", counts.steps),
            ("trimmed_events_total", "Events that were trimmed.", trimmed.events),
            ("trimmed_bytes_total", "Bytes of events that were trimmed.", trimmed.bytes),
            ("superseded_events_total", "Events that compaction removed.", superseded.events),
            ("superseded_bytes_total", "Bytes of events that compaction removed.", superseded.bytes),
        ] {
            self.int_counter(&format!("perennial_retention_{name}"), help, value)?;
        }
        let busy = Counter::new("perennial_retention_seconds_total", "Time that removals took.")?;
        busy.inc_by(counts.busy.as_secs_f64());
        self.0.register(Box::new(busy))?;
        let last_pass = counts.last_pass.as_secs_f64();
        self.gauge(
            "perennial_retention_last_pass_seconds",
            "Time that the last pass took, with its rests.",
            last_pass,
        )
    }

    fn int_gauge(&self, opts: Opts, value: u64) -> prometheus::Result<()> {
        let gauge = IntGauge::with_opts(opts)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(Box::new(gauge))
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }

    fn int_counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }
}

#[cfg(test)]
mod tests;
