//! The bodies of the fuzz targets of this crate, and what those of all crates have in common.
//!
//! A body takes any bytes, makes of them what it needs, and panics if something does not hold. `tests/fuzz` gives it the bytes
//! that a fuzzer finds; [`replay`] gives it those that were kept, in every run of the tests. What is expected is worked
//! out here in a second way, from what is promised, and never with the code that is tried.

use std::path::Path;

use arbitrary::{Result, Unstructured};
use uuid::Uuid;

use crate::clock::LAST_MICROS;
use crate::{
    Data, Epoch, Event, EventId, EventType, IdempotencyKey, Key, Origin, Pattern, Position, Timestamp, Topic,
};

/// Gives a body all inputs of its corpus. `crate_folder` is the manifest's folder of a crate of this workspace.
///
/// # Panics
///
/// If there is no corpus, or a body panics; the name of the input is printed before.
pub fn replay(crate_folder: &str, target: &str, body: fn(&[u8])) {
    let corpus = Path::new(crate_folder).join("../../tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("a folder is read").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} holds no input", corpus.display());
    for input in inputs {
        let bytes = std::fs::read(&input).expect("an input is read");
        let named = Named(&input);
        body(&bytes);
        drop(named);
    }
}

/// Says which input it was if its body panics.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    #[expect(clippy::print_stderr, reason = "a test says what it failed on")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0.display());
        }
    }
}

/// Reads the input as an event id and as a time.
pub fn ids(input: &[u8]) {
    match EventId::parse(input) {
        Ok(id) => {
            assert!(is_id(input), "{input:?} is no id, and was read as {id}");
            assert_eq!(id.to_string().as_bytes(), input, "an id has one form");
        }
        Err(_) => assert!(!is_id(input), "{input:?} is an id, and was refused"),
    }
    let mut parts = Unstructured::new(input);
    let (position, epoch) = (parts.arbitrary().unwrap_or_default(), parts.arbitrary().unwrap_or_default());
    let id = EventId { position: Position::new(position), epoch: Option::map(epoch, Epoch::new) };
    assert_eq!(EventId::parse(id.to_string().as_bytes()), Ok(id));
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(time) = Timestamp::parse_rfc3339(text)
    {
        let shown = time.to_string();
        assert_eq!(Timestamp::parse_rfc3339(&shown), Ok(time), "{text} is shown as {shown}");
    }
}

/// What the contract says of an id.
fn is_id(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b'-');
    let (digits, epoch) = (parts.next().unwrap_or_default(), parts.next());
    let number = digits.iter().fold(0u128, |number, digit| {
        number.saturating_mul(10).saturating_add(u128::from(digit.wrapping_sub(b'0')))
    });
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && (digits == b"0" || digits[0] != b'0')
        && number <= u128::from(u64::MAX)
        && epoch.is_none_or(|epoch| {
            epoch.len() == 8 && epoch.iter().all(|digit| b"0123456789abcdef".contains(digit))
        })
}

/// The first line is a pattern, the others are topics.
pub fn patterns(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let pattern_text = lines.next().unwrap_or_default();
    let parts: Vec<&str> = pattern_text.split('.').collect();
    let is_pattern = is_name(pattern_text) && !parts[..parts.len() - 1].contains(&"**");
    let pattern = Pattern::parse(pattern_text);
    assert_eq!(pattern.is_ok(), is_pattern, "{pattern_text:?}: {pattern:?}");
    for line in lines.chain([pattern_text]) {
        let segments: Vec<&str> = line.split('.').collect();
        let is_topic = is_name(line) && !segments.iter().any(|segment| ["*", "**"].contains(segment));
        let topic = Topic::parse(line);
        assert_eq!(topic.is_ok(), is_topic, "{line:?}: {topic:?}");
        let Ok(topic) = topic else { continue };
        assert_eq!((topic.as_str(), topic.is_reserved()), (line, segments[0].starts_with('$')));
        let itself = Pattern::from(topic.clone());
        assert_eq!(itself.as_topic().as_ref(), Some(&topic));
        assert!(itself.matches(&topic));
        if let Ok(pattern) = &pattern {
            let is_hidden = parts[0].bytes().all(|byte| byte == b'*') && segments[0].starts_with('$');
            // More than two stars are a name like any other, which the match itself tells apart.
            let expected = matches(&parts, &segments) && !is_hidden;
            assert_eq!(pattern.matches(&topic), expected, "{pattern} {topic}");
        }
    }
    if let Ok(pattern) = pattern {
        assert_eq!(pattern.as_str(), pattern_text);
        let has_wildcard = parts.iter().any(|part| ["*", "**"].contains(part));
        assert_eq!(pattern.as_topic().is_none(), has_wildcard, "{pattern}");
    }
}

/// What the contract says of topics and patterns alike.
fn is_name(text: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control();
    (1..=512).contains(&text.len())
        && !text.chars().any(forbidden)
        && text.split('.').all(|segment| !segment.is_empty())
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        ([part, pattern @ ..], [segment, topic @ ..]) => {
            (*part == "*" || part == segment) && matches(pattern, topic)
        }
        _ => false,
    }
}

/// An event, in any place.
pub fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    Ok(Event {
        position: Position::new(input.arbitrary()?),
        time: Timestamp::from_micros(input.int_in_range(0..=LAST_MICROS)?),
        uuid: Uuid::from_u128(input.arbitrary()?),
        topic: topic(input)?,
        event_type: parsed(input, EventType::parse)?,
        key: parsed(input, Key::parse)?,
        origin: parsed(input, Origin::parse)?,
        data: Data::from(bytestring::ByteString::from(input.arbitrary::<&str>()?)),
    })
}

/// A topic; one of a few if the input's text is none.
pub fn topic(input: &mut Unstructured<'_>) -> Result<Topic> {
    let text = *input.choose(&["a", "b", "a.b", "$broker.x", ""])?;
    let text = if text.is_empty() { input.arbitrary()? } else { text };
    Ok(Topic::parse(text).unwrap_or_else(|_| Topic::parse("t").expect("it is one")))
}

/// An idempotency key, or none.
pub fn idempotency_key(input: &mut Unstructured<'_>) -> Result<Option<IdempotencyKey>> {
    parsed(input, IdempotencyKey::parse)
}

fn parsed<T, E>(
    input: &mut Unstructured<'_>,
    parse: impl Fn(String) -> std::result::Result<T, E>,
) -> Result<Option<T>> {
    match input.arbitrary()? {
        true => Ok(parse(input.arbitrary::<String>()?).ok()),
        false => Ok(None),
    }
}
