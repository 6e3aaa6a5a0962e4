//! Version 3: the events lie in files of their own, and the idempotency keys in the order of their places. Frozen.
//!
//! The step copies the chunks of events from the store's rows to the files, byte for byte, and the keys to rows of another
//! kind. It changes no row of version 2: until the batch with the stamp is durable, the store is one of that. The old rows
//! go after that, see [`remove_moved`]. So while it runs, the events are there twice. It takes the checkpoint away, and the
//! engine makes the projections anew.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use self::old::{Chunk, Chunks};
use crate::Error;

pub(crate) mod keys;
mod old;

/// The checkpoint of version 2.
const CHECKPOINT_KEY: [u8; 2] = [0x00, 0x02];
/// The kind of the rows of segments.
const SEGMENT: u8 = 0x0b;
/// The folder of the data directory in which the segments lie.
const EVENTS: &str = "events";
/// A segment that has so many bytes is full.
const SEGMENT_BYTES: u64 = 8 * 1_024 * 1_024;
/// How far the chunks in a segment's index lie apart, at least.
const INDEX_BYTES: u64 = 32 * 1_024;
const BUFFER_BYTES: usize = 256 * 1_024;
/// The version of chunks, and that of rows with a sealed value.
const VERSION: u8 = 1;
/// Flags of a chunk: its body is compressed; it is the last one of its commit.
const COMPRESSED: u8 = 1;
const LAST: u8 = 2;
const ROWS_PER_BATCH: usize = 256;

/// Makes a store of version 2 one of version 3.
pub(crate) fn apply(db: &sled::Db, data: &Path, batch: &mut sled::Batch) -> Result<(), Error> {
    batch.remove(&CHECKPOINT_KEY);
    copy_events(db, data, SEGMENT_BYTES, batch)?;
    keys::copy(db, data, keys::HELD).inspect_err(|_| forget_events(data))
}

/// Copies the events to files, which are durable when this returns, and puts the files' rows into the batch.
pub(crate) fn copy_events(
    db: &sled::Db,
    data: &Path,
    segment_bytes: u64,
    batch: &mut sled::Batch,
) -> Result<(), Error> {
    let events = data.join(EVENTS);
    begin_anew(db, &events)?;
    let written = write_segments(db, &events, segment_bytes, batch).and_then(|()| sync(data));
    written.inspect_err(|_| forget_events(data))
}

/// Removes the files of a step that failed: nothing refers to them, and the disk may be full. What cannot be removed now,
/// the next run removes.
fn forget_events(data: &Path) {
    drop(fs::remove_dir_all(data.join(EVENTS)));
}

/// Makes the folder. One that is there is left from a run that was killed, if there are events that it can be made from.
fn begin_anew(db: &sled::Db, events: &Path) -> Result<(), Error> {
    match fs::read_dir(events) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("list", events, error)),
        Ok(mut files) => {
            if files.next().is_some() && old::is_empty(db, old::CHUNK)? {
                return Err(Error::UnknownFiles(events.to_owned()));
            }
            fs::remove_dir_all(events).map_err(|error| Error::file("remove", events, error))?;
        }
    }
    fs::create_dir(events).map_err(|error| Error::file("create", events, error))
}

fn write_segments(
    db: &sled::Db,
    events: &Path,
    segment_bytes: u64,
    batch: &mut sled::Batch,
) -> Result<(), Error> {
    let mut chunks = Chunks::of(db);
    let mut open: Option<Segment> = None;
    while let Some(chunk) = chunks.read()? {
        if let Some(mut full) = open.take_if(|segment| segment.bytes >= segment_bytes) {
            full.finish()?;
            let (key, value) = full.row(chunk.first - 1);
            batch.insert(&key, value);
        }
        let segment = match &mut open {
            Some(segment) => segment,
            none => none.insert(Segment::create(events, chunk.first)?),
        };
        segment.write(&chunk)?;
    }
    // The last one has no row: the engine reads a segment that lies behind all rows, and knows what is in it.
    open.map_or(Ok(()), |mut last| last.finish())?;
    sync(events)
}

/// A file of events that is being written.
struct Segment {
    path: PathBuf,
    file: BufWriter<File>,
    first: u64,
    bytes: u64,
    chunks: u32,
    index: Vec<u8>,
    /// The place and the offset of the newest entry of the index.
    entry: (u64, u64),
}

