//! The commands that say what is kept, and remove what is not.

use clap::{Args, Subcommand};

use super::ServerArgs;

/// Say how much history is kept, topic by topic.
///
/// A policy holds for each topic that its pattern matches, separately. The most specific pattern governs a topic wholly:
///
///   perennial policy set 'stocks.**' --max-age 7d --max-bytes 1GiB
///
///   perennial policy set 'stocks.*.state' --compact key
///
///   perennial policy list
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List all policies
    List(PolicyListArgs),
    /// Show the policy of a pattern
    Get(PolicyGetArgs),
    /// Set the policy of a pattern, in place of the one it had
    Set(PolicySetArgs),
    /// Delete the policy of a pattern: what it governed is governed by the next less specific one
    Delete(PolicyDeleteArgs),
}

/// List all policies.
#[derive(Debug, Args)]
pub(crate) struct PolicyListArgs {
    /// Print the broker's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Show the policy of a pattern.
#[derive(Debug, Args)]
pub(crate) struct PolicyGetArgs {
    /// Pattern of the policy, as in 'stocks.**'
    pub(crate) pattern: String,
    /// Print the broker's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Set the policy of a pattern, in place of the one it had.
///
/// What no limit names is kept for ever. Without any limit all is kept: an exception to a wider pattern. See first what
/// would go:
///
///   perennial policy set 'stocks.**' --max-events 100000 --dry-run
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PolicySetArgs {
    /// Pattern of the topics: * is one segment, a last ** is one or more
    pub(crate) pattern: String,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Change nothing; say how much would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the broker's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// What a topic keeps.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Keep what is younger, as in 36h or 7d
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<String>,
    /// Keep the newest so many events; 0 keeps none
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub(crate) max_events: Option<String>,
    /// Keep the newest events of so many bytes together, as in 512MiB or 1GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_bytes: Option<String>,
    /// Keep the newest event of each key, and what has no key
    #[arg(long, value_name = "BY", value_parser = ["key"])]
    pub(crate) compact: Option<String>,
}

/// Delete the policy of a pattern: what it governed is governed by the next less specific one.
#[derive(Debug, Args)]
pub(crate) struct PolicyDeleteArgs {
    /// Pattern of the policy, as in 'stocks.**'
    pub(crate) pattern: String,
    /// Change nothing; say how much would be removed by what governs then
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Remove all events of a topic, for good.
///
/// Readers that had not got to them are told of a gap. The topic's last id and its idempotency keys stay. It asks before it
/// does it, and needs --yes where nobody can be asked:
///
///   perennial purge stocks.ibm --dry-run
///
///   perennial purge stocks.ibm --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PurgeArgs {
    /// Topic, as in stocks.ibm
    pub(crate) topic: String,
    /// Change nothing; say how much would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
