//! The commands that measure a broker.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use broker::units;
use clap::{Args, Subcommand};
use event_log::limits::DATA_BYTES_CEILING;

use super::ServerArgs;
use crate::bench::DATA_BYTES_MIN;
use crate::values::within;

/// Measure a broker, and check every event while measuring
///
///   perennial bench publish --connections 64 --seconds 10
///
///   perennial bench fanout --readers 1000 --rate 100 --svg fanout.svg
///
///   perennial bench replay --events 100000 --readers 4 --json replay.json
///
///   perennial bench storm --readers 1000 --rate 50
///
/// Events go to a topic of their own, which is purged at the end; until then they need room on the
/// broker's disk. An event that is lost, comes twice or out of order ends with exit code 1, whatever
/// the figures are. Publishers and readers run in this process: where it may be the bottleneck, it
/// says so. Plain http only.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Publish(BenchPublishArgs),
    Fanout(BenchFanoutArgs),
    Replay(BenchReplayArgs),
    Storm(BenchStormArgs),
}

/// How many events a second are made durable, and how long an answer takes
///
/// Every connection sends its next request when the last one is answered. At the end the topic is
/// read back once, and must hold exactly what was answered, in order:
///
///   perennial bench publish --connections 64 --batch 100 --size 1KiB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchPublishArgs {
    /// Connections that publish, each with one request in flight
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = connections)]
    pub(crate) connections: usize,
    /// Events of a request; more than one go as a batch of NDJSON
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) batch: NonZeroUsize,
    #[command(flatten)]
    pub(crate) span: BenchSpan,
    #[command(flatten)]
    pub(crate) options: BenchOptions,
}

/// How long an event takes to reach all readers of a topic, and how many deliveries there are a second
///
/// At a rate the latency of an event counts from the moment at which it was due, so that a broker
/// which holds up the publishers does not look better for it. Saturated, publishing goes as fast as
/// the readers can follow:
///
///   perennial bench fanout --readers 1000 --rate saturated
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchFanoutArgs {
    /// Streams that read the topic
    #[arg(long, value_name = "COUNT", default_value = "100")]
    pub(crate) readers: NonZeroUsize,
    /// Events published a second, or saturated
    #[arg(long, value_name = "RATE", default_value = "100", value_parser = rate)]
    pub(crate) rate: Rate,
    /// Connections that publish, each with one request in flight
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = connections)]
    pub(crate) publishers: usize,
    #[command(flatten)]
    pub(crate) span: BenchSpan,
    #[command(flatten)]
    pub(crate) options: BenchOptions,
}

/// How fast history is read from the log
///
/// It publishes the events first, then all readers read them from the first one at once:
///
///   perennial bench replay --events 1000000 --readers 4
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchReplayArgs {
    /// Events of the history
    #[arg(long, value_name = "COUNT", default_value = "100000")]
    pub(crate) events: NonZeroUsize,
    /// Streams that read it
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) readers: NonZeroUsize,
    #[command(flatten)]
    pub(crate) options: BenchOptions,
}

/// How long it takes until everybody is back after all streams were cut
///
/// Publishing goes on meanwhile. Half of the time passes before the cut; then all readers come back
/// at once, each with its Last-Event-ID. One has caught up when it was given the event that was the
/// newest when it came back:
///
///   perennial bench storm --readers 5000 --rate 50
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchStormArgs {
    /// Streams that read the topic
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    pub(crate) readers: NonZeroUsize,
    /// Events published a second
    #[arg(long, value_name = "RATE", default_value = "50", value_parser = rate_per_second)]
    pub(crate) rate: f64,
    /// How long publishing goes on; longer, if not everybody has caught up by then
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
    #[command(flatten)]
    pub(crate) options: BenchOptions,
}

/// How long is measured.
#[derive(Debug, Args)]
pub(crate) struct BenchSpan {
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// How long the same load goes on before that
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds_or_none)]
    pub(crate) warmup: Duration,
}

