//! Data that breaks programs, from files and at random.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::tests::{archive_of, event, items, read, written};

/// Text that breaks programs: strings, cases for JSON parsers, and a decoder's test with what is no UTF-8 replaced.
fn hostile() -> Vec<String> {
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/hostile").join(name);
        std::fs::read(&path).unwrap()
    };
    let mut texts: Vec<String> = serde_json::from_slice(&file("naughty-strings.json")).unwrap();
    for case in String::from_utf8(file("json-parsing.ndjson")).unwrap().lines() {
        let case: serde_json::Value = serde_json::from_str(case).unwrap();
        let bytes = from_base64(case["bytes_base64"].as_str().unwrap());
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let decoders = String::from_utf8_lossy(&file("UTF-8-test.txt")).into_owned();
    texts.extend(decoders.lines().map(str::to_owned));
    texts.push(decoders);
    texts.extend(["", "\0", "\r", "\n", "\r\n", "{\"a\":1}\r", "\u{2028}", "\u{feff}{}"].map(str::to_owned));
    texts.push(format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)));
    assert!(texts.len() > 700, "{} texts", texts.len());
    texts
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        bits = bits << 6 | u32::try_from(DIGITS.iter().position(|d| *d == digit).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn hostile_data_comes_back_byte_for_byte() {
    let events = hostile().into_iter().zip(8..);
    let archive = archive_of(events.map(|(text, n)| event(n, "a", None, None, &text)).collect());
    let text = written(&archive);
    assert_eq!(text.lines().count(), archive.len(), "each item is one line");
    assert!(items(&text) == archive);
}

#[derive(Debug, Clone)]
struct Draft {
    gap: u64,
    topic: String,
    name: Option<String>,
    key: Option<String>,
    data: String,
}

/// Data of every kind that an envelope treats differently.
fn any_data() -> impl Strategy<Value = String> {
    let hostile = Arc::new(hostile());
    prop_oneof![
        any::<String>(),
        "[\\x00-\\x20\"\\\\{}\\[\\]0-9eE.,:ntf-]{0,24}",
        (0..hostile.len()).prop_map(move |n| hostile[n].clone()),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let topic = "(\\$broker\\.)?[a-z\u{e9}\u{1f680}\"\\\\*$]{0,3}x(\\.[a-z]{1,3}){0,2}";
    let name = proptest::option::of("[^\\r\\n\\x00$m][^\\r\\n\\x00]{0,20}");
    let key = proptest::option::of("[^\\x00]{1,20}");
    (1_u64..1 << 40, topic, name, key, any_data()).prop_map(|(gap, topic, name, key, data)| Draft {
        gap,
        topic,
        name,
        key,
        data,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_log_holds_reads_back_as_it_was(drafts in proptest::collection::vec(draft(), 0..8)) {
        let mut position = 0;
        let events = drafts.iter().map(|draft| {
            position += draft.gap;
            event(position, &draft.topic, draft.name.as_deref(), draft.key.as_deref(), &draft.data)
        });
        let archive = archive_of(events.collect());
        prop_assert_eq!(items(&written(&archive)), archive);
    }

    #[test]
    fn what_is_only_hostile_is_refused(lines in proptest::collection::vec(any_data(), 0..4)) {
        let text = lines.join("\n");
        // None of it has a topic and data.
        prop_assert!(read(&text).is_err(), "{}", text);
    }
}
