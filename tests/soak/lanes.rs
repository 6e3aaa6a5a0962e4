//! What is published: a lane is one topic with one publisher, which numbers its events. So a reader knows from the numbers
//! alone whether it missed one, and the tool need not remember events.

/// How a lane is fed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Feed {
    /// Batches of so many events, as fast as they are answered.
    Batch(u64),
    /// One event a request, as fast as they are answered.
    Single,
    /// A few events a second.
    Slow,
}

/// One topic and what happens to it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: &'static str,
    pub(crate) feed: Feed,
    /// The policies it has in turn; the first is its first one. An empty list is no policy.
    pub(crate) policies: &'static [&'static str],
    /// How many keys come round and round.
    pub(crate) keys: Option<u64>,
    /// Superseded events may go.
    pub(crate) is_compacted: bool,
    /// It is purged now and then.
    pub(crate) is_purged: bool,
}

const PLAIN: Lane =
    Lane { topic: "", feed: Feed::Single, policies: &[], keys: None, is_compacted: false, is_purged: false };

/// All lanes.
pub(crate) const LANES: [Lane; 10] = [
    Lane {
        topic: "soak.bytes",
        feed: Feed::Batch(200),
        policies: &[r#"{"max_bytes":"32MiB"}"#, r#"{"max_bytes":"4MiB"}"#, r#"{"max_bytes":"64MiB"}"#],
        is_purged: true,
        ..PLAIN
    },
    Lane {
        topic: "soak.events",
        feed: Feed::Batch(100),
        policies: &[r#"{"max_events":20000}"#, r#"{"max_events":500}"#, r#"{"max_events":40000}"#],
        is_purged: true,
        ..PLAIN
    },
    Lane {
        topic: "soak.age",
        feed: Feed::Batch(50),
        policies: &[r#"{"max_age":"10s"}"#, r#"{"max_age":"2s"}"#],
        ..PLAIN
    },
    Lane {
        topic: "soak.state.compact",
        feed: Feed::Batch(150),
        policies: &[r#"{"compact":"key"}"#],
        keys: Some(5_000),
        is_compacted: true,
        ..PLAIN
    },
    Lane {
        topic: "soak.state.both",
        feed: Feed::Batch(80),
        policies: &[r#"{"compact":"key","max_events":2000}"#, r#"{"compact":"key","max_bytes":"1MiB"}"#],
        keys: Some(3_000),
        is_compacted: true,
        is_purged: true,
    },
    Lane {
        topic: "soak.every.bound",
        policies: &[r#"{"max_age":"30s","max_bytes":"8MiB","max_events":5000}"#, r#"{"max_events":100}"#],
        is_purged: true,
        ..PLAIN
    },
    Lane { topic: "soak.none", policies: &[r#"{"max_events":0}"#], ..PLAIN },
    Lane { topic: "soak.keyed", policies: &[r#"{"max_events":1000}"#], keys: Some(97), ..PLAIN },
    Lane {
        topic: "soak.state.single",
        policies: &[r#"{"compact":"key"}"#],
        keys: Some(500),
        is_compacted: true,
        ..PLAIN
    },
    Lane { topic: "soak.small", feed: Feed::Slow, ..PLAIN },
];

/// The topic of the last event of all, which every reader follows.
pub(crate) const END_TOPIC: &str = "soak.end";

/// Real events, whose data is carried inside that of the lanes.
pub(crate) struct Bodies(Vec<(String, String)>);

impl Bodies {
    /// Reads the events beside the tests, each a type and the text of its data.
    pub(crate) fn load() -> Self {
        let mut bodies = Vec::new();
        for name in ["wikipedia-edits.ndjson", "github-events.ndjson"] {
            let text = String::from_utf8(crate::harness::data_file(name)).expect("text");
            for line in text.lines() {
                let event: serde_json::Value = serde_json::from_str(line).expect("an event");
                let (_, data) = line.split_once("\"data\":").expect("data");
                let kind = event["type"].as_str().expect("a type").to_owned();
                bodies.push((kind, data.strip_suffix('}').expect("an object").to_owned()));
            }
        }
        Bodies(bodies)
    }

    /// The type and the data of a lane's event. The numbers stand first, so that a reader finds them without a parser.
    pub(crate) fn event(&self, lane: usize, number: u64, first: u64) -> (&str, String) {
        let (kind, body) = &self.0[(number as usize * 31 + lane) % self.0.len()];
        (kind, format!("{{\"lane\":{lane},\"n\":{number},\"first\":{first},\"body\":{body}}}"))
    }
}

/// The lane, the number and the first number of its batch that an event's data begins with.
pub(crate) fn numbers_of(data: &[u8]) -> Option<(usize, u64, u64)> {
    let text = std::str::from_utf8(data.get(..data.len().min(80))?).or_else(|error| {
        // The cut may lie inside a character of the body.
        std::str::from_utf8(&data[..error.valid_up_to()])
    });
    let rest = text.ok()?.strip_prefix("{\"lane\":")?;
    let (lane, rest) = rest.split_once(",\"n\":")?;
    let (number, rest) = rest.split_once(",\"first\":")?;
    let (first, _) = rest.split_once(',')?;
    Some((lane.parse().ok()?, number.parse().ok()?, first.parse().ok()?))
}