/// What all measurements share.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Data of each event, in bytes or as in 1KiB: text that does not compress
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = data_bytes)]
    pub(crate) size: usize,
    /// Topic to publish to [default: a new one, bench.NUMBER]
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Keep the topic's events; without it they are purged at the end, unless it had some before. Its name stays listed
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw throughput and latency over time into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Threads that do the work; one more keeps the time [default: half of the processors]
    #[arg(long, value_name = "COUNT", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// How fast publishers go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// So many events a second, all publishers together.
    PerSecond(f64),
    /// As fast as the readers follow.
    Saturated,
}

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "saturated" => Ok(Rate::Saturated),
        _ => rate_per_second(text)
            .map(Rate::PerSecond)
            .map_err(|_| format!("{text:?} is neither saturated nor a rate from 0.1 to 1000000 a second")),
    }
}

fn rate_per_second(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1e6).contains(rate));
    rate.ok_or_else(|| format!("{text:?} is not a rate from 0.1 to 1000000 a second"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    within(seconds_or_none(text)?, Duration::from_millis(100)..=DAY, |length| length.as_secs_f64())
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let length = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let length = length.ok_or_else(|| format!("{text:?} is not a number of seconds, as in 10 or 2.5"))?;
    within(length, Duration::ZERO..=DAY, |length| length.as_secs_f64())
}

const DAY: Duration = Duration::from_secs(86_400);

/// A publisher's number has 16 bits, and nobody needs as many.
fn connections(text: &str) -> Result<usize, String> {
    count(text, 10_000)
}

fn threads(text: &str) -> Result<usize, String> {
    count(text, 1_024)
}

fn count(text: &str, most: usize) -> Result<usize, String> {
    let count = usize::try_from(units::count(text)?).unwrap_or(usize::MAX);
    within(count, 1..=most, |count| count)
}

fn data_bytes(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(units::bytes(text)?).unwrap_or(usize::MAX);
    within(bytes, DATA_BYTES_MIN..=DATA_BYTES_CEILING, |bytes| units::show_bytes(bytes as u64))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str]) -> Result<BenchCommand, String> {
        let cli = Cli::try_parse_from([&["perennial", "bench"], arguments].concat());
        let Command::Bench(args) = cli.map_err(|error| error.to_string())?.command else { panic!() };
        Ok(args.command)
    }

    #[test]
    fn a_rate_is_a_number_or_a_word() {
        for (text, rate) in [("2.5", Rate::PerSecond(2.5)), ("saturated", Rate::Saturated)] {
            let Ok(BenchCommand::Fanout(args)) = parse(&["fanout", "--rate", text]) else { panic!("{text}") };
            assert_eq!(args.rate, rate);
        }
        let Ok(BenchCommand::Storm(args)) = parse(&["storm", "--rate", "7"]) else { panic!() };
        assert_eq!(args.rate, 7.0);
    }

    #[test]
    fn sizes_and_times_are_written_as_people_write_them() {
        let arguments = ["publish", "--size", "1KiB", "--seconds", "0.5", "--warmup", "0", "--batch", "20"];
        let Ok(BenchCommand::Publish(args)) = parse(&arguments) else { panic!() };
        assert_eq!((args.options.size, args.batch.get()), (1_024, 20));
        assert_eq!((args.span.seconds, args.span.warmup), (Duration::from_millis(500), Duration::ZERO));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (arguments, told) in [
            (&["fanout", "--rate", "fast"][..], "neither saturated nor a rate"),
            (&["storm", "--rate", "saturated"], "not a rate"),
            (&["storm", "--rate", "NaN"], "not a rate"),
            (&["publish", "--size", "10"], "it may be 40 to 16MiB"),
            (&["publish", "--seconds", "0"], "it may be 0.1 to"),
            (&["publish", "--seconds", "soon"], "not a number of seconds"),
            (&["publish", "--batch", "0"], "--batch"),
            (&["publish", "--connections", "0"], "it may be 1 to 10000"),
            (&["replay", "--readers", "0"], "--readers"),
            (&["replay", "--events", "many"], "--events"),
            (&["fast"], "fast"),
            (&[], "perennial bench"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(told), "{arguments:?}: {error}");
        }
    }
}
