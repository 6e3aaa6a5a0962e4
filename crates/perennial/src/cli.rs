//! The command line: what can be asked for, and the help that one learns it from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::keys;
use crate::secret::Secret;

mod administration;
mod archive;
mod bench;
mod tokens;

pub(crate) use administration::{
    Limits, PolicyArgs, PolicyCommand, PolicyDeleteArgs, PolicyGetArgs, PolicyListArgs, PolicySetArgs,
    PurgeArgs,
};
pub(crate) use archive::{BackupArgs, ExportArgs, ImportArgs, VerifyArgs};
pub(crate) use bench::{
    BenchArgs, BenchCommand, BenchFanoutArgs, BenchOptions, BenchPublishArgs, BenchReplayArgs,
    BenchStormArgs, Rate,
};

pub(crate) use tokens::{KeysArgs, KeysCommand, KeysGenerateArgs, TokenArgs};

/// Where a broker listens when nothing else is said.
const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// Where the client commands find their token.
const TOKEN_VARIABLE: &str = "PERENNIAL_TOKEN";

/// A durable Server-Sent-Events broker: publish with a POST, read with an EventSource, miss nothing.
///
/// Start one with `perennial serve --demo` and open the address that it prints, or in three terminals: `perennial
/// serve`, `perennial subscribe 'news.**'`, `perennial publish news.today`.
#[derive(Debug, Parser)]
#[command(name = "perennial", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked for. Its words of help stand at each command's arguments: words here would hide them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
    Publish(PublishArgs),
    Subscribe(SubscribeArgs),
    Topics(TopicsArgs),
    Status(StatusArgs),
    Health(HealthArgs),
    Policy(PolicyArgs),
    Purge(PurgeArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Backup(BackupArgs),
    Verify(VerifyArgs),
    Token(TokenArgs),
    Keys(KeysArgs),
    Bench(BenchArgs),
}

/// Run the broker.
///
/// It prints `perennial listening on http://...` on standard output once it is ready; logs go to standard error. SIGTERM
/// and SIGINT end it cleanly.
#[derive(Debug, Args)]
#[command(after_long_help = keys_help())]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// Directory of the log; made if it is not there, and locked while in use [default: ./perennial-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Configuration file, in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set any configuration key, as in --set heartbeat=5s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Play recorded stock trades into stocks.* and show them on a page at /
    #[arg(long)]
    pub(crate) demo: bool,
    /// Serve over TLS with a certificate made for this run, to try it out: browsers and programs will not trust it
    #[arg(long)]
    pub(crate) tls_self_signed: bool,
    /// The data directory is an older copy that was put back: begin a new epoch, so that no id is used twice
    #[arg(long)]
    pub(crate) restored: bool,
}

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Address of the broker
    #[arg(long, env = "PERENNIAL_URL", default_value = URL_DEFAULT)]
    pub(crate) url: String,
    /// Token to show to the broker, if it asks for one; better in the environment, as others see arguments
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true)]
    pub(crate) token: Option<Secret>,
}

