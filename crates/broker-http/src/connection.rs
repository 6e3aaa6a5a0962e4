//! One connection, from the beginning: publishing on the fast path until something else is asked for, then requests of all kinds,
//! until one of them is a stream, which takes the socket and stays to the end.

mod answer;
mod deliver;
mod fast_path;
mod outbox;
mod patience;
mod simple;
mod socket;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::{Error, web};
use bytes::Bytes;
use tokio::net::TcpStream;

pub(crate) use socket::{Departure, Handover, Leaving};

use crate::doors::Visitor;
use crate::limits::{self, Limit};
use crate::pulse::Pulse;
use crate::secure::Secure;
use crate::server::{self, app};
use crate::state::State;
use crate::tls::{self, Tls};
use deliver::deliver;
use patience::Patience;
use socket::{Io, Lent, lend};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2";
/// What a connection of HTTP/2 that carries others' requests may take to end once the server stops and its streams have ended.
const HTTP_2_FAREWELL: Duration = Duration::from_secs(2);

/// What serves the connections of one worker, over TLS.
pub(crate) fn service_over_tls(
    state: web::Data<State>,
    tls: Tls,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> {
    fn_factory(move || {
        let (state, tls) = (state.clone(), tls.clone());
        async move {
            let worker = Rc::new(worker(state, tls.is_lasting().then_some(Secure)).await?);
            Ok(fn_service(move |socket: TcpStream| {
                let (worker, tls) = (Rc::clone(&worker), tls.clone());
                async move {
                    let Some(visitor) = worker.enter(socket.peer_addr().ok()) else { return Ok(()) };
                    if socket.set_nodelay(true).is_ok()
                        && let Some(stream) = tls.accept(socket).await
                    {
                        match tls::is_http_2(&stream) {
                            true => worker.serve_all(stream, Bytes::new(), visitor, Protocol::Http2).await,
                            false => worker.serve(stream, visitor).await,
                        }
                    }
                    Ok(())
                }
            }))
        }
    })
}

/// What serves the connections of one worker.
pub(crate) fn service(
    state: web::Data<State>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> {
    fn_factory(move || {
        let state = state.clone();
        async move {
            let worker = Rc::new(worker(state, None).await?);
            Ok(fn_service(move |socket: TcpStream| {
                let worker = Rc::clone(&worker);
                async move {
                    let Some(visitor) = worker.enter(socket.peer_addr().ok()) else { return Ok(()) };
                    // What is written is whole, so nothing is gained by waiting for more.
                    if socket.set_nodelay(true).is_ok() {
                        worker.serve(socket, visitor).await;
                    }
                    Ok(())
                }
            }))
        }
    })
}

/// A worker of this thread.
pub(crate) async fn worker<T: Io>(
    state: web::Data<State>,
    secure: Option<Secure>,
) -> Result<Worker<impl Service<(Lent<T>, Protocol, Option<SocketAddr>), Response = ()>>, ()> {
    let shutdown = state.shutdown.clone();
    let pulse = Pulse::start(shutdown.clone());
    let app =
        app(state.clone(), Rc::clone(&pulse)).into_factory().map_err(|error: Error| error.error_response());
    let requests = HttpService::build()
        .graceful_shutdown_signal(move || shutdown.clone().cancelled_owned())
        // A client that closes its side is gone: a stream that waited for its next heartbeat to see that would hold
        // its place meanwhile.
        .h1_allow_half_closed(false)
        .keep_alive(server::KEEP_ALIVE)
        .client_request_timeout(server::HEAD_TIMEOUT)
        .client_disconnect_timeout(server::DISCONNECT_TIMEOUT)
        .on_connect_ext(move |lent: &Lent<T>, data| {
            data.insert(lent.handover());
            data.insert(lent.visitor());
            if let Some(secure) = secure {
                data.insert(secure);
            }
        })
        .finish(map_config(app, |()| AppConfig::default()));
    let requests = requests.new_service(()).await?;
    Ok(Worker { state, pulse, requests, secure })
}

/// What all connections of a worker share.
pub(crate) struct Worker<S> {
    state: web::Data<State>,
    pulse: Rc<Pulse>,
    requests: S,
    /// What is said over it is private, and will be.
    secure: Option<Secure>,
}

impl<S> Worker<S> {
    /// Lets a connection in; nothing if there are too many.
    pub(crate) fn enter(&self, peer: Option<SocketAddr>) -> Option<Rc<Visitor>> {
        let refuse = |limit: Limit| {
            let before = self.state.reached.count(limit);
            if limits::is_news(before) {
                let (limit, address) = (limit.name(), peer.map(|peer| peer.ip()));
                tracing::warn!(limit, ?address, turned_away = before + 1, "there are too many connections");
            }
        };
        self.state.doors.enter(peer).map_err(refuse).ok()
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve<T: Io>(&self, socket: T, visitor: Rc<Visitor>)
    where
        S: Service<(Lent<T>, Protocol, Option<SocketAddr>), Response = ()>,
    {
        let published = fast_path::publish(socket, &visitor, &self.state, &self.pulse, self.secure);
        if let Some((socket, early)) = published.await {
            let protocol = match self.state.options.h2c && early.starts_with(HTTP_2_PREFACE) {
                true => Protocol::Http2,
                false => Protocol::Http1,
            };
            self.serve_all(socket, early, visitor, protocol).await;
        }
    }

    /// Serves requests of all kinds. `early` is what was read already.
    pub(crate) async fn serve_all<T: Io>(
        &self,
        socket: T,
        early: Bytes,
        visitor: Rc<Visitor>,
        protocol: Protocol,
    ) where
        S: Service<(Lent<T>, Protocol, Option<SocketAddr>), Response = ()>,
    {
        let remote = visitor.peer();
        // The streams of HTTP/2 share their socket with other answers, and a slow stream is not to be let go.
        let patience =
            (protocol != Protocol::Http2).then(|| Patience::new(self.state.clone(), Rc::clone(&self.pulse)));
        let (lent, owner) = lend(socket, early, Rc::clone(&visitor), patience);
        let mut served = Box::pin(self.requests.call((lent, protocol, remote)));
        if protocol == Protocol::Http2 {
            // Its streams are requests among others. They end by themselves when the server stops, and the connection does not.
            let stopped = async {
                self.state.shutdown.cancelled().await;
                tokio::time::sleep(self.state.drain_time() + HTTP_2_FAREWELL).await;
            };
            tokio::select! { _ = served => {}, () = stopped => {} }
            return;
        }
        let taken_back = poll_fn(|context| match served.as_mut().poll(context) {
            // Whatever broke a connection, its client knows of it, and nobody else is concerned.
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => owner.take_back().map_or(Poll::Pending, |taken| Poll::Ready(Some(taken))),
        });
        let taken_back = taken_back.await;
        // All that serving requests needs is let go before the stream begins.
        drop((served, owner));
        if let Some((socket, departure)) = taken_back {
            deliver(socket, departure).await;
        }
    }
}

#[cfg(test)]
mod tests;
