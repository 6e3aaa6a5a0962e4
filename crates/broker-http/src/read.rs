//! The resources that are read, each handed to the shape that answers it.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use event_log::{Cursor, Event, EventId, EventLog, Filter, PageLimit, Pattern, Position, ReadError, Topic};
use futures_util::stream;

use crate::accept::{Shape, negotiate};
use crate::caller::Caller;
use crate::limits::Limit;
use crate::problem::Problem;
use crate::query::Query;
use crate::reading::{PARAMS, reading};
use crate::state::State;
use crate::{envelope, pages, path, subscribe};

/// `GET /v1/topics/{topic}/events`
pub(crate) async fn one_topic(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let text = path::segment(&request, 2)?;
    let topic =
        Topic::parse(text).map_err(|error| Problem::bad_request("invalid-topic", "topic", error.detail))?;
    let query = Query::parse(&request, &PARAMS[..PARAMS.len() - 1])?;
    answer(&request, state, &caller, &query, vec![topic.into()]).await
}

/// `GET /v1/events`
pub(crate) async fn many_topics(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &PARAMS)?;
    let patterns = query
        .all("topic")
        .map(|text| Pattern::parse(text.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::bad_request("invalid-topic", "topic", error.detail))?;
    let most = state.options.limits.patterns_max;
    if patterns.is_empty() || patterns.len() > most {
        let detail =
            format!("{} topics were asked for; name 1 to {most}: ?topic=a.b&topic=c.*", patterns.len());
        let problem = Problem::bad_request("invalid-topic", "topic", detail);
        return Err(if patterns.is_empty() { problem } else { problem.with_limit(Limit::Patterns) });
    }
    answer(&request, state, &caller, &query, patterns).await
}

/// `GET /v1/events/{id}`
pub(crate) async fn one_event(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.read_something()?;
    Query::parse(&request, &[])?;
    let text = path::segment(&request, 2)?;
    let id =
        EventId::parse(text.as_bytes()).map_err(|e| Problem::bad_request("invalid-id", "id", e.detail))?;
    let broker = &state.broker;
    if !broker.epochs().knows(id) || id.position > broker.head() || id.position == Position::ORIGIN {
        let newest = broker.epochs().id(broker.head());
        return Err(Problem::not_found(
            "unknown-event",
            format!("this log has no event {id}; its newest is {newest}"),
        ));
    }
    match at(&**broker.log(), id.position).await? {
        None => Err(Problem::new(StatusCode::GONE, "removed-event", format!("event {id} was removed"))),
        Some(event) => {
            caller.read(&event.topic)?;
            let mut body = Vec::new();
            envelope::write(&mut body, &event, broker.epochs().current());
            Ok(pages::headers(Shape::Json).body(body))
        }
    }
}

/// The event at a place, if it is kept. What was removed before it is nobody's loss here.
async fn at(log: &dyn EventLog, place: Position) -> Result<Option<Arc<Event>>, ReadError> {
    let mut reader = log.reader(Arc::new(Filter::everything()));
    let mut before = Cursor { position: place.just_before(), removals: log.removals() };
    loop {
        let page = reader.read(before, PageLimit { events: 1, bytes: 1 }).await?;
        if !page.gap {
            return Ok(page.events.into_iter().next().filter(|event| event.position == place));
        }
        before.removals = page.next.removals;
    }
}

async fn answer(
    request: &HttpRequest,
    state: web::Data<State>,
    caller: &Caller,
    query: &Query,
    patterns: Vec<Pattern>,
) -> Result<HttpResponse, Problem> {
    caller.subscribe(&patterns)?;
    let shape = negotiate(request)?;
    let reading = reading(request, query, patterns, shape)?;
    if request.method() == Method::HEAD {
        return Ok(head_only(shape));
    }
    match shape {
        Shape::EventStream => subscribe::answer(request, state, reading).await,
        Shape::Ndjson => pages::answer_ndjson(state, reading).await,
        Shape::Json => pages::answer_json(state, reading).await,
    }
}

/// HEAD is GET without the body, and ends: nothing is subscribed to.
fn head_only(shape: Shape) -> HttpResponse {
    let mut response = match shape {
        Shape::EventStream => subscribe::headers(),
        Shape::Ndjson | Shape::Json => pages::headers(shape),
    };
    // A body of unknown length, which is left out on the way: a length of 0 would be a wrong answer.
    response.streaming(stream::empty::<Result<Bytes, std::io::Error>>())
}
