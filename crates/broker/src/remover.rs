//! The one way by which events are removed: from the log, then from the memory of recent events.

use std::sync::Arc;

use event_log::{EventLog, Position, ReadError, Removal, Removed};

use crate::hub::Hub;

#[derive(Clone)]
pub(crate) struct Remover {
    log: Arc<dyn EventLog>,
    hub: Arc<Hub>,
}

/// Makes the hub forget what may have been removed, also when nobody waits for the log's answer any more.
struct Forgetting<'a> {
    remover: &'a Remover,
    /// Known once the log has answered.
    through: Option<Position>,
}

impl Remover {
    pub(crate) fn new(log: Arc<dyn EventLog>, hub: Arc<Hub>) -> Self {
        Remover { log, hub }
    }

    /// Takes one step; see [`EventLog::remove`]. Once it resolves nobody gets what was removed.
    pub(crate) async fn step(&self, removals: Vec<Removal>) -> Result<Removed, ReadError> {
        self.hub.begin_removal();
        let mut forgetting = Forgetting { remover: self, through: None };
        let removed = self.log.remove(removals).await?;
        forgetting.through = Some(removed.through);
        Ok(removed)
    }
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        let Remover { log, hub } = self.remover;
        match self.through {
            Some(through) => hub.end_removal(through, log.removals()),
            // It may come yet, and takes nothing that is newer than this.
            None => hub.end_removal(log.tail().head(), log.removals().next()),
        }
    }
}
