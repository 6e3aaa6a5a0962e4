//! The event streams that are open: who reads what, how far it is, and how it is ended from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use atomic_waker::AtomicWaker;
use auth::{Identity, Revocations};
use event_log::{EventId, EventLog, Filter, Position, Timestamp};
use parking_lot::Mutex;
use rand::RngExt;
use serde::Serialize;

use crate::caller::Caller;
use crate::forwarded::Client;
use crate::json;
use crate::lags::Lags;
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
    client: Option<Client>,
    filter: Arc<Filter>,
    /// Whose token it was opened with.
    identity: Mutex<Option<Arc<Identity>>>,
    cursor: AtomicU64,
    /// When its token is good no longer, in microseconds; [`NEVER`] if it needs none.
    token_ends: AtomicU64,
    /// Why it is to end: an index of [`REASONS`], or one behind them.
    ended: AtomicUsize,
    waker: AtomicWaker,
    /// It has said all that there is, and waits for what comes next.
    is_waiting: AtomicBool,
}

const NEVER: u64 = u64::MAX;

/// Why a stream is ended from outside.
const REASONS: [&str; 2] = [ENDED, TOKEN_EXPIRED];
const ENDED: &str = "ended";
/// Its token is good no longer.
pub(crate) const TOKEN_EXPIRED: &str = "token-expired";

impl Connection {
    pub(crate) fn id(&self) -> String {
        format!("{:016x}", self.number)
    }

    /// Notes how far the reader is.
    pub(crate) fn note(&self, cursor: Position) {
        self.cursor.store(cursor.get(), Ordering::Relaxed);
    }

    /// Notes whether it waits for what comes next: its cursor may lie far back then, if nothing that it wants was published.
    pub(crate) fn note_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Ready once it is to end, with why.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<&'static str> {
        self.waker.register(context.waker());
        match REASONS.get(self.ended.load(Ordering::Acquire)) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }

    fn end(&self, reason: &'static str) {
        let index = REASONS.iter().position(|known| *known == reason).unwrap_or(0);
        self.ended.store(index, Ordering::Release);
        self.waker.wake();
    }

    /// It goes on with another token.
    fn renew(&self, identity: &Arc<Identity>) {
        *self.identity.lock() = Some(Arc::clone(identity));
        self.token_ends.store(identity.expires.as_micros(), Ordering::Release);
        // The new one may end earlier.
        self.waker.wake();
    }

    fn is_revoked(&self, revocations: &Revocations) -> bool {
        self.identity.lock().as_ref().is_some_and(|identity| revocations.revoke(identity))
    }

    fn subject(&self) -> Option<String> {
        self.identity.lock().as_ref().and_then(|identity| identity.subject.clone())
    }
}

impl Connections {
    /// How far behind they are. Who waits for what comes next is not.
    pub(crate) fn lags(&self, log: &dyn EventLog) -> Lags {
        let open = self.0.lock();
        let behind = open.values().filter(|connection| !connection.is_waiting.load(Ordering::Relaxed));
        let cursors = behind.map(|connection| Position::new(connection.cursor.load(Ordering::Relaxed)));
        let cursors: Vec<Position> = cursors.collect();
        drop(open);
        Lags::of(cursors, |cursor| log.count_after(cursor))
    }

    /// Ends those whose tokens were revoked.
    pub(crate) fn end_revoked(&self, revocations: &Revocations) {
        let open: Vec<Arc<Connection>> = self.0.lock().values().cloned().collect();
        open.iter()
            .filter(|connection| connection.is_revoked(revocations))
            .for_each(|connection| connection.end(TOKEN_EXPIRED));
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
        client: Option<Client>,
        filter: Arc<Filter>,
        identity: Option<Arc<Identity>>,
        cursor: Position,
    ) -> Self {
        let token_ends = identity.as_ref().map_or(NEVER, |identity| identity.expires.as_micros());
        let connection = Arc::new(Connection {
            number: rand::rng().random(),
            since: state.broker.now(),
            client,
            filter,
            identity: Mutex::new(identity),
            cursor: AtomicU64::new(cursor.get()),
            token_ends: AtomicU64::new(token_ends),
            ended: AtomicUsize::new(REASONS.len()),
            waker: AtomicWaker::new(),
            is_waiting: AtomicBool::new(false),
        });
        let key = (connection.since, connection.number);
        state.connections.0.lock().insert(key, Arc::clone(&connection));
        // What was revoked since the token was judged has either seen this connection, or is seen now.
        if connection.is_revoked(&state.broker.revocations()) {
            connection.end(TOKEN_EXPIRED);
        }
        Listed { state, connection }
    }

    /// How long ago a moment was.
    pub(crate) fn age(&self, moment: Timestamp) -> Duration {
        Duration::from_micros(self.state.broker.now().as_micros().saturating_sub(moment.as_micros()))
    }

    /// What all requests share.
    pub(crate) fn state(&self) -> &web::Data<State> {
        &self.state
    }

    /// How long its token is still good; nothing if it needs none.
    pub(crate) fn token_left(&self) -> Option<Duration> {
        let ends = self.connection.token_ends.load(Ordering::Acquire);
        let left = || ends.saturating_sub(self.state.broker.now().as_micros());
        (ends != NEVER).then(|| Duration::from_micros(left()))
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
    /// Where it comes from: behind a trusted proxy, what that says.
    remote: Option<String>,
    /// Who reads, as the token said.
    subject: Option<String>,
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
            remote: connection.client.map(|client| client.to_string()),
            subject: connection.subject(),
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
    connection.end(ENDED);
    Ok(json::answer(StatusCode::OK, &Entry::new(&connection, &state)))
}

#[derive(Serialize)]
struct Renewed {
    connection: String,
    subject: Option<String>,
    #[serde(serialize_with = "json::shown")]
    expires: Timestamp,
}

/// `POST /v1/connections/{id}/token`: the stream goes on with the token of this request, which has the same subject and
/// grants what the stream reads.
pub(crate) async fn renew(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let id = segment(&request, 2)?;
    let identity = caller.known()?;
    // Streams of others are not told from those that are not there.
    let is_meant = |connection: &&Arc<Connection>| {
        connection.id() == id && connection.subject() == identity.subject && identity.subject.is_some()
    };
    let connection = state.connections.0.lock().values().find(is_meant).cloned();
    let connection = connection.ok_or_else(|| {
        let detail = format!(
            "the token's subject has no event stream with the id {id:?} open; a stream says its id in $open and in the \
             header Perennial-Connection"
        );
        Problem::not_found("unknown-connection", detail)
    })?;
    caller.subscribe(connection.filter.patterns())?;
    connection.renew(identity);
    if connection.is_revoked(&state.broker.revocations()) {
        connection.end(TOKEN_EXPIRED);
    }
    let subject = identity.subject.clone();
    Ok(json::answer(StatusCode::OK, &Renewed { connection: id, subject, expires: identity.expires }))
}

#[cfg(test)]
mod tests;
