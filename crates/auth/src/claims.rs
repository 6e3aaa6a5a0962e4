//! What a token says, once its signature is good.

use std::time::Duration;

use event_log::Timestamp;
use event_log::limits::{CLOCK_SKEW_SECONDS_DEFAULT, TOKEN_NAME_BYTES_MAX, TOKEN_SECONDS_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::grants::{self, Grants};
use crate::refused::Refused;

/// What a broker asks of every token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Names of this broker, of which a token's `aud` has to name one. Without any a token may have no `aud`: one that was
    /// made for somebody is not for everybody.
    pub audiences: Vec<String>,
    /// Who may have made a token. Without any everybody may who has a key.
    pub issuers: Vec<String>,
    /// How far the clock of who makes tokens may be off.
    pub clock_skew: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            audiences: Vec::new(),
            issuers: Vec::new(),
            clock_skew: Duration::from_secs(CLOCK_SKEW_SECONDS_DEFAULT),
        }
    }
}

/// Whom a good token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: who it is.
    pub subject: Option<String>,
    /// `jti`: the token's own name.
    pub token_id: Option<String>,
    /// `iat`: when it was made.
    pub issued: Option<Timestamp>,
    /// When it is good no longer: its `exp`, and the clock skew that is allowed.
    pub expires: Timestamp,
    /// What may be done with it.
    pub grants: Grants,
}

/// The claims, each as it is written. Others are not looked at.
#[derive(Deserialize)]
pub(crate) struct Claims {
    exp: Option<Box<RawValue>>,
    nbf: Option<Box<RawValue>>,
    iat: Option<Box<RawValue>>,
    aud: Option<Box<RawValue>>,
    iss: Option<Box<RawValue>>,
    sub: Option<Box<RawValue>>,
    jti: Option<Box<RawValue>>,
    perennial: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Judges them all.
    pub(crate) fn judge(&self, rules: &Rules, now: Timestamp) -> Result<Identity, Refused> {
        let expires = moment(&self.exp, "exp")?.ok_or(Refused::Missing("exp"))?;
        let expires = later(expires, rules.clock_skew);
        if expires <= now {
            return Err(Refused::Expired);
        }
        if moment(&self.nbf, "nbf")?.is_some_and(|begins| begins > later(now, rules.clock_skew)) {
            return Err(Refused::NotYet);
        }
        self.judge_audience(rules)?;
        self.judge_issuer(rules)?;
        let grants = match read::<grants::Stated>(&self.perennial, "perennial", GRANTS)? {
            Some(stated) => stated.read().map_err(|(member, why)| Refused::Invalid(member, why))?,
            None => Grants::default(),
        };
        Ok(Identity {
            subject: name(&self.sub, "sub")?,
            token_id: name(&self.jti, "jti")?,
            issued: moment(&self.iat, "iat")?,
            expires,
            grants,
        })
    }

    fn judge_audience(&self, rules: &Rules) -> Result<(), Refused> {
        let named = match read(&self.aud, "aud", "not a string or an array of strings")? {
            None if rules.audiences.is_empty() => return Ok(()),
            None => return Err(Refused::Missing("aud")),
            Some(OneOrMany::One(name)) => vec![name],
            Some(OneOrMany::Many(names)) => names,
        };
        // Also when no name is configured (RFC 7519, 4.1.3).
        match named.iter().any(|name| rules.audiences.contains(name)) {
            true => Ok(()),
            false => Err(Refused::Audience),
        }
    }

    fn judge_issuer(&self, rules: &Rules) -> Result<(), Refused> {
        if rules.issuers.is_empty() {
            return Ok(());
        }
        let issuer: String = read(&self.iss, "iss", "not a string")?.ok_or(Refused::Missing("iss"))?;
        match rules.issuers.contains(&issuer) {
            true => Ok(()),
            false => Err(Refused::Issuer),
        }
    }
}

const GRANTS: &str =
    "not an object of publish and subscribe (arrays of patterns) and admin (true or false) alone";

fn read<T: DeserializeOwned>(
    raw: &Option<Box<RawValue>>,
    claim: &'static str,
    wrong: &str,
) -> Result<Option<T>, Refused> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| Refused::Invalid(claim, wrong.to_owned()))
}

/// A number of seconds, which may have a fraction (RFC 7519, 2).
fn moment(raw: &Option<Box<RawValue>>, claim: &'static str) -> Result<Option<Timestamp>, Refused> {
    const WRONG: &str = "not a number of seconds since 1970, up to the year 9999";
    let Some(seconds) = read::<f64>(raw, claim, WRONG)? else { return Ok(None) };
    if !(0.0..=TOKEN_SECONDS_MAX as f64).contains(&seconds) {
        return Err(Refused::Invalid(claim, WRONG.to_owned()));
    }
    // Within range, and a microsecond more or less is no matter.
    Ok(Some(Timestamp::from_micros((seconds * 1e6) as u64)))
}

/// A moment a little later, not behind the last that can be shown.
fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let micros = moment.as_micros().saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX));
    Timestamp::from_micros(micros.min(TOKEN_SECONDS_MAX * 1_000_000))
}

fn name(raw: &Option<Box<RawValue>>, claim: &'static str) -> Result<Option<String>, Refused> {
    let Some(name) = read::<String>(raw, claim, "not a string")? else { return Ok(None) };
    check_name(&name).map_err(|wrong| Refused::Invalid(claim, wrong))?;
    Ok(Some(name))
}

/// Refuses what may not stand in `sub` or `jti`, and says what it is.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    match name.is_empty() || name.len() > TOKEN_NAME_BYTES_MAX || name.contains(char::is_control) {
        true => Err(format!("not a string of 1 to {TOKEN_NAME_BYTES_MAX} bytes without control characters")),
        false => Ok(()),
    }
}
