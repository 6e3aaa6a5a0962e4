//! What clients may take, as an operator sets it.

use broker::units::{self, show_bytes};
use broker_http::{Limits, Rate};
use event_log::limits;

use super::Settings;
use crate::WrongUsage;
use crate::values::within;

/// The least that a request's head and its address may be allowed.
const KIB: u64 = limits::KIB as u64;

impl Settings {
    pub(super) fn limits(&self) -> Result<Limits, WrongUsage> {
        Ok(Limits {
            connections_max: self.count("max_connections", 1, limits::CONNECTIONS_CEILING)?,
            connections_per_subject_max: self.count_or_none("max_connections_per_subject")?,
            streams_per_address_max: self.count_or_none("max_streams_per_address")?,
            streams_per_subject_max: self.count_or_none("max_streams_per_subject")?,
            patterns_max: self.count("max_patterns", 1, limits::PATTERNS_MAX)?,
            head_bytes_max: self.size("max_head", KIB, limits::HEAD_BYTES_MAX)?,
            url_bytes_max: self.size("max_url", KIB, limits::URL_BYTES_MAX)?,
            connections_per_address_max: self.count_or_none("max_connections_per_address")?,
            streams_max: self.count("max_streams", 1, limits::CONNECTIONS_CEILING)?,
            lifetime: Some(self.duration("lifetime", "0s", "365d")?).filter(|lifetime| !lifetime.is_zero()),
            replays_max: self.count_or_none("max_replays")?,
            drain: self.duration("drain", "0s", "10m")?,
            bodies_bytes_max: self.size("max_bodies_in_flight", KIB, limits::BODIES_BYTES_CEILING)?,
            body_timeout: self.duration("body_timeout", "1s", "1d")?,
            answer_timeout: self.duration("answer_timeout", "1s", "1d")?,
            data_bytes_max: self.size("max_data", 1, limits::DATA_BYTES_CEILING)?,
            batch_bytes_max: self.size("max_batch", 1, limits::BATCH_BYTES_CEILING)?,
            batch_events_max: self.count("max_batch_events", 1, 1_000_000)?,
            publish_rate: self.publish_rate()?,
            publish_bytes: self.publish_bytes()?,
        })
    }

    fn publish_rate(&self) -> Result<Option<Rate>, WrongUsage> {
        let events =
            |key| self.read(key, |text| within(units::count(text)?, 0..=limits::PUBLISH_RATE_CEILING, |n| n));
        Ok(rate(events("publish_rate")?, events("publish_burst")?))
    }

    fn publish_bytes(&self) -> Result<Option<Rate>, WrongUsage> {
        let bytes = |key| {
            self.read(key, |text| within(units::bytes(text)?, 0..=limits::PUBLISH_BYTES_CEILING, show_bytes))
        };
        Ok(rate(bytes("publish_bytes")?, bytes("publish_bytes_burst")?))
    }

    /// A number of which 0 is no limit.
    fn count_or_none(&self, key: &str) -> Result<Option<usize>, WrongUsage> {
        Ok(Some(self.count(key, 0, limits::CONNECTIONS_CEILING)?).filter(|most| *most > 0))
    }
}

/// So much in a second and so much at once, each 0 if nothing is said of it.
fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    let burst = if burst == 0 { per_second } else { burst };
    (per_second > 0).then_some(Rate { per_second, burst })
}

#[cfg(test)]
mod tests {
    use super::super::keys;

    const PAGE: &str = include_str!("../../../../docs/limits.md");

    #[test]
    fn the_page_on_limits_names_every_one_with_its_default() {
        for (key, default, _) in keys::LIMITS {
            let row = format!("| `{key}` | `{default}`");
            assert!(PAGE.contains(&row), "docs/limits.md has no row that begins with: {row}");
        }
        let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, keys::LIMITS.len(), "docs/limits.md has rows of what is no limit");
    }
}
