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
/// Attacks on the authentication: forged tokens, tokens in the wrong place, pages that lend themselves a cookie.
mod attacks;
/// Tokens: what each allows, how streams end with them, revocations.
mod authentication;
/// Backups of a running broker, and the check of a data directory.
mod backup;
/// System calls under strace: nothing leaves before its barrier, and a barrier that fails is final.
mod barrier;
/// Many events in: exact text, order, all or nothing.
mod batch;
/// The command `bench`: its figures, and that it finds out who is not exact.
mod bench;
/// The demo page in a real browser, over a crash.
mod browser;
/// Other people's clients, over cuts and a crash.
mod clients;
/// The binary's commands, settings and exit codes.
mod command_line;
/// Compaction: the newest state of every key stays, and nobody misses one.
mod compaction;
/// The suite for any durable hub, put to this one.
mod conformance;
/// What connections cost, and when they end.
mod connections;
/// The console's files as they are served.
mod console;
/// The console in a real browser.
mod console_in_browser;
/// Damage of a data directory: refused with the place, or harmless.
mod corruption;
/// What stands around a broker at work: proxies, Prometheus, the files that set them up.
mod deployment;
/// What is removed gives its room back: the directory and the memory stay in bounds.
mod disk;
/// kill -9 under load, in a loop, against a ledger.
mod durability;
/// Crashes between the steps of a trim, a compaction and a purge.
mod faults;
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
/// The metrics: their format, and that they agree with what is told elsewhere.
mod metrics;
/// Readers that are under way when history is removed: every event once, or a gap in its place.
mod overtaken;
/// The same under load, over crashes, with an exact ledger for each reader.
mod overtaken_under_load;
/// Pages, long polling and NDJSON, and single events.
mod pages;
/// Policies: how they are written, which governs, dry runs, and that the log remembers them.
mod policies;
/// One event in: answers, limits, refusals, tombstones, and clients that go away.
mod publish;
/// Purging a topic: all that is in it goes before the answer, and never comes back.
mod purge;
/// Event streams: the order of blocks, filters, patterns, shapes.
mod read;
/// A large log after a crash, and a full disk.
mod recovery;
/// A million events to twenty readers.
mod replay;
/// Coming back after a cut at any byte, a restart or a crash.
mod resume;
/// Retention: what goes, that it is gone from every reading, and what is told of the rest.
mod retention;
/// The end of a broker, asked for.
mod shutdown;
/// Readers that do not read.
mod slow_readers;
/// The ledgers of the soak, shown to find what is wrong.
mod soak_ledger;
/// Where a reading begins, and the gaps that it tells of.
mod starts;
/// Statistics as events, for who asks for them.
mod stats;
/// The command `subscribe`: what it prints, and its cursor file over kill -9.
mod subscriber;
/// TLS and HTTP/2: the same broker, said privately.
mod tls;
/// What `barrier` reads: traces of strace, and the proof that a bad one is found out.
mod trace;
/// The gap `trimmed`: who is told that history is gone, and where the reading goes on.
mod trimmed;
/// A store of a format that is not known yet.
mod upgrade;
