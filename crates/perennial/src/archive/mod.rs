//! Copies of a whole log, and checks of one: between a data directory, a running broker and an archive's text.
//!
//! `store` is where a data directory is touched, `text` where lines are read; each command is a short way between the two.

pub(crate) mod backup;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod verify;

mod append;
mod store;
mod text;
