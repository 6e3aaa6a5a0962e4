//! A running hub: published to, read, killed and started again.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::adapter::{Adapter, Trim};
use crate::case::{Stop, fail, not_applicable};
use crate::http::{Connection, request};
use crate::launch::{Launch, Running, free_ports};
use crate::publisher::Publisher;
use crate::reader::{Reader, Start};

/// One hub with a port and a directory of its own.
pub(crate) struct Hub<'a> {
    pub(crate) adapter: &'a Adapter,
    launch: &'a dyn Launch,
    running: Mutex<Option<Box<dyn Running>>>,
    ports: [u16; 2],
    place: TempDir,
    topics: AtomicU32,
    /// How long the case that waits for nothing to happen waits.
    pub(crate) idle: Duration,
}

impl<'a> Hub<'a> {
    /// Starts one in an empty directory.
    pub(crate) fn start(adapter: &'a Adapter, launch: &'a dyn Launch, idle: Duration) -> Result<Self> {
        let place = TempDir::with_prefix("sse-resume-conformance-")?;
        std::fs::create_dir(place.path().join("data"))?;
        let hub = Hub {
            adapter,
            launch,
            running: Mutex::new(None),
            ports: free_ports()?,
            place,
            topics: AtomicU32::new(0),
            idle,
        };
        hub.launch()?;
        Ok(hub)
    }

    /// Another one of the same kind, which knows nothing of this one.
    pub(crate) fn another(&self) -> Result<Self> {
        Hub::start(self.adapter, self.launch, self.idle)
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn launch(&self) -> Result<()> {
        let mut running = self.launch.launch(self.adapter, self.ports, &self.data())?;
        let deadline = Instant::now() + self.adapter.patience().max(Duration::from_secs(20));
        while !self.is_ready() {
            if !running.is_alive() {
                bail!("the hub did not start: {}", running.log());
            }
            if Instant::now() > deadline {
                bail!("the hub did not get ready: {}", running.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
        *self.lock() = Some(running);
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&self) -> Result<()> {
        self.lock().take().context("the hub is not running")?.kill()
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) -> Result<()> {
        self.lock().take().context("the hub is not running")?.stop()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn Running>>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        let ask = || {
            let mut connection = Connection::open(self.port(), None)?;
            let bytes = request("GET", &self.adapter.hub.ready, self.port(), &[], b"");
            connection.send(&bytes, Duration::from_secs(5))?;
            connection.head(deadline)
        };
        ask().is_ok_and(|head| head.status < 500)
    }

    /// The name of a topic that nothing was published to.
    pub(crate) fn topic(&self) -> String {
        format!("conformance-{}", self.topics.fetch_add(1, Ordering::SeqCst))
    }

    /// A topic whose history is limited, and how many are kept.
    pub(crate) fn limited_topic(&self) -> Result<(String, &'a Trim), Stop> {
        let Some(trim) = &self.adapter.trim else {
            return not_applicable("the adapter has no way to limit the history");
        };
        let topic = format!("{}{}", trim.topic_prefix, self.topic());
        if let Some(request) = &trim.request {
            let keep = trim.keep.to_string();
            Publisher::new(self).send(request, &[("topic", &topic), ("keep", &keep)])?;
        }
        Ok((topic, trim))
    }

    pub(crate) fn publisher(&self) -> Publisher<'_> {
        Publisher::new(self)
    }

    /// A reader of these topics. It connects when it is first read or opened.
    pub(crate) fn reader(&self, topics: &[&str], start: Start) -> Result<Reader<'_>, Stop> {
        Reader::new(self, topics, start)
    }

    /// Publishes a topic's first event, and gives its id.
    pub(crate) fn seed(&self, topic: &str) -> Result<String, Stop> {
        Ok(self.seed_many(topic, 1, 0)?.remove(0))
    }

    /// Publishes a topic's first events, and gives their ids. The reader comes after the first event if it can begin with the
    /// earliest, since whether one that waits gets the first event is a case of its own.
    pub(crate) fn seed_many(&self, topic: &str, count: u64, bytes: usize) -> Result<Vec<String>, Stop> {
        let mut publisher = self.publisher();
        let mut reader;
        if self.adapter.subscribe.earliest.is_some() {
            publisher.publish(topic, 1, bytes)?;
            reader = self.reader(&[topic], Start::Earliest)?;
        } else {
            reader = self.reader(&[topic], Start::Next)?;
            reader.open()?;
            publisher.publish(topic, 1, bytes)?;
        }
        let mut ids = vec![reader.expect_one(1)?];
        for n in 2..=count {
            publisher.publish(topic, n, bytes)?;
            // Read as they come, so that no hub has to keep many for a reader.
            ids.push(reader.expect_one(n)?);
        }
        if ids.iter().any(String::is_empty) {
            return fail("an event came without an id, so nobody can resume after it");
        }
        Ok(ids)
    }
}
