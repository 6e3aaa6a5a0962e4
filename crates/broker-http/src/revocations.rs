//! `/v1/revocations`: tokens that are good no longer. Each is an event, and holds over a restart.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use auth::{Revocation, StatedRevocation};
use event_log::Timestamp;
use event_log::limits::{REVOCATION_BYTES_MAX, REVOCATIONS_MAX};
use serde::Serialize;

use crate::body::{self, Bound};
use crate::json;
use crate::policies::act;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

#[derive(Serialize)]
struct Listing {
    revocations: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    stated: StatedRevocation,
    #[serde(serialize_with = "json::shown")]
    at: Timestamp,
}

impl Entry {
    fn new(revocation: &Revocation) -> Self {
        Entry { stated: StatedRevocation::of(&revocation.target, revocation.until), at: revocation.at }
    }
}

/// `GET /v1/revocations`: all that are remembered.
pub(crate) async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let revocations = state.broker.revocations();
    let entries = revocations.iter().map(|revocation| Entry::new(&revocation)).collect();
    Ok(json::answer(StatusCode::OK, &Listing { revocations: entries }))
}

/// `POST /v1/revocations`: when it is answered, none of these tokens is good any more, and their streams are being ended.
pub(crate) async fn add(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let body =
        body::read(&request, payload, Bound::fixed("the size of a revocation", REVOCATION_BYTES_MAX), &state)
            .await?;
    let stated: StatedRevocation = serde_json::from_str(body::text(&body)?).map_err(|error| {
        let detail =
            format!("{error}; write {{\"jti\":\"...\"}} or {{\"subject\":\"...\"}}, and perhaps \"until\"");
        Problem::bad_request("invalid-revocation", "body", detail)
    })?;
    let (target, until) =
        stated.read().map_err(|(field, why)| Problem::bad_request("invalid-revocation", field, why))?;
    if state.broker.revocations().len() >= REVOCATIONS_MAX {
        let detail = format!(
            "{REVOCATIONS_MAX} revocations are remembered, and no more can be; give them an \"until\", or change the keys"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "too-many-revocations", detail));
    }
    let revocations =
        state.broker.revoke(&target, until).await.map_err(|error| act(error, state.broker.epochs()))?;
    if let Some(authentication) = &state.options.authentication {
        authentication.verifier.outdate();
    }
    state.connections.end_revoked(&revocations);
    let revocation = revocations.iter().find(|revocation| revocation.target == target);
    let entry = revocation.as_ref().map(Entry::new).unwrap_or(Entry {
        // It was for a time that is over.
        stated: StatedRevocation::of(&target, until),
        at: state.broker.now(),
    });
    Ok(json::answer(StatusCode::CREATED, &entry))
}
