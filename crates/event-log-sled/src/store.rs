//! The store: the index and all that is small in one sled tree, made to keep its word, beside the files of events. No other
//! file of this crate knows sled.
//!
//! Invariants: a write returns only after the barrier; no blob file exists that was not synced; a panic of sled never
//! gets past this file or the caller's [`guarded`].

use std::any::Any;
use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use event_log::{Position, ReadError};
use parking_lot::Mutex;

use crate::chunk::{self, Chunk};
use crate::keys::{self, Hash, TopicNumber};
use crate::postings::{self, Posting};
use crate::rows::IdempotencyRow;
use crate::segments::segment::Segment;
use crate::segments::walk::{Chunks, Reading};
use crate::segments::{Segments, recover};
use crate::{OpenError, SledOptions, barrier, directory, rows};

mod awake;

use awake::Awake;

/// Of a new store. A leaf larger than a quarter of a segment would go to a blob file; ours have at most some 130 KiB. Small
/// segments are dead sooner, and sled uses a segment again only once all of it is dead.
const SEGMENT_BYTES: usize = 1_024 * 1_024;
/// sled counts each access to a leaf, and looks for leaves to forget only after 64 accesses in one of 256 shards. A
/// walk through large leaves has few accesses for each, and would keep gigabytes in memory whatever the cache's bound.
/// So every value is accessed once more for so many of its bytes, which bounds what lingers to 64 MiB beyond the cache.
const BYTES_PER_ACCESS: usize = 4 * 1_024;
/// Changes of a page after which sled consolidates it.
const CHANGES_PER_PAGE: usize = 10;
/// The tree whose rows nobody reads.
const SCRATCH: &str = "scratch";
/// The rows of it.
const CLEANING: [u8; 1] = [0];
const FILLER: [u8; 1] = [1];
/// A value that fills segments.
const FILLER_BYTES: usize = 32 * 1_024;
/// Longer than the ticks in which a file system tells time.
const TICK_MAX: Duration = Duration::from_millis(2_100);
/// How long to wait until threads of a store that was closed just now in this process let go of its file.
const HANDOVER: Duration = Duration::from_secs(10);

/// Rows that are written at once. A later change of a row replaces an earlier one.
#[derive(Default)]
pub(crate) struct Writes(Vec<Row>);

/// A key, and a value unless the row is removed.
type Row = (sled::IVec, Option<sled::IVec>);

impl Writes {
    pub(crate) fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.0.push((key.into(), Some(value.into())));
    }

    /// Puts a row in its sealed form.
    pub(crate) fn put_sealed(&mut self, key: &[u8], body: &[u8]) {
        self.put(key, rows::seal(key, body));
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.push((key.into(), None));
    }

    /// The keys and sizes of values that count as several accesses.
    fn large(&self) -> impl Iterator<Item = (sled::IVec, usize)> {
        let sizes = self.0.iter().filter_map(|(key, value)| Some((key, value.as_ref()?.len())));
        sizes.filter(|(_, bytes)| *bytes >= BYTES_PER_ACCESS).map(|(key, bytes)| (key.clone(), bytes))
    }

    /// The rows that are put.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().filter_map(|(key, value)| Some((&**key, &**value.as_ref()?)))
    }
}

/// Idempotency keys that were used, in the order of their places.
pub(crate) type UsedKeys = Vec<(Hash, IdempotencyRow)>;

/// The key of a row of postings, and what it holds.
pub(crate) type PostingsRow = (Vec<u8>, Vec<Posting>);

pub(crate) struct Store {
    awake: Awake,
    db: sled::Db,
    /// Rows that are written for what writing does to sled's file; nobody reads them. In a tree of their own, so that no other
    /// row lies in a page with them.
    scratch: sled::Tree,
    directory: PathBuf,
    /// When `blobs/` was last seen to change.
    blobs_changed: Mutex<Option<SystemTime>>,
    /// The events.
    pub(crate) segments: Segments,
}

