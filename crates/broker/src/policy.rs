//! What an operator wants kept of a topic.
//!
//! A policy is read strictly, so that a typing error never reads as "keep everything", and shown again exactly as it was
//! written: who wrote `7d` finds `7d`.

use std::fmt;
use std::time::Duration;

use event_log::{Keep, Removal, Timestamp, Topic, TopicStats};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::units::{self, Plain};

const FIELDS: &str = "max_age, max_events, max_bytes and compact";

/// What is kept of each topic that this governs; what is not said keeps everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    max_age: Option<Written<Duration>>,
    max_events: Option<Written<u64>>,
    max_bytes: Option<Written<u64>>,
    compact: Option<Written<Compact>>,
}

/// A value, and how it was written.
#[derive(Debug, Clone, PartialEq)]
struct Written<T> {
    value: T,
    as_written: Value,
}

/// By what older events are superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compact {
    Key,
}

/// Why a text is no policy: a sentence for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidPolicy {
    /// What was wrong, and what would be right.
    pub detail: String,
    /// The field that was wrong, if it was one.
    pub field: Option<String>,
}

impl InvalidPolicy {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        InvalidPolicy { detail: detail.into(), field: None }
    }

    fn of_field(field: &str, detail: impl Into<String>) -> Self {
        InvalidPolicy { detail: detail.into(), field: Some(field.to_owned()) }
    }
}

impl Policy {
    /// Reads a JSON object of any of `max_age`, `max_events`, `max_bytes` and `compact`. A null field is the same as an
    /// absent one.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        Self::from_fields(fields(text)?)
    }

    /// Reads what [`Stated`] wrote: the policy, and the pattern that stands before it.
    pub(crate) fn parse_stated(text: &str) -> Result<Self, InvalidPolicy> {
        let mut fields = fields(text)?;
        fields.retain(|(name, _)| name != "pattern");
        Self::from_fields(fields)
    }

    fn from_fields(fields: Vec<(String, Value)>) -> Result<Self, InvalidPolicy> {
        let mut policy = Policy::default();
        for (index, (name, value)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(other, _)| other == name) {
                return Err(InvalidPolicy::of_field(
                    name,
                    format!("{name} is given twice; it may be given once"),
                ));
            }
            match name.as_str() {
                "max_age" => {
                    policy.max_age = written(name, value, |text| units::duration(text, Plain::Seconds))?
                }
                "max_events" => policy.max_events = written(name, value, units::count)?,
                "max_bytes" => policy.max_bytes = written(name, value, units::bytes)?,
                "compact" => policy.compact = written(name, value, compact)?,
                _ => {
                    let detail = format!("{name:?} is not a field of a policy; its fields are {FIELDS}");
                    return Err(InvalidPolicy::of_field(name, detail));
                }
            }
        }
        Ok(policy)
    }

    /// How old an event may become.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age.as_ref().map(|age| age.value)
    }

    /// Whether older events of a key go once there is a newer one.
    pub fn is_compacting(&self) -> bool {
        self.compact.is_some()
    }

    /// Whether a topic holds more than its policy keeps, as far as its counts tell.
    pub(crate) fn is_exceeded_by(&self, stats: &TopicStats) -> bool {
        self.max_events.as_ref().is_some_and(|most| stats.events > most.value)
            || self.max_bytes.as_ref().is_some_and(|most| stats.bytes > most.value)
    }

    /// What trims a topic to what is kept of it.
    pub(crate) fn trim(&self, topic: Topic, now: Timestamp) -> Removal {
        let keep = Keep {
            events: self.max_events.as_ref().map(|most| most.value),
            bytes: self.max_bytes.as_ref().map(|most| most.value),
            since: self.max_age().map(|age| now.saturating_sub(age)),
            after: None,
        };
        Removal::Trim { topic, keep }
    }

    fn serialize_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let fields = [
            ("max_age", self.max_age.as_ref().map(|written| &written.as_written)),
            ("max_events", self.max_events.as_ref().map(|written| &written.as_written)),
            ("max_bytes", self.max_bytes.as_ref().map(|written| &written.as_written)),
            ("compact", self.compact.as_ref().map(|written| &written.as_written)),
        ];
        fields
            .iter()
            .filter_map(|(name, value)| Some((name, (*value)?)))
            .try_for_each(|(name, value)| map.serialize_entry(name, value))
    }
}

/// A policy together with the pattern that it is for: one object, the pattern first.
#[derive(Debug, Clone, Copy)]
pub struct Stated<'a> {
    /// The topics that it may govern.
    pub pattern: &'a event_log::Pattern,
    /// What it says.
    pub policy: &'a Policy,
}

impl Serialize for Stated<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("pattern", self.pattern.as_str())?;
        self.policy.serialize_fields(&mut map)?;
        map.end()
    }
}

/// A value with a unit is text, one without may be a number too.
fn written<T>(
    name: &str,
    value: &Value,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Written<T>>, InvalidPolicy> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match read(&text) {
        Ok(value_read) => Ok(Some(Written { value: value_read, as_written: value.clone() })),
        Err(detail) => Err(InvalidPolicy::of_field(name, format!("{name}: {detail}"))),
    }
}

