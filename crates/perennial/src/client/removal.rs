//! What the broker says of a removal that it did not carry out.

use anyhow::Context;
use serde::Deserialize;

use super::table::grouped;

/// The answer to a dry run.
#[derive(Debug, Deserialize)]
pub(crate) struct Removal {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn read(answer: &str) -> anyhow::Result<Removal> {
    serde_json::from_str(answer).context("the broker's answer is not a count of events")
}

impl Removal {
    pub(crate) fn would_go(&self) -> String {
        format!("{} would be removed; nothing was changed\n", self.count())
    }

    pub(crate) fn count(&self) -> String {
        format!("{} events with {} bytes", grouped(self.events), grouped(self.bytes))
    }
}
