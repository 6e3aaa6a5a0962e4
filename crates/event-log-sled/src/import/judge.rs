//! Whether the items of an archive fit together, before a log is made of them.
//!
//! What a log says of itself is true; an archive says what anybody wrote. A log that was opened on something that does not fit
//! together would find it out later, when it publishes, and could only stop then.

use std::collections::{BTreeMap, HashMap, HashSet};

use event_log::{ArchivedKey, ArchivedTopic, Epochs, Event, Item, Position, Timestamp, Topic, limits};

/// The items so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    epochs: Option<Epochs>,
    events: u64,
    last: Position,
    last_time: Timestamp,
    /// The newest event of each topic.
    newest: HashMap<Topic, Position>,
    /// What is said of each topic: the last place, and up to where events are missing.
    topics: BTreeMap<Topic, (Position, Position)>,
    /// The places of keys.
    keys: HashSet<Position>,
    end: Option<(Position, Timestamp, u64)>,
}

impl Judge {
    /// Takes the next item; what is wrong with it is returned.
    pub(super) fn take(&mut self, item: &Item) -> Result<(), String> {
        match (item, &self.epochs, self.end) {
            (Item::Start { epochs }, None, None) => {
                let epochs = Epochs::from_starts(epochs.clone()).ok_or("its epochs are out of order")?;
                self.epochs = Some(epochs);
                Ok(())
            }
            (_, None, _) => Err("it does not begin with its epochs".to_owned()),
            (_, _, Some(_)) => Err("something follows its end".to_owned()),
            (Item::Start { .. }, Some(_), _) => Err("it begins twice".to_owned()),
            (Item::Event(event), ..) => self.event(event),
            (Item::Topic(topic), ..) => self.topic(topic),
            (Item::Key(key), ..) => self.key(key),
            (Item::End { head, time, events }, ..) => {
                self.end = Some((*head, *time, *events));
                Ok(())
            }
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        if event.position <= self.last || event.time < self.last_time {
            return Err(format!(
                "the event at {} does not come after the one at {}",
                event.position, self.last
            ));
        }
        (self.last, self.last_time) = (event.position, event.time);
        self.events += 1;
        match self.newest.get_mut(&event.topic) {
            Some(newest) => *newest = event.position,
            // The text may be a piece of something larger.
            None => drop(self.newest.insert(copied(&event.topic), event.position)),
        }
        Ok(())
    }

    fn topic(&mut self, archived: &ArchivedTopic) -> Result<(), String> {
        let ArchivedTopic { topic, last, removed_through, missing_through } = archived;
        if removed_through > missing_through || missing_through > last {
            return Err(format!("what was removed of topic {topic} is out of order"));
        }
        match self.topics.insert(copied(topic), (*last, *missing_through)) {
            None => Ok(()),
            Some(_) => Err(format!("topic {topic} is told of twice")),
        }
    }

    fn key(&mut self, key: &ArchivedKey) -> Result<(), String> {
        match self.keys.insert(key.position) {
            true => Ok(()),
            false => Err(format!("the event at {} has two idempotency keys", key.position)),
        }
    }

    /// Judges the whole: the epochs, and the newest place and time.
    pub(super) fn end(&self) -> Result<(&Epochs, Position, Timestamp), String> {
        let (Some(epochs), Some((head, time, events))) = (&self.epochs, self.end) else {
            return Err("it ends too early".to_owned());
        };
        if events != self.events {
            return Err(format!("it promises {events} events, and {} came", self.events));
        }
        let last = self.lasts()?.fold(self.last, Position::max);
        if head != last {
            return Err(format!("its head is {head}, and its events end at {last}"));
        }
        if time < self.last_time {
            return Err(format!("the time of its end, {time}, is before that of its last event"));
        }
        if let Some(start) = epochs.starts().last().filter(|start| start.after > head) {
            return Err(format!("its epoch {} begins after {}, behind its end", start.epoch, start.after));
        }
        if let Some(key) = self.keys.iter().find(|key| !(Position::new(1)..=head).contains(key)) {
            return Err(format!("an idempotency key is that of an event at {key}, and its head is {head}"));
        }
        match u64::MAX - head.get() < limits::PLACES_BEHIND_IMPORT_MIN {
            true => Err(format!("its head is {head}, which leaves no places for what is published next")),
            false => Ok((epochs, head, time)),
        }
    }

    /// The last place of each topic that is told of: that of its newest event, unless that is missing.
    fn lasts(&self) -> Result<impl Iterator<Item = Position>, String> {
        for (topic, (last, missing)) in &self.topics {
            let newest = self.newest.get(topic).copied().unwrap_or_default();
            if newest > *last || (newest < *last && missing < last) || *last == Position::ORIGIN {
                return Err(format!(
                    "the last event of topic {topic} is said to be at {last}, and is at {newest}"
                ));
            }
        }
        Ok(self.topics.values().map(|(last, _)| *last))
    }
}

fn copied(topic: &Topic) -> Topic {
    Topic::parse(topic.as_str().to_owned()).expect("a topic is a topic")
}
