//! `perennial import`: text becomes a log, or a part of one.

use anyhow::bail;
use broker_http::archive::Line;

use super::append::{self, Target};
use super::store::{Copied, Copy};
use super::text::Text;
use crate::cli::ImportArgs;
use crate::client::http::{Server, block_on};
use crate::client::table::grouped;
use crate::progress::Progress;
use crate::tell;

pub(crate) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    // Wrong usage is told before anything is read, which may be waited for.
    let server = args.log.data.is_none().then(|| Server::new(&args.log.server())).transpose()?;
    let (text, bytes) = Text::open(args.file.as_deref())?;
    block_on(import(args, server, text, &Progress::bytes(bytes)))
}

async fn import(
    args: &ImportArgs,
    server: Option<Server>,
    mut text: Text,
    progress: &Progress,
) -> anyhow::Result<()> {
    let Some(first) = text.next().await? else { return Ok(()) };
    let target = match (&args.log.data, server) {
        (Some(directory), _) => {
            if let Line::Item(_) = first
                && let Some(copy) = Copy::begin(directory)?
            {
                let copied = copy_all(copy, first, &mut text, &|text| progress.reach(text.bytes())).await?;
                tell(&format!(
                    "perennial: imported {} events into {}; the newest id is {}",
                    grouped(copied.events),
                    directory.display(),
                    copied.head
                ));
                return Ok(());
            }
            Target::directory(directory)?
        }
        (None, Some(server)) => Target::Server(server),
        (None, None) => bail!("neither a directory nor a broker was named"),
    };
    let appended = append::all(target, first, &mut text, progress).await?;
    tell(&format!("perennial: {appended}"));
    Ok(())
}

/// Makes an exact copy of an archive. What does not come to its end is no log.
pub(super) async fn copy_all(
    mut copy: Copy,
    first: Line,
    text: &mut Text,
    progress: &impl Fn(&Text),
) -> anyhow::Result<Copied> {
    let mut next = Some(first);
    while let Some(line) = next {
        let Line::Item(item) = line else { bail!("an event stands outside of the archive") };
        copy.push(item).map_err(|error| text.at_line(error))?;
        progress(text);
        next = text.next().await?;
    }
    copy.finish()
}
