//! The commands that copy a log, or check one.

use std::path::PathBuf;

use clap::Args;

use super::ServerArgs;
use crate::secret::Secret;

/// Where a log is: in a directory, or with a running broker.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Data directory of the log; no broker may be running on it
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) data: Option<PathBuf>,
    /// Address of a running broker [env: PERENNIAL_URL=] [default: http://127.0.0.1:8080]
    // Not read from the environment by the parser, which would take that as a conflict with --data.
    #[arg(long)]
    url: Option<String>,
    /// Token to show to the broker, if it asks for one [env: PERENNIAL_TOKEN=]
    #[arg(long)]
    token: Option<Secret>,
}

impl LogArgs {
    /// The broker, as every client command finds it.
    pub(crate) fn server(&self) -> ServerArgs {
        let given = self.url.clone().or_else(|| std::env::var("PERENNIAL_URL").ok());
        let token = || std::env::var(super::TOKEN_VARIABLE).ok().map(Secret::new);
        ServerArgs {
            url: given.unwrap_or_else(|| super::URL_DEFAULT.to_owned()),
            token: self.token.clone().or_else(token),
        }
    }
}

/// Print the whole log on standard output as an archive: lines of JSON, an envelope for each event
///
/// An archive also has the list of epochs, what was removed, the last id of every topic, and the
/// idempotency keys, so that its import is as good as the original. With --url it is consistent
/// while publishing goes on:
///
///   perennial export --url http://127.0.0.1:8080 | zstd > monday.ndjson.zst
///
///   perennial export --data ./perennial-data > monday.ndjson
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Put an archive, or lines of events, into a log
///
/// An archive in a new or empty directory is an exact copy: sequences, times and uuids stay, under
/// a new epoch, and readers come back with their old ids:
///
///   perennial import --data ./restored monday.ndjson && perennial serve --data ./restored
///
/// Into a log that has events, or with --url, an archive's events are appended with new ids.
/// Running that again within the idempotency window (24h by default) appends nothing twice, since
/// each event's uuid makes its idempotency key. The broker's own events ($broker.*) are left out
/// then. Lines of events, one object each, are appended in every case; they can carry an
/// idempotency_key to be safe to repeat:
///
///   echo '{"topic":"news.today","data":"text","idempotency_key":"n1"}' | perennial import
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// File to read; - or none is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Copy a running broker's log into a new data directory, while publishing goes on
///
/// The copy is what was durable at one moment, and is ready to be served:
///
///   perennial backup --url http://127.0.0.1:8080 ./backup && perennial serve --data ./backup
///
/// It begins a new epoch, so that no id is ever used twice; ids of the original up to the copy's
/// end resume in it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BackupArgs {
    /// Directory of the copy: made if it is not there, and empty if it is
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Read every record of a data directory, and compare every index with the log
///
/// It prints what it found, and changes no event. Damage exits with 1 and says where it is:
///
///   perennial verify --data ./perennial-data
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {
    /// Data directory of the log; no broker may be running on it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}
