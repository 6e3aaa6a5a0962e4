//! Which places are dead: superseded events whose records are still in their chunks.
//!
//! A block with dead places has a row that lists them. Readers ask here; a block without any costs one look into memory.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use event_log::{Position, ReadError};

use crate::at_once::would_wait;
use crate::blocks::{self, BlockNumber};
use crate::keys;
use crate::rows;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// Between two looks whether a commit is shown.
pub(crate) const WAIT: Duration = Duration::from_micros(200);
/// Longer than any commit takes.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The dead places of the blocks that one read met.
pub(crate) struct DeadPlaces<'a> {
    shared: &'a Shared,
    store: &'a Store,
    known: HashMap<BlockNumber, Rc<[u16]>>,
    /// The block that was asked for last: neighbours are asked for one after the other.
    last: Option<(BlockNumber, Rc<[u16]>)>,
    /// Whether rows may be read from the disk, and commits be waited for.
    pub(crate) may_wait: bool,
}

impl<'a> DeadPlaces<'a> {
    pub(crate) fn new(shared: &'a Shared, store: &'a Store) -> Self {
        DeadPlaces { shared, store, known: HashMap::new(), last: None, may_wait: true }
    }

    /// Whether the event at a place is superseded.
    pub(crate) fn has(&mut self, position: Position) -> Result<bool, ReadError> {
        let number = blocks::number_of(position);
        let dead = match &self.last {
            Some((last, dead)) if *last == number => dead,
            _ => {
                let dead = self.of(number)?;
                &self.last.insert((number, dead)).1
            }
        };
        Ok(!dead.is_empty() && dead.binary_search(&blocks::offset_in(position)).is_ok())
    }

    /// The dead places of a block, as offsets in it, as far as their deaths are durable: while a commit is being written,
    /// the store has its list already. So this waits until the commit is shown, which is a barrier away.
    pub(crate) fn of(&mut self, number: BlockNumber) -> Result<Rc<[u16]>, ReadError> {
        if let Some(known) = self.known.get(&number) {
            return Ok(Rc::clone(known));
        }
        let begun = Instant::now();
        let dead: Rc<[u16]> = loop {
            let shown = self.shared.view().catalog.blocks.get(number).dead as usize;
            if shown > 0 && !self.may_wait {
                return Err(would_wait());
            }
            let listed = if shown > 0 { read(self.store, number)? } else { Vec::new() };
            if listed.len() == shown {
                break listed.into();
            }
            self.shared.is_open().map_err(|_| ReadError::Closed)?;
            if begun.elapsed() > WAIT_MAX {
                let listed = listed.len();
                return Err(index_damaged(format!(
                    "block {number} has {listed} dead places, and not {shown}"
                )));
            }
            std::thread::sleep(WAIT);
        };
        self.known.insert(number, Rc::clone(&dead));
        Ok(dead)
    }
}

/// The list of a block's dead places. It is no projection: nothing else says that they are dead.
pub(crate) fn read(store: &Store, number: BlockNumber) -> Result<Vec<u16>, ReadError> {
    let Some(body) = store.get_sealed(&keys::dead(number))? else { return Ok(Vec::new()) };
    body.and_then(|body| rows::decode_dead(&body))
        .map_err(|what| ReadError::Damaged(format!("the dead places of block {number}: {what}")))
}
