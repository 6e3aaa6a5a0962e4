//! Queries: what a browser's form would have said, or a refusal.

use event_log::{EventId, Timestamp};
use percent_encoding::percent_decode;
use url::form_urlencoded;

use broker::Start;

use crate::query::{Param, Query};
use crate::start;

const PARAMS: [Param; 4] =
    [Param::Once("from"), Param::Once("until"), Param::Repeatable("topic"), Param::Repeatable("\u{e9}")];

/// Reads the input as a query, and its text as where a reading begins and ends.
pub fn query(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    read_query(&text);
    read_place(&text);
}

fn read_query(text: &str) {
    let asked = Query::parse_text(text, &PARAMS);
    let pairs = form(text);
    let Ok(query) = asked else {
        return assert!(pairs.is_none_or(|pairs| !are_known(&pairs)), "{text:?} was refused");
    };
    let pairs = pairs.unwrap_or_else(|| panic!("{text:?} was read"));
    assert!(are_known(&pairs), "{text:?} was read");
    for name in ["from", "until", "topic", "\u{e9}"] {
        let expected: Vec<&str> =
            pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| &**value).collect();
        assert_eq!(query.all(name).collect::<Vec<_>>(), expected);
        assert_eq!(query.get(name), expected.first().copied());
        let flag = match expected.first() {
            None | Some(&"false") => Some(false),
            Some(&"true") => Some(true),
            Some(_) => None,
        };
        assert_eq!(query.flag(name).ok(), flag);
    }
    // And as another parser of forms reads it, which knows no refusal.
    let other: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    assert_eq!(pairs, other);
}

/// The pairs of a form (URL, 5.1), if every escape is one, and all of it is UTF-8.
fn form(text: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| {
        let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
        let is_escape = |(at, _): (usize, &u8)| {
            bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        if !bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(is_escape) {
            return None;
        }
        String::from_utf8(percent_decode(&bytes).collect()).ok()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn are_known(pairs: &[(String, String)]) -> bool {
    let count = |name: &str| pairs.iter().filter(|(given, _)| given == name).count();
    pairs.iter().all(|(name, _)| ["from", "until", "topic", "\u{e9}"].contains(&&**name))
        && count("from") <= 1
        && count("until") <= 1
}

fn read_place(text: &str) {
    let is_time = Timestamp::parse_rfc3339(text).is_ok();
    let id = EventId::parse(text.as_bytes()).ok();
    match start::from(text) {
        Ok(Start::Latest) => assert!(["", "latest"].contains(&text)),
        Ok(Start::Earliest) => assert_eq!(text, "earliest"),
        Ok(Start::Last(count)) => assert_eq!(format!("-{count}"), text),
        Ok(Start::At { id: read, requested }) => assert_eq!((Some(read), &*requested), (id, text)),
        Ok(Start::Time(time)) => {
            assert_eq!(start::from(&time.to_string()).ok(), Some(Start::Time(time)), "{text}");
        }
        Ok(other) => panic!("{text:?} was read as {other:?}"),
        Err(_) => assert!(id.is_none() && !is_time, "{text:?} was refused"),
    }
}
