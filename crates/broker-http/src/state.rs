//! What all requests share.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use broker::Broker;
use tokio_util::sync::CancellationToken;

use crate::access::Origins;
use crate::connections::Connections;
use crate::options::Options;

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
    pub(crate) started: Instant,
    pub(crate) origins: Origins,
}

impl State {
    pub(crate) fn new(broker: Broker, options: Options, shutdown: CancellationToken) -> Self {
        let origins = Origins::new(&options.allowed_origins);
        State {
            broker,
            options,
            shutdown,
            streams: AtomicUsize::new(0),
            connections: Connections::default(),
            started: Instant::now(),
            origins,
        }
    }
}
