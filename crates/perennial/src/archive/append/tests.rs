use std::time::Duration;

use event_log::memory::MemoryLog;
use event_log::{Cursor, Event, Filter, ManualClock, PageLimit, Position, Timestamp};

use super::*;
use crate::client::http::block_on;

const ARCHIVE: [&str; 5] = [
    r#"{"type":"$export","id":"0-7f3a9c1e","data":{"version":1,"epochs":[{"epoch":"7f3a9c1e","after":0}]}}"#,
    r#"{"id":"3-7f3a9c1e","topic":"a","type":"t","key":"k","origin":"o","time":"2026-11-21T02:00:00.000000Z","uuid":"00000000-0000-0000-0000-000000000003","data":{"n": 1}}"#,
    r#"{"id":"4-7f3a9c1e","topic":"$broker.policies","type":"$set","key":null,"origin":null,"time":"2026-11-21T02:00:00.000000Z","uuid":"00000000-0000-0000-0000-000000000004","data":{}}"#,
    r#"{"id":"5-7f3a9c1e","topic":"a","type":"$delete","key":"k","origin":null,"time":"2026-11-21T02:00:00.000000Z","uuid":"00000000-0000-0000-0000-000000000005","data":{"key":"k"}}"#,
    r#"{"type":"$end","id":"5-7f3a9c1e","data":{"events":3,"time":"2026-11-21T02:00:00.000000Z"}}"#,
];

fn log() -> MemoryLog {
    let clock = ManualClock::at(Timestamp::from_micros(1_795_226_400_000_000));
    MemoryLog::new(Arc::new(clock), Duration::from_secs(3_600))
}

/// Appends a text. The log is closed behind it, so that it is another handle from then on.
fn append(log: &mut MemoryLog, text: &str) -> anyhow::Result<Appended> {
    let mut text = Text::of(text);
    let appended = block_on(async {
        let first = text.next().await?.expect("a text with a line");
        all(Target::Log(Arc::new(log.clone())), first, &mut text, &Progress::bytes(None)).await
    });
    *log = log.reopened();
    appended
}

fn kept(log: &MemoryLog) -> Vec<Arc<Event>> {
    let mut reader = log.reader(Arc::new(Filter::everything()));
    let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
    block_on(async { Ok(reader.read(Cursor::resumed(Position::ORIGIN), limit).await?.events) }).unwrap()
}

#[test]
fn lines_are_appended_in_their_order_over_many_batches() {
    let mut log = log();
    let text: String = (0..1_234).map(|n| format!("{{\"topic\":\"a\",\"data\":{n}}}\n")).collect();
    let appended = append(&mut log, &text).unwrap();
    assert_eq!(appended, Appended { new: 1_234, ..Appended::default() });
    assert!(
        kept(&log).iter().map(|event| event.data.as_str().to_owned()).eq((0..1_234).map(|n| n.to_string()))
    );
}

#[test]
fn an_archive_is_appended_without_the_brokers_own_events_and_only_once() {
    let mut log = log();
    append(&mut log, r#"{"topic":"before","data":""}"#).unwrap();
    let first = append(&mut log, &ARCHIVE.join("\n")).unwrap();
    assert_eq!(first, Appended { new: 2, duplicates: 0, left_out: 1 });
    let again = append(&mut log, &ARCHIVE.join("\n")).unwrap();
    assert_eq!(again, Appended { new: 0, duplicates: 2, left_out: 1 });
    let kept = kept(&log);
    let shown: Vec<_> = kept.iter().map(|e| (e.topic.as_str(), e.type_name(), e.data.as_str())).collect();
    assert_eq!(
        shown,
        [("before", "message", ""), ("a", "t", "{\"n\": 1}"), ("a", "$delete", "{\"key\":\"k\"}")]
    );
    assert_eq!(
        (kept[1].key.as_ref().unwrap().as_str(), kept[1].origin.as_ref().unwrap().as_str()),
        ("k", "o")
    );
}

#[test]
fn what_stands_before_a_bad_line_is_appended_and_told() {
    let mut log = log();
    let text =
        "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"a\",\"data\":2}\n{\"topic\":\"a..b\",\"data\":3}\n";
    let told = format!("{:#}", append(&mut log, text).unwrap_err());
    assert!(told.contains("appended 2 events") && told.contains("line 3"), "{told}");
    assert_eq!(kept(&log).len(), 2);
}

#[test]
fn an_archive_that_was_cut_off_does_not_look_like_a_success() {
    let mut log = log();
    let told = format!("{:#}", append(&mut log, &ARCHIVE[..3].join("\n")).unwrap_err());
    assert!(told.contains("not all was imported") && told.contains("cut off"), "{told}");
}

#[test]
fn one_uuid_with_two_contents_is_refused() {
    let mut log = log();
    append(&mut log, ARCHIVE[1]).unwrap();
    let told = format!("{:#}", append(&mut log, &ARCHIVE[1].replace("\"n\": 1", "\"n\": 2")).unwrap_err());
    assert!(told.contains("other content"), "{told}");
    assert_eq!(kept(&log).len(), 1);
}
