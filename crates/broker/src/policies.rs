//! The set of policies, and which of them governs a topic.
//!
//! The most specific pattern that matches governs wholly: patterns are compared segment by segment from the left, and a
//! literal segment is more specific than `*`, which is more specific than `**`. So the first one is found by walking a
//! tree of segments in that order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event_log::{Pattern, Topic};

use crate::policy::{Policy, Stated};

/// Policies by their patterns. A changed set is another set; a clone is cheap enough for that.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    by_pattern: BTreeMap<Pattern, Arc<Policy>>,
    root: Node,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The pattern that ends here.
    here: Option<Pattern>,
    /// What goes on with a literal segment.
    literals: HashMap<Box<str>, Node>,
    /// What goes on with `*`.
    any: Option<Box<Node>>,
    /// The pattern that goes on with `**`.
    rest: Option<Pattern>,
}

impl Policies {
    fn of(by_pattern: BTreeMap<Pattern, Arc<Policy>>) -> Self {
        let mut root = Node::default();
        by_pattern.keys().for_each(|pattern| root.insert(pattern));
        Policies { by_pattern, root }
    }

    /// The set after changes, in their order: a pattern has another policy, or none any more.
    #[must_use]
    pub fn changed(&self, changes: impl IntoIterator<Item = (Pattern, Option<Policy>)>) -> Self {
        let mut by_pattern = self.by_pattern.clone();
        for (pattern, policy) in changes {
            match policy {
                Some(policy) => by_pattern.insert(pattern, Arc::new(policy)),
                None => by_pattern.remove(&pattern),
            };
        }
        Self::of(by_pattern)
    }

    /// The policy of exactly this pattern.
    pub fn get(&self, pattern: &Pattern) -> Option<&Policy> {
        self.by_pattern.get(pattern).map(|policy| &**policy)
    }

    /// All policies, by pattern.
    pub fn iter(&self) -> impl Iterator<Item = Stated<'_>> {
        self.by_pattern.iter().map(|(pattern, policy)| Stated { pattern, policy })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_pattern.is_empty()
    }

    /// The policy that governs a topic. The broker's own topics are governed by none: their events are its state.
    pub fn governing(&self, topic: &Topic) -> Option<Stated<'_>> {
        let found = (!topic.is_reserved()).then(|| self.root.find(Some(topic.as_str()))).flatten()?;
        self.by_pattern.get_key_value(found).map(|(pattern, policy)| Stated { pattern, policy })
    }
}

impl Node {
    fn insert(&mut self, pattern: &Pattern) {
        let mut node = self;
        for segment in pattern.as_str().split('.') {
            match segment {
                "**" => {
                    node.rest = Some(pattern.clone());
                    return;
                }
                "*" => node = node.any.get_or_insert_default(),
                literal => node = node.literals.entry(literal.into()).or_default(),
            }
        }
        node.here = Some(pattern.clone());
    }

    /// The most specific pattern below this that matches what is left of a topic; `None` for the rest is its end.
    fn find(&self, rest: Option<&str>) -> Option<&Pattern> {
        let Some(rest) = rest else { return self.here.as_ref() };
        let (segment, rest) = match rest.split_once('.') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let literal = self.literals.get(segment).and_then(|below| below.find(rest));
        let any = || self.any.as_ref().and_then(|below| below.find(rest));
        literal.or_else(any).or(self.rest.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "$c", "a*"])
    }

    fn topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec(segment(), 1..5).prop_map(|parts| Topic::parse(parts.join(".")).unwrap())
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![segment(), Just("*")];
        (prop::collection::vec(part, 1..5), any::<bool>()).prop_map(|(mut parts, rest)| {
            if rest {
                *parts.last_mut().unwrap() = "**";
            }
            Pattern::parse(parts.join(".")).unwrap()
        })
    }

    /// How specific each segment is, the most specific first in order.
    fn ranks(pattern: &Pattern) -> Vec<u8> {
        let rank = |segment| match segment {
            "**" => 2,
            "*" => 1,
            _ => 0,
        };
        pattern.as_str().split('.').map(rank).collect()
    }

    fn policy(events: usize) -> Policy {
        Policy::parse(&format!(r#"{{"max_events":{events}}}"#)).unwrap()
    }

    proptest! {
        #[test]
        fn the_most_specific_pattern_governs(
            patterns in prop::collection::btree_set(pattern(), 0..12),
            topics in prop::collection::vec(topic(), 1..12),
        ) {
            let numbered = patterns.iter().cloned().zip((0..).map(|n| Some(policy(n))));
            let policies = Policies::default().changed(numbered);
            for topic in &topics {
                let matching = patterns.iter().filter(|pattern| pattern.matches(topic) && !topic.is_reserved());
                let expected = matching.min_by_key(|pattern| ranks(pattern));
                prop_assert_eq!(policies.governing(topic).map(|stated| stated.pattern), expected);
            }
        }

        #[test]
        fn a_set_that_was_changed_is_the_set_that_was_meant(
            changes in prop::collection::vec((pattern(), prop::option::of(0..9usize)), 0..20),
            topics in prop::collection::vec(topic(), 1..12),
        ) {
            let mut policies = Policies::default();
            let mut expected: BTreeMap<Pattern, Policy> = BTreeMap::new();
            for (pattern, events) in changes {
                let policy = events.map(policy);
                policies = policies.changed([(pattern.clone(), policy.clone())]);
                match policy {
                    Some(policy) => drop(expected.insert(pattern, policy)),
                    None => drop(expected.remove(&pattern)),
                }
            }
            prop_assert_eq!(policies.is_empty(), expected.is_empty());
            let all = expected.clone().into_iter().map(|(pattern, policy)| (pattern, Some(policy)));
            let made = Policies::default().changed(all);
            let listed: Vec<_> = policies.iter().map(|s| (s.pattern.clone(), s.policy.clone())).collect();
            prop_assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
            for topic in &topics {
                let governing = |set: &Policies| set.governing(topic).map(|s| (s.pattern.clone(), s.policy.clone()));
                prop_assert_eq!(governing(&policies), governing(&made));
            }
        }
    }

    #[test]
    fn segments_are_compared_from_the_left() {
        let patterns = ["**", "*", "a.**", "a.*", "*.b", "a.*.c", "a.b.**", "a.b.c"];
        let all = patterns.map(|text| (Pattern::parse(text).unwrap(), Some(Policy::default())));
        let policies = Policies::default().changed(all);
        for (topic, governing) in [
            ("x", Some("*")),
            ("x.y", Some("**")),
            ("x.b", Some("*.b")),
            ("a.b", Some("a.*")),
            ("a.x.c", Some("a.*.c")),
            ("a.x.y", Some("a.**")),
            ("a.b.x", Some("a.b.**")),
            ("a.b.c", Some("a.b.c")),
            ("$broker.policies", None),
            ("$a", None),
        ] {
            let found = policies.governing(&Topic::parse(topic).unwrap());
            assert_eq!(found.map(|stated| stated.pattern.as_str()), governing, "{topic}");
        }
    }
}
