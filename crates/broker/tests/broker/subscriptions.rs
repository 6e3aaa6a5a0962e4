//! Subscriptions on the in-memory model: every matching event once, in order, whatever happens around them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Wrapped, all as events_of, broker, cursor, memory, publish, read, start, subscribe, until_live,
};
use broker::{Broker, Gap, GapReason, OnGap, Opened, Start, Step};
use event_log::contract::filter;
use event_log::{
    Cursor, Epoch, EventId, Filter, LogReader, Page, PageLimit, Position, ReadError, Resumed, Seek,
};
use futures_util::future::BoxFuture;

#[tokio::test]
async fn history_then_live_then_what_happens_next() {
    let broker = broker();
    publish(&broker, "a", "1").await;
    publish(&broker, "b", "other").await;
    let head = publish(&broker, "a", "2").await;
    let (opened, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Earliest).await;
    assert_eq!((opened.gap, opened.head), (None, head));
    assert_eq!(until_live(&mut subscription).await, (vec!["1".into(), "2".into()], head));
    publish(&broker, "a", "3").await;
    assert_eq!(read(&mut subscription, 1).await, ["3"]);
}

#[tokio::test]
async fn the_cursor_of_an_idle_subscription_moves_past_what_does_not_match() {
    let broker = broker();
    let (_, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
    until_live(&mut subscription).await;
    let head = publish(&broker, "b", "1").await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while subscription.settle().position < head {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the cursor moves to the head");
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let broker = broker();
    let (_, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
    until_live(&mut subscription).await;
    for n in 0..100 {
        let _ = tokio::time::timeout(Duration::ZERO, subscription.next()).await.is_err();
        publish(&broker, "a", &n.to_string()).await;
        assert_eq!(read(&mut subscription, 1).await, [n.to_string()]);
    }
}

#[tokio::test]
async fn stopping_ends_every_subscription() {
    let broker = broker();
    let (_, mut subscription) = subscribe(&broker, filter(&["**"]), Start::Latest).await;
    until_live(&mut subscription).await;
    broker.stop().await;
    assert!(matches!(subscription.next().await, Ok(Step::Ended)));
}

#[tokio::test]
async fn an_id_that_says_nothing_about_this_log_is_a_gap() {
    let broker = broker();
    for n in 0..5 {
        publish(&broker, "a", &n.to_string()).await;
    }
    let epochs = broker.epochs().clone();
    let head = broker.head();
    let first = broker.log().bounds().oldest.unwrap();
    let newer = Position::new(head.get() + 1);
    let foreign = EventId::new(first, Epoch::new(!epochs.current().get()));
    let gap = |reason, requested: &str| {
        Some(Gap { reason, requested: requested.to_owned(), resumed_after: first.just_before() })
    };
    let wanted = Arc::new(filter(&["a"]));
    let cases = [
        (cursor(&epochs.id(newer).to_string()), gap(GapReason::Ahead, &epochs.id(newer).to_string())),
        (cursor(&foreign.to_string()), gap(GapReason::Epoch, &foreign.to_string())),
        (cursor("nonsense"), gap(GapReason::Malformed, "nonsense")),
        (Start::Cursor(b"\xff".to_vec()), gap(GapReason::Malformed, "\u{fffd}")),
        (Start::At { id: foreign, requested: "text".into() }, gap(GapReason::Epoch, "text")),
    ];
    for (start, expected) in cases {
        let opened = broker.open(&wanted, &start, OnGap::Earliest).await.unwrap();
        let from = Cursor { position: first.just_before(), removals: broker.log().removals() };
        assert_eq!(opened, Opened { gap: expected, from, head });
        let at_head = broker.open(&wanted, &start, OnGap::Latest).await.unwrap();
        assert_eq!((at_head.from.position, at_head.gap.unwrap().resumed_after), (head, head));
    }
    for good in [cursor(&epochs.id(head).to_string()), cursor("0"), cursor(&head.to_string())] {
        assert_eq!(broker.open(&wanted, &good, OnGap::Earliest).await.unwrap().gap, None);
    }
    let last_two = Start::Last(NonZeroU64::new(2).unwrap());
    let (_, mut subscription) = subscribe(&broker, filter(&["a"]), last_two).await;
    assert_eq!(read(&mut subscription, 2).await, ["3", "4"]);
}

/// Many publishers, and readers of all kinds that come, lag, cut themselves off and resume: each ledger is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_ledger_is_exact_while_readers_come_and_go() {
    const EVENTS: usize = 4_000;
    let broker = broker();
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..EVENTS / 4 {
                    publish(&broker, ["a", "b.x", "b.y"][(publisher + n) % 3], &format!("{publisher}.{n}"))
                        .await;
                    if n % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    let patterns: [&[&str]; 4] = [&["**"], &["a"], &["b.*", "b.x"], &["a", "b.**"]];
    let readers: Vec<_> = (0..12)
        .map(|reader| {
            let broker = broker.clone();
            let wanted = filter(patterns[reader % 4]);
            tokio::spawn(async move { (wanted.clone(), follow_with_cuts(&broker, wanted, reader).await) })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    publish(&broker, "a", "end").await;
    publish(&broker, "b.x", "end").await;
    let all = event_log::contract::everything(&**broker.log());
    for reader in readers {
        let (wanted, ledger) = reader.await.unwrap();
        let expected: Vec<_> =
            all.iter().filter(|event| wanted.wants(event)).map(|e| e.data.as_str()).collect();
        let end = expected.iter().position(|data| *data == "end").unwrap();
        assert_eq!(ledger, expected[..=end]);
    }
}

async fn follow_with_cuts(broker: &Broker, wanted: Filter, reader: usize) -> Vec<String> {
    let mut ledger: Vec<String> = Vec::new();
    let mut place = Position::ORIGIN;
    for round in 0.. {
        let start = cursor(&broker.epochs().id(place).to_string());
        let (opened, mut subscription) = subscribe(broker, wanted.clone(), start).await;
        assert_eq!(opened.gap, None);
        for _ in 0..(reader + round) % 7 + 1 {
            if let Step::Events(events) = subscription.next().await.unwrap() {
                ledger.extend(events_of(events).iter().map(|event| event.data.as_str().to_owned()));
            }
            place = subscription.cursor().position;
            if let Some(end) = ledger.iter().position(|data| data == "end") {
                ledger.truncate(end + 1);
                return ledger;
            }
        }
    }
    unreachable!("the rounds do not end")
}

/// A reader whose reads take a while, as from a busy disk, and are lost when nobody waits for them.
struct SlowReader(Box<dyn LogReader>);

impl LogReader for SlowReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.0.read(after, limit).await
        })
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        self.0.resume(cursor)
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        self.0.seek(to)
    }
}

/// Found with a heartbeat that was shorter than a read: each heartbeat threw the read away, and replay never went on.
#[tokio::test]
async fn a_read_that_outlasts_the_wait_for_it_is_not_begun_anew() {
    // Only the test's own: the broker's threads have no runtime to sleep on.
    let is_slow = |wanted: &Filter| *wanted == filter(&["a"]);
    let slow = Wrapped::readers(memory(), move |wanted, reader| match is_slow(wanted) {
        true => Box::new(SlowReader(reader)),
        false => reader,
    });
    let broker = start(Arc::new(slow));
    let (_, mut first) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
    for n in 0..3 {
        publish(&broker, "a", &n.to_string()).await;
    }
    // Once one has seen them live, they are history to the next.
    read(&mut first, 3).await;
    drop(first);
    let (_, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Earliest).await;
    let mut all = Vec::new();
    for _ in 0..200 {
        let step = tokio::time::timeout(Duration::from_millis(5), subscription.next()).await;
        if let Ok(Ok(Step::Events(events))) = step {
            all.extend(events_of(events).iter().map(|event| event.data.as_str().to_owned()));
        }
    }
    assert_eq!(all, ["0", "1", "2"]);
}
