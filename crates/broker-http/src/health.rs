//! Whether the broker is alive, and whether it is ready. Both are for probes: cheap, and without parameters of their own.

use std::future::{Ready, ready as at_once};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::problem::Problem;
use crate::state::State;

/// `GET /healthz`: the process answers.
pub(crate) fn alive() -> Ready<HttpResponse> {
    at_once(ok())
}

/// `GET /readyz`: the log is open and would take an append.
pub(crate) fn ready(state: web::Data<State>) -> Ready<Result<HttpResponse, Problem>> {
    let judged = match state.shutdown.is_cancelled() {
        true => Err(Problem::unavailable("shutting-down", "the broker is stopping", 5)),
        false => (state.options.writable)()
            .map_err(|error| Problem::append(&error, state.broker.epochs()).into_unavailable()),
    };
    at_once(judged.map(|()| ok()))
}

fn ok() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((CACHE_CONTROL, "no-store"))
        .body("ok")
}
