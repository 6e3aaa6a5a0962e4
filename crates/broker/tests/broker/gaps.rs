//! Nothing that is removed is skipped in silence, whenever it is removed; and what is no loss is no gap.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Gap, GapReason, OnGap, Start, Subscription};
use event_log::contract::{WINDOW, clock, event, filter, remove_all, trim};
use event_log::memory::MemoryLog;
use event_log::{
    Batch, Clock, Cursor, Epoch, EpochStart, Epochs, EventId, Filter, Keep, Key, LogReader, NewEvent, Page,
    PageLimit, Position, ReadError, Removal, Resumed, Seek, Timestamp, Topic,
};
use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex};

use crate::support::{
    Said, Wrapped, broker, cursor, memory, publish, read, start, step, subscribe, until_live,
};

/// Holds the broker's feeder back while it is closed.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

struct GatedReader(Gate, Box<dyn LogReader>);

impl LogReader for GatedReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        let (is_closed, changed) = &*self.0.0;
        changed.wait_while(&mut is_closed.lock(), |is_closed| *is_closed);
        self.1.read(after, limit)
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        self.1.resume(cursor)
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        self.1.seek(to)
    }
}

impl Gate {
    fn broker(&self) -> Broker {
        let gate = self.clone();
        start(Arc::new(Wrapped::readers(memory(), move |wanted, reader| {
            match *wanted == Filter::everything() {
                true => Box::new(GatedReader(gate.clone(), reader)),
                false => reader,
            }
        })))
    }

    fn close(&self) {
        *self.0.0.lock() = true;
    }

    fn open(&self) {
        *self.0.0.lock() = false;
        self.0.1.notify_all();
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name.to_owned()).unwrap()
}

fn keep(broker: &Broker, topic: &str, events: u64) {
    let keep = Keep { events: Some(events), ..Keep::default() };
    remove_all(&**broker.log(), &[trim(topic, keep)]);
}

fn id(broker: &Broker, place: Position) -> String {
    broker.epochs().id(place).to_string()
}

fn trimmed(requested: String, resumed_after: Position) -> Gap {
    Gap { reason: GapReason::Trimmed, requested, resumed_after }
}

async fn fill(broker: &Broker, topics: &[&str], count: usize) -> Vec<Position> {
    let mut places = Vec::new();
    for n in 0..count {
        places.push(publish(broker, topics[n % topics.len()], &n.to_string()).await);
    }
    places
}

