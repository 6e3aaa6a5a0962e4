//! Reads traces of strace and judges whether anything left before it was durable.
//!
//! A call has two places in a trace: the line where it begins and the line where it has returned. A barrier counts when it
//! begins after the last write of the event has returned, succeeds, and returns before the first byte about the event is
//! given to a socket.

use std::collections::HashMap;
use std::path::Path;

/// One system call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    name: &'a str,
    /// From the opening parenthesis on; file descriptors carry their paths.
    arguments: &'a str,
    /// What stands after the equals sign; empty when the process ended before the call returned.
    result: &'a str,
    begins: usize,
    returns: usize,
}

/// What left about one event.
#[derive(Debug, PartialEq)]
pub(crate) struct Left {
    pub(crate) answers: usize,
    pub(crate) frames: usize,
}

/// Takes a trace apart. Calls of one thread that were interrupted by another's are put together again.
pub(crate) fn parse(trace: &str) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (place, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((_time, rest)) = rest.trim_start().split_once(' ') else { continue };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let at = unfinished.remove(thread).unwrap_or_else(|| panic!("never begun: {line}"));
            let call: &mut Call<'_> = &mut calls[at];
            assert!(resumed.starts_with(call.name), "another call was begun: {line}");
            call.result = result_of(resumed);
            call.returns = place;
        } else if let Some((name, _)) = rest.split_once('(')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let arguments = &rest[name.len()..];
            let is_unfinished = rest.ends_with("<unfinished ...>");
            let (result, returns) =
                if is_unfinished { ("", usize::MAX) } else { (result_of(arguments), place) };
            if is_unfinished {
                unfinished.insert(thread, calls.len());
            }
            calls.push(Call { name, arguments, result, begins: place, returns });
        }
    }
    calls
}

fn result_of(text: &str) -> &str {
    text.rsplit_once(" = ").map_or("", |(_, result)| result)
}

impl<'a> Call<'a> {
    fn succeeded(&self) -> bool {
        !self.result.is_empty() && !self.result.starts_with(['-', '?'])
    }

    /// The path of the file descriptor that is the first argument.
    fn file(&self) -> &'a str {
        self.arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path)
    }

    fn is_write_to(&self, data: &Path) -> bool {
        matches!(self.name, "write" | "writev" | "pwrite64" | "pwritev")
            && Path::new(self.file()).starts_with(data)
    }

    fn is_sent(&self) -> bool {
        let to_socket = self.file().starts_with("socket:") || self.file().starts_with("TCP:");
        matches!(self.name, "write" | "writev" | "sendto" | "sendmsg") && to_socket
    }

    fn is_barrier_of(&self, file: &str) -> bool {
        matches!(self.name, "fdatasync" | "fsync") && self.succeeded() && self.file() == file
    }

    /// Whether an id stands in what is written, and not only as the end of a longer one.
    fn carries_id(&self, id: &str) -> bool {
        self.arguments
            .match_indices(id)
            .any(|(at, _)| !self.arguments[..at].ends_with(|c: char| c.is_ascii_digit()))
    }
}

/// Judges one event, whose text contains `mark`. `Err` says what left too early, or that the trace does not show the event.
pub(crate) fn check(calls: &[Call<'_>], data: &Path, mark: &str, id: &str) -> Result<Left, String> {
    let about = |call: &&Call<'_>| call.is_sent() && (call.carries_id(id) || call.arguments.contains(mark));
    let sent: Vec<&Call<'_>> = calls.iter().filter(about).collect();
    let first = sent.first().ok_or("nothing about it was ever sent")?;
    // The engine may write an event again with its neighbours while the answer is on its way; the first copy that is
    // behind a barrier makes it durable.
    let written: Vec<&Call<'_>> = calls
        .iter()
        .filter(|call| call.is_write_to(data) && call.arguments.contains(mark) && call.begins < first.begins)
        .collect();
    let file = written.first().ok_or("it was sent before it was written to any file of the store")?.file();
    let is_behind_a_barrier = |write: &&&Call<'_>| {
        calls.iter().any(|call| {
            call.is_barrier_of(write.file()) && call.begins > write.returns && call.returns < first.begins
        })
    };
    let Some(file) = written.iter().find(is_behind_a_barrier).map(|write| write.file()) else {
        return Err(format!("it was sent at line {} without a barrier of {file}", first.begins + 1));
    };
    directory_is_synced(calls, file, first.begins)?;
    let frames = sent.iter().filter(|call| call.arguments.contains(mark)).count();
    let in_json = format!("\\\"{id}\\\"");
    let answers = sent.iter().filter(|call| call.arguments.contains(&in_json)).count();
    Ok(Left { answers, frames })
}

