//! `sse-resume-conformance`: a black-box suite for any durable hub of Server-Sent Events.
//!
//! An [`Adapter`] says how a hub is started, published to and read, and which promises it makes. [`run`] takes the cases
//! of [`all`] through it, each with a hub of its own in an empty directory, and gives a [`Report`] that is shown as a table,
//! as Markdown or as JUnit XML. The suite knows a hub by its processes, a port and what comes over it: nothing of any hub
//! is linked.
//!
//! What is absent: power cuts (kill -9 leaves what the system has not written yet), and measuring.

/// How a hub is driven, as a TOML file.
mod adapter;
/// A case: what it is about, what it rests on, and what came of it.
mod case;
/// The cases, a file for each kind of failure.
mod cases;
/// Requests and answers over plain sockets.
mod http;
/// A running hub: published to, read, killed and started again.
mod hub;
/// Starting and ending a hub.
mod launch;
/// The text of the events that the suite publishes: each tells its place, and whether it is whole.
mod payload;
/// Publishing on a connection that stays open.
mod publisher;
/// Reading as a browser does, over all reconnects.
mod reader;
/// What came of all cases, as a table, Markdown and JUnit XML.
mod report;
/// Event streams by the WHATWG's rules.
mod sse;
/// One open event stream.
mod stream;
/// The cases run, one after the other or side by side.
mod suite;
/// Texts with places to be filled in.
mod template;

pub use adapter::{Adapter, Place, Promise};
pub use case::{Case, Verdict};
pub use cases::all;
pub use launch::{Launch, Process, Running};
pub use report::{Report, Row, junit, markdown, table};
pub use suite::{Options, run, run_with};
