//! The events of a batch's body, read strictly and in one pass.
//!
//! The text of data that is not a JSON string is kept exactly as it was sent, so data is never taken apart here. Texts are
//! copied out of the body: an event that somebody still holds must not keep a body of many events alive.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use bytestring::ByteString;
use event_log::{NewEvent, Topic};
use serde::Deserializer;
use serde::de::DeserializeSeed;

use super::Form;
use super::object::{Context, Element, Fields, List, lone_surrogate};
use crate::body;
use crate::limits::Limit;
use crate::problem::Problem;
use crate::publish;

/// What a batch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) events_max: usize,
    pub(crate) data_bytes_max: usize,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The events, in order; at least one.
pub(crate) fn events(body: &[u8], form: Form, limits: Limits) -> Result<Vec<NewEvent>, Problem> {
    let text = body::text(body).map_err(|problem| match (form, std::str::from_utf8(body)) {
        (Form::Ndjson, Err(error)) => problem.with_line(line_at(body, error.valid_up_to())),
        _ => problem,
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        let detail = "the body begins with a byte order mark, which JSON does not have; send it without";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-json", detail));
    }
    let events = match form {
        Form::Ndjson => lines(text, limits)?,
        Form::Json => document(text, limits)?,
    };
    match events.is_empty() {
        true => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "empty-batch",
            "the batch is empty; it has at least one event",
        )),
        false => Ok(events),
    }
}

/// Which line of the body, or element of its array, an event stood in, from 1.
pub(crate) fn line_of(body: &[u8], form: Form, index: usize) -> usize {
    let is_blank = |line: &[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
    let mut filled = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !is_blank(line));
    match form {
        Form::Ndjson => filled.nth(index).map_or(index, |(line, _)| line) + 1,
        Form::Json => index + 1,
    }
}

fn line_at(body: &[u8], place: usize) -> usize {
    body[..place].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn lines(text: &str, limits: Limits) -> Result<Vec<NewEvent>, Problem> {
    let mut builder = Builder { limits, last_topic: None };
    let mut events = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        if events.len() == limits.events_max {
            return Err(too_many(limits));
        }
        let parsed = object(line).and_then(|fields| builder.build(fields));
        events.push(parsed.map_err(|problem| problem.with_line(index + 1))?);
    }
    Ok(events)
}

fn object(line: &str) -> Result<Fields<'_>, Problem> {
    let context = Context::default();
    let mut source = serde_json::Deserializer::from_str(line);
    let parsed = Element(&context).deserialize(&mut source);
    let ended = parsed.and_then(|fields| source.end().map(|()| fields));
    ended.map_err(|error| context.problem(&error, Form::Ndjson))
}

fn document(text: &str, limits: Limits) -> Result<Vec<NewEvent>, Problem> {
    let context = Context::default();
    let is_list = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[');
    let mut source = serde_json::Deserializer::from_str(text);
    let parsed = match is_list {
        true => source.deserialize_seq(List { context: &context, events_max: limits.events_max }),
        false => Element(&context).deserialize(&mut source).map(|fields| vec![fields]),
    };
    let ended = parsed.and_then(|elements| {
        context.number.set(0);
        source.end().map(|()| elements)
    });
    let elements = ended.map_err(|error| match context.too_many.get() {
        true => too_many(limits),
        false => context.problem(&error, Form::Json),
    })?;
    let mut builder = Builder { limits, last_topic: None };
    let built = elements.into_iter().zip(1..);
    built.map(|(fields, number)| builder.build(fields).map_err(|problem| problem.with_line(number))).collect()
}

fn too_many(limits: Limits) -> Problem {
    let detail = format!(
        "the batch has more than {} events, which is what max_batch_events allows",
        limits.events_max
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", detail).with_limit(Limit::BatchEvents)
}

/// Makes events of fields. Neighbours are often of one topic, and then share its text.
struct Builder {
    limits: Limits,
    last_topic: Option<Topic>,
}

impl Builder {
    fn build(&mut self, fields: Fields<'_>) -> Result<NewEvent, Problem> {
        let text = |value: Cow<'_, str>| ByteString::from(&*value);
        let topic = self.topic(&fields.topic.ok_or_else(|| missing("topic"))?)?;
        let data = data_text(fields.data.ok_or_else(|| missing("data"))?.get())?;
        let optional = |value: Option<Cow<'_, str>>| value.map(text);
        Ok(NewEvent {
            topic,
            event_type: optional(fields.event_type).map(publish::event_type).transpose()?.flatten(),
            key: optional(fields.key).map(publish::key).transpose()?,
            origin: optional(fields.origin).map(publish::origin).transpose()?,
            idempotency_key: optional(fields.idempotency_key)
                .map(|value| publish::idempotency_key(value, "idempotency_key"))
                .transpose()?,
            data: publish::data(text(data), self.limits.data_bytes_max)?,
        })
    }

    fn topic(&mut self, text: &str) -> Result<Topic, Problem> {
        match &self.last_topic {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => {
                let topic = publish::topic(text)?;
                self.last_topic = Some(topic.clone());
                Ok(topic)
            }
        }
    }
}

fn missing(field: &'static str) -> Problem {
    let detail = format!("the event has no {field}; every event has a topic and data");
    Problem::bad_request("missing-field", field, detail)
}

/// A string is taken verbatim, any other JSON as its exact text. Half of a surrogate pair is refused only in a string:
/// elsewhere nothing has to be decoded, and an envelope embeds the same text when it was published alone.
fn data_text(json: &str) -> Result<Cow<'_, str>, Problem> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !json.contains('\\') => Ok(Cow::Borrowed(plain)),
        // The text is JSON already, so all that can be wrong with the string is a lone surrogate.
        Some(_) => serde_json::from_str(json).map(Cow::Owned).map_err(|_| lone_surrogate("data")),
        None => Ok(Cow::Borrowed(json)),
    }
}
