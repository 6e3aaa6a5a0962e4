//! What every test stands on: a broker that is really running, and a client that knows nothing of our code.
//!
//! Two nouns: a `Broker` is the built binary in a temporary directory, and a `Reader` is one event stream from it. Both
//! speak through `http`, a client of plain sockets that sends exactly the bytes it is given and checks what it gets.

pub(crate) mod archive;
pub(crate) mod broker;
pub(crate) mod envelope;
pub(crate) mod heavy;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod outside;
pub(crate) mod proxy;
pub(crate) mod shapes;
pub(crate) mod sse;
pub(crate) mod stream;
pub(crate) mod tokens;

pub(crate) use broker::Broker;
pub(crate) use envelope::Envelope;
pub(crate) use http::{Connection, Request, Response};
pub(crate) use sse::{Reader, SseEvent};

/// How long anything may take before a test gives up. It is generous on purpose: no test measures time.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// A text of the `data` directory beside these tests.
pub(crate) fn data_file(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Percent-encodes everything but the unreserved characters, so that any text fits into a path or a query.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(char::from(byte)),
            // A dot segment would be a relative path to some clients, so dots are escaped too.
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
