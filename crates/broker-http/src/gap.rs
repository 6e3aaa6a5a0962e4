//! What a reader is told of history that it cannot be given.

use broker::Gap;
use event_log::EventId;
use serde_json::json;

/// What a gap says, in every shape.
pub(crate) fn gap_data(gap: &Gap, resumed_after: EventId) -> serde_json::Value {
    json!({
        "reason": gap.reason.as_str(),
        "requested": gap.requested,
        "resumed_after": resumed_after.to_string(),
    })
}

#[cfg(test)]
mod tests;
