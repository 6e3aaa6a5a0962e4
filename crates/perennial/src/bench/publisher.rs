//! One connection that publishes: it makes its requests, and notes what place each event was given.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use event_log::{EventId, Position};
use serde::Deserialize;

use super::http::{Connection, detail};
use super::ledger::{Faults, Tally};
use super::meter::Meter;
use super::pace::{Pace, Turn};
use super::payload::{Payload, Stamp};
use super::session::Session;
use tokio_util::sync::CancellationToken;

/// A publisher, with all that it was answered.
pub(super) struct Publisher {
    pub(super) number: u16,
    connection: Connection,
    request: Request,
    /// The ids of its first and its newest event.
    pub(super) ends: Option<(EventId, EventId)>,
    pub(super) tally: Tally,
    pub(super) faults: Faults,
}

impl Publisher {
    /// Opens a connection; batches go as NDJSON to one address, single events to that of the topic.
    pub(super) async fn open(session: &Session, number: u16, is_batch: bool) -> anyhow::Result<Self> {
        Ok(Publisher {
            number,
            connection: Connection::open(session.address.clone()).await?,
            request: Request::new(session, is_batch),
            ends: None,
            tally: Tally::default(),
            faults: Faults::default(),
        })
    }

    /// Publishes at this pace until it is over.
    pub(super) async fn run(
        mut self,
        session: Arc<Session>,
        mut pace: Pace,
        meter: Arc<Meter>,
        over: CancellationToken,
    ) -> anyhow::Result<Self> {
        while let Some(turn) = pace.next(&over).await {
            self.publish(&session, turn, &meter).await?;
        }
        Ok(self)
    }

    /// Publishes the events of one turn.
    async fn publish(&mut self, session: &Session, turn: Turn, meter: &Meter) -> anyhow::Result<()> {
        self.connection.refresh().await?;
        let stamp =
            Stamp { publisher: self.number, number: self.tally.events, nanos: session.nanos(turn.since) };
        let bytes = self.request.of(&session.payload, stamp, turn.events);
        let (status, body) = self.connection.exchange(bytes).await.context("publishing failed")?;
        let latency = turn.since.elapsed();
        if status != 201 {
            bail!("publishing was refused: {}", detail(status, body));
        }
        let ids = answered(body, self.request.is_batch)?;
        ensure!(ids.len() == turn.events, "{} events were answered with {} ids", turn.events, ids.len());
        ids.into_iter().for_each(|id| self.note(id));
        let mut counts = meter.part();
        counts.events += turn.events as u64;
        counts.requests += 1;
        counts.latency(latency);
        meter.advance(turn.events as u64);
        Ok(())
    }

    /// Notes the id of the next event.
    fn note(&mut self, id: EventId) {
        if self.ends.is_some_and(|(_, newest)| id.position <= newest.position) {
            self.faults.misplaced += 1;
        }
        self.tally.add(id.position, self.number, self.tally.events);
        self.ends = Some((self.ends.map_or(id, |(first, _)| first), id));
    }

    /// The place of its newest event.
    pub(super) fn newest(&self) -> Position {
        self.ends.map_or(Position::ORIGIN, |(_, newest)| newest.position)
    }
}

/// The bytes of a request, written anew each time into the same room.
struct Request {
    is_batch: bool,
    /// Up to the value of `Content-Length`.
    head: String,
    /// What stands before and behind the data of each event.
    before: String,
    after: &'static str,
    bytes: Vec<u8>,
}

impl Request {
    fn new(session: &Session, is_batch: bool) -> Self {
        let topic = session.topic.as_str();
        let (url, content_type, before, after) = match is_batch {
            true => {
                let name = serde_json::Value::from(topic);
                let before = format!("{{\"topic\":{name},\"data\":\"");
                (session.server.url(&["v1", "events"]), "application/x-ndjson", before, "\"}\n")
            }
            false => {
                (session.server.url(&["v1", "topics", topic, "events"]), "text/plain", String::new(), "")
            }
        };
        let head = session.address.request("POST", &url);
        let head = format!("{head}Content-Type: {content_type}\r\nContent-Length: ");
        Request { is_batch, head, before, after, bytes: Vec::new() }
    }

    /// The request for so many events, from the one with this stamp on.
    fn of(&mut self, payload: &Payload, first: Stamp, events: usize) -> &[u8] {
        let Request { head, before, after, bytes, .. } = self;
        let length = events * (before.len() + payload.bytes() + after.len());
        bytes.clear();
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(format!("{length}\r\n\r\n").as_bytes());
        for number in (first.number..).take(events) {
            bytes.extend_from_slice(before.as_bytes());
            let begin = bytes.len();
            bytes.resize(begin + payload.bytes(), 0);
            payload.write(Stamp { number, ..first }, &mut bytes[begin..]);
            bytes.extend_from_slice(after.as_bytes());
        }
        bytes
    }
}

/// The ids in the answer to one event, or to a batch.
fn answered(body: &[u8], is_batch: bool) -> anyhow::Result<Vec<EventId>> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        events: Vec<Event<'a>>,
    }
    let events = match is_batch {
        true => serde_json::from_slice(body).map(|Batch { events }| events),
        false => serde_json::from_slice(body).map(|event| vec![event]),
    };
    let events = events.context("the answer is not that of published events; is this a broker?")?;
    events.iter().map(|event| Ok(EventId::parse(event.id.as_bytes())?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_both_shapes_of_answers() {
        let id = |text: &str| EventId::parse(text.as_bytes()).unwrap();
        let single = br#"{"id":"7-7f3a9c1e","sequence":7,"topic":"t","duplicate":false}"#;
        assert_eq!(answered(single, false).unwrap(), [id("7-7f3a9c1e")]);
        let batch = br#"{"events":[{"id":"8-7f3a9c1e"},{"id":"10-7f3a9c1e"}],"head":"10-7f3a9c1e"}"#;
        assert_eq!(answered(batch, true).unwrap(), [id("8-7f3a9c1e"), id("10-7f3a9c1e")]);
        for (body, is_batch) in [(&single[..], true), (batch, false), (br#"{"id":"x"}"#, false), (b"", true)]
        {
            assert!(answered(body, is_batch).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
