//! The events of the last moments, by the patterns that somebody follows.
//!
//! One ring holds recent events that at least one followed pattern matches. Each followed pattern (an *interest*, shared by
//! all who follow it) remembers the places of its events in that ring. So a follower finds what it wants without looking
//! at what it does not want, and an event costs as much as the patterns and followers that match it.
//!
//! Invariants: what is here is durable; `routed` only grows; every interest knows the places of all matching events
//! after `interest.after`, up to `routed`, that were not removed before they were read. A cursor before that, or before an
//! event that has left the ring or was forgotten, reads the log instead.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use event_log::limits::{RECENT_BYTES_MAX, RECENT_EVENTS_MAX, RECENT_PLACES_PER_PATTERN_MAX};
use event_log::{Cursor, Event, Filter, PageLimit, Pattern, Position, Removals};
use slab::Slab;

use crate::followers::{Followers, Place, WakeUps};
use crate::routes::Routes;
use crate::signal::Signal;
use crate::sync::RwLock;

/// An event of the last moments, shared by all who follow it.
#[derive(Debug)]
pub struct Recent {
    /// The event.
    pub event: Arc<Event>,
    /// What a protocol made of it.
    pub memo: Memo,
}

/// Where a protocol keeps what it made of an event, so that it is made once for all readers. The broker never looks in.
#[derive(Debug, Default)]
pub struct Memo {
    /// The event in the protocol's plain form.
    pub plain: OnceLock<Bytes>,
    /// The event in the protocol's form with all its fields.
    pub envelope: OnceLock<Bytes>,
}

/// What a follower found after its cursor.
pub(crate) enum Found {
    /// These; there may be more.
    Events(Vec<Arc<Recent>>),
    /// Nothing up to this place.
    CaughtUp(Position),
    /// The memory does not reach back to the cursor: read the log.
    Behind,
}

/// What a subscription holds of the hub; it lets go when dropped.
pub(crate) struct Follow {
    hub: Arc<Hub>,
    signal: Arc<Signal>,
    /// Interests, and where the follower is in each.
    places: Vec<(usize, Place)>,
}

pub(crate) struct Hub {
    state: RwLock<State>,
}

struct State {
    ring: Ring,
    routed: Position,
    /// Up to here events may have been removed.
    forgotten: Position,
    /// All removals up to this one are forgotten here. A cursor that knows of a later one was told of what it took, and must
    /// not be given any of that afterwards.
    known: Removals,
    /// Removals that the log may have carried out, and that are not forgotten here yet.
    under_way: usize,
    routes: Routes,
    interests: Slab<Interest>,
    numbers: HashMap<Pattern, usize>,
    ended: bool,
}

struct Ring {
    events: VecDeque<Arc<Recent>>,
    /// How many events have left the ring: the number of the first one in it.
    left: u64,
    bytes: usize,
}

struct Interest {
    pattern: Pattern,
    /// Place, and number in the ring.
    places: VecDeque<(Position, u64)>,
    after: Position,
    followers: Followers,
    /// Set while a page is routed, so that its followers are woken once for the page.
    touched: bool,
}

impl Hub {
    pub(crate) fn new(head: Position, removals: Removals) -> Self {
        let ring = Ring { events: VecDeque::new(), left: 0, bytes: 0 };
        let state = State {
            ring,
            routed: head,
            forgotten: Position::ORIGIN,
            known: removals,
            under_way: 0,
            routes: Routes::default(),
            interests: Slab::new(),
            numbers: HashMap::new(),
            ended: false,
        };
        Hub { state: RwLock::new(state) }
    }

    /// Begins to follow a filter's patterns: what is routed from now on is remembered for it.
    pub(crate) fn follow(self: &Arc<Self>, filter: &Filter) -> Follow {
        let signal = Arc::new(Signal::default());
        let mut state = self.state.write();
        let places = filter
            .patterns()
            .iter()
            .map(|pattern| {
                let number = state.interest(pattern);
                (number, state.interests[number].followers.join(Arc::clone(&signal)))
            })
            .collect();
        Follow { hub: Arc::clone(self), signal, places }
    }

    /// Takes durable events in, up to `routed`, and wakes those who follow them.
    pub(crate) fn route(&self, events: Vec<Arc<Event>>, routed: Position) {
        // Those who are woken here look for what is here, so they are when the lock is gone.
        let mut wake_ups = WakeUps::default();
        {
            let mut state = self.state.write();
            let mut touched = Vec::new();
            for event in events {
                state.take_in(event, &mut touched);
            }
            assert!(routed >= state.routed, "routed went back from {} to {routed}", state.routed);
            state.routed = routed;
            for number in touched {
                let interest = &mut state.interests[number];
                interest.touched = false;
                wake_ups.add(&interest.followers);
            }
        }
    }

    /// The log is about to remove something.
    pub(crate) fn begin_removal(&self) {
        self.state.write().under_way += 1;
    }

