//! What a run did to its files, in one order, with what it was told and told others in between.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bincode::{Decode, Encode};

use crate::storage::history::Mark;

/// A file, whatever its name is now.
pub(crate) type FileId = u32;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum Entry {
    /// The file was there when the recording began.
    Present(FileId, PathBuf),
    /// A file that was not there was made.
    Create(FileId, PathBuf),
    /// Bytes were written at an offset.
    Write(FileId, u64, Vec<u8>),
    /// The file has this length from now on.
    SetLength(FileId, u64),
    /// A directory was made.
    MakeDirectory(PathBuf),
    /// A name was given to what had another.
    Rename(PathBuf, PathBuf),
    /// A name of a file or of an empty directory was taken away.
    Remove(PathBuf),
    /// A barrier for a file, and whether it succeeded.
    Sync(FileId, bool),
    /// A barrier for the entries of a directory, and whether it succeeded.
    SyncDirectory(PathBuf, bool),
    /// What the one who drives the log did and learned.
    Mark(Mark),
}

const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// The bytes of an entry, behind their length.
pub(crate) fn encode<T: Encode>(entry: &T) -> Vec<u8> {
    let body = bincode::encode_to_vec(entry, CONFIG).expect("what is held in memory can be encoded");
    let mut bytes = u32::try_from(body.len()).expect("an entry is small").to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// Reads all entries of a file. The last one may be cut off where a process ended.
pub(crate) fn read<T: Decode<()>>(path: &Path) -> anyhow::Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut file = BufReader::new(file);
    let mut entries = Vec::new();
    let mut length = [0; 4];
    while file.read_exact(&mut length).is_ok() {
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        if file.read_exact(&mut body).is_err() {
            break;
        }
        entries.push(bincode::decode_from_slice(&body, CONFIG)?.0);
    }
    Ok(entries)
}
