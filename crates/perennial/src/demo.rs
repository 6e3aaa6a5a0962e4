//! The demo: recorded stock trades, played through the broker, and the page that shows them.
//!
//! A row is published with its type, key and data as they were recorded. After a restart the player finds the newest row
//! that the log holds by its exact data and goes on behind it; the idempotency key names that predecessor, so that a
//! retry whose first try had succeeded publishes nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::Broker;
use broker_http::StaticPage;
use event_log::limits::DATA_BYTES_DEFAULT;
use event_log::{
    AppendError, Batch, Data, EventType, Filter, IdempotencyKey, Key, NewEvent, Origin, PageLimit, Pattern,
    Position, Seek, Topic,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

/// What is served beside the API.
pub(crate) const PAGES: [StaticPage; 4] = [
    StaticPage {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: include_bytes!("../demo/index.html"),
    },
    StaticPage {
        path: "/demo/page.css",
        content_type: "text/css; charset=utf-8",
        body: include_bytes!("../demo/page.css"),
    },
    StaticPage {
        path: "/demo/page.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../demo/page.js"),
    },
    StaticPage {
        path: "/demo/icon.svg",
        content_type: "image/svg+xml",
        body: include_bytes!("../demo/icon.svg"),
    },
];

const RECORDING: &str = include_str!("../demo/stock-trades.ndjson");
const ORIGIN: &str = "demo";
const PATTERN: &str = "stocks.*";
/// Rows that a new log gets at once, so that the page has something to show.
const OPENING_ROWS: u64 = 60;
/// How long to wait when the log takes nothing now.
const PATIENCE: Duration = Duration::from_secs(1);
/// A pause is at most so many times the mean one.
const LONGEST_PAUSE: f64 = 4.0;

/// A row as it was recorded. The data is kept as the exact text.
#[derive(Deserialize)]
struct Row<'a> {
    topic: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    key: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The rows, in the order in which they happened.
struct Recording(Vec<Row<'static>>);

/// Where the player is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Played {
    /// The next row.
    row: usize,
    /// The place of the newest row that was played; the origin if there is none.
    after: Position,
}

/// Plays rows for ever, about so many a second, as irregularly as a market does.
pub(crate) async fn play(broker: &Broker, rate: f64) {
    if let Err(error) = try_to_play(broker, rate).await {
        tracing::error!("the demo ends: {error:#}");
    }
}

async fn try_to_play(broker: &Broker, rate: f64) -> anyhow::Result<()> {
    let recording = Recording::load()?;
    let mut played = recording.find_place(broker).await?;
    let mut opening = if played.after == Position::ORIGIN { OPENING_ROWS } else { 0 };
    tracing::info!(row = played.row + 1, rows = recording.0.len(), "the demo plays");
    loop {
        let event = recording.event(played)?;
        match broker.publish(Batch::new(vec![event])).await {
            Ok(receipt) => {
                let after = receipt.events.first().map_or(receipt.head, |answer| answer.position);
                played = Played { row: (played.row + 1) % recording.0.len(), after };
            }
            Err(AppendError::NoSpace { .. } | AppendError::Overloaded) => {
                sleep(PATIENCE).await;
                continue;
            }
            // The broker is stopping; why, others say.
            Err(AppendError::Closed) => return Ok(()),
            Err(error) => return Err(error).context("a row cannot be published"),
        }
        match opening.checked_sub(1) {
            Some(left) => opening = left,
            None => sleep(pause(rate, rand::random())).await,
        }
    }
}

/// Time to the next event of a Poisson process with this rate, with a cap; `chance` is uniform in 0 to 1.
fn pause(rate: f64, chance: f64) -> Duration {
    let means = -(1.0 - chance).ln();
    Duration::from_secs_f64(means.min(LONGEST_PAUSE) / rate)
}

impl Recording {
    fn load() -> anyhow::Result<Self> {
        let rows: Result<Vec<Row<'static>>, _> = RECORDING.lines().map(serde_json::from_str).collect();
        rows.map(Recording).context("the recorded trades cannot be read")
    }

    fn row_of(&self, data: &str) -> Option<usize> {
        self.0.iter().position(|row| row.data.get() == data)
    }

    /// The place behind the newest row that the log holds; the first row if it holds none. Somebody may have published
    /// to the same topics since, so it looks back further and further.
    async fn find_place(&self, broker: &Broker) -> anyhow::Result<Played> {
        let pattern = Pattern::parse(PATTERN)?;
        let origin = Origin::parse(ORIGIN)?;
        let mut reader = broker.log().reader(Arc::new(Filter::new(vec![pattern])));
        let (mut count, mut earliest) = (16, None);
        loop {
            let from = reader.seek(Seek::Last(count)).await?;
            if earliest == Some(from.position) {
                return Ok(Played { row: 0, after: Position::ORIGIN });
            }
            let (mut cursor, mut newest) = (from, None);
            loop {
                let page = reader.read(cursor, PageLimit { events: 512, bytes: 1 << 20 }).await?;
                for event in page.events.iter().filter(|event| event.origin.as_ref() == Some(&origin)) {
                    if let Some(row) = self.row_of(event.data.as_str()) {
                        newest = Some(Played { row: (row + 1) % self.0.len(), after: event.position });
                    }
                }
                cursor = page.next;
                if page.at_head {
                    break;
                }
            }
            if let Some(newest) = newest {
                return Ok(newest);
            }
            (count, earliest) = (count * 16, Some(from.position));
        }
    }

    fn event(&self, played: Played) -> anyhow::Result<NewEvent> {
        let row = self.0.get(played.row).ok_or_else(|| anyhow!("there is no row {}", played.row))?;
        let symbol = row.topic.strip_prefix("trades.").unwrap_or(row.topic);
        Ok(NewEvent {
            topic: Topic::parse(format!("stocks.{symbol}"))?,
            event_type: EventType::parse_published(row.event_type)?,
            key: Some(Key::parse(row.key)?),
            origin: Some(Origin::parse(ORIGIN)?),
            idempotency_key: Some(IdempotencyKey::parse(format!(
                "demo row {} after {}",
                played.row, played.after
            ))?),
            data: Data::parse(row.data.get(), DATA_BYTES_DEFAULT)?,
        })
    }
}

#[cfg(test)]
mod tests;
