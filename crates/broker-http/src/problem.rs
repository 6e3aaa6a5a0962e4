//! Every refusal, as `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
//!
//! The code is for programs and stays the same; the detail is for people and says what was wrong and what would be
//! right. Errors of the log become statuses here and nowhere else.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use event_log::{AppendError, Epochs, Invalid, ReadError};
use serde::Serialize;

use crate::limits::Limit;

/// The media type of every refusal.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<Box<str>>,
    line: Option<usize>,
    last_id: Option<Box<str>>,
    retry_after_seconds: Option<u32>,
    /// Which limit was reached.
    limit: Option<Limit>,
    /// Boxed, as most refusals have none.
    challenge: Option<Box<Challenge>>,
}

/// What an answer carries that refuses, for who counts them: the code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused(pub(crate) &'static str);

/// What is told to who has to authenticate.
#[derive(Debug)]
struct Challenge {
    text: &'static str,
    /// The claim of a token that is missing or wrong.
    claim: Option<&'static str>,
}

impl Problem {
    /// A refusal with any status.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            status,
            code,
            detail: detail.into(),
            field: None,
            line: None,
            last_id: None,
            retry_after_seconds: None,
            limit: None,
            challenge: None,
        }
    }

    /// 400: a field of the request (a parameter, a header, a member of an object) is not as it must be.
    pub(crate) fn bad_request(code: &'static str, field: &str, detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, code, detail).with_field(field)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 503: it may go better in so many seconds.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>, seconds: u32) -> Self {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Problem { retry_after_seconds: Some(seconds), ..problem }
    }

    /// A text that cannot be what the field says: 413 if it is too large, else 400.
    pub(crate) fn invalid(code: &'static str, field: &str, invalid: Invalid) -> Self {
        match invalid.too_large {
            true => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "data-too-large", invalid.detail)
                .with_field(field)
                .with_limit(Limit::Data),
            false => Problem::bad_request(code, field, invalid.detail),
        }
    }

    /// Why nothing was appended. An idempotency conflict carries no line: only the batch knows how its events stood.
    pub(crate) fn append(error: &AppendError, epochs: &Epochs) -> Self {
        let problem = |status| Problem::new(status, error.code(), error.to_string());
        match error {
            AppendError::ExpectedMismatch { last } => {
                let last_id = last.map_or_else(|| "0".to_owned(), |last| epochs.id(last).to_string());
                let detail = match last {
                    Some(_) => {
                        format!("the topic's newest event is {last_id}, which is not Perennial-Expected-Id")
                    }
                    None => "the topic never had an event; Perennial-Expected-Id: 0 says so".to_owned(),
                };
                let refusal = Problem::new(StatusCode::PRECONDITION_FAILED, error.code(), detail);
                Problem { last_id: Some(last_id.into()), ..refusal }
            }
            AppendError::IdempotencyConflict { first, .. } => {
                let by = match first {
                    Some(first) => format!("event {}", epochs.id(*first)),
                    None => "an earlier event of this batch".to_owned(),
                };
                let detail = format!(
                    "the idempotency key was used for other content by {by}; a new event needs a new key"
                );
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), detail)
            }
            AppendError::NoSpace { .. } => {
                problem(StatusCode::INSUFFICIENT_STORAGE).with_limit(Limit::FreeDisk)
            }
            AppendError::Overloaded => {
                Problem::unavailable(error.code(), error.to_string(), 1).with_limit(Limit::AppendQueue)
            }
            AppendError::Closed | AppendError::Engine(_) => {
                Problem::unavailable(error.code(), error.to_string(), 5)
            }
        }
    }

    /// Names what was wrong.
    pub(crate) fn with_field(self, field: &str) -> Self {
        Problem { field: Some(field.into()), ..self }
    }

    /// Says when it may go better.
    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        Problem { retry_after_seconds: Some(seconds), ..self }
    }

    /// Says which limit was reached, for those who count.
    pub(crate) fn with_limit(self, limit: Limit) -> Self {
        Problem { limit: Some(limit), ..self }
    }

    /// Whether it may go better later.
    pub(crate) fn may_pass(&self) -> bool {
        self.retry_after_seconds.is_some()
    }

    /// Which limit was reached.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Says how one authenticates here (RFC 6750, 3), and which claim of the token is missing or wrong.
    pub(crate) fn with_challenge(self, text: &'static str, claim: Option<&'static str>) -> Self {
        Problem { challenge: Some(Box::new(Challenge { text, claim })), ..self }
    }

    /// Where in a batch it was wrong.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn line(&self) -> Option<usize> {
        self.line
    }

    /// Names where in a batch it was wrong, from 1.
    pub(crate) fn with_line(self, line: usize) -> Self {
        Problem { line: Some(line), ..self }
    }

    /// The same for a client that can only wait.
    pub(crate) fn into_unavailable(self) -> Self {
        let retry_after_seconds = self.retry_after_seconds.or(Some(5));
        Problem { status: StatusCode::SERVICE_UNAVAILABLE, retry_after_seconds, ..self }
    }

    /// The stable name of the case.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (u16, &'static str, Option<&str>, Option<usize>) {
        (self.status.as_u16(), self.code, self.field.as_deref(), self.line)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Damaged(_) => {
                tracing::error!(%error, "a read failed");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.code(), error.to_string())
            }
            ReadError::Closed | ReadError::Engine(_) => {
                Problem::unavailable(error.code(), error.to_string(), 5)
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'static str>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            field: self.field.as_deref(),
            line: self.line,
            last_id: self.last_id.as_deref(),
            claim: self.challenge.as_ref().and_then(|challenge| challenge.claim),
        };
        let mut response = HttpResponse::build(self.status);
        response.content_type(CONTENT_TYPE).insert_header((CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(challenge) = &self.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge.text));
        }
        // Strings and numbers always have a JSON.
        let mut response = response.body(serde_json::to_vec(&body).unwrap_or_default());
        response.extensions_mut().insert(Refused(self.code));
        if let Some(limit) = self.limit {
            response.extensions_mut().insert(limit);
        }
        response
    }
}

#[cfg(test)]
mod tests;
