//! A reader: answers from memory what is near the head, and sends the rest to the threads that read from disk.

use std::sync::Arc;

use event_log::{Filter, LogReader, Page, PageLimit, Position, ReadError, Seek};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::catalog::Topics;
use crate::keys::TopicNumber;
use crate::seek::{Search, Sought};
use crate::shared::Shared;
use crate::{cold, pool};

/// A reader remembers at most so many topics; one that wants more reads all chunks.
const TOPICS_MAX: usize = 4_096;

/// Which topics a filter wants, as far as they are known to it. Topic numbers only grow, so each topic is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    looked_at: usize,
    topics: Vec<TopicNumber>,
    too_many: bool,
}

impl Resolved {
    /// Looks at the topics that are new.
    pub(crate) fn update(&mut self, filter: &Filter, known: &Topics) {
        self.too_many |= filter.patterns().is_empty();
        if self.too_many || self.looked_at == known.len() {
            return;
        }
        let names: Option<Vec<_>> = filter.patterns().iter().map(event_log::Pattern::as_topic).collect();
        match names {
            // Names without wildcards are looked up, however many topics there are.
            Some(names) => {
                self.topics = names.iter().filter_map(|name| known.number(name.as_str())).collect();
            }
            None => {
                let new = known.since(self.looked_at).filter(|(_, row)| filter.wants_topic(&row.topic));
                self.topics.extend(new.map(|(number, _)| number).take(TOPICS_MAX + 1 - self.topics.len()));
            }
        }
        self.looked_at = known.len();
        if self.topics.len() > TOPICS_MAX {
            (self.topics, self.too_many) = (Vec::new(), true);
        }
    }

    /// The topics, unless they are too many to name.
    pub(crate) fn topics(&self) -> Option<&[TopicNumber]> {
        (!self.too_many).then_some(&self.topics)
    }
}

pub(crate) struct SledReader {
    shared: Arc<Shared>,
    filter: Arc<Filter>,
    resolved: Arc<Mutex<Resolved>>,
}

impl SledReader {
    pub(crate) fn new(shared: Arc<Shared>, filter: Arc<Filter>) -> Self {
        SledReader { shared, filter, resolved: Arc::default() }
    }

    fn page_in_memory(&self, after: Position, limit: PageLimit) -> Option<Page> {
        let view = self.shared.view();
        view.fresh.page(&self.filter, after, limit, view.catalog.head)
    }
}

impl LogReader for SledReader {
    fn read(&mut self, after: Position, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        if self.shared.is_closed() {
            return ready(Err(ReadError::Closed)).boxed();
        }
        if let Some(page) = self.page_in_memory(after, limit) {
            return ready(Ok(page)).boxed();
        }
        let (filter, resolved) = (Arc::clone(&self.filter), Arc::clone(&self.resolved));
        pool::run(Arc::clone(&self.shared), move |shared, store| {
            cold::Read { shared, store, filter: &filter }.page(&mut resolved.lock(), after, limit)
        })
        .boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Position, ReadError>> {
        let mut search = Search::new(to, self.shared.view().catalog.head);
        async move {
            loop {
                let (filter, resolved) = (Arc::clone(&self.filter), Arc::clone(&self.resolved));
                let sought = pool::run(Arc::clone(&self.shared), move |shared, store| {
                    cold::Read { shared, store, filter: &filter }.seek(&mut resolved.lock(), search)
                });
                match sought.await? {
                    Sought::Found(place) => return Ok(place),
                    Sought::GoOn(rest) => search = rest,
                }
            }
        }
        .boxed()
    }
}