impl Segment {
    fn create(events: &Path, first: u64) -> Result<Self, Error> {
        let path = events.join(format!("{first:020}.0"));
        let file = File::create_new(&path).map_err(|error| Error::file("create", &path, error))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Segment { path, file, first, bytes: 0, chunks: 0, index: Vec::new(), entry: (first, 0) })
    }

    /// Writes a chunk as a commit of its own: what was one commit before is not known any more.
    fn write(&mut self, chunk: &Chunk) -> Result<(), Error> {
        let (place, offset) = self.entry;
        if self.chunks == 0 || self.bytes - offset >= INDEX_BYTES {
            put_number(chunk.first - place, &mut self.index);
            put_number(self.bytes - offset, &mut self.index);
            self.entry = (chunk.first, self.bytes);
        }
        let header = header(chunk);
        let written = self.file.write_all(&header).and_then(|()| self.file.write_all(&chunk.body));
        written.map_err(|error| Error::file("write", &self.path, error))?;
        self.bytes += (header.len() + chunk.body.len()) as u64;
        self.chunks += 1;
        Ok(())
    }

    /// Makes the file durable.
    fn finish(&mut self) -> Result<(), Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| Error::file("write", &self.path, error))
    }

    /// Its row. `through` is the last place that it stands for.
    fn row(&self, through: u64) -> ([u8; 9], Vec<u8>) {
        let mut key = [SEGMENT; 9];
        key[1..].copy_from_slice(&self.first.to_be_bytes());
        let (generation, is_packed) = (0u32, 0u8);
        let mut body = generation.to_be_bytes().to_vec();
        body.extend(self.bytes.to_be_bytes());
        body.extend(self.chunks.to_be_bytes());
        body.extend(through.to_be_bytes());
        body.push(is_packed);
        body.extend(&self.index);
        (key, sealed(&key, &body))
    }
}

/// A sealed value.
fn sealed(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend(checksum(&[&[VERSION], key, body]).to_be_bytes());
    value.extend(body);
    value
}

fn header(chunk: &Chunk) -> [u8; 24] {
    let compressed = if chunk.is_compressed { COMPRESSED } else { 0 };
    let length = u32::try_from(chunk.body.len()).expect("an event is far smaller than 4 GiB");
    let mut header = [0; 24];
    // Between these and the rest it is which chunk of its commit it is: 0, the first one.
    header[..2].copy_from_slice(&[VERSION, LAST | compressed]);
    header[4..8].copy_from_slice(&chunk.records.to_be_bytes());
    header[8..16].copy_from_slice(&chunk.first.to_be_bytes());
    header[16..20].copy_from_slice(&length.to_be_bytes());
    let checksum = checksum(&[&header[..20], &chunk.body]);
    header[20..].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Puts a number as LEB128.
fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Removes the rows of kinds that version 3 does not have from a store of that version, in which the files hold the events
/// and other rows the keys. It costs a few lookups if there are none, and goes on where a run that was killed came to.
pub(crate) fn remove_moved(db: &sled::Db, data: &Path) -> Result<(), Error> {
    let mut is_synced = false;
    for kind in [old::CHUNK, old::IDEMPOTENCY, old::EXPIRY] {
        if old::is_empty(db, kind)? {
            continue;
        }
        if !is_synced {
            // The stamp that was read may be one that a killed process wrote and did not sync.
            sync_store(data)?;
            is_synced = true;
        }
        remove_kind(db, kind)?;
    }
    Ok(())
}

fn remove_kind(db: &sled::Db, kind: u8) -> Result<(), Error> {
    let mut rows = old::Rows::of(db, kind);
    loop {
        let mut batch = sled::Batch::default();
        let mut count = 0;
        while count < ROWS_PER_BATCH
            && let Some((key, _)) = rows.read()?
        {
            batch.remove(key);
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        db.apply_batch(batch)?;
        db.flush()?;
    }
}

fn sync_store(data: &Path) -> Result<(), Error> {
    let store = data.join("sled");
    let list = |error| Error::file("list", &store, error);
    for entry in fs::read_dir(&store).map_err(list)? {
        sync(&entry.map_err(list)?.path())?;
    }
    sync(&store)
}

/// Makes a file's bytes, or the entries of a folder, durable.
fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::file("sync", path, error))
}
