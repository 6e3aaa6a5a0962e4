//! Publishing on a connection that stays open. Nothing is sent twice: an answer that did not come is not asked for again.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::adapter::RequestTemplate;
use crate::case::{Stop, fail};
use crate::http::{Connection, request};
use crate::hub::Hub;
use crate::payload::payload;
use crate::template::fill;

/// After so long, a server may be about to close a connection that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// A batch's body stays below this.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// One connection that publishes, one request after the other.
pub(crate) struct Publisher<'a> {
    hub: &'a Hub<'a>,
    connection: Option<(Connection, Instant)>,
}

/// Why an event was not acknowledged.
#[derive(Debug)]
pub(crate) enum Unpublished {
    /// The hub said no.
    Refused(u16, String),
    /// There was no answer: the hub may have the event or not.
    Unanswered(io::Error),
}

impl fmt::Display for Unpublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unpublished::Refused(status, body) => {
                let body: String = body.trim().chars().take(80).collect();
                write!(f, "an event was refused with {status} {body}")
            }
            Unpublished::Unanswered(error) => write!(f, "a publish got no answer: {error}"),
        }
    }
}

impl From<Unpublished> for Stop {
    fn from(error: Unpublished) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(hub: &'a Hub<'a>) -> Self {
        Publisher { hub, connection: None }
    }

    /// Publishes a topic's event `n` with about so many bytes.
    pub(crate) fn publish(&mut self, topic: &str, n: u64, bytes: usize) -> Result<(), Unpublished> {
        self.publish_text(topic, &payload(topic, n, bytes))
    }

    /// Publishes any text.
    pub(crate) fn publish_text(&mut self, topic: &str, text: &str) -> Result<(), Unpublished> {
        let values = [("topic", topic), ("payload", text)];
        self.send(&self.hub.adapter.publish, &values)
    }

    /// Publishes a range of events, many at once if the hub can.
    pub(crate) fn publish_range(
        &mut self,
        topic: &str,
        range: std::ops::RangeInclusive<u64>,
        bytes: usize,
    ) -> Result<(), Stop> {
        let Some(batch) = &self.hub.adapter.batch else {
            for n in range {
                self.publish(topic, n, bytes)?;
            }
            return Ok(());
        };
        let at_once = batch.events_max.min((BATCH_BYTES_MAX / (bytes + 200)) as u64).max(1);
        let (mut next, last) = (*range.start(), *range.end());
        while next <= last {
            let end = last.min(next + at_once - 1);
            let items = (next..=end)
                .map(|n| fill(&batch.item, &[("topic", topic), ("payload", &payload(topic, n, bytes))]))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let items = items.join(&batch.separator);
            self.send(&batch.request, &[("topic", topic), ("items", &items)])?;
            next = end + 1;
        }
        Ok(())
    }

    /// Sends a request, which must succeed.
    pub(crate) fn send(
        &mut self,
        template: &RequestTemplate,
        values: &[(&str, &str)],
    ) -> Result<(), Unpublished> {
        let (status, body) = self.ask(template, values).map_err(Unpublished::Unanswered)?;
        if template.ok.contains(&status) { Ok(()) } else { Err(Unpublished::Refused(status, body)) }
    }

    fn ask(&mut self, template: &RequestTemplate, values: &[(&str, &str)]) -> io::Result<(u16, String)> {
        let filled = |text: &str| fill(text, values).map_err(io::Error::other);
        let headers = template.headers.iter().map(|header| filled(header)).collect::<io::Result<Vec<_>>>()?;
        let (path, body) = (filled(&template.path)?, filled(&template.body)?);
        let bytes = request(&template.method, &path, self.hub.port(), &headers, body.as_bytes());
        let patience = self.hub.adapter.patience();
        let kept = self.connection.take().filter(|(_, used)| used.elapsed() < IDLE_MAX);
        let mut connection = match kept {
            Some((connection, _)) => connection,
            None => Connection::open(self.hub.port(), None)?,
        };
        connection.send(&bytes, patience)?;
        let deadline = Instant::now() + patience;
        let head = connection.head(deadline)?;
        let body = connection.rest(deadline)?;
        let closes = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let delimited = head.header("content-length").or(head.header("transfer-encoding")).is_some();
        if !closes && (delimited || head.status == 204) {
            self.connection = Some((connection, Instant::now()));
        }
        Ok((head.status, body))
    }
}

/// Publishes a topic's events one by one, as fast as they are answered, until told to end; says how many there are then.
pub(crate) fn publish_until(
    hub: &Hub,
    topic: &str,
    first: u64,
    bytes: usize,
    told: &std::sync::atomic::AtomicU64,
    end: &std::sync::atomic::AtomicBool,
) -> Result<u64, Stop> {
    use std::sync::atomic::Ordering::SeqCst;
    let mut publisher = Publisher::new(hub);
    let mut n = first;
    while !end.load(SeqCst) {
        if let Err(error) = publisher.publish(topic, n, bytes) {
            return fail(error.to_string());
        }
        told.store(n, SeqCst);
        n += 1;
    }
    Ok(n - 1)
}
