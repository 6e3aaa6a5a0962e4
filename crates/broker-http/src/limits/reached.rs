//! How often each limit was reached.
//!
//! A refusal carries the limit that it is for ([`Limit`] among the extensions of the answer) and is counted where all answers pass,
//! so that nobody forgets to count.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit, named as the key of the configuration that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    ConnectionsPerAddress,
    ConnectionsPerSubject,
    Streams,
    StreamsPerAddress,
    StreamsPerSubject,
    Patterns,
    Head,
    Url,
    BodiesInFlight,
    BodyTimeout,
    AnswerTimeout,
    Data,
    Batch,
    BatchEvents,
    PublishRate,
    PublishBytes,
    FreeDisk,
    /// What waits for the log's writer. It has no key.
    AppendQueue,
}

impl Limit {
    /// All of them, in their order.
    pub(crate) const ALL: [Limit; 19] = [
        Limit::Connections,
        Limit::ConnectionsPerAddress,
        Limit::ConnectionsPerSubject,
        Limit::Streams,
        Limit::StreamsPerAddress,
        Limit::StreamsPerSubject,
        Limit::Patterns,
        Limit::Head,
        Limit::Url,
        Limit::BodiesInFlight,
        Limit::BodyTimeout,
        Limit::AnswerTimeout,
        Limit::Data,
        Limit::Batch,
        Limit::BatchEvents,
        Limit::PublishRate,
        Limit::PublishBytes,
        Limit::FreeDisk,
        Limit::AppendQueue,
    ];

    /// What it is called in the metrics, and in the configuration if it has a key there.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Limit::Connections => "max_connections",
            Limit::ConnectionsPerAddress => "max_connections_per_address",
            Limit::ConnectionsPerSubject => "max_connections_per_subject",
            Limit::StreamsPerAddress => "max_streams_per_address",
            Limit::StreamsPerSubject => "max_streams_per_subject",
            Limit::Patterns => "max_patterns",
            Limit::Head => "max_head",
            Limit::Url => "max_url",
            Limit::Streams => "max_streams",
            Limit::BodiesInFlight => "max_bodies_in_flight",
            Limit::BodyTimeout => "body_timeout",
            Limit::AnswerTimeout => "answer_timeout",
            Limit::Data => "max_data",
            Limit::Batch => "max_batch",
            Limit::BatchEvents => "max_batch_events",
            Limit::PublishRate => "publish_rate",
            Limit::PublishBytes => "publish_bytes",
            Limit::FreeDisk => "min_free_disk",
            Limit::AppendQueue => "append_queue",
        }
    }
}

/// How often each limit was reached since the start.
#[derive(Debug, Default)]
pub(crate) struct Reached([AtomicU64; Limit::ALL.len()]);

impl Reached {
    /// Counts one more. Says how often it was before.
    pub(crate) fn count(&self, limit: Limit) -> u64 {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed)
    }

    /// How often a limit was reached.
    pub(crate) fn times(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}

/// Whether to tell in the log that a limit was reached which had been so many times before: a flood must not flood the log
/// as well.
pub(crate) fn is_news(times: u64) -> bool {
    times == 0 || times.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_limits_names_every_one() {
        let page = include_str!("../../../../docs/limits.md");
        for limit in Limit::ALL {
            assert!(page.contains(&format!("`{}`", limit.name())), "docs/limits.md does not name {limit:?}");
        }
    }

    #[test]
    fn each_limit_is_counted_for_itself() {
        let reached = Reached::default();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index, "{limit:?} stands in its order");
            for before in 0..index as u64 {
                assert_eq!(reached.count(limit), before);
            }
        }
        assert!(
            Limit::ALL.into_iter().enumerate().all(|(index, limit)| reached.times(limit) == index as u64)
        );
    }
}
