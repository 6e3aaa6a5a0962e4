//! The server: routes, what surrounds them, start and stop.
//!
//! Around every route, from the outside: who may speak ([`crate::access`]), then answers made uniform (HEAD has no body,
//! every error is a problem), then panics. When the server stops, streams see it by [`State::shutdown`] and end
//! themselves; without that an endless body would hold the server until it is cut.

use std::future::ready;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use actix_server::Server;
use actix_web::body::{BodySize, BoxBody, MessageBody, None as NoBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, Version};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpRequest, HttpResponse, ResponseError, web};
use actix_web_lab::middleware::CatchPanic;
use broker::Broker;
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::endpoint::Endpoint;
use crate::endpoint::Needs::{Admin, Grant, Nothing};
use crate::options::Options;
use crate::problem::{self, Problem};
use crate::pulse::Pulse;
use crate::state::State;
use crate::{
    batch, connection, connections, export, health, metrics, policies, publish, read, refusals, revocations,
    secure, static_page, stats, status, topics,
};

/// A browser comes back on the same connection within this time.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client that has not sent a request's head by then is not going to.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection that is to be closed may take: what a client still sends after a refusal is read, so that it
/// can see the refusal.
pub(crate) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests that run when the server stops, and streams whose clients do not read, have so long once the others have ended.
const SHUTDOWN_SECONDS: u64 = 3;
/// Connections of a worker that are too many and are being let go. Those behind them wait to be accepted.
const TURNED_AWAY_AT_ONCE_MAX: usize = 1_024;

/// Serves a broker until `shutdown` is cancelled: then it takes no more connections, ends every stream at a pace, lets running
/// requests finish, and returns within 6 seconds and the time of the drain.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    options: Options,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let workers = options.workers.max(1);
    let connections_max = options.limits.connections_max.saturating_add(TURNED_AWAY_AT_ONCE_MAX);
    let stop_seconds = options.limits.drain.as_secs() + 1 + SHUTDOWN_SECONDS;
    let state = web::Data::new(State::new(broker.clone(), options, shutdown.clone()));
    let stopping = web::Data::clone(&state);
    let server = Server::build()
        .disable_signals()
        .workers(workers)
        .max_concurrent_connections(connections_max)
        .shutdown_timeout(stop_seconds);
    let stats = stats::tell(state.clone());
    let server = match state.options.tls.clone() {
        Some(tls) => server
            .listen("https", listener, move || connection::service_over_tls(state.clone(), tls.clone()))?,
        None => server.listen("http", listener, move || connection::service(state.clone()))?,
    };
    let server = server.run();
    let handle = server.handle();
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        // Statistics are told until the server is to stop.
        _ = shutdown.run_until_cancelled(stats) => {}
    }
    let drained = async {
        tokio::time::sleep(stopping.drain_time()).await;
        // Each has ended by itself, but for those that were being opened.
        broker.end_subscriptions();
    };
    let (result, (), ()) = tokio::join!(server, handle.stop(true), drained);
    result
}

/// The whole service, for one worker.
pub(crate) fn app(
    state: web::Data<State>,
    pulse: Rc<Pulse>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let pages = state.options.pages.clone();
    let stream_stats = state.stream_stats.of_worker();
    App::new()
        .app_data(stream_stats)
        .app_data(state)
        .app_data(pulse)
        .configure(reading_and_publishing)
        .configure(administration)
        .configure(move |config| pages.into_iter().for_each(|page| static_page::serve(config, page)))
        .default_service(web::to(|request: HttpRequest| ready(nothing_there(&request))))
        // A panic in a handler is a defect: it is told as 500 and seen in the log by the panic hook. Without this the
        // connection would break, and the client could not tell it from a network that failed.
        .wrap(CatchPanic::default())
        .wrap(from_fn(uniform))
        .wrap(from_fn(access::guard))
        .wrap(from_fn(refusals::count))
        .wrap(from_fn(secure::tell))
}

