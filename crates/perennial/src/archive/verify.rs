//! `perennial verify`: whether a log is what was written.

use anyhow::Context;

use super::store::Store;
use crate::cli::VerifyArgs;
use crate::client::http::block_on;
use crate::client::table::{grouped, print};
use crate::progress::Progress;

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.data)?;
    let progress = Progress::events(Some(store.events()));
    let found = store.verify(&mut |events| progress.reach(events));
    drop(progress);
    let found = found.with_context(|| format!("the log in {} is not sound", args.data.display()))?;
    let mut out: String =
        found.iter().map(|(name, count)| format!("{name:<16} {}\n", grouped(*count))).collect();
    out += &format!("{:<16} {}\nevery record and every index is sound\n", "head", store.head());
    block_on(async {
        store.close().await;
        Ok(())
    })?;
    Ok(print(out.as_bytes())?)
}
