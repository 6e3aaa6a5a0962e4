//! The actor that carries policies out.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use broker::{Broker, Gap, Options, Policy, Start, Step};
use event_log::contract::{WINDOW, clock, event, everything, filter};
use event_log::memory::MemoryLog;
use event_log::{
    Batch, EventLog, EventType, Key, ManualClock, NewEvent, Pattern, Position, ReadError, Topic,
};
use tokio::sync::Barrier;

use crate::support::{Said, Wrapped, all, broker, memory, publish, read, step, subscribe, until, until_live};

async fn set(broker: &Broker, of: &str, policy: &str) {
    let pattern = Pattern::parse(of.to_owned()).unwrap();
    broker.set_policy(&pattern, &Policy::parse(policy).unwrap()).await.unwrap();
}

fn kept(broker: &Broker, topic: &str) -> u64 {
    broker.log().topic(&Topic::parse(topic.to_owned()).unwrap()).map_or(0, |stats| stats.events)
}

fn data_of(broker: &Broker, topic: &str) -> Vec<String> {
    let wanted = filter(&[topic]);
    let events = everything(&**broker.log()).into_iter().filter(|event| wanted.wants(event));
    events.map(|event| event.data.as_str().to_owned()).collect()
}

/// Waits until a pass has ended that began after this was called.
async fn another_pass(broker: &Broker) {
    let passes = broker.retention().counts().passes;
    until(|| broker.retention().counts().passes >= passes + 2).await;
}

/// A broker whose retention works all the time, on a clock that a test moves.
fn busy(tombstone_retention: Duration) -> (Broker, Arc<ManualClock>) {
    let clock = clock();
    let log = Arc::new(MemoryLog::new(clock.clone(), WINDOW));
    (busy_on(log, clock.clone(), tombstone_retention), clock)
}

fn busy_on(log: Arc<dyn EventLog>, clock: Arc<ManualClock>, tombstone_retention: Duration) -> Broker {
    let options = Options { retention_interval: Duration::from_millis(1), tombstone_retention };
    Broker::start(log, clock, options).unwrap()
}

fn state(key: &str, data: Option<&str>) -> NewEvent {
    let key = Some(Key::parse(key.to_owned()).unwrap());
    let event_type = data.is_none().then(EventType::delete);
    NewEvent { key, event_type, ..event("t", data.unwrap_or("gone")) }
}

async fn publish_state(broker: &Broker, key: &str, data: Option<&str>) {
    broker.publish(Batch::new(vec![state(key, data)])).await.unwrap();
}

