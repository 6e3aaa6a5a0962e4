//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker::Broker;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Origins;
use crate::connections::Connections;
use crate::doors::Doors;
use crate::drain::Drain;
use crate::limits::{InFlight, Limit, Places, Rates, Reached};
use crate::options::Options;
use crate::refusals::Refusals;
use crate::resumes::Resumes;
use crate::stream_stats::AllStreamStats;

/// What all requests share.
pub(crate) struct State {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    /// Cancelled when the server is to stop.
    pub(crate) shutdown: CancellationToken,
    /// Event streams that are open or being opened.
    pub(crate) streams: AtomicUsize,
    pub(crate) streams_per_address: Arc<Places>,
    pub(crate) streams_per_subject: Arc<Places>,
    /// Event streams that are open.
    pub(crate) connections: Connections,
    pub(crate) started: Instant,
    pub(crate) origins: Origins,
    pub(crate) doors: Arc<Doors>,
    pub(crate) refusals: Refusals,
    pub(crate) resumes: Resumes,
    pub(crate) stream_stats: AllStreamStats,
    pub(crate) reached: Reached,
    pub(crate) drain: Drain,
    /// Who reads history from the log, if there may be so many at a time only.
    pub(crate) replays: Option<Arc<Semaphore>>,
    /// Bodies that are being received.
    pub(crate) in_flight: Arc<InFlight>,
    /// How fast subjects may publish, if that is limited.
    pub(crate) rates: Option<Rates>,
}

impl State {
    /// How long it takes to end the streams, once the server stops.
    pub(crate) fn drain_time(&self) -> Duration {
        self.drain.time(self.streams.load(Ordering::Relaxed))
    }

    pub(crate) fn new(broker: Broker, options: Options, shutdown: CancellationToken) -> Self {
        let origins = Origins::new(&options.allowed_origins);
        let limits = &options.limits;
        let drain = Drain::new(limits.drain);
        let replays = limits.replays_max.map(|most| Arc::new(Semaphore::new(most)));
        let in_flight = InFlight::new(limits.bodies_bytes_max);
        let rates = Rates::new(limits);
        let doors = Doors::new(limits, &options.trusted_proxies);
        let streams_per_address = Places::new(Limit::StreamsPerAddress, limits.streams_per_address_max);
        let streams_per_subject = Places::new(Limit::StreamsPerSubject, limits.streams_per_subject_max);
        State {
            broker,
            options,
            shutdown,
            streams: AtomicUsize::new(0),
            streams_per_address,
            streams_per_subject,
            connections: Connections::default(),
            started: Instant::now(),
            origins,
            doors,
            refusals: Refusals::default(),
            resumes: Resumes::default(),
            stream_stats: AllStreamStats::default(),
            reached: Reached::default(),
            drain,
            replays,
            in_flight,
            rates,
        }
    }
}
