//! A disk below a journal: what it holds for certain, what it may hold, and what a power cut leaves of that.
//!
//! The model is that of POSIX at its strictest. A barrier for a file makes its bytes and its length durable, and nothing else; a
//! barrier for a directory makes its entries durable. Of everything else a power cut leaves any part, in any combination: a write
//! whole, in part (sectors of 512 bytes, or up to any byte) or not at all; a length without its bytes, which are then zeros, or
//! bytes without their length; a name that was given, taken or changed, or not. After a barrier that failed, what
//! it should have covered may be lost for ever, whatever later barriers say: the system takes pages for clean then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::numbers::Numbers;
use crate::storage::journal::{Entry, FileId};

const SECTOR: usize = 512;
/// From here on files are numbered whose names were lost in a life before.
const NAMELESS: FileId = 1 << 24;

/// Files and directories by their paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Image {
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Directory,
    File(FileId),
}

/// A change of names that no barrier has covered.
#[derive(Debug, Clone)]
struct NameChange {
    taken: Option<PathBuf>,
    given: Option<(PathBuf, Node)>,
}

/// A change of a file that no barrier has covered.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLength(u64),
}

#[derive(Debug, Clone, Default)]
struct Contents {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// So many of the pending changes are no longer dirty: a barrier for them failed.
    abandoned: usize,
}

/// The disk after so much of a journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    names: BTreeMap<PathBuf, Node>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<FileId, Contents>,
    /// What names stand for with all changes.
    current: BTreeMap<PathBuf, Node>,
}

/// How a power cut treats what no barrier covered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    /// There is none: a process was killed, and the system lives.
    Kill,
    /// Everything is lost.
    Nothing,
    /// Names change in order, as a file system with a journal sees to; of the rest any part is left.
    Ordered(u64),
    /// Any part is left. So many of a hundred things are.
    Any(u64),
}

impl Disk {
    /// A disk that holds an image for certain. Its files are named by the entries that the journal begins with.
    pub(crate) fn new(image: &Image, journal: &[Entry]) -> Self {
        let mut disk = Disk::default();
        disk.names.extend(image.directories.iter().map(|path| (path.clone(), Node::Directory)));
        for entry in journal {
            if let Entry::Present(file, path) = entry {
                let durable = image.files.get(path).cloned().expect("what is present is in the image");
                disk.files.insert(*file, Contents { durable, ..Contents::default() });
                disk.names.insert(path.clone(), Node::File(*file));
            }
        }
        disk.current = disk.names.clone();
        disk
    }

