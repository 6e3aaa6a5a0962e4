//! Where a read begins, on a thread that may block.
//!
//! A seek may have to walk through the whole log, and the threads that read are few. So it is cut into jobs: one walks past
//! a bounded number of bytes, then says where to go on, and the reads that were asked for in the meantime have their turn.
//! The head is taken when the seek begins, so all its jobs look at the same log. What is carried from job to job does not
//! depend on the way, along the index or through all chunks; each job takes the one that is shorter by then.

use event_log::{Position, ReadError, Seek, Timestamp, limits};

use crate::chunk::Chunk;
use crate::cold::{KnownTopics, Read};
use crate::dead::DeadPlaces;
use crate::merge::{Merge, Way};
use crate::reader::Resolved;

/// One job passes by so many dead places.
const DEAD_AT_ONCE: usize = 65_536;

/// A seek that has come so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    /// The head when it began.
    head: Position,
    /// What is left of it: where to go on after, or how many events are still to be found.
    to: Seek,
    /// A seek backwards goes on from here.
    through: Position,
    /// The oldest wanted event that a seek backwards met.
    oldest: Option<Position>,
}

/// What one job came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sought {
    /// The place from which a read begins.
    Found(Position),
    /// The rest, for a job of its own.
    GoOn(Search),
}

impl Search {
    /// The whole seek, in the log up to this head.
    pub(crate) fn new(to: Seek, head: Position) -> Self {
        Search { head, to, through: head, oldest: None }
    }

    /// Ends before this event, or at the head if there is none.
    fn found(&self, first: Option<Position>) -> Sought {
        Sought::Found(first.filter(|first| *first <= self.head).map_or(self.head, Position::just_before))
    }

    /// Goes back past this part of the log, which holds these wanted places; ends if they are as many as were left.
    fn passed(mut self, left: u64, wanted: &[Position], part_begins: Position) -> Sought {
        let enough = usize::try_from(left).ok().and_then(|left| wanted.len().checked_sub(left));
        if let Some(index) = enough {
            return self.found(wanted.get(index).copied());
        }
        self.to = Seek::Last(left - wanted.len() as u64);
        self.oldest = wanted.first().copied().or(self.oldest);
        self.through = part_begins.just_before();
        Sought::GoOn(self)
    }
}

