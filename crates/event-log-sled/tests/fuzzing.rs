//! The corpora of this crate's fuzz targets, see tests/fuzz.
#![forbid(unsafe_code)]

use event_log::fuzzing::replay;
use event_log_sled::fuzzing::{chunk, import, record, rows};

#[test]
fn a_record_is_damage_or_what_was_written() {
    replay(env!("CARGO_MANIFEST_DIR"), "record", record);
}

#[test]
fn a_chunk_is_damage_or_what_was_written() {
    replay(env!("CARGO_MANIFEST_DIR"), "chunk", chunk);
}

#[test]
fn a_row_is_damage_or_what_was_written() {
    replay(env!("CARGO_MANIFEST_DIR"), "rows", rows);
}

#[test]
fn an_archive_is_refused_or_becomes_a_log_that_says_the_same() {
    replay(env!("CARGO_MANIFEST_DIR"), "import", import);
}
