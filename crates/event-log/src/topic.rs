//! Topics, and the patterns that choose among them.

use std::fmt;

use bytestring::ByteString;

use crate::Invalid;
use crate::limits::TOPIC_BYTES_MAX;

/// Where an event belongs: 1 to 512 bytes of UTF-8 without white space and control characters, in segments split by
/// `.`, none of which is empty, `*` or `**`. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(ByteString);

impl Topic {
    /// Reads a topic.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, Invalid> {
        let text = text.into();
        check(&text, "topic")?;
        match text.split('.').find(|segment| is_wildcard(segment)) {
            Some(_) => {
                Err(Invalid::new(format!("topic {text:?} is a pattern; a topic has no segment * or **")))
            }
            None => Ok(Topic(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only the broker itself may publish here: the topic starts with `$`.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic in which a segment `*` stands for exactly one segment, and a last segment `**` for one or more. A wildcard
/// never matches a first segment that starts with `$`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(ByteString);

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, Invalid> {
        let text = text.into();
        check(&text, "pattern")?;
        match text.split('.').rev().skip(1).any(|segment| segment == "**") {
            true => Err(Invalid::new(format!("pattern {text:?} has a ** that is not its last segment"))),
            false => Ok(Pattern(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one topic that this pattern names, if it has no wildcard.
    pub fn as_topic(&self) -> Option<Topic> {
        (!self.0.split('.').any(is_wildcard)).then(|| Topic(self.0.clone()))
    }

    /// Whether a topic is among those that this pattern names.
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_reserved() && self.0.starts_with('*') && is_wildcard(first_segment(&self.0)) {
            return false;
        }
        let mut segments = topic.0.split('.');
        for part in self.0.split('.') {
            match (part, segments.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(segment)) if literal == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether this pattern matches every topic that another one matches: who may read what this one names may then ask
    /// for the other.
    pub fn covers(&self, other: &Pattern) -> bool {
        if other.0.starts_with('$') && is_wildcard(first_segment(&self.0)) {
            return false;
        }
        let mut segments = other.0.split('.');
        for part in self.0.split('.') {
            match (part, segments.next()) {
                ("**", Some(_)) => return true,
                // More than one segment may stand where one may.
                (_, Some("**")) => return false,
                ("*", Some(_)) => {}
                (literal, Some(segment)) if literal == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Pattern(topic.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_wildcard(segment: &str) -> bool {
    segment == "*" || segment == "**"
}

fn first_segment(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

/// What topics and patterns have in common.
fn check(text: &str, what: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(format!("the {what} is empty; it has 1 to {TOPIC_BYTES_MAX} bytes")));
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(Invalid::new(format!(
            "the {what} has {} bytes; at most {TOPIC_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new(format!(
            "{what} {text:?} has the character U+{:04X}; white space and control characters are not allowed",
            u32::from(c)
        )));
    }
    if text.split('.').any(str::is_empty) {
        return Err(Invalid::new(format!(
            "{what} {text:?} has an empty segment; segments are split by single dots"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::parse(text).unwrap()
    }

    #[test]
    fn topics_hold_what_the_contract_allows() {
        for text in
            ["a", "a.b", "stocks.AAPL", "a*", "a.b*c", "***", "é.日本", "a/b", "$broker.policies", "a.***"]
        {
            assert_eq!(topic(text).as_str(), text);
        }
        assert_eq!(topic(&"x".repeat(512)).as_str().len(), 512);
    }

    #[test]
    fn topics_refuse_the_rest_and_say_why() {
        let long = "x".repeat(513);
        for text in [
            "", ".", "a.", ".a", "a..b", "*", "a.*", "**", "a b", "a\u{a0}b", "a\nb", "a\0", "a\u{85}", &long,
        ] {
            assert!(!Topic::parse(text).unwrap_err().detail.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn patterns_match_segment_by_segment() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.**", "a.b.c", true),
            ("a.**", "a", false),
            ("*.c", "a.c", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("**", "a.b.c", true),
            ("**", "$broker.x", false),
            ("*", "$x", false),
            ("*.x", "$broker.x", false),
            ("$broker.**", "$broker.x", true),
            ("a.*", "a.$x", true),
            ("a*", "ab", false),
            ("***", "***", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(&topic(name)), expected, "{pattern} {name}");
        }
        assert!(Pattern::parse("**.a").is_err());
        assert!(Pattern::parse("a.**.b").is_err());
        assert_eq!(Pattern::parse("a.b").unwrap().as_topic(), Some(topic("a.b")));
        assert_eq!(Pattern::parse("a.*").unwrap().as_topic(), None);
    }

    #[test]
    fn a_pattern_covers_what_it_matches_all_of() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.*", false),
            ("a.b", "**", false),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.*", "a.**", false),
            ("a.*", "*.b", false),
            ("a.**", "a.*.c", true),
            ("a.**", "a.**", true),
            ("a.**", "a", false),
            ("*.*", "*.**", false),
            ("*.**", "a.b.c", true),
            ("**", "*", true),
            ("**", "**", true),
            ("*", "**", false),
            ("**", "$broker.policies", false),
            ("**", "$broker.**", false),
            ("*.**", "$broker.**", false),
            ("$broker.**", "$broker.**", true),
            ("$broker.*", "**", false),
            ("a.*", "a.$x", true),
            ("a*", "ab", false),
        ];
        for (pattern, other, expected) in cases {
            let covers = Pattern::parse(pattern).unwrap().covers(&Pattern::parse(other).unwrap());
            assert_eq!(covers, expected, "{pattern} {other}");
        }
    }

    fn segment() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "$c", "a*", "***"])
    }

    fn any_topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec(segment(), 1..5).prop_map(|parts| topic(&parts.join(".")))
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![segment(), Just("*")];
        (prop::collection::vec(part, 1..5), any::<bool>()).prop_map(|(mut parts, rest)| {
            if rest {
                *parts.last_mut().unwrap() = "**";
            }
            Pattern::parse(parts.join(".")).unwrap()
        })
    }

    /// Topics that a pattern matches and that have as little as they can in common with any other.
    fn strangers(pattern: &Pattern) -> [Topic; 2] {
        let with = |rest: &str| {
            let parts = pattern.0.split('.').map(|part| match part {
                "*" => "stranger",
                "**" => rest,
                literal => literal,
            });
            topic(&parts.collect::<Vec<_>>().join("."))
        };
        [with("stranger"), with("stranger.stranger")]
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched_and_what_is_not_has_a_topic_that_shows_it(
            pattern in any_pattern(),
            other in any_pattern(),
            topics in prop::collection::vec(any_topic(), 1..20),
        ) {
            let strangers = strangers(&other);
            prop_assert!(strangers.iter().all(|topic| other.matches(topic)));
            match pattern.covers(&other) {
                true => for topic in topics.iter().chain(&strangers).filter(|topic| other.matches(topic)) {
                    prop_assert!(pattern.matches(topic), "{pattern} {other} {topic}");
                },
                false => prop_assert!(
                    strangers.iter().any(|topic| !pattern.matches(topic)),
                    "{pattern} {other}"
                ),
            }
        }
    }
}
