//! Segments of a request's path, each decoded once, from the bytes that were sent.
//!
//! The router works on a path that is decoded in part and not strictly; what it captures is not used. So a topic may hold
//! any character, an escaped slash too, and a plus stays a plus.

use std::borrow::Cow;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// The segment with this number, from 0: in `/v1/topics/{topic}` the topic has number 2.
pub(crate) fn segment(request: &HttpRequest, index: usize) -> Result<String, Problem> {
    let raw = request.uri().path().split('/').nth(index + 1).unwrap_or_default();
    decode(raw, "path").map(Cow::into_owned)
}

/// Decodes percent escapes, and refuses those that are malformed or not UTF-8.
pub(crate) fn decode<'a>(text: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    if let Some(escape) = malformed_escape(text) {
        let detail =
            format!("{escape:?} is not an escape; a % is followed by two hexadecimal digits, or written %25");
        return Err(Problem::bad_request("malformed-escape", field, detail));
    }
    percent_decode_str(text).decode_utf8().map_err(|_| {
        let detail =
            format!("the escapes of {text:?} are not UTF-8; text is escaped byte by byte of its UTF-8");
        Problem::bad_request("malformed-escape", field, detail)
    })
}

fn malformed_escape(text: &str) -> Option<String> {
    let is_escape =
        |rest: &[u8]| matches!(rest, [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let place = text
        .bytes()
        .enumerate()
        .find(|(place, byte)| *byte == b'%' && !is_escape(&text.as_bytes()[*place..]));
    place.map(|(place, _)| text[place..].chars().take(3).collect())
}

#[cfg(test)]
mod tests;
