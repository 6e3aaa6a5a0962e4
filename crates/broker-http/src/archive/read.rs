//! Reading an archive, strictly and in its order, or text that is none.

use std::sync::Arc;

use event_log::{Epoch, Epochs, Event, EventId, Item, NewEvent, Position, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::facts::{self, END, EXPORT, End, Export, KEY, KeyFact, TOPIC, TopicFact};
use super::fields::{Fields, Unreadable, missing};
use super::{VERSION, idempotency_key};

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A piece of an archive.
    Item(Item),
    /// An event to be published, in a text that is no archive. An envelope's has an idempotency key made of its uuid.
    Event(NewEvent),
}

/// Reads lines, one after the other. The first one says whether they are an archive.
#[derive(Debug, Default)]
pub struct Reader {
    part: Part,
    /// What every id of the archive carries.
    epoch: Option<Epoch>,
    /// The newest place that was named.
    newest: Position,
    newest_event: Position,
    newest_time: Timestamp,
    events: u64,
}

/// How far the text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Part {
    #[default]
    Begin,
    /// It is no archive, and has no order.
    Plain,
    Events,
    Facts,
    End,
}

impl Reader {
    /// Reads the next line, with or without its line end; `None` if it is blank.
    pub fn read(&mut self, line: &str) -> Result<Option<Line>, Unreadable> {
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        if line.is_empty() {
            return Ok(None);
        }
        let fields = Fields::parse(line)?;
        let fact = fields.fact().map(str::to_owned);
        match (self.part, fact.as_deref()) {
            (Part::End, _) => {
                Err(Unreadable::new("a line stands behind the archive's $end, which is its last"))
            }
            (Part::Begin, Some(EXPORT)) => self.export(&fields).map(|item| Some(Line::Item(item))),
            (Part::Begin | Part::Plain, None) => self.plain(fields).map(|event| Some(Line::Event(event))),
            (Part::Begin | Part::Plain, Some(fact)) => Err(misplaced(fact)),
            (Part::Events, None) => self.event(fields).map(|item| Some(Line::Item(item))),
            (Part::Facts, None) => {
                Err(Unreadable::new("an event stands behind the archive's $topic and $key lines"))
            }
            (Part::Events | Part::Facts, Some(fact)) => {
                self.fact(fact, &fields).map(|item| Some(Line::Item(item)))
            }
        }
    }

    /// Whether the text is an archive, as far as was read.
    pub fn is_archive(&self) -> bool {
        self.part > Part::Plain
    }

    /// How many events were read.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Judges the end of the text: an archive that was cut off is no archive.
    pub fn end(&self) -> Result<(), Unreadable> {
        match self.part {
            Part::Plain | Part::End => Ok(()),
            Part::Begin => {
                Err(Unreadable::new("it is empty; an archive has at least its $export and its $end"))
            }
            Part::Events | Part::Facts => Err(Unreadable::new(format!(
                "the archive was cut off: it stops after {} events, without its $end line. Export it again",
                self.events
            ))),
        }
    }

    fn export(&mut self, fields: &Fields<'_>) -> Result<Item, Unreadable> {
        let raw = only_data(EXPORT, fields)?;
        let facts::Version { version } = data(EXPORT, raw)?;
        if version != VERSION {
            return Err(Unreadable::new(format!(
                "the archive has version {version}, and this program reads version {VERSION}; import it with the program \
                 that wrote it, or a newer one"
            )));
        }
        let export: Export = data(EXPORT, raw)?;
        let epochs = export.epochs.iter().map(facts::Start::read).collect::<Result<Vec<_>, _>>()?;
        let newest = Epochs::from_starts(epochs.clone())
            .ok_or_else(|| Unreadable::new("the epochs of $export are none, or not in order"))?;
        (self.epoch, self.part) = (Some(newest.current()), Part::Events);
        match self.place(fields)? == Position::ORIGIN {
            true => Ok(Item::Start { epochs }),
            false => Err(Unreadable::new("the id of $export is not the place before the first event")),
        }
    }

