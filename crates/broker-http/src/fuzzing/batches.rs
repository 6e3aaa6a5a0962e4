//! Batches: lines, an array and single objects say the same; what was taken is what another parser reads, and a refusal names
//! its place.

use actix_web::ResponseError;
use event_log::{EventType, IdempotencyKey, Key, NewEvent, Origin};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::batch::Form;
use crate::batch::parse::{Limits, events as parse, line_of};
use crate::envelope;
use crate::problem::Problem;

const LIMITS: Limits = Limits { events_max: 20, data_bytes_max: 1_000 };

/// Reads the input as a batch in all its forms.
pub fn ndjson(input: &[u8]) {
    let lines = parse(input, Form::Ndjson, LIMITS);
    let document = parse(input, Form::Json, LIMITS);
    for problem in [&lines, &document].into_iter().filter_map(|read| read.as_ref().err()) {
        judge(problem, input);
    }
    let text = std::str::from_utf8(input).unwrap_or_default();
    if let Ok(events) = &lines {
        let filled: Vec<(usize, &str)> = text
            .split('\n')
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim_matches([' ', '\t', '\r'])))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        assert_eq!(events.len(), filled.len(), "a line is an event");
        for (index, (event, (number, line))) in events.iter().zip(&filled).enumerate() {
            compare(event, line);
            assert_eq!(line_of(input, Form::Ndjson, index), *number);
        }
        let array = format!("[{}]", filled.iter().map(|(_, line)| *line).collect::<Vec<_>>().join(","));
        assert_eq!(parse(array.as_bytes(), Form::Json, LIMITS).ok().as_ref(), Some(events));
        assert_eq!(parse(&written(events), Form::Ndjson, LIMITS).ok().as_ref(), Some(events));
    }
    if let Ok(events) = &document {
        let list: Vec<&RawValue> = match serde_json::from_str(text) {
            Ok(list) => list,
            Err(_) => vec![serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))],
        };
        assert_eq!(events.len(), list.len());
        for (event, object) in events.iter().zip(list) {
            compare(event, object.get());
            let alone = parse(object.get().as_bytes(), Form::Json, LIMITS);
            assert_eq!(alone.ok().as_deref(), Some(std::slice::from_ref(event)));
        }
    }
}

fn judge(problem: &Problem, input: &[u8]) {
    assert!(problem.status_code().is_client_error(), "{problem}");
    let lines = input.split(|byte| *byte == b'\n').count();
    let line = problem.line();
    assert!(
        line.is_none_or(|line| (1..=lines.max(LIMITS.events_max + 1)).contains(&line)),
        "{line:?} of {lines}"
    );
}

/// What an event says is what its object says, as serde_json reads it.
fn compare(event: &NewEvent, object: &str) {
    // Data may be nested too deeply for a value, and numbers too long.
    #[derive(serde::Deserialize)]
    struct Object<'a> {
        topic: String,
        #[serde(borrow)]
        data: &'a RawValue,
        #[serde(default)]
        r#type: Value,
        #[serde(default)]
        key: Value,
        #[serde(default)]
        origin: Value,
        #[serde(default)]
        idempotency_key: Value,
    }
    let read: Object<'_> = serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    assert_eq!(read.topic, event.topic.as_str());
    let data = match read.data.get() {
        text if text.starts_with('"') => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}")),
        other => other.to_owned(),
    };
    assert_eq!(data, event.data.as_str());
    let named = read.r#type.as_str().filter(|name| *name != EventType::MESSAGE);
    assert_eq!(named, event.event_type.as_ref().map(EventType::as_str));
    assert_eq!(read.key.as_str(), event.key.as_ref().map(Key::as_str));
    assert_eq!(read.origin.as_str(), event.origin.as_ref().map(Origin::as_str));
    assert_eq!(read.idempotency_key.as_str(), event.idempotency_key.as_ref().map(IdempotencyKey::as_str));
}

/// The events as lines again, every text a string.
fn written(events: &[NewEvent]) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        lines.extend_from_slice(b"{\"topic\":");
        envelope::write_text(&mut lines, event.topic.as_str());
        for (name, text) in [
            ("type", event.event_type.as_ref().map(EventType::as_str)),
            ("key", event.key.as_ref().map(Key::as_str)),
            ("origin", event.origin.as_ref().map(Origin::as_str)),
            ("idempotency_key", event.idempotency_key.as_ref().map(IdempotencyKey::as_str)),
            ("data", Some(event.data.as_str())),
        ] {
            lines.extend_from_slice(format!(",\"{name}\":").as_bytes());
            match text {
                Some(text) => envelope::write_text(&mut lines, text),
                None => lines.extend_from_slice(b"null"),
            }
        }
        lines.extend_from_slice(b"}\n");
    }
    lines
}
