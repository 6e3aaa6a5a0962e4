use event_log::contract::{event, filter};
use event_log::{Timestamp, limits::KIB};
use uuid::Uuid;

use super::*;

const LIMIT: PageLimit = PageLimit { events: 100, bytes: 64 * KIB };

fn durable(topic: &str, position: u64) -> Arc<Event> {
    let place = Position::new(position);
    Arc::new(Event::place(event(topic, &position.to_string()), place, Timestamp::default(), Uuid::nil()))
}

fn route(hub: &Hub, topics: &[&str], first: u64) {
    let events: Vec<_> =
        topics.iter().zip(first..).map(|(topic, position)| durable(topic, position)).collect();
    let last = events.last().unwrap().position;
    hub.route(events, last);
}

fn found(follow: &Follow, after: u64) -> Vec<u64> {
    match follow.after(at(after), LIMIT) {
        Found::Events(events) => events.iter().map(|recent| recent.event.position.get()).collect(),
        Found::CaughtUp(_) => Vec::new(),
        Found::Behind => panic!("behind"),
    }
}

fn at(position: u64) -> Cursor {
    Cursor { position: Position::new(position), removals: Removals::NONE }
}

fn forget_through(hub: &Hub, place: u64) {
    hub.begin_removal();
    hub.end_removal(Position::new(place), Removals::NONE);
}

fn is_behind(follow: &Follow, after: u64) -> bool {
    matches!(follow.after(at(after), LIMIT), Found::Behind)
}

#[test]
fn a_follower_finds_what_its_patterns_match_each_once() {
    let hub = Arc::new(Hub::new(Position::new(10), Removals::NONE));
    let one = hub.follow(&filter(&["a"]));
    let both = hub.follow(&filter(&["a", "*", "b.**"]));
    route(&hub, &["a", "b.c", "a", "c.c", "z"], 11);
    assert_eq!(found(&one, 10), [11, 13]);
    assert_eq!(found(&one, 11), [13]);
    assert_eq!(found(&both, 10), [11, 12, 13, 15]);
    assert!(matches!(one.after(at(13), LIMIT), Found::CaughtUp(place) if place.get() == 15));
}

#[test]
fn what_was_routed_before_somebody_followed_is_read_from_the_log() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    route(&hub, &["a", "a"], 1);
    let late = hub.follow(&filter(&["a"]));
    assert!(is_behind(&late, 1));
    assert!(found(&late, 2).is_empty());
    route(&hub, &["a"], 3);
    assert_eq!(found(&late, 2), [3]);
}

#[test]
fn pages_end_at_their_limits_and_lose_nothing() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let follow = hub.follow(&filter(&["a", "**"]));
    route(&hub, &["a"; 50], 1);
    for limit in [PageLimit { events: 7, bytes: 1_000 }, PageLimit { events: 50, bytes: 5 }] {
        let mut cursor = Position::ORIGIN;
        let mut all = Vec::new();
        while let Found::Events(events) =
            follow.after(Cursor { position: cursor, removals: Removals::NONE }, limit)
        {
            assert!(events.len() <= 7);
            cursor = events.last().unwrap().event.position;
            all.extend(events.iter().map(|recent| recent.event.position.get()));
        }
        assert_eq!(all, (1..=50).collect::<Vec<u64>>());
    }
}

#[test]
fn an_idle_follower_is_not_behind_because_others_were_busy() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let idle = hub.follow(&filter(&["idle"]));
    let busy = hub.follow(&filter(&["busy"]));
    let mut position = 1;
    route(&hub, &["idle"], position);
    for _ in 0..=RECENT_EVENTS_MAX / 1_000 {
        route(&hub, &["busy"; 1_000], position + 1);
        position += 1_000;
    }
    assert!(is_behind(&busy, 0), "the ring has a bound");
    assert!(is_behind(&idle, 0), "its event has left the ring");
    assert!(found(&idle, 1).is_empty(), "nothing of its own was missed");
    route(&hub, &["idle"], position + 1);
    assert_eq!(found(&idle, 1), [position + 1]);
}

#[test]
fn memory_has_a_bound_and_is_given_back_when_nobody_follows() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let follow = hub.follow(&filter(&["a"]));
    for page in 0..80 {
        route(&hub, &["a"; 1_000], page * 1_000 + 1);
    }
    {
        let state = hub.state.read();
        assert!(state.ring.events.len() <= RECENT_EVENTS_MAX && state.ring.bytes <= RECENT_BYTES_MAX);
        assert!(state.interests.iter().all(|(_, i)| i.places.len() <= RECENT_PLACES_PER_PATTERN_MAX));
    }
    drop(follow);
    let state = hub.state.read();
    assert!(state.ring.events.is_empty() && state.interests.is_empty() && state.numbers.is_empty());
}

#[test]
fn events_that_nobody_follows_are_not_kept() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let _follow = hub.follow(&filter(&["a"]));
    route(&hub, &["b"; 100], 1);
    assert!(hub.state.read().ring.events.is_empty());
}

#[test]
fn what_was_forgotten_is_read_from_the_log_and_what_comes_after_it_is_not() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let one = hub.follow(&filter(&["a"]));
    let other = hub.follow(&filter(&["b"]));
    route(&hub, &["a", "b", "a", "a"], 1);
    forget_through(&hub, 3);
    assert!(is_behind(&one, 0) && is_behind(&one, 2));
    assert_eq!(found(&one, 3), [4]);
    assert!(is_behind(&other, 1));
    assert!(found(&other, 2).is_empty(), "nothing of its own was forgotten");
    forget_through(&hub, 1);
    assert!(is_behind(&one, 2), "it is not remembered again");
    // A page that was read before the removal and is routed after it.
    forget_through(&hub, 6);
    route(&hub, &["a", "a", "a"], 5);
    assert!(is_behind(&one, 4) && is_behind(&one, 5));
    assert_eq!(found(&one, 6), [7]);
}

/// A reader that was told of a removal must not be given any of it afterwards: what comes behind that would be missing without a
/// word.
#[test]
fn nothing_is_served_to_who_knows_of_a_removal_that_is_not_forgotten_yet() {
    let hub = Arc::new(Hub::new(Position::ORIGIN, Removals::NONE));
    let follow = hub.follow(&filter(&["a"]));
    route(&hub, &["a", "a", "a"], 1);
    let told = |position: u64, removals| Cursor { position: Position::new(position), removals };
    let is_behind = |cursor| matches!(follow.after(cursor, LIMIT), Found::Behind);
    let (one, two) = (Removals::NONE.next(), Removals::NONE.next().next());
    hub.begin_removal();
    assert!(is_behind(told(1, one)) && !is_behind(told(1, Removals::NONE)));
    assert!(matches!(follow.after(told(3, one), LIMIT), Found::CaughtUp(_)), "there is nothing to serve");
    hub.end_removal(Position::new(1), one);
    assert!(!is_behind(told(1, one)));
    // Of two at once, the one that ends first does not speak for the other.
    hub.begin_removal();
    hub.begin_removal();
    hub.end_removal(Position::new(1), two);
    assert!(is_behind(told(1, two)) && !is_behind(told(1, one)));
    hub.end_removal(Position::new(2), two);
    assert!(is_behind(told(1, two)) && !is_behind(told(2, two)));
}
