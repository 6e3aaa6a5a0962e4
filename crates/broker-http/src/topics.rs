//! `GET /v1/topics` and `GET /v1/topics/{topic}`: what topics hold.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use event_log::{Epochs, EventId, Pattern, Topic, TopicStats};
use serde::Serialize;

use crate::json;
use crate::path::segment;
use crate::problem::Problem;
use crate::query::{Param, Query};
use crate::state::State;

/// Every topic but the broker's own: no wildcard reaches those.
const EVERY_TOPIC: &str = "**";

#[derive(Serialize)]
struct Listing {
    topics: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(serialize_with = "json::shown")]
    topic: Topic,
    first_id: Option<String>,
    #[serde(serialize_with = "json::shown")]
    last_id: EventId,
    events: u64,
    bytes: u64,
    /// No topic is governed by a policy yet.
    policy: (),
}

impl Entry {
    fn new(stats: TopicStats, epochs: &Epochs) -> Self {
        Entry {
            topic: stats.topic,
            first_id: stats.first.map(|first| epochs.id(first).to_string()),
            last_id: epochs.id(stats.last),
            events: stats.events,
            bytes: stats.bytes,
            policy: (),
        }
    }
}

/// The topics that a pattern matches; the broker's own only if the pattern names them.
pub(crate) async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &[Param::Once("pattern")])?;
    let pattern = Pattern::parse(query.get("pattern").unwrap_or(EVERY_TOPIC))
        .map_err(|invalid| Problem::invalid("invalid-pattern", "pattern", invalid))?;
    // A log may have very many topics: their list is made beside the threads that serve.
    let listed = web::block(move || {
        let epochs = state.broker.epochs();
        let topics = state.broker.log().topics(Some(&pattern));
        let topics = topics.into_iter().map(|stats| Entry::new(stats, epochs)).collect();
        json::to_vec(&Listing { topics })
    });
    let body =
        listed.await.map_err(|_| Problem::unavailable("overloaded", "the list could not be made", 1))?;
    Ok(json::respond(StatusCode::OK, body))
}

/// One topic.
pub(crate) async fn one(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let text = segment(&request, 2)?;
    let topic = Topic::parse(text).map_err(|invalid| Problem::invalid("invalid-topic", "topic", invalid))?;
    let stats = state.broker.log().topic(&topic).ok_or_else(|| {
        let detail = format!(
            "topic {:?} never had an event; a topic is there once something is published to it",
            topic.as_str()
        );
        Problem::not_found("unknown-topic", detail).with_field("topic")
    })?;
    Ok(json::answer(StatusCode::OK, &Entry::new(stats, state.broker.epochs())))
}
