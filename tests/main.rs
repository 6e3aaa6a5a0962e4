//! Black-box tests: only the built binary, a port and a data directory. No code of ours is linked.
//!
//! `README.md` beside this file says what may live here and how to run one test.
#![cfg(test)]

/// A running broker, an HTTP client of plain sockets and a strict reader of event streams.
mod harness;

/// Who may speak: hosts, origins, preflights.
mod access;
/// Copies of a log: an archive in an empty directory is as good as the original.
mod archive;
/// Backups of a running broker, and the check of a data directory.
mod backup;
/// System calls under strace: nothing leaves before its barrier, and a barrier that fails is final.
mod barrier;
/// Many events in: exact text, order, all or nothing.
mod batch;
/// The demo page in a real browser, over a crash.
mod browser;
/// Other people's clients, over cuts and a crash.
mod clients;
/// The binary's commands, settings and exit codes.
mod command_line;
/// What connections cost, and when they end.
mod connections;
/// kill -9 under load, in a loop, against a ledger.
mod durability;
/// How data is framed, and envelopes byte for byte.
mod framing;
/// The commands `policy` and `purge`.
mod governing;
/// Text that breaks programs, judged by rules of the tests' own.
mod hostile;
/// Publishing twice without publishing twice, and the expected id.
mod idempotency;
/// Appending archives and lines to a log that has events.
mod importing;
/// Topics, status and health; methods and queries.
mod limits;
/// Pages, long polling and NDJSON, and single events.
mod pages;
/// One event in: answers, limits, refusals, tombstones, and clients that go away.
mod publish;
/// Event streams: the order of blocks, filters, patterns, shapes.
mod read;
/// A large log after a crash, and a full disk.
mod recovery;
/// A million events to twenty readers.
mod replay;
/// Coming back after a cut at any byte, a restart or a crash.
mod resume;
/// The end of a broker, asked for.
mod shutdown;
/// Readers that do not read.
mod slow_readers;
/// Where a reading begins, and the gaps that it tells of.
mod starts;
/// The command `subscribe`: what it prints, and its cursor file over kill -9.
mod subscriber;
/// What `barrier` reads: traces of strace, and the proof that a bad one is found out.
mod trace;
/// A store of a format that is not known yet.
mod upgrade;
