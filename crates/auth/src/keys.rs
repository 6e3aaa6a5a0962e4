//! What tokens are verified with. A key has one algorithm, which follows from what it is: a token that names another was not
//! signed with it. So a public key can never be taken for a secret.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm};
use event_log::limits::{KEYS_BYTES_MAX, KEYS_MAX, RSA_BITS_MIN, SECRET_BYTES_MIN};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    Hs256,
    /// RSA (PKCS #1 1.5) with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// As it stands in a token.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Why something is no key. It tells nothing of what it was read from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKey(String);

impl InvalidKey {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        InvalidKey(why.into())
    }
}

/// What verifies tokens of one algorithm.
#[derive(Clone)]
pub struct Key {
    pub(crate) algorithm: Algorithm,
    /// `kid`: a token that names another key was not signed with this one. One without a name may have signed any.
    pub(crate) id: Option<String>,
    pub(crate) decoding: DecodingKey,
}

/// Its bytes are nobody's business.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// How the tokens are signed that it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A secret of HS256: its text as it is, but for white space around it, which editors and shells leave.
    pub fn from_secret(text: &[u8]) -> Result<Self, InvalidKey> {
        let secret = secret(text)?;
        Ok(Key { algorithm: Algorithm::Hs256, id: None, decoding: DecodingKey::from_secret(secret) })
    }

    /// The keys of a file: PEM (public keys), a JWK set, or else a secret.
    pub fn from_file(text: &[u8]) -> Result<Vec<Self>, InvalidKey> {
        let keys = match text.trim_ascii_start() {
            pem if pem.starts_with(b"-----BEGIN") => pem_keys(pem)?,
            json if json.starts_with(b"{") => Self::from_jwks(json)?,
            secret => vec![Self::from_secret(secret)?],
        };
        Ok(keys)
    }

    /// The public keys of a JWK set ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)) that sign tokens. Such as are not
    /// for that, or of an algorithm that is not known here, are left out, as sets are shared; secrets too, which do not
    /// belong in them.
    pub fn from_jwks(text: &[u8]) -> Result<Vec<Self>, InvalidKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if text.len() > KEYS_BYTES_MAX {
            return Err(InvalidKey::new(format!("it has more than {KEYS_BYTES_MAX} bytes")));
        }
        let set: Set = serde_json::from_slice(text)
            .map_err(|_| InvalidKey::new("it is not a JWK set, {\"keys\":[...]}"))?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(of_jwk).collect();
        match keys.len() {
            0 => Err(InvalidKey::new(
                "the JWK set has no public key that verifies RS256 (2,048 bits or more), ES256 or EdDSA (Ed25519)",
            )),
            1..=KEYS_MAX => Ok(keys),
            _ => Err(InvalidKey::new(format!("the JWK set has more than {KEYS_MAX} keys"))),
        }
    }
}

/// The bytes of a secret.
pub(crate) fn secret(text: &[u8]) -> Result<&[u8], InvalidKey> {
    let secret = text.trim_ascii();
    if secret.starts_with(b"-----BEGIN") || secret.starts_with(b"{") {
        // What is public, given as a secret, would let everybody sign.
        return Err(InvalidKey::new("a secret is random text, not PEM or JSON"));
    }
    match secret.len() {
        0..SECRET_BYTES_MIN => Err(InvalidKey::new(format!(
            "a secret has at least {SECRET_BYTES_MIN} bytes, this one {}; perennial keys generate --alg HS256 makes one",
            secret.len()
        ))),
        SECRET_BYTES_MIN..=KEYS_BYTES_MAX => Ok(secret),
        _ => Err(InvalidKey::new(format!("a secret has at most {KEYS_BYTES_MAX} bytes"))),
    }
}

fn pem_keys(text: &[u8]) -> Result<Vec<Key>, InvalidKey> {
    if text.len() > KEYS_BYTES_MAX {
        return Err(InvalidKey::new(format!("it has more than {KEYS_BYTES_MAX} bytes")));
    }
    let blocks = pem::parse_many(text).map_err(|_| InvalidKey::new("it is not PEM"))?;
    blocks.iter().map(of_pem).collect()
}

fn of_pem(block: &pem::Pem) -> Result<Key, InvalidKey> {
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        tag if tag.ends_with("PRIVATE KEY") => {
            return Err(InvalidKey::new("it holds a private key; to verify tokens the public one is enough"));
        }
        tag => return Err(InvalidKey::new(format!("it holds a {tag}; a PUBLIC KEY is needed"))),
    }
    let text = pem::encode(block);
    let key = |algorithm, decoding| Key { algorithm, id: None, decoding };
    let found = DecodingKey::from_ed_pem(text.as_bytes())
        .map(|decoding| key(Algorithm::EdDsa, decoding))
        .or_else(|_| {
            DecodingKey::from_ec_pem(text.as_bytes()).map(|decoding| key(Algorithm::Es256, decoding))
        })
        .or_else(|_| {
            DecodingKey::from_rsa_pem(text.as_bytes()).map(|decoding| key(Algorithm::Rs256, decoding))
        });
    found.ok().filter(is_usable).ok_or_else(|| {
        InvalidKey::new(format!(
            "it is no public key of RSA with {RSA_BITS_MIN} bits or more, P-256 or Ed25519"
        ))
    })
}

fn of_jwk(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::Rs256,
        (AlgorithmParameters::EllipticCurve(key), None | Some(KeyAlgorithm::ES256))
            if key.curve == EllipticCurve::P256 =>
        {
            Algorithm::Es256
        }
        (AlgorithmParameters::OctetKeyPair(key), None | Some(KeyAlgorithm::EdDSA))
            if key.curve == EllipticCurve::Ed25519 =>
        {
            Algorithm::EdDsa
        }
        _ => return None,
    };
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { algorithm, id: jwk.common.key_id, decoding }).filter(is_usable)
}

/// Whether signatures can be verified with it. Found out when it is read, so that it is not found out with each token.
fn is_usable(key: &Key) -> bool {
    let parses = |algorithm: &'static dyn VerificationAlgorithm| {
        key.decoding.try_get_as_bytes().is_ok_and(|bytes| parse(algorithm, bytes))
    };
    match key.algorithm {
        Algorithm::Hs256 => true,
        Algorithm::Es256 => parses(&ECDSA_P256_SHA256_FIXED),
        Algorithm::EdDsa => parses(&ED25519),
        Algorithm::Rs256 => match Jwk::from_decoding_key(&key.decoding, None).map(|jwk| jwk.algorithm) {
            // Four characters are three bytes; the library refuses the same at each token.
            Ok(AlgorithmParameters::RSA(rsa)) => rsa.n.len() * 6 / 8 >= RSA_BITS_MIN / 8,
            _ => false,
        },
    }
}

fn parse(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, bytes).is_ok()
}
