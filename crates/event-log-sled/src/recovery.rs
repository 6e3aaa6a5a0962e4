//! Opening: from what is on disk to the view, and how the projections are made anew.
//!
//! The projections are read as of their checkpoint, and the chunks after it are read again, so opening takes as long for
//! ten million events as for ten thousand. Where the checkpoint or the topic table is missing or damaged, all
//! projections are thrown away and made from the chunks; the epochs are no projection, nor are the events.

use std::path::Path;
use std::time::{Duration, Instant};

use event_log::{Clock, Epoch, Epochs, Position, ReadError, Timestamp};

use crate::blocks::{self, Block, BlockNumber, Blocks};
use crate::catalog::{Catalog, Topics};
use crate::chunk::Chunk;
use crate::dead;
use crate::fresh::Fresh;
use crate::idempotency::{self, Used};
use crate::keys::{self, TopicNumber};
use crate::removal::Changes;
use crate::rows::{self, Checkpoint, RemovalRow, TopicRow};
use crate::segments::recover;
use crate::shared::View;
use crate::store::{Store, Writes, guarded};
use crate::witness::{Testimony, Witness};
use crate::{OpenError, SledOptions};

/// Rows that are removed in one batch.
const REMOVED_AT_ONCE: usize = 16_384;
/// How often a long reading of events says how far it has come.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// A log that is ready to serve.
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) view: View,
    pub(crate) used: Used,
    pub(crate) witness: Witness,
}

/// What is known of a log before it is opened.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// The process before did not close it.
    pub(crate) is_left: bool,
    /// The time of its newest event is not before this.
    pub(crate) newest_time: Timestamp,
}

/// Opens the store of a directory whose lock is held.
pub(crate) fn recover(
    options: &SledOptions,
    clock: &dyn Clock,
    found: Found,
) -> Result<Recovered, OpenError> {
    // sled syncs when it is let go after something went wrong here, and panics if it cannot.
    guarded("opened", || try_to_recover(options, clock, found)).map_err(OpenError::Damaged)?
}

fn try_to_recover(options: &SledOptions, clock: &dyn Clock, found: Found) -> Result<Recovered, OpenError> {
    let data = &options.directory;
    let (witness, testimony) =
        Witness::open(data).map_err(|error| OpenError::io("open the witness file in", data, error))?;
    // Who restores an older copy says so, and then the witness may know of more.
    let testimony = testimony.filter(|_| !options.restored);
    let store = Store::open(options, testimony.map(|testimony| testimony.head), found.is_left)?;
    let used = Used::new(options.key_bucket_entries);
    let recovery = Recovery { store: &store, options, clock, witness, used, is_checkpointed: false };
    let recovered = guarded("read", || recovery.run(testimony, found.newest_time));
    let (view, used, witness) = recovered.map_err(OpenError::Damaged)??;
    tracing::info!(head = %view.epochs.id(view.catalog.head), events = view.catalog.events, "the log is open");
    Ok(Recovered { store, view, used, witness })
}

struct Recovery<'a> {
    store: &'a Store,
    options: &'a SledOptions,
    clock: &'a dyn Clock,
    witness: Witness,
    used: Used,
    /// What is read are the events since a checkpoint, and not all there are.
    is_checkpointed: bool,
}

