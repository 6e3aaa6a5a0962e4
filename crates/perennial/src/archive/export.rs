//! `perennial export`: a log becomes text.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use broker_http::archive::{Line, Writer};
use event_log::Item;
use reqwest::Response;
use serde::Deserialize;

use super::store::Store;
use super::text::Text;
use crate::cli::{ExportArgs, ServerArgs};
use crate::client::http::{Server, block_on};
use crate::client::table::grouped;
use crate::progress::Progress;
use crate::tell;

const UNWRITABLE: &str = "standard output cannot be written, so the archive is not whole";

pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let events = match &args.log.data {
        Some(directory) => block_on(from_directory(directory, &mut out))?,
        None => block_on(from_broker(&args.log.server(), &mut out))?,
    };
    out.flush().context(UNWRITABLE)?;
    tell(&format!("perennial: exported {} events", grouped(events)));
    Ok(())
}

async fn from_directory(directory: &Path, out: &mut impl Write) -> anyhow::Result<u64> {
    let store = Store::open(directory)?;
    let events = write(&store, out).await.with_context(|| format!("{} is not exported", directory.display()));
    store.close().await;
    events
}

async fn write(store: &Store, out: &mut impl Write) -> anyhow::Result<u64> {
    let progress = Progress::events(Some(store.events()));
    let (mut archive, mut writer, mut lines, mut events) =
        (store.archive(), Writer::default(), Vec::new(), 0);
    loop {
        let items = archive.next().await?;
        if items.is_empty() {
            return Ok(events);
        }
        for item in &items {
            events += u64::from(matches!(item, Item::Event(_)));
            writer.write(&mut lines, item);
        }
        out.write_all(&lines).context(UNWRITABLE)?;
        lines.clear();
        progress.reach(events);
    }
}

/// Every line is judged on its way, so that what is printed is an archive, or the command fails.
async fn from_broker(args: &ServerArgs, out: &mut impl Write) -> anyhow::Result<u64> {
    let server = Server::new(args)?;
    let (mut text, progress) = ask(&server).await?;
    while let Some(line) = text.next().await? {
        if matches!(line, Line::Event(_)) {
            bail!("{} answers, but not with an archive; is this the address of a broker?", args.url);
        }
        out.write_all(text.line().as_bytes()).and_then(|()| out.write_all(b"\n")).context(UNWRITABLE)?;
        progress.reach(text.events());
    }
    Ok(text.events())
}

/// Asks a broker for its log. How much there will be is only for the person who waits.
pub(super) async fn ask(server: &Server) -> anyhow::Result<(Text, Progress)> {
    #[derive(Deserialize)]
    struct Status {
        events: u64,
    }
    let status = server.get(server.url(&["v1", "status"])).await?;
    let total = serde_json::from_str(&status).ok().map(|status: Status| status.events);
    let response: Response = server.open(server.client().get(server.url(&["v1", "export"]))).await?;
    Ok((Text::answer(response), Progress::events(total)))
}
