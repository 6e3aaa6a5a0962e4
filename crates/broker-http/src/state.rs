//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use broker::Broker;
use tokio_util::sync::CancellationToken;

use crate::access::Origins;
use crate::connections::Connections;
use crate::deliveries::Deliveries;
use crate::doors::Doors;
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
    /// Event streams that are open.
    pub(crate) connections: Connections,
    pub(crate) deliveries: Deliveries,
    pub(crate) started: Instant,
    pub(crate) origins: Origins,
    pub(crate) doors: Arc<Doors>,
    pub(crate) refusals: Refusals,
    pub(crate) resumes: Resumes,
    pub(crate) stream_stats: AllStreamStats,
}

impl State {
    pub(crate) fn new(broker: Broker, options: Options, shutdown: CancellationToken) -> Self {
        let origins = Origins::new(&options.allowed_origins);
        let doors = Doors::new(options.connections_per_address_max);
        State {
            broker,
            options,
            shutdown,
            streams: AtomicUsize::new(0),
            connections: Connections::default(),
            deliveries: Deliveries::default(),
            started: Instant::now(),
            origins,
            doors,
            refusals: Refusals::default(),
            resumes: Resumes::default(),
            stream_stats: AllStreamStats::default(),
        }
    }
}
