//! Which patterns match a topic: a tree of segments, so that the cost of an event follows the patterns that match it and
//! not all that are asked for.

use std::collections::HashMap;

use event_log::{Pattern, Topic};

/// Patterns, each with the number of its interest.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// The pattern that ends here.
    here: Option<usize>,
    /// The pattern that goes on with `**`.
    rest: Option<usize>,
    /// What goes on with `*`.
    any: Option<Box<Node>>,
    /// What goes on with a literal segment.
    literal: HashMap<Box<str>, Node>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.here.is_none() && self.rest.is_none() && self.any.is_none() && self.literal.is_empty()
    }
}

impl Routes {
    pub(crate) fn insert(&mut self, pattern: &Pattern, interest: usize) {
        let mut node = &mut self.root;
        for segment in pattern.as_str().split('.') {
            match segment {
                "**" => {
                    node.rest = Some(interest);
                    return;
                }
                "*" => node = node.any.get_or_insert_default(),
                literal => node = node.literal.entry(literal.into()).or_default(),
            }
        }
        node.here = Some(interest);
    }

    pub(crate) fn remove(&mut self, pattern: &Pattern) {
        remove_below(&mut self.root, &mut pattern.as_str().split('.'));
    }

    /// Calls back with the interest of each pattern that matches.
    pub(crate) fn for_each_match(&self, topic: &Topic, found: &mut impl FnMut(usize)) {
        walk(&self.root, topic.as_str(), !topic.is_reserved(), found);
    }
}

fn remove_below(node: &mut Node, segments: &mut std::str::Split<'_, char>) {
    match segments.next() {
        None => node.here = None,
        Some("**") => node.rest = None,
        Some("*") => {
            if let Some(below) = &mut node.any {
                remove_below(below, segments);
                if below.is_empty() {
                    node.any = None;
                }
            }
        }
        Some(literal) => {
            if let Some(below) = node.literal.get_mut(literal) {
                remove_below(below, segments);
                if below.is_empty() {
                    node.literal.remove(literal);
                }
            }
        }
    }
}

fn walk(node: &Node, rest_of_topic: &str, wildcards: bool, found: &mut impl FnMut(usize)) {
    let (segment, rest) = match rest_of_topic.split_once('.') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (rest_of_topic, None),
    };
    if wildcards {
        if let Some(interest) = node.rest {
            found(interest);
        }
        if let Some(below) = &node.any {
            descend(below, rest, found);
        }
    }
    if let Some(below) = node.literal.get(segment) {
        descend(below, rest, found);
    }
}

fn descend(node: &Node, rest: Option<&str>, found: &mut impl FnMut(usize)) {
    match rest {
        None => node.here.into_iter().for_each(found),
        Some(rest) => walk(node, rest, true, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn matches(routes: &Routes, topic: &Topic) -> Vec<usize> {
        let mut found = Vec::new();
        routes.for_each_match(topic, &mut |interest| found.push(interest));
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn routes_find_what_each_pattern_says(
            mut patterns in prop::collection::vec(pattern(), 1..12),
            topics in prop::collection::vec(topic(), 1..12),
            removed in any::<prop::sample::Index>(),
        ) {
            patterns.sort();
            patterns.dedup();
            let mut routes = Routes::default();
            for (number, pattern) in patterns.iter().enumerate() {
                routes.insert(pattern, number);
            }
            let expected = |topic: &Topic, gone: Option<usize>| -> Vec<usize> {
                (0..patterns.len()).filter(|n| Some(*n) != gone && patterns[*n].matches(topic)).collect()
            };
            for topic in &topics {
                prop_assert_eq!(matches(&routes, topic), expected(topic, None));
            }
            let gone = removed.index(patterns.len());
            routes.remove(&patterns[gone]);
            for topic in &topics {
                prop_assert_eq!(matches(&routes, topic), expected(topic, Some(gone)));
            }
            patterns.iter().for_each(|pattern| routes.remove(pattern));
            prop_assert!(routes.root.is_empty());
        }
    }
}
