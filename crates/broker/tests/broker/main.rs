//! The broker on the in-memory model of a log.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

/// Logs, brokers and subscriptions that tests begin with.
mod support;

/// Every matching event once, in order.
mod subscriptions;

/// What readers are told of what was removed.
mod gaps;
/// What is kept, and how that is changed.
mod policies;
/// How it is carried out.
mod retention;
