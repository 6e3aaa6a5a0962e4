//! The protocol: HTTP, JSON and `text/event-stream` over a [`broker::Broker`].
//!
//! A request's way: `access` (who may speak, and for whom: `credentials`, `caller`), the route in `server`, then one file for each thing that can be done:
//! `publish` and `batch` write, `read` and what it calls reads, `export` hands out the whole log as an `archive`. What a
//! request says is taken apart strictly (`path`, `query`, `body`); whatever is refused is refused in one form (`problem`).
//!
//! Never here: an engine's name, a policy's rule, a second copy of history.
#![forbid(unsafe_code)]

mod server;
mod state;

mod connection;
mod doors;
mod drain;
mod limits;
mod pulse;
mod stream_stats;
mod turns;

mod access;
mod admission;
mod caller;
mod credentials;
mod endpoint;
mod forwarded;
mod options;
mod problem;
mod refusals;
mod secure;
mod tls;

mod body;
mod json;
mod path;
mod query;

mod batch;
mod publish;

mod accept;
mod envelope;
mod gap;
mod pages;
mod read;
mod reading;
mod replay;
mod resumes;
mod sse;
mod start;
mod stream;
mod subscribe;

pub mod archive;
mod connections;
mod dry_run;
mod export;

mod health;
mod lags;
mod metrics;
mod policies;
mod revocations;
mod static_page;
mod stats;
mod status;
mod topics;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use caller::Authentication;
pub use export::Archives;
pub use forwarded::TrustedProxies;
pub use limits::{Limits, Rate};
pub use options::{Options, StaticPage, Writable};
pub use server::serve;
pub use sse::{Framer, Pieces};
pub use tls::{Tls, TlsError};
