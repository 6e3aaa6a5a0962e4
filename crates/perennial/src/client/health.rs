//! `perennial health`: whether the broker is ready, for those that only look at an exit code.

use super::http::{Server, block_on};
use super::table;
use crate::cli::HealthArgs;

pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<()> {
    let server = Server::new(&args.server)?;
    block_on(server.get(server.url(&["readyz"])))?;
    Ok(table::print(b"ready\n")?)
}
