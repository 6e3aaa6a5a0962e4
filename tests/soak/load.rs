//! The publishers: each feeds lanes of its own, insists over every crash, and records where its events came to lie.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::stream::{Publisher, sequence};
use crate::harness::{Connection, Request};
use crate::lanes::{Bodies, Feed, LANES};
use crate::ledger::Published;

/// Longest that a publisher waits for a broker that was killed.
const ABSENCE_MAX: Duration = Duration::from_secs(60);

/// What all threads of a run share.
pub(crate) struct Run {
    pub(crate) port: u16,
    pub(crate) bodies: Bodies,
    pub(crate) lanes: Vec<Mutex<Published>>,
    /// Nothing more is published.
    pub(crate) over: AtomicBool,
    /// Something was wrong: everybody stops.
    pub(crate) failed: AtomicBool,
    wrong: Mutex<Vec<String>>,
    pub(crate) published: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) missing: AtomicU64,
    /// Microseconds of the requests with one event since the last sample, and of those with a batch.
    pub(crate) singles: Mutex<Vec<u32>>,
    pub(crate) batches: Mutex<Vec<u32>>,
}

/// Takes a lock that a thread which failed may have left behind: the run is failing anyway.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    pub(crate) fn new(port: u16) -> Self {
        let lane = |lane: &crate::lanes::Lane| Published::new(lane.keys.filter(|_| lane.is_compacted));
        Run {
            port,
            bodies: Bodies::load(),
            lanes: LANES.iter().map(lane).map(Mutex::new).collect(),
            over: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            wrong: Mutex::default(),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            singles: Mutex::default(),
            batches: Mutex::default(),
        }
    }

    /// Notes that a promise was broken, and ends the run.
    pub(crate) fn fail(&self, who: &str, what: &str) {
        locked(&self.wrong).push(format!("{who}: {what}"));
        self.failed.store(true, Ordering::SeqCst);
        self.over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        locked(&self.wrong).clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

/// One request with events of one lane.
struct Load {
    lane: usize,
    first: u64,
    count: u64,
    body: String,
}

impl Load {
    fn next(run: &Run, lane: usize) -> Self {
        let about = &LANES[lane];
        let count = if let Feed::Batch(count) = about.feed { count } else { 1 };
        let first = locked(&run.lanes[lane]).assign(count);
        let mut body = String::new();
        for number in first..first + count {
            let (kind, data) = run.bodies.event(lane, number, first);
            if matches!(about.feed, Feed::Batch(_)) {
                let key = key_of(lane, number).map_or(String::new(), |key| format!("\"key\":\"{key}\","));
                body +=
                    &format!("{{\"topic\":\"{}\",\"type\":\"{kind}\",{key}\"data\":{data}}}\n", about.topic);
            } else {
                body = data;
            }
        }
        Load { lane, first, count, body }
    }

    fn send(&self, publisher: &mut Publisher) -> std::io::Result<(u16, Vec<u8>)> {
        let topic = LANES[self.lane].topic;
        if matches!(LANES[self.lane].feed, Feed::Batch(_)) {
            return publisher.post_batch(self.body.as_bytes());
        }
        let key = key_of(self.lane, self.first).map_or(String::new(), |key| format!("?key={key}"));
        let target = format!("/v1/topics/{topic}/events{key}");
        let header = format!("Idempotency-Key: {topic}-{}\r\n", self.first);
        publisher.post(&target, &header, self.body.as_bytes())
    }

    /// The first place, from an answer.
    fn place_of(&self, body: &[u8]) -> Result<u64, String> {
        let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let Some(events) = answer["events"].as_array() else {
            return answer["sequence"].as_u64().ok_or_else(|| format!("no sequence in {answer}"));
        };
        let places: Vec<u64> = events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
        let are_neighbours = places.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        if places.len() as u64 != self.count || !are_neighbours {
            return Err(format!("a batch of {} was answered with {places:?}", self.count));
        }
        Ok(places[0])
    }
}

/// Keys come round and round, so that it is known from a number which one supersedes it.
fn key_of(lane: usize, number: u64) -> Option<String> {
    LANES[lane].keys.map(|keys| format!("k{}", number % keys))
}

/// Feeds lanes in turn until the run is over.
pub(crate) fn feed(run: &Run, lanes: &[usize]) {
    let mut connection = None;
    for lane in lanes.iter().copied().cycle() {
        if run.is_over() {
            return;
        }
        let load = Load::next(run, lane);
        match insist(run, &mut connection, &load) {
            Ok(place) => {
                locked(&run.lanes[lane]).record(load.first, place, load.count);
                run.published.fetch_add(load.count, Ordering::Relaxed);
            }
            Err(wrong) => return run.fail(&format!("publisher of {}", LANES[lane].topic), &wrong),
        }
        if LANES[lane].feed == Feed::Slow {
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Sends until it is known where the events lie: an answer that a crash took is looked up.
fn insist(run: &Run, connection: &mut Option<Publisher>, load: &Load) -> Result<u64, String> {
    let deadline = Instant::now() + ABSENCE_MAX;
    while Instant::now() < deadline {
        let Some(publisher) = connection.as_mut() else {
            *connection = Publisher::connect(run.port).ok();
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let began = Instant::now();
        match load.send(publisher) {
            Ok((200 | 201, body)) => {
                let times = if load.count == 1 { &run.singles } else { &run.batches };
                locked(times).push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
                return load.place_of(&body);
            }
            Ok((503, _)) => thread::sleep(Duration::from_millis(20)),
            Ok((status, body)) => {
                return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
            }
            Err(_) => {
                *connection = None;
                // A single event is sent again with its idempotency key. A batch has none: the topic's last place tells.
                if load.count > 1 {
                    let before = locked(&run.lanes[load.lane]).last_sequence();
                    let last = last_place(run.port, LANES[load.lane].topic)?;
                    if last > before {
                        return Ok(last + 1 - load.count);
                    }
                }
            }
        }
    }
    Err(format!("no answer within {ABSENCE_MAX:?}"))
}

/// The place of a topic's newest event, asked until there is an answer; 0 if it never had one.
fn last_place(port: u16, topic: &str) -> Result<u64, String> {
    let deadline = Instant::now() + ABSENCE_MAX;
    while Instant::now() < deadline {
        match ask(port, &Request::page(&format!("/v1/topics/{topic}"))) {
            Some((200, body)) => {
                let told: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
                let id = told["last_id"].as_str().ok_or_else(|| format!("no last id in {told}"))?;
                return Ok(sequence(id.as_bytes()));
            }
            Some((404, _)) => return Ok(0),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
    Err(format!("nobody told of {topic} within {ABSENCE_MAX:?}"))
}

/// The status and the body of an answer, if a whole one comes.
pub(crate) fn ask(port: u16, request: &Request) -> Option<(u16, Vec<u8>)> {
    let mut connection = Connection::try_open(port).ok()?;
    connection.send(&request.bytes(port));
    let head = connection.try_head(false).ok()?;
    let mut body = Vec::new();
    while let Some(piece) = connection.piece(crate::harness::PATIENCE).ok()? {
        body.extend(piece);
    }
    Some((head.status, body))
}

/// Deletes keys of which nothing else is published, so that tombstones are among what compaction sees.
pub(crate) fn bury(run: &Run) {
    let mut number = 0;
    while !run.is_over() {
        let target = format!("/v1/topics/soak.state.graves/keys/k{}", number % 50);
        drop(ask(run.port, &Request::new("DELETE", &target)));
        number += 1;
        thread::sleep(Duration::from_millis(50));
    }
}
