//! The bodies of the fuzz targets of this crate; see [`event_log::fuzzing`].

mod disk;
mod importing;

pub use disk::{chunk, record, rows};
pub use importing::import;
