//! A request's body, read under a hard limit.
//!
//! Nothing is published from a body that did not come whole, so it is read to its end before it is looked at. Room is
//! taken as bytes come, not as the client announces them.

use std::ops::Deref;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use crate::limits::{Limit, Share};
use crate::problem::Problem;
use crate::state::State;

/// A client that sends nothing of its body for so long is gone.
const STALL: Duration = Duration::from_secs(30);

/// How large a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    bytes_max: usize,
    /// What allows no more.
    name: &'static str,
    limit: Option<Limit>,
}

impl Bound {
    /// One that an operator may change.
    pub(crate) fn of(limit: Limit, bytes_max: usize) -> Self {
        Bound { bytes_max, name: limit.name(), limit: Some(limit) }
    }

    /// One that stands.
    pub(crate) fn fixed(name: &'static str, bytes_max: usize) -> Self {
        Bound { bytes_max, name, limit: None }
    }

    /// No more than all requests together may hold: a body that is larger would be told to come back for ever.
    fn within(self, all: usize) -> Self {
        match all < self.bytes_max {
            true => Bound::of(Limit::BodiesInFlight, all),
            false => self,
        }
    }

    fn too_large(self) -> Problem {
        let Bound { bytes_max, name, limit } = self;
        let detail = format!("the body has more than {bytes_max} bytes, which is what {name} allows");
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail);
        match limit {
            Some(limit) => problem.with_limit(limit),
            None => problem,
        }
    }
}

/// A body that came whole. What it takes is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Bytes,
    _share: Share,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The whole body, if it is no larger than it may be, and comes in time.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    bound: Bound,
    state: &State,
) -> Result<Body, Problem> {
    refuse_encoding(request)?;
    let bound = bound.within(state.options.limits.bodies_bytes_max);
    if announced(request).is_some_and(|announced| announced > bound.bytes_max as u64) {
        return Err(bound.too_large());
    }
    let time = state.options.limits.body_timeout;
    let mut incoming = Incoming {
        payload,
        bound,
        time,
        due: Instant::now() + time,
        share: state.in_flight.share(),
        bytes: 0,
    };
    let first = incoming.next().await?.unwrap_or_default();
    let bytes = match incoming.next().await? {
        None => first,
        Some(second) => {
            let mut all = BytesMut::from(first);
            all.extend_from_slice(&second);
            while let Some(more) = incoming.next().await? {
                all.extend_from_slice(&more);
            }
            all.freeze()
        }
    };
    Ok(Body { bytes, _share: incoming.share })
}

/// A body that is coming.
struct Incoming {
    payload: web::Payload,
    bound: Bound,
    /// How long it may take.
    time: Duration,
    due: Instant,
    share: Share,
    /// How much came.
    bytes: usize,
}

impl Incoming {
    /// What comes next of it; nothing at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let left = self.due.saturating_duration_since(Instant::now());
        let chunk = match timeout(STALL.min(left), self.payload.next()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(incomplete(&error)),
            Err(_) => return Err(self.late(left)),
        };
        self.bytes += chunk.len();
        if self.bytes > self.bound.bytes_max {
            return Err(self.bound.too_large());
        }
        self.share.hold(self.bytes).map_err(too_much_at_once)?;
        Ok(Some(chunk))
    }

    fn late(&self, left: Duration) -> Problem {
        let refuse = |detail| Problem::new(StatusCode::REQUEST_TIMEOUT, "incomplete-body", detail);
        match left > STALL {
            true => {
                refuse(format!("nothing of the body came for {} s; nothing was published", STALL.as_secs()))
            }
            false => refuse(format!(
                "the body did not come whole within {:?}, which is what body_timeout allows; nothing was published",
                self.time
            ))
            .with_limit(Limit::BodyTimeout),
        }
    }
}

fn too_much_at_once(limit: Limit) -> Problem {
    let detail = format!(
        "more is being received at this moment than {} allows for all requests together; nothing was published",
        limit.name()
    );
    Problem::unavailable("overloaded", detail, 1).with_limit(limit)
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
