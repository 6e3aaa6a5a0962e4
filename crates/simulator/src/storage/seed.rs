//! One seed: lives of the engine, one after the other, with a power cut, a kill or a fault between them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::numbers::Numbers;
use crate::storage::disk::{Cut, Disk, Image};
use crate::storage::fault::{Call, Fault};
use crate::storage::history::Ledger;
use crate::storage::journal::{self, Entry};
use crate::storage::phase::{BROKEN, FAILED, HUNG, Phase};
use crate::storage::profile::Profile;

/// What a seed came to, for the one who counts.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) lives: usize,
    pub(crate) cuts: usize,
    pub(crate) faults: usize,
}

/// Where a life begins.
#[derive(Clone)]
enum Start {
    /// After a power cut.
    Image(Image),
    /// The system has lived on.
    Disk(Disk),
}

/// Runs a seed in a folder of its own. What goes wrong is the error.
pub(crate) fn run(seed: u64, folder: &Path) -> anyhow::Result<Counts> {
    let mut seed = Seed { seed, folder, counts: Counts::default() };
    seed.live(&Start::Image(Image::default()), Ledger::default(), &[])?;
    Ok(seed.counts)
}

struct Seed<'a> {
    seed: u64,
    folder: &'a Path,
    counts: Counts,
}

impl Seed<'_> {
    /// One life, and all that come after it.
    fn live(&mut self, start: &Start, ledger: Ledger, path: &[u64]) -> anyhow::Result<()> {
        let depth = path.len();
        let mut numbers = Numbers::new(self.seed, &[path, &[1 << 40]].concat());
        let root = self.folder.join("disk");
        let image = match start {
            Start::Image(image) => image.clone(),
            Start::Disk(disk) => disk.cut(Cut::Kill, &mut numbers.clone()),
        };
        image.write(&root).context("cannot lay out a disk")?;
        let faults = if numbers.percent(25) { faults(&mut numbers) } else { Vec::new() };
        self.counts.lives += 1;
        self.counts.faults += usize::from(!faults.is_empty());
        let name: String = path.iter().map(|step| format!("-{step}")).collect();
        let phase = Phase {
            seed: self.seed,
            path: path.to_vec(),
            root: root.to_string_lossy().into_owned(),
            journal: self.folder.join(format!("journal{name}")).to_string_lossy().into_owned(),
            ledger: ledger.clone(),
            faults,
            faults_at_open: numbers.percent(30),
        };
        let entries =
            self.run_process(&phase).with_context(|| format!("life {path:?}, faults {:?}", phase.faults))?;
        let disk = match start {
            Start::Image(image) => Disk::new(image, &entries),
            Start::Disk(disk) => disk.restarted(&entries),
        };
        let of_life = || format!("life {path:?}, faults {:?}", phase.faults);
        self.check_recorder(&disk, &entries, &root).with_context(of_life)?;
        check_snapshots(&entries).with_context(of_life)?;
        let profile = Profile::of(self.seed);
        for number in 0..profile.cuts()[depth] as u64 {
            let moment = profile.moment(&entries, &mut numbers);
            let mut disk = disk.clone();
            let mut ledger = ledger.clone();
            for entry in &entries[..moment] {
                disk.take(entry);
                if let Entry::Mark(mark) = entry {
                    ledger.add(mark);
                }
            }
            let share = numbers.one_of(&[10, 50, 90]);
            let is_killed = profile == Profile::Starts && depth == 0 && numbers.percent(50);
            let cut = match numbers.below(10) {
                _ if is_killed => Cut::Kill,
                0 | 1 => Cut::Kill,
                2 | 3 => Cut::Nothing,
                4 | 5 => Cut::Ordered(share),
                _ => Cut::Any(share),
            };
            let next = match cut {
                Cut::Kill => Start::Disk(disk),
                cut => Start::Image(disk.cut(cut, &mut numbers)),
            };
            self.counts.cuts += 1;
            let path = [path, &[number]].concat();
            self.live(&next, ledger, &path).with_context(|| {
                let faults = if phase.faults.is_empty() {
                    String::new()
                } else {
                    format!(", faults {:?}", phase.faults)
                };
                format!("after {cut:?} at {moment} of {} entries{faults}", entries.len())
            })?;
        }
        Ok(())
    }

    fn run_process(&self, phase: &Phase) -> anyhow::Result<Vec<Entry>> {
        let file = self.folder.join("phase");
        std::fs::write(&file, journal::encode(phase))?;
        let output = Command::new(std::env::current_exe()?)
            .arg("phase")
            .arg(&file)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let stopped_at_barrier = said.contains("the disk refused to make the log durable");
        match output.status.code() {
            Some(0) => {}
            Some(FAILED) if !phase.faults.is_empty() => {}
            Some(1) if !phase.faults.is_empty() && stopped_at_barrier => {}
            Some(HUNG) => bail!("the process hangs:\n{said}"),
            Some(BROKEN) => bail!("a promise was broken:\n{said}"),
            _ => bail!("the process ended with {}:\n{said}", output.status),
        }
        journal::read(Path::new(&phase.journal))
    }

    /// What the journal says must be what is on the disk: else something escaped it.
    fn check_recorder(&self, disk: &Disk, entries: &[Entry], root: &Path) -> anyhow::Result<()> {
        let mut disk = disk.clone();
        entries.iter().for_each(|entry| disk.take(entry));
        if disk.has_abandoned() {
            // What the process sees of it is not told apart from what is on the disk.
            return Ok(());
        }
        let expected = disk.cut(Cut::Kill, &mut Numbers::new(0, &[]));
        let found = Image::read(root)?;
        let differing: BTreeSet<&PathBuf> = found
            .files
            .keys()
            .chain(expected.files.keys())
            .filter(|path| found.files.get(*path) != expected.files.get(*path))
            .collect();
        ensure!(
            differing.is_empty() && found.directories == expected.directories,
            "the journal does not tell of all that was done to {differing:?}"
        );
        Ok(())
    }
}

/// What gives the name of a snapshot its barrier is a symbol of this program, which the linker might leave out one day.
fn check_snapshots(entries: &[Entry]) -> anyhow::Result<()> {
    for pair in entries.windows(2) {
        if let [Entry::Rename(_, to), next] = pair
            && to.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"snap."))
        {
            ensure!(matches!(next, Entry::SyncDirectory(..)), "{} has no barrier: {next:?}", to.display());
        }
    }
    Ok(())
}

fn faults(numbers: &mut Numbers) -> Vec<Fault> {
    let call = numbers.one_of(&[Call::Read, Call::Write, Call::Write, Call::Sync, Call::Sync, Call::Create]);
    let error = match call {
        Call::Read | Call::Sync => libc::EIO,
        Call::Write | Call::Create => numbers.one_of(&[libc::EIO, libc::ENOSPC]),
    };
    if numbers.percent(30) {
        return vec![Fault::Room(numbers.below(1 << (8 + numbers.clone().below(12))))];
    }
    let after = numbers.below(1 << numbers.clone().below(8));
    vec![Fault::Calls { call, after, count: numbers.one_of(&[1, 1, u64::MAX]), error }]
}
