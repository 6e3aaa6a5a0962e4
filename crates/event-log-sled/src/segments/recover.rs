//! Opening: which files count, and where the newest one ends.
//!
//! The rows of the store name the files as of the last checkpoint, or of the last packing. A file that they do not name is
//! either newer than all rows, and then it holds what was appended since; or it is what a packing left that was cut off:
//! the new file before its row was durable, or an old one after. Any other is damage, and nothing is removed.
//!
//! The end of the newest file may be torn: a power cut in the middle of a commit leaves any part of it. It was never
//! answered, so it is cut off. There was one commit under way at the most; so if a later commit begins behind the
//! torn place, it was not torn but damaged, and the log is not opened. Zeros up to the end of the file are neither: they are
//! room that was written ahead (see `growing`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use event_log::{Position, ReadError};
use parking_lot::Mutex;

use crate::chunk::{Chunk, HEADER_BYTES, Header};
use crate::recovery::open_error;
use crate::segments::Segments;
use crate::segments::growing::{self, Growing};
use crate::segments::segment::{self, Extent, Segment};
use crate::segments::walk::FileWalk;
use crate::{OpenError, directory};

/// The name of the folder in the data directory.
pub(crate) const FOLDER: &str = "events";

/// Opens the segments that the rows of the store name, and those that are newer.
///
/// `witnessed` is a place that was durable: whatever is wrong up to there is damage. If the process before did not close them, what
/// it wrote since the last checkpoint is written anew.
pub(crate) fn open(
    data: &Path,
    rows: Vec<Segment>,
    segment_bytes: u64,
    witnessed: Option<Position>,
    is_left: bool,
) -> Result<Segments, OpenError> {
    let folder = data.join(FOLDER);
    let io_error = |error| OpenError::io("open the files of events in", &folder, error);
    if !folder.is_dir() {
        std::fs::create_dir(&folder).and_then(|()| directory::sync(data)).map_err(io_error)?;
    }
    let mut all: BTreeMap<Position, Arc<Segment>> =
        rows.into_iter().map(|segment| (segment.first, Arc::new(segment))).collect();
    let named_through = all.values().map(|segment| segment.through()).max().unwrap_or_default();
    let mut files = list(&folder).map_err(io_error)?;
    for segment in all.values().filter(|segment| segment.bytes() > 0) {
        check_file(&folder, segment, files.remove(&(segment.first, segment.generation)))?;
    }
    let mut left_over = Vec::new();
    for ((first, generation), path) in files {
        if generation == 0 && first > named_through {
            all.insert(first, Arc::new(Segment::new(first, 0)));
        } else if is_left_over(&all, first) {
            left_over.push(path);
        } else {
            let what = format!("the file {} belongs to no segment of the log", path.display());
            return Err(OpenError::Damaged(what));
        }
    }
    for path in left_over {
        std::fs::remove_file(&path).map_err(|error| OpenError::io("remove", &path, error))?;
    }
    let newest = mend_ends(&folder, &all, named_through, witnessed.unwrap_or_default(), is_left)?;
    directory::sync(&folder).map_err(io_error)?;
    Ok(Segments {
        folder,
        segment_bytes,
        // Those that were read on: their rows are older than they are.
        changed: Mutex::new(all.range(grown_from(&all, named_through)..).map(|(first, _)| *first).collect()),
        all: all.into(),
        newest: Mutex::new(newest),
        opened: Mutex::default(),
    })
}

/// The files, by what their names say.
fn list(folder: &Path) -> io::Result<BTreeMap<(Position, u32), PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.file_name().and_then(|name| segment::parse_name(name.to_str()?)) {
            Some(name) => drop(files.insert(name, path)),
            None => tracing::warn!(path = %path.display(), "this is no file of events; it is left alone"),
        }
    }
    Ok(files)
}

fn check_file(folder: &Path, segment: &Segment, found: Option<PathBuf>) -> Result<(), OpenError> {
    let path = segment.path(folder);
    if found.is_none() {
        return Err(OpenError::Damaged(format!("the file of events {} is missing", path.display())));
    }
    let length = std::fs::metadata(&path).map_err(|error| OpenError::io("look at", &path, error))?.len();
    match length < segment.bytes() {
        true => Err(OpenError::Damaged(format!(
            "the file of events {} has {length} bytes, and {} were durable",
            path.display(),
            segment.bytes()
        ))),
        false => Ok(()),
    }
}

/// Whether a segment that counts stands for what a file begins with.
fn is_left_over(all: &BTreeMap<Position, Arc<Segment>>, first: Position) -> bool {
    all.range(..=first)
        .next_back()
        .is_some_and(|(_, segment)| segment.first == first || segment.through() >= first)
}

/// Reads what was appended since the last checkpoint, and cuts off a commit that is not whole. Returns the newest file, if it
/// may grow.
fn mend_ends(
    folder: &Path,
    all: &BTreeMap<Position, Arc<Segment>>,
    named_through: Position,
    witnessed: Position,
    is_left: bool,
) -> Result<Option<Growing>, OpenError> {
    let Some((_, last)) = all.last_key_value() else { return Ok(None) };
    for (first, segment) in
        all.range(grown_from(all, named_through)..).filter(|(_, segment)| segment.generation == 0)
    {
        let is_newest = *first == last.first;
        mend(folder, segment, is_newest.then_some(witnessed), is_left)?;
        // Another is begun only when there is something in this one.
        if segment.bytes() == 0 && !is_newest {
            let path = segment.path(folder);
            let what = format!("the file of events {} is empty, and is not the newest", path.display());
            return Err(OpenError::Damaged(what));
        }
    }
    if last.packed {
        return Ok(None);
    }
    let path = last.path(folder);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(|error| OpenError::io("open", &path, error))?;
    Ok(Some(Growing::new(Arc::clone(last), file)))
}

