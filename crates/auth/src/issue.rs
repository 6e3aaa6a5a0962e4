//! Making tokens, and keys to make them with.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use event_log::Timestamp;
use event_log::limits::SECRET_BYTES_MIN;
use jsonwebtoken::{EncodingKey, Header};
use pem::Pem;
use serde::Serialize;

use crate::grants::Grants;
use crate::keys::{self, Algorithm, InvalidKey};

/// What signs tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    encoding: EncodingKey,
}

/// Its bytes are nobody's business.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What a token is to say. Times are in whole seconds.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// `sub`.
    pub subject: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// `iss`.
    pub issuer: Option<String>,
    /// `iat`.
    pub issued: Timestamp,
    /// `exp`.
    pub expires: Timestamp,
    /// `perennial`.
    pub grants: Grants,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: u64,
    exp: u64,
    perennial: &'a Grants,
}

impl SigningKey {
    /// The private key of a file: PEM (PKCS #8; of RSA PKCS #1 too), or else a secret of HS256.
    pub fn from_file(text: &[u8]) -> Result<Self, InvalidKey> {
        if !text.trim_ascii_start().starts_with(b"-----BEGIN") {
            let encoding = EncodingKey::from_secret(keys::secret(text)?);
            return Ok(SigningKey { algorithm: Algorithm::Hs256, encoding });
        }
        let block = pem::parse(text).map_err(|_| InvalidKey::new("it is not PEM"))?;
        if !matches!(block.tag(), "PRIVATE KEY" | "RSA PRIVATE KEY") {
            let detail =
                format!("it holds a {}; tokens are signed with a PRIVATE KEY (PKCS #8)", block.tag());
            return Err(InvalidKey::new(detail));
        }
        let key = |algorithm, encoding| SigningKey { algorithm, encoding };
        EncodingKey::from_ed_pem(text)
            .map(|encoding| key(Algorithm::EdDsa, encoding))
            .or_else(|_| EncodingKey::from_ec_pem(text).map(|encoding| key(Algorithm::Es256, encoding)))
            .or_else(|_| EncodingKey::from_rsa_pem(text).map(|encoding| key(Algorithm::Rs256, encoding)))
            .map_err(|_| InvalidKey::new("it is no private key of RSA, P-256 or Ed25519"))
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Makes a token.
    pub fn sign(&self, token: &NewToken) -> Result<String, InvalidKey> {
        let seconds = |moment: Timestamp| moment.as_micros() / 1_000_000;
        let claims = Claims {
            sub: token.subject.as_deref(),
            jti: token.token_id.as_deref(),
            aud: token.audience.as_deref(),
            iss: token.issuer.as_deref(),
            iat: seconds(token.issued),
            exp: seconds(token.expires),
            perennial: &token.grants,
        };
        let header = Header::new(self.algorithm.of_library());
        jsonwebtoken::encode(&header, &claims, &self.encoding)
            .map_err(|_| InvalidKey::new(format!("the key cannot sign with {}", self.algorithm.name())))
    }
}

/// A key, as the text of its files.
pub struct Generated {
    /// What signs tokens. Whoever has it can do everything.
    pub private: String,
    /// What verifies them; none for a secret, which does both.
    pub public: Option<String>,
}

/// Makes a new key.
pub fn generate(algorithm: Algorithm) -> Result<Generated, InvalidKey> {
    let failed = |_| InvalidKey::new("the key cannot be made");
    let random = SystemRandom::new();
    let pair = |private: &[u8], public: &[u8]| Generated {
        private: pem::encode(&Pem::new("PRIVATE KEY", private)),
        public: Some(pem::encode(&Pem::new("PUBLIC KEY", public))),
    };
    match algorithm {
        Algorithm::Hs256 => {
            let mut bytes = [0; SECRET_BYTES_MIN];
            random.fill(&mut bytes).map_err(failed)?;
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            Ok(Generated { private: digits.collect::<String>() + "\n", public: None })
        }
        Algorithm::Rs256 => {
            let key = RsaKeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
            let private = AsDer::<Pkcs8V1Der>::as_der(&key).map_err(failed)?;
            let public = AsDer::<PublicKeyX509Der>::as_der(key.public_key()).map_err(failed)?;
            Ok(pair(private.as_ref(), public.as_ref()))
        }
        Algorithm::Es256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            let private = key.to_pkcs8v1().map_err(failed)?;
            let public = AsDer::<PublicKeyX509Der>::as_der(key.public_key()).map_err(failed)?;
            Ok(pair(private.as_ref(), public.as_ref()))
        }
        Algorithm::EdDsa => {
            let key = Ed25519KeyPair::generate().map_err(failed)?;
            let private = AsDer::<Pkcs8V1Der>::as_der(&key).map_err(failed)?;
            let public = AsDer::<PublicKeyX509Der>::as_der(key.public_key()).map_err(failed)?;
            Ok(pair(private.as_ref(), public.as_ref()))
        }
    }
}
