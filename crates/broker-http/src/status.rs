//! `GET /v1/status`: what the broker holds and how it is.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use event_log::{Epoch, EventId};
use serde::Serialize;

use crate::json;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    #[serde(serialize_with = "json::shown")]
    epoch: Epoch,
    #[serde(serialize_with = "json::shown")]
    head: EventId,
    oldest: Option<String>,
    events: u64,
    bytes: u64,
    bytes_on_disk: u64,
    connections: usize,
    uptime: u64,
}

pub(crate) async fn status(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let bounds = state.broker.log().bounds();
    let status = Status {
        version: &state.options.version,
        epoch: bounds.epochs.current(),
        head: bounds.epochs.id(bounds.head),
        oldest: bounds.oldest.map(|oldest| bounds.epochs.id(oldest).to_string()),
        events: bounds.events,
        bytes: bounds.bytes,
        bytes_on_disk: bounds.bytes_on_disk,
        connections: state.streams.load(Ordering::Relaxed),
        uptime: state.started.elapsed().as_secs(),
    };
    Ok(json::answer(StatusCode::OK, &status))
}
