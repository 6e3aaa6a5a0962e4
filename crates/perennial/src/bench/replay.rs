//! `bench replay`: how fast a history is read from its first event on, by so many readers at once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use event_log::Position;
use serde_json::json;

use super::load::Load;
use super::meter::{Course, per_second};
use super::pace::Pace;
use super::plot::{Curve, Panel};
use super::reader::Goal;
use super::report::{Report, Verdict};
use super::session::Session;
use super::stage::Stage;
use crate::cli::BenchReplayArgs;

/// How the history is published: as fast as that goes on most machines.
const PUBLISHERS: usize = 4;
const BATCH: usize = 500;

/// How long reading took.
struct Reading {
    course: Course,
    /// Each reader, the fastest first.
    times: Vec<Duration>,
}

pub(super) async fn measure(args: &BenchReplayArgs, session: &Arc<Session>) -> anyhow::Result<Report> {
    let readers = args.readers.get();
    let begun = Instant::now();
    let (load, last) = publish(args.events.get() as u64, session).await?;
    let published = per_second(args.events.get() as u64, begun.elapsed());
    let first = load.first().context("nothing was published")?;
    let mut stage = Stage::of_deliveries(session, load, readers, PUBLISHERS, Goal::Event(last));
    stage.expect(args.events.get() as u64 * readers as u64);
    let begun = Instant::now();
    stage.begin(None);
    stage.audience.enter(&first.to_string());
    stage.until(|stage| stage.audience.laggards(|reader| reader.reached.is_some()) == 0).await?;
    let course = stage.end();
    let mut times = stage.audience.times(|reader| reader.reached, begun);
    times.sort_unstable();
    let verdict = stage.judge_up_to(last).await?;
    Ok(report(args, session, published, Reading { course, times }, verdict))
}

/// Publishes the history; the last event is the last one in the log.
async fn publish(events: u64, session: &Arc<Session>) -> anyhow::Result<(Load, Position)> {
    let mut stage = Stage::of_answers(session, PUBLISHERS);
    stage.expect(events);
    stage.load.open(PUBLISHERS, true).await?;
    let left = Arc::new(AtomicU64::new(events - 1));
    // Small histories are shared, too, so that no publisher has nothing to say.
    let batch = BATCH.min((events as usize).div_ceil(PUBLISHERS));
    stage.load.start(|_| Pace::Counted { left: Arc::clone(&left), batch });
    if !stage.until(|stage| stage.load.has_ended()).await? {
        bail!("publishing the history came to a stop");
    }
    let last = stage.load.last().await?;
    Ok((stage.load, last))
}

fn report(
    args: &BenchReplayArgs,
    session: &Session,
    published: f64,
    Reading { course, times }: Reading,
    verdict: Verdict,
) -> Report {
    let (events, readers) = (args.events.get() as u64, args.readers.get() as u64);
    let settings = json!({ "events": events, "readers": readers, "size": args.options.size });
    let mut report = Report::new("replay", settings, verdict);
    let last = times.last().copied().unwrap_or(course.length);
    let all = per_second(events * times.len() as u64, last);
    report.figure("events_per_second", "read by all readers", all, "events/s");
    for (key, name, place) in [
        ("slowest_events_per_second", "read by the slowest reader", times.len().saturating_sub(1)),
        ("median_events_per_second", "read by the median reader", times.len() / 2),
        ("fastest_events_per_second", "read by the fastest reader", 0),
    ] {
        let rate = times.get(place).map_or(0.0, |time| per_second(events, *time));
        report.figure(key, name, rate, "events/s");
    }
    report.data_rate(all, args.options.size);
    report.figure("read_seconds", "until the last reader was done", last.as_secs_f64(), "s");
    report.figure("load_events_per_second", "published before", published, "events/s");
    report.course(course.without_latencies(), session.threads);
    report.over_time("Events read", false);
    report.panels.push(done(&times));
    report
}

/// How many readers were done by when.
fn done(times: &[Duration]) -> Panel {
    let steps = times
        .iter()
        .zip(0_u32..)
        .flat_map(|(time, before)| [before, before + 1].map(|count| (time.as_secs_f64(), f64::from(count))));
    let points = std::iter::once((0.0, 0.0)).chain(steps).collect();
    Panel {
        title: "Readers that are done".to_owned(),
        x: "seconds",
        is_x_logarithmic: false,
        curves: vec![Curve { name: "readers", points }],
        marks: Vec::new(),
    }
}
