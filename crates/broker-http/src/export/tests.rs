use std::sync::Arc;

use event_log::{Data, Epoch, EpochStart, Event, NewEvent, Position, Timestamp, Topic};
use futures_util::StreamExt;
use futures_util::stream;
use uuid::Uuid;

use super::*;
use crate::Options;
use crate::archive::{Line, Reader};
use crate::server::tests::{call, request, state, state_with};

/// What an engine with two events hands out, one item at a time.
fn items() -> Vec<Item> {
    let event = |n: u64| {
        let new =
            NewEvent::new(Topic::parse("a").unwrap(), Data::parse("x".repeat(50_000), usize::MAX).unwrap());
        Item::Event(Arc::new(Event::place(
            new,
            Position::new(n),
            Timestamp::from_micros(n),
            Uuid::from_u128(n.into()),
        )))
    };
    let epochs = vec![EpochStart { epoch: Epoch::new(1), after: Position::ORIGIN }];
    let end = Item::End { head: Position::new(2), time: Timestamp::from_micros(2), events: 2 };
    vec![Item::Start { epochs }, event(1), event(2), end]
}

fn handing_out(results: impl Fn() -> Vec<Result<Vec<Item>, ReadError>> + Send + Sync + 'static) -> Options {
    Options { archives: Some(Arc::new(move || stream::iter(results()).boxed())), ..Options::default() }
}

#[actix_web::test]
async fn an_export_is_the_archive_of_the_engine() {
    let options = handing_out(|| items().into_iter().map(|item| Ok(vec![item])).collect());
    let answer = call(&state_with(options), request("GET", "/v1/export")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let mut reader = Reader::default();
    let read = answer.body.lines().filter_map(|line| reader.read(line).unwrap());
    assert!(read.eq(items().into_iter().map(Line::Item)));
    reader.end().unwrap();
}

#[actix_web::test]
async fn an_export_is_taken_a_piece_at_a_time() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let endless = stream::iter((0..).map(move |n| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(vec![items()[usize::from(n > 0)].clone()])
    }));
    let mut pieces = std::pin::pin!(text(endless.boxed()));
    let first = pieces.next().await.unwrap().unwrap();
    assert!(first.len() < 2 * PAGE_BYTES_MAX, "{} bytes", first.len());
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[actix_web::test]
async fn what_cannot_be_read_breaks_the_export_off_behind_whole_lines() {
    let damaged = || Err(ReadError::Damaged("chunk 2".to_owned()));
    let results: Vec<_> = vec![Ok(vec![items().remove(0)]), Ok(vec![items().remove(1); 2]), damaged()];
    let pieces: Vec<_> = text(stream::iter(results).boxed()).collect().await;
    assert!(pieces[0].as_ref().unwrap().ends_with(b"\n"));
    assert!(matches!(pieces.last(), Some(Err(ReadError::Damaged(_)))), "{pieces:?}");
}

#[actix_web::test]
async fn an_export_takes_no_parameters_and_needs_an_engine_that_can() {
    let options = handing_out(|| vec![Ok(items())]);
    let able = state_with(options);
    let answer = call(&able, request("GET", "/v1/export?topic=a")).await;
    assert_eq!(answer.refusal(), (400, "unknown-parameter".to_owned()));
    assert_eq!(call(&able, request("POST", "/v1/export")).await.status, 405);
    let head = call(&able, request("HEAD", "/v1/export")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(call(&state(), request("GET", "/v1/export")).await.refusal(), (404, "no-archives".to_owned()));
}
