//! Opening: from what is on disk to the view, and how the projections are made anew.
//!
//! The projections are read as of their checkpoint, and the chunks after it are read again, so opening takes as long for
//! ten million events as for ten thousand. Where the checkpoint or the topic table is missing or damaged, all
//! projections are thrown away and made from the chunks; the epochs are no projection, nor are the events.

use std::path::Path;

use event_log::{Clock, Epoch, Epochs, Position, ReadError};

use crate::catalog::{Catalog, Topics};
use crate::fresh::Fresh;
use crate::idempotency::{self, Recent};
use crate::keys::{self, TopicNumber};
use crate::rows::{self, Checkpoint, TopicRow};
use crate::shared::View;
use crate::store::{Store, Writes, guarded};
use crate::witness::{Testimony, Witness};
use crate::{OpenError, SledOptions};

/// Rows that are removed in one batch.
const REMOVED_AT_ONCE: usize = 16_384;

/// A log that is ready to serve.
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) view: View,
    pub(crate) recent: Recent,
    pub(crate) witness: Witness,
}

/// Opens the store of a directory whose lock is held.
pub(crate) fn recover(options: &SledOptions, clock: &dyn Clock) -> Result<Recovered, OpenError> {
    let data = &options.directory;
    let (witness, testimony) =
        Witness::open(data).map_err(|error| OpenError::io("open the witness file in", data, error))?;
    // Who restores an older copy says so, and then the witness may know of more.
    let testimony = testimony.filter(|_| !options.restored);
    let store = Store::open(data, options.cache_bytes, testimony.map(|testimony| testimony.head))?;
    let recovery = Recovery { store: &store, options, clock, witness, recent: Recent::default() };
    let recovered = guarded("read", || recovery.run(testimony));
    let (view, recent, witness) = recovered.map_err(OpenError::Damaged)??;
    tracing::info!(head = %view.epochs.id(view.catalog.head), events = view.catalog.events, "the log is open");
    Ok(Recovered { store, view, recent, witness })
}

struct Recovery<'a> {
    store: &'a Store,
    options: &'a SledOptions,
    clock: &'a dyn Clock,
    witness: Witness,
    recent: Recent,
}

