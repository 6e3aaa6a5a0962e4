//! Tokens as any issuer may make them, good ones and bad ones, with a library that is not the broker's own code.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::broker::command;
use super::{Broker, Request, Response};

/// A secret that no other text holds.
pub(crate) const SECRET: &str = "5ecret-that-nobody-else-has-0123456789abcdef";

/// A broker that asks for tokens, all of which are signed with [`SECRET`].
pub(crate) fn asking(arguments: &[&str]) -> Broker {
    let all = [&["--set", "auth_clock_skew=0s"], arguments].concat();
    Broker::with_environment(&all, &[("PERENNIAL_AUTH_SECRET", SECRET)])
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens are made by the machine's own clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for a minute.
pub(crate) fn claims(subject: &str, publish: &[&str], subscribe: &[&str], admin: bool) -> Value {
    json!({
        "sub": subject,
        "iat": now(),
        "exp": now() + 60,
        "perennial": { "publish": publish, "subscribe": subscribe, "admin": admin },
    })
}

/// The same with one of them changed.
pub(crate) fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// Signs with [`SECRET`].
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

pub(crate) fn signed_with(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("a token")
}

/// A token for everything.
pub(crate) fn all_powerful() -> String {
    signed(&claims("root", &["**"], &["**"], true))
}

/// Adds a token to a request.
pub(crate) fn bearing(request: Request, token: &str) -> Request {
    request.header("Authorization", format!("Bearer {token}"))
}

/// Sends a request with a token.
pub(crate) fn send_as(broker: &Broker, token: &str, method: &str, path: &str) -> Response {
    let request = Request::new(method, path).header("Accept", "application/json");
    let request = if method == "POST" || method == "PUT" { request.body("x") } else { request };
    broker.send(&bearing(request, token))
}

/// A key as `perennial keys generate` makes it.
pub(crate) struct Generated {
    place: TempDir,
    /// The text of the public key.
    pub(crate) public: String,
}

impl Generated {
    pub(crate) fn new(algorithm: &str) -> Self {
        let place = TempDir::new().expect("a temporary directory");
        let private = place.path().join("private");
        let made = command()
            .args(["keys", "generate", "--alg", algorithm])
            .arg(&private)
            .output()
            .expect("perennial keys generate");
        assert!(made.status.success(), "{made:?}");
        let public = String::from_utf8(made.stdout).unwrap();
        std::fs::write(place.path().join("public"), &public).unwrap();
        Generated { place, public }
    }

    pub(crate) fn private_path(&self) -> String {
        self.place.path().join("private").display().to_string()
    }

    /// The file that a broker is given.
    pub(crate) fn public_path(&self) -> String {
        match self.public.is_empty() {
            true => self.private_path(),
            false => self.place.path().join("public").display().to_string(),
        }
    }

    pub(crate) fn private(&self) -> Vec<u8> {
        std::fs::read(self.private_path()).unwrap()
    }
}
