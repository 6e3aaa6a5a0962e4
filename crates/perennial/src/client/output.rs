//! Where events are written to, and how far: standard output, together with the cursor file if there is one.
//!
//! With a cursor file and an output that is a regular file the two always agree, whenever the process is killed (see
//! [`super::cursor`]). Into a pipe nobody can look back: there each event is recorded right after its own write, so that
//! a kill in between repeats at most one, and loses none.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

use super::cursor::{CursorFile, Intent, Mark, Record};
use crate::tell;

/// Longest path that a record has room for.
const PATH_BYTES_MAX: usize = 2_048;

/// A regular file that events are appended to, and its length before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) before: u64,
    /// Where it can be found when the next run writes elsewhere.
    pub(crate) path: Option<String>,
}

impl Target {
    /// The file behind the output, if it is a regular one and what is written lands at its end.
    fn of(mut output: &File) -> io::Result<Option<Self>> {
        let metadata = output.metadata()?;
        let lands_at_end =
            metadata.is_file() && (is_append(output)? || output.stream_position()? == metadata.len());
        Ok(lands_at_end.then(|| Target {
            device: metadata.dev(),
            inode: metadata.ino(),
            before: metadata.len(),
            path: path_of_stdout(),
        }))
    }

    fn is(&self, metadata: &Metadata) -> bool {
        metadata.is_file() && (metadata.dev(), metadata.ino()) == (self.device, self.inode)
    }

    pub(crate) fn line(&self) -> String {
        let path = self.path.as_deref().unwrap_or_default();
        format!("output {} {} {} {path}\n", self.device, self.inode, self.before)
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("output ")?.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let (device, inode, before) = (number()?, number()?, number()?);
        let path = words.next().filter(|path| !path.is_empty()).map(str::to_owned);
        Some(Target { device, inode, before, path })
    }
}

fn is_append(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_getfl(file)?.contains(rustix::fs::OFlags::APPEND))
}

/// Only Linux tells; elsewhere the next run must write to the same file to learn how far this one came.
fn path_of_stdout() -> Option<String> {
    let path = std::fs::read_link("/proc/self/fd/1").ok()?.into_os_string().into_string().ok()?;
    let storable = path.len() <= PATH_BYTES_MAX && !path.contains('\n') && !path.ends_with(' ');
    storable.then_some(path)
}

/// Standard output, unbuffered, and the cursor.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    cursor_file: Option<CursorFile>,
    /// Everything up to here is written.
    cursor: Option<String>,
    bytes: Vec<u8>,
    /// What the bytes hold, with ends in them; what has no text of its own ends where the one before it does.
    marks: Vec<Mark>,
}

impl Output {
    /// Standard output. With a cursor file, what an earlier run left unfinished there is settled first.
    pub(crate) fn stdout(cursor_file: Option<&Path>) -> anyhow::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().context("standard output is not open")?;
        Self::new(stdout.into(), cursor_file)
    }

    fn new(file: File, cursor_file: Option<&Path>) -> anyhow::Result<Self> {
        let mut output =
            Output { file, cursor_file: None, cursor: None, bytes: Vec::new(), marks: Vec::new() };
        if let Some(path) = cursor_file {
            let (cursor_file, record) = CursorFile::open(path)?;
            if record.intent.is_some() {
                output.cursor = settle(record, &output.file).context("the output of the last run")?;
                cursor_file.write(&Record { cursor: output.cursor.clone(), intent: None })?;
            } else {
                output.cursor = record.cursor;
            }
            output.cursor_file = Some(cursor_file);
        }
        Ok(output)
    }

    /// Everything up to here is written; a reader that comes back says so.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// An event, to be written with the next flush.
    pub(crate) fn event(&mut self, id: String, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'\n');
        self.pass(id);
    }

    /// A place that was passed without anything to write.
    pub(crate) fn pass(&mut self, id: String) {
        self.marks.push(Mark { id, end: self.bytes.len() as u64 });
    }

    /// Writes what has gathered, and records it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let (bytes, marks) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.marks));
        if self.cursor_file.is_none() {
            self.file.write_all(&bytes)?;
            self.cursor = marks.into_iter().next_back().map(|mark| mark.id).or(self.cursor.take());
            return Ok(());
        }
        let (mut written, mut rest) = (0, &marks[..]);
        while !rest.is_empty() {
            let count = self.announce(written, rest)?;
            let last = &rest[count - 1];
            self.file.write_all(&bytes[written as usize..last.end as usize])?;
            self.cursor = Some(last.id.clone());
            self.record(None)?;
            (written, rest) = (last.end, &rest[count..]);
        }
        Ok(())
    }

    /// Says what is about to be written, if it can be checked later, and how many of the marks that is.
    fn announce(&self, written: u64, marks: &[Mark]) -> io::Result<usize> {
        let Some(first) = marks.iter().position(|mark| mark.end > written) else { return Ok(marks.len()) };
        let Some(target) = Target::of(&self.file)? else { return Ok(first + 1) };
        let before = target.before;
        let in_file = |mark: &Mark| Mark { id: mark.id.clone(), end: before + mark.end - written };
        // Far more than a page holds need not be looked at.
        let mut marks: Vec<Mark> = marks.iter().take(1_024).map(in_file).collect();
        marks.truncate(Record::capacity(self.cursor.as_deref(), &target, &marks));
        let count = marks.len();
        self.record(Some(Intent { target, marks }))?;
        Ok(count)
    }

    fn record(&self, intent: Option<Intent>) -> io::Result<()> {
        let record = Record { cursor: self.cursor.clone(), intent };
        self.cursor_file.as_ref().map_or(Ok(()), |file| file.write(&record))
    }
}

/// How far an unfinished record came, from the length of its output. A torn last event is cut off.
fn settle(record: Record, output: &File) -> io::Result<Option<String>> {
    let Some(intent) = record.intent else { return Ok(record.cursor) };
    let Some(file) = find(&intent.target, output)? else {
        tell("perennial: the output of the last run is not there any more; its last events may come twice");
        return Ok(record.cursor);
    };
    let length = file.metadata()?.len();
    let before = intent.target.before;
    if length < before {
        tell("perennial: the output of the last run was cut since; its last events may come twice");
        return Ok(record.cursor);
    }
    let whole = intent.marks.iter().take_while(|mark| mark.end <= length).last();
    let end_of_whole = whole.map_or(before, |mark| mark.end);
    let torn = intent.marks.last().is_some_and(|mark| mark.end > length);
    if torn && end_of_whole < length {
        file.set_len(end_of_whole)?;
    }
    if !is_append(output)? && intent.target.is(&output.metadata()?) {
        let mut output = output;
        output.seek(SeekFrom::End(0))?;
    }
    Ok(whole.map(|mark| mark.id.clone()).or(record.cursor))
}

/// The file that a record speaks of: this run's output, or one that is still where it was.
fn find(target: &Target, output: &File) -> io::Result<Option<File>> {
    if target.is(&output.metadata()?) {
        return output.try_clone().map(Some);
    }
    let elsewhere = target.path.as_ref().and_then(|path| OpenOptions::new().write(true).open(path).ok());
    Ok(elsewhere.filter(|file| file.metadata().is_ok_and(|metadata| target.is(&metadata))))
}

#[cfg(test)]
mod tests;
