//! JSON answers: compact, written straight into the body.

use std::fmt::Display;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use serde::{Serialize, Serializer};

/// An answer with a value as its body.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    respond(status, to_vec(value))
}

/// An answer with JSON as its body.
pub(crate) fn respond(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body)
}

/// A value as compact JSON. Panics if the value has none, which no answer of ours can be.
pub(crate) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("an answer is made of texts, numbers and lists")
}

/// Serializes a value as the text that it shows.
pub(crate) fn shown<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