/// A file that was created is found after a power cut only once its directory was synced.
fn directory_is_synced(calls: &[Call<'_>], file: &str, before: usize) -> Result<(), String> {
    let opened = format!("<{file}>");
    let creates = |call: &&Call<'_>| {
        call.name == "openat" && call.arguments.contains("O_CREAT") && call.result.ends_with(&opened)
    };
    let Some(created) = calls.iter().find(creates) else {
        return Err(format!("the trace does not show who created {file}"));
    };
    let directory = Path::new(file).parent().and_then(Path::to_str).unwrap_or_default();
    let synced = calls
        .iter()
        .any(|call| call.is_barrier_of(directory) && call.begins > created.returns && call.returns < before);
    if synced { Ok(()) } else { Err(format!("{directory} was not synced after {file} was created in it")) }
}

/// How many calls of sync_file_range the kernel really carried out.
pub(crate) fn raw_range_syncs(calls: &[Call<'_>]) -> usize {
    calls.iter().filter(|call| call.name == "sync_file_range" && call.succeeded()).count()
}

/// A sound trace: the file is created, its directory synced; a write, a barrier of another thread, the answer, the frame.
const SOUND: &str = r#"10 1.0 openat(AT_FDCWD</w>, "/d/db", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 5</d/db>
10 1.1 fsync(4</d>) = 0
11 1.2 pwrite64(5</d/db>, "..mark..", 8, 0 <unfinished ...>
12 1.3 write(2</log>, "hello", 5) = 5
11 1.4 <... pwrite64 resumed>) = 8
12 1.5 fdatasync(5</d/db> <unfinished ...>
13 1.6 write(7<socket:[9]>, "15-abc", 6) = 6
12 1.7 <... fdatasync resumed>) = 0
13 1.8 writev(7<socket:[9]>, [{iov_base="HTTP/1.1 201 Created", iov_len=20}, {iov_base="\"5-abc\"", iov_len=7}], 2) = 27
14 1.9 sendto(8<socket:[10]>, "data: mark\nid: 5-abc\n\n", 22, MSG_NOSIGNAL, NULL, 0) = 22
10 2.0 +++ killed by SIGKILL +++
"#;

fn judge(trace: &str) -> Result<Left, String> {
    check(&parse(trace), Path::new("/d"), "mark", "5-abc")
}

#[test]
fn a_sound_trace_passes() {
    assert_eq!(judge(SOUND), Ok(Left { answers: 1, frames: 1 }));
    assert_eq!(raw_range_syncs(&parse(SOUND)), 0);
}

#[test]
fn a_trace_without_a_sound_barrier_is_found_out() {
    let wrong = [
        ("the barrier fails", "fdatasync resumed>) = 0", "fdatasync resumed>) = -1 EIO (Input/output error)"),
        (
            "it fails on request",
            "fdatasync resumed>) = 0",
            "fdatasync resumed>) = -1 EIO (I/O error) (INJECTED)",
        ),
        ("the barrier never returns", "12 1.7 <... fdatasync resumed>) = 0\n", ""),
        ("the barrier is of another file", "fdatasync(5</d/db>", "fdatasync(6</d/witness>"),
        ("only a range is synced", "fdatasync", "sync_file_range"),
        ("the answer leaves during the barrier", "\"15-abc\"", "\"5-abc\""),
        ("the frame leaves during the barrier", "\"15-abc\"", "\"data: mark\""),
        ("the event was never written", "..mark..", "........"),
        ("the directory is not synced", "fsync(4</d>)", "fsync(4</e>)"),
        ("nothing was sent", "socket:[", "pipe:["),
    ];
    for (what, from, to) in wrong {
        let trace = SOUND.replace(from, to);
        assert_ne!(trace, SOUND, "{what}");
        assert!(judge(&trace).is_err(), "{what}: {:?}", judge(&trace));
    }
    // The write returns only after the barrier has begun.
    let (resumed, barrier) =
        ("11 1.4 <... pwrite64 resumed>) = 8\n", "12 1.5 fdatasync(5</d/db> <unfinished ...>\n");
    let swapped = SOUND.replace(&format!("{resumed}{barrier}"), &format!("{barrier}{resumed}"));
    assert_ne!(swapped, SOUND);
    assert!(judge(&swapped).is_err());
    assert_eq!(raw_range_syncs(&parse(&SOUND.replace("fdatasync", "sync_file_range"))), 1);
}
