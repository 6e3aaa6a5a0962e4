//! `/v1/topics`: what topics hold, and how one is emptied.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use broker::{Policies, Stated};
use event_log::{Epochs, EventId, Pattern, Topic, TopicStats};
use serde::Serialize;

use crate::caller::Caller;
use crate::dry_run::{DRY_RUN, dry_run, is_dry_run};
use crate::json;
use crate::path::segment;
use crate::problem::Problem;
use crate::query::{Param, Query};
use crate::state::State;

/// Every topic but the broker's own: no wildcard reaches those.
const EVERY_TOPIC: &str = "**";

#[derive(Serialize)]
struct Listing<'a> {
    topics: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(serialize_with = "json::shown")]
    topic: Topic,
    first_id: Option<String>,
    #[serde(serialize_with = "json::shown")]
    last_id: EventId,
    events: u64,
    bytes: u64,
    /// The one that governs it.
    policy: Option<Stated<'a>>,
}

impl<'a> Entry<'a> {
    fn new(stats: TopicStats, epochs: &Epochs, policies: &'a Policies) -> Self {
        let policy = policies.governing(&stats.topic);
        Entry {
            topic: stats.topic,
            first_id: stats.first.map(|first| epochs.id(first).to_string()),
            last_id: epochs.id(stats.last),
            events: stats.events,
            bytes: stats.bytes,
            policy,
        }
    }
}

/// The topics that a pattern matches and the caller may read; the broker's own only if the pattern names them.
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.read_something()?;
    let query = Query::parse(&request, &[Param::Once("pattern")])?;
    let pattern = Pattern::parse(query.get("pattern").unwrap_or(EVERY_TOPIC))
        .map_err(|invalid| Problem::invalid("invalid-pattern", "pattern", invalid))?;
    let policies = state.broker.policies().await?;
    // A log may have very many topics: their list is made beside the threads that serve.
    let listed = web::block(move || {
        let epochs = state.broker.epochs();
        let topics = state.broker.log().topics(Some(&pattern));
        let topics = topics.into_iter().filter(|stats| caller.may_list(&stats.topic));
        let topics = topics.map(|stats| Entry::new(stats, epochs, &policies)).collect();
        json::to_vec(&Listing { topics })
    });
    let body =
        listed.await.map_err(|_| Problem::unavailable("overloaded", "the list could not be made", 1))?;
    Ok(json::respond(StatusCode::OK, body))
}

/// One topic.
pub(crate) async fn one(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let topic = Topic::parse(segment(&request, 2)?)
        .map_err(|invalid| Problem::invalid("invalid-topic", "topic", invalid))?;
    if !caller.may_list(&topic) {
        caller.read(&topic)?;
    }
    let stats = state.broker.log().topic(&topic).ok_or_else(|| unknown(&topic))?;
    let policies = state.broker.policies().await?;
    Ok(json::answer(StatusCode::OK, &Entry::new(stats, state.broker.epochs(), &policies)))
}

/// A topic, and what was purged of it.
#[derive(Serialize)]
struct Purged<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    purged: Counts,
}

#[derive(Serialize)]
struct Counts {
    events: u64,
    bytes: u64,
}

/// `DELETE /v1/topics/{topic}`: removes the events that it has.
pub(crate) async fn purge(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&request, &[DRY_RUN])?;
    let topic = Topic::parse(segment(&request, 2)?)
        .map_err(|invalid| Problem::invalid("invalid-topic", "topic", invalid))?;
    if topic.is_reserved() {
        let detail = format!(
            "topic {:?} is the broker's own and keeps everything: its events are the broker's state",
            topic.as_str()
        );
        return Err(Problem::bad_request("invalid-topic", "topic", detail));
    }
    if is_dry_run(&query)? {
        let removed = state.broker.try_purge(&topic).ok_or_else(|| unknown(&topic))?;
        return Ok(dry_run(&removed));
    }
    let (broker, name) = (state.broker.clone(), topic.clone());
    // A task of its own: a purge that has begun is carried out to its end, also when its client has gone.
    let purge = actix_web::rt::spawn(async move { broker.purge(&name).await });
    let purged =
        purge.await.map_err(|_| Problem::unavailable("overloaded", "the purge was cut off; repeat it", 1))?;
    let removed = purged?.ok_or_else(|| unknown(&topic))?;
    let stats = state.broker.log().topic(&topic).ok_or_else(|| unknown(&topic))?;
    let policies = state.broker.policies().await?;
    let entry = Entry::new(stats, state.broker.epochs(), &policies);
    let purged = Counts { events: removed.events, bytes: removed.bytes };
    Ok(json::answer(StatusCode::OK, &Purged { entry, purged }))
}

fn unknown(topic: &Topic) -> Problem {
    let detail = format!(
        "topic {:?} never had an event; a topic is there once something is published to it",
        topic.as_str()
    );
    Problem::not_found("unknown-topic", detail).with_field("topic")
}
