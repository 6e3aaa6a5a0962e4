//! Which events a reader wants.

use crate::{Event, EventType, Origin, Pattern, Topic};

/// The events that a reader wants: any of these patterns, and any of these types, and not of this origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    patterns: Vec<Pattern>,
    types: Vec<EventType>,
    exclude_origin: Option<Origin>,
}

impl Filter {
    /// All events of the topics that any of these patterns matches. A pattern that stands twice counts once.
    pub fn new(mut patterns: Vec<Pattern>) -> Self {
        patterns.sort();
        patterns.dedup();
        Filter { patterns, types: Vec::new(), exclude_origin: None }
    }

    /// Every event of the log, the broker's own topics too.
    pub fn everything() -> Self {
        // An empty list of patterns cannot be asked for from outside; here it is "no condition on the topic".
        Filter::new(Vec::new())
    }

    /// Only these types; none given means all.
    pub fn with_types(mut self, types: Vec<EventType>) -> Self {
        self.types = types;
        self
    }

    /// Not what this origin published.
    pub fn without_origin(mut self, origin: Option<Origin>) -> Self {
        self.exclude_origin = origin;
        self
    }

    /// The patterns, sorted; empty for [`Filter::everything`].
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the topic alone decides: there is no condition on type or origin.
    pub fn is_by_topic_only(&self) -> bool {
        self.types.is_empty() && self.exclude_origin.is_none()
    }

    /// Whether events of this topic are wanted, as far as the topic decides.
    pub fn wants_topic(&self, topic: &Topic) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether an event of a wanted topic is wanted.
    pub fn wants_of_topic(&self, event: &Event) -> bool {
        self.is_by_topic_only()
            || self.wants_named(event.type_name(), event.origin.as_ref().map(Origin::as_str))
    }

    /// Whether an event of a wanted topic is wanted that has this type and origin.
    pub fn wants_named(&self, type_name: &str, origin: Option<&str>) -> bool {
        let typed = self.types.is_empty() || self.types.iter().any(|wanted| wanted.as_str() == type_name);
        let excluded = self.exclude_origin.as_ref().map(Origin::as_str);
        typed && (excluded.is_none() || excluded != origin)
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        self.wants_topic(&event.topic) && self.wants_of_topic(event)
    }
}