impl Store {
    /// Opens the store below a data directory whose lock is held. `witnessed` is a place that it must have held; it is left if the
    /// process before did not close it.
    pub(crate) fn open(
        options: &SledOptions,
        witnessed: Option<Position>,
        is_left: bool,
    ) -> Result<Self, OpenError> {
        let data = &options.directory;
        let directory = data.join("sled");
        if !directory.exists() {
            make_engine(data, options.cache_bytes)?;
        }
        let readied = remove_drafts(&directory).and_then(|()| read_through(&directory, is_left));
        readied.map_err(|error| OpenError::io("read the store in", &directory, error))?;
        let opened = guarded("opened", || open_engine(&directory, options.cache_bytes));
        let db = opened.map_err(OpenError::Damaged)?.map_err(engine_open)?;
        let scratch = guarded("opened", || db.open_tree(SCRATCH)).map_err(OpenError::Damaged)?;
        let scratch = scratch.map_err(engine_open)?;
        let thread_error = |error| OpenError::io("start a thread of", &directory, error);
        let awake = Awake::start(&scratch).map_err(thread_error)?;
        let prepared = guarded("prepared", || awake.during(|| prepare(&db, data, witnessed)));
        prepared.map_err(OpenError::Damaged)??;
        let rows = guarded("read", || segment_rows(&db)).map_err(OpenError::Damaged)??;
        let segments = recover::open(data, rows, options.segment_bytes, witnessed, is_left)?;
        let store = Store { awake, db, scratch, directory, blobs_changed: Mutex::new(None), segments };
        // Bytes that a crashed process wrote may be in the page cache only: durable before anybody sees them.
        store.sync_all(data).map_err(|error| OpenError::io("sync the store in", data, error))?;
        Ok(store)
    }

