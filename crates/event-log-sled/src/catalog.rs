//! What the log holds, by topic: the topic table, and the index of the events since the last checkpoint.
//!
//! Both are projections of the log. A commit changes them here, in memory; a checkpoint writes what changed since the
//! one before, in one batch; opening reads that back and adds the events after it. So a commit costs one chunk on disk,
//! and the events are the only truth. Topic numbers only grow, in the order in which topics first appeared.

use std::collections::{BTreeSet, HashMap};

use event_log::{Cursor, Filter, Pattern, Position, Removals, Timestamp, Topic, TopicStats};

use crate::blocks::{self, Blocks};
use crate::keys::{self, TopicNumber};
use crate::postings::{self, Posting};
use crate::removal::Changes;
use crate::rows::{Checkpoint, RemovalRow, TopicRow};
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
        self.rows.push(TopicRow::new(topic, position));
        number
    }
}

pub(crate) fn stats(row: &TopicRow) -> TopicStats {
    let TopicRow { topic, first, last, events, bytes, .. } = row.clone();
    TopicStats { topic, first, last, events, bytes }
}

/// The topics, the index since the last checkpoint, the totals, and what was removed.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) topics: Topics,
    pub(crate) blocks: Blocks,
    pub(crate) head: Position,
    pub(crate) newest_time: Timestamp,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// How many removals were carried out since the log was opened, and one for all before.
    pub(crate) removals: Removals,
    /// The oldest event of each topic that has one.
    firsts: BTreeSet<Position>,
    /// The topics that ever lost something, by the place before which a cursor missed it.
    lost: BTreeSet<(Position, TopicNumber)>,
    /// Topics that came since the last checkpoint, of which no event may be kept.
    new_topics: BTreeSet<TopicNumber>,
    unindexed: HashMap<TopicNumber, Vec<Posting>>,
    indexed_through: Position,
    unindexed_events: usize,
    unindexed_bytes: u64,
}

impl Catalog {
    /// What was written down at a checkpoint.
    pub(crate) fn at_checkpoint(checkpoint: Checkpoint, topics: Topics, blocks: Blocks) -> Self {
        let firsts = topics.rows.iter().filter_map(|row| row.first).collect();
        Catalog {
            topics,
            blocks,
            head: checkpoint.indexed_through,
            newest_time: checkpoint.newest_time,
            events: checkpoint.events,
            bytes: checkpoint.bytes,
            firsts,
            indexed_through: checkpoint.indexed_through,
            ..Catalog::default()
        }
    }

    /// Adds what is known of a topic's removed events. Before any of its events is added.
    pub(crate) fn recall(&mut self, removal: RemovalRow) {
        let number = self.number_or_new(&removal.topic, removal.last);
        let row = &mut self.topics.rows[number as usize];
        row.last = row.last.max(removal.last);
        (row.removed_through, row.missing_through) = (removal.removed_through, removal.missing_through);
        self.removals = Removals::NONE.next();
        row.missing_by = self.removals;
        self.lost.insert((row.missing_through, number));
    }

    /// All events were added: the head is not before the last place of a topic whose events are gone.
    pub(crate) fn raise_head(&mut self) {
        let last = self.topics.rows.iter().map(|row| row.last).max().unwrap_or_default();
        self.head = self.head.max(last);
    }

    /// Adds the event that comes next, which is not removed.
    pub(crate) fn add(&mut self, topic: &Topic, position: Position, time: Timestamp, weight: usize) {
        let number = self.number_of_next(topic, position, time);
        let row = &mut self.topics.rows[number as usize];
        if row.first.is_none() {
            row.first = Some(position);
            self.firsts.insert(position);
        }
        row.events += 1;
        row.bytes += weight as u64;
        self.events += 1;
        self.bytes += weight as u64;
        let weight = weight_of(weight);
        self.blocks.add(position, weight, true);
        self.unindexed.entry(number).or_default().push(Posting { position, weight });
        self.unindexed_events += 1;
        self.unindexed_bytes += u64::from(weight);
    }

    /// Adds the event that comes next, of which only the record is still there.
    pub(crate) fn add_removed(&mut self, topic: &Topic, position: Position, time: Timestamp, weight: usize) {
        self.number_of_next(topic, position, time);
        self.blocks.add(position, weight_of(weight), false);
    }

    fn number_of_next(&mut self, topic: &Topic, position: Position, time: Timestamp) -> TopicNumber {
        assert!(position > self.head, "the event at {position} comes after {}", self.head);
        assert!(time >= self.newest_time, "the time of the event at {position} goes back");
        let number = self.number_or_new(topic, position);
        let row = &mut self.topics.rows[number as usize];
        row.last = row.last.max(position);
        (self.head, self.newest_time) = (position, time);
        number
    }

