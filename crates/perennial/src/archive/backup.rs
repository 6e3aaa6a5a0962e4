//! `perennial backup`: a running broker's log becomes a data directory.

use anyhow::bail;
use broker_http::archive::Line;

use super::export::ask;
use super::import::copy_all;
use super::store::Copy;
use crate::cli::BackupArgs;
use crate::client::http::{Server, block_on};
use crate::client::table::grouped;
use crate::tell;

pub(crate) fn run(args: &BackupArgs) -> anyhow::Result<()> {
    block_on(backup(args))
}

async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let directory = args.directory.display();
    let server = Server::new(&args.server)?;
    let (mut text, progress) = ask(&server).await?;
    let first = match text.next().await? {
        Some(first @ Line::Item(_)) => first,
        _ => bail!("{} answers, but not with an archive; is this the address of a broker?", args.server.url),
    };
    let Some(copy) = Copy::begin(&args.directory)? else {
        bail!("{directory} has a log with events already; a backup goes into a new or empty directory");
    };
    let copied = copy_all(copy, first, &mut text, &|text| progress.reach(text.events())).await?;
    drop(progress);
    tell(&format!(
        "perennial: copied {} events; the newest id is {}. Serve it with: perennial serve --data {directory}",
        grouped(copied.events),
        copied.head
    ));
    Ok(())
}