#[tokio::test]
async fn each_bound_keeps_the_newest_events_of_each_topic() {
    let broker = broker();
    for n in 0..500 {
        publish(&broker, ["count.a", "count.b", "size.a", "none", "exempt.a"][n % 5], &format!("{n:03}"))
            .await;
    }
    // Woken at once by each change: nothing else wakes it.
    set(&broker, "exempt.*", "{}").await;
    set(&broker, "count.*", r#"{"max_events":7}"#).await;
    set(&broker, "size.*", r#"{"max_bytes":99}"#).await;
    set(&broker, "none", r#"{"max_events":0}"#).await;
    set(&broker, "**", r#"{"max_events":50}"#).await;
    until(|| broker.log().bounds().events == 2 * 7 + 11 + 100 + 5).await;
    assert_eq!(data_of(&broker, "count.a"), ["465", "470", "475", "480", "485", "490", "495"]);
    assert_eq!((kept(&broker, "count.b"), kept(&broker, "size.a"), kept(&broker, "none")), (7, 11, 0));
    assert_eq!(kept(&broker, "exempt.a"), 100, "the most specific policy governs wholly");
    assert_eq!(kept(&broker, "$broker.policies"), 5, "no wildcard reaches the broker's own topics");
    let counts = broker.retention().counts();
    assert_eq!((counts.trimmed.events, counts.superseded.events), (2 * 93 + 89 + 100, 0));
    assert_eq!(counts.trimmed.bytes, 2 * 93 * 10 + 89 * 9 + 100 * 7);
}

#[tokio::test]
async fn events_go_when_they_are_too_old() {
    let (broker, clock) = busy(Duration::ZERO);
    set(&broker, "**", r#"{"max_age":"10s"}"#).await;
    set(&broker, "slow", r#"{"max_age":"1h"}"#).await;
    for n in 0..20 {
        publish(&broker, "t", &n.to_string()).await;
        publish(&broker, "slow", &n.to_string()).await;
        clock.advance(Duration::from_secs(1));
    }
    until(|| kept(&broker, "t") == 10).await;
    another_pass(&broker).await;
    assert_eq!(data_of(&broker, "t"), (10..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(kept(&broker, "slow"), 20);
    clock.advance(Duration::from_secs(3_600));
    until(|| kept(&broker, "t") == 0 && kept(&broker, "slow") == 0).await;
}

#[tokio::test]
async fn of_each_key_the_newest_event_stays_and_a_tombstone_for_its_time() {
    let (broker, clock) = busy(Duration::from_secs(60));
    set(&broker, "t", r#"{"compact":"key"}"#).await;
    for n in 0..300 {
        publish_state(&broker, ["x", "y", "z"][n % 3], Some(&n.to_string())).await;
        if n % 100 == 0 {
            publish(&broker, "t", "without a key").await;
        }
    }
    publish_state(&broker, "y", None).await;
    until(|| kept(&broker, "t") == 6).await;
    let plain = "without a key";
    assert_eq!(data_of(&broker, "t"), [plain, plain, plain, "297", "299", "gone"]);
    clock.advance(Duration::from_secs(59));
    another_pass(&broker).await;
    assert_eq!(kept(&broker, "t"), 6);
    clock.advance(Duration::from_secs(10));
    until(|| kept(&broker, "t") == 5).await;
    assert_eq!(data_of(&broker, "t"), [plain, plain, plain, "297", "299"]);
    assert_eq!(broker.retention().counts().superseded.events, 299);
    publish_state(&broker, "x", Some("newer")).await;
    until(|| data_of(&broker, "t") == [plain, plain, plain, "299", "newer"]).await;
}

#[tokio::test]
async fn a_live_reader_gets_the_newest_of_every_key_and_nothing_that_is_gone() {
    let (broker, _) = busy(Duration::from_secs(60));
    let (_, mut reads) = subscribe(&broker, filter(&["t"]), Start::Latest).await;
    let (_, mut lags) = subscribe(&broker, filter(&["t"]), Start::Latest).await;
    until_live(&mut reads).await;
    until_live(&mut lags).await;
    for n in 0..10 {
        publish_state(&broker, ["x", "y"][n % 2], Some(&n.to_string())).await;
    }
    read(&mut reads, 10).await;
    set(&broker, "t", r#"{"compact":"key"}"#).await;
    until(|| kept(&broker, "t") == 2).await;
    another_pass(&broker).await;
    assert_eq!(read(&mut lags, 2).await, ["8", "9"]);
}

#[tokio::test]
async fn a_removal_that_fails_is_tried_again() {
    let clock = clock();
    let failures = Arc::new(AtomicUsize::new(0));
    let (counted, fails) = (Arc::clone(&failures), Arc::new(AtomicBool::new(true)));
    let is_failing = Arc::clone(&fails);
    let log = Wrapped::removals(memory(), move || match is_failing.load(Ordering::SeqCst) {
        true => {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(ReadError::Engine("no".into()))
        }
        false => Ok(()),
    });
    let broker = busy_on(Arc::new(log), clock, Duration::ZERO);
    for n in 0..10 {
        publish_state(&broker, "k", Some(&n.to_string())).await;
    }
    set(&broker, "*", r#"{"max_events":5,"compact":"key"}"#).await;
    // Both the trim and the compaction, more than once.
    until(|| failures.load(Ordering::SeqCst) >= 6).await;
    assert_eq!(kept(&broker, "t"), 10);
    fails.store(false, Ordering::SeqCst);
    until(|| kept(&broker, "t") == 1).await;
}

#[tokio::test]
async fn policies_are_carried_out_after_a_restart_and_not_after_they_are_taken_away() {
    let clock = clock();
    let log = MemoryLog::new(clock.clone(), WINDOW);
    let broker = busy_on(Arc::new(log.clone()), clock.clone(), Duration::ZERO);
    set(&broker, "a", r#"{"max_events":1}"#).await;
    set(&broker, "b", r#"{"max_events":1}"#).await;
    broker.remove_policy(&Pattern::parse("b").unwrap()).await.unwrap();
    broker.stop().await;
    let broker = busy_on(Arc::new(log.reopened()), clock, Duration::ZERO);
    for n in 0..10 {
        publish(&broker, ["a", "b"][n % 2], &n.to_string()).await;
    }
    until(|| kept(&broker, "a") == 1).await;
    another_pass(&broker).await;
    assert_eq!((data_of(&broker, "a"), kept(&broker, "b")), (vec!["8".to_owned()], 5));
}

#[tokio::test]
async fn stopping_ends_the_work_between_two_steps() {
    let (broker, _) = busy(Duration::ZERO);
    for n in 0..3_000 {
        publish(&broker, "t", &n.to_string()).await;
    }
    set(&broker, "t", r#"{"max_events":0}"#).await;
    until(|| kept(&broker, "t") < 3_000).await;
    broker.stop().await;
    let (left, counts) = (kept(&broker, "t"), broker.retention().counts());
    assert_eq!(left + counts.trimmed.events, 3_000);
    // Its thread was joined: nothing is removed any more, and a wake-up wakes nobody.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((kept(&broker, "t"), broker.retention().counts()), (left, counts));
}

/// What a reader got: places of events, and gaps with where they began.
#[derive(Default)]
struct Ledger {
    seen: Vec<Position>,
    gaps: Vec<(Position, Gap)>,
}

async fn keep_ledger(
    broker: Broker,
    patterns: &'static [&'static str],
    from: Start,
    begun: Arc<Barrier>,
) -> (Position, Ledger) {
    let (opened, mut subscription) = subscribe(&broker, filter(patterns), from).await;
    begun.wait().await;
    let mut ledger = Ledger::default();
    loop {
        let before = subscription.cursor().position;
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("a step");
        match next.unwrap() {
            Step::Events(events) => {
                let events = all(events);
                ledger.seen.extend(events.iter().map(|event| event.position));
                if events.iter().any(|event| event.data.as_str() == "end") {
                    return (opened.from.position, ledger);
                }
                // Some are slow.
                if ledger.seen.len() % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            Step::Gap(gap) => ledger.gaps.push((before, gap)),
            Step::Live(_) => {}
            Step::Ended => panic!("ended"),
        }
    }
}

/// Retention and purges work under readers of all kinds: what a reader did not get, it was told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_ledger_is_exact_or_tells_of_its_gaps() {
    let (broker, _) = busy(Duration::ZERO);
    set(&broker, "a", r#"{"max_events":20}"#).await;
    set(&broker, "b", r#"{"max_events":300}"#).await;
    let patterns: [&[&str]; 4] = [&["a"], &["b"], &["a", "b"], &["untouched"]];
    let begun = Arc::new(Barrier::new(12 + 1));
    let readers: Vec<_> = (0..12)
        .map(|reader| {
            let from = if reader % 2 == 0 { Start::Latest } else { Start::Earliest };
            let of = patterns[reader % 4];
            (of, tokio::spawn(keep_ledger(broker.clone(), of, from, Arc::clone(&begun))))
        })
        .collect();
    begun.wait().await;
    let mut published: Vec<(Position, &str)> = Vec::new();
    for n in 0..3_000 {
        let name = ["a", "b", "untouched"][n % 3];
        published.push((publish(&broker, name, &n.to_string()).await, name));
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if n % 500 == 0 {
            broker.purge(&Topic::parse("b").unwrap()).await.unwrap();
        }
    }
    for name in ["a", "b", "untouched"] {
        published.push((publish(&broker, name, "end").await, name));
    }
    for (of, reader) in readers {
        let (from, ledger) = reader.await.unwrap();
        assert!(ledger.seen.is_sorted_by(|a, b| a < b), "in order, each once");
        let seen: HashSet<Position> = ledger.seen.iter().copied().collect();
        let end = *ledger.seen.last().unwrap();
        for (place, _) in
            published.iter().filter(|(place, name)| of.contains(name) && *place > from && *place <= end)
        {
            // A gap of several topics may end before what one of them lost.
            let is_told = ledger
                .gaps
                .iter()
                .any(|(before, gap)| before < place && (of.len() > 1 || *place <= gap.resumed_after));
            assert!(seen.contains(place) || is_told, "{place} of {of:?} was skipped: {:?}", ledger.gaps);
        }
        assert!(of != ["untouched"] || ledger.gaps.is_empty());
    }
    assert_ne!(broker.retention().counts().trimmed.events, 0);
}

#[tokio::test]
async fn a_reader_that_was_told_of_a_gap_goes_on_exactly_behind_it() {
    let broker = broker();
    for n in 0..2_000 {
        publish(&broker, "t", &n.to_string()).await;
    }
    let (_, mut subscription) = subscribe(&broker, filter(&["t"]), Start::Earliest).await;
    let first = step(&mut subscription).await;
    set(&broker, "t", r#"{"max_events":100}"#).await;
    until(|| kept(&broker, "t") == 100).await;
    let mut said = Vec::new();
    while said.len() < 102 {
        said.extend(step(&mut subscription).await);
    }
    assert!(first.len() < 1_900 && matches!(said[0], Said::Gap(_)), "{:?}", said[0]);
    let expected: Vec<Said> = (1_900..2_000).map(Said::event).collect();
    assert_eq!(said[1..101], expected);
    assert!(matches!(said[101], Said::Live(_)));
}
