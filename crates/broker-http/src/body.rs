//! A request's body, read under a hard limit.
//!
//! Nothing is published from a body that did not come whole, so it is read to its end before it is looked at. Room is
//! taken as bytes come, not as the client announces them.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::problem::Problem;

/// A client that sends nothing of its body for so long is gone.
const STALL: Duration = Duration::from_secs(30);

/// The whole body, of at most so many bytes. `setting` is what an operator would change to allow more.
pub(crate) async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    bytes_max: usize,
    setting: &str,
) -> Result<Bytes, Problem> {
    refuse_encoding(request)?;
    let too_large = || {
        let detail = format!("the body has more than {bytes_max} bytes, which is what {setting} allows");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    };
    if announced(request).is_some_and(|announced| announced > bytes_max as u64) {
        return Err(too_large());
    }
    let Some(first) = next(&mut payload).await? else { return Ok(Bytes::new()) };
    if first.len() > bytes_max {
        return Err(too_large());
    }
    let Some(second) = next(&mut payload).await? else { return Ok(first) };
    let mut body = BytesMut::from(first);
    let mut chunk = second;
    loop {
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
        match next(&mut payload).await? {
            Some(more) => chunk = more,
            None => return Ok(body.freeze()),
        }
    }
}

async fn next(payload: &mut web::Payload) -> Result<Option<Bytes>, Problem> {
    match timeout(STALL, payload.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => Err(incomplete(&error)),
        Err(_) => {
            let detail = format!("nothing of the body came for {} s; nothing was published", STALL.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "incomplete-body", detail))
        }
    }
}

fn incomplete(error: &PayloadError) -> Problem {
    let detail = format!("the body did not come whole, so nothing was published: {error}");
    Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", detail)
}

fn announced(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What is compressed could be far larger than its limit, and data is kept as it was sent.
fn refuse_encoding(request: &HttpRequest) -> Result<(), Problem> {
    let mut encodings = request.headers().get_all(CONTENT_ENCODING);
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(encoding) => {
            let detail =
                format!("the body is encoded as {encoding:?}; send it as it is, without Content-Encoding");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", detail)
                .with_field("Content-Encoding"))
        }
    }
}

/// The body's text, or where it stops being UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let detail = format!(
            "the body is not UTF-8: byte {} (0x{:02x}) has no place there; text of other encodings, and bytes that are no \
             text, must be encoded first",
            error.valid_up_to(),
            body[error.valid_up_to()]
        );
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-utf8", detail)
    })
}
