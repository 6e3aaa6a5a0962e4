//! The corpora of this crate's fuzz targets, see tests/fuzz.
#![forbid(unsafe_code)]

use broker_http::fuzzing::{archive, ndjson, publish, query, sse};
use event_log::fuzzing::replay;

#[test]
fn an_event_stream_gives_what_was_published() {
    replay(env!("CARGO_MANIFEST_DIR"), "sse", sse);
}

#[test]
fn a_query_says_what_a_form_says() {
    replay(env!("CARGO_MANIFEST_DIR"), "query", query);
}

#[test]
fn lines_and_arrays_and_single_objects_say_the_same() {
    replay(env!("CARGO_MANIFEST_DIR"), "ndjson", ndjson);
}

#[test]
fn an_archive_reads_back_as_it_was_written() {
    replay(env!("CARGO_MANIFEST_DIR"), "archive", archive);
}

#[test]
fn the_fast_path_and_the_web_side_are_one_server() {
    replay(env!("CARGO_MANIFEST_DIR"), "publish", publish);
}
