//! The topic on which the broker tells how it does, for as long as somebody follows it by its very name.
//!
//! The head stands still in a broker that nobody uses, so nothing is told to nobody, and a pattern such as `$broker.**` does
//! not make it speak. What was told is history that goes by itself: each event has a key that comes again after
//! [`STATS_EVENTS_MAX`] of them, and what is superseded is removed. That is no loss to a reader, so whoever reads `$broker.**`
//! for policies and purges is told of no gap.

use std::time::Duration;

use bytestring::ByteString;
use event_log::limits::{STATS_EVENTS_MAX, STATS_EVENTS_SLACK};
use event_log::{Batch, Data, Key, NewEvent, Pattern, Removal, Timestamp, Topic};

use crate::own::{event_type, own_topic};
use crate::{ActError, Broker, Inner};

const NAME: &str = "$broker.stats";

/// The topic, and the pattern that has to be followed.
pub(crate) struct StatsTopic {
    topic: Topic,
    pattern: Pattern,
}

impl StatsTopic {
    pub(crate) fn new() -> Self {
        let topic = own_topic(NAME);
        StatsTopic { pattern: topic.clone().into(), topic }
    }

    /// What is told at a time. The key is the number of the interval, which comes again.
    fn event(&self, statistics: String, now: Timestamp, interval: Duration) -> NewEvent {
        let interval = interval.as_micros().max(1);
        let number = u128::from(now.as_micros()) / interval % u128::from(STATS_EVENTS_MAX);
        NewEvent {
            event_type: Some(event_type("stats")),
            key: Some(Key::parse(number.to_string()).expect("a number is a key")),
            ..NewEvent::new(self.topic.clone(), Data::from(ByteString::from(statistics)))
        }
    }
}

impl Broker {
    /// Whether somebody follows the topic of statistics by its name.
    pub fn is_asked_for_stats(&self) -> bool {
        self.inner.hub.is_followed(&self.inner.stats.pattern)
    }

    /// Publishes statistics, which are told once in each interval, and removes those that are old. Resolves once they are
    /// durable, with their bytes as policies count them.
    pub async fn tell_stats(&self, statistics: String, interval: Duration) -> Result<u64, ActError> {
        let Inner { log, stats, remover, .. } = &*self.inner;
        let event = stats.event(statistics, self.now(), interval);
        let bytes = event.weight() as u64;
        log.append(Batch::new(vec![event])).await?;
        let kept = log.topic(&stats.topic).map_or(0, |topic| topic.events);
        if kept > STATS_EVENTS_MAX + STATS_EVENTS_SLACK {
            let topic = stats.topic.clone();
            remover
                .step(vec![Removal::Superseded { topic, tombstones_before: Timestamp::from_micros(0) }])
                .await?;
        }
        Ok(bytes)
    }
}