    fn sync_all(&self, data: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            directory::sync(&entry?.path())?;
        }
        self.sync_new_blobs()?;
        directory::sync(&self.directory)?;
        directory::sync(data)
    }

    /// Writes the events of a commit, and returns once they are durable: how long their barrier took, if there are any.
    pub(crate) fn append(&self, chunks: &chunk::Chunks) -> Result<Option<Duration>, ReadError> {
        let written = self.segments.append(chunks);
        written.map_err(|error| ReadError::Engine(format!("the events cannot be written: {error}").into()))
    }

    /// Writes rows, all or none, and returns once they are durable.
    pub(crate) fn write(&self, writes: Writes) -> Result<(), ReadError> {
        let large: Vec<(sled::IVec, usize)> = writes.large().collect();
        self.awake.during(|| {
            self.apply(writes.0).map_err(engine)?;
            self.db.flush().map_err(engine).map_err(barrier_failed)
        })?;
        self.sync_new_blobs().map_err(|error| barrier_failed(ReadError::Engine(error.into())))?;
        large.iter().try_for_each(|(key, bytes)| self.count_accesses(key, *bytes))
    }

    fn apply(&self, rows: Vec<Row>) -> sled::Result<()> {
        match <[Row; 1]>::try_from(rows) {
            // One row is atomic by itself. As a batch it would cost two barriers: sled writes a batch's head apart.
            Ok([(key, Some(value))]) => self.db.insert(key, value).map(drop),
            Ok([(key, None)]) => self.db.remove(key).map(drop),
            Err(rows) => {
                let mut batch = sled::Batch::default();
                for (key, value) in rows {
                    match value {
                        Some(value) => batch.insert(key, value),
                        None => batch.remove(key),
                    }
                }
                self.db.apply_batch(batch)
            }
        }
    }

    /// sled puts a leaf that is too large for a segment into a file of its own, and never syncs that. Our values are too
    /// small for it; should one appear all the same, this is the barrier that it needs.
    fn sync_new_blobs(&self) -> io::Result<()> {
        let path = self.directory.join("blobs");
        let changed = std::fs::metadata(&path)?.modified()?;
        let mut seen = self.blobs_changed.lock();
        if *seen == Some(changed) {
            return Ok(());
        }
        let mut blobs = 0;
        for entry in std::fs::read_dir(&path)? {
            match directory::sync(&entry?.path()) {
                // Removed by sled in between: nothing refers to it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            blobs += 1;
        }
        directory::sync(&path)?;
        if blobs > 0 {
            tracing::warn!(
                blobs,
                "the engine uses blob files, which are synced one by one; appends are slower"
            );
        }
        // Times on disk go in ticks: another file may come in the same tick, and would not change the time any more. So
        // only a time that has passed is remembered.
        *seen = changed.elapsed().is_ok_and(|age| age > TICK_MAX).then_some(changed);
        Ok(())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let Some(value) = self.db.get(key).map_err(engine)? else { return Ok(None) };
        self.count_accesses(key, value.len())?;
        Ok(Some(Bytes::from_owner(value)))
    }

    /// Lets sled see that a value of so many bytes was touched, see [`BYTES_PER_ACCESS`].
    fn count_accesses(&self, key: &[u8], bytes: usize) -> Result<(), ReadError> {
        for _ in 0..bytes / BYTES_PER_ACCESS {
            self.db.contains_key(key).map_err(engine)?;
        }
        Ok(())
    }

    /// The body of a sealed row. What is wrong with it is the inner error.
    pub(crate) fn get_sealed(&self, key: &[u8]) -> Result<Option<Result<Bytes, String>>, ReadError> {
        let value = self.get(key)?;
        Ok(value.map(|value| rows::unseal(key, &value).map(|body| value.slice_ref(body))))
    }

    /// All rows of a kind, in order of their keys.
    pub(crate) fn rows(&self, kind: u8) -> impl Iterator<Item = Result<(Bytes, Bytes), ReadError>> {
        self.db.scan_prefix([kind]).map(|row| {
            row.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value))).map_err(engine)
        })
    }

    /// The chunk that holds this place, or comes last before it.
    pub(crate) fn chunk_at(&self, place: Position) -> Result<Option<Chunk>, ReadError> {
        self.segments.chunk_at(place)
    }

    /// The chunks that may hold an event at or after `from`, in order, up to that which begins at `through`.
    pub(crate) fn chunks(&self, from: Position, through: Position) -> Result<Chunks<'_>, ReadError> {
        self.chunks_read(from, through, Reading::default())
    }

    /// The same, read in a way of one's own.
    pub(crate) fn chunks_read(
        &self,
        from: Position,
        through: Position,
        reading: Reading,
    ) -> Result<Chunks<'_>, ReadError> {
        self.segments.chunks(from, through, reading)
    }

    /// The rows between two keys, the second one excluded.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), ReadError>> + use<> {
        self.db.range(from.to_vec()..to.to_vec()).map(|row| {
            row.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value))).map_err(engine)
        })
    }

    /// Lets sled move so many pages out of segments of its file that are mostly dead, so that those can be used again.
    ///
    /// sled moves one such page whenever it consolidates any page, and it consolidates one after ten changes of it. So a
    /// row that nobody reads is changed ten times for each. Nothing here has to be durable.
    pub(crate) fn clean(&self, pages: usize) -> Result<(), ReadError> {
        for number in 0..pages * CHANGES_PER_PAGE {
            self.scratch.insert(CLEANING, &(number as u64).to_be_bytes()).map_err(engine)?;
        }
        Ok(())
    }

    /// Writes what nobody reads, as much as a segment of a new store's file (older ones have larger segments, and take several
    /// turns for one): sled looks whether it can make its file shorter only
    /// when it has filled a segment.
    pub(crate) fn fill_segment(&self) -> Result<(), ReadError> {
        for number in 0..SEGMENT_BYTES / FILLER_BYTES {
            // A row that stays as it is would not be written.
            let filler = vec![number as u8; FILLER_BYTES];
            self.scratch.insert(FILLER, filler).map_err(engine)?;
        }
        self.scratch.remove(FILLER).map(drop).map_err(engine)
    }

    /// The rows of used idempotency keys from a place on, and the one before. What is wrong with one is the inner error.
    pub(crate) fn used_keys_after(
        &self,
        place: Position,
    ) -> impl Iterator<Item = Result<(Bytes, Result<UsedKeys, String>), ReadError>> + use<> {
        let start = self.db.range(keys::used(Position::ORIGIN)..=keys::used(place)).next_back();
        let start = start.and_then(Result::ok).map_or(keys::used(place).to_vec(), |(key, _)| key.to_vec());
        self.range(&start, &[keys::USED + 1]).map(|row| {
            row.map(|(key, value)| {
                let entries = rows::unseal(&key, &value).and_then(rows::decode_used);
                (key, entries)
            })
        })
    }

    /// The row of used idempotency keys that has the one at a place, if any has.
    pub(crate) fn used_keys_at(
        &self,
        place: Position,
    ) -> Result<Option<Result<UsedKeys, String>>, ReadError> {
        let row = self.db.range(keys::used(Position::ORIGIN)..=keys::used(place)).next_back();
        let Some(row) = row else { return Ok(None) };
        let (key, value) = row.map_err(engine)?;
        Ok(Some(rows::unseal(&key, &value).and_then(rows::decode_used)))
    }

    /// A topic's indexed postings after a place, as many as one row holds; `None` if there are no more.
    pub(crate) fn postings_after(
        &self,
        topic: TopicNumber,
        after: Position,
    ) -> Result<Option<Vec<Posting>>, ReadError> {
        if let Some((_, mut row)) = self.postings_row(topic, after)? {
            row.retain(|posting| posting.position > after);
            if !row.is_empty() {
                return Ok(Some(row));
            }
        }
        let later = Position::new(after.get().saturating_add(1));
        let rest = keys::postings(topic, later)..=keys::postings(topic, Position::new(u64::MAX));
        self.db.range(rest).next().map(|row| Ok(postings(row.map_err(engine)?)?.1)).transpose()
    }

    /// A topic's indexed postings before a place, the last ones that one row holds; `None` if there are no more.
    pub(crate) fn postings_before(
        &self,
        topic: TopicNumber,
        before: Position,
    ) -> Result<Option<Vec<Posting>>, ReadError> {
        let Some((_, mut row)) = self.postings_row(topic, before.just_before())? else { return Ok(None) };
        row.retain(|posting| posting.position < before);
        Ok(Some(row))
    }

    /// The row of a topic's postings that begins last up to a place: the one that has the place's posting, if any has.
    pub(crate) fn postings_row(
        &self,
        topic: TopicNumber,
        place: Position,
    ) -> Result<Option<PostingsRow>, ReadError> {
        let all = keys::postings(topic, Position::ORIGIN)..=keys::postings(topic, place);
        self.db.range(all).next_back().map(|row| postings(row.map_err(engine)?)).transpose()
    }

    /// All rows of a topic's postings that begin up to a place.
    pub(crate) fn posting_rows(
        &self,
        topic: TopicNumber,
        through: Position,
    ) -> impl Iterator<Item = Result<PostingsRow, ReadError>> + use<> {
        let all = keys::postings(topic, Position::ORIGIN)..=keys::postings(topic, through);
        self.db.range(all).map(|row| postings(row.map_err(engine)?))
    }

    /// Lets every start make all projections anew, until that is done.
    pub(crate) fn mark_rebuild(data: &Path) -> io::Result<()> {
        std::fs::write(rebuild_marker(data), b"").and_then(|()| directory::sync(data))
    }

    /// Lets the next start make all projections anew, if that can be written down.
    pub(crate) fn ask_for_rebuild(data: &Path) {
        if let Err(error) = Self::mark_rebuild(data) {
            tracing::error!(%error, "could not leave a mark that the index is to be rebuilt");
        }
    }

    /// Whether the projections are to be made anew.
    pub(crate) fn rebuild_is_asked_for(data: &Path) -> bool {
        rebuild_marker(data).exists()
    }

    /// The projections were made anew.
    pub(crate) fn rebuild_is_done(data: &Path) -> io::Result<()> {
        match std::fs::remove_file(rebuild_marker(data)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| directory::sync(data)),
        }
    }
}

