//! Policies are what the events of `$broker.policies` say, in their order.

use std::sync::Arc;
use std::task::{Context, Waker};

use broker::{ActError, Broker, Policy};
use event_log::contract::{WINDOW, clock, event, everything, filter};
use event_log::memory::MemoryLog;
use event_log::{Batch, Event, Key, NewEvent, Pattern, Topic};
use futures_util::FutureExt;
use serde_json::Value;

use crate::support::{broker, publish, start};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.to_owned()).unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

fn max_events(count: usize) -> Policy {
    policy(&format!(r#"{{"max_events":{count}}}"#))
}

async fn set(broker: &Broker, of: &str, policy: &Policy) {
    broker.set_policy(&pattern(of), policy).await.unwrap();
}

/// The policies that hold, each as an operator sees it.
async fn listed(broker: &Broker) -> Vec<String> {
    let policies = broker.policies().await.unwrap();
    policies.iter().map(|stated| serde_json::to_string(&stated).unwrap()).collect()
}

fn events_on(broker: &Broker, name: &str) -> Vec<Arc<Event>> {
    let wanted = filter(&[name]);
    everything(&**broker.log()).into_iter().filter(|event| wanted.wants(event)).collect()
}

#[tokio::test]
async fn every_change_is_an_event() {
    let broker = broker();
    set(&broker, "a.**", &policy(r#"{"max_events":"5","max_age":"7d"}"#)).await;
    set(&broker, "a.**", &max_events(6)).await;
    assert_eq!(broker.remove_policy(&pattern("a.**")).await.unwrap(), Some(max_events(6)));
    assert_eq!(broker.remove_policy(&pattern("a.**")).await.unwrap(), None, "there is none any more");
    let events = events_on(&broker, "$broker.policies");
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.type_name(), event.key.as_ref().unwrap().as_str(), event.data.as_str()))
        .collect();
    let expected = [
        ("policy", "a.**", r#"{"pattern":"a.**","max_age":"7d","max_events":"5"}"#),
        ("policy", "a.**", r#"{"pattern":"a.**","max_events":6}"#),
        ("$delete", "a.**", r#"{"key":"a.**"}"#),
    ];
    assert_eq!(told, expected);
    assert!(listed(&broker).await.is_empty());
}

#[tokio::test]
async fn policies_survive_a_restart() {
    let log = MemoryLog::new(clock(), WINDOW);
    let broker = start(Arc::new(log.clone()));
    let long = "x".repeat(512);
    // More changes than are read at a time, of which the last one of each pattern holds.
    for n in 0..700 {
        set(&broker, &format!("t{}", n % 7), &max_events(n)).await;
    }
    set(&broker, &long, &policy(r#"{"max_bytes":"1GiB","compact":"key"}"#)).await;
    broker.remove_policy(&pattern("t3")).await.unwrap();
    let before = listed(&broker).await;
    assert_eq!(before.len(), 7);
    assert!(before[0].contains("693") && before[6].contains("1GiB"), "{before:?}");
    broker.stop().await;
    let again = start(Arc::new(log.reopened()));
    assert_eq!(listed(&again).await, before);
}

/// Two who change the same policy at once, and a reader of the events, agree on what holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_that_race_hold_in_the_order_of_the_log() {
    let broker = broker();
    let changers: Vec<_> = (0..4)
        .map(|changer| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    match (changer + n) % 3 {
                        0 => drop(broker.remove_policy(&pattern("a")).await.unwrap()),
                        _ => set(&broker, "a", &max_events(changer * 1_000 + n)).await,
                    }
                    publish(&broker, "other", "x").await;
                }
            })
        })
        .collect();
    for changer in changers {
        changer.await.unwrap();
    }
    let last = events_on(&broker, "$broker.policies").pop().unwrap();
    let expected: Vec<String> = match last.type_name() {
        "$delete" => vec![],
        _ => vec![last.data.as_str().to_owned()],
    };
    assert_eq!(listed(&broker).await, expected);
}

#[tokio::test]
async fn a_change_that_nobody_waits_for_any_more_holds_once_it_is_in_the_log() {
    let broker = broker();
    let of = pattern("a");
    let to = max_events(5);
    let mut change = Box::pin(broker.set_policy(&of, &to));
    // The model's append is carried out when it is asked for; the change is dropped before it could learn of it.
    let _ = change.poll_unpin(&mut Context::from_waker(Waker::noop()));
    drop(change);
    assert_eq!(listed(&broker).await, [r#"{"pattern":"a","max_events":5}"#]);
    // The same, by somebody who only appends.
    let appended = NewEvent {
        key: Some(Key::parse("b").unwrap()),
        ..event("$broker.policies", r#"{"pattern":"b","max_age":1}"#)
    };
    broker.publish(Batch::new(vec![appended])).await.unwrap();
    assert_eq!(listed(&broker).await[1], r#"{"pattern":"b","max_age":1}"#);
}

#[tokio::test]
async fn the_broker_s_own_topics_take_no_policy() {
    let broker = broker();
    for own in ["$broker.**", "$broker.policies", "$other.*", "$x"] {
        let refused = broker.set_policy(&pattern(own), &Policy::default()).await.unwrap_err();
        assert!(matches!(&refused, ActError::Refused(_)), "{own}");
        assert!(refused.to_string().contains("keep everything"), "{refused}");
        let tried = broker.try_policy(&pattern(own), &Policy::default()).await;
        assert!(matches!(tried, Err(ActError::Refused(_))));
    }
    assert!(events_on(&broker, "$broker.**").is_empty());
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_keeps_what_it_governs() {
    let log = MemoryLog::new(clock(), WINDOW);
    let broker = start(Arc::new(log.clone()));
    set(&broker, "**", &max_events(7)).await;
    let of_a_later_version = NewEvent {
        key: Some(Key::parse("a.*").unwrap()),
        ..event("$broker.policies", r#"{"pattern":"a.*","max_moons":5}"#)
    };
    broker.publish(Batch::new(vec![of_a_later_version, event("$broker.policies", "no key")])).await.unwrap();
    for broker in [broker, start(Arc::new(log.reopened()))] {
        let policies = broker.policies().await.unwrap();
        let governing =
            |name: &str| policies.governing(&Topic::parse(name.to_owned()).unwrap()).unwrap().policy;
        assert_eq!(*governing("a.b"), Policy::default());
        assert_eq!(*governing("a.b.c"), max_events(7));
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    let broker = broker();
    for n in 0..300 {
        publish(&broker, ["a.x", "a.y", "b"][n % 3], "four").await;
    }
    set(&broker, "a.y", &policy("{}")).await;
    let before = broker.log().bounds();
    let keyed = NewEvent { key: Some(Key::parse("k").unwrap()), ..event("a.x", "four") };
    broker.publish(Batch::new(vec![keyed.clone(), keyed])).await.unwrap();
    // `a.x` weighs 7 bytes an event, 8 with the key; `a.y` has a policy that is more specific.
    let tried = async |of: &str, text: &str| {
        let removed = broker.try_policy(&pattern(of), &policy(text)).await.unwrap();
        (removed.events, removed.bytes)
    };
    assert_eq!(tried("a.*", r#"{"max_events":2}"#).await, (100, 700));
    assert_eq!(tried("a.*", r#"{"compact":"key"}"#).await, (1, 8));
    assert_eq!(tried("a.*", r#"{"max_events":0,"compact":"key"}"#).await, (102, 716), "counted once");
    assert_eq!(tried("a.*", "{}").await, (0, 0));
    assert_eq!(tried("a.y", r#"{"max_bytes":70}"#).await, (90, 630));
    assert_eq!(tried("**", r#"{"max_events":0}"#).await, (202, 102 * 7 + 2 + 100 * 5), "not of a.y");
    assert_eq!(broker.log().bounds().events, before.events + 2);
    assert_eq!(listed(&broker).await, [r#"{"pattern":"a.y"}"#]);
}

#[tokio::test]
async fn a_dry_run_of_taking_a_policy_away_tells_what_a_broader_one_would_remove() {
    let broker = broker();
    for n in 0..60 {
        publish(&broker, ["a", "b"][n % 2], "four").await;
    }
    set(&broker, "a", &policy("{}")).await;
    set(&broker, "b", &policy("{}")).await;
    set(&broker, "*", &max_events(10)).await;
    let without = async |of: &str| {
        let removed = broker.try_without_policy(&pattern(of)).await.unwrap();
        removed.map(|removed| (removed.events, removed.bytes))
    };
    assert_eq!(without("a").await, Some((20, 100)));
    assert_eq!(without("*").await, Some((0, 0)));
    assert_eq!(without("c").await, None, "it has none");
    assert_eq!(listed(&broker).await.len(), 3);
}

#[tokio::test]
async fn a_purge_removes_what_was_there_and_is_an_event() {
    let broker = broker();
    let topic = Topic::parse("a").unwrap();
    assert_eq!(broker.purge(&topic).await.unwrap(), None);
    assert_eq!(broker.try_purge(&topic), None);
    assert!(events_on(&broker, "$broker.**").is_empty(), "an unknown topic is not purged");
    let mut last = publish(&broker, "a", "four").await;
    for _ in 0..249 {
        publish(&broker, "other", "kept").await;
        last = publish(&broker, "a", "four").await;
    }
    let tried = broker.try_purge(&topic).unwrap();
    assert_eq!((tried.events, tried.bytes), (250, 1_250));
    let purged = broker.purge(&topic).await.unwrap().unwrap();
    assert_eq!((purged.events, purged.bytes, purged.more), (250, 1_250, false), "to its end");
    let stats = broker.log().topic(&topic).unwrap();
    assert_eq!((stats.events, stats.first, stats.last), (0, None, last), "it is remembered");
    assert_eq!(broker.log().bounds().events, 249 + 1);
    let told = events_on(&broker, "$broker.purges").pop().unwrap();
    assert_eq!((told.type_name(), told.key.as_ref().unwrap().as_str()), ("purge", "a"));
    let through = broker.epochs().id(last);
    let data = format!(r#"{{"topic":"a","through":"{through}","events":250,"bytes":1250}}"#);
    assert_eq!(told.data.as_str(), data);
    assert!(serde_json::from_str::<Value>(&data).is_ok());
    let again = broker.purge(&topic).await.unwrap().unwrap();
    assert_eq!((again.events, again.bytes), (0, 0));
}