    fn event(&mut self, mut fields: Fields<'_>) -> Result<Item, Unreadable> {
        let position = self.place(&fields)?;
        let time = facts::time(&fields.time.take().ok_or_else(|| missing("time"))?)?;
        let uuid = facts::uuid(&fields.uuid.take().ok_or_else(|| missing("uuid"))?)?;
        if fields.idempotency_key.is_some() {
            return Err(Unreadable::new(
                "an event of an archive has no idempotency_key; its $key lines tell of them",
            ));
        }
        if position <= self.newest_event || time < self.newest_time {
            return Err(Unreadable::new(format!(
                "the event at {position} is out of order: it stands behind the one at {}, of {}",
                self.newest_event, self.newest_time
            )));
        }
        let event = Event::place(fields.event()?, position, time, uuid);
        (self.newest, self.newest_event, self.newest_time) = (position, position, time);
        self.events += 1;
        Ok(Item::Event(Arc::new(event)))
    }

    fn fact(&mut self, name: &str, fields: &Fields<'_>) -> Result<Item, Unreadable> {
        let raw = only_data(name, fields)?;
        let place = self.place(fields)?;
        let item = match name {
            TOPIC => {
                let fact: TopicFact = data(name, raw)?;
                if fact.last != place.get() {
                    return Err(Unreadable::new(format!(
                        "the id of $topic is {place}, its last is {}",
                        fact.last
                    )));
                }
                self.newest = self.newest.max(place);
                Item::Topic(fact.read()?)
            }
            KEY => Item::Key(data::<KeyFact>(name, raw)?.read(place)?),
            END => return self.last(place, &data(name, raw)?),
            other => {
                return Err(Unreadable::new(format!(
                    "{other:?} is no line of an archive of version {VERSION}"
                )));
            }
        };
        self.part = Part::Facts;
        Ok(item)
    }

    fn last(&mut self, head: Position, end: &End) -> Result<Item, Unreadable> {
        let time = facts::time(&end.time)?;
        if end.events != self.events {
            return Err(Unreadable::new(format!(
                "the archive is not whole: it has {} events, and its $end says {}. Export it again",
                self.events, end.events
            )));
        }
        if head < self.newest || time < self.newest_time {
            return Err(Unreadable::new(format!(
                "the archive's $end is at {head}, and lies before what it ends"
            )));
        }
        self.part = Part::End;
        Ok(Item::End { head, time, events: end.events })
    }

    /// An event to publish. Its id and time belong to where it comes from.
    fn plain(&mut self, mut fields: Fields<'_>) -> Result<NewEvent, Unreadable> {
        let uuid = fields.uuid.take().map(|text| facts::uuid(&text)).transpose()?;
        let event = fields.event()?;
        self.part = Part::Plain;
        self.events += 1;
        let idempotency_key = event.idempotency_key.or_else(|| uuid.map(idempotency_key));
        Ok(NewEvent { idempotency_key, ..event })
    }

    /// The place that a line's id names, which must be of the archive's newest epoch.
    fn place(&self, fields: &Fields<'_>) -> Result<Position, Unreadable> {
        let text = fields.id.as_deref().ok_or_else(|| missing("id"))?;
        let id = EventId::parse(text.as_bytes())?;
        match id.epoch == self.epoch {
            true => Ok(id.position),
            false => Err(Unreadable::new(format!("the id {text} is not of the archive's newest epoch"))),
        }
    }
}

/// The data of a fact, which has nothing beside its type, id and data.
fn only_data<'a>(name: &str, fields: &Fields<'a>) -> Result<&'a RawValue, Unreadable> {
    let others = [&fields.key, &fields.origin, &fields.time, &fields.uuid, &fields.idempotency_key];
    match fields.data.filter(|_| others.iter().all(|field| field.is_none())) {
        Some(data) => Ok(data),
        None => Err(Unreadable::new(format!("a line {name} has a type, an id and data, and nothing else"))),
    }
}

fn data<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue) -> Result<T, Unreadable> {
    serde_json::from_str(raw.get()).map_err(|error| Unreadable::json(&format!("the data of {name}"), &error))
}

fn misplaced(fact: &str) -> Unreadable {
    Unreadable::new(match fact {
        "$gap" => {
            "the line is a $gap: what was read is not whole. Read it again, or take the line out".to_owned()
        }
        EXPORT => "an archive begins here, in the middle of the text; import it alone".to_owned(),
        TOPIC | KEY | END => format!("a line {fact} without the $export that an archive begins with"),
        other => format!("{other:?} is no event, nor the $export that an archive begins with"),
    })
}
