//! The events of the hub, in memory and in a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::fault::Fault;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) topic: String,
    pub(crate) data: String,
}

/// All events, and who waits for new ones.
pub(crate) struct Log {
    pub(crate) epoch: String,
    fault: Option<Fault>,
    state: Mutex<State>,
    news: Condvar,
}

pub(crate) struct State {
    pub(crate) events: Vec<Event>,
    /// The newest number.
    pub(crate) head: u64,
    /// What the log held when it was opened.
    pub(crate) head_at_start: u64,
    next: u64,
    keep: BTreeMap<String, usize>,
    /// The newest number that was trimmed, by topic.
    pub(crate) trimmed: BTreeMap<String, u64>,
    file: Option<File>,
    unwritten: Vec<u8>,
}

impl Log {
    pub(crate) fn open(folder: &Path, fault: Option<Fault>) -> Self {
        let path = folder.join("events");
        let mut lines = Vec::new();
        if let Ok(file) = File::open(&path) {
            lines = BufReader::new(file).lines().map(Result::unwrap).collect();
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        if lines.is_empty() {
            lines.push(format!("{:08x}", rand::random::<u32>()));
            writeln!(file, "{}", lines[0]).unwrap();
        }
        let mut events: Vec<Event> = lines[1..].iter().map(|line| parse(line)).collect();
        if fault == Some(Fault::IdsUsedAgain) {
            events.clear();
        }
        let head = events.last().map_or(0, |event| event.number);
        let anew = fault == Some(Fault::NewEpochAtStart);
        let epoch = if anew { format!("{:08x}", rand::random::<u32>()) } else { lines[0].clone() };
        let state = State {
            events,
            head,
            head_at_start: head,
            next: head + 1,
            keep: BTreeMap::new(),
            trimmed: BTreeMap::new(),
            file: Some(file),
            unwritten: Vec::new(),
        };
        Log { epoch, fault, state: Mutex::new(state), news: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits a moment for new events.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.news.wait_timeout(state, Duration::from_millis(20)).unwrap().0
    }

    /// Whether the event may be acknowledged.
    pub(crate) fn publish(&self, topic: &str, data: &str) -> bool {
        let mut state = self.lock();
        if state.file.is_none() {
            return false;
        }
        let number = state.next;
        let event = Event { number, topic: topic.to_owned(), data: data.to_owned() };
        let line = format!("{number} {topic} {}\n", serde_json::to_string(data).unwrap());
        state.next += 1;
        if self.fault == Some(Fault::VisibleBeforeWritten) {
            state.show(event);
            self.news.notify_all();
            drop(state);
            thread::sleep(Duration::from_millis(3));
            return self.lock().write(line.as_bytes());
        }
        if self.fault == Some(Fault::AcknowledgedBeforeWritten) {
            state.unwritten.extend_from_slice(line.as_bytes());
            if state.unwritten.len() > 20_000 {
                let unwritten = std::mem::take(&mut state.unwritten);
                state.write(&unwritten);
            }
        } else if !state.write(line.as_bytes()) {
            return false;
        }
        state.show(event);
        self.news.notify_all();
        true
    }

    pub(crate) fn limit(&self, topic: &str, keep: usize) {
        self.lock().keep.insert(topic.to_owned(), keep);
    }

    /// Nothing is written from now on; what was not written yet is, unless it is a crash.
    pub(crate) fn close(&self, crash: bool) {
        let mut state = self.lock();
        let unwritten = std::mem::take(&mut state.unwritten);
        if !crash {
            state.write(&unwritten);
        }
        state.file = None;
        self.news.notify_all();
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.file.as_mut().is_some_and(|file| file.write_all(bytes).is_ok())
    }

    fn show(&mut self, event: Event) {
        self.head = event.number;
        let topic = event.topic.clone();
        self.events.push(event);
        let Some(keep) = self.keep.get(&topic) else { return };
        let held = self.events.iter().filter(|event| event.topic == topic).count();
        if held > *keep {
            let oldest = self.events.iter().position(|event| event.topic == topic).unwrap();
            let number = self.events.remove(oldest).number;
            self.trimmed.insert(topic, number);
        }
    }
}

fn parse(line: &str) -> Event {
    let mut parts = line.splitn(3, ' ');
    let number = parts.next().unwrap().parse().unwrap();
    let topic = parts.next().unwrap().to_owned();
    Event { number, topic, data: serde_json::from_str(parts.next().unwrap()).unwrap() }
}