impl Recovery<'_> {
    fn run(mut self, testimony: Option<Testimony>) -> Result<(View, Recent, Witness), OpenError> {
        let data = &self.options.directory;
        let found = self.newest_chunk().map_err(open_error)?;
        let epochs = self.epochs(found)?;
        let catalog = match self.projections().map_err(open_error)? {
            Ok(catalog) if !Store::rebuild_is_asked_for(data) => catalog,
            Ok(_) => self.rebuild("it was found damaged before", data)?,
            Err(why) => self.rebuild(&why, data)?,
        };
        refuse_shorter(testimony, &epochs, found.unwrap_or_default().max(catalog.head))?;
        let mut catalog = catalog;
        self.replay(&mut catalog).map_err(open_error)?;
        let (epochs, oldest) = self.begin_epoch(epochs, &catalog)?;
        let fresh = Fresh::new(catalog.head, self.options.recent_bytes);
        Ok((View { epochs, oldest, catalog, fresh }, self.recent, self.witness))
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
    fn projections(&self) -> Result<Result<Catalog, String>, ReadError> {
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
        Ok(self.topic_rows()?.and_then(|rows| check_totals(checkpoint, rows)))
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

    /// Throws the projections away and makes them from all chunks.
    fn rebuild(&mut self, why: &str, data: &Path) -> Result<Catalog, OpenError> {
        tracing::warn!(why, "the index cannot be used; it is made anew from all events");
        // The checkpoint goes first: a crash in between ends here again.
        let mut writes = Writes::default();
        writes.remove(&keys::CHECKPOINT);
        self.store.write(writes).map_err(open_error)?;
        for kind in [keys::POSTINGS, keys::TOPIC, keys::IDEMPOTENCY, keys::EXPIRY] {
            self.remove_all(kind).map_err(open_error)?;
        }
        let mut catalog = Catalog::default();
        self.replay(&mut catalog).map_err(open_error)?;
        self.checkpoint(&mut catalog).map_err(open_error)?;
        Store::rebuild_is_done(data).map_err(|error| OpenError::io("remove a mark from", data, error))?;
        Ok(catalog)
    }

    fn remove_all(&self, kind: u8) -> Result<(), ReadError> {
        loop {
            let mut writes = Writes::default();
            let mut count = 0;
            for row in self.store.rows(kind).take(REMOVED_AT_ONCE) {
                writes.remove(&row?.0);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.store.write(writes)?;
        }
    }

    /// Adds the events after what a catalog holds, with a checkpoint now and then.
    fn replay(&mut self, catalog: &mut Catalog) -> Result<(), ReadError> {
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        let next = Position::new(catalog.head.get().saturating_add(1));
        for chunk in self.store.chunks(next, Position::new(u64::MAX))? {
            let chunk = chunk?;
            for record in chunk.records() {
                let record = record?;
                if record.position() <= catalog.head {
                    continue;
                }
                record.check().map_err(ReadError::Damaged)?;
                if record.time() < catalog.newest_time {
                    let what = format!("the time of the event at {} goes back", record.position());
                    return Err(ReadError::Damaged(what));
                }
                let (event, key) =
                    record.parts(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
                catalog.add(&event.topic, event.position, event.time, event.weight());
                if let Some(key) = key.filter(|_| event.time > forgotten) {
                    let (hash, row) = idempotency::entry(&event, &key);
                    self.recent.insert(hash, row);
                }
            }
            if catalog.checkpoint_is_due(self.options.checkpoint_events) {
                self.checkpoint(catalog)?;
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, catalog: &mut Catalog) -> Result<(), ReadError> {
        let mut writes = Writes::default();
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        self.recent.put_checkpoint(self.store, forgotten, &mut writes)?;
        catalog.put_checkpoint(&mut writes);
        self.store.write(writes)?;
        catalog.checkpointed();
        self.recent.checkpointed();
        Ok(())
    }

    /// The oldest event, and a new epoch after the head if the directory is a restored copy.
    fn begin_epoch(
        &mut self,
        mut epochs: Epochs,
        catalog: &Catalog,
    ) -> Result<(Epochs, Option<Position>), OpenError> {
        let data = &self.options.directory;
        if self.options.restored {
            epochs.begin(new_epoch(Some(&epochs)), catalog.head);
            self.write_epochs(&epochs)?;
            tracing::info!(epoch = %epochs.current(), after = %catalog.head, "a new epoch begins");
        }
        let testimony = Testimony { epoch: epochs.current(), head: catalog.head, events: catalog.events };
        let written = self.witness.write(testimony);
        written.map_err(|error| OpenError::io("write the witness file in", data, error))?;
        let mut chunks = self.store.chunks(Position::ORIGIN, catalog.head).map_err(open_error)?;
        let oldest = chunks.next().transpose().map_err(open_error)?.map(|chunk| chunk.first());
        Ok((epochs, oldest))
    }
}

/// The topics must hold together what the checkpoint says.
fn check_totals(checkpoint: Checkpoint, rows: Vec<TopicRow>) -> Result<Catalog, String> {
    let events: u64 = rows.iter().map(|row| row.events).sum();
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
    match (events, bytes) == (checkpoint.events, checkpoint.bytes) {
        true => Ok(Catalog::at_checkpoint(checkpoint, Topics::from_rows(rows))),
        false => Err("the topics do not hold what the checkpoint says".to_owned()),
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

fn open_error(error: ReadError) -> OpenError {
    match error {
        ReadError::Damaged(what) => OpenError::Damaged(what),
        ReadError::Engine(error) => OpenError::Engine(error),
        ReadError::Closed => OpenError::Damaged("the store closed while it was read".to_owned()),
    }
}
