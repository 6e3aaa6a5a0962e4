//! `perennial subscribe`: the events of topics on standard output, for ever.
//!
//! It asks for envelopes, since an envelope holds the exact text, where plain data would come back with other line ends.
//! Whatever breaks, it comes back with the last id it has seen, after the time that the broker asked for; only what will
//! not get better by trying again (a 4xx) ends it.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::{Context, bail};
use event_log::limits::PATTERNS_MAX;
use event_log::{EventId, Pattern, Timestamp};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::http::{Server, accepted, block_on, innermost};
use super::output::Output;
use super::sse::{Frame, Parser};
use crate::cli::SubscribeArgs;
use crate::{WrongUsage, tell};

/// How long to wait before coming back, until the broker says otherwise.
const RETRY_DEFAULT: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &SubscribeArgs) -> anyhow::Result<()> {
    check(args)?;
    let server = Server::new(&args.server)?;
    let mut subscription = Subscription {
        args,
        output: Output::stdout(args.cursor.as_deref())?,
        server,
        retry: RETRY_DEFAULT,
        outage_told: false,
    };
    match block_on(subscription.follow()) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        ended => ended,
    }
}

/// Refuses what no broker takes, before one is asked.
fn check(args: &SubscribeArgs) -> Result<(), WrongUsage> {
    let count = args.patterns.len();
    if count > PATTERNS_MAX {
        return Err(WrongUsage(format!(
            "there are {count} patterns; one subscription has 1 to {PATTERNS_MAX}"
        )));
    }
    for pattern in &args.patterns {
        Pattern::parse(pattern.as_str()).map_err(|invalid| WrongUsage(invalid.to_string()))?;
    }
    match args.from.as_deref() {
        Some(from) if !is_place(from) => Err(WrongUsage(format!(
            "--from is {from:?}; it is latest, earliest, -N for the last N events (from -1), an event id such as \
             184467-7f3a9c1e, or an RFC 3339 time such as 2026-01-31T09:30:00Z"
        ))),
        _ => Ok(()),
    }
}

/// Whether a reading can begin there.
fn is_place(text: &str) -> bool {
    let is_count = text.strip_prefix('-').is_some_and(|digits| {
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        is_plain && digits.parse::<NonZeroU64>().is_ok()
    });
    is_count
        || matches!(text, "latest" | "earliest")
        || EventId::parse(text.as_bytes()).is_ok()
        || Timestamp::parse_rfc3339(text).is_ok()
}

/// Nobody reads standard output any more: the work is done.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Subscription<'a> {
    args: &'a SubscribeArgs,
    server: Server,
    output: Output,
    retry: Duration,
    /// The present outage was told of; the next attempts are quiet.
    outage_told: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Gap {
    reason: String,
    requested: String,
    resumed_after: String,
}

#[derive(Deserialize)]
struct Closing {
    reason: String,
}