    /// The same disk under a process that was started again, which gives the files other numbers.
    pub(crate) fn restarted(&self, journal: &[Entry]) -> Self {
        let old: BTreeMap<FileId, FileId> = journal
            .iter()
            .filter_map(|entry| match entry {
                Entry::Present(file, path) => match self.current.get(path) {
                    Some(Node::File(old)) => Some((*old, *file)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        // Files without a name are never written to again, but a cut may give them their names back.
        let nameless = self.files.keys().filter(|file| !old.contains_key(file));
        let nameless: BTreeMap<FileId, FileId> = nameless.copied().zip(NAMELESS..).collect();
        let renumber = |file: FileId| old.get(&file).copied().unwrap_or_else(|| nameless[&file]);
        let node = |node: Node| match node {
            Node::File(file) => Node::File(renumber(file)),
            Node::Directory => node,
        };
        let all = |names: &BTreeMap<PathBuf, Node>| -> BTreeMap<PathBuf, Node> {
            names.iter().map(|(path, found)| (path.clone(), node(*found))).collect()
        };
        let renamed = |change: &NameChange| NameChange {
            taken: change.taken.clone(),
            given: change.given.as_ref().map(|(path, found)| (path.clone(), node(*found))),
        };
        Disk {
            names: all(&self.names),
            current: all(&self.current),
            name_changes: self.name_changes.iter().map(renamed).collect(),
            files: self.files.iter().map(|(file, contents)| (renumber(*file), contents.clone())).collect(),
        }
    }

    /// Goes on with one entry.
    pub(crate) fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Present(..) | Entry::Mark(_) => {}
            Entry::Create(file, path) => {
                self.files.insert(*file, Contents::default());
                self.change_names(None, Some((path.clone(), Node::File(*file))));
            }
            Entry::MakeDirectory(path) => self.change_names(None, Some((path.clone(), Node::Directory))),
            Entry::Rename(from, to) => {
                let node = *self.current.get(from).expect("what is renamed has a name");
                self.change_names(Some(from.clone()), Some((to.clone(), node)));
            }
            Entry::Remove(path) => self.change_names(Some(path.clone()), None),
            Entry::Write(file, offset, bytes) => {
                self.file(*file).pending.push(Change::Write(*offset, bytes.clone()));
            }
            Entry::SetLength(file, length) => self.file(*file).pending.push(Change::SetLength(*length)),
            Entry::Sync(file, true) => self.file(*file).sync(),
            Entry::Sync(file, false) => {
                let contents = self.file(*file);
                contents.abandoned = contents.pending.len();
            }
            Entry::SyncDirectory(directory, true) => self.sync_directory(directory),
            // What failed may be written yet, or not: it stays as it is.
            Entry::SyncDirectory(_, false) => {}
        }
    }

    /// Whether a barrier failed for something that was not written again since.
    pub(crate) fn has_abandoned(&self) -> bool {
        self.files.values().any(|contents| contents.abandoned > 0)
    }

    fn file(&mut self, file: FileId) -> &mut Contents {
        self.files.get_mut(&file).expect("a file has a name before it is written to")
    }

    fn change_names(&mut self, taken: Option<PathBuf>, given: Option<(PathBuf, Node)>) {
        let change = NameChange { taken, given };
        change.apply(&mut self.current);
        self.name_changes.push(change);
    }

    fn sync_directory(&mut self, directory: &Path) {
        let names = &mut self.names;
        // An entry in a directory that got another name is lost with the old name if no barrier came before: the engine never
        // does that.
        self.name_changes.retain(|change| {
            let is_of = change.is_of(directory);
            if is_of {
                change.apply(names);
            }
            !is_of
        });
    }

    /// What a cut at this moment leaves.
    pub(crate) fn cut(&self, cut: Cut, numbers: &mut Numbers) -> Image {
        let mut names = self.names.clone();
        let count = match cut {
            Cut::Ordered(_) => numbers.index(self.name_changes.len() + 1),
            _ => self.name_changes.len(),
        };
        for change in &self.name_changes[..count] {
            let is_left = match cut {
                Cut::Kill | Cut::Ordered(_) => true,
                Cut::Nothing => false,
                Cut::Any(share) => numbers.percent(share),
            };
            if is_left {
                change.apply(&mut names);
            }
        }
        let mut image = Image::default();
        for (path, node) in &names {
            let is_reachable = path
                .ancestors()
                .skip(1)
                .filter(|above| !above.as_os_str().is_empty())
                .all(|above| names.get(above) == Some(&Node::Directory));
            match node {
                _ if !is_reachable => {}
                Node::Directory => image.directories.push(path.clone()),
                Node::File(file) => {
                    let contents = &self.files[file];
                    image.files.insert(path.clone(), contents.cut(cut, numbers));
                }
            }
        }
        image
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = &self.taken {
            names.remove(path);
        }
        let Some((path, node)) = &self.given else { return };
        names.insert(path.clone(), *node);
        // What lies in a directory goes with it.
        if let (Node::Directory, Some(old)) = (node, &self.taken) {
            let moved: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(old)).cloned().collect();
            for name in moved {
                let node = names.remove(&name).expect("it was there just now");
                names.insert(path.join(name.strip_prefix(old).expect("it lies below")), node);
            }
        }
    }

    fn is_of(&self, directory: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(directory);
        self.taken.as_deref().is_some_and(is_in) || self.given.as_ref().is_some_and(|(path, _)| is_in(path))
    }
}

impl Contents {
    fn sync(&mut self) {
        // What was abandoned is not written by this barrier. What comes behind it is, over whatever is there.
        let dirty = self.pending.split_off(self.abandoned);
        if self.abandoned == 0 {
            dirty.iter().for_each(|change| change.apply(&mut self.durable));
            return;
        }
        // Bytes that were written again are durable now; the abandoned ones may or may not be below them.
        self.pending.retain(|change| matches!(change, Change::Write(..)));
        self.abandoned = self.pending.len();
        for change in dirty {
            change.apply(&mut self.durable);
            if let Change::Write(offset, bytes) = &change {
                self.pending.iter_mut().for_each(|older| older.give_way(*offset, bytes.len()));
            }
        }
    }

