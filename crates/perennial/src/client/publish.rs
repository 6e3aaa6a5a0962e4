//! `perennial publish`: an input becomes events, and every id is printed once its event is durable.
//!
//! Nothing is sent twice: when the broker gives no answer, it is unknown whether the request was carried out, and the
//! command fails and says how far it came. An idempotency key makes it safe to run it again.

use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, anyhow};
use event_log::limits::DATA_BYTES_CEILING;
use event_log::{EventType, IdempotencyKey, Invalid, Key, Origin, Topic};
use reqwest::header::CONTENT_TYPE;

use super::batch::{self, Line, Published};
use super::http::{Refused, Server, accepted, block_on};
use super::lines::Lines;
use crate::WrongUsage;
use crate::cli::PublishArgs;

pub(crate) fn run(args: &PublishArgs) -> anyhow::Result<()> {
    check(args)?;
    let server = Server::new(&args.server)?;
    let input = open(args)?;
    match args.ndjson {
        true => block_on(publish_lines(args, &server, input)),
        false => block_on(publish_whole(args, &server, input)),
    }
}

/// Refuses what no broker takes, before one is asked.
fn check(args: &PublishArgs) -> Result<(), WrongUsage> {
    check_topic(&args.topic)?;
    flag("--type", args.event_type.as_deref(), EventType::parse_published)?;
    flag("--key", args.key.as_deref(), Key::parse)?;
    flag("--origin", args.origin.as_deref(), Origin::parse)?;
    let key = args.idempotency_key.as_deref();
    flag("--idempotency-key", key, IdempotencyKey::parse)?;
    // Judged with the longest number that a line can have, so that none is refused in the middle of an input.
    let longest = key.filter(|_| args.ndjson).map(|key| line_key(key, u64::MAX));
    flag("--idempotency-key with the number of a line", longest.as_deref(), IdempotencyKey::parse)
}

/// Refuses a topic that nobody can publish to.
pub(crate) fn check_topic(topic: &str) -> Result<(), WrongUsage> {
    let topic = Topic::parse(topic).map_err(|invalid| WrongUsage(invalid.to_string()))?;
    match topic.is_reserved() {
        true => Err(WrongUsage(format!(
            "topic {:?} starts with $, which only the broker's own topics do; name another one",
            topic.as_str()
        ))),
        false => Ok(()),
    }
}

fn flag<'a, T>(
    name: &str,
    value: Option<&'a str>,
    parse: impl Fn(&'a str) -> Result<T, Invalid>,
) -> Result<(), WrongUsage> {
    match value.map(parse) {
        Some(Err(invalid)) => Err(WrongUsage(format!("{name}: {invalid}"))),
        _ => Ok(()),
    }
}

/// The idempotency key of a line.
fn line_key(key: &str, number: u64) -> String {
    format!("{key}:{number}")
}

fn open(args: &PublishArgs) -> anyhow::Result<Box<dyn Read + Send>> {
    match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(Box::new(file))
        }
        _ => Ok(Box::new(io::stdin())),
    }
}

async fn publish_whole(args: &PublishArgs, server: &Server, mut input: impl Read) -> anyhow::Result<()> {
    let mut data = Vec::new();
    input.read_to_end(&mut data).context("the input cannot be read")?;
    let mut url = server.url(&["v1", "topics", &args.topic, "events"]);
    for (name, value) in [("type", &args.event_type), ("key", &args.key), ("origin", &args.origin)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let mut request = server.client().post(url).header(CONTENT_TYPE, "text/plain; charset=utf-8").body(data);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key.as_bytes());
    }
    let response = request.send().await.map_err(|error| server.unreachable(&error))?;
    let published: Published =
        accepted(response).await?.json().await.context("the broker's answer broke off")?;
    print_ids(&[published])
}

async fn publish_lines(
    args: &PublishArgs,
    server: &Server,
    input: impl Read + Send + 'static,
) -> anyhow::Result<()> {
    let mut lines = Lines::read(input, DATA_BYTES_CEILING);
    let mut done = 0;
    let at_line = |done: u64, error: io::Error| anyhow!("line {}: {error}; {}", done + 1, progress(done));
    while let Some(batch) = lines.batch().await.map_err(|error| at_line(done, error))? {
        let published = send(args, server, &batch.lines, done).await?;
        print_ids(&published)?;
        done += batch.lines.len() as u64;
        if let Some(error) = batch.error {
            return Err(at_line(done, error));
        }
    }
    Ok(())
}

async fn send(
    args: &PublishArgs,
    server: &Server,
    lines: &[String],
    done: u64,
) -> anyhow::Result<Vec<Published>> {
    let mut body = Vec::new();
    for (number, data) in (done + 1..).zip(lines) {
        let line = Line {
            topic: &args.topic,
            data,
            event_type: args.event_type.as_deref(),
            key: args.key.as_deref(),
            origin: args.origin.as_deref(),
            idempotency_key: args.idempotency_key.as_ref().map(|key| line_key(key, number).into()),
        };
        line.write(&mut body);
    }
    batch::publish(server, body).await.map_err(|error| match error.downcast::<Refused>() {
        Ok(refused) => of_input(&refused, done),
        Err(error) => error.context(unknown(done, lines.len())),
    })
}

/// A refusal names the line of its batch; the person knows the lines of the input.
fn of_input(refused: &Refused, done: u64) -> anyhow::Error {
    match refused.line {
        Some(line) => anyhow!("line {}: {refused}; {}", done + line, progress(done)),
        None => anyhow!("{refused}; {}", progress(done)),
    }
}

fn progress(done: u64) -> String {
    match done {
        0 => "nothing was published".to_owned(),
        1 => "line 1 is published, nothing after it".to_owned(),
        done => format!("lines 1 to {done} are published, nothing after them"),
    }
}

fn unknown(done: u64, sent: usize) -> String {
    let first = done + 1;
    format!("it is unknown whether lines {first} to {} are published", done + sent as u64)
}

/// Prints an id a line. Publishing goes on when nobody reads them any more.
fn print_ids(published: &[Published]) -> anyhow::Result<()> {
    let text: String = published.iter().map(|event| format!("{}\n", event.id)).collect();
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the ids cannot be printed")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_line_of_the_input() {
        let refused =
            Refused { status: reqwest::StatusCode::BAD_REQUEST, detail: "no".to_owned(), line: Some(2) };
        assert_eq!(
            of_input(&refused, 500).to_string(),
            "line 502: no; lines 1 to 500 are published, nothing after them"
        );
    }
}
