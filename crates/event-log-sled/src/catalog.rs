//! What the log holds, by topic: the topic table, and the index of the events since the last checkpoint.
//!
//! Both are projections of the log. A commit changes them here, in memory; a checkpoint writes what changed since the
//! one before, in one batch; opening reads that back and adds the events after it. So a commit costs one chunk on disk,
//! and the events are the only truth. Topic numbers only grow, in the order in which topics first appeared.

use std::collections::HashMap;

use event_log::{Pattern, Position, Timestamp, Topic, TopicStats};

use crate::keys::{self, TopicNumber};
use crate::rows::{self, Checkpoint, TopicRow};
use crate::store::Writes;

/// Bytes of events after which a checkpoint is due.
const CHECKPOINT_BYTES: u64 = 8 * 1_024 * 1_024;

/// The topics, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    rows: Vec<TopicRow>,
    numbers: HashMap<Box<str>, TopicNumber>,
}

impl Topics {
    /// The table that was written down; the row at index `n` is that of topic `n`.
    pub(crate) fn from_rows(rows: Vec<TopicRow>) -> Self {
        let numbers = rows.iter().zip(0..).map(|(row, number)| (row.topic.as_str().into(), number)).collect();
        Topics { rows, numbers }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn number(&self, name: &str) -> Option<TopicNumber> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn row(&self, number: TopicNumber) -> &TopicRow {
        &self.rows[number as usize]
    }

    pub(crate) fn get(&self, name: &str) -> Option<&TopicRow> {
        self.number(name).map(|number| self.row(number))
    }

    /// The rows from a number on.
    pub(crate) fn since(&self, number: usize) -> impl Iterator<Item = (TopicNumber, &TopicRow)> {
        (0..).zip(&self.rows).skip(number)
    }

    pub(crate) fn stats(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        let wanted = |row: &&TopicRow| pattern.is_none_or(|pattern| pattern.matches(&row.topic));
        let mut stats: Vec<TopicStats> = match pattern.map(Pattern::as_topic) {
            Some(Some(topic)) => self.get(topic.as_str()).map(stats).into_iter().collect(),
            _ => self.rows.iter().filter(wanted).map(stats).collect(),
        };
        stats.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        stats
    }

    fn number_or_new(&mut self, topic: &Topic, position: Position) -> TopicNumber {
        if let Some(number) = self.number(topic.as_str()) {
            return number;
        }
        let number = TopicNumber::try_from(self.rows.len()).expect("fewer than 2^32 topics");
        // The text may be a piece of a whole request: the table keeps a copy that holds nothing else.
        let topic = Topic::parse(topic.as_str().to_owned()).expect("a topic is a topic");
        self.numbers.insert(topic.as_str().into(), number);
        self.rows.push(TopicRow { topic, first: None, last: position, events: 0, bytes: 0 });
        number
    }
}

pub(crate) fn stats(row: &TopicRow) -> TopicStats {
    let TopicRow { topic, first, last, events, bytes } = row.clone();
    TopicStats { topic, first, last, events, bytes }
}

/// The topics, the index since the last checkpoint, and the totals.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) topics: Topics,
    pub(crate) head: Position,
    pub(crate) newest_time: Timestamp,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    unindexed: HashMap<TopicNumber, Vec<Position>>,
    indexed_through: Position,
    indexed_events: u64,
    indexed_bytes: u64,
}

impl Catalog {
    /// What was written down at a checkpoint.
    pub(crate) fn at_checkpoint(checkpoint: Checkpoint, topics: Topics) -> Self {
        Catalog {
            topics,
            head: checkpoint.indexed_through,
            newest_time: checkpoint.newest_time,
            events: checkpoint.events,
            bytes: checkpoint.bytes,
            unindexed: HashMap::new(),
            indexed_through: checkpoint.indexed_through,
            indexed_events: checkpoint.events,
            indexed_bytes: checkpoint.bytes,
        }
    }

    /// Adds the event that comes next.
    pub(crate) fn add(&mut self, topic: &Topic, position: Position, time: Timestamp, weight: usize) {
        assert!(position > self.head, "the event at {position} comes after {}", self.head);
        assert!(time >= self.newest_time, "the time of the event at {position} goes back");
        let number = self.topics.number_or_new(topic, position);
        let row = &mut self.topics.rows[number as usize];
        row.first.get_or_insert(position);
        row.last = position;
        row.events += 1;
        row.bytes += weight as u64;
        (self.head, self.newest_time) = (position, time);
        self.events += 1;
        self.bytes += weight as u64;
        self.unindexed.entry(number).or_default().push(position);
    }

    /// The place up to which the rows of the index go; what comes after it is in memory only.
    pub(crate) fn indexed_through(&self) -> Position {
        self.indexed_through
    }

    /// A topic's positions that are not in rows yet.
    pub(crate) fn unindexed(&self, topic: TopicNumber) -> &[Position] {
        self.unindexed.get(&topic).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn checkpoint_is_due(&self, events_max: usize) -> bool {
        self.events - self.indexed_events >= events_max as u64
            || self.bytes - self.indexed_bytes >= CHECKPOINT_BYTES
    }

    pub(crate) fn has_unindexed(&self) -> bool {
        self.head > self.indexed_through
    }

    /// Puts all that changed since the last checkpoint, and the new checkpoint, into one batch.
    pub(crate) fn put_checkpoint(&self, writes: &mut Writes) {
        for (number, positions) in &self.unindexed {
            for (first, body) in rows::encode_postings(positions) {
                writes.put_sealed(&keys::postings(*number, first), &body);
            }
            writes.put_sealed(&keys::topic(*number), &self.topics.row(*number).encode());
        }
        let checkpoint = Checkpoint {
            indexed_through: self.head,
            newest_time: self.newest_time,
            events: self.events,
            bytes: self.bytes,
        };
        writes.put_sealed(&keys::CHECKPOINT, &checkpoint.encode());
    }

    /// The batch is durable.
    pub(crate) fn checkpointed(&mut self) {
        self.indexed_through = self.head;
        (self.indexed_events, self.indexed_bytes) = (self.events, self.bytes);
        self.unindexed.clear();
    }
}
