//! Archives as text: newline-delimited JSON that carries a whole log.
//!
//! ```text
//! {"type":"$export","id":"0-7f3a9c1e","data":{"version":1,"epochs":[{"epoch":"7f3a9c1e","after":0}]}}
//! {"id":"1-7f3a9c1e","topic":"a","type":"message","key":null,"origin":null,"time":"...","uuid":"...","data":"text"}
//! {"type":"$topic","id":"1-7f3a9c1e","data":{"topic":"a","last":1,"removed_through":0,"missing_through":0}}
//! {"type":"$key","id":"1-7f3a9c1e","data":{"key":"<32 digits>","content":"<32 digits>","time":"...","uuid":"..."}}
//! {"type":"$end","id":"1-7f3a9c1e","data":{"events":1,"time":"..."}}
//! ```
//!
//! Events stand as envelopes, exactly as a reading writes them, the broker's own too; what an archive knows beside them
//! has the shape of a gap's line, which no envelope has: there is no topic. Every id carries the newest epoch.
//!
//! [`Writer`] and [`Reader`] are each other's reverse: what was written reads back as the same [`event_log::Item`]s, byte
//! for byte of data. The reader also takes text that is no archive: objects that could be published, and envelopes of a
//! reading. What is cut off, out of order or changed in its form is refused with a sentence that says so.

mod facts;
mod fields;
mod read;
mod write;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use event_log::{Event, IdempotencyKey, NewEvent};
use uuid::Uuid;

pub use fields::Unreadable;
pub use read::{Line, Reader};
pub use write::Writer;

/// The form of the text that this program writes and reads.
const VERSION: u64 = 1;

/// An event as it is published to another log, where it gets a new place. Its idempotency key is made of its uuid, which no
/// other event has, so that publishing the same archive again within the window doubles nothing.
pub fn republished(event: &Event) -> NewEvent {
    NewEvent {
        topic: event.topic.clone(),
        event_type: event.event_type.clone(),
        key: event.key.clone(),
        origin: event.origin.clone(),
        idempotency_key: Some(idempotency_key(event.uuid)),
        data: event.data.clone(),
    }
}

/// The idempotency key of an event that comes from elsewhere.
fn idempotency_key(uuid: Uuid) -> IdempotencyKey {
    IdempotencyKey::parse(format!("import:{uuid}")).expect("43 bytes without a NUL are a key")
}
