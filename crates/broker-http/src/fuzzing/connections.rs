//! Connections: the fast path and the web side are one server. What goes over a connection publishes the same and is answered with
//! the same, whichever serves it and wherever the network cuts it.
//!
//! All of it happens in memory, on one thread, in time that goes on only when nothing else does: who waits for more is told so at
//! once.

use std::sync::Arc;
use std::time::Duration;

use actix_http::Protocol;
use actix_web::web;
use arbitrary::{Result, Unstructured};
use broker::Broker;
use bytes::Bytes;
use event_log::memory::MemoryLog;
use event_log::{Clock, Cursor, Event, EventLog, Filter, ManualClock, PageLimit, Timestamp};
use futures_executor::block_on;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::connection;
use crate::limits::Limits;
use crate::state::State;

/// Longer than any wait of the server for what does not come. (It waits longer only for the rest of a body that it refused already,
/// until its client goes.)
const PATIENCE: Duration = Duration::from_secs(300);
/// Longer than all that is sent, or answered.
const CONNECTION_BYTES: usize = 1 << 20;

/// Sends what the input makes up over two connections, to the fast path in pieces and to the web side at once.
pub fn publish(input: &[u8]) {
    let mut input = Unstructured::new(input);
    // What the input does not say any more is not sent.
    let mut sent = Vec::new();
    let _ = write_requests(&mut input, &mut sent);
    let fast = Side::run(&sent, true, &mut input);
    let web = Side::run(&sent, false, &mut input);
    let text = String::from_utf8_lossy(&sent);
    let (of_fast, of_web) = (fast.ends(), web.ends());
    // Where a connection ends follows from where the network cuts in two cases, both actix's own doing. It forgets that a client asked
    // for the end when the next request has come by then. And it ends the connection behind its answer to a request whose body
    // it does not read and has not got yet; had it come, it goes on. Nobody reads that of a GET or an OPTIONS, or
    // waits for that of a client which waits for leave itself.
    let has = |word: &[u8]| sent.windows(word.len()).any(|found| found.eq_ignore_ascii_case(word));
    let words: [&[u8]; 4] = [b"close", b"get", b"options", b"100-continue"];
    if !words.into_iter().any(has) {
        assert_eq!(of_fast, of_web, "{text}");
    }
    let end = of_fast.into_iter().chain(of_web).min();
    assert_eq!(fast.told(end), web.told(end), "{text}");
    // It also goes on with what came together with a request whose answer closes the connection.
    let events = match end {
        Some(_) => fast.events.len().min(web.events.len()),
        None => fast.events.len().max(web.events.len()),
    };
    assert_eq!(fast.events.get(..events), web.events.get(..events), "{text}");
}

/// What became of what was sent.
struct Side {
    events: Vec<Event>,
    answers: Vec<Answer>,
}

/// What was answered to one request.
struct Answer {
    text: String,
    has_body: bool,
    /// A connection has no other answer behind this one.
    is_last: bool,
}

impl Side {
    /// How many answers with a body there are up to the last one that counts. What no HTTP parser takes is refused without a body;
    /// whether that is told behind an answer that ends the connection depends on what had come by then.
    fn ends(&self) -> Option<usize> {
        let is_refused = |answer: &Answer| answer.text.contains(", http/1.1 400 bad request");
        let counts = |answer: &Answer| answer.is_last && (answer.has_body || !is_refused(answer));
        let last = self.answers.iter().position(counts)?;
        Some(self.answers[..=last].iter().filter(|answer| answer.has_body).count())
    }

    fn told(&self, end: Option<usize>) -> Vec<&str> {
        let told = self.answers.iter().filter(|answer| answer.has_body).map(|answer| answer.text.as_str());
        told.take(end.unwrap_or(usize::MAX)).collect()
    }

