//! What several suites of this crate's tests need.
#![allow(unreachable_pub, reason = "each suite is a crate of its own")]

pub mod place;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// Copies the directory of a log: what a process that is killed now leaves behind. Nothing stops meanwhile, so the store is
/// copied before the files of events that it names, and all of it again if one of those came or went.
pub fn copy_log(from: &Path, to: &Path) {
    loop {
        let before = names(&from.join("events"));
        let is_whole = copy(from, to, &["LOCK", "witness", "rebuild-index", "importing", "sled", "events"]);
        if is_whole && names(&from.join("events")) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Copies the entries of a directory with these names; whether none went in the middle.
fn copy(from: &Path, to: &Path, wanted: &[&str]) -> bool {
    std::fs::create_dir(to).unwrap();
    let is_there = |name: &&&str| from.join(name).exists();
    wanted.iter().filter(is_there).all(|name| copy_entry(&from.join(name), &to.join(name)))
}

fn copy_entry(from: &Path, to: &Path) -> bool {
    if !from.is_dir() {
        return std::fs::copy(from, to).is_ok();
    }
    std::fs::create_dir(to).unwrap();
    names(from).iter().all(|name| copy_entry(&from.join(name), &to.join(name)))
}
