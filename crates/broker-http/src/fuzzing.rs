//! The bodies of the fuzz targets of this crate; see [`event_log::fuzzing`].

mod archives;
mod batches;
mod connections;
mod event_stream;
mod frames;
mod queries;

pub use archives::archive;
pub use batches::ndjson;
pub use connections::publish;
pub use frames::sse;
pub use queries::query;
