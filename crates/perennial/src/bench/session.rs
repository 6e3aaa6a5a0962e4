//! What one run stands on: a broker that answers, a topic, and the threads that do the work.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::runtime::{Builder, Handle, Runtime};

use super::http::Address;
use super::payload::Payload;
use crate::cli::BenchOptions;
use crate::client::http::{Refused, Server};
use crate::open_files;

/// Open files beside connections: standard ones, results, and what the runtimes need.
const OTHER_FILES: u64 = 64;

/// The threads of a run: as many as there are to do the work, and one that keeps the time.
///
/// The timekeeper drives the run, and publishes at rates. It has a thread of its own so that neither waits until thousands
/// of readers had their turn.
pub(super) struct Threads {
    count: usize,
    working: Runtime,
    pub(super) timing: Runtime,
}

impl Threads {
    /// Half of the processors work, if nothing else is asked for: a broker on the same machine needs the others.
    pub(super) fn start(asked: Option<usize>) -> anyhow::Result<Self> {
        let half = available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
        let count = asked.unwrap_or(half);
        let runtime = |threads: usize| {
            let built = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
            built.context("the threads cannot be started")
        };
        Ok(Threads { count, working: runtime(count)?, timing: runtime(1)? })
    }
}

/// Makes sure that so many connections can be open at one time.
pub(super) fn make_room(connections: usize) -> anyhow::Result<()> {
    let limit = open_files::raise_limit().context("the limit of open files cannot be raised")?;
    let needed = connections as u64 + OTHER_FILES;
    ensure!(
        needed <= limit,
        "{connections} connections need {needed} open files, and this process may have {limit}: raise the hard limit \
         (ulimit -Hn, or LimitNOFILE of the service), or ask for fewer"
    );
    Ok(())
}

/// What all of a run share.
pub(super) struct Session {
    pub(super) server: Server,
    pub(super) address: Address,
    pub(super) broker_version: String,
    pub(super) topic: String,
    /// Nobody had published to the topic, so that its events are ours to purge.
    is_new: bool,
    keep: bool,
    pub(super) payload: Payload,
    /// Threads that work.
    pub(super) threads: usize,
    pub(super) working: Handle,
    pub(super) timing: Handle,
    begun: Instant,
}

impl Session {
    /// Asks the broker how it is, and what the topic holds.
    pub(super) async fn open(options: &BenchOptions, threads: &Threads) -> anyhow::Result<Self> {
        let server = Server::new(&options.server)?;
        let topic = match &options.topic {
            Some(topic) => topic.clone(),
            None => format!("bench.{:012x}", rand::random::<u64>() >> 16),
        };
        let address = Address::find(&server.url(&[]), options.server.token.as_ref()).await?;
        let broker_version = broker_version(&server).await?;
        Ok(Session {
            is_new: is_empty(&server, &topic).await?,
            keep: options.keep,
            payload: Payload::new(options.size),
            begun: Instant::now(),
            server,
            address,
            broker_version,
            topic,
            threads: threads.count,
            working: threads.working.handle().clone(),
            timing: threads.timing.handle().clone(),
        })
    }

    /// The time of a moment, as events carry it.
    pub(super) fn nanos(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long before this moment an event was stamped.
    pub(super) fn since(&self, nanos: u64, moment: Instant) -> Duration {
        Duration::from_nanos(self.nanos(moment).saturating_sub(nanos))
    }

    /// Purges what was published, unless it is to be kept. Returns whether it is gone.
    pub(super) async fn clean_up(&self) -> anyhow::Result<bool> {
        if self.keep || !self.is_new {
            return Ok(false);
        }
        let request = self.server.client().delete(self.server.url(&["v1", "topics", &self.topic]));
        let purged = self.server.answer(request).await;
        match purged {
            Err(error) if !is_unknown(&error) => {
                Err(error.context(format!("the topic {} could not be purged", self.topic)))
            }
            _ => Ok(true),
        }
    }
}

async fn broker_version(server: &Server) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Status {
        version: String,
    }
    let answer = server.get(server.url(&["v1", "status"])).await?;
    let status: Status = serde_json::from_str(&answer)
        .context("the answer is not a status; is this the address of a broker?")?;
    Ok(status.version)
}

/// Whether a topic holds no events.
async fn is_empty(server: &Server, topic: &str) -> anyhow::Result<bool> {
    #[derive(Deserialize)]
    struct Held {
        events: u64,
    }
    match server.get(server.url(&["v1", "topics", topic])).await {
        Ok(answer) => {
            let held: Held = serde_json::from_str(&answer).context("the answer is not a topic")?;
            Ok(held.events == 0)
        }
        Err(error) if is_unknown(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_unknown(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
}