impl Drop for Store {
    /// sled writes what is left when it is dropped. Here somebody is awake meanwhile.
    fn drop(&mut self) {
        if let Err(error) = guarded("closed", || self.awake.during(|| self.db.flush())) {
            tracing::warn!(error);
        }
    }
}

fn rebuild_marker(data: &Path) -> PathBuf {
    data.join("rebuild-index")
}

fn prepare(db: &sled::Db, data: &Path, witnessed: Option<Position>) -> Result<(), OpenError> {
    if let Some(witnessed) = witnessed.filter(|head| *head > Position::ORIGIN)
        && db.is_empty()
    {
        return Err(OpenError::ShorterThanWitness { found: Position::ORIGIN, witnessed });
    }
    // A step that moves a large log takes its time, and says nothing itself.
    tracing::debug!("bringing the store to the newest format");
    migrations::run(db, data).map_err(|error| match error {
        migrations::Error::FormatTooNew { found, known } => OpenError::FormatTooNew { found, known },
        migrations::Error::Engine(error) => engine_open(error),
        migrations::Error::File { what, path, source } => OpenError::Io { what, path, source },
        other => OpenError::Damaged(other.to_string()),
    })?;
    prove_barrier(db)
}

/// Which files of events count. This is no projection: damage here is damage of the log.
fn segment_rows(db: &sled::Db) -> Result<Vec<Segment>, OpenError> {
    let rows = db.scan_prefix([keys::SEGMENT]).map(|row| {
        let (key, value) = row.map_err(engine_open)?;
        let first = keys::read_segment(&key).ok_or_else(|| format!("the row {key:02x?} is no segment"));
        let read = first.and_then(|first| Segment::decode(first, rows::unseal(&key, &value)?));
        read.map_err(|what| OpenError::Damaged(format!("the list of the files of events: {what}")))
    });
    rows.collect()
}

