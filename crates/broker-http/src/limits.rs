//! What clients may take of the broker, and how often each limit was reached.

mod in_flight;
mod places;
mod rates;
mod reached;
mod subject;

use std::time::Duration;

use event_log::limits::{
    ANSWER_SECONDS_DEFAULT, BATCH_BYTES_DEFAULT, BATCH_EVENTS_DEFAULT, BODIES_BYTES_DEFAULT,
    BODY_SECONDS_DEFAULT, CONNECTIONS_DEFAULT, DATA_BYTES_DEFAULT, DRAIN_MILLIS_DEFAULT, HEAD_BYTES_MAX,
    PATTERNS_MAX, STREAMS_DEFAULT, URL_BYTES_MAX,
};

pub(crate) use in_flight::{InFlight, Share};
pub(crate) use places::{Place, Places};
pub use rates::Rate;
pub(crate) use rates::Rates;
pub(crate) use reached::{Limit, Reached, is_news};
pub(crate) use subject::Subject;

/// What clients may take; every field has a default.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections open at one time.
    pub connections_max: usize,
    /// Connections that one address may have at a time; none is no limit, as behind a proxy, which is one address.
    pub connections_per_address_max: Option<usize>,
    /// Connections that one subject may have at a time; none is no limit.
    pub connections_per_subject_max: Option<usize>,
    /// Event streams open at one time.
    pub streams_max: usize,
    /// Event streams that one address may have open at a time; none is no limit.
    pub streams_per_address_max: Option<usize>,
    /// Event streams that one subject may have open at a time; none is no limit.
    pub streams_per_subject_max: Option<usize>,
    /// Patterns that one reading may ask for.
    pub patterns_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Bytes of a request's path and query.
    pub url_bytes_max: usize,
    /// How long a stream lives, a tenth more or less; none is for ever.
    pub lifetime: Option<Duration>,
    /// Streams that read history from the log at one time; none is no limit.
    pub replays_max: Option<usize>,
    /// The longest time over which streams are ended when the broker stops.
    pub drain: Duration,
    /// Bytes of requests' bodies that are being received at one time, of all together.
    pub bodies_bytes_max: usize,
    /// How long the body of one request may take to come.
    pub body_timeout: Duration,
    /// How long the answer to a request, which is no event stream, may wait for its client to take some of it.
    pub answer_timeout: Duration,
    /// The most data that one event may carry.
    pub data_bytes_max: usize,
    /// Bytes of one batch's body.
    pub batch_bytes_max: usize,
    /// Events in one batch.
    pub batch_events_max: usize,
    /// Events that a subject may publish; none is no limit.
    pub publish_rate: Option<Rate>,
    /// Bytes that a subject may publish, counted as policies count them; none is no limit.
    pub publish_bytes: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: CONNECTIONS_DEFAULT,
            connections_per_address_max: None,
            connections_per_subject_max: None,
            streams_max: STREAMS_DEFAULT,
            streams_per_address_max: None,
            streams_per_subject_max: None,
            patterns_max: PATTERNS_MAX,
            head_bytes_max: HEAD_BYTES_MAX,
            url_bytes_max: URL_BYTES_MAX,
            lifetime: None,
            replays_max: None,
            drain: Duration::from_millis(DRAIN_MILLIS_DEFAULT),
            bodies_bytes_max: BODIES_BYTES_DEFAULT,
            body_timeout: Duration::from_secs(BODY_SECONDS_DEFAULT),
            answer_timeout: Duration::from_secs(ANSWER_SECONDS_DEFAULT),
            data_bytes_max: DATA_BYTES_DEFAULT,
            batch_bytes_max: BATCH_BYTES_DEFAULT,
            batch_events_max: BATCH_EVENTS_DEFAULT,
            publish_rate: None,
            publish_bytes: None,
        }
    }
}
