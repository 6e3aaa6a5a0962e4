//! History under policies: setting them, waiting until they were carried out, and checking what is told of what is kept.

use std::time::Duration;

use serde_json::{Value, json};

use super::envelope::Envelope;
use super::{Broker, Request, escape, heavy};

/// Policies are carried out every so often, so that no test waits for long.
pub(crate) const QUICK: [&str; 2] = ["--set", "retention_interval=50ms"];

/// Longest that a policy may take to be carried out, as promised to users.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// A topic whose policy keeps nothing: when its events are gone, a pass was made.
const PROBE: &str = "probe-of-a-pass";

impl Broker {
    /// One that carries policies out every 50 ms.
    pub(crate) fn quick() -> Self {
        Self::with(&QUICK)
    }

    /// Sets a policy, which must succeed, and returns the answer.
    pub(crate) fn put_policy(&self, pattern: &str, policy: impl AsRef<[u8]>) -> Value {
        let response = self.send(&put(pattern, "", policy));
        assert_eq!(response.status, 200, "the policy of {pattern:?}: {response}");
        response.json()
    }

    /// Deletes a policy, which must be there, and returns the answer.
    pub(crate) fn delete_policy(&self, pattern: &str) -> Value {
        let response = self.send(&Request::new("DELETE", &format!("/v1/policies/{}", escape(pattern))));
        assert_eq!(response.status, 200, "the policy of {pattern:?}: {response}");
        response.json()
    }

    /// What is told of one topic.
    pub(crate) fn topic(&self, topic: &str) -> Value {
        self.json(&format!("/v1/topics/{}", escape(topic)))
    }

    /// Purges a topic, which must be known, and returns the answer.
    pub(crate) fn purge(&self, topic: &str) -> Value {
        let response = self.send(&Request::new("DELETE", &format!("/v1/topics/{}", escape(topic))));
        assert_eq!(response.status, 200, "the purge of {topic:?}: {response}");
        response.json()
    }

    /// Publishes so many events to one topic at once; the data is their number. Returns the ids.
    pub(crate) fn publish_many(&self, topic: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
        let line = |number: usize| json!({ "topic": topic, "data": number.to_string() }).to_string() + "\n";
        self.publish_batch(numbers.map(line).collect::<String>())
    }

    /// Publishes the new state of a key and returns the id.
    pub(crate) fn publish_state(&self, topic: &str, key: &str, data: &str) -> String {
        self.publish_batch(json!({ "topic": topic, "key": key, "data": data }).to_string()).remove(0)
    }

    /// Waits until a topic holds so many events, as told and as read.
    pub(crate) fn until_kept(&self, topic: &str, events: usize) {
        let mut told = Value::Null;
        heavy::eventually(&format!("{topic} holds {events} events"), WITHIN, || {
            told = self.topic(topic);
            told["events"] == events
        });
        assert_eq!(self.kept(topic).len(), events, "{told}");
    }

    /// The ids of the kept events of a topic.
    pub(crate) fn kept(&self, topic: &str) -> Vec<String> {
        self.envelopes(&format!("topic={}", escape(topic))).into_iter().map(|event| event.id).collect()
    }

    /// Waits until every policy was carried out once, from its beginning to its end, on what is published now.
    pub(crate) fn passed(&self) {
        self.put_policy(PROBE, r#"{"max_events":0}"#);
        // The pass that takes the first event may have begun before; the one that takes the second has not.
        for _ in 0..2 {
            self.publish(PROBE, "probe");
            self.until_kept(PROBE, 0);
        }
    }

    /// Checks what is told of each topic and of the whole log against what is read, while nothing is published and no
    /// policy has work to do.
    pub(crate) fn check_counts(&self) {
        let (mut events, mut bytes, mut oldest) = (0, 0, None::<u64>);
        for pattern in ["**", "$broker.**"] {
            let listed = self.json(&format!("/v1/topics?pattern={}", escape(pattern)));
            for told in listed["topics"].as_array().expect("topics") {
                let name = told["topic"].as_str().expect("a topic");
                let read = self.envelopes(&format!("topic={}", escape(name)));
                let weight: usize = read.iter().map(weight).sum();
                assert_eq!((&told["events"], &told["bytes"]), (&json!(read.len()), &json!(weight)), "{told}");
                assert_eq!(told["first_id"], json!(read.first().map(|event| &event.id)), "{told}");
                let last = super::envelope::sequence(told["last_id"].as_str().expect("a last id"));
                assert!(read.last().is_none_or(|event| event.sequence() <= last), "{told}");
                let first = read.first().map(Envelope::sequence);
                oldest = [oldest, first].into_iter().flatten().min();
                events += read.len();
                bytes += weight;
            }
        }
        let status = self.json("/v1/status");
        assert_eq!((&status["events"], &status["bytes"]), (&json!(events), &json!(bytes)), "{status}");
        assert_eq!(status["oldest"].as_str().map(super::envelope::sequence), oldest, "{status}");
    }
}

/// A request that sets a policy; the query begins with `?` unless it is empty.
pub(crate) fn put(pattern: &str, query: &str, policy: impl AsRef<[u8]>) -> Request {
    Request::new("PUT", &format!("/v1/policies/{}{query}", escape(pattern)))
        .header("Content-Type", "application/json")
        .body(policy)
}

/// What a policy counts of an event: data, topic, type and key. An absent type is none, though it reads as `message`.
pub(crate) fn weight(event: &Envelope) -> usize {
    let kind = if event.kind == "message" { 0 } else { event.kind.len() };
    event.data.len() + event.topic.len() + kind + event.key.as_ref().map_or(0, String::len)
}
