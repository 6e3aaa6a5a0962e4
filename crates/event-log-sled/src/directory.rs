//! The data directory: who holds it, and that what is created in it survives a power cut.
//!
//! A file that was created is durable only once its directory is synced too, and a directory once its parent is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::OpenError;

/// How long to wait for a lock that somebody has.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The right to a directory, held until it is dropped, or until the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    is_left: bool,
}

impl Lock {
    /// Whether the process that had it before ended without closing what is in the directory.
    pub(crate) fn is_left(&self) -> bool {
        self.is_left
    }

    /// Everything in the directory is durable.
    pub(crate) fn close(self) {
        // If that cannot be written down, the next start takes more care than it must.
        drop(self.file.set_len(0));
    }
}

/// Makes the directory if there is none, and takes the lock on it: nothing else in it is touched before.
pub(crate) fn take(directory: &Path) -> Result<Lock, OpenError> {
    create(directory).map_err(|error| OpenError::io("create the data directory", directory, error))?;
    let path = directory.join("LOCK");
    let io_error = |error| OpenError::io("take the lock file", &path, error);
    // Whoever removed it, as after a crash, took away what it said.
    let is_gone = !path.try_exists().map_err(io_error)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error)?;
    match lock_patiently(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The lock says that somebody is there; who it is, is only for the message.
            drop(file.read_to_string(&mut holder));
            let holder = holder.trim().to_owned();
            return Err(OpenError::Locked { directory: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(error)),
    }
    let mut holder = Vec::new();
    file.read_to_end(&mut holder).map_err(io_error)?;
    let write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        file.sync_all()?;
        sync(directory)
    };
    let mut write = write;
    write().map_err(io_error)?;
    Ok(Lock { file, is_left: is_gone || !holder.is_empty() })
}

/// A process that was killed keeps its lock until the kernel has taken it apart, which a busy disk can delay.
fn lock_patiently(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// Creates a directory, with those above it, and makes their entries durable.
fn create(directory: &Path) -> io::Result<()> {
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if directory.is_dir() {
        // It may be there only because a process made it that was killed before it could say so to the disk.
        return match sync(&parent) {
            // Whoever may not read it did not make anything in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    create(&parent)?;
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        other => other?,
    }
    sync(&parent)
}

/// Writes a part of a file anew, as it is, and makes it durable.
///
/// A barrier that fails ends the process, but not the system: what the disk did not take stays in memory, where it is read, and counts
/// as written. So no later barrier writes it, and a power cut would take back what the next process showed.
pub(crate) fn write_anew(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    while from < to {
        let piece = &mut piece[..(to - from).min(1 << 20) as usize];
        file.read_exact_at(piece, from)?;
        file.write_all_at(piece, from)?;
        from += piece.len() as u64;
    }
    file.sync_all()
}

/// Makes a directory's entries, or a file's bytes, durable.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What the files below a directory take on disk.
pub(crate) fn bytes_on_disk(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
        // The system counts blocks of 512 bytes, whatever the disk's own are.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Bytes that a process without privileges may still write where the directory lives.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_with_those_above_it_and_held_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        let held = take(&directory).unwrap();
        let refused = take(&directory).unwrap_err();
        let own = std::process::id().to_string();
        assert!(matches!(&refused, OpenError::Locked { holder, .. } if *holder == own), "{refused:?}");
        assert!(refused.to_string().contains(&own));
        drop(held);
        take(&directory).unwrap();
    }

    #[test]
    fn who_did_not_close_a_directory_left_it_and_so_did_whoever_lost_the_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        take(directory.path()).unwrap().close();
        let lock = take(directory.path()).unwrap();
        assert!(!lock.is_left(), "it was closed");
        drop(lock);
        let lock = take(directory.path()).unwrap();
        assert!(lock.is_left(), "it was not closed");
        lock.close();
        std::fs::remove_file(directory.path().join("LOCK")).unwrap();
        assert!(take(directory.path()).unwrap().is_left(), "nobody knows");
    }

    #[test]
    fn what_lies_in_a_directory_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(bytes_on_disk(directory.path()), 0);
        std::fs::create_dir(directory.path().join("inner")).unwrap();
        let path = directory.path().join("inner/file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        sync(&path).unwrap();
        assert!(bytes_on_disk(directory.path()) >= 1 << 20);
        assert!(free_bytes(directory.path()).unwrap() > 0);
    }
}
