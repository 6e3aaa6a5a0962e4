//! The endless reading: replay, then what happens next, as `text/event-stream`. Here a stream is opened, or turned away.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::body::BodyStream;
use actix_web::http::Version;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use auth::Identity;

use crate::caller::Caller;
use crate::connection::{Departure, Handover, Leaving};
use crate::connections::Listed;
use crate::forwarded::Client;
use crate::limits::{self, Limit, Place, Subject};
use crate::problem::Problem;
use crate::pulse::Pulse;
use crate::reading::Reading;
use crate::state::State;
use crate::stream::{EventStream, write_closing};
use crate::stream_stats::StreamStats;

/// The id of a stream, for readers that do not see `$open`.
const CONNECTION_ID: HeaderName = HeaderName::from_static("perennial-connection");

/// The headers of every event stream.
pub(crate) fn headers() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"));
    response
}

pub(crate) async fn answer(
    request: &HttpRequest,
    state: web::Data<State>,
    reading: Reading,
) -> Result<HttpResponse, Problem> {
    if state.shutdown.is_cancelled() {
        return Ok(overloaded(None));
    }
    let client = Client::of(request);
    let identity = Caller::of(request).identity().cloned();
    let place =
        match StreamPlace::take(request, &state, identity.as_deref(), client.map(|client| client.address)) {
            Ok(place) => place,
            Err(limit) => return Ok(turned_away(&state, limit)),
        };
    let opened = match reading.open(&state).await {
        Ok(opened) => opened,
        Err(problem) => {
            // An EventSource is dead for good after any status but 200, and this may pass.
            tracing::error!(code = problem.code(), "an event stream could not be opened");
            state.refusals.count(problem.code());
            return Ok(overloaded(None));
        }
    };
    let filter = Arc::clone(&reading.filter);
    let listed = Listed::new(web::Data::clone(&state), client, filter, identity, opened.from.position);
    let pulse = request.app_data::<Rc<Pulse>>().expect("every worker has a pulse");
    let id = listed.id();
    let stream = EventStream::new(place, listed, pulse, &state, &reading, &opened);
    let mut response = send(request, stream);
    if let Ok(id) = id.parse() {
        response.headers_mut().insert(CONNECTION_ID, id);
    }
    Ok(response)
}

/// A stream takes the connection over if that is possible: HTTP/2 has others on it.
fn send(request: &HttpRequest, stream: EventStream) -> HttpResponse {
    let chunked = match request.version() {
        Version::HTTP_11 => true,
        Version::HTTP_10 => false,
        _ => return headers().body(BodyStream::new(stream.into_body())),
    };
    match request.conn_data::<Rc<Handover>>() {
        Some(handover) => {
            let departure = Departure { stream, chunked };
            headers().force_close().body(Leaving::new(Rc::clone(handover), departure))
        }
        None => headers().body(BodyStream::new(stream.into_body())),
    }
}

/// What may pass is answered with 200, so that the client comes back; it may be that a limit was reached.
pub(crate) fn overloaded(limit: Option<Limit>) -> HttpResponse {
    let mut body = Vec::new();
    write_closing(&mut body, "overloaded", None);
    let mut response = headers().body(body);
    if let Some(limit) = limit {
        response.extensions_mut().insert(limit);
    }
    response
}

/// The same for a limit that was reached.
fn turned_away(state: &State, limit: Limit) -> HttpResponse {
    if limits::is_news(state.reached.times(limit)) {
        tracing::warn!(limit = limit.name(), "an event stream was turned away");
    }
    overloaded(Some(limit))
}

/// One of the streams that may be open at a time; given back when dropped.
pub(crate) struct StreamPlace {
    state: web::Data<State>,
    stats: Arc<StreamStats>,
    _of_address: Option<Place>,
    _of_subject: Option<Place>,
}

impl StreamPlace {
    fn take(
        request: &HttpRequest,
        state: &web::Data<State>,
        identity: Option<&Identity>,
        address: Option<IpAddr>,
    ) -> Result<Self, Limit> {
        let taken = state.streams.fetch_add(1, Ordering::Relaxed);
        let stats = request.app_data::<Arc<StreamStats>>().expect("every worker counts");
        let mut place = StreamPlace {
            state: web::Data::clone(state),
            stats: Arc::clone(stats),
            _of_address: None,
            _of_subject: None,
        };
        if taken >= state.options.limits.streams_max {
            return Err(Limit::Streams);
        }
        if state.streams_per_address.is_limited() {
            place._of_address = Some(state.streams_per_address.take(&Subject::of(None, address))?);
        }
        if state.streams_per_subject.is_limited() {
            place._of_subject = Some(state.streams_per_subject.take(&Subject::of(identity, address))?);
        }
        Ok(place)
    }

    /// Where its stream is counted.
    pub(crate) fn stats(&self) -> &StreamStats {
        &self.stats
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.state.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
