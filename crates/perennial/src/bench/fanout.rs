//! `bench fanout`: how long an event takes to reach all readers of its topic, and how many deliveries there are a second.

use std::sync::Arc;

use serde_json::json;

use super::load::Load;
use super::meter::{Course, per_second};
use super::pace::Pace;
use super::plot::distribution;
use super::reader::Goal;
use super::report::{Report, Verdict, seconds};
use super::session::Session;
use super::stage::Stage;
use crate::cli::{BenchFanoutArgs, Rate};

/// A rate counts as reached from this share on.
const REACHED: f64 = 0.95;

pub(super) async fn measure(args: &BenchFanoutArgs, session: &Arc<Session>) -> anyhow::Result<Report> {
    let (readers, publishers) = (args.readers.get(), args.publishers);
    let mut stage =
        Stage::of_deliveries(session, Load::beside_readers(session), readers, publishers, Goal::None);
    stage.fill().await?;
    stage.load.open(publishers, false).await?;
    let (published, delivered) = (Arc::clone(&stage.load.meter), Arc::clone(stage.audience.meter()));
    stage.load.start(|number| match args.rate {
        Rate::PerSecond(rate) => Pace::timed(rate, publishers, number),
        Rate::Saturated => Pace::Followed {
            published: Arc::clone(&published),
            delivered: Arc::clone(&delivered),
            readers: readers as u64,
        },
    });
    stage.pass(args.span.warmup).await?;
    stage.begin(Some(args.span.seconds));
    let before = published.events();
    stage.pass(args.span.seconds).await?;
    let events = published.events() - before;
    let course = stage.end();
    stage.load.stop().await?;
    let verdict = stage.judge().await?;
    Ok(report(args, session, events, course, verdict))
}

fn report(
    args: &BenchFanoutArgs,
    session: &Session,
    events: u64,
    course: Course,
    verdict: Verdict,
) -> Report {
    let settings = json!({
        "readers": args.readers,
        "rate": match args.rate {
            Rate::PerSecond(rate) => json!(rate),
            Rate::Saturated => json!("saturated"),
        },
        "publishers": args.publishers,
        "size": args.options.size,
        "seconds": seconds(args.span.seconds),
        "warmup": seconds(args.span.warmup),
    });
    let mut report = Report::new("fanout", settings, verdict);
    let (published, delivered) = (per_second(events, course.length), course.events_per_second());
    report.figure("events_per_second", "published", published, "events/s");
    report.figure("deliveries_per_second", "delivered", delivered, "events/s");
    report.data_rate(delivered, args.options.size);
    report.latencies("latency", "publish to reader", course.latencies());
    if let Rate::PerSecond(rate) = args.rate
        && published < REACHED * rate
    {
        report.notes.push(format!(
            "the rate of {rate} events/s was not reached: more publishers (--publishers) may, if the broker can"
        ));
    }
    let panel = distribution("Deliveries within, percent", &[("deliveries", course.latencies())]);
    report.course(course, session.threads);
    report.over_time("Deliveries", true);
    report.panels.push(panel);
    report
}