/// What a subscription says next, which is one thing.
async fn one(subscription: &mut Subscription) -> Said {
    let mut said = step(subscription).await;
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

async fn gap_at_start(broker: &Broker, patterns: &[&str], start: Start) -> Option<Gap> {
    let opened = broker.open(&Arc::new(filter(patterns)), &start, OnGap::Earliest).await.unwrap();
    let begins_behind_the_gap =
        opened.gap.as_ref().is_none_or(|gap| gap.resumed_after == opened.from.position);
    assert!(begins_behind_the_gap && opened.head >= opened.from.position);
    opened.gap
}

#[tokio::test]
async fn a_reader_that_comes_back_is_told_of_what_was_trimmed_behind_its_cursor() {
    let log = MemoryLog::new(clock(), WINDOW);
    let broker = start(Arc::new(log.clone()));
    let places = fill(&broker, &["a", "b"], 40).await;
    // `a` keeps 30, 32, .., 38.
    keep(&broker, "a", 5);
    for broker in [broker, start(Arc::new(log.reopened()))] {
        let at = |n: usize| id(&broker, places[n]);
        let end = places[30].just_before();
        let gap = |requested: &str| Some(trimmed(requested.to_owned(), end));
        assert_eq!(gap_at_start(&broker, &["a"], cursor(&at(28))).await, None, "the boundary is no gap");
        assert_eq!(gap_at_start(&broker, &["a"], cursor(&at(27))).await, gap(&at(27)));
        assert_eq!(gap_at_start(&broker, &["a"], cursor("0")).await, gap("0"), "as it was sent");
        assert_eq!(gap_at_start(&broker, &["b"], cursor(&at(3))).await, None, "an untouched topic");
        let both = Some(trimmed(at(9), places[11].just_before()));
        assert_eq!(gap_at_start(&broker, &["a", "b"], cursor(&at(9))).await, both, "nothing kept is skipped");
        let begin_at = |n: usize| {
            let requested = places[n].to_string();
            Start::At { id: EventId { position: places[n], epoch: None }, requested }
        };
        assert_eq!(gap_at_start(&broker, &["a"], begin_at(28)).await, gap(&places[28].to_string()));
        assert_eq!(gap_at_start(&broker, &["a"], begin_at(30)).await, None);
        let first_time = Start::Time(Timestamp::default());
        for asks_for_what_is_kept in
            [Start::Latest, Start::Earliest, first_time, Start::Last(20.try_into().unwrap())]
        {
            assert_eq!(gap_at_start(&broker, &["a"], asks_for_what_is_kept).await, None);
        }
        let (opened, mut subscription) = subscribe(&broker, filter(&["a"]), cursor(&at(3))).await;
        assert_eq!(opened.gap, gap(&at(3)));
        let (events, _) = until_live(&mut subscription).await;
        assert_eq!(events, ["30", "32", "34", "36", "38"], "it is told once");
    }
}

#[tokio::test]
async fn who_began_at_a_time_and_comes_back_at_once_is_not_told_of_a_gap() {
    let clock = clock();
    let broker = start(Arc::new(MemoryLog::new(clock.clone(), WINDOW)));
    let mut times = Vec::new();
    for (n, name) in ["b", "a", "a", "a"].into_iter().enumerate() {
        clock.advance(Duration::from_secs(1));
        publish(&broker, name, &n.to_string()).await;
        times.push(clock.now());
    }
    keep(&broker, "a", 1);
    let (opened, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Time(times[0])).await;
    assert_eq!(opened.gap, None);
    assert_eq!(until_live(&mut subscription).await.0, ["3"]);
    let again = cursor(&id(&broker, opened.from.position));
    assert_eq!(gap_at_start(&broker, &["a"], again).await, None);
}

#[tokio::test]
async fn a_slow_replay_is_told_in_the_middle_and_live_is_still_said_once() {
    let broker = broker();
    let places = fill(&broker, &["a"], 2_000).await;
    let (_, mut subscription) = subscribe(&broker, filter(&["a"]), Start::Earliest).await;
    let first = read(&mut subscription, 1).await;
    let seen = first.len();
    assert!(seen < 2_000, "a page is a part");
    // A page that was given is the reader's, whatever happens to it meanwhile; what comes after it is not.
    keep(&broker, "a", 10);
    let end = places[1_990].just_before();
    let gap = trimmed(id(&broker, places[seen - 1]), end);
    assert_eq!(one(&mut subscription).await, Said::Gap(gap));
    assert_eq!(subscription.cursor().position, end);
    let (events, head) = until_live(&mut subscription).await;
    assert_eq!((events.len(), &*events[0], head), (10, "1990", places[1_999]));
    keep(&broker, "a", 0);
    publish(&broker, "a", "next").await;
    assert_eq!(
        read(&mut subscription, 1).await,
        ["next"],
        "what it has seen is no loss, and nothing is said twice"
    );
}

#[tokio::test]
async fn what_is_trimmed_before_it_was_routed_is_not_skipped_in_silence() {
    for names in [["a"; 3], ["a", "b", "a"]] {
        let gate = Gate::default();
        let broker = gate.broker();
        let (_, mut waiting) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
        let (_, head) = until_live(&mut waiting).await;
        let (_, mut other) = subscribe(&broker, filter(&["other"]), Start::Latest).await;
        until_live(&mut other).await;
        gate.close();
        for name in names {
            publish(&broker, name, "lost").await;
        }
        keep(&broker, "a", 0);
        // Neither the wait nor a look at the cursor, as a heartbeat takes it, may pass over what was lost.
        assert_eq!(waiting.settle().position, head);
        gate.open();
        publish(&broker, "other", "routed").await;
        read(&mut other, 1).await;
        keep(&broker, "other", 0);
        assert_eq!(waiting.settle().position, head, "whatever is routed meanwhile");
        let next = publish(&broker, "a", "next").await;
        let gap = trimmed(id(&broker, head), next.just_before());
        assert_eq!(one(&mut waiting).await, Said::Gap(gap), "{names:?}");
        assert_eq!(one(&mut waiting).await, Said::event("next"));
        assert_eq!(waiting.settle().position, broker.head(), "the removals are known now");
    }
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_when_what_it_waits_for_is_removed() {
    let gate = Gate::default();
    let broker = gate.broker();
    let (_, mut waiting) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
    let (_, head) = until_live(&mut waiting).await;
    gate.close();
    let wait = tokio::spawn(async move { (one(&mut waiting).await, waiting.settle().position) });
    tokio::task::yield_now().await;
    let lost = publish(&broker, "a", "lost").await;
    keep(&broker, "a", 0);
    gate.open();
    let (said, cursor) = wait.await.unwrap();
    assert_eq!(said, Said::Gap(trimmed(id(&broker, head), lost)));
    assert_eq!(cursor, lost, "the head, as nothing is kept");
}

#[tokio::test]
async fn removals_that_take_nothing_from_a_waiting_reader_are_no_gap() {
    let broker = broker();
    fill(&broker, &["a", "b"], 20).await;
    let (_, mut waiting) = subscribe(&broker, filter(&["a"]), Start::Latest).await;
    until_live(&mut waiting).await;
    keep(&broker, "a", 0);
    keep(&broker, "b", 0);
    let next = publish(&broker, "a", "next").await;
    assert_eq!(one(&mut waiting).await, Said::event("next"));
    assert_eq!(waiting.settle().position, next, "the cursor knows of the removals");
}

fn state(key: &str, data: &str) -> NewEvent {
    NewEvent { key: Some(Key::parse(key.to_owned()).unwrap()), ..event("a", data) }
}

/// Two readers of the same topic, both live; when the first has seen an event, the other could have it from memory too.
async fn one_that_reads_and_one_that_lags(broker: &Broker) -> (Subscription, Subscription) {
    let (_, mut reads) = subscribe(broker, filter(&["a"]), Start::Latest).await;
    let (_, mut lags) = subscribe(broker, filter(&["a"]), Start::Latest).await;
    until_live(&mut reads).await;
    until_live(&mut lags).await;
    (reads, lags)
}

#[tokio::test]
async fn what_was_purged_is_not_served_from_memory() {
    let broker = broker();
    let (mut reads, mut lags) = one_that_reads_and_one_that_lags(&broker).await;
    let before = lags.cursor().position;
    fill(&broker, &["a"], 10).await;
    read(&mut reads, 10).await;
    broker.purge(&topic("a")).await.unwrap();
    let next = publish(&broker, "a", "next").await;
    assert_eq!(read(&mut reads, 1).await, ["next"]);
    assert_eq!(one(&mut lags).await, Said::Gap(trimmed(id(&broker, before), next.just_before())));
    assert_eq!(one(&mut lags).await, Said::event("next"));
}

#[tokio::test]
async fn superseded_events_are_no_gap_and_the_newest_of_every_key_comes() {
    let broker = broker();
    let (mut reads, mut lags) = one_that_reads_and_one_that_lags(&broker).await;
    for n in 0..10 {
        let key = ["x", "y"][n % 2];
        broker.publish(Batch::new(vec![state(key, &n.to_string())])).await.unwrap();
    }
    read(&mut reads, 10).await;
    let superseded = Removal::Superseded { topic: topic("a"), tombstones_before: Timestamp::default() };
    assert_eq!(remove_all(&**broker.log(), &[superseded]).events, 8);
    let next = publish(&broker, "a", "next").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|data| data != "next") {
        seen.extend(read(&mut lags, 1).await);
    }
    assert!(seen.ends_with(&["8".to_owned(), "9".to_owned(), "next".to_owned()]), "{seen:?}");
    assert_eq!(lags.cursor().position, next);
}

#[tokio::test]
async fn behind_the_point_where_histories_part_the_trimmed_events_are_told_too() {
    let broker = broker();
    let places = fill(&broker, &["a"], 20).await;
    keep(&broker, "a", 5);
    let point = places[9];
    let current = EpochStart { epoch: broker.epochs().current(), after: point };
    let older = EpochStart { epoch: Epoch::new(1), after: Position::ORIGIN };
    let epochs = Epochs::from_starts(vec![older, current]).unwrap();
    let broker = start(Arc::new(Wrapped::with_epochs(Arc::clone(broker.log()), epochs)));
    let beyond = EventId::new(places[12], Epoch::new(1)).to_string();
    let (opened, mut subscription) = subscribe(&broker, filter(&["a"]), cursor(&beyond)).await;
    let gap = Gap { reason: GapReason::Epoch, requested: beyond, resumed_after: point };
    assert_eq!(opened.gap, Some(gap));
    let further = trimmed(id(&broker, point), places[15].just_before());
    assert_eq!(one(&mut subscription).await, Said::Gap(further));
    assert_eq!(until_live(&mut subscription).await.0, ["15", "16", "17", "18", "19"]);
}
