//! Reading as a browser's `EventSource` does: over all reconnects, each with the id that the reader has by then.

use std::fmt;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Stop, fail, not_applicable};
use crate::hub::Hub;
use crate::payload::read;
use crate::sse::SseEvent;
use crate::stream::{Opened, Stream};
use crate::template::fill;

/// How often a reader comes back without getting anything before it gives up.
const FRUITLESS_MAX: u32 = 4;

/// Where a reading begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// With what happens next.
    Next,
    /// With the oldest event kept.
    Earliest,
    /// With the last so many.
    Last(u64),
    /// After the event of this id.
    After(&'a str),
}

impl fmt::Display for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Next | Start::After(_) => f.write_str("what happens next"),
            Start::Earliest => f.write_str("the earliest event"),
            Start::Last(count) => write!(f, "the last {count} events"),
        }
    }
}

/// A reader of some topics.
pub(crate) struct Reader<'a> {
    hub: &'a Hub<'a>,
    path: String,
    id: String,
    stream: Option<Box<Stream>>,
    receive_bytes: Option<usize>,
    fruitless: u32,
    /// How often it connected.
    pub(crate) connections: u32,
}

/// What a reader is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A published event: its topic, its number in it, and the id that the reader has after it.
    Event { topic: String, n: u64, id: String },
    /// The hub says that history is missing.
    Gap(String),
}