    fn cut(&self, cut: Cut, numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match cut {
            Cut::Kill => {
                self.pending.iter().for_each(|change| change.apply(&mut bytes));
                return bytes;
            }
            Cut::Nothing => return bytes,
            Cut::Ordered(_) | Cut::Any(_) => {}
        }
        let share = match cut {
            Cut::Ordered(share) | Cut::Any(share) => share,
            Cut::Kill | Cut::Nothing => 0,
        };
        let mut lengths = vec![self.durable.len()];
        let mut all = self.durable.len();
        for change in &self.pending {
            all = change.length_after(all);
            lengths.push(all);
            change.apply_in_part(share, numbers, &mut bytes);
        }
        // The length is kept apart from the bytes.
        match numbers.below(10) {
            0..6 => {}
            6..8 => bytes.resize(all, 0),
            _ => bytes.resize(lengths[numbers.index(lengths.len())], 0),
        }
        bytes
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write(offset, bytes) => put(file, *offset, bytes),
            Change::SetLength(length) => file.resize(place(*length), 0),
        }
    }

    fn apply_in_part(&self, share: u64, numbers: &mut Numbers, file: &mut Vec<u8>) {
        match (self, numbers.below(4)) {
            (_, 0 | 1) | (Change::SetLength(_), _) => {
                if numbers.percent(share) {
                    self.apply(file);
                }
            }
            // Cut off at any byte.
            (Change::Write(offset, bytes), 2) => put(file, *offset, &bytes[..numbers.index(bytes.len() + 1)]),
            // Any of the sectors.
            (Change::Write(offset, bytes), _) => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min(at + SECTOR - (place(*offset) + at) % SECTOR);
                    if numbers.percent(share) {
                        put(file, offset + at as u64, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }

    fn length_after(&self, length: usize) -> usize {
        match self {
            Change::Write(offset, bytes) => length.max(place(*offset) + bytes.len()),
            Change::SetLength(length) => place(*length),
        }
    }

    /// Leaves out what a later write has covered for certain.
    fn give_way(&mut self, offset: u64, count: usize) {
        let Change::Write(own, bytes) = self else { return };
        let end = *own + bytes.len() as u64;
        let covered_end = offset + count as u64;
        if offset <= *own && covered_end >= end {
            bytes.clear();
        } else if offset <= *own && covered_end > *own {
            bytes.drain(..place(covered_end - *own));
            *own = covered_end;
        } else if offset > *own && offset < end {
            // What may lie behind the later write is left out too: less is modelled, never something impossible.
            bytes.truncate(place(offset - *own));
        }
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let (start, end) = (place(offset), place(offset) + bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("files of a simulation fit into memory")
}

impl Image {
    /// What lies below a directory.
    pub(crate) fn read(root: &Path) -> std::io::Result<Self> {
        let mut image = Image::default();
        image.add(root, Path::new(""))?;
        Ok(image)
    }

    fn add(&mut self, root: &Path, below: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => {
                    self.directories.push(path.clone());
                    self.add(root, &path)?;
                }
                false => drop(self.files.insert(path.clone(), std::fs::read(root.join(&path))?)),
            }
        }
        self.directories.sort();
        Ok(())
    }

    /// Makes a directory hold this and nothing else.
    pub(crate) fn write(&self, root: &Path) -> std::io::Result<()> {
        if root.exists() {
            std::fs::remove_dir_all(root)?;
        }
        std::fs::create_dir_all(root)?;
        for directory in &self.directories {
            std::fs::create_dir(root.join(directory))?;
        }
        self.files.iter().try_for_each(|(path, bytes)| std::fs::write(root.join(path), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(entries: &[Entry]) -> Disk {
        let mut disk = Disk::default();
        entries.iter().for_each(|entry| disk.take(entry));
        disk
    }

    fn create(file: FileId, name: &str) -> Entry {
        Entry::Create(file, name.into())
    }

    fn write(file: FileId, offset: u64, text: &str) -> Entry {
        Entry::Write(file, offset, text.as_bytes().to_vec())
    }

    fn all_cuts(disk: &Disk) -> Vec<Image> {
        let mut numbers = Numbers::new(7, &[]);
        let cuts = [Cut::Kill, Cut::Nothing].into_iter().chain((0..400).map(|n| match n % 2 {
            0 => Cut::Any(50),
            _ => Cut::Ordered(50),
        }));
        cuts.map(|cut| disk.cut(cut, &mut numbers)).collect()
    }

    #[test]
    fn what_barriers_cover_is_in_every_image() {
        let disk = disk(&[
            create(0, "a"),
            write(0, 0, "durable"),
            Entry::Sync(0, true),
            Entry::SyncDirectory("".into(), true),
            write(0, 7, " and not"),
        ]);
        let images = all_cuts(&disk);
        assert!(images.iter().all(|image| image.files[Path::new("a")].starts_with(b"durable")));
        let lengths: std::collections::BTreeSet<usize> =
            images.iter().map(|image| image.files[Path::new("a")].len()).collect();
        assert!(lengths.len() > 5, "torn at all places: {lengths:?}");
        assert!(images.iter().any(|image| image.files[Path::new("a")] == b"durable\0\0\0\0\0\0\0\0"));
    }

    #[test]
    fn a_file_without_its_entry_is_lost() {
        let disk = disk(&[create(0, "a"), write(0, 0, "x"), Entry::Sync(0, true)]);
        let images = all_cuts(&disk);
        assert!(images.iter().any(|image| image.files.is_empty()));
        assert!(images.iter().any(|image| image.files.contains_key(Path::new("a"))));
    }

    #[test]
    fn a_second_barrier_does_not_bring_back_what_a_failed_one_let_go() {
        let start = [create(0, "a"), Entry::SyncDirectory("".into(), true), write(0, 0, "abandoned")];
        let mut entries = start.to_vec();
        entries.extend([Entry::Sync(0, false), Entry::Sync(0, true)]);
        assert!(all_cuts(&disk(&entries)).iter().any(|image| image.files[Path::new("a")].is_empty()));
        entries.extend([write(0, 0, "abandoned"), Entry::Sync(0, true)]);
        let images = all_cuts(&disk(&entries));
        assert!(images.iter().all(|image| image.files[Path::new("a")] == b"abandoned"), "written again");
    }

    #[test]
    fn names_change_whole_and_in_order_where_there_is_a_journal() {
        let disk = disk(&[
            create(0, "a"),
            write(0, 0, "x"),
            Entry::Sync(0, true),
            Entry::SyncDirectory("".into(), true),
            Entry::Rename("a".into(), "b".into()),
            Entry::Remove("b".into()),
        ]);
        let mut numbers = Numbers::new(1, &[]);
        let names = |image: Image| image.files.into_keys().collect::<Vec<_>>();
        let ordered: std::collections::BTreeSet<_> =
            (0..50).map(|_| names(disk.cut(Cut::Ordered(50), &mut numbers))).collect();
        assert_eq!(ordered, [vec![], vec!["a".into()], vec!["b".into()]].into());
    }
}