/// Publishing and reading. A path has one [`Endpoint`], so both are named here.
fn reading_and_publishing(config: &mut web::ServiceConfig) {
    let event_at = Endpoint::at("/v1/events/{id:[^/]*}");
    let topic_at = Endpoint::at("/v1/topics/{topic:[^/]*}/events");
    let key_at = Endpoint::at("/v1/topics/{topic:[^/]*}/keys/{key:[^/]*}");
    config
        .service(Endpoint::at("/v1/events").get(Grant, read::many_topics).post(Grant, batch::publish))
        .service(event_at.get(Grant, read::one_event))
        .service(topic_at.get(Grant, read::one_topic).post(Grant, publish::event))
        .service(key_at.delete(Grant, publish::tombstone));
}

fn administration(config: &mut web::ServiceConfig) {
    let topic_at = Endpoint::at("/v1/topics/{topic:[^/]*}");
    let policy_at = Endpoint::at("/v1/policies/{pattern:[^/]*}");
    config
        .service(Endpoint::at("/v1/topics").get(Grant, topics::list))
        .service(topic_at.get(Grant, topics::one).delete(Admin, topics::purge))
        .service(Endpoint::at("/v1/policies").get(Admin, policies::list))
        .service(
            policy_at.get(Admin, policies::one).put(Admin, policies::set).delete(Admin, policies::remove),
        )
        .service(Endpoint::at("/v1/connections").get(Admin, connections::list))
        .service(Endpoint::at("/v1/connections/{id:[^/]*}").delete(Admin, connections::end))
        .service(Endpoint::at("/v1/connections/{id:[^/]*}/token").post(Grant, connections::renew))
        .service(Endpoint::at("/v1/revocations").get(Admin, revocations::list).post(Admin, revocations::add))
        .service(Endpoint::at("/v1/status").get(Admin, status::status))
        .service(Endpoint::at("/metrics").get(Admin, metrics::metrics))
        .service(Endpoint::at("/v1/export").get(Admin, export::export))
        .service(Endpoint::at("/healthz").get(Nothing, health::alive))
        .service(Endpoint::at("/readyz").get(Nothing, health::ready));
}

fn nothing_there(request: &HttpRequest) -> HttpResponse {
    let detail =
        format!("there is nothing at {:?}; the API begins at /v1/topics and /v1/events", request.path());
    Problem::not_found("not-found", detail).error_response()
}

/// Makes answers uniform: HEAD has no body and ends, and an error that the framework made is a problem too.
async fn uniform(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_head = request.method() == Method::HEAD;
    let is_old = request.version() < Version::HTTP_11;
    let response = match next.call(request).await {
        Ok(response) => response,
        Err(error) => return Err(as_problem(error.as_response_error().status_code()).into()),
    };
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let response = match failed && !is_problem(&response) {
        true => {
            let problem = as_problem(response.status()).error_response();
            response.into_response(problem)
        }
        false => response,
    };
    let is_stream = matches!(response.response().body().size(), BodySize::Stream);
    let mut response = match is_head && is_stream {
        true => response.map_body(|_, _| NoBody::new().boxed()),
        false => response,
    };
    if is_old && is_stream {
        // HTTP/1.0 has no chunks: the end of such a body is the end of the connection (RFC 9112, 6.1).
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

fn is_problem(response: &ServiceResponse<BoxBody>) -> bool {
    response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) == Some(problem::CONTENT_TYPE.as_bytes())
}

fn as_problem(status: StatusCode) -> Problem {
    match status.is_server_error() {
        true => Problem::new(status, "internal-error", "the broker has a defect here; its log tells more"),
        false => Problem::new(status, "bad-request", "the request cannot be read as HTTP for this resource"),
    }
}

#[cfg(test)]
pub(crate) mod socket_tests;
#[cfg(test)]
pub(crate) mod tests;
