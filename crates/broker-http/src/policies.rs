//! `/v1/policies`: what is kept of which topics.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use broker::{ActError, InvalidPolicy, Policy, Stated};
use event_log::limits::POLICY_BYTES_MAX;
use event_log::{Epochs, Pattern};
use serde::Serialize;

use crate::body::{self, Bound};
use crate::dry_run::{DRY_RUN, dry_run, is_dry_run};
use crate::json;
use crate::path::segment;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

#[derive(Serialize)]
struct Listing<'a> {
    policies: Vec<Stated<'a>>,
}

/// `GET /v1/policies`: all of them, by pattern.
pub(crate) async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let policies = state.broker.policies().await?;
    Ok(json::answer(StatusCode::OK, &Listing { policies: policies.iter().collect() }))
}

/// `GET /v1/policies/{pattern}`: the policy of exactly this pattern.
pub(crate) async fn one(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let pattern = pattern(&request)?;
    let policies = state.broker.policies().await?;
    let policy = policies.get(&pattern).ok_or_else(|| unknown(&pattern))?;
    Ok(stated(&pattern, policy))
}

/// `PUT /v1/policies/{pattern}`: in place of the one that it has.
pub(crate) async fn set(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &[DRY_RUN])?;
    let is_dry_run = is_dry_run(&query)?;
    let pattern = pattern(&request)?;
    let body =
        body::read(&request, payload, Bound::fixed("the size of a policy", POLICY_BYTES_MAX), &state).await?;
    let policy = Policy::parse(body::text(&body)?).map_err(invalid)?;
    let refused = |error| act(error, state.broker.epochs());
    if is_dry_run {
        return Ok(dry_run(&state.broker.try_policy(&pattern, &policy).await.map_err(refused)?));
    }
    state.broker.set_policy(&pattern, &policy).await.map_err(refused)?;
    Ok(stated(&pattern, &policy))
}

/// `DELETE /v1/policies/{pattern}`: a less specific one may govern its topics from now on.
pub(crate) async fn remove(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &[DRY_RUN])?;
    let pattern = pattern(&request)?;
    if is_dry_run(&query)? {
        let removed = state.broker.try_without_policy(&pattern).await?;
        return Ok(dry_run(&removed.ok_or_else(|| unknown(&pattern))?));
    }
    let removed =
        state.broker.remove_policy(&pattern).await.map_err(|error| act(error, state.broker.epochs()))?;
    Ok(stated(&pattern, &removed.ok_or_else(|| unknown(&pattern))?))
}

fn stated(pattern: &Pattern, policy: &Policy) -> HttpResponse {
    json::answer(StatusCode::OK, &Stated { pattern, policy })
}

fn pattern(request: &HttpRequest) -> Result<Pattern, Problem> {
    Pattern::parse(segment(request, 2)?)
        .map_err(|invalid| Problem::invalid("invalid-pattern", "pattern", invalid))
}

fn unknown(pattern: &Pattern) -> Problem {
    let detail = format!("pattern {:?} has no policy; GET /v1/policies lists them all", pattern.as_str());
    Problem::not_found("unknown-policy", detail).with_field("pattern")
}

fn invalid(invalid: InvalidPolicy) -> Problem {
    let problem = Problem::new(StatusCode::BAD_REQUEST, "invalid-policy", invalid.detail);
    match invalid.field {
        Some(field) => problem.with_field(&field),
        None => problem,
    }
}

pub(crate) fn act(error: ActError, epochs: &Epochs) -> Problem {
    match error {
        ActError::Refused(refused) => Problem::bad_request("invalid-pattern", "pattern", refused.detail),
        ActError::Append(error) => Problem::append(&error, epochs),
        ActError::Read(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;
