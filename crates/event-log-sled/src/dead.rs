//! Which places are dead: superseded events whose records are still in their chunks.
//!
//! A block with dead places has a row that lists them. Readers ask here; a block without any costs one look into memory.

use std::collections::HashMap;
use std::rc::Rc;

use event_log::{Position, ReadError};

use crate::blocks::{self, BlockNumber};
use crate::keys;
use crate::rows;
use crate::shared::Shared;
use crate::store::Store;

/// The dead places of the blocks that one read met.
pub(crate) struct DeadPlaces<'a> {
    shared: &'a Shared,
    store: &'a Store,
    known: HashMap<BlockNumber, Rc<[u16]>>,
    /// The block that was asked for last: neighbours are asked for one after the other.
    last: Option<(BlockNumber, Rc<[u16]>)>,
}

impl<'a> DeadPlaces<'a> {
    pub(crate) fn new(shared: &'a Shared, store: &'a Store) -> Self {
        DeadPlaces { shared, store, known: HashMap::new(), last: None }
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

    /// The dead places of a block, as offsets in it.
    pub(crate) fn of(&mut self, number: BlockNumber) -> Result<Rc<[u16]>, ReadError> {
        if let Some(known) = self.known.get(&number) {
            return Ok(Rc::clone(known));
        }
        let has_dead = self.shared.view().catalog.blocks.get(number).dead > 0;
        let dead: Rc<[u16]> = if has_dead { read(self.store, number)?.into() } else { Rc::new([]) };
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
