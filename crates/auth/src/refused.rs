//! Why a token is not good.

/// Why a token is not good. What it tells may be shown to whoever sent the token: it holds nothing of its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is longer than any token may be.
    #[error("the token has {bytes} bytes; at most {max} are read")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// It is no signed token.
    #[error(
        "the token is not a signed JWT of three parts with a known algorithm (HS256, RS256, ES256, EdDSA)"
    )]
    Malformed,
    /// Its header asks for something that is not done here.
    #[error("the token's header has {0}, which this broker does not accept")]
    Header(&'static str),
    /// None of the keys that are known can have signed it.
    #[error("the token is signed with a key or an algorithm that this broker does not know")]
    UnknownKey,
    /// The same, but there are keys that could not be fetched until now: it may be good.
    #[error("the keys that tokens are verified with could not be fetched yet")]
    KeysAwaited,
    /// It was not signed with the key that it names, or was changed since.
    #[error("the token's signature is not good")]
    Signature,
    /// It does not say what it must.
    #[error("the token has no {0}, which this broker asks for")]
    Missing(&'static str),
    /// What it says cannot be read.
    #[error("the token's {0} is {1}")]
    Invalid(&'static str, String),
    /// Its time is over.
    #[error("the token's exp has passed")]
    Expired,
    /// Its time has not come.
    #[error("the token's nbf has not come yet")]
    NotYet,
    /// It was made for somebody else.
    #[error("the token's aud does not name this broker (auth_audience)")]
    Audience,
    /// It was made by somebody else.
    #[error("the token's iss is not one that this broker trusts (auth_issuer)")]
    Issuer,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
}

impl Refused {
    /// A word for programs; it stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Expired => "token-expired",
            Refused::Revoked => "token-revoked",
            Refused::KeysAwaited => "keys-awaited",
            _ => "invalid-token",
        }
    }

    /// The claim that is missing or wrong, if it is one.
    pub fn claim(&self) -> Option<&'static str> {
        match self {
            Refused::Missing(claim) | Refused::Invalid(claim, _) => Some(claim),
            Refused::Expired => Some("exp"),
            Refused::NotYet => Some("nbf"),
            Refused::Audience => Some("aud"),
            Refused::Issuer => Some("iss"),
            _ => None,
        }
    }
}