/// Counts this start, to see that the flush after it ends in our barrier. (A row that stays as it is would not do:
/// sled writes nothing then.)
fn prove_barrier(db: &sled::Db) -> Result<(), OpenError> {
    let before = barrier::calls();
    let value = db.get(keys::STARTS).map_err(engine_open)?;
    let starts = value.and_then(|value| rows::decode_starts(rows::unseal(&keys::STARTS, &value).ok()?));
    let body = starts.unwrap_or(0).wrapping_add(1).to_be_bytes();
    db.insert(keys::STARTS, rows::seal(&keys::STARTS, &body)).map_err(engine_open)?;
    db.flush().map_err(engine_open)?;
    match barrier::EXPECTED && barrier::calls() == before {
        true => Err(OpenError::BarrierNotLinked),
        false => Ok(()),
    }
}

/// Makes a new engine's directory. sled makes its files one by one and syncs neither all of them nor their entries, and what a
/// power cut left of that, it refuses for ever. So they are made aside, and get their name once they are durable.
fn make_engine(data: &Path, cache_bytes: u64) -> Result<(), OpenError> {
    let (draft, path) = (data.join("sled.new"), data.join("sled"));
    let io_error = |error| OpenError::io("make the store in", data, error);
    if draft.exists() {
        std::fs::remove_dir_all(&draft).map_err(io_error)?;
    }
    let made = guarded("made", || {
        let db = open_engine(&draft, cache_bytes).map_err(engine_open)?;
        let scratch = db.open_tree(SCRATCH).map_err(engine_open)?;
        let awake = Awake::start(&scratch).map_err(io_error)?;
        awake.during(|| db.flush()).map(drop).map_err(engine_open)
    });
    made.map_err(OpenError::Damaged)??;
    // Its threads may still write when it was dropped; once it can be opened again they do not.
    let file = File::open(draft.join("db")).map_err(io_error)?;
    let start = std::time::Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock()
        && start.elapsed() < HANDOVER
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(file);
    let sync = || {
        for entry in std::fs::read_dir(&draft)? {
            directory::sync(&entry?.path())?;
        }
        directory::sync(&draft)?;
        std::fs::rename(&draft, &path)?;
        directory::sync(data)
    };
    sync().map_err(io_error)
}