/// The segment that grew when the rows were written; with it, all that came after it are read.
fn grown_from(all: &BTreeMap<Position, Arc<Segment>>, named_through: Position) -> Position {
    all.range(..=named_through).next_back().map_or(Position::ORIGIN, |(first, _)| *first)
}

/// `may_end_after` is for the newest file: a commit that comes after this place may be torn.
fn mend(
    folder: &Path,
    segment: &Arc<Segment>,
    may_end_after: Option<Position>,
    is_left: bool,
) -> Result<(), OpenError> {
    let path = segment.path(folder);
    let io_error = |error| OpenError::io("read", &path, error);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error)?;
    let length = file.metadata().map_err(io_error)?.len();
    let file = Arc::new(file);
    let known = segment.extent.read().clone();
    let begin = known.bytes;
    let (extent, torn) = read_on(segment, &file, known, length).map_err(open_error)?;
    if let Some(what) = torn
        && !growing::is_ahead(&file, extent.bytes, length).map_err(io_error)?
    {
        let whole_through = extent.through.max(segment.first.just_before());
        let may_be_torn = may_end_after.is_some_and(|place| place <= whole_through);
        if !may_be_torn || begins_commit_behind(&file, &extent, length).map_err(io_error)? {
            return Err(OpenError::Damaged(what));
        }
        tracing::warn!(what, "the last commit was cut off before it was answered; it is left out");
    }
    if extent.bytes < length {
        file.set_len(extent.bytes).map_err(io_error)?;
    }
    // What a crashed process wrote may be in the page cache only: durable before anybody sees it.
    if is_left {
        directory::write_anew(&file, begin, extent.bytes).map_err(io_error)?;
    }
    file.sync_all().map_err(io_error)?;
    *segment.extent.write() = extent;
    Ok(())
}

/// Goes on behind what is known, as far as whole commits go, and says what is wrong behind them.
fn read_on(
    segment: &Arc<Segment>,
    file: &Arc<File>,
    known: Extent,
    length: u64,
) -> Result<(Extent, Option<String>), ReadError> {
    let mut walk = FileWalk::new(Arc::clone(segment), Arc::clone(file), known.bytes, length);
    let (mut whole, mut extent) = (known.clone(), known);
    loop {
        match next(&mut walk, &extent) {
            Ok(None) if whole.bytes == extent.bytes => return Ok((whole, None)),
            Ok(None) => return Ok((whole, Some("a commit lacks its last chunks".to_owned()))),
            Err(Wrong::Torn(what)) => return Ok((whole, Some(what))),
            Err(Wrong::Other(error)) => return Err(error),
            Ok(Some((header, last))) => {
                extent.add(header.first, header.chunk_bytes() as u64);
                extent.through = last;
                if header.ends_commit() {
                    whole = extent.clone();
                }
            }
        }
    }
}

/// What is wrong with a chunk.
enum Wrong {
    /// It is not what was written, as a write that was cut off leaves it.
    Torn(String),
    /// It is what was written, and cannot be used; or it cannot be read now.
    Other(ReadError),
}

impl From<ReadError> for Wrong {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Wrong::Torn(what),
            other => Wrong::Other(other),
        }
    }
}

/// The next chunk, read and checked: its header, and its last place.
fn next(walk: &mut FileWalk, extent: &Extent) -> Result<Option<(Header, Position)>, Wrong> {
    let Some(header) = walk.header()? else { return Ok(None) };
    let chunk = walk.take(header)?;
    // From here on the checksum says that it is what was written.
    last_place(&chunk, extent, walk.first()).map(|last| Some((header, last))).map_err(Wrong::Other)
}

/// The last place of a chunk that comes behind what is known of its file, whose name says where it begins.
fn last_place(chunk: &Chunk, extent: &Extent, begin: Position) -> Result<Position, ReadError> {
    let is_next = match extent.bytes {
        0 => chunk.first() == begin,
        _ => chunk.first() > extent.through,
    };
    let last = chunk.last()?.filter(|_| is_next);
    last.ok_or_else(|| {
        ReadError::Damaged(format!(
            "the chunk at {} is out of order in the file of events that begins at {begin}",
            chunk.first()
        ))
    })
}

/// Whether a whole chunk that begins a commit lies behind the torn place.
fn begins_commit_behind(file: &Arc<File>, extent: &Extent, length: u64) -> io::Result<bool> {
    let mut rest = vec![0; usize::try_from(length - extent.bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut rest, extent.bytes)?;
    let rest = Bytes::from(rest);
    Ok((1..rest.len().saturating_sub(HEADER_BYTES))
        .any(|offset| begins_commit(&rest.slice(offset..), extent)))
}

fn begins_commit(bytes: &Bytes, extent: &Extent) -> bool {
    let header = bytes.first_chunk().and_then(|header| Header::decode(header).ok());
    header
        .filter(|header| header.begins_commit() && header.first > extent.through)
        .filter(|header| header.chunk_bytes() <= bytes.len())
        .is_some_and(|header| {
            let chunk = bytes.slice(..header.chunk_bytes());
            Chunk::read(header, chunk, 0).is_ok_and(|chunk| matches!(chunk.last(), Ok(Some(_))))
        })
}