    fn run(sent: &[u8], is_fast: bool, input: &mut Unstructured<'_>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_226_400_000_000)));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock), Duration::from_secs(60)));
        let broker = Broker::start(log.clone(), clock, broker::Options::default());
        let broker = broker.unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        let told = LocalSet::new().block_on(&runtime, exchange(broker.clone(), sent, is_fast, input));
        let events = events(&log);
        block_on(broker.stop());
        Side { events, answers: answers(&told) }
    }
}

/// Serves one connection over which all is sent; returns what was answered.
async fn exchange(broker: Broker, sent: &[u8], is_fast: bool, input: &mut Unstructured<'_>) -> Vec<u8> {
    let options = Options {
        limits: Limits { data_bytes_max: 64, batch_events_max: 4, batch_bytes_max: 512, ..Limits::default() },
        ..Options::default()
    };
    let state = web::Data::new(State::new(broker, options, CancellationToken::new()));
    let worker = connection::worker::<DuplexStream>(state, None).await;
    let worker = worker.unwrap_or_else(|()| panic!("a worker begins"));
    let (mut client, server) = tokio::io::duplex(CONNECTION_BYTES);
    let served = tokio::task::spawn_local(async move {
        let visitor = worker.enter(None).unwrap_or_else(|| panic!("nobody else is there"));
        match is_fast {
            true => worker.serve(server, visitor).await,
            false => worker.serve_all(server, Bytes::new(), visitor, Protocol::Http1).await,
        }
    });
    let mut rest = sent;
    while !rest.is_empty() {
        let cut = if is_fast { input.int_in_range(1..=rest.len()).unwrap_or(rest.len()) } else { rest.len() };
        let (piece, behind) = rest.split_at(cut.max(1));
        // A server that has refused does not read on.
        if client.write_all(piece).await.is_err() {
            break;
        }
        // Until what was sent is seen before the next piece comes.
        for _ in 0..4 {
            yield_now().await;
        }
        rest = behind;
    }
    let mut told = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut told)).await;
    drop(client);
    let _ = served.await;
    told
}

fn events(log: &MemoryLog) -> Vec<Event> {
    let mut reader = log.reader(Arc::new(Filter::everything()));
    let (mut events, mut cursor) = (Vec::new(), Cursor::default());
    loop {
        let page = block_on(reader.read(cursor, PageLimit { events: 100, bytes: 1 << 20 }));
        let page = page.unwrap_or_else(|error| panic!("{error}"));
        // Each log gives names of its own.
        events.extend(page.events.iter().map(|event| Event { uuid: uuid::Uuid::nil(), ..(**event).clone() }));
        if page.at_head {
            return events;
        }
        cursor = page.next;
    }
}

/// The answers, each with its lines in order, without what differs from one server to the next. A stream of events is the last one,
/// and what it tells has tests of its own.
fn answers(told: &[u8]) -> Vec<Answer> {
    let (mut rest, mut answers) = (told, Vec::new());
    while let Some(head) = memchr::memmem::find(rest, b"\r\n\r\n").map(|end| end + 4) {
        let text = String::from_utf8_lossy(&rest[..head]).to_ascii_lowercase();
        let is_stream = text.contains("\r\ncontent-type: text/event-stream");
        let length =
            text.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = if is_stream { rest.len() } else { (head + length.unwrap_or(0)).min(rest.len()) };
        let is_last = is_stream || text.contains("\r\nconnection: close\r\n");
        // The time and the number of a stream differ.
        let differs = |line: &str| line.starts_with("date: ") || line.starts_with("perennial-connection: ");
        let is_told = |line: &&str| !differs(line) && *line != "connection: close";
        let mut lines: Vec<&str> = text.split("\r\n").filter(is_told).collect();
        lines.sort_unstable();
        let (lines, has_body) = (lines.join(", "), end > head);
        let body = if is_stream { String::new() } else { masked(&String::from_utf8_lossy(&rest[head..end])) };
        answers.push(Answer { text: format!("{lines} | {body}"), has_body, is_last });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        let text = format!("no answer: {:?}", String::from_utf8_lossy(rest));
        answers.push(Answer { text, has_body: true, is_last: true });
    }
    answers
}

