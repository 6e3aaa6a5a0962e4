//! The client's side of the command line: it knows the broker only by its address.

pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod purge;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod topics;

mod cursor;
mod http;
mod lines;
mod output;
mod removal;
mod sse;
mod table;
