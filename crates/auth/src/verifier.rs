//! What judges a token: the keys, and the rules.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use event_log::Timestamp;
use event_log::limits::TOKEN_BYTES_MAX;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::claims::{Claims, Identity, Rules};
use crate::keys::Key;
use crate::refused::Refused;

/// What judges tokens.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    /// Keys that stay.
    fixed: Vec<Key>,
    /// Keys that were fetched, and are replaced by those that are fetched next.
    fetched: RwLock<Arc<[Key]>>,
    /// Keys are to be fetched, and were not yet.
    awaits_keys: AtomicBool,
    /// A token came that none of the keys can have signed.
    wanted: Notify,
    /// How often what was judged good may have become another thing.
    version: AtomicU64,
}

impl Verifier {
    /// A verifier with these keys. Others may be added by [`Verifier::replace_fetched`].
    pub fn new(rules: Rules, fixed: Vec<Key>) -> Self {
        Verifier {
            rules,
            fixed,
            fetched: RwLock::default(),
            awaits_keys: AtomicBool::new(false),
            wanted: Notify::new(),
            version: AtomicU64::new(0),
        }
    }

    /// Puts these keys in the place of those that were fetched before.
    pub fn replace_fetched(&self, keys: Vec<Key>) {
        *self.fetched.write() = keys.into();
        self.awaits_keys.store(false, Ordering::Release);
        self.outdate();
    }

    /// Says that there are keys to be fetched: until they are, a token that is signed with an unknown key may be good.
    pub fn await_keys(&self) {
        self.awaits_keys.store(true, Ordering::Release);
    }

    /// Waits until a token comes that none of the keys can have signed: there may be others by now. One that came since the
    /// last wait counts.
    pub async fn wants_keys(&self) {
        self.wanted.notified().await;
    }

    /// Says that what was judged until now has to be judged again.
    pub fn outdate(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// As long as this number stays, a token that was good is good until it expires.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Judges a token.
    pub fn verify(&self, token: &[u8], now: Timestamp) -> Result<Identity, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::TooLong { bytes: token.len(), max: TOKEN_BYTES_MAX });
        }
        // Three parts: with more the library would take the first ones for the header.
        if token.iter().filter(|byte| **byte == b'.').count() != 2 {
            return Err(Refused::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
        judge_header(&header)?;
        let fetched = Arc::clone(&self.fetched.read());
        let mut refused = Refused::UnknownKey;
        for key in self.fixed.iter().chain(&*fetched).filter(|key| may_have_signed(key, &header)) {
            match claims(token, key) {
                Ok(claims) => return claims.judge(&self.rules, now),
                Err(error) => refused = error,
            }
        }
        if refused == Refused::UnknownKey {
            self.wanted.notify_one();
            if self.awaits_keys.load(Ordering::Acquire) {
                return Err(Refused::KeysAwaited);
            }
        }
        Err(refused)
    }
}

/// What would change the meaning of a token is refused where it is not understood.
fn judge_header(header: &Header) -> Result<(), Refused> {
    if header.crit.is_some() {
        return Err(Refused::Header("crit"));
    }
    if header.zip.is_some() || header.enc.is_some() {
        return Err(Refused::Header("zip or enc"));
    }
    // Tokens for other purposes say so (RFC 8725, 3.11).
    let is_ours = |typ: &str| ["jwt", "at+jwt"].iter().any(|ours| typ.eq_ignore_ascii_case(ours));
    match header.typ.as_deref() {
        Some(typ) if !is_ours(typ.strip_prefix("application/").unwrap_or(typ)) => {
            Err(Refused::Header("a typ other than JWT or at+jwt"))
        }
        _ => Ok(()),
    }
}

fn may_have_signed(key: &Key, header: &Header) -> bool {
    let is_named = match (&key.id, &header.kid) {
        (Some(id), Some(named)) => id == named,
        _ => true,
    };
    is_named && key.algorithm.of_library() == header.alg
}

/// The claims of a token that this key signed. They are judged here, with the broker's own clock.
fn claims(token: &[u8], key: &Key) -> Result<Claims, Refused> {
    let mut validation = Validation::new(key.algorithm.of_library());
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
    decoded.map(|decoded| decoded.claims).map_err(|error| match error.kind() {
        ErrorKind::Json(_) => {
            Refused::Invalid("payload", "not an object of JSON with each claim once".to_owned())
        }
        ErrorKind::Base64(_) | ErrorKind::InvalidToken | ErrorKind::Utf8(_) => Refused::Malformed,
        _ => Refused::Signature,
    })
}
