//! Reading: what was asked for, checked, and handed to the shape that answers it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use broker::{OnGap, Opened, Start};
use event_log::limits::{
    JSON_PAGE_BYTES_MAX, JSON_PAGE_EVENTS_DEFAULT, JSON_PAGE_EVENTS_MAX, PATTERNS_MAX, TYPES_MAX,
    WAIT_SECONDS_MAX,
};
use event_log::{EventId, EventType, Filter, Origin, PageLimit, Pattern, Position, Timestamp, Topic};

use crate::accept::{Shape, negotiate};
use crate::problem::Problem;
use crate::query::{Param, Query};
use crate::server::State;
use crate::{envelope, pages, path, start, subscribe};

/// What a reading may say in its query, but for its topics.
const PARAMS: [Param; 13] = [
    Param::Once("last_event_id"),
    Param::Once("lastEventId"),
    Param::Once("lastEventID"),
    Param::Once("from"),
    Param::Once("on_gap"),
    Param::Repeatable("type"),
    Param::Once("exclude_origin"),
    Param::Once("envelope"),
    Param::Once("quiet"),
    Param::Once("limit"),
    Param::Once("until"),
    Param::Once("wait"),
    Param::Repeatable("topic"),
];

/// A reading that was asked for.
pub(crate) struct Reading {
    pub(crate) filter: Arc<Filter>,
    pub(crate) start: Start,
    pub(crate) on_gap: OnGap,
    pub(crate) envelope: bool,
    pub(crate) quiet: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) until: Option<Until>,
    pub(crate) wait: Option<Duration>,
}

/// Where a reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Inclusive.
    Id(EventId),
    /// Exclusive.
    Time(Timestamp),
}

/// `GET /v1/topics/{topic}/events`
pub(crate) async fn one_topic(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let text = path::segment(&request, 2)?;
    let topic =
        Topic::parse(text).map_err(|error| Problem::bad_request("invalid-topic", "topic", error.detail))?;
    let query = Query::parse(&request, &PARAMS[..PARAMS.len() - 1])?;
    answer(&request, state, &query, vec![topic.into()]).await
}

/// `GET /v1/events`
pub(crate) async fn many_topics(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &PARAMS)?;
    let patterns = query
        .all("topic")
        .map(|text| Pattern::parse(text.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::bad_request("invalid-topic", "topic", error.detail))?;
    if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
        let detail = format!(
            "{} topics were asked for; name 1 to {PATTERNS_MAX}: ?topic=a.b&topic=c.*",
            patterns.len()
        );
        return Err(Problem::bad_request("invalid-topic", "topic", detail));
    }
    answer(&request, state, &query, patterns).await
}

/// `GET /v1/events/{id}`
pub(crate) async fn one_event(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
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
    let mut reader = broker.log().reader(Arc::new(Filter::everything()));
    let page = reader.read(id.position.just_before(), PageLimit { events: 1, bytes: 1 }).await?;
    match page.events.first().filter(|event| event.position == id.position) {
        None => Err(Problem::new(StatusCode::GONE, "removed-event", format!("event {id} was removed"))),
        Some(event) => {
            let mut body = Vec::new();
            envelope::write(&mut body, event, broker.epochs().current());
            Ok(HttpResponse::Ok().content_type("application/json").body(body))
        }
    }
}

async fn answer(
    request: &HttpRequest,
    state: web::Data<State>,
    query: &Query,
    patterns: Vec<Pattern>,
) -> Result<HttpResponse, Problem> {
    let shape = negotiate(request)?;
    let reading = reading(request, query, patterns, shape)?;
    if request.method() == Method::HEAD {
        return Ok(head_only(shape));
    }
    match shape {
        Shape::EventStream => subscribe::answer(request, state, reading).await,
        Shape::Ndjson => pages::answer_ndjson(state, reading).await,
        Shape::Json => pages::answer_json(&state, reading).await,
    }
}

/// HEAD is GET without the body, and ends: nothing is subscribed to.
fn head_only(shape: Shape) -> HttpResponse {
    match shape {
        Shape::EventStream => subscribe::headers().finish(),
        Shape::Ndjson => HttpResponse::Ok().content_type("application/x-ndjson").finish(),
        Shape::Json => HttpResponse::Ok().content_type("application/json").finish(),
    }
}

fn reading(
    request: &HttpRequest,
    query: &Query,
    patterns: Vec<Pattern>,
    shape: Shape,
) -> Result<Reading, Problem> {
    for name in ["limit", "until", "wait"] {
        let fits = shape == Shape::Json || (shape == Shape::Ndjson && name != "wait");
        if query.get(name).is_some() && !fits {
            let detail = format!(
                "{name} is not for this shape; limit and until are for JSON and NDJSON, wait is for JSON"
            );
            return Err(Problem::bad_request("invalid-parameter", name, detail));
        }
    }
    let types = query
        .all("type")
        .map(|text| EventType::parse(text.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::bad_request("invalid-type", "type", error.detail))?;
    if types.len() > TYPES_MAX {
        let detail = format!("{} types were asked for; at most {TYPES_MAX} are allowed", types.len());
        return Err(Problem::bad_request("invalid-type", "type", detail));
    }
    let exclude_origin =
        query
            .get("exclude_origin")
            .map(|text| Origin::parse(text.to_owned()))
            .transpose()
            .map_err(|error| Problem::bad_request("invalid-origin", "exclude_origin", error.detail))?;
    let limit_max = if shape == Shape::Json { JSON_PAGE_EVENTS_MAX } else { usize::MAX };
    Ok(Reading {
        filter: Arc::new(Filter::new(patterns).with_types(types).without_origin(exclude_origin)),
        start: start::asked_for(request, query)?,
        on_gap: start::on_gap(query)?,
        envelope: query.flag("envelope")?,
        quiet: query.flag("quiet")?,
        limit: number(query, "limit", 1, limit_max)?,
        until: start::until(query)?,
        wait: number(query, "wait", 0, WAIT_SECONDS_MAX)?.map(Duration::from_secs),
    })
}

/// A number in a query: decimal digits, within bounds.
fn number<N>(query: &Query, name: &'static str, min: N, max: N) -> Result<Option<N>, Problem>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(text) = query.get(name) else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits && *value >= min && *value <= max);
    value.map(Some).ok_or_else(|| {
        let detail = format!("{name} is {text:?}; it is a whole number from {min} to {max}");
        Problem::bad_request("invalid-parameter", name, detail)
    })
}

impl Reading {
    /// Turns what was asked for into a place.
    pub(crate) async fn open(&self, state: &State) -> Result<Opened, Problem> {
        Ok(state.broker.open(&self.filter, &self.start, self.on_gap).await?)
    }

    /// How much one JSON page may hold.
    pub(crate) fn json_limit(&self) -> PageLimit {
        PageLimit { events: self.limit.unwrap_or(JSON_PAGE_EVENTS_DEFAULT), bytes: JSON_PAGE_BYTES_MAX }
    }
}
