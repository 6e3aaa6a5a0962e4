//! The cursor file of `subscribe --cursor`: the id up to which everything is written, and what is being written now.
//!
//! An event counts as seen once it is written and flushed, and a run that is killed at any moment must neither lose nor
//! repeat one. So before a write the file says what is about to be written and where each event of it will end, and
//! after the write it says that it is done; a run that finds an unfinished record learns from the length of its output
//! how far it came, cuts a torn last event off and goes on behind the last whole one.
//!
//! The record is one page of fixed size, put in place by one `pwrite` at 0. The kernel looks at a kill only between
//! pages, so the page is the old one or the new one, never a mixture. A temporary file and a rename would be as safe, but
//! would cost two inodes and a directory for every batch, twice. Power loss is another matter: neither the output nor
//! the cursor is synced for each batch, as the output is the user's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use event_log::EventId;

use super::output::Target;

/// Size of the file: the smallest page of any machine this runs on.
const PAGE_BYTES: usize = 4_096;
/// A killed run's lock is gone when the kernel has taken the process apart.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const NOTE: &str = "# perennial: everything up to this id is written; below, what was being written";

/// Where one event ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) id: String,
    /// Length of the output behind it.
    pub(crate) end: u64,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    /// Everything up to here is written.
    pub(crate) cursor: Option<String>,
    /// What was about to be written after it.
    pub(crate) intent: Option<Intent>,
}

/// Events that are about to be written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) target: Target,
    pub(crate) marks: Vec<Mark>,
}

/// The open, locked file.
#[derive(Debug)]
pub(crate) struct CursorFile(File);

impl CursorFile {
    /// Opens the file, or makes an empty one, and reads it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Record)> {
        let shown = path.display();
        let file =
            create_or_open(path).with_context(|| format!("the cursor file {shown} cannot be opened"))?;
        if !file.metadata()?.is_file() {
            bail!("the cursor file {shown} is not a regular file");
        }
        lock(&file).with_context(|| format!("the cursor file {shown}"))?;
        let mut text = Vec::new();
        (&file).take(PAGE_BYTES as u64 + 1).read_to_end(&mut text)?;
        let record = Record::parse(&text).ok_or_else(|| {
            anyhow!(
                "{shown} is not a cursor file: its first line is not an event id such as 184467-7f3a9c1e; name another \
                 file, or remove it to begin anew"
            )
        })?;
        Ok((CursorFile(file), record))
    }

    /// Puts a record in place.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        self.0.write_all_at(&record.page(), 0)
    }
}

/// A new file survives a power cut together with its name.
fn create_or_open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            file.sync_all()?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn lock(file: &File) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot be locked"),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                bail!("is in use by another subscribe; each needs a file of its own")
            }
        }
    }
}

impl Record {
    /// How many of these marks an intent can hold beside the cursor: at least one.
    pub(crate) fn capacity(cursor: Option<&str>, target: &Target, marks: &[Mark]) -> usize {
        let mut left = PAGE_BYTES - head(cursor).len() - target.line().len() - 1;
        let fits = |mark: &&Mark| {
            let taken = mark.line().len();
            let fits = taken <= left;
            left = left.saturating_sub(taken);
            fits
        };
        marks.iter().take_while(fits).count().max(1)
    }

    fn page(&self) -> Vec<u8> {
        let mut text = head(self.cursor.as_deref());
        if let Some(intent) = &self.intent {
            text += &intent.target.line();
            text.extend(intent.marks.iter().map(Mark::line));
        }
        assert!(text.len() < PAGE_BYTES, "a cursor record has {} bytes", text.len());
        let mut page = text.into_bytes();
        page.resize(PAGE_BYTES - 1, b' ');
        page.push(b'\n');
        page
    }

    /// What a file says; an empty one says nothing, and one line with an id is enough. `None` if it is something else.
    fn parse(page: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(page).ok().filter(|text| text.len() <= PAGE_BYTES)?.trim_end();
        if text.is_empty() {
            return Some(Record::default());
        }
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let cursor = match lines.next()?.trim_end() {
            "-" => None,
            id => Some(EventId::parse(id.as_bytes()).ok()?.to_string()),
        };
        let Some(target) = lines.next() else { return Some(Record { cursor, intent: None }) };
        let target = Target::parse(target)?;
        let marks = lines.map(Mark::parse).collect::<Option<Vec<Mark>>>()?;
        Some(Record { cursor, intent: Some(Intent { target, marks }) })
    }
}

fn head(cursor: Option<&str>) -> String {
    format!("{}\n{NOTE}\n", cursor.unwrap_or("-"))
}

impl Mark {
    fn line(&self) -> String {
        format!("{} {}\n", self.id, self.end)
    }

    fn parse(line: &str) -> Option<Self> {
        let (id, end) = line.split_once(' ')?;
        Some(Mark { id: EventId::parse(id.as_bytes()).ok()?.to_string(), end: end.trim_end().parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(marks: usize) -> Record {
        let target = Target { device: 7, inode: 8, before: 100, path: Some("/a path/out".to_owned()) };
        let marks = (0..marks as u64).map(|n| Mark { id: format!("{}-7f3a9c1e", 6 + n), end: 100 + 10 * n });
        Record {
            cursor: Some("5-7f3a9c1e".to_owned()),
            intent: Some(Intent { target, marks: marks.collect() }),
        }
    }

    #[test]
    fn a_record_reads_back_and_its_first_line_is_the_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        for written in [record(1), record(3), Record { intent: None, ..record(0) }, Record::default()] {
            let (file, _) = CursorFile::open(&path).unwrap();
            file.write(&written).unwrap();
            drop(file);
            assert_eq!(CursorFile::open(&path).unwrap().1, written);
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().next().unwrap(), written.cursor.as_deref().unwrap_or("-"));
            assert_eq!(text.len(), PAGE_BYTES);
        }
    }

    #[test]
    fn an_intent_takes_as_many_events_as_the_page_holds() {
        let full = record(1_000);
        let intent = full.intent.clone().unwrap();
        let fit = Record::capacity(full.cursor.as_deref(), &intent.target, &intent.marks);
        assert!((100..1_000).contains(&fit), "{fit}");
        let marks = intent.marks[..fit].to_vec();
        let cut = Record { intent: Some(Intent { marks, ..intent }), ..full };
        assert_eq!(Record::parse(&cut.page()), Some(cut));
    }

    #[test]
    fn a_file_that_a_person_wrote_needs_only_the_id() {
        for text in ["12-7f3a9c1e", "12-7f3a9c1e\n", "12-7f3a9c1e\r\n\n"] {
            let cursor = Some("12-7f3a9c1e".to_owned());
            assert_eq!(Record::parse(text.as_bytes()), Some(Record { cursor, intent: None }));
        }
        assert_eq!(Record::parse(b""), Some(Record::default()));
    }

    #[test]
    fn a_file_that_is_no_cursor_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        for text in ["dear diary", "12\nsomething else", "\u{0}", &"x".repeat(5_000)] {
            std::fs::write(&path, text).unwrap();
            assert!(CursorFile::open(&path).unwrap_err().to_string().contains("not a cursor file"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_runs_cannot_use_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let _first = CursorFile::open(&path).unwrap();
        let error = format!("{:#}", CursorFile::open(&path).unwrap_err());
        assert!(error.contains("in use by another subscribe"), "{error}");
    }
}
