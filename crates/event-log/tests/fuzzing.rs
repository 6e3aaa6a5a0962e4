//! The corpora of this crate's fuzz targets, see tests/fuzz.
#![forbid(unsafe_code)]

use event_log::fuzzing::{ids, patterns, replay};

#[test]
fn ids_and_times_read_back_what_they_show() {
    replay(env!("CARGO_MANIFEST_DIR"), "ids", ids);
}

#[test]
fn patterns_match_what_the_contract_says() {
    replay(env!("CARGO_MANIFEST_DIR"), "patterns", patterns);
}
