//! Version 1, the first: the stamp itself is the only row that a new store needs. Frozen.

use std::path::Path;

use crate::Error;

/// Makes a store that holds nothing one of version 1. The engine writes the list of epochs after it.
pub(crate) fn apply(_db: &sled::Db, _data: &Path, _batch: &mut sled::Batch) -> Result<(), Error> {
    Ok(())
}