    fn number_or_new(&mut self, topic: &Topic, position: Position) -> TopicNumber {
        let known = self.topics.len();
        let number = self.topics.number_or_new(topic, position);
        if self.topics.len() > known {
            self.new_topics.insert(number);
        }
        number
    }

    /// The oldest event that is kept.
    pub(crate) fn oldest(&self) -> Option<Position> {
        self.firsts.first().copied()
    }

    /// The place up to which the rows of the index go; what comes after it is in memory only.
    pub(crate) fn indexed_through(&self) -> Position {
        self.indexed_through
    }

    /// A topic's postings that are not in rows yet.
    pub(crate) fn unindexed(&self, topic: TopicNumber) -> &[Posting] {
        self.unindexed.get(&topic).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn checkpoint_is_due(&self, events_max: usize) -> bool {
        self.unindexed_events >= events_max || self.unindexed_bytes >= CHECKPOINT_BYTES
    }

    pub(crate) fn has_unindexed(&self) -> bool {
        self.head > self.indexed_through
    }

    /// Whether wanted events after a cursor were trimmed of which it does not know.
    pub(crate) fn is_missed(&self, filter: &Filter, cursor: Cursor) -> bool {
        let newest = self.lost.last().map_or(Position::ORIGIN, |(place, _)| *place);
        if cursor.removals == self.removals || newest <= cursor.position {
            return false;
        }
        let is_lost =
            |row: &TopicRow| row.missing_through > cursor.position && row.missing_by > cursor.removals;
        let patterns = filter.patterns();
        if let Some(names) = patterns.iter().map(Pattern::as_topic).collect::<Option<Vec<Topic>>>()
            && !names.is_empty()
        {
            return names.iter().any(|name| self.topics.get(name.as_str()).is_some_and(is_lost));
        }
        let lost = self.lost.iter().rev().take_while(|(place, _)| *place > cursor.position);
        lost.map(|(_, number)| self.topics.row(*number))
            .any(|row| is_lost(row) && filter.wants_topic(&row.topic))
    }

    /// How many events are kept after a place; removed ones of the place's own block may be counted.
    pub(crate) fn count_after(&self, place: Position) -> u64 {
        let number = blocks::number_of(place);
        let later: u64 = self.blocks.after(number).map(|block| u64::from(block.live_events)).sum();
        let own_end = blocks::last_of(number).min(self.head);
        let own = own_end.get().saturating_sub(place.get());
        later + own.min(u64::from(self.blocks.get(number).live_events))
    }

    /// Puts all that changed since the last checkpoint, and the new checkpoint, into one batch. `changes` are in the same
    /// batch.
    pub(crate) fn put_checkpoint(&self, changes: &Changes, writes: &mut Writes) {
        for (number, postings) in &self.unindexed {
            let row = changes.topic(*number).unwrap_or_else(|| self.topics.row(*number));
            let kept = postings.partition_point(|posting| posting.position <= row.removed_through);
            for (first, body) in postings::encode(&postings[kept..]) {
                writes.put_sealed(&keys::postings(*number, first), &body);
            }
        }
        for number in self.unindexed.keys().chain(&self.new_topics) {
            let row = changes.topic(*number).unwrap_or_else(|| self.topics.row(*number));
            writes.put_sealed(&keys::topic(*number), &row.encode());
        }
        self.blocks.put_checkpoint(writes);
        let checkpoint = Checkpoint {
            indexed_through: self.head,
            newest_time: self.newest_time,
            events: self.events - changes.events(),
            bytes: self.bytes - changes.bytes(),
        };
        writes.put_sealed(&keys::CHECKPOINT, &checkpoint.encode());
    }

    /// The batch is durable.
    pub(crate) fn checkpointed(&mut self) {
        self.indexed_through = self.head;
        (self.unindexed_events, self.unindexed_bytes) = (0, 0);
        self.unindexed.clear();
        self.new_topics.clear();
        self.blocks.checkpointed();
    }

    /// Makes durable changes visible.
    pub(crate) fn change(&mut self, changes: Changes) {
        self.events -= changes.events();
        self.bytes -= changes.bytes();
        if changes.events() > 0 {
            self.removals = self.removals.next();
        }
        let (topics, blocks) = changes.into_parts();
        for (number, mut row) in topics {
            let old = &mut self.topics.rows[number as usize];
            if old.first != row.first {
                old.first.map(|first| self.firsts.remove(&first));
                self.firsts.extend(row.first);
            }
            if old.missing_through != row.missing_through {
                self.lost.remove(&(old.missing_through, number));
                self.lost.insert((row.missing_through, number));
                row.missing_by = self.removals;
            }
            *old = row;
        }
        for (number, block) in blocks {
            self.blocks.set(number, block);
        }
    }
}

fn weight_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an event is far smaller than 4 GiB")
}
