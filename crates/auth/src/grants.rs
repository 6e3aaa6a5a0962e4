//! What somebody may do.

use event_log::{Pattern, Topic};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// What somebody may do. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Topics that may be published to.
    pub publish: Vec<Pattern>,
    /// Topics that may be read.
    pub subscribe: Vec<Pattern>,
    /// Policies, purges, connections, exports, and the broker's own topics.
    pub admin: bool,
}

impl Grants {
    /// Whether this topic may be published to. Nobody's grants reach the broker's own.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        !topic.is_reserved() && self.publish.iter().any(|allowed| allowed.matches(topic))
    }

    /// Whether all that a pattern names may be read: one granted pattern has to cover it. Several that would do so
    /// together do not count, since what they leave open is easily overlooked.
    pub fn may_subscribe(&self, pattern: &Pattern) -> bool {
        match pattern.as_str().starts_with('$') {
            true => self.admin,
            false => self.subscribe.iter().any(|allowed| allowed.covers(pattern)),
        }
    }

    /// Whether this topic may be read.
    pub fn may_read(&self, topic: &Topic) -> bool {
        match topic.is_reserved() {
            true => self.admin,
            false => self.subscribe.iter().any(|allowed| allowed.matches(topic)),
        }
    }
}

/// The claim `perennial`, as it is written. A member that is not known may be a typing error of one that is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stated {
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    admin: bool,
}

impl Stated {
    /// The grants; or which member is wrong.
    pub(crate) fn read(self) -> Result<Grants, (&'static str, String)> {
        let patterns = |name, texts: Vec<String>| {
            let parsed = texts.into_iter().map(Pattern::parse).collect::<Result<Vec<_>, _>>();
            parsed.map_err(|invalid| (name, invalid.detail))
        };
        Ok(Grants {
            publish: patterns("perennial.publish", self.publish)?,
            subscribe: patterns("perennial.subscribe", self.subscribe)?,
            admin: self.admin,
        })
    }
}

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = |patterns: &[Pattern]| -> Vec<String> {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
        };
        let mut object = serializer.serialize_struct("Grants", 3)?;
        object.serialize_field("publish", &texts(&self.publish))?;
        object.serialize_field("subscribe", &texts(&self.subscribe))?;
        object.serialize_field("admin", &self.admin)?;
        object.end()
    }
}
