//! A publish of one event in its simplest form, as bytes.
//!
//! Only what can be read in one way is read here: HTTP/1.1, a path without escapes, one plain `Content-Length`, and no header that
//! would change what the request is. Everything else is for the web side, which knows all of HTTP, and says what is wrong.

use httparse::{Header, Request, Status};

use crate::publish::{EXPECTED_ID, IDEMPOTENCY_KEY};

const BEFORE_TOPIC: &str = "/v1/topics/";
const AFTER_TOPIC: &str = "/events";
/// Headers of a simple request.
const HEADERS_MAX: usize = 32;
/// With these a request is not simple: they say how its body comes, what becomes of the connection, or who asks.
const NOT_SIMPLE: [&str; 10] = [
    "transfer-encoding",
    "content-encoding",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "origin",
];

/// What the bytes that came begin with.
#[derive(Debug, PartialEq)]
pub(super) enum Begun<'a> {
    Publish(SimplePublish<'a>),
    /// The head of such a publish, and not all of its body.
    Unfinished,
    /// Something else, or not enough of a head.
    Other,
}

/// A publish, whole.
#[derive(Debug, PartialEq)]
pub(super) struct SimplePublish<'a> {
    pub(super) topic: &'a str,
    pub(super) query: &'a str,
    pub(super) host: &'a [u8],
    pub(super) authorization: Option<&'a [u8]>,
    pub(super) has_cookie: bool,
    pub(super) idempotency_key: Option<&'a [u8]>,
    pub(super) expected_id: Option<&'a [u8]>,
    pub(super) body: &'a [u8],
    /// Bytes of the whole request.
    pub(super) length: usize,
}

impl SimplePublish<'_> {
    /// Bytes of its head.
    pub(super) fn head_bytes(&self) -> usize {
        self.length - self.body.len()
    }

    /// Bytes of its path and query.
    pub(super) fn url_bytes(&self) -> usize {
        let query = if self.query.is_empty() { 0 } else { 1 + self.query.len() };
        BEFORE_TOPIC.len() + self.topic.len() + AFTER_TOPIC.len() + query
    }
}

/// Looks at the bytes that came. A body of more than `body_bytes_max` is not simple.
pub(super) fn parse(bytes: &[u8], body_bytes_max: usize) -> Begun<'_> {
    // Most of what is no publish is told apart before it is parsed.
    match bytes.starts_with(b"POST /v1/topics/") {
        true => parse_post(bytes, body_bytes_max).unwrap_or(Begun::Other),
        false => Begun::Other,
    }
}

fn parse_post(bytes: &[u8], body_bytes_max: usize) -> Option<Begun<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let Ok(Status::Complete(head)) = request.parse(bytes) else { return None };
    if request.version != Some(1) {
        return None;
    }
    let (path, query) = match request.path?.split_once('?') {
        Some((path, query)) => (path, query),
        None => (request.path?, ""),
    };
    let topic = path.strip_prefix(BEFORE_TOPIC)?.strip_suffix(AFTER_TOPIC)?;
    if !topic.bytes().all(is_plain) || !query.bytes().all(|byte| is_plain(byte) || b"/?%".contains(&byte)) {
        return None;
    }
    let known = Known::read(request.headers)?;
    let body_bytes = known.content_length.filter(|length| *length <= body_bytes_max)?;
    let length = head + body_bytes;
    let Some(body) = bytes.get(head..length) else { return Some(Begun::Unfinished) };
    let Known { authorization, has_cookie, idempotency_key, expected_id, .. } = known;
    let publish = SimplePublish {
        topic,
        query,
        host: known.host?,
        authorization,
        has_cookie,
        idempotency_key,
        expected_id,
        body,
        length,
    };
    Some(Begun::Publish(publish))
}

/// What stands for itself in a path (RFC 3986, 3.3).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// The headers that matter, each given at most once.
#[derive(Default)]
struct Known<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<usize>,
    authorization: Option<&'a [u8]>,
    has_cookie: bool,
    idempotency_key: Option<&'a [u8]>,
    expected_id: Option<&'a [u8]>,
}

impl<'a> Known<'a> {
    fn read(headers: &[Header<'a>]) -> Option<Self> {
        let mut known = Known::default();
        for Header { name, value } in headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let kept = match name.len() {
                4 if is("host") => &mut known.host,
                6 if is("cookie") => {
                    known.has_cookie = true;
                    continue;
                }
                13 if is("authorization") => &mut known.authorization,
                14 if is("content-length") => {
                    if known.content_length.replace(digits(value)?).is_some() {
                        return None;
                    }
                    continue;
                }
                15 if is(IDEMPOTENCY_KEY) => &mut known.idempotency_key,
                21 if is(EXPECTED_ID) => &mut known.expected_id,
                10 if is("connection") && value.eq_ignore_ascii_case(b"keep-alive") => continue,
                10 if is("connection") => return None,
                _ if NOT_SIMPLE.iter().any(|other| is(other)) => return None,
                _ => continue,
            };
            if kept.replace(value).is_some() {
                return None;
            }
        }
        known.host.is_some().then_some(known)
    }
}

/// A number of at most nine digits, and nothing else.
fn digits(value: &[u8]) -> Option<usize> {
    let is_number = (1..=9).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| value.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
