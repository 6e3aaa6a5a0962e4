//! How callers are known: what the configuration says of it, and what judges tokens by that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth::{InvalidKey, Key, Rules, Verifier};
use broker_http::Authentication;
use event_log::Pattern;
use event_log::limits::KEYS_MAX;

use crate::WrongUsage;
use crate::jwks::Source;
use crate::secret::Secret;

/// What the configuration says of authentication.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) keys: Vec<PathBuf>,
    pub(crate) jwks: Option<Jwks>,
    pub(crate) secret: Option<Secret>,
    pub(crate) audiences: Vec<String>,
    pub(crate) issuers: Vec<String>,
    pub(crate) clock_skew: Duration,
    pub(crate) query_token: bool,
    pub(crate) anonymous_subscribe: Vec<Pattern>,
}

/// Where a JWK set is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Jwks {
    /// Read once.
    File(PathBuf),
    /// Fetched now and then.
    Address(Source),
}

impl Settings {
    /// Where keys are fetched from.
    pub(crate) fn source(&self) -> Option<&Source> {
        match &self.jwks {
            Some(Jwks::Address(source)) => Some(source),
            _ => None,
        }
    }

    /// Whether there is anything that tokens are verified with.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some() || self.secret.is_some()
    }

    /// A setting that means nothing without keys was meant for a broker that asks for tokens: to serve without would open
    /// what was meant to be closed.
    pub(crate) fn check(&self) -> Result<(), WrongUsage> {
        let first = [
            ("auth_audience", !self.audiences.is_empty()),
            ("auth_issuer", !self.issuers.is_empty()),
            ("auth_query_token", self.query_token),
            ("auth_anonymous_subscribe", !self.anonymous_subscribe.is_empty()),
        ];
        match first.into_iter().find(|(_, is_set)| *is_set && !self.has_keys()) {
            None => Ok(()),
            Some((name, _)) => Err(WrongUsage(format!(
                "{name} is set, but there is no key that tokens are verified with; set auth_keys, auth_jwks or auth_secret, or leave \
                 it out"
            ))),
        }
    }

    /// What judges tokens; none if everybody on this machine may do everything.
    pub(crate) fn load(&self) -> Result<Option<Authentication>, WrongUsage> {
        if !self.has_keys() {
            return Ok(None);
        }
        let mut keys = Vec::new();
        for path in &self.keys {
            keys.extend(keys_of("auth_keys", path, Key::from_file)?);
        }
        if let Some(Jwks::File(path)) = &self.jwks {
            keys.extend(keys_of("auth_jwks", path, Key::from_jwks)?);
        }
        if let Some(secret) = &self.secret {
            let key = Key::from_secret(secret.reveal().as_bytes());
            keys.push(key.map_err(|error| WrongUsage(format!("auth_secret: {error}")))?);
        }
        if keys.len() > KEYS_MAX {
            return Err(WrongUsage(format!(
                "auth_keys: there are {} keys; at most {KEYS_MAX} are used",
                keys.len()
            )));
        }
        let rules = Rules {
            audiences: self.audiences.clone(),
            issuers: self.issuers.clone(),
            clock_skew: self.clock_skew,
        };
        Ok(Some(Authentication {
            verifier: Arc::new(Verifier::new(rules, keys)),
            query_token: self.query_token,
            anonymous_subscribe: self.anonymous_subscribe.clone(),
        }))
    }
}

fn keys_of(
    name: &str,
    path: &Path,
    read: impl Fn(&[u8]) -> Result<Vec<Key>, InvalidKey>,
) -> Result<Vec<Key>, WrongUsage> {
    let shown = path.display();
    let text = std::fs::read(path)
        .map_err(|error| WrongUsage(format!("{name}: the file {shown} cannot be read: {error}")))?;
    read(&text).map_err(|error| WrongUsage(format!("{name}: {shown}: {error}")))
}
