//! Logs, on standard error: one line an event, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::WrongUsage;
use crate::config::Config;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// Begins to log. Once in a process.
pub(crate) fn start(config: &Config) -> Result<(), WrongUsage> {
    let filter = EnvFilter::builder().parse(&config.log).map_err(|error| {
        WrongUsage(format!(
            "log: {:?} is not a log filter ({error}); write a level or levels by module, as in info or warn,broker=debug",
            config.log
        ))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
