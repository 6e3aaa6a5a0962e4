//! What the suite must know of a hub. Every field is described in `README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::template::expand;

/// How a hub is driven.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Adapter {
    /// The hub's name, as tables show it.
    pub name: String,
    /// How it was configured and why, for those who read the table.
    pub about: String,
    /// A command that says which version this is.
    pub version: Vec<String>,
    /// What the hub promises.
    pub promises: BTreeSet<Promise>,
    /// How many seconds anything may take.
    #[serde(default = "ten")]
    pub patience: u64,
    /// How many topics one connection can read; 20 are asked for unless the hub allows fewer.
    #[serde(default = "twenty")]
    pub topics_max: usize,
    /// How many bytes of data an event may have.
    #[serde(default = "largest")]
    pub data_max: usize,
    /// How many events a history may have, if publishing a million of them would take too long.
    #[serde(default)]
    pub history_max: Option<u64>,
    /// How it is started.
    pub hub: Start,
    /// How an event is published.
    pub publish: RequestTemplate,
    /// How many are published at once, if they can be; only long histories are made with it.
    #[serde(default)]
    pub batch: Option<Batch>,
    /// How events are read.
    pub subscribe: Subscribe,
    /// How a reader is told that its place is gone.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// What ids look like.
    #[serde(default)]
    pub ids: Ids,
    /// How a topic's history is limited.
    #[serde(default)]
    pub trim: Option<Trim>,
    /// The folder of the adapter's file.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What a hub may promise. A case that rests on a promise which is not made can not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Who comes back with an id gets what follows it, each event once and in order.
    ExactResume,
    /// What was acknowledged or seen is there after a crash, under the same id.
    Durable,
    /// A reader whose history is gone, or whose id says nothing, is told so in the stream.
    GapSignalled,
    /// All readers of a topic see one order, and a replay shows it too.
    Ordered,
    /// One id resumes several topics.
    MultiTopic,
    /// A reader that begins at a relative place, and is cut before its first event, resumes from there.
    PinnedStart,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::ExactResume => "exact-resume",
            Promise::Durable => "durable",
            Promise::GapSignalled => "gap-signalled",
            Promise::Ordered => "ordered",
            Promise::MultiTopic => "multi-topic",
            Promise::PinnedStart => "pinned-start",
        })
    }
}

/// How a hub is started; again with the same command on the same data after it was stopped or killed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Start {
    /// The program and its arguments.
    pub start: Vec<String>,
    /// Its environment, beside that of the suite.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A path that is answered with a status below 500 once the hub is ready.
    pub ready: String,
}

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RequestTemplate {
    /// Its method.
    #[serde(default = "post")]
    pub method: String,
    /// Its path with its query.
    pub path: String,
    /// Its headers, each as `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
    /// The statuses of success.
    #[serde(default = "successes")]
    pub ok: Vec<u16>,
}

/// Many events in one request: `{items}` of its body are the items with the separator between them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Batch {
    /// The request.
    pub request: RequestTemplate,
    /// One event.
    pub item: String,
    /// What stands between two.
    pub separator: String,
    /// The most events in one.
    pub events_max: u64,
}

/// How events are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subscribe {
    /// The path that begins with what happens next.
    pub path: String,
    /// The path that begins with the oldest event kept.
    #[serde(default)]
    pub earliest: Option<String>,
    /// The path that begins with the last `{count}` events.
    #[serde(default)]
    pub last: Option<String>,
    /// How one topic stands in `{topics}`.
    pub topic: String,
    /// What stands between two of them.
    #[serde(default)]
    pub separator: String,
    /// Headers beside `Accept`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Whether data comes as a JSON string of what was published.
    #[serde(default)]
    pub data_is_json: bool,
    /// Event types that are the hub's own, no events that somebody published. A last `*` stands for anything.
    #[serde(default)]
    pub control: Vec<String>,
    /// The hub's own event that says that the stream is open, if it sends one.
    #[serde(default)]
    pub opened: Option<String>,
}

/// How a reader is told that its place is gone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gap {
    /// The type of the event that says so.
    pub event: String,
}

/// What ids look like.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ids {
    /// Which number in an id grows along the order, if one does, so that a greater one names the future.
    #[serde(default)]
    pub grows: Option<Place>,
    /// An id of the right form that the hub never gave.
    #[serde(default)]
    pub unknown: Option<String>,
    /// Texts that are no ids. Without it: those that are ids of no hub.
    #[serde(default)]
    pub malformed: Option<Vec<String>>,
}

/// Which of the numbers in an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The first.
    First,
    /// The last.
    Last,
}

/// How a topic's history is limited.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trim {
    /// How many of the newest events are kept.
    pub keep: u64,
    /// What the names of limited topics begin with.
    #[serde(default)]
    pub topic_prefix: String,
    /// The request that limits a topic, if a name is not enough.
    #[serde(default)]
    pub request: Option<RequestTemplate>,
}

impl Adapter {
    /// Reads an adapter's file. Variables given here come before those of the environment.
    pub fn load(path: &Path, variables: &BTreeMap<String, String>) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut adapter: Adapter =
            toml::from_str(&text).with_context(|| format!("{} is no adapter", path.display()))?;
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        adapter.folder = folder.canonicalize()?;
        for text in
            adapter.version.iter_mut().chain(&mut adapter.hub.start).chain(adapter.hub.env.values_mut())
        {
            *text = expand(text, variables)?;
        }
        if adapter.hub.start.is_empty() {
            bail!("{}: hub.start names no program", path.display());
        }
        Ok(adapter)
    }

    /// How long anything may take before it counts as not happening.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// Whether events of this type are the hub's own.
    pub(crate) fn is_control(&self, kind: &str) -> bool {
        let matches = |name: &String| match name.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => kind == name,
        };
        self.subscribe.control.iter().any(matches)
    }

    /// Whether an event of this type tells of a gap.
    pub(crate) fn is_gap(&self, kind: &str) -> bool {
        self.gap.as_ref().is_some_and(|gap| gap.event == kind)
    }
}

fn ten() -> u64 {
    10
}

fn twenty() -> usize {
    20
}

fn largest() -> usize {
    200_000
}

fn post() -> String {
    "POST".to_owned()
}

fn successes() -> Vec<u16> {
    vec![200, 201, 202, 204]
}
