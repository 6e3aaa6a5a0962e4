//! `?dry_run=true`: what would be removed is told, and nothing changes.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use event_log::Removed;
use serde::Serialize;

use crate::json;
use crate::problem::Problem;
use crate::query::{Param, Query};

pub(crate) const DRY_RUN: Param = Param::Once("dry_run");

#[derive(Serialize)]
struct Answer {
    dry_run: bool,
    events: u64,
    bytes: u64,
}

pub(crate) fn is_dry_run(query: &Query) -> Result<bool, Problem> {
    query.flag("dry_run")
}

pub(crate) fn dry_run(removed: &Removed) -> HttpResponse {
    let answer = Answer { dry_run: true, events: removed.events, bytes: removed.bytes };
    json::answer(StatusCode::OK, &answer)
}