impl Read<'_> {
    /// One job of a seek.
    pub(crate) fn seek(&self, resolved: &mut Resolved, search: Search) -> Result<Sought, ReadError> {
        match search.to {
            Seek::Time(time) => {
                let before = self.before_time(time, search.head)?;
                Ok(Sought::GoOn(Search { to: Seek::FirstOfTopicsAfter(before), ..search }))
            }
            Seek::FirstOfTopicsAfter(after) => self.seek_first(resolved, after, search),
            Seek::Last(0) => Ok(search.found(None)),
            Seek::Last(_) => self.seek_last(resolved, search),
        }
    }

    /// Just before the first record of the whole log at or after a time, whether it was removed or not; the head if there is
    /// none. Halves the range of places until one chunk is left: times never decrease.
    pub(crate) fn before_time(&self, time: Timestamp, head: Position) -> Result<Position, ReadError> {
        let oldest = self.shared.view().catalog.oldest();
        let Some(oldest) = oldest else { return Ok(head) };
        let (mut low, mut high) = (oldest.get(), head.get());
        // The chunk that holds `low` begins before `time`, or is the first one; every chunk that begins after `high`
        // begins at or after it.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.first_of_chunk(Position::new(middle))? {
                Some((_, begins)) if begins < time => low = middle,
                Some((first, _)) if first.get() > low => high = first.get() - 1,
                _ => break,
            }
        }
        for chunk in self.store.chunks(Position::new(low), head)? {
            for record in chunk?.records() {
                let record = record?;
                if record.time() >= time && record.position() <= head {
                    return Ok(record.position().just_before());
                }
            }
        }
        Ok(head)
    }

    fn first_of_chunk(&self, place: Position) -> Result<Option<(Position, Timestamp)>, ReadError> {
        let Some(chunk) = self.store.chunk_at(place)? else { return Ok(None) };
        chunk.records().next().transpose().map(|first| first.map(|record| (record.position(), record.time())))
    }

    fn seek_first(
        &self,
        resolved: &mut Resolved,
        after: Position,
        mut search: Search,
    ) -> Result<Sought, ReadError> {
        // What lies behind the head can be read a moment before it is shown: it must not be looked at.
        if after >= search.head {
            return Ok(search.found(None));
        }
        let merge = {
            let view = self.shared.view();
            resolved.update(self.filter, &view.catalog.topics);
            resolved.topics().map(|topics| Merge::new(self.store, &view, topics, Way::After(after)))
        };
        match merge {
            // The index has the answer at once, however far away it is, but for dead places in between.
            Some(mut merge) => {
                let mut dead = DeadPlaces::new(self.shared, self.store);
                merge.begin()?;
                for _ in 0..DEAD_AT_ONCE {
                    match merge.next()? {
                        Some(place) if dead.has(place)? => search.to = Seek::FirstOfTopicsAfter(place),
                        found => {
                            merge.settle(self.shared)?;
                            return Ok(search.found(found));
                        }
                    }
                }
                merge.settle(self.shared)?;
                Ok(Sought::GoOn(search))
            }
            None => self.first_in_chunks(after, search),
        }
    }

    fn first_in_chunks(&self, after: Position, search: Search) -> Result<Sought, ReadError> {
        let mut topics = KnownTopics::new(self);
        let (mut walked, mut through) = (0, after);
        for chunk in self.store.chunks(Position::new(after.get().saturating_add(1)), search.head)? {
            let chunk = chunk?;
            for record in chunk.records() {
                let record = record?;
                if record.position() > after && topics.wanted(&record)?.is_some() {
                    return Ok(search.found(Some(record.position())));
                }
                through = through.max(record.position());
            }
            walked += chunk.body().len();
            if walked >= limits::PAGE_SCAN_BYTES_MAX && through > after {
                return Ok(Sought::GoOn(Search { to: Seek::FirstOfTopicsAfter(through), ..search }));
            }
        }
        Ok(search.found(None))
    }

    /// Goes backwards until enough is found, or enough was done for one job.
    fn seek_last(&self, resolved: &mut Resolved, search: Search) -> Result<Sought, ReadError> {
        let (_, mut merge) = self.begin(resolved, Way::Through(search.through));
        if let Some(merge) = &mut merge {
            merge.begin()?;
        }
        let sought = self.go_back(&mut merge, search)?;
        merge.map_or(Ok(()), |merge| merge.settle(self.shared))?;
        Ok(sought)
    }

    fn go_back(&self, merge: &mut Option<Merge<'_>>, mut search: Search) -> Result<Sought, ReadError> {
        let mut topics = KnownTopics::new(self);
        let mut walked = 0;
        while let Seek::Last(left) = search.to
            && walked < limits::PAGE_SCAN_BYTES_MAX
        {
            let place = match merge {
                Some(merge) => next_through(merge, search.through)?,
                None => Some(search.through).filter(|place| *place > Position::ORIGIN),
            };
            let Some(place) = place else { return Ok(search.found(search.oldest)) };
            let sought = if merge.is_some() && self.filter.is_by_topic_only() {
                walked += size_of::<Position>();
                let kept = if topics.dead.has(place)? { &[][..] } else { &[place] };
                search.passed(left, kept, place)
            } else if let Some(chunk) = self.store.chunk_at(place)? {
                walked += chunk.body().len();
                let (wanted, last) = self.wanted_places(&chunk, search.through, &mut topics)?;
                if let Some(merge) = merge.as_ref().filter(|_| last < place) {
                    self.check_gone(merge, &mut topics, place)?;
                }
                search.passed(left, &wanted, chunk.first())
            } else if let Some(merge) = merge {
                self.check_gone(merge, &mut topics, place)?;
                search.passed(left, &[], place)
            } else {
                return Ok(search.found(search.oldest));
            };
            match sought {
                Sought::GoOn(rest) => search = rest,
                found @ Sought::Found(_) => return Ok(found),
            }
        }
        Ok(Sought::GoOn(search))
    }

    /// The places up to `through` of a chunk's wanted events, and the last place of the chunk.
    fn wanted_places(
        &self,
        chunk: &Chunk,
        through: Position,
        topics: &mut KnownTopics<'_>,
    ) -> Result<(Vec<Position>, Position), ReadError> {
        let (mut wanted, mut last) = (Vec::new(), Position::ORIGIN);
        for record in chunk.records() {
            let record = record?;
            last = record.position();
            if last > through {
                break;
            }
            if topics.wanted(&record)?.is_none() {
                continue;
            }
            let is_wanted = self.filter.is_by_topic_only() || {
                let event = record.view().map_err(ReadError::Damaged)?;
                self.filter.wants_named(event.type_name(), event.origin)
            };
            if is_wanted {
                wanted.push(last);
            }
        }
        Ok((wanted, last))
    }
}

/// The next place that is not past this one: the chunk that held those in between was looked at whole.
fn next_through(merge: &mut Merge<'_>, through: Position) -> Result<Option<Position>, ReadError> {
    loop {
        match merge.next()? {
            Some(place) if place > through => {}
            other => return Ok(other),
        }
    }
}

#[cfg(test)]
mod tests;
