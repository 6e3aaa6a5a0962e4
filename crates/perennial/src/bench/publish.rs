//! `bench publish`: how many events a second are made durable by so many connections, and how long an answer takes.

use std::sync::Arc;

use anyhow::Context;
use broker::units::show_bytes;
use event_log::limits::BATCH_BYTES_CEILING;
use serde_json::json;

use super::meter::Course;
use super::pace::Pace;
use super::plot::distribution;
use super::report::{Report, Verdict, seconds};
use super::session::Session;
use super::stage::Stage;
use crate::WrongUsage;
use crate::cli::BenchPublishArgs;

/// Refuses what no broker takes, before one is asked.
pub(super) fn check(args: &BenchPublishArgs) -> Result<(), WrongUsage> {
    let bytes = args.batch.get().saturating_mul(args.options.size);
    match bytes <= BATCH_BYTES_CEILING {
        true => Ok(()),
        false => Err(WrongUsage(format!(
            "--batch {} of --size {} is more than {}, the most that any broker takes",
            args.batch,
            args.options.size,
            show_bytes(BATCH_BYTES_CEILING as u64)
        ))),
    }
}

pub(super) async fn measure(args: &BenchPublishArgs, session: &Arc<Session>) -> anyhow::Result<Report> {
    let batch = args.batch.get();
    let mut stage = Stage::of_answers(session, args.connections);
    stage.load.open(args.connections, batch > 1).await?;
    stage.load.start(|_| Pace::Answered { batch });
    stage.pass(args.span.warmup).await?;
    stage.begin(Some(args.span.seconds));
    stage.pass(args.span.seconds).await?;
    let course = stage.end();
    stage.load.stop().await?;
    let verdict = read_back(&mut stage).await?;
    Ok(report(args, session, course, verdict))
}

/// Reads the topic once, from the first event that was answered.
async fn read_back(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let last = stage.load.last().await?;
    let first = stage.load.first().context("nothing was published")?;
    stage.audience.enter(&first.to_string());
    stage.judge_up_to(last).await
}

fn report(args: &BenchPublishArgs, session: &Session, course: Course, verdict: Verdict) -> Report {
    let settings = json!({
        "connections": args.connections,
        "batch": args.batch,
        "size": args.options.size,
        "seconds": seconds(args.span.seconds),
        "warmup": seconds(args.span.warmup),
    });
    let mut report = Report::new("publish", settings, verdict);
    let events = course.events_per_second();
    report.figure("events_per_second", "published", events, "events/s");
    report.figure("requests_per_second", "answered", course.requests_per_second(), "requests/s");
    report.data_rate(events, args.options.size);
    report.latencies("latency", "request to answer", course.latencies());
    let panel = distribution("Requests answered within, percent", &[("requests", course.latencies())]);
    report.course(course, session.threads);
    report.over_time("Events published", true);
    report.panels.push(panel);
    report
}