fn masked(body: &str) -> String {
    let mut parts = body.split("\"uuid\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| format!("{text}\"uuid\":\"...{}", part.get(36..).unwrap_or_default()))
}

const METHODS: [&str; 9] = ["POST", "POST", "POST", "POST", "PUT", "DELETE", "post", "OPTIONS", "GET"];
const PATHS: [&str; 12] = [
    "/v1/topics/a/events",
    "/v1/topics/a/events",
    "/v1/topics/a/events?type=t&key=k&origin=o",
    "/v1/topics/b.c/events?key=%6b+%20",
    "/v1/topics/a%2Eb/events",
    "/v1/topics/a/events?typ=t",
    "/v1/topics/$x/events",
    "/v1/topics/a/events/",
    "http://localhost/v1/topics/a/events",
    "/v1/topics//events",
    "/v1/events",
    "/v1/topics/a/events?type=a&type=b",
];
const HEADERS: [&str; 24] = [
    "Connection: keep-alive",
    "Connection: close",
    "Connection: Keep-Alive, x",
    "Content-Type: application/x-ndjson",
    "Content-Type: text/plain",
    "Idempotency-Key: k",
    "Idempotency-Key: ",
    "idempotency-key: k2",
    "Perennial-Expected-Id: 0",
    "Perennial-Expected-Id: 1-7f3a9c1e",
    "Perennial-Expected-Id: x",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Content-Encoding: identity",
    "Content-Encoding: gzip",
    "Expect: 100-continue",
    "Origin: http://localhost",
    "Origin: null",
    "Host: localhost",
    "Host: example.com",
    "Upgrade: x",
    "TE: trailers",
    "X: \u{e9}",
    " folded: x",
];

fn write_requests(input: &mut Unstructured<'_>, sent: &mut Vec<u8>) -> Result<()> {
    for _ in 0..input.int_in_range(1..=4)? {
        if input.ratio(1, 16)? {
            sent.extend_from_slice(input.arbitrary::<&[u8]>()?);
            continue;
        }
        let path = if input.ratio(1, 8)? { input.arbitrary()? } else { *input.choose(&PATHS)? };
        let version = if input.ratio(1, 16)? { *input.choose(&["1.0", "1.2", "2"])? } else { "1.1" };
        sent.extend_from_slice(format!("{} {path} HTTP/{version}\r\n", input.choose(&METHODS)?).as_bytes());
        if !input.ratio(1, 16)? {
            sent.extend_from_slice(b"Host: localhost\r\n");
        }
        // Whoever gets a stream gets nothing else over the same connection.
        if !input.ratio(1, 16)? {
            sent.extend_from_slice(b"Accept: application/json\r\n");
        }
        for _ in 0..input.int_in_range(0..=3)? {
            let header = if input.ratio(1, 8)? { input.arbitrary()? } else { *input.choose(&HEADERS)? };
            sent.extend_from_slice(header.as_bytes());
            sent.extend_from_slice(b"\r\n");
        }
        let body = body(input)?;
        let length = body.len();
        match input.int_in_range(0..=11)? {
            0 => {}
            1 => sent.extend_from_slice(format!("Content-Length: {}\r\n", length + 1).as_bytes()),
            2 => sent.extend_from_slice(format!("Content-Length: {}\r\n", length / 2).as_bytes()),
            3 => sent.extend_from_slice(format!("content-length: 0{length}\r\n").as_bytes()),
            4 => sent.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            _ => sent.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
        }
        sent.extend_from_slice(b"\r\n");
        sent.extend_from_slice(&body);
    }
    Ok(())
}

fn body(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let text = input.arbitrary::<&[u8]>()?;
    Ok(match input.int_in_range(0..=5)? {
        0 => format!("{:x}\r\n{}\r\n0\r\n\r\n", text.len(), String::from_utf8_lossy(text)).into_bytes(),
        1 => b"{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":\"x\",\"key\":\"k\"}".to_vec(),
        _ => text.to_vec(),
    })
}
