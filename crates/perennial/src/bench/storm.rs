//! `bench storm`: all streams are cut at once and come back with their last id, while publishing goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use serde_json::json;

use super::load::Load;
use super::meter::{Course, histogram};
use super::pace::Pace;
use super::plot::distribution;
use super::reader::Goal;
use super::report::{Report, Verdict, seconds};
use super::session::Session;
use super::stage::Stage;
use crate::cli::BenchStormArgs;

/// Connections that publish.
const PUBLISHERS: usize = 8;
/// Who has not caught up by then will not. Publishing goes on meanwhile, so that there is no silence to judge by.
const RETURN_MAX: Duration = Duration::from_secs(60);

/// How long it took each reader, from the cut on.
struct Return {
    /// Until its new stream began.
    reconnected: Histogram<u64>,
    /// Until it was given the event that was the newest one then.
    caught_up: Histogram<u64>,
    /// How often a reader was turned away and tried again.
    refusals: u64,
    /// When the streams were cut, in seconds since measuring began.
    at: f64,
}

pub(super) async fn measure(args: &BenchStormArgs, session: &Arc<Session>) -> anyhow::Result<Report> {
    let load = Load::beside_readers(session);
    let mut stage = Stage::of_deliveries(session, load, args.readers.get(), PUBLISHERS, Goal::Head);
    stage.fill().await?;
    stage.load.open(PUBLISHERS, false).await?;
    stage.load.start(|number| Pace::timed(args.rate, PUBLISHERS, number));
    let begun = Instant::now();
    stage.begin(Some(args.seconds));
    stage.pass(args.seconds / 2).await?;
    let returned = cut(&mut stage, begun).await?;
    stage.pass(args.seconds.saturating_sub(begun.elapsed())).await?;
    let course = stage.end();
    stage.load.stop().await?;
    let verdict = stage.judge().await?;
    Ok(report(args, session, &returned, course, verdict))
}

/// Cuts all streams, and waits until every reader has caught up.
async fn cut(stage: &mut Stage, begun: Instant) -> anyhow::Result<Return> {
    let cut = Instant::now();
    stage.audience.cut().await;
    stage.audience.come_back();
    let laggards = |stage: &Stage| stage.audience.laggards(|reader| reader.reached.is_some());
    stage.until(|stage| laggards(stage) == 0 || cut.elapsed() > RETURN_MAX).await?;
    if laggards(stage) > 0 {
        bail!("{} readers did not catch up after the cut{}", laggards(stage), stage.audience.refusal());
    }
    Ok(Return {
        reconnected: recorded(&stage.audience.times(|reader| reader.opened, cut)),
        caught_up: recorded(&stage.audience.times(|reader| reader.reached, cut)),
        refusals: stage.audience.refusals(),
        at: (cut - begun).as_secs_f64(),
    })
}

fn recorded(times: &[Duration]) -> Histogram<u64> {
    let mut recorded = histogram();
    for time in times {
        recorded.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
    recorded
}

fn report(
    args: &BenchStormArgs,
    session: &Session,
    returned: &Return,
    course: Course,
    verdict: Verdict,
) -> Report {
    let settings = json!({
        "readers": args.readers,
        "rate": args.rate,
        "size": args.options.size,
        "seconds": seconds(args.seconds),
    });
    let mut report = Report::new("storm", settings, verdict);
    report.latencies("caught_up", "cut to caught up", &returned.caught_up);
    report.latencies("reconnected", "cut to reconnected", &returned.reconnected);
    report.figure("retries", "turned away, and tried again", returned.refusals as f64, "times");
    report.figure("deliveries_per_second", "delivered", course.events_per_second(), "events/s");
    report.course(course, session.threads);
    report.over_time("Deliveries", true);
    for panel in &mut report.panels {
        panel.title += " (the line: all streams are cut)";
        panel.marks.push(returned.at);
    }
    let curves = [("caught up", &returned.caught_up), ("reconnected", &returned.reconnected)];
    report.panels.push(distribution("Readers that were back within, percent", &curves));
    report
}
