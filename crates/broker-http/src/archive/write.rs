//! Writing an archive.

use event_log::{Epoch, EventId, Item, Position};
use serde::Serialize;

use super::VERSION;
use super::facts::{END, EXPORT, End, Export, KEY, KeyFact, TOPIC, TopicFact};
use crate::envelope;

/// Writes the items of an archive as lines.
#[derive(Debug, Default)]
pub struct Writer {
    /// The newest epoch, which every id carries; none before the first item.
    epoch: Option<Epoch>,
}

#[derive(Serialize)]
struct FactLine<T> {
    r#type: &'static str,
    id: String,
    data: T,
}

impl Writer {
    /// Appends an item's line. Panics if the archive does not begin with [`Item::Start`] and its epochs.
    pub fn write(&mut self, lines: &mut Vec<u8>, item: &Item) {
        if let Item::Start { epochs } = item {
            self.epoch = epochs.last().map(|start| start.epoch);
        }
        let epoch = self.epoch.expect("an archive begins with its epochs");
        let id = |position: Position| EventId::new(position, epoch).to_string();
        match item {
            Item::Start { epochs } => {
                let data = Export { version: VERSION, epochs: epochs.iter().map(Into::into).collect() };
                write_fact(lines, EXPORT, id(Position::ORIGIN), data);
            }
            Item::Event(event) => envelope::write(lines, event, epoch),
            Item::Topic(topic) => write_fact(lines, TOPIC, id(topic.last), TopicFact::from(topic)),
            Item::Key(key) => write_fact(lines, KEY, id(key.position), KeyFact::from(key)),
            Item::End { head, time, events } => {
                let data = End { events: *events, time: time.to_string() };
                write_fact(lines, END, id(*head), data);
            }
        }
        lines.push(b'\n');
    }
}

fn write_fact(lines: &mut Vec<u8>, r#type: &'static str, id: String, data: impl Serialize) {
    let line = FactLine { r#type, id, data };
    serde_json::to_writer(lines, &line).expect("a line is made of texts, numbers and lists");
}
