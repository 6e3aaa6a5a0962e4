//! One object of a batch, as serde reads it, and what to say when it cannot.
//!
//! Written by hand, not derived: a refusal names the field, a repeated or unknown field is refused, null is as if absent
//! but for data, and texts without escapes are borrowed from the body.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use actix_web::http::StatusCode;
use serde::Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Form;
use crate::problem::Problem;

const FIELDS: [&str; 6] = ["topic", "data", "type", "key", "origin", "idempotency_key"];

/// An object's fields as they were sent; null is as if absent, but not for data.
#[derive(Default)]
pub(super) struct Fields<'de> {
    pub(super) topic: Option<Cow<'de, str>>,
    pub(super) data: Option<&'de RawValue>,
    pub(super) event_type: Option<Cow<'de, str>>,
    pub(super) key: Option<Cow<'de, str>>,
    pub(super) origin: Option<Cow<'de, str>>,
    pub(super) idempotency_key: Option<Cow<'de, str>>,
}

/// What a parser was at when it failed.
#[derive(Default)]
pub(super) struct Context {
    field: Cell<Option<&'static str>>,
    /// A name that is not among the fields.
    unknown: Cell<Option<Box<str>>>,
    is_repeated: Cell<bool>,
    pub(super) too_many: Cell<bool>,
    /// The element of an array, from 1; 0 outside of one.
    pub(super) number: Cell<usize>,
}

impl Context {
    pub(super) fn problem(&self, error: &serde_json::Error, form: Form) -> Problem {
        let number = self.number.get();
        let problem = self.problem_of_object(error, form);
        if number > 0 { problem.with_line(number) } else { problem }
    }

    fn problem_of_object(&self, error: &serde_json::Error, form: Form) -> Problem {
        let detail = describe(error, form);
        let field = self.field.get();
        if let Some(name) = self.unknown.take() {
            return Problem::bad_request("unknown-field", &name, detail);
        }
        if let Some(field) = field.filter(|_| self.is_repeated.get()) {
            return Problem::bad_request("repeated-field", field, detail);
        }
        if error.is_syntax() && is_lone_surrogate(&detail) {
            return lone_surrogate(field.unwrap_or("name"));
        }
        match field {
            Some(field) => Problem::bad_request(
                if error.is_data() { "invalid-field" } else { "bad-json" },
                field,
                detail,
            ),
            None => Problem::new(StatusCode::BAD_REQUEST, "bad-json", detail),
        }
    }
}

/// Whether the parser stopped at half of a surrogate pair. Only its words tell: it has no other way to say which of its
/// syntax errors it was.
fn is_lone_surrogate(detail: &str) -> bool {
    ["lone leading surrogate in hex escape", "unexpected end of hex escape"]
        .iter()
        .any(|words| detail.starts_with(words))
}

fn describe(error: &serde_json::Error, form: Form) -> String {
    let full = error.to_string();
    let what = full.rfind(" at line ").map_or(full.as_str(), |place| &full[..place]);
    let (line, column) = (error.line(), error.column());
    match form {
        Form::Ndjson => {
            format!("{what}, at column {column} of the line; each line is one object such as {EXAMPLE}")
        }
        Form::Json => format!(
            "{what}, at line {line} and column {column} of the body; the body is one object such as {EXAMPLE}, or an array \
             of them"
        ),
    }
}

const EXAMPLE: &str = r#"{"topic":"a.b","data":"text"}"#;

/// Reads one object.
pub(super) struct Element<'c>(pub(super) &'c Context);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Fields<'de>, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with topic and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        let mut given = [false; FIELDS.len()];
        while let Some(index) = map.next_key_seed(Name(self.0))? {
            let name = FIELDS[index];
            self.0.field.set(Some(name));
            if std::mem::replace(&mut given[index], true) {
                self.0.is_repeated.set(true);
                return Err(A::Error::duplicate_field(name));
            }
            match name {
                "data" => fields.data = Some(map.next_value()?),
                "topic" => fields.topic = map.next_value::<Text<'de>>()?.0,
                "type" => fields.event_type = map.next_value::<Text<'de>>()?.0,
                "key" => fields.key = map.next_value::<Text<'de>>()?.0,
                "origin" => fields.origin = map.next_value::<Text<'de>>()?.0,
                _ => fields.idempotency_key = map.next_value::<Text<'de>>()?.0,
            }
            self.0.field.set(None);
        }
        Ok(fields)
    }
}

/// Reads a field's name, to its number among [`FIELDS`].
struct Name<'c>(&'c Context);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<usize, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        FIELDS.iter().position(|field| *field == name).ok_or_else(|| {
            self.0.unknown.set(Some(name.into()));
            E::unknown_field(name, &FIELDS)
        })
    }
}

/// A string, borrowed if it has no escapes, or null.
struct Text<'de>(Option<Cow<'de, str>>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text(None))
    }
}

/// Reads an array of objects.
pub(super) struct List<'c> {
    pub(super) context: &'c Context,
    pub(super) events_max: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Fields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Fields<'de>>, A::Error> {
        let mut elements = Vec::new();
        loop {
            self.context.number.set(elements.len() + 1);
            let Some(fields) = list.next_element_seed(Element(self.context))? else { return Ok(elements) };
            if elements.len() == self.events_max {
                self.context.too_many.set(true);
                return Err(A::Error::custom("too many events"));
            }
            elements.push(fields);
        }
    }
}

pub(super) fn lone_surrogate(field: &str) -> Problem {
    let detail = "a string has half of a surrogate pair, which is no character and has no UTF-8; write both halves, such \
                  as \\ud83d\\ude80, or the character itself";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "lone-surrogate", detail).with_field(field)
}
