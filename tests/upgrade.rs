//! A store that a newer program wrote: refused with a message and left as it is.
//!
//! The stamp is the row `00 00` of the store, a big-endian u32, as the byte tables in `migrations/README.md` say. The
//! test changes it with the engine alone, while no broker runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Broker;
use crate::harness::broker;
use crate::harness::heavy;

const STAMP_KEY: [u8; 2] = [0, 0];

/// The directory of the engine's own files, which it marks with a file `conf`.
fn store(data: &Path) -> PathBuf {
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_name() == "conf" {
                return directory;
            }
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
        }
    }
    panic!("no store in {}", data.display());
}

/// The store as the engine alone opens it, while no broker runs. It insists on the segments that the store was made with,
/// which `conf` names.
pub(crate) fn engine(data: &Path) -> sled::Db {
    let directory = store(data);
    let conf = fs::read(directory.join("conf")).unwrap();
    let conf = String::from_utf8_lossy(&conf);
    let line = conf.lines().find_map(|line| line.strip_prefix("segment_size:"));
    let segment_bytes = line.expect("a size of segments").trim().parse().unwrap();
    let config = sled::Config::new().path(directory).segment_size(segment_bytes).flush_every_ms(None);
    config.open().unwrap()
}

/// Reads the stamp and puts another in its place.
fn exchange_stamp(data: &Path, stamp: u32) -> u32 {
    let db = engine(data);
    let before = db.insert(STAMP_KEY, &stamp.to_be_bytes()).unwrap().expect("the store has a stamp");
    db.flush().unwrap();
    u32::from_be_bytes(before.as_ref().try_into().unwrap())
}

#[test]
fn a_store_of_a_newer_format_is_refused_with_a_message_and_left_alone() {
    let _turn = heavy::turn();
    let mut server = Broker::start();
    let id = server.publish("upgrade", "kept");
    assert!(server.terminate().success());
    let known = exchange_stamp(&server.data(), 4_000_000_000);
    assert_eq!(known, 3, "the format of today");

    let mut serve = broker::command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(server.data());
    let output = serve.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(output.stdout.is_empty(), "it printed an address");
    assert!(complaint.contains("4000000000") && complaint.contains("newer"), "{complaint}");

    assert_eq!(exchange_stamp(&server.data(), known), 4_000_000_000, "the refused store was changed");
    server.restart();
    let envelope = server.json(&format!("/v1/events/{id}"));
    assert_eq!(envelope["data"], "kept");
}
