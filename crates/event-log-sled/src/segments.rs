//! The events themselves: files that are only ever appended to, called segments.
//!
//! A commit is one write behind the newest segment and one barrier; that is all that an append costs. When a segment is
//! long enough the next commit begins another. Older segments never change: packing writes a new file beside one, or
//! beside several neighbours, the row in the store decides in one batch which counts, and then the old ones are unlinked, which
//! gives their bytes back to the system at once.
//!
//! Why files, and not rows of the engine: sled writes every page again as its neighbours change, takes a segment of its own
//! file again only once all in it has moved, and so holds many times what is kept while much is published and removed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use event_log::{Position, ReadError};
use parking_lot::{Mutex, RwLock};

use crate::chunk::{Chunk, Chunks as Written};
use crate::store::Writes;
use crate::{directory, keys};

mod growing;
pub(crate) mod recover;
pub(crate) mod segment;
pub(crate) mod walk;

use growing::Growing;
use segment::Segment;
use walk::{Chunks, FileWalk, Reading};

/// Files that are kept open for reading.
const OPEN_FILES: usize = 64;

/// All segments of a log.
pub(crate) struct Segments {
    folder: PathBuf,
    /// A segment of so many bytes takes no further commit.
    segment_bytes: u64,
    all: RwLock<BTreeMap<Position, Arc<Segment>>>,
    /// The newest segment, if it takes commits. Only the writer touches it.
    newest: Mutex<Option<Growing>>,
    /// Those whose rows are out of date.
    changed: Mutex<BTreeSet<Position>>,
    opened: Mutex<VecDeque<(Arc<Segment>, Arc<File>)>>,
}

impl Segments {
    /// Writes a commit behind all others, and returns once it is durable: how long its barrier took. A commit without events
    /// needs none.
    pub(crate) fn append(&self, chunks: &Written) -> io::Result<Option<Duration>> {
        let Some((first, _)) = chunks.firsts.first() else { return Ok(None) };
        let mut newest = self.newest.lock();
        let is_long = |growing: &Growing| growing.segment.bytes() >= self.segment_bytes;
        if let Some(long) = newest.take_if(|growing| is_long(growing)) {
            long.finish();
        }
        let mut growing = match newest.take() {
            Some(growing) => growing,
            None => self.begin(*first)?,
        };
        let barrier = growing.append(chunks)?;
        self.changed.lock().insert(growing.segment.first);
        *newest = Some(growing);
        Ok(Some(barrier))
    }

    /// Makes a segment's file. Its name is durable before anything in it counts.
    fn begin(&self, first: Position) -> io::Result<Growing> {
        let segment = Arc::new(Segment::new(first, 0));
        let file = create(&segment.path(&self.folder))?;
        directory::sync(&self.folder)?;
        self.all.write().insert(first, Arc::clone(&segment));
        Ok(Growing::new(segment, file))
    }

    /// The newest segment, which may still grow.
    pub(crate) fn growing(&self) -> Option<Position> {
        self.newest.lock().as_ref().map(|growing| growing.segment.first)
    }

    /// All segments, in order.
    pub(crate) fn list(&self) -> Vec<Arc<Segment>> {
        self.all.read().values().cloned().collect()
    }

    fn after(&self, at: Option<Position>) -> Option<Arc<Segment>> {
        let behind = at.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.read().range((behind, Bound::Unbounded)).next().map(|(_, segment)| Arc::clone(segment))
    }

    /// The chunk that holds this place, or comes last before it.
    pub(crate) fn chunk_at(&self, place: Position) -> Result<Option<Chunk>, ReadError> {
        let Some(mut walk) = self.walk_to(place, Reading::default())? else { return Ok(None) };
        let Some(header) = walk.header()? else { return Ok(None) };
        let chunk = walk.take(header)?;
        // The one behind it says that it begins later; a damaged one may say so too.
        if chunk.last()?.is_none_or(|last| last < place)
            && let Some(header) = walk.header()?
        {
            walk.take(header)?;
        }
        Ok(Some(chunk))
    }

