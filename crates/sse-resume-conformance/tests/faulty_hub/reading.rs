//! One event stream: a page after a cursor, again and again. The faults are where other hubs do it in another way.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::log::{Event, Log, State};

const PAGE: usize = 100;

pub(crate) struct Reading<'a> {
    pub(crate) log: &'a Log,
    pub(crate) fault: Option<Fault>,
    pub(crate) topics: Vec<String>,
    pub(crate) from: String,
    pub(crate) id: String,
    socket: TcpStream,
    cursor: u64,
    /// The head when the reader came.
    came_at: u64,
    /// The end of the replay.
    replay_end: u64,
    replayed: u64,
    /// Where topics begin that the id does not count for.
    others_after: Option<(String, u64)>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        log: &'a Log,
        fault: Option<Fault>,
        topics: Vec<String>,
        from: String,
        id: String,
        socket: TcpStream,
    ) -> Self {
        Reading {
            log,
            fault,
            topics,
            from,
            id,
            socket,
            cursor: 0,
            came_at: 0,
            replay_end: 0,
            replayed: 0,
            others_after: None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Serves the stream until its reader or the hub goes.
    pub(crate) fn serve(mut self, gone: impl Fn() -> bool) -> io::Result<()> {
        let state = self.log.lock();
        let known = state.events.iter().any(|event| self.topics.contains(&event.topic));
        let begin = self.begin(&state);
        (self.came_at, self.replay_end) = (state.head, state.head);
        drop(state);
        let refused = (self.has(Fault::RefusesEmptyTopic) && !known)
            || (self.has(Fault::MalformedRefused) && begin.is_err() && parse_id(&self.id).is_none());
        if refused {
            return self.socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        self.socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        let gap = begin.is_err();
        let head = self.came_at;
        self.cursor = begin.unwrap_or(if self.has(Fault::UnknownIdIsNow) { head } else { 0 });
        if gap && !self.has(Fault::UnknownIdIsNow) {
            self.block("gap", "the id says nothing", self.cursor)?;
        }
        self.tell_trimmed(true)?;
        if self.has(Fault::StartUnnamed) {
            self.socket.write_all(b"event: opened\ndata:\n\n")?;
        } else {
            self.block("opened", "", self.cursor)?;
        }
        if self.has(Fault::OffByOne) && !self.id.is_empty() {
            self.cursor = self.cursor.saturating_sub(1);
        }
        if self.has(Fault::RepeatedAtHandoff) {
            thread::sleep(Duration::from_millis(2));
            self.replay_end = self.log.lock().head;
        }
        self.pages(gone)
    }

    /// The cursor that was asked for, or an error if the id says nothing.
    fn begin(&mut self, state: &State) -> Result<u64, ()> {
        let numbers = || state.events.iter().filter(|e| self.topics.contains(&e.topic)).map(|e| e.number);
        let from = match self.from.parse::<usize>() {
            Ok(count) => numbers().rev().nth(count - 1).map_or(0, |number| number - 1),
            Err(_) if self.from == "earliest" => 0,
            Err(_) => state.head,
        };
        let start_wins = self.has(Fault::StartBeforeId) && !self.from.is_empty();
        if self.id.is_empty() || start_wins {
            return Ok(from);
        }
        let (number, epoch) = parse_id(&self.id).ok_or(())?;
        if (epoch != self.log.epoch && !self.has(Fault::EpochNotLookedAt)) || number > state.head {
            return Err(());
        }
        if self.has(Fault::IdOfOneTopic) {
            let topic = state.events.iter().find(|event| event.number == number).map(|e| e.topic.clone());
            self.others_after = topic.map(|topic| (topic, state.head));
        }
        Ok(number)
    }

    fn pages(&mut self, gone: impl Fn() -> bool) -> io::Result<()> {
        let mut last_event = Instant::now();
        while !gone() {
            self.tell_trimmed(false)?;
            let state = self.log.lock();
            let page = self.page(&state);
            if page.is_empty() {
                if self.has(Fault::IdleForgotten) && last_event.elapsed() > Duration::from_millis(500) {
                    self.cursor = u64::MAX;
                }
                if self.replay_end < u64::MAX {
                    drop(state);
                    self.end_replay();
                } else {
                    drop(self.log.wait(state));
                }
                continue;
            }
            last_event = Instant::now();
            // A hub that holds its lock while it writes makes everybody wait for its slowest reader.
            let held = self.has(Fault::SlowReaderBlocks).then_some(state);
            let began = Instant::now();
            for event in &page {
                self.event(event)?;
                self.cursor = event.number;
                self.replayed += 1;
            }
            drop(held);
            self.behind_page(&page, began)?;
        }
        Ok(())
    }

    fn page(&self, state: &State) -> Vec<Event> {
        if self.has(Fault::NoReplayUntilPublish) && state.head == state.head_at_start {
            return Vec::new();
        }
        let first = state.events.partition_point(|event| event.number <= self.cursor);
        let wanted = |event: &&Event| {
            let missed = matches!(&self.others_after, Some((topic, after)) if *topic != event.topic && event.number <= *after);
            self.topics.contains(&event.topic) && !missed
        };
        let mut page: Vec<Event> = state.events[first..].iter().filter(wanted).take(PAGE).cloned().collect();
        if self.has(Fault::ReplaySorted) && page.last().is_some_and(|event| event.number <= self.came_at) {
            page[..].sort_by(|a, b| a.data.cmp(&b.data));
        }
        page
    }

    /// What goes wrong between two pages.
    fn behind_page(&mut self, page: &[Event], began: Instant) -> io::Result<()> {
        let head = self.log.lock().head;
        if self.has(Fault::LostBehindPage) && page.len() == PAGE {
            self.cursor += 1;
        }
        if self.has(Fault::LiveIdBetweenPages) && head > self.came_at && self.cursor < self.came_at {
            write!(self.socket, "id: {head}-{}\n\n", self.log.epoch)?;
        }
        if self.has(Fault::SlowReaderSkips) && began.elapsed() > Duration::from_millis(200) {
            self.cursor = head;
        }
        if matches!(self.fault, Some(Fault::HistoryCut(events)) if self.replayed >= events)
            && self.cursor < self.came_at
        {
            self.cursor = head;
        }
        if self.cursor >= self.replay_end {
            self.end_replay();
        }
        Ok(())
    }

    /// What goes wrong between the replay and the live stream.
    fn end_replay(&mut self) {
        if std::mem::replace(&mut self.replay_end, u64::MAX) == u64::MAX {
            return;
        }
        if self.has(Fault::RepeatedAtHandoff) {
            self.cursor = self.came_at;
        }
        if self.has(Fault::LostAtHandoff) && !self.id.is_empty() {
            thread::sleep(Duration::from_millis(2));
            self.cursor = self.log.lock().head;
        }
    }

    fn tell_trimmed(&mut self, first: bool) -> io::Result<()> {
        let trimmed = self.log.lock().trimmed.clone();
        let mark = self.topics.iter().filter_map(|topic| trimmed.get(topic)).max().copied().unwrap_or(0);
        let boundary = self.has(Fault::GapAtBoundary) && first && mark > 0 && mark == self.cursor;
        if mark > self.cursor || boundary {
            self.cursor = mark;
            let untold = self.has(Fault::GapUntold) || (self.has(Fault::GapUntoldLater) && !first);
            if !untold {
                self.block("gap", "trimmed", mark)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, kind: &str, data: &str, number: u64) -> io::Result<()> {
        write!(self.socket, "event: {kind}\ndata: {data}\nid: {number}-{}\n\n", self.log.epoch)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut data = event.data.as_str();
        if self.has(Fault::LongDataCut) {
            data = &data[..data.len().min(8192)];
        }
        let normal = data.replace("\r\n", "\n").replace('\r', "\n");
        let data = if self.has(Fault::CrInjected) { data } else { &normal };
        let moved = self.has(Fault::LiveMovesCursor) && event.number <= self.came_at;
        let number = if moved { self.log.lock().head } else { event.number };
        let id = format!("id: {number}-{}\n", self.log.epoch);
        let mut frame = String::new();
        if self.has(Fault::IdBeforeEvent) {
            frame.push_str(&id);
            frame.push('\n');
        }
        for line in data.split('\n') {
            frame.push_str(&format!("data: {line}\n"));
        }
        if !self.has(Fault::IdBeforeEvent) {
            frame.push_str(&id);
        }
        frame.push('\n');
        self.socket.write_all(frame.as_bytes())
    }
}

fn parse_id(id: &str) -> Option<(u64, &str)> {
    let (number, epoch) = id.split_once('-')?;
    Some((number.parse().ok()?, epoch))
}
