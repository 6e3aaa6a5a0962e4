//! Publishing many events at once: `POST /v1/events`, all or nothing.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use event_log::{AppendError, Batch, Epochs, Receipt, Topic};
use mime::Mime;

use crate::body::{self, Bound};
use crate::caller::Caller;
use crate::envelope;
use crate::json;
use crate::limits::Limit;
use crate::problem::Problem;
use crate::publish::{Answer, EXPECTED_ID, IDEMPOTENCY_KEY};
use crate::query::Query;
use crate::state::State;

mod object;
pub(crate) mod parse;

use parse::Limits;

/// Room for the answer to one event, in most cases.
const ANSWER_BYTES: usize = 192;

/// How the events stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One object a line.
    Ndjson,
    /// One object, or an array of them.
    Json,
}

/// `POST /v1/events`.
pub(crate) async fn publish(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.publish_something()?;
    Query::parse(&request, &[])?;
    refuse_conditions(&request)?;
    let form = form(&request)?;
    let limits = &state.options.limits;
    let body = body::read(&request, payload, Bound::of(Limit::Batch, limits.batch_bytes_max), &state).await?;
    let limits = Limits { events_max: limits.batch_events_max, data_bytes_max: limits.data_bytes_max };
    let events = parse::events(&body, form, limits)?;
    for (index, event) in events.iter().enumerate() {
        let refuse = |problem: Problem| problem.with_line(parse::line_of(&body, form, index));
        caller.publish(&event.topic).map_err(refuse)?;
    }
    caller.take_rate(&request, &events)?;
    let topics: Vec<Topic> = events.iter().map(|event| event.topic.clone()).collect();
    let epochs = state.broker.epochs();
    let receipt = state.broker.publish(Batch::new(events)).await.map_err(|error| {
        let problem = Problem::append(&error, epochs);
        match error {
            AppendError::IdempotencyConflict { index, .. } => {
                problem.with_field("idempotency_key").with_line(parse::line_of(&body, form, index))
            }
            _ => problem,
        }
    })?;
    let all_known = receipt.events.iter().all(|appended| appended.duplicate);
    let status = if all_known { StatusCode::OK } else { StatusCode::CREATED };
    Ok(json::respond(status, answers(&receipt, &topics, epochs)))
}

/// Where each event came to lie, in their order, and the head.
fn answers(receipt: &Receipt, topics: &[Topic], epochs: &Epochs) -> Vec<u8> {
    let mut body = Vec::with_capacity(receipt.events.len() * ANSWER_BYTES);
    body.extend_from_slice(b"{\"events\":[");
    for (index, (appended, topic)) in receipt.events.iter().zip(topics).enumerate() {
        body.extend_from_slice(if index > 0 { b"," } else { b"" });
        Answer::new(appended, topic, epochs.current()).write(&mut body);
    }
    body.extend_from_slice(b"],\"head\":\"");
    envelope::write_event_id(&mut body, epochs.id(receipt.head));
    body.extend_from_slice(b"\"}");
    body
}

/// What holds for one event has no meaning for many.
fn refuse_conditions(request: &HttpRequest) -> Result<(), Problem> {
    let refuse = |name: &str, instead: &str| match request.headers().contains_key(name) {
        true => Err(Problem::bad_request(
            "header-on-batch",
            name,
            format!("header {name} has no meaning for a batch; {instead}"),
        )),
        false => Ok(()),
    };
    refuse(IDEMPOTENCY_KEY, "each object may have its own idempotency_key")?;
    refuse(EXPECTED_ID, "publish the event alone, with POST /v1/topics/{topic}/events")
}

/// The last type that is one counts, if there are several, as where the web reads them
/// ([Fetch](https://fetch.spec.whatwg.org/#concept-header-extract-mime-type)): some clients add theirs to one that is set already.
fn form(request: &HttpRequest) -> Result<Form, Problem> {
    let types = request.headers().get_all(CONTENT_TYPE);
    let named = types.filter_map(|value| value.to_str().ok()?.parse::<Mime>().ok()).last();
    let form = match named.as_ref().map(Mime::essence_str) {
        Some("application/x-ndjson") => Some(Form::Ndjson),
        Some("application/json") => Some(Form::Json),
        _ => None,
    };
    form.ok_or_else(|| {
        let detail = "a batch is sent with Content-Type application/x-ndjson (an object a line) or application/json (an \
                      object or an array of objects)";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail).with_field("Content-Type")
    })
}

#[cfg(test)]
mod tests;
