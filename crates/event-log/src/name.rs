//! The texts of an event beside its topic, each refused at the door if a frame or a record could be forged with it.

use std::fmt;

use bytestring::ByteString;

use crate::Invalid;
use crate::limits::{NAME_BYTES_MAX, TYPE_BYTES_MAX};

/// The name of an event's type, as `EventSource` knows it: 1 to 255 bytes of UTF-8, no CR, LF or NUL. A name that
/// starts with `$` is the broker's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(ByteString);

impl EventType {
    /// The type of an event that has none.
    pub const MESSAGE: &'static str = "message";
    /// The type of a tombstone.
    pub const DELETE: &'static str = "$delete";

    /// Reads a type, the broker's own ones too.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, Invalid> {
        let text = text.into();
        Self::check(&text)?;
        Ok(EventType(text))
    }

    /// Whether a text is a type, for one that is looked at where it lies.
    pub fn check(text: &str) -> Result<(), Invalid> {
        if text.is_empty() || text.len() > TYPE_BYTES_MAX {
            return Err(Invalid::new(format!(
                "the type has {} bytes; it has 1 to {TYPE_BYTES_MAX}",
                text.len()
            )));
        }
        if text.contains(['\r', '\n', '\0']) {
            return Err(Invalid::new(format!(
                "type {text:?} has a CR, LF or NUL, which a type may not have"
            )));
        }
        Ok(())
    }

    /// Reads the type of an event that somebody publishes: `None` for `message`, which is the same as no type; names
    /// that start with `$` are refused.
    pub fn parse_published(text: impl Into<ByteString>) -> Result<Option<Self>, Invalid> {
        let parsed = Self::parse(text)?;
        if parsed.0.starts_with('$') {
            return Err(Invalid::new(format!(
                "type {:?} starts with $, which only the broker's own types do",
                &*parsed.0
            )));
        }
        Ok((&*parsed.0 != Self::MESSAGE).then_some(parsed))
    }

    /// The type of a tombstone.
    pub fn delete() -> Self {
        EventType(ByteString::from_static(Self::DELETE))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an event is the newest state of: 1 to 512 bytes of UTF-8, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(ByteString);

/// Who published, so that a reader can leave out its own events: 1 to 512 bytes of UTF-8, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(ByteString);

/// What makes a retried publish recognisable within its topic: 1 to 512 bytes of UTF-8, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(ByteString);

macro_rules! name {
    ($type:ident, $what:literal) => {
        impl $type {
            /// Reads it.
            pub fn parse(text: impl Into<ByteString>) -> Result<Self, Invalid> {
                let text = text.into();
                check_name(&text, $what)?;
                Ok($type(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(Key, "key");
name!(Origin, "origin");
name!(IdempotencyKey, "idempotency key");

fn check_name(text: &str, what: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(Invalid::new(format!(
            "the {what} has {} bytes; it has 1 to {NAME_BYTES_MAX}",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Invalid::new(format!("the {what} has a NUL, which it may not have")));
    }
    Ok(())
}

/// What was published: UTF-8 text. A clone shares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Data(ByteString);

impl Data {
    /// Takes text of at most `bytes_max` bytes.
    pub fn parse(text: impl Into<ByteString>, bytes_max: usize) -> Result<Self, Invalid> {
        let text = text.into();
        if text.len() > bytes_max {
            return Err(Invalid::too_large(format!(
                "the data has {} bytes; at most {bytes_max} are allowed (max_data)",
                text.len()
            )));
        }
        Ok(Data(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as shared bytes.
    pub fn as_shared(&self) -> &ByteString {
        &self.0
    }
}

impl From<ByteString> for Data {
    /// Data that was judged before, when it was published.
    fn from(text: ByteString) -> Self {
        Data(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_the_same_as_no_type() {
        assert_eq!(EventType::parse_published("message"), Ok(None));
        assert_eq!(EventType::parse_published("trade").unwrap().unwrap().as_str(), "trade");
    }

    #[test]
    fn types_that_could_forge_a_field_are_refused() {
        for text in ["", "a\nb", "a\rb", "a\0b", &"x".repeat(256)] {
            assert!(EventType::parse(text).is_err(), "{text:?}");
        }
        assert!(EventType::parse_published("$gap").is_err());
        assert!(EventType::parse("$delete").is_ok());
    }

    #[test]
    fn names_are_short_and_have_no_nul() {
        assert!(Key::parse("a key with spaces\nand lines").is_ok());
        assert!(Key::parse("x".repeat(512)).is_ok());
        for text in ["", "a\0", &"x".repeat(513)] {
            assert!(
                Key::parse(text).is_err()
                    && Origin::parse(text).is_err()
                    && IdempotencyKey::parse(text).is_err()
            );
        }
    }

    #[test]
    fn data_that_is_too_large_says_so() {
        assert!(Data::parse("four", 4).is_ok());
        assert!(Data::parse("fives", 4).unwrap_err().too_large);
    }
}
