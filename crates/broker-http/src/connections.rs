//! The event streams that are open: who reads what, how far it is, and how it is ended from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use atomic_waker::AtomicWaker;
use event_log::{EventId, Filter, Position, Timestamp};
use parking_lot::Mutex;
use rand::RngExt;
use serde::Serialize;

use crate::json;
use crate::path::segment;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

/// The event streams that are open, by when they began.
#[derive(Default)]
pub(crate) struct Connections(Mutex<BTreeMap<(Timestamp, u64), Arc<Connection>>>);

/// An event stream as it is seen from outside.
pub(crate) struct Connection {
    number: u64,
    since: Timestamp,
    remote: Option<SocketAddr>,
    filter: Arc<Filter>,
    cursor: AtomicU64,
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Connection {
    pub(crate) fn id(&self) -> String {
        format!("{:016x}", self.number)
    }

    /// Notes how far the reader is.
    pub(crate) fn note(&self, cursor: Position) {
        self.cursor.store(cursor.get(), Ordering::Relaxed);
    }

    /// Ready once it is to end.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.ended.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A connection that is listed for as long as this lives.
pub(crate) struct Listed {
    state: web::Data<State>,
    connection: Arc<Connection>,
}

impl Listed {
    pub(crate) fn new(
        state: web::Data<State>,
        remote: Option<SocketAddr>,
        filter: Arc<Filter>,
        cursor: Position,
    ) -> Self {
        let connection = Arc::new(Connection {
            number: rand::rng().random(),
            since: state.broker.now(),
            remote,
            filter,
            cursor: AtomicU64::new(cursor.get()),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let key = (connection.since, connection.number);
        state.connections.0.lock().insert(key, Arc::clone(&connection));
        Listed { state, connection }
    }
}

impl std::ops::Deref for Listed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.state.connections.0.lock().remove(&(self.connection.since, self.connection.number));
    }
}

#[derive(Serialize)]
struct Listing {
    connections: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    remote: Option<SocketAddr>,
    /// Nobody is authenticated yet.
    subject: (),
    patterns: Vec<String>,
    #[serde(serialize_with = "json::shown")]
    cursor: EventId,
    lag: u64,
    #[serde(serialize_with = "json::shown")]
    since: Timestamp,
}

impl Entry {
    fn new(connection: &Connection, state: &State) -> Self {
        let cursor = Position::new(connection.cursor.load(Ordering::Relaxed));
        Entry {
            id: connection.id(),
            remote: connection.remote,
            subject: (),
            patterns: connection
                .filter
                .patterns()
                .iter()
                .map(|pattern| pattern.as_str().to_owned())
                .collect(),
            cursor: state.broker.epochs().id(cursor),
            lag: state.broker.log().count_after(cursor),
            since: connection.since,
        }
    }
}

/// `GET /v1/connections`: the oldest first.
pub(crate) async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    // There may be very many: their list is made beside the threads that serve.
    let listed = web::block(move || {
        let open: Vec<Arc<Connection>> = state.connections.0.lock().values().cloned().collect();
        let connections = open.iter().map(|connection| Entry::new(connection, &state)).collect();
        json::to_vec(&Listing { connections })
    });
    let body =
        listed.await.map_err(|_| Problem::unavailable("overloaded", "the list could not be made", 1))?;
    Ok(json::respond(StatusCode::OK, body))
}

/// `DELETE /v1/connections/{id}`: the stream is told that it ends, once it has written what it is writing. A client may
/// come back.
pub(crate) async fn end(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let id = segment(&request, 2)?;
    let connection = {
        let mut open = state.connections.0.lock();
        let key = open.iter().find(|(_, connection)| connection.id() == id).map(|(key, _)| *key);
        key.and_then(|key| open.remove(&key))
    };
    let connection = connection.ok_or_else(|| {
        let detail = format!("no event stream with the id {id:?} is open; GET /v1/connections lists them");
        Problem::not_found("unknown-connection", detail)
    })?;
    connection.end();
    Ok(json::answer(StatusCode::OK, &Entry::new(&connection, &state)))
}

#[cfg(test)]
mod tests;
