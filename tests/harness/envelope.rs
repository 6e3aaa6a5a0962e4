//! Envelopes, read without losing a byte of the data they carry, and the contract's rule for how they carry it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Broker, Request};

/// One event as the JSON readings show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) origin: Option<String>,
    pub(crate) time: String,
    pub(crate) uuid: String,
    /// The exact text that was published.
    pub(crate) data: String,
    /// How the envelope wrote it.
    pub(crate) raw_data: String,
}

impl Envelope {
    /// Reads one line of JSON, which must have the contract's members and no others.
    pub(crate) fn parse(line: &str) -> Self {
        assert!(!line.contains(['\r', '\n']), "an envelope is one line: {line:?}");
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        assert_eq!(names, ["data", "id", "key", "origin", "time", "topic", "type", "uuid"], "{line}");
        let text = |name: &str| -> Option<String> {
            serde_json::from_str(members[name].get())
                .unwrap_or_else(|error| panic!("{name}: {error} in {line}"))
        };
        let present = |name: &str| text(name).unwrap_or_else(|| panic!("{name} is null in {line}"));
        let raw_data = members["data"].get().to_owned();
        let data = if raw_data.starts_with('"') { present("data") } else { raw_data.clone() };
        Envelope {
            id: present("id"),
            topic: present("topic"),
            kind: present("type"),
            key: text("key"),
            origin: text("origin"),
            time: present("time"),
            uuid: present("uuid"),
            data,
            raw_data,
        }
    }

    /// The number of its id.
    pub(crate) fn sequence(&self) -> u64 {
        sequence(&self.id)
    }
}

impl Broker {
    /// All events that a query of `GET /v1/events` selects, from the earliest to the head.
    pub(crate) fn envelopes(&self, query: &str) -> Vec<Envelope> {
        self.ndjson(&format!("/v1/events?from=earliest&{query}"))
    }

    /// The envelopes of a reading as NDJSON.
    pub(crate) fn ndjson(&self, target: &str) -> Vec<Envelope> {
        let response = self.send(&Request::new("GET", target).header("Accept", "application/x-ndjson"));
        assert_eq!(response.status, 200, "{target}: {response}");
        assert!(response.body.is_empty() || response.body.ends_with(b"\n"), "{response}");
        response.text().split_terminator('\n').map(Envelope::parse).collect()
    }

    /// The data of all events of a topic.
    pub(crate) fn data_of(&self, topic: &str) -> Vec<String> {
        let query = format!("topic={}", super::escape(topic));
        self.envelopes(&query).into_iter().map(|envelope| envelope.data).collect()
    }
}

/// The number of an id.
pub(crate) fn sequence(id: &str) -> u64 {
    let (digits, epoch) = id.split_once('-').unwrap_or_else(|| panic!("the id {id:?} has no epoch"));
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    assert!(epoch.len() == 8 && epoch.bytes().all(is_hex), "the epoch of {id:?}");
    assert!(digits == "0" || !digits.starts_with('0'), "a leading zero in {id:?}");
    digits.parse().unwrap_or_else(|_| panic!("the sequence of {id:?}"))
}

/// Whether an envelope carries this text as the JSON that it is, rather than as a string.
pub(crate) fn is_embedded(data: &str) -> bool {
    let begins =
        data.starts_with(['{', '[', '-', 't', 'f', 'n']) || data.starts_with(|c: char| c.is_ascii_digit());
    let outer_space = data.ends_with([' ', '\t']);
    begins && !outer_space && !data.contains(['\r', '\n']) && serde_json::from_str::<&RawValue>(data).is_ok()
}