impl Recovery<'_> {
    fn run(
        mut self,
        testimony: Option<Testimony>,
        newest_time: Timestamp,
    ) -> Result<(View, Used, Witness), OpenError> {
        let data = &self.options.directory;
        let found = self.newest_chunk().map_err(open_error)?;
        let epochs = self.epochs(found)?;
        let catalog = match self.projections().map_err(open_error)? {
            Ok(catalog) if !Store::rebuild_is_asked_for(data) => {
                refuse_shorter(testimony, &epochs, found.unwrap_or_default().max(catalog.head))?;
                // What was removed is in the store only, so one that is older than the events will not do either, nor one from
                // before its first checkpoint: whatever is witnessed was in a checkpoint.
                refuse_shorter(testimony, &epochs, catalog.indexed_through())?;
                self.is_checkpointed = catalog.indexed_through() > Position::ORIGIN;
                catalog
            }
            Ok(_) => self.rebuild("it was found damaged before", data)?,
            Err(why) => self.rebuild(&why, data)?,
        };
        refuse_shorter(testimony, &epochs, found.unwrap_or_default().max(catalog.head))?;
        let mut catalog = catalog;
        self.replay(&mut catalog).map_err(open_error)?;
        catalog.raise_head();
        catalog.newest_time = catalog.newest_time.max(newest_time);
        let epochs = self.begin_epoch(epochs, &catalog)?;
        let fresh = Fresh::new(catalog.head, self.options.recent_bytes);
        Ok((View { epochs, catalog, fresh }, self.used, self.witness))
    }

    /// The last place that the chunks hold.
    fn newest_chunk(&self) -> Result<Option<Position>, ReadError> {
        let Some(chunk) = self.store.chunk_at(Position::new(u64::MAX))? else { return Ok(None) };
        let mut last = chunk.first();
        for record in chunk.records() {
            last = record?.position();
        }
        Ok(Some(last))
    }

    /// The list of epochs, which begins with a new log.
    fn epochs(&self, newest: Option<Position>) -> Result<Epochs, OpenError> {
        let body = self.store.get_sealed(&keys::EPOCHS).map_err(open_error)?;
        match body.map(|body| body.and_then(|body| rows::decode_epochs(&body))) {
            Some(Ok(epochs)) => Ok(epochs),
            Some(Err(what)) => Err(OpenError::Damaged(format!("the list of epochs: {what}"))),
            None if newest.is_some() => Err(OpenError::Damaged("the list of epochs is missing".to_owned())),
            None => {
                let epochs = Epochs::first(new_epoch(None));
                self.write_epochs(&epochs)?;
                Ok(epochs)
            }
        }
    }

    fn write_epochs(&self, epochs: &Epochs) -> Result<(), OpenError> {
        let mut writes = Writes::default();
        writes.put_sealed(&keys::EPOCHS, &rows::encode_epochs(epochs));
        self.store.write(writes).map_err(open_error)
    }

    /// What the last checkpoint wrote down. The inner error says why that cannot be used.
    fn projections(&mut self) -> Result<Result<Catalog, String>, ReadError> {
        let checkpoint = match self.store.get_sealed(&keys::CHECKPOINT)? {
            Some(body) => body.and_then(|body| Checkpoint::decode(&body)),
            // Before the first checkpoint there are no projections at all.
            None => match self.store.rows(keys::TOPIC).chain(self.store.rows(keys::POSTINGS)).next() {
                None => Ok(Checkpoint::default()),
                Some(_) => Err("the checkpoint is missing".to_owned()),
            },
        };
        let checkpoint = match checkpoint {
            Ok(checkpoint) => checkpoint,
            Err(why) => return Ok(Err(why)),
        };
        let rows = match (self.topic_rows()?, self.block_rows()?) {
            (Ok(topics), Ok(blocks)) => check_totals(checkpoint, topics, blocks),
            (Err(why), _) | (_, Err(why)) => Err(why),
        };
        let Ok(mut catalog) = rows else { return Ok(rows) };
        match Used::load(self.store, self.options.key_bucket_entries)? {
            Ok(used) => self.used = used,
            Err(why) => return Ok(Err(why)),
        }
        self.recall(&mut catalog)?;
        Ok(Ok(catalog))
    }

    fn topic_rows(&self) -> Result<Result<Vec<TopicRow>, String>, ReadError> {
        let mut topics = Vec::new();
        for row in self.store.rows(keys::TOPIC) {
            let (key, value) = row?;
            let expected = TopicNumber::try_from(topics.len()).unwrap_or(TopicNumber::MAX);
            if keys::read_topic(&key) != Some(expected) {
                return Ok(Err(format!("the row of topic {expected} is missing")));
            }
            match rows::unseal(&key, &value).and_then(TopicRow::decode) {
                Ok(topic) => topics.push(topic),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(topics))
    }

    fn block_rows(&self) -> Result<Result<Blocks, String>, ReadError> {
        let mut blocks = Vec::new();
        for row in self.store.rows(keys::BLOCK) {
            let (key, value) = row?;
            let block = rows::unseal(&key, &value).and_then(rows::decode_block);
            match (keys::read_block(&key), block) {
                (Some(number), Ok(block)) => blocks.push((number, block)),
                (None, _) => return Ok(Err(format!("the row {key:02x?} is no block"))),
                (_, Err(why)) => return Ok(Err(why)),
            }
        }
        Ok(Ok(Blocks::from_rows(blocks)))
    }

    /// Adds what was removed of each topic. These rows are no projection: damage here is damage of the log.
    fn recall(&self, catalog: &mut Catalog) -> Result<(), ReadError> {
        for row in self.store.rows(keys::REMOVAL) {
            let (key, value) = row?;
            let removal = rows::unseal(&key, &value).and_then(RemovalRow::decode);
            let removal = removal.map_err(|what| {
                ReadError::Damaged(format!("what was removed of a topic can no longer be told: {what}"))
            })?;
            catalog.recall(removal);
        }
        Ok(())
    }

    /// Throws the projections away and makes them from all chunks.
    fn rebuild(&mut self, why: &str, data: &Path) -> Result<Catalog, OpenError> {
        tracing::warn!(why, "the index cannot be used; it is made anew from all events");
        // However far this comes, the next start begins it again, until it was done wholly.
        Store::mark_rebuild(data).map_err(|error| OpenError::io("leave a mark in", data, error))?;
        let mut writes = Writes::default();
        writes.remove(&keys::CHECKPOINT);
        self.store.write(writes).map_err(open_error)?;
        let projections =
            [keys::POSTINGS, keys::TOPIC, keys::BLOCK, keys::NEWEST, keys::TOMBSTONE, keys::BUCKET];
        for kind in projections {
            self.remove_all(kind, |_, _| true).map_err(open_error)?;
        }
        // A key outlives its event, so its row stays if it is whole; those of events that are kept are made anew.
        self.remove_all(keys::USED, is_damaged_key).map_err(open_error)?;
        let used = Used::load(self.store, self.options.key_bucket_entries);
        self.used = used.map_err(open_error)?.map_err(OpenError::Damaged)?;
        self.used.is_rebuild = true;
        let mut catalog = Catalog::default();
        self.recall(&mut catalog).map_err(open_error)?;
        self.count_dead(&mut catalog).map_err(open_error)?;
        self.replay(&mut catalog).map_err(open_error)?;
        catalog.raise_head();
        self.checkpoint(&mut catalog).map_err(open_error)?;
        let mut writes = Writes::default();
        self.used.end_rebuild(&mut writes);
        self.store.write(writes).map_err(open_error)?;
        Store::rebuild_is_done(data).map_err(|error| OpenError::io("remove a mark from", data, error))?;
        Ok(catalog)
    }

    /// Removes the rows of a kind that are chosen.
    fn remove_all(&self, kind: u8, choose: fn(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        loop {
            let mut writes = Writes::default();
            let mut count = 0;
            let chosen = self.store.rows(kind).filter(|row| match row {
                Ok((key, value)) => choose(key, value),
                Err(_) => true,
            });
            for row in chosen.take(REMOVED_AT_ONCE) {
                writes.remove(&row?.0);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.store.write(writes)?;
        }
    }

    fn count_dead(&self, catalog: &mut Catalog) -> Result<(), ReadError> {
        for row in self.store.rows(keys::DEAD) {
            let (key, _) = row?;
            let Some(number) = keys::read_block(&key) else {
                return Err(ReadError::Damaged(format!("the row {key:02x?} is no list of dead places")));
            };
            let dead = dead::read(self.store, number)?.len();
            catalog.blocks.set_dead(number, u32::try_from(dead).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Adds the events after what a catalog holds, with a checkpoint now and then.
    fn replay(&mut self, catalog: &mut Catalog) -> Result<(), ReadError> {
        let next = Position::new(catalog.head.get().saturating_add(1));
        let mut report = Report::new();
        for chunk in self.store.chunks(next, Position::new(u64::MAX))? {
            let chunk = chunk?;
            self.replay_chunk(&chunk, catalog)?;
            if catalog.checkpoint_is_due(self.options.checkpoint_events) {
                self.checkpoint(catalog)?;
            }
            report.tell(catalog);
        }
        Ok(())
    }

    /// Whether the event at a place may come next. Whoever writes counts, and nothing after a checkpoint was removed since: so a
    /// place that is left out is that of an event that is missing. What an import left out lies before the first one.
    fn check_follows(&self, place: Position, catalog: &Catalog) -> Result<(), ReadError> {
        let follows = place.get().checked_sub(1) == Some(catalog.head.get());
        match follows || !self.is_checkpointed {
            true => Ok(()),
            false => Err(ReadError::Damaged(format!(
                "events are missing after the one at {}: the next one in the folder {} is at {place}",
                catalog.head,
                recover::FOLDER
            ))),
        }
    }

    fn replay_chunk(&mut self, chunk: &Chunk, catalog: &mut Catalog) -> Result<(), ReadError> {
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        let mut dead: Option<(BlockNumber, Vec<u16>)> = None;
        for record in chunk.records() {
            let record = record?;
            if record.position() <= catalog.head {
                continue;
            }
            record.check().map_err(ReadError::Damaged)?;
            self.check_follows(record.position(), catalog)?;
            if record.time() < catalog.newest_time {
                let what = format!("the time of the event at {} goes back", record.position());
                return Err(ReadError::Damaged(what));
            }
            let (event, key) =
                record.parts(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
            let number = blocks::number_of(event.position);
            if dead.as_ref().is_none_or(|(of, _)| *of != number) {
                let has_dead = catalog.blocks.get(number).dead > 0;
                dead = Some((number, if has_dead { dead::read(self.store, number)? } else { Vec::new() }));
            }
            let is_dead =
                dead.as_ref().is_some_and(|(_, dead)| dead.contains(&blocks::offset_in(event.position)));
            let row = catalog.topics.get(event.topic.as_str());
            match is_dead || row.is_some_and(|row| event.position <= row.removed_through) {
                true => catalog.add_removed(&event.topic, event.position, event.time, event.weight()),
                false => catalog.add(&event.topic, event.position, event.time, event.weight()),
            }
            if let Some(key) = key.filter(|_| event.time > forgotten)
                && !(self.used.is_rebuild && idempotency::read(self.store, event.position)?.is_some())
            {
                let (hash, row) = idempotency::entry(&event, &key);
                self.used.insert(hash, row);
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, catalog: &mut Catalog) -> Result<(), ReadError> {
        let mut writes = Writes::default();
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        self.used.put_checkpoint(self.store, forgotten, &mut writes)?;
        catalog.put_checkpoint(&Changes::default(), &mut writes);
        self.store.segments.put_checkpoint(&mut writes);
        self.store.write(writes)?;
        catalog.checkpointed();
        self.store.segments.checkpointed();
        Ok(())
    }

    /// A new epoch after the head if the directory is a restored copy.
    fn begin_epoch(&mut self, mut epochs: Epochs, catalog: &Catalog) -> Result<Epochs, OpenError> {
        let data = &self.options.directory;
        if self.options.restored {
            epochs.begin(new_epoch(Some(&epochs)), catalog.head);
            self.write_epochs(&epochs)?;
            tracing::info!(epoch = %epochs.current(), after = %catalog.head, "a new epoch begins");
        }
        let (head, events) = (catalog.indexed_through(), catalog.events);
        let testimony = Testimony { epoch: epochs.current(), head, events };
        let written = self.witness.write(testimony);
        written.map_err(|error| OpenError::io("write the witness file in", data, error))?;
        Ok(epochs)
    }
}

/// The topics must hold together what the checkpoint says, and so must the blocks.
fn check_totals(checkpoint: Checkpoint, rows: Vec<TopicRow>, blocks: Blocks) -> Result<Catalog, String> {
    let total = (checkpoint.events, checkpoint.bytes);
    let topics = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.events, sum.1 + row.bytes));
    let live =
        |sum: (u64, u64), block: &Block| (sum.0 + u64::from(block.live_events), sum.1 + block.live_bytes);
    if topics != total {
        return Err("the topics do not hold what the checkpoint says".to_owned());
    }
    if blocks.iter().fold((0, 0), |sum, (_, block)| live(sum, block)) != total {
        return Err("the blocks do not hold what the checkpoint says".to_owned());
    }
    Ok(Catalog::at_checkpoint(checkpoint, Topics::from_rows(rows), blocks))
}

/// Whether a row of used idempotency keys cannot be read any more.
fn is_damaged_key(key: &[u8], value: &[u8]) -> bool {
    rows::unseal(key, value).and_then(rows::decode_used).is_err()
}

/// Tells now and then how far the reading of events has come, when it takes long.
struct Report {
    next: Instant,
}

impl Report {
    fn new() -> Self {
        Report { next: Instant::now() + REPORT_INTERVAL }
    }

    fn tell(&mut self, catalog: &Catalog) {
        if Instant::now() >= self.next {
            self.next += REPORT_INTERVAL;
            tracing::info!(events = catalog.events, through = %catalog.head, "reading the events into the index");
        }
    }
}

fn refuse_shorter(testimony: Option<Testimony>, epochs: &Epochs, found: Position) -> Result<(), OpenError> {
    let Some(Testimony { epoch, head, .. }) = testimony else { return Ok(()) };
    if epochs.valid_through(epoch).is_none() {
        return Err(OpenError::Damaged(format!(
            "the witness file is of epoch {epoch}, which this store does not know: they are not of one log"
        )));
    }
    match found < head {
        true => Err(OpenError::ShorterThanWitness { found, witnessed: head }),
        false => Ok(()),
    }
}

/// A name that no history of this log has.
fn new_epoch(known: Option<&Epochs>) -> Epoch {
    loop {
        let epoch = Epoch::new(rand::random());
        if known.is_none_or(|known| known.valid_through(epoch).is_none()) {
            return epoch;
        }
    }
}

pub(crate) fn open_error(error: ReadError) -> OpenError {
    match error {
        ReadError::Damaged(what) => OpenError::Damaged(what),
        ReadError::Engine(error) => OpenError::Engine(error),
        ReadError::Closed => OpenError::Damaged("the store closed while it was read".to_owned()),
    }
}