fn compact(text: &str) -> Result<Compact, String> {
    match text {
        "key" => Ok(Compact::Key),
        other => Err(format!("{other:?} is not a way to compact; write \"key\", or leave it out")),
    }
}

/// The fields of an object in their order, those that stand twice too: a map would hide them.
struct Fields(Vec<(String, Value)>);

fn fields(text: &str) -> Result<Vec<(String, Value)>, InvalidPolicy> {
    let right = "a policy is one JSON object, as in {\"max_age\":\"7d\",\"max_bytes\":\"1GiB\"}";
    serde_json::from_str(text)
        .map(|Fields(fields)| fields)
        .map_err(|error| InvalidPolicy::new(format!("the policy cannot be read ({error}); {right}")))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyFields;
        impl<'de> Visitor<'de> for AnyFields {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(AnyFields)
    }
}

#[cfg(test)]
mod tests {
    use event_log::{Pattern, Position};

    use super::*;

    fn stated(policy: &Policy) -> String {
        let pattern = Pattern::parse("a.**").unwrap();
        serde_json::to_string(&Stated { pattern: &pattern, policy }).unwrap()
    }

    #[test]
    fn a_policy_is_shown_as_it_was_written() {
        for (written, shown) in [
            ("{}", r#"{"pattern":"a.**"}"#),
            (r#"{"max_age":"7d"}"#, r#"{"pattern":"a.**","max_age":"7d"}"#),
            (
                r#" {"compact":"key","max_bytes":"1024MiB", "max_events":"100","max_age":60} "#,
                r#"{"pattern":"a.**","max_age":60,"max_events":"100","max_bytes":"1024MiB","compact":"key"}"#,
            ),
            (
                r#"{"max_events":0,"max_bytes":0,"max_age":"0ms"}"#,
                r#"{"pattern":"a.**","max_age":"0ms","max_events":0,"max_bytes":0}"#,
            ),
            (r#"{"max_age":null,"max_events":5,"compact":null}"#, r#"{"pattern":"a.**","max_events":5}"#),
        ] {
            let policy = Policy::parse(written).unwrap();
            assert_eq!(stated(&policy), shown);
            assert_eq!(Policy::parse_stated(shown).unwrap(), policy, "what is stored reads back");
        }
    }

    #[test]
    fn what_is_no_policy_says_what_would_be_right() {
        for (text, field, says) in [
            (r#"{"max_ages":"7d"}"#, Some("max_ages"), FIELDS),
            (r#"{"pattern":"a"}"#, Some("pattern"), FIELDS),
            (r#"{"max_age":"7d","max_age":"8d"}"#, Some("max_age"), "may be given once"),
            (r#"{"max_age":"7d","max_age":null}"#, Some("max_age"), "may be given once"),
            (r#"{"max_age":"7 days"}"#, Some("max_age"), "ms, s, m, h, d or w"),
            (r#"{"max_age":-1}"#, Some("max_age"), "is not a duration"),
            (r#"{"max_events":1.5}"#, Some("max_events"), "not a whole number"),
            (r#"{"max_events":"1KiB"}"#, Some("max_events"), "not a whole number"),
            (r#"{"max_events":18446744073709551616}"#, Some("max_events"), "not a whole number"),
            (r#"{"max_events":true}"#, Some("max_events"), "not a whole number"),
            (r#"{"max_events":[5]}"#, Some("max_events"), "not a whole number"),
            (r#"{"max_bytes":"1GB"}"#, Some("max_bytes"), "KiB, MiB or GiB"),
            (r#"{"compact":true}"#, Some("compact"), "\"key\""),
            (r#"{"compact":"id"}"#, Some("compact"), "\"key\""),
            ("", None, "one JSON object"),
            ("[]", None, "one JSON object"),
            ("null", None, "one JSON object"),
            ("\"7d\"", None, "one JSON object"),
            ("{} {}", None, "one JSON object"),
            (r#"{"max_age":"7d""#, None, "one JSON object"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert_eq!(error.field.as_deref(), field, "{text}");
            assert!(error.detail.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_policy_says_what_of_a_topic_goes() {
        let topic = Topic::parse("t").unwrap();
        let now = Timestamp::from_micros(100_000_000);
        let stats = |events, bytes| TopicStats {
            topic: topic.clone(),
            first: None,
            last: Position::new(1),
            events,
            bytes,
        };
        let policy = Policy::parse(r#"{"max_age":"40s","max_events":10,"max_bytes":"1KiB"}"#).unwrap();
        let since = Some(Timestamp::from_micros(60_000_000));
        let keep = Keep { events: Some(10), bytes: Some(1_024), since, after: None };
        assert_eq!(policy.trim(topic.clone(), now), Removal::Trim { topic: topic.clone(), keep });
        assert!(!policy.is_exceeded_by(&stats(10, 1_024)));
        assert!(policy.is_exceeded_by(&stats(11, 0)) && policy.is_exceeded_by(&stats(1, 1_025)));
        assert!(
            !Policy::default().is_exceeded_by(&stats(u64::MAX, u64::MAX)),
            "nothing said keeps everything"
        );
        assert!(!policy.is_compacting() && Policy::parse(r#"{"compact":"key"}"#).unwrap().is_compacting());
    }
}
