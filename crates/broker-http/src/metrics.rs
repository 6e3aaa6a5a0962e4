//! `GET /metrics`: the broker's counts in the text format of Prometheus.
//!
//! What is counted lives where it happens; the families are made from it for each answer, so nothing is counted twice. No
//! label's values come from outside, so there are never more series than this program has words.

use std::sync::atomic::Ordering;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use broker::RetentionCounts;
use event_log::{Bounds, LogCounts};
use prometheus::TEXT_FORMAT;

use crate::lags::Lags;
use crate::limits::Limit;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;
use crate::stream_stats::StreamCounts;

mod families;

use families::{Families, MICROS_PER_SECOND};

pub(crate) async fn metrics(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    // All streams are looked at, and there may be very many: this is done beside the threads that serve.
    let made = web::block(move || text(&state).map_err(|error| error.to_string())).await;
    let text = made.unwrap_or_else(|_| Err("there was no thread to do it".to_owned())).map_err(|error| {
        tracing::error!(error, "the metrics cannot be written");
        Problem::unavailable("metrics-unavailable", error, 5)
    })?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).insert_header((CACHE_CONTROL, "no-store")).body(text))
}

fn text(state: &State) -> prometheus::Result<String> {
    let mut families = Families::default();
    broker(&mut families, state)?;
    publishing(&mut families, &state.broker.log().counts())?;
    log(&mut families, &state.broker.log().bounds())?;
    streams(&mut families, &state.stream_stats.counts())?;
    lags(&mut families, &state.connections.lags(&**state.broker.log()))?;
    retention(&mut families, &state.broker.retention().counts())?;
    families.to_text()
}

fn broker(families: &mut Families, state: &State) -> prometheus::Result<()> {
    let version = ("version", state.options.version.as_str());
    families.build_info("perennial_build_info", "Always 1; its labels say what runs.", version)?;
    let uptime = state.started.elapsed().as_secs_f64();
    families.gauge("perennial_uptime_seconds", "Time since the start.", uptime)?;
    let streams = state.streams.load(Ordering::Relaxed) as u64;
    families.int_gauge("perennial_streams", "Event streams that are open.", streams)?;
    families.counters(
        "perennial_limited_total",
        "Times that a limit was reached, and somebody refused for it.",
        "limit",
        Limit::ALL.map(|limit| (limit.name(), state.reached.times(limit))),
    )?;
    families.counters(
        "perennial_refusals_total",
        "Requests that were refused, by the code that they were told.",
        "code",
        state.refusals.counts(),
    )?;
    families.counters(
        "perennial_resumes_total",
        "Readings that began from an id: those that went on exactly, and those that were told of a gap, by its reason.",
        "outcome",
        state.resumes.counts(),
    )
}

fn publishing(families: &mut Families, counts: &LogCounts) -> prometheus::Result<()> {
    for (name, help, value) in [
        ("publishes_total", "Publishing requests that were taken, duplicates too.", counts.publishes),
        ("events_published_total", "Events that became durable since the start.", counts.commit_events.sum),
        ("bytes_published_total", "Bytes of those events, as policies count them.", counts.bytes),
        (
            "duplicates_total",
            "Events that were not published again, because their idempotency key had been used for them.",
            counts.duplicates,
        ),
        (
            "packed_segments_total",
            "Files of events that were written anew without what was removed.",
            counts.packed_segments,
        ),
        ("packed_bytes_total", "Bytes of those files before.", counts.packed_bytes),
        ("freed_bytes_total", "Bytes that this gave back to the system.", counts.freed_bytes),
    ] {
        families.counter(&format!("perennial_{name}"), help, value)?;
    }
    families.seconds_counter(
        "perennial_slowed_seconds_total",
        "Time for which publishing was slowed down because the disk was filled faster than it could be given back.",
        counts.slowed,
    )?;
    families.histogram(
        "perennial_commit_events",
        "Events that were made durable together, with one barrier.",
        &counts.commit_events,
        1.0,
    );
    families.histogram(
        "perennial_barrier_seconds",
        "Time that the disk took to make a commit's events durable.",
        &counts.barrier_micros,
        MICROS_PER_SECOND,
    );
    Ok(())
}

fn log(families: &mut Families, bounds: &Bounds) -> prometheus::Result<()> {
    for (name, help, value) in [
        ("perennial_head_sequence", "Sequence of the newest event.", bounds.head.get()),
        ("perennial_events", "Events kept.", bounds.events),
        ("perennial_bytes", "Bytes of the events kept, as policies count them.", bounds.bytes),
        ("perennial_bytes_on_disk", "Bytes that the log takes on disk.", bounds.bytes_on_disk),
    ] {
        families.int_gauge(name, help, value)?;
    }
    Ok(())
}

fn streams(families: &mut Families, counts: &StreamCounts) -> prometheus::Result<()> {
    for (name, help, value) in [
        ("streams_opened_total", "Event streams that were opened.", counts.opened),
        ("stream_bytes_total", "Bytes that event streams said, before TLS and chunks.", counts.bytes),
        (
            "stream_gaps_total",
            "Gaps told to event streams that were under way when history was removed before they got to it.",
            counts.gaps,
        ),
        ("replayed_events_total", "Events that event streams read from the log.", counts.replayed_events),
        ("replayed_bytes_total", "Bytes of those events as they were said.", counts.replayed_bytes),
    ] {
        families.counter(&format!("perennial_{name}"), help, value)?;
    }
    families.histogram(
        "perennial_commit_to_socket_seconds",
        "Time from the begin of an event's commit, its barrier included, until a stream that follows gave it to its socket.",
        &counts.commit_to_socket_micros,
        MICROS_PER_SECOND,
    );
    Ok(())
}

fn lags(families: &mut Families, lags: &Lags) -> prometheus::Result<()> {
    families.gauges(
        "perennial_streams_behind",
        "Event streams that have more than so many events of the log before them.",
        "more_than",
        lags.behind.iter().map(|(events, streams)| (events.to_string(), *streams)),
    )?;
    families.int_gauge(
        "perennial_stream_lag_events",
        "Events of the log that the stream furthest behind has before it.",
        lags.most,
    )
}

fn retention(families: &mut Families, counts: &RetentionCounts) -> prometheus::Result<()> {
    let RetentionCounts { trimmed, superseded, .. } = counts;
    for (name, help, value) in [
        ("passes_total", "Times that policies were carried out.", counts.passes),
        ("steps_total", "Removals that the log was asked for.", counts.steps),
        ("trimmed_events_total", "Events that were trimmed.", trimmed.events),
        ("trimmed_bytes_total", "Bytes of events that were trimmed.", trimmed.bytes),
        ("superseded_events_total", "Events that compaction removed.", superseded.events),
        ("superseded_bytes_total", "Bytes of events that compaction removed.", superseded.bytes),
    ] {
        families.counter(&format!("perennial_retention_{name}"), help, value)?;
    }
    families.seconds_counter("perennial_retention_seconds_total", "Time that removals took.", counts.busy)?;
    families.gauge(
        "perennial_retention_last_pass_seconds",
        "Time that the last pass took, with its rests.",
        counts.last_pass.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests;
