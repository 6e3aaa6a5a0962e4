//! The newest events, in memory, so that a reader near the head is answered at once.

use std::collections::VecDeque;
use std::sync::Arc;

use event_log::{Event, Filter, PageLimit, Position, limits};

use crate::cold::PageOfKept;

/// What an event takes beside its texts, about.
const OVERHEAD_BYTES: usize = 256;
/// One read walks past no more events than this, so that it never holds up the thread that asks.
const WALK_MAX: usize = 4_096;

/// The newest events, without a hole: all after `since`.
#[derive(Debug)]
pub(crate) struct Fresh {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    bytes_max: usize,
    since: Position,
}

impl Fresh {
    /// Holds nothing yet; what comes next comes after `since`.
    pub(crate) fn new(since: Position, bytes_max: usize) -> Self {
        Fresh { events: VecDeque::new(), bytes: 0, bytes_max, since }
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight() + OVERHEAD_BYTES;
        self.events.push_back(event);
        while self.events.len() > limits::RECENT_EVENTS_MAX || self.bytes > self.bytes_max {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.weight() + OVERHEAD_BYTES;
            self.since = oldest.position;
        }
    }

    /// Forgets all up to a place, because some of it was removed: from there on the log itself is asked.
    pub(crate) fn forget_through(&mut self, place: Position) {
        while let Some(oldest) = self.events.front().filter(|oldest| oldest.position <= place) {
            self.bytes -= oldest.weight() + OVERHEAD_BYTES;
            self.events.pop_front();
        }
        self.since = self.since.max(place);
    }

    /// The events after a place, if all that comes after it is here; how far they go, and whether that is the head.
    pub(crate) fn page(
        &self,
        filter: &Filter,
        after: Position,
        limit: PageLimit,
        head: Position,
    ) -> Option<PageOfKept> {
        if after < self.since {
            return None;
        }
        let start = self.events.partition_point(|event| event.position <= after);
        let (mut events, mut bytes, mut next) = (Vec::new(), 0, after);
        for event in self.events.range(start..).take(WALK_MAX) {
            next = event.position;
            if filter.wants(event) {
                bytes += event.weight();
                events.push(Arc::clone(event));
                if events.len() >= limit.events || bytes >= limit.bytes {
                    return Some(PageOfKept { events, next, at_head: next >= head, is_full: true });
                }
            }
        }
        let at_head = self.events.len() - start <= WALK_MAX;
        let next = if at_head { head.max(after) } else { next };
        Some(PageOfKept { events, next, at_head, is_full: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::full;

    fn ring(positions: std::ops::RangeInclusive<u64>, bytes: usize) -> Fresh {
        let mut fresh = Fresh::new(Position::new(positions.start() - 1), 8 << 20);
        for position in positions {
            let data = event_log::Data::from(bytestring::ByteString::from("x".repeat(bytes)));
            fresh.push(Arc::new(Event { position: Position::new(position), data, ..full().0 }));
        }
        fresh
    }

    #[test]
    fn it_answers_only_when_nothing_is_missing() {
        let fresh = ring(11..=20, 1);
        let page = |after| {
            let limit = PageLimit { events: 4, bytes: 1_000 };
            fresh.page(&Filter::everything(), Position::new(after), limit, Position::new(20))
        };
        assert_eq!(page(9), None);
        let first = page(10).unwrap();
        assert_eq!((first.events.len(), first.next, first.at_head), (4, Position::new(14), false));
        let last = page(18).unwrap();
        assert_eq!((last.events.len(), last.next, last.at_head), (2, Position::new(20), true));
        let beyond = page(30).unwrap();
        assert_eq!((beyond.events.len(), beyond.next, beyond.at_head), (0, Position::new(30), true));
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_what_one_read_walks() {
        let large = ring(1..=20, 1 << 20);
        assert!(large.events.len() < 8 && large.bytes <= 8 << 20);
        assert_eq!(large.since.get() + large.events.len() as u64, 20);

        let many = ring(1..=10_000, 1);
        let nothing = Filter::new(vec![event_log::Pattern::parse("absent").unwrap()]);
        let limit = PageLimit { events: 1, bytes: 1 };
        let page = many.page(&nothing, Position::ORIGIN, limit, Position::new(10_000)).unwrap();
        assert_eq!((page.events.len(), page.next.get(), page.at_head), (0, WALK_MAX as u64, false));
    }
}
