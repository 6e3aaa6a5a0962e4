//! Who a token speaks for, and what that one may do.
//!
//! A token's way through: its [`Verifier`] finds the keys that may have signed it, the library judges the signature
//! ([`keys`](Key)), then `claims` judges the times and names, and makes an [`Identity`] with its [`Grants`]. Whatever is
//! wrong is a [`Refused`], which says which claim, and nothing that was in the token.
//!
//! Invariants kept here: a key has one algorithm, and a token cannot choose another; nothing of a token is believed
//! before its signature is good; a pattern is granted only if one pattern of the token covers all of it.
//!
//! Never here: HTTP, where keys are fetched from, and the log.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod claims;
mod grants;
mod issue;
mod keys;
mod refused;
mod revocation;
mod verifier;

pub use claims::{Identity, Rules};
pub use grants::Grants;
pub use issue::{Generated, NewToken, SigningKey, generate};
pub use keys::{Algorithm, InvalidKey, Key};
pub use refused::Refused;
pub use revocation::{Revocation, Revocations, StatedRevocation, Target};
pub use verifier::Verifier;

#[cfg(test)]
mod tests;