/// What may differ from the events that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// Nothing.
    Exactly,
    /// Events may come again: only losses count.
    Losses,
    /// Events may be missing: only those that come again, or too early, count.
    Repeats,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(hub: &'a Hub<'a>, topics: &[&str], start: Start) -> Result<Self, Stop> {
        let subscribe = &hub.adapter.subscribe;
        let (template, count, id) = match start {
            Start::Next => (Some(&subscribe.path), 0, ""),
            Start::After(id) => (Some(&subscribe.path), 0, id),
            Start::Earliest => (subscribe.earliest.as_ref(), 0, ""),
            Start::Last(count) => (subscribe.last.as_ref(), count, ""),
        };
        let Some(template) = template else {
            return not_applicable(format!("the adapter has no path that begins with {start}"));
        };
        let topics = topics.iter().map(|topic| fill(&subscribe.topic, &[("topic", topic)]));
        let topics = topics.collect::<anyhow::Result<Vec<_>>>()?.join(&subscribe.separator);
        let path = fill(template, &[("topics", &topics), ("count", &count.to_string())])?;
        Ok(Reader {
            hub,
            path,
            id: id.to_owned(),
            stream: None,
            receive_bytes: None,
            fruitless: 0,
            connections: 0,
        })
    }

    /// Makes it one whose side keeps little, so that a hub feels it when nothing is read.
    pub(crate) fn slow(mut self) -> Self {
        self.receive_bytes = Some(4096);
        self
    }

    /// The id that it would come back with now.
    pub(crate) fn id(&self) -> &str {
        self.stream.as_ref().map_or(&self.id, |stream| stream.last_event_id())
    }

    /// The longest time without a byte on its present connection.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.stream.as_ref().map(|stream| stream.silence())
    }

    /// Ends its connection, so that it comes back when it is read again.
    pub(crate) fn cut(&mut self) {
        self.id = self.id().to_owned();
        self.stream = None;
    }

    /// Connects, and waits until the hub has said that the stream is open: by the head of its answer, and by an event if it
    /// has one for it.
    pub(crate) fn open(&mut self) -> Result<(), Stop> {
        let deadline = Instant::now() + self.hub.adapter.patience();
        self.connect(deadline)?;
        let (Some(stream), Some(opened)) = (&mut self.stream, &self.hub.adapter.subscribe.opened) else {
            return Ok(());
        };
        match stream.next(deadline) {
            Ok(Some(event)) if event.kind == *opened => Ok(()),
            other => fail(format!("{opened} was due at the beginning of a stream, and came {other:?}")),
        }
    }

    /// Connects, and waits for the head of the answer only.
    pub(crate) fn connect_now(&mut self) -> Result<(), Stop> {
        self.connect(Instant::now() + self.hub.adapter.patience())
    }

    fn connect(&mut self, deadline: Instant) -> Result<(), Stop> {
        loop {
            match Stream::open(self.hub, &self.path, &self.id, self.receive_bytes) {
                Ok(Opened::Stream(stream)) => {
                    self.connections += 1;
                    self.stream = Some(stream);
                    return Ok(());
                }
                Ok(Opened::Refused(head)) => {
                    let (status, kind) =
                        (head.status, head.header("content-type").unwrap_or("without a type"));
                    return fail(format!(
                        "a stream was answered {status} ({kind}), which ends an EventSource for good"
                    ));
                }
                Err(error) if Instant::now() > deadline => return fail(format!("no stream came: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The next event that was published, or gap that is told; none when nothing came in time, or when the hub ends each
    /// connection without giving anything.
    pub(crate) fn next_by(&mut self, deadline: Instant) -> Result<Option<Item>, Stop> {
        loop {
            let Some(stream) = &mut self.stream else {
                if self.fruitless > FRUITLESS_MAX {
                    return Ok(None);
                }
                self.connect(deadline)?;
                continue;
            };
            match stream.next(deadline) {
                Ok(Some(event)) if self.hub.adapter.is_gap(&event.kind) => {
                    self.fruitless = 0;
                    return Ok(Some(Item::Gap(event.data)));
                }
                Ok(Some(event)) if self.hub.adapter.is_control(&event.kind) => {}
                Ok(Some(event)) => {
                    self.fruitless = 0;
                    let (topic, n) = read(&event.data).map_err(Stop::Failed)?;
                    return Ok(Some(Item::Event { topic: topic.to_owned(), n, id: event.id }));
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                // A browser comes back after an end and after a broken connection.
                Ok(None) | Err(_) => {
                    self.fruitless += 1;
                    self.cut();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// The same, with the patience that the adapter asks for.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Stop> {
        self.next_by(Instant::now() + self.hub.adapter.patience())
    }

    /// The next event, which must be this one; gives its id.
    pub(crate) fn expect_one(&mut self, n: u64) -> Result<String, Stop> {
        self.expect(n..=n)?;
        Ok(self.id().to_owned())
    }

    /// The next events, which must be exactly these.
    pub(crate) fn expect(&mut self, wanted: RangeInclusive<u64>) -> Result<(), Stop> {
        self.expect_as(wanted, Judge::Exactly)
    }

    /// The next events, which must be these as far as they are judged.
    pub(crate) fn expect_as(&mut self, wanted: RangeInclusive<u64>, judge: Judge) -> Result<(), Stop> {
        let (mut due, last) = (*wanted.start(), *wanted.end());
        let named = if due == last { format!("wanted {due}") } else { format!("wanted {due}..={last}") };
        while due <= last {
            match self.next()? {
                Some(Item::Event { n, .. }) if n == due => due += 1,
                Some(Item::Event { n, .. }) if n < due && judge == Judge::Losses => {}
                Some(Item::Event { n, .. }) if n > due && judge == Judge::Repeats => due = n + 1,
                Some(Item::Event { n, .. }) if n < due => {
                    return fail(format!("{named}: {n} came where {due} was due, again or too early"));
                }
                Some(Item::Event { n, .. }) => {
                    return fail(format!("{named}: {n} came where {due} was due, {} are missing", n - due));
                }
                Some(Item::Gap(text)) => {
                    return fail(format!("{named}: before {due} a gap was told: {text}"));
                }
                None => {
                    let came = due - wanted.start();
                    let times = self.connections;
                    return fail(match self.stream {
                        Some(_) => format!("{named}: nothing came after {came} of them"),
                        None => {
                            format!("{named}: the stream ended after {came} of them, {times} times in all")
                        }
                    });
                }
            }
        }
        Ok(())
    }

    /// How long anything may take.
    pub(crate) fn patience(&self) -> Duration {
        self.hub.adapter.patience()
    }

    /// Its stream, which is opened if there is none.
    pub(crate) fn connected(&mut self) -> Result<&mut Stream, Stop> {
        if self.stream.is_none() {
            self.connect_now()?;
        }
        match &mut self.stream {
            Some(stream) => Ok(stream),
            None => fail("no stream came"),
        }
    }

    /// The next event that was published, whatever its data; none when nothing came. It does not come back.
    pub(crate) fn raw_event(&mut self) -> Result<Option<SseEvent>, Stop> {
        let deadline = Instant::now() + self.patience();
        let hub = self.hub;
        let stream = self.connected()?;
        loop {
            match stream.next(deadline) {
                Ok(Some(event)) if hub.adapter.is_control(&event.kind) => {}
                Ok(event) => return Ok(event),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The id of the next event, which must be this one, unless an earlier one comes again; none when its connection breaks. It
    /// does not come back.
    pub(crate) fn id_until_broken(&mut self, n: u64) -> Result<Option<String>, Stop> {
        let deadline = Instant::now() + self.hub.adapter.patience();
        while let Some(stream) = &mut self.stream {
            match stream.next(deadline) {
                Ok(Some(event)) if self.hub.adapter.is_control(&event.kind) => {}
                Ok(Some(event)) => {
                    let (_, came) = read(&event.data).map_err(Stop::Failed)?;
                    if came < n {
                        continue;
                    }
                    if came != n {
                        return fail(format!("{came} came where {n} was due"));
                    }
                    return Ok(Some(event.id));
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return fail(format!("{n} never came")),
                Ok(None) | Err(_) => self.stream = None,
            }
        }
        Ok(None)
    }

    /// All up to a topic's event `last`, in the order in which it came.
    pub(crate) fn until(&mut self, last: u64) -> Result<Vec<Item>, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Some(item) => {
                    let done = matches!(item, Item::Event { n, .. } if n == last);
                    items.push(item);
                    if done {
                        return Ok(items);
                    }
                }
                None => return fail(format!("{last} never came; {} came before", shown(&items))),
            }
        }
    }
}

/// What came, for a message of one line: runs of numbers, and gaps.
pub(crate) fn shown(items: &[Item]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut run: Option<(u64, u64)> = None;
    let text = |(first, last): (u64, u64)| {
        if first == last { format!("{first}") } else { format!("{first}..={last}") }
    };
    for item in items {
        match (item, run) {
            (Item::Event { n, .. }, Some((first, last))) if *n == last + 1 => run = Some((first, *n)),
            (Item::Event { n, .. }, _) => parts.extend(run.replace((*n, *n)).map(text)),
            (Item::Gap(_), _) => {
                parts.extend(run.take().map(text));
                parts.push("a gap".to_owned());
            }
        }
    }
    parts.extend(run.map(text));
    match parts.len() {
        0 => "nothing".to_owned(),
        1..=6 => parts.join(", "),
        more => format!("{}, … ({more} pieces)", parts[..6].join(", ")),
    }
}