    /// The chunks that may hold an event at or after `from`, in order, up to that which begins at `through`.
    pub(crate) fn chunks(
        &self,
        from: Position,
        through: Position,
        reading: Reading,
    ) -> Result<Chunks<'_>, ReadError> {
        Chunks::new(self, from, through, reading)
    }

    /// Begins to read at the last chunk that begins at a place or before it, if there is one.
    fn walk_to(&self, place: Position, reading: Reading) -> Result<Option<FileWalk>, ReadError> {
        let mut end = Bound::Included(place);
        loop {
            let found = self
                .all
                .read()
                .range((Bound::Unbounded, end))
                .next_back()
                .map(|(_, found)| Arc::clone(found));
            let Some(segment) = found else { return Ok(None) };
            end = Bound::Excluded(segment.first);
            if segment.bytes() > 0 {
                let file = self.file(&segment)?;
                if let Some(walk) = FileWalk::to(Arc::clone(&segment), file, place, reading)? {
                    return Ok(Some(walk));
                }
            }
        }
    }

    /// Begins to read a segment at its first chunk; none if all that it held is gone.
    fn walk(&self, segment: &Arc<Segment>) -> Result<Option<FileWalk>, ReadError> {
        match segment.bytes() {
            0 => Ok(None),
            bytes => Ok(Some(FileWalk::new(Arc::clone(segment), self.file(segment)?, 0, bytes))),
        }
    }

    /// The file of a segment, to read.
    fn file(&self, segment: &Arc<Segment>) -> Result<Arc<File>, ReadError> {
        let mut opened = self.opened.lock();
        if let Some(at) = opened.iter().position(|(known, _)| Arc::ptr_eq(known, segment)) {
            let found = opened.remove(at).expect("what was found is there");
            let file = Arc::clone(&found.1);
            opened.push_front(found);
            return Ok(file);
        }
        let path = segment.path(&self.folder);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                ReadError::Damaged(format!("the file of events {} is missing", path.display()))
            }
            _ => ReadError::Engine(format!("cannot open {}: {error}", path.display()).into()),
        })?;
        let file = Arc::new(file);
        opened.truncate(OPEN_FILES - 1);
        opened.push_front((Arc::clone(segment), Arc::clone(&file)));
        Ok(file)
    }

    /// Whether every entry of every index is where a chunk begins.
    pub(crate) fn check_entries(&self) -> Result<(), ReadError> {
        for segment in self.list().iter().filter(|segment| segment.bytes() > 0) {
            let (entries, bytes) = {
                let extent = segment.extent.read();
                (extent.entries().to_vec(), extent.bytes)
            };
            let file = self.file(segment)?;
            for (first, offset) in entries {
                let mut walk = FileWalk::new(Arc::clone(segment), Arc::clone(&file), offset, bytes);
                if walk.header()?.is_none_or(|header| header.first != first) {
                    let name = segment.path(&self.folder);
                    let what = format!("the index of {} has {first} at byte {offset}", name.display());
                    return Err(ReadError::Damaged(what));
                }
            }
        }
        Ok(())
    }

    /// Puts the rows of all segments that changed since the last checkpoint into its batch.
    pub(crate) fn put_checkpoint(&self, writes: &mut Writes) {
        let all = self.all.read();
        for segment in self.changed.lock().iter().filter_map(|first| all.get(first)) {
            put(segment, writes);
        }
    }

    /// The batch is durable.
    pub(crate) fn checkpointed(&self) {
        self.changed.lock().clear();
    }

    /// The rows that put `new` in the place of neighbours.
    pub(crate) fn put_replaced(old: &[Arc<Segment>], new: &Segment, writes: &mut Writes) {
        for segment in old {
            writes.remove(&keys::segment(segment.first));
        }
        put(new, writes);
    }

    /// Puts `new` in the place of neighbours, whose files nobody opens any more. The rows that say so are durable.
    pub(crate) fn replaced(&self, old: &[Arc<Segment>], new: Segment) {
        let mut all = self.all.write();
        for segment in old {
            all.remove(&segment.first);
        }
        all.insert(new.first, Arc::new(new));
        self.opened.lock().retain(|(known, _)| !old.iter().any(|old| Arc::ptr_eq(old, known)));
    }

    /// Nothing is appended any more.
    pub(crate) fn finish(&self) {
        if let Some(growing) = &*self.newest.lock() {
            growing.finish();
        }
    }

    /// Unlinks the file of a segment that was replaced, or never came to count.
    pub(crate) fn unlink(&self, segment: &Segment) -> io::Result<()> {
        if segment.bytes() == 0 {
            return Ok(());
        }
        std::fs::remove_file(segment.path(&self.folder))
    }
}

fn put(segment: &Segment, writes: &mut Writes) {
    writes.put_sealed(&keys::segment(segment.first), &segment.encode());
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

/// A file of chunks that is being made beside those that count.
pub(crate) struct Draft {
    segment: Segment,
    file: Option<File>,
    folder: PathBuf,
}

impl Draft {
    /// One that takes the place of neighbours.
    pub(crate) fn new(segments: &Segments, old: &[Arc<Segment>]) -> Self {
        let first = old.first().map_or(Position::ORIGIN, |segment| segment.first);
        let generation = old.iter().map(|segment| segment.generation).max().unwrap_or_default() + 1;
        let segment = Segment { packed: true, ..Segment::new(first, generation) };
        Draft { segment, file: None, folder: segments.folder.clone() }
    }

    /// Adds chunks, and makes them durable: a little at a time, so that the disk is never busy with it for long.
    pub(crate) fn add(&mut self, chunks: &Written) -> io::Result<()> {
        if chunks.bytes.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(create(&self.segment.path(&self.folder))?);
        }
        if let Some(file) = &self.file {
            file.write_all_at(&chunks.bytes, self.segment.bytes())?;
            file.sync_data()?;
        }
        self.segment.extent.write().extend(chunks);
        Ok(())
    }

    /// The segment, which stands for everything up to a place. Its file is durable.
    pub(crate) fn finish(self, through: Position) -> io::Result<Segment> {
        if let Some(file) = &self.file {
            file.sync_all()?;
            directory::sync(&self.folder)?;
        }
        self.segment.extent.write().through = through;
        Ok(self.segment)
    }
}
