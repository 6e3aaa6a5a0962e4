//! The client's side of the command line: it knows the broker only by its address.

pub(crate) mod health;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod purge;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod topics;

pub(crate) mod batch;
pub(crate) mod http;
pub(crate) mod lines;
pub(crate) mod sse;
pub(crate) mod table;

mod cursor;
mod output;
mod removal;