/// Removes what sled was writing when it was cut off: it would take a snapshot that is not whole for its newest one, and refuse the
/// store for it.
fn remove_drafts(engine: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(engine)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    directory::sync(engine)
}

/// Reads all files of the engine. sled takes what it cannot read for what was never written, and writes over it; so whether all of
/// it can be read is found out before, and it is in memory then. What was left is also written anew.
fn read_through(engine: &Path, is_left: bool) -> io::Result<()> {
    for entry in std::fs::read_dir(engine)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        if is_left {
            let file = File::options().read(true).write(true).open(entry.path())?;
            directory::write_anew(&file, 0, file.metadata()?.len())?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}

fn open_engine(path: &Path, cache_bytes: u64) -> sled::Result<sled::Db> {
    let segment_bytes = segment_bytes(path).unwrap_or(SEGMENT_BYTES);
    let config = || {
        sled::Config::new()
            .path(path)
            .segment_size(segment_bytes)
            .flush_every_ms(None)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .use_compression(false)
    };
    let start = std::time::Instant::now();
    loop {
        match config().open() {
            // We hold the directory's lock, so whoever has sled's own one is on the way out of this process.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && start.elapsed() < HANDOVER =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// The size of segments that a store was made with, which sled writes into a file of its own and does not let change.
fn segment_bytes(path: &Path) -> Option<usize> {
    let conf = std::fs::read(path.join("conf")).ok()?;
    let conf = String::from_utf8_lossy(&conf);
    let line = conf.lines().find_map(|line| line.strip_prefix("segment_size:"))?;
    line.trim().parse().ok()
}

fn postings((key, value): (sled::IVec, sled::IVec)) -> Result<PostingsRow, ReadError> {
    let (_, first) = keys::read_postings(&key).ok_or_else(|| unknown_key(&key))?;
    let body = rows::unseal(&key, &value).map_err(index_damaged)?;
    let postings = postings::decode(first, body);
    let postings = postings.map_err(|what| index_damaged(format!("the row {key:02x?}: {what}")))?;
    Ok((key.to_vec(), postings))
}

/// Damage to a projection: the events are whole, and the index can be made anew from them.
pub(crate) fn index_damaged(what: String) -> ReadError {
    ReadError::Damaged(format!("{INDEX_DAMAGE}{what}"))
}

/// How the text of every damage to a projection begins.
pub(crate) const INDEX_DAMAGE: &str = "the index, which the next start makes anew: ";

fn unknown_key(key: &[u8]) -> ReadError {
    ReadError::Damaged(format!("the row {key:02x?} has a key that no row has"))
}

/// Says what failed, for the person who reads it in the log of a process that has stopped.
fn barrier_failed(error: ReadError) -> ReadError {
    match error {
        ReadError::Engine(error) => {
            ReadError::Engine(format!("the barrier after a write failed: {error}").into())
        }
        other => other,
    }
}

fn engine(error: sled::Error) -> ReadError {
    match error {
        sled::Error::Corruption { .. } => ReadError::Damaged(format!("the engine found it: {error}")),
        other => ReadError::Engine(other.into()),
    }
}

fn engine_open(error: sled::Error) -> OpenError {
    match error {
        sled::Error::Corruption { .. } => OpenError::Damaged(format!("the engine found it: {error}")),
        other => OpenError::Engine(other.into()),
    }
}

/// Runs what calls sled, and turns a panic, which is how sled answers most damage, into a text.
pub(crate) fn guarded<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("the engine panicked while the store was {what}: {}", panic_text(&*panic)))
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
