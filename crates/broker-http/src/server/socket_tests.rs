//! The server as a client sees it, through a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use event_log::EventLog;
use event_log::contract::{WINDOW, clock};
use event_log::memory::MemoryLog;

use super::*;

/// A server of its own, reached through a socket.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<MemoryLog>,
    shutdown: CancellationToken,
    served: actix_web::rt::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(MemoryLog::new(clock(), WINDOW));
        let broker = Broker::start(log.clone(), clock(), broker::Options::default()).unwrap();
        let shutdown = CancellationToken::new();
        let served = actix_web::rt::spawn(serve(listener, broker, options, shutdown.clone()));
        Running { address, log, shutdown, served }
    }

    pub(crate) fn events(&self) -> u64 {
        self.log.bounds().events
    }

    pub(crate) async fn stop(self) -> Duration {
        let begun = Instant::now();
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
        begun.elapsed()
    }

    /// Sends all, and reads until the server closes or `until` came.
    pub(crate) async fn exchange(&self, sent: impl Into<Vec<u8>>, then: Then, until: &'static str) -> String {
        let (address, sent) = (self.address, sent.into());
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // What is refused early may be closed before all is sent.
            let _ = stream.write_all(&sent);
            if matches!(then, Then::CloseWriting) {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut got = Vec::new();
            let mut buffer = [0; 4096];
            while until.is_empty() || !String::from_utf8_lossy(&got).contains(until) {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&buffer[..n]),
                }
                if matches!(then, Then::StopAfterAnswer) && is_whole(&got) {
                    break;
                }
            }
            String::from_utf8(got).unwrap()
        };
        web::block(exchange).await.unwrap()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Then {
    Wait,
    CloseWriting,
    /// One answer is enough.
    StopAfterAnswer,
}

/// Whether an answer that announces its length is there.
fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

pub(crate) fn workers(workers: usize) -> Options {
    Options { workers, ..Options::default() }
}

#[actix_web::test]
async fn a_body_that_breaks_off_publishes_nothing() {
    let server = Running::start(workers(1));
    let head = "POST /v1/topics/a/events HTTP/1.1\r\nHost: localhost\r\n";
    let short =
        server.exchange(format!("{head}Content-Length: 10\r\n\r\nfour"), Then::CloseWriting, "").await;
    assert!(!short.contains(" 201 "), "{short}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n");
    let short = server.exchange(chunked.clone(), Then::CloseWriting, "").await;
    assert!(!short.contains(" 201 "), "{short}");
    assert_eq!(server.events(), 0);
    let whole =
        server.exchange(format!("{chunked}4\r\nfour\r\n0\r\n\r\n"), Then::Wait, "\"duplicate\":false").await;
    assert!(whole.starts_with("HTTP/1.1 201 "), "{whole}");
    assert_eq!(server.events(), 1);
    assert!(server.stop().await < Duration::from_secs(8));
}

#[actix_web::test]
async fn a_body_that_is_too_large_is_told_so_before_it_is_sent_and_while_it_is() {
    let server = Running::start(Options {
        limits: crate::Limits { data_bytes_max: 1_000, ..crate::Limits::default() },
        ..workers(1)
    });
    let head = "POST /v1/topics/a/events HTTP/1.1\r\nHost: localhost\r\n";
    let announced = server.exchange(format!("{head}Content-Length: 1001\r\n\r\n"), Then::Wait, "data").await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let large = "x".repeat(300_000);
    let sent =
        server.exchange(format!("{head}Content-Length: 300000\r\n\r\n{large}"), Then::Wait, "max_data").await;
    assert!(sent.starts_with("HTTP/1.1 413 "), "{sent}");
    let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let chunked = server.exchange(chunk, Then::Wait, "max_data").await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
    assert_eq!(server.events(), 0);
    server.stop().await;
}

#[actix_web::test]
async fn head_of_every_resource_ends_without_a_body() {
    let server = Running::start(workers(1));
    let publish = "POST /v1/topics/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nfour";
    server.exchange(publish, Then::Wait, "duplicate").await;
    for (path, status) in [
        ("/v1/events?topic=a", 200),
        ("/v1/topics/a/events", 200),
        ("/v1/topics/a", 200),
        ("/v1/topics", 200),
        ("/v1/status", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v1/events/1", 200),
        ("/v1/topics/absent", 404),
        ("/v1/topics/a/keys/k", 405),
        ("/absent", 404),
    ] {
        let answer = server
            .exchange(
                format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                Then::Wait,
                "",
            )
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn the_server_stops_in_time_while_streams_and_idle_connections_are_open() {
    let server = Running::start(workers(2));
    let idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /v1/events?topic=** HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut waiting = TcpStream::connect(server.address).unwrap();
    waiting.write_all(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").unwrap();
    actix_web::rt::time::sleep(Duration::from_millis(300)).await;
    assert!(server.stop().await < Duration::from_secs(8));
    let mut told = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.contains("event: $closing"), "{told}");
    drop(idle);
}