impl Subscription<'_> {
    async fn follow(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(stream) = self.connect().await? {
                self.read(stream).await?;
            }
            sleep(self.retry).await;
        }
    }

    fn url(&self) -> Url {
        let mut url = self.server.url(&["v1", "events"]);
        let mut query = url.query_pairs_mut();
        for pattern in &self.args.patterns {
            query.append_pair("topic", pattern);
        }
        query.append_pair("envelope", "true");
        if let (Some(from), None) = (&self.args.from, self.output.cursor()) {
            query.append_pair("from", from);
        }
        drop(query);
        url
    }

    /// A stream; `None` if there is none now, but may be later.
    async fn connect(&mut self) -> anyhow::Result<Option<Response>> {
        let mut request = self.server.client().get(self.url()).header(ACCEPT, "text/event-stream");
        if let Some(cursor) = self.output.cursor() {
            request = request.header("last-event-id", cursor);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Err(error).context("the request cannot be made"),
            Err(error) => {
                let unreachable = self.server.unreachable(&error);
                self.tell_of_outage(&unreachable.to_string());
                return Ok(None);
            }
        };
        match accepted(response).await {
            Ok(response) if is_event_stream(&response) => {
                self.outage_told = false;
                Ok(Some(response))
            }
            Ok(response) => bail!(
                "{} answers, but not with an event stream; is this the address of a broker?",
                response.url()
            ),
            Err(refused) if may_pass(refused.status) => {
                self.tell_of_outage(&refused.detail);
                Ok(None)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    fn tell_of_outage(&mut self, why: &str) {
        if !std::mem::replace(&mut self.outage_told, true) {
            tell(&format!("perennial: {why}; trying again every {:?}", self.retry));
        }
    }

    /// Reads one connection to its end, whichever way it ends.
    async fn read(&mut self, mut stream: Response) -> anyhow::Result<()> {
        let mut parser = Parser::default();
        let mut announced = false;
        loop {
            match stream.chunk().await {
                Ok(Some(bytes)) => {
                    for frame in parser.feed(&bytes) {
                        announced |= frame.event == "$closing";
                        self.take(frame)?;
                    }
                    self.output.flush()?;
                }
                Ok(None) if announced => return Ok(()),
                Ok(None) => {
                    self.tell_of_outage("the connection ended");
                    return Ok(());
                }
                Err(error) => {
                    self.tell_of_outage(&format!("the connection broke: {}", innermost(&error)));
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        self.retry = frame.retry.unwrap_or(self.retry);
        let data = frame.data.unwrap_or_default();
        match (frame.event.as_str(), frame.id) {
            ("$open" | "$live" | "$cursor", Some(id)) => self.output.pass(id),
            ("$gap", id) => {
                id.into_iter().for_each(|id| self.output.pass(id));
                self.output.flush()?;
                tell_of_gap(&data)?;
            }
            ("$closing", id) => {
                id.into_iter().for_each(|id| self.output.pass(id));
                self.output.flush()?;
                let closing: Closing =
                    serde_json::from_str(&data).context("a $closing that cannot be read")?;
                tell(&format!(
                    "perennial: the broker ends the stream ({}); back in {:?}",
                    closing.reason, self.retry
                ));
            }
            (_, Some(id)) if self.args.envelope => self.output.event(id, &data),
            (_, Some(id)) => self.output.event(id, &exact_text(&data)?),
            (event, None) => bail!("an event {event:?} came without an id; is this the address of a broker?"),
        }
        Ok(())
    }
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"text/event-stream"))
}

/// Whether a refusal may be another one later.
fn may_pass(status: StatusCode) -> bool {
    let waiting = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    !status.is_client_error() || waiting.contains(&status)
}

/// The data of an envelope as it was published: a JSON string is the text in it, all else is the text itself.
fn exact_text(envelope: &str) -> anyhow::Result<String> {
    let unreadable = "an envelope that cannot be read";
    let envelope: Envelope<'_> = serde_json::from_str(envelope).context(unreadable)?;
    let data = envelope.data.get();
    match data.starts_with('"') {
        true => serde_json::from_str(data).context(unreadable),
        false => Ok(data.to_owned()),
    }
}

fn tell_of_gap(data: &str) -> anyhow::Result<()> {
    let Gap { reason, requested, resumed_after } =
        serde_json::from_str(data).context("a $gap that cannot be read")?;
    let meaning = match reason.as_str() {
        "trimmed" => "events after it were removed",
        "ahead" => "it is newer than the newest event of this log",
        "epoch" => "it is of another history than this log's",
        "malformed" => "it is not an event id",
        _ => "the broker cannot go on from it",
    };
    tell(&format!("perennial: gap ({reason}) at {requested}: {meaning}; going on after {resumed_after}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_text_comes_out_of_an_envelope() {
        for (data, text) in [
            (r#""a\r\nb""#, "a\r\nb"),
            (r#""{\"n\": 1}\n""#, "{\"n\": 1}\n"),
            (r#"{"price": 182.30, "n": 1e2}"#, r#"{"price": 182.30, "n": 1e2}"#),
            ("12345678901234567890123", "12345678901234567890123"),
            ("null", "null"),
            (r#""\u0000é""#, "\0é"),
        ] {
            let envelope =
                format!(r#"{{"id":"1-7f3a9c1e","topic":"a","type":"message","key":null,"data":{data}}}"#);
            assert_eq!(exact_text(&envelope).unwrap(), text);
        }
        assert!(exact_text("not an envelope").is_err());
    }

    #[test]
    fn only_what_will_not_get_better_ends_a_subscription() {
        for (status, passes) in
            [(400, false), (403, false), (404, false), (429, true), (500, true), (503, true)]
        {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), passes, "{status}");
        }
    }

    #[test]
    fn a_place_is_a_word_a_count_an_id_or_a_time() {
        for place in [
            "latest",
            "earliest",
            "-1",
            "-18446744073709551615",
            "0",
            "41-7f3a9c1e",
            "2026-01-31T09:30:00+02:00",
        ] {
            assert!(is_place(place), "{place}");
        }
        for other in [
            "",
            "bogus",
            "Latest",
            "-",
            "-0",
            "-01",
            "--1",
            "-1.5",
            "+5",
            "-18446744073709551616",
            "1-x",
            "2026-01-31",
        ] {
            assert!(!is_place(other), "{other}");
        }
    }
}