/// Publish events to a topic, and print the id of each once it is durable
///
/// The whole input is the data of one event, byte for byte; with --ndjson every line is the data of
/// one event:
///
///   echo '{"price":182.3}' | perennial publish stocks.ibm --type trade
///
///   tail -f trades.ndjson | perennial publish stocks.ibm --ndjson
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PublishArgs {
    /// Topic, as in stocks.ibm
    pub(crate) topic: String,
    /// Type of the events: the name that an EventSource listens to
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Key: what the event is the newest state of
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Origin: who publishes, so that a reader can leave out its own events
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// Makes a retry harmless: within 24 hours the same key publishes once. With --ndjson each line gets its own key,
    /// KEY:LINE, so that the same file can be sent again
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Every line is the data of one event, exactly as it is; a blank line is an event without text
    #[arg(long)]
    pub(crate) ndjson: bool,
    /// File to read; - or none is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Print the events of topics as they come, for ever: data as it is, then a line end
///
/// It comes back by itself when the connection breaks and goes on behind the last event. With
/// --cursor it also goes on there when it is killed and started again:
///
///   perennial subscribe 'stocks.*' --from earliest --cursor stocks.cursor >> trades.ndjson
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SubscribeArgs {
    /// Topics or patterns: in a pattern * is one segment, a last ** is one or more
    #[arg(required = true, value_name = "PATTERN")]
    pub(crate) patterns: Vec<String>,
    /// Where to begin: latest (default), earliest, an RFC 3339 time, -N (the last N), or an event id
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Print each event as one line of JSON with its id, topic, type, key, origin, time and uuid
    #[arg(long)]
    pub(crate) envelope: bool,
    /// Keep the place in this file and begin there; it goes before --from
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// List topics and what they hold.
#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    /// Only topics that this pattern matches, as in 'stocks.*'
    pub(crate) pattern: Option<String>,
    /// Print the broker's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Show the state of the broker.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print the broker's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Say whether the broker is ready to publish and read: exit code 0 if it is, 1 if not
///
/// It needs no token, and nothing but this binary: the health check of a container.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// All keys, from the table that the configuration reads.
fn keys_help() -> String {
    let mut help = "Configuration keys, with their defaults. Each can be given by --set KEY=VALUE, as the environment variable\n\
                    PERENNIAL_<KEY>, or in the file; the first of these wins.\n\n"
        .to_owned();
    for (key, default, meaning) in keys::all() {
        help += &format!("  {key:<24} {default:<17} {meaning}\n");
    }
    help + "\nDurations: 500ms 2s 5m 24h 7d 1w. Sizes: 64KiB 1MiB 2GiB. Lists: with commas."
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_place_may_begin_with_a_hyphen() {
        let cli = Cli::try_parse_from(["perennial", "subscribe", "a.**", "b", "--from", "-5", "--envelope"])
            .unwrap();
        let Command::Subscribe(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!((args.from.as_deref(), args.patterns.len(), args.envelope), (Some("-5"), 2, true));
    }

    #[test]
    fn the_help_of_a_command_has_its_examples() {
        let mut command = Cli::command();
        command.build();
        for (path, example) in [
            (&["publish"][..], "tail -f trades.ndjson | perennial publish stocks.ibm --ndjson"),
            (&["subscribe"], "--cursor stocks.cursor"),
            (&["policy"], "perennial policy list"),
            (&["policy", "set"], "--max-events 100000 --dry-run"),
            (&["purge"], "perennial purge stocks.ibm --yes"),
            (&["export"], "zstd > monday.ndjson.zst"),
            (&["import"], "| perennial import"),
            (&["backup"], "perennial serve --data ./backup"),
            (&["verify"], "perennial verify --data ./perennial-data"),
            (&["token"], "--publish 'stocks.*' --ttl 12h"),
            (&["keys", "generate"], "perennial serve --set auth_keys=perennial.pub"),
            (&["bench"], "perennial bench replay --events 100000 --readers 4"),
            (&["bench", "fanout"], "--rate saturated"),
        ] {
            let found = path.iter().try_fold(&mut command, |command, name| command.find_subcommand_mut(name));
            let help = found.unwrap().render_long_help().to_string();
            assert!(help.contains(example), "{path:?}: {help}");
        }
    }

    #[test]
    fn a_log_is_a_directory_or_a_broker_but_not_both() {
        let export = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["perennial", "export"], arguments].concat()).ok()?;
            let Command::Export(args) = cli.command else { panic!("{cli:?}") };
            Some((args.log.data.is_some(), args.log.server().url))
        };
        assert_eq!(export(&["--url", "http://h:1"]), Some((false, "http://h:1".to_owned())));
        assert!(export(&["--data", "d"]).is_some_and(|(is_directory, _)| is_directory));
        assert_eq!(export(&["--data", "d", "--url", "http://h:1"]), None);
    }

    #[test]
    fn the_help_of_serve_names_every_key() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        for (key, ..) in keys::all() {
            assert!(help.contains(key), "{key}");
        }
    }
}