    /// The log has removed something, or may have: nothing up to a place is served any more, what is left of it is read from
    /// the log. `removals` is the newest one that the log knows of.
    pub(crate) fn end_removal(&self, through: Position, removals: Removals) {
        let mut state = self.state.write();
        state.forgotten = state.forgotten.max(through);
        state.under_way -= 1;
        // Another one may be counted already whose events are still here.
        if state.under_way == 0 {
            state.known = state.known.max(removals);
        }
    }

    /// Ends all who follow, and all who will.
    pub(crate) fn end(&self) {
        self.state.write().ended = true;
        self.wake();
    }

    /// Wakes all who follow.
    pub(crate) fn wake(&self) {
        let mut wake_ups = WakeUps::default();
        for (_, interest) in &self.state.read().interests {
            wake_ups.add(&interest.followers);
        }
    }

    /// Whether somebody follows exactly this pattern.
    pub(crate) fn is_followed(&self, pattern: &Pattern) -> bool {
        self.state.read().numbers.contains_key(pattern)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.read().ended
    }
}

impl State {
    /// The number of a pattern's interest, made if it is the first to ask.
    fn interest(&mut self, pattern: &Pattern) -> usize {
        if let Some(number) = self.numbers.get(pattern) {
            return *number;
        }
        let number = self.interests.insert(Interest {
            pattern: pattern.clone(),
            places: VecDeque::new(),
            after: self.routed,
            followers: Followers::default(),
            touched: false,
        });
        self.routes.insert(pattern, number);
        self.numbers.insert(pattern.clone(), number);
        number
    }

    fn take_in(&mut self, event: Arc<Event>, touched: &mut Vec<usize>) {
        let State { ring, routes, interests, .. } = self;
        let place = (event.position, ring.left + ring.events.len() as u64);
        let mut wanted = false;
        routes.for_each_match(&event.topic, &mut |number| {
            wanted = true;
            let interest = &mut interests[number];
            interest.remember(place, ring.left);
            if !interest.touched {
                interest.touched = true;
                touched.push(number);
            }
        });
        if wanted {
            ring.push(event);
        }
    }
}

impl Ring {
    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(Arc::new(Recent { event, memo: Memo::default() }));
        while self.bytes > RECENT_BYTES_MAX || self.events.len() > RECENT_EVENTS_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.event.weight();
            self.left += 1;
        }
    }

    fn get(&self, number: u64) -> Option<&Arc<Recent>> {
        self.events.get(usize::try_from(number.checked_sub(self.left)?).ok()?)
    }
}

impl Interest {
    fn remember(&mut self, place: (Position, u64), left: u64) {
        self.places.push_back(place);
        while let Some((position, number)) = self.places.front().copied() {
            if number >= left && self.places.len() <= RECENT_PLACES_PER_PATTERN_MAX {
                break;
            }
            self.places.pop_front();
            self.after = position;
        }
    }

    /// The numbers of what comes after a cursor, at most so many; `None` if some of it is not in the ring, or was
    /// forgotten.
    fn after(&self, cursor: Position, count: usize, state: &State) -> Option<impl Iterator<Item = u64>> {
        let begin = self.places.partition_point(|(position, _)| *position <= cursor);
        let mut after = self.places.range(begin..).copied().peekable();
        let is_served = |place: &(Position, u64)| place.0 > state.forgotten && place.1 >= state.ring.left;
        let is_held = cursor >= self.after && after.peek().is_none_or(is_served);
        is_held.then(|| after.take(count).map(|(_, number)| number))
    }
}

impl Follow {
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// What came after a cursor, as far as this is remembered.
    pub(crate) fn after(&self, cursor: Cursor, limit: PageLimit) -> Found {
        let state = self.hub.state.read();
        let Cursor { position: cursor, removals } = cursor;
        let mut numbers: Vec<u64> = Vec::new();
        for (interest, _) in &self.places {
            match state.interests[*interest].after(cursor, limit.events, &state) {
                Some(after) => numbers.extend(after),
                None => return Found::Behind,
            }
        }
        if self.places.len() > 1 {
            // An event that several patterns match comes once.
            numbers.sort_unstable();
            numbers.dedup();
            numbers.truncate(limit.events);
        }
        let mut bytes = 0;
        let mut events = Vec::with_capacity(numbers.len());
        for recent in numbers.into_iter().filter_map(|number| state.ring.get(number)) {
            if bytes >= limit.bytes {
                break;
            }
            bytes += recent.event.weight();
            events.push(Arc::clone(recent));
        }
        match events.is_empty() {
            true => Found::CaughtUp(state.routed.max(cursor)),
            false if removals > state.known => Found::Behind,
            false => Found::Events(events),
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut state = self.hub.state.write();
        let State { interests, routes, numbers, .. } = &mut *state;
        for (number, place) in self.places.drain(..) {
            let interest = &mut interests[number];
            if interest.followers.leave(&place) {
                routes.remove(&interest.pattern);
                numbers.remove(&interest.pattern);
                interests.remove(number);
            }
        }
        if interests.is_empty() {
            // Nobody follows: let go of the events, too.
            state.ring.left += state.ring.events.len() as u64;
            state.ring.events = VecDeque::new();
            state.ring.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests;
