//! Tokens that are good no longer, though their time has not come.

use std::collections::BTreeMap;

use event_log::Timestamp;
use serde::{Deserialize, Serialize};

use crate::claims::Identity;

/// Which tokens are taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The token with this `jti`.
    Token(String),
    /// All tokens of this `sub` that were made until now. Tokens that are made later, from the next second on, are good.
    Subject(String),
}

/// A revocation, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What is taken back.
    pub target: Target,
    /// When that was said.
    pub at: Timestamp,
    /// After this it need not be remembered, as the tokens have expired.
    pub until: Option<Timestamp>,
}

/// All revocations that are to be remembered.
#[derive(Debug, Clone, Default)]
pub struct Revocations(BTreeMap<Target, (Timestamp, Option<Timestamp>)>);

impl Revocations {
    /// The same and this one. What need not be remembered at its time is forgotten.
    pub fn add(&mut self, revocation: Revocation) {
        let now = revocation.at;
        self.0.retain(|_, (_, until)| until.is_none_or(|until| until > now));
        // Of two for the same the wider one holds.
        let until = match self.0.get(&revocation.target) {
            Some((_, before)) => before.zip(revocation.until).map(|(a, b)| a.max(b)),
            None => revocation.until,
        };
        self.0.insert(revocation.target, (now, until));
    }

    /// Whether a token was taken back.
    pub fn revoke(&self, identity: &Identity) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let token = identity.token_id.as_ref().map(|id| Target::Token(id.clone()));
        if token.is_some_and(|token| self.0.contains_key(&token)) {
            return true;
        }
        let subject = identity.subject.as_ref().map(|subject| Target::Subject(subject.clone()));
        let revoked = subject.and_then(|subject| self.0.get(&subject));
        // A token says the second in which it was made, or nothing: then it may be of before.
        revoked.is_some_and(|(at, _)| identity.issued.is_none_or(|issued| issued <= *at))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.0.iter().map(|(target, (at, until))| Revocation {
            target: target.clone(),
            at: *at,
            until: *until,
        })
    }
}

/// A revocation as it is written: one of the two names, and perhaps an end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedRevocation {
    /// The `jti` of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The `sub` of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// An RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl StatedRevocation {
    /// How a revocation is written.
    pub fn of(target: &Target, until: Option<Timestamp>) -> Self {
        let (jti, subject) = match target {
            Target::Token(id) => (Some(id.clone()), None),
            Target::Subject(subject) => (None, Some(subject.clone())),
        };
        StatedRevocation { jti, subject, until: until.map(|until| until.to_string()) }
    }

    /// Reads it; or why it cannot be read, and which field.
    pub fn read(self) -> Result<(Target, Option<Timestamp>), (&'static str, String)> {
        let (field, target) = match (self.jti, self.subject) {
            (Some(id), None) => ("jti", Target::Token(id)),
            (None, Some(subject)) => ("subject", Target::Subject(subject)),
            _ => return Err(("jti", "a revocation names either a jti or a subject".to_owned())),
        };
        let (Target::Token(name) | Target::Subject(name)) = &target;
        crate::claims::check_name(name).map_err(|wrong| (field, format!("{field} is {wrong}")))?;
        let until = self.until.map(|text| Timestamp::parse_rfc3339(&text)).transpose();
        Ok((target, until.map_err(|invalid| ("until", invalid.detail))?))
    }
}
