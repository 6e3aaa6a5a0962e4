//! Version 2: events can be removed. Frozen.
//!
//! The index also holds what each event weighs, the row of a topic how far it was compacted, and there are rows for what
//! was removed. All of these but the last are projections, in shapes that version 1 did not have. So this step only takes
//! the checkpoint away, and the engine makes the projections anew from the events, which stay as they are.

use std::path::Path;

use crate::Error;

/// The checkpoint of version 1.
const CHECKPOINT_KEY: [u8; 2] = [0x00, 0x02];

/// Makes a store of version 1 one of version 2.
pub(crate) fn apply(_db: &sled::Db, _data: &Path, batch: &mut sled::Batch) -> Result<(), Error> {
    batch.remove(&CHECKPOINT_KEY);
    Ok(())
}
