//! A reader: answers from memory what is near the head, and sends the rest to the threads that read from disk.

use std::sync::Arc;

use event_log::{
    Cursor, Encoder, Event, Filter, LogReader, Page, PageLimit, Position, ReadError, Removals, ReplayPage,
    Replayed, Resumed, Seek,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::at_once::would_wait;
use crate::catalog::Topics;
use crate::cold::{PageOfKept, Sink};
use crate::keys::TopicNumber;
use crate::seek::{Search, Sought};
use crate::shared::Shared;
use crate::store::Store;
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
    /// Whether the last page was full.
    gets_full_pages: bool,
}

impl SledReader {
    pub(crate) fn new(shared: Arc<Shared>, filter: Arc<Filter>) -> Self {
        SledReader { shared, filter, resolved: Arc::default(), gets_full_pages: false }
    }

    /// The page, if it can be told without the disk.
    fn page_in_memory(&self, after: Cursor, limit: PageLimit) -> Option<Answer<Vec<Arc<Event>>>> {
        let view = self.shared.view();
        let catalog = &view.catalog;
        if catalog.is_missed(&self.filter, after) {
            return Some(Answer::Missed(catalog.removals));
        }
        let page = view.fresh.page(&self.filter, after.position, limit, catalog.head)?;
        Some(Answer::Page(page, catalog.removals))
    }

    /// The place from which a read begins as asked.
    async fn find(&self, to: Seek) -> Result<Position, ReadError> {
        let mut search = Search::new(to, self.shared.view().catalog.head);
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

    /// Where a reader goes on that missed something. What is removed from now on it does not know.
    async fn after_gap(&self, cursor: Cursor, removals: Removals) -> Result<Cursor, ReadError> {
        let position = self.find(Seek::FirstOfTopicsAfter(cursor.position)).await?;
        Ok(Cursor { position, removals })
    }

    /// The page, if the system has it in memory. Whoever gets full pages finds what it wants wherever it looks, so that this takes
    /// little longer than to write them.
    fn page_at_once<S: Sink>(
        &self,
        after: Cursor,
        limit: PageLimit,
        sink: S,
    ) -> Option<Result<Answer<S>, ReadError>> {
        if !self.gets_full_pages {
            return None;
        }
        pool::run_at_once(&self.shared, |shared, store| {
            // A read that nobody waits for any more may still have it.
            let mut resolved = self.resolved.try_lock().ok_or_else(would_wait)?;
            page_on_disk(&cold::Read { shared, store, filter: &self.filter }, after, |read| {
                read.kept_page_at_once(&mut resolved, after.position, limit, sink)
            })
        })
    }

    async fn page<S: Sink + Send + 'static>(
        &mut self,
        after: Cursor,
        limit: PageLimit,
        sink: impl Fn() -> S,
    ) -> Result<Told<S>, ReadError> {
        let answer = match self.page_in_memory(after, limit) {
            Some(answer) => answer.into(sink()),
            None => match self.page_at_once(after, limit, sink()) {
                Some(answer) => answer?,
                None => {
                    let (filter, resolved) = (Arc::clone(&self.filter), Arc::clone(&self.resolved));
                    let events = sink();
                    let read = move |shared: &Shared, store: &Store| {
                        let read = cold::Read { shared, store, filter: &filter };
                        page_on_disk(&read, after, |read| {
                            read.kept_page(&mut resolved.lock(), after.position, limit, events)
                        })
                    };
                    pool::run(Arc::clone(&self.shared), read).await?
                }
            },
        };
        self.gets_full_pages = matches!(&answer, Answer::Page(page, _) if page.is_full);
        match answer {
            Answer::Page(PageOfKept { events, next, at_head, .. }, removals) => {
                Ok(Told { events, next: Cursor { position: next, removals }, at_head, gap: false })
            }
            Answer::Missed(removals) => {
                let next = self.after_gap(after, removals).await?;
                let at_head = next.position >= self.shared.view().catalog.head;
                Ok(Told { events: sink(), next, at_head, gap: true })
            }
        }
    }
}

/// What a page came to, with the removals that it took into account.
enum Answer<S> {
    Page(PageOfKept<S>, Removals),
    Missed(Removals),
}

impl Answer<Vec<Arc<Event>>> {
    /// The same with what its events become.
    fn into<S: Sink>(self, mut sink: S) -> Answer<S> {
        match self {
            Answer::Page(PageOfKept { events, next, at_head, is_full }, removals) => {
                sink.take_all(events);
                Answer::Page(PageOfKept { events: sink, next, at_head, is_full }, removals)
            }
            Answer::Missed(removals) => Answer::Missed(removals),
        }
    }
}

/// A page, whatever its events have become.
struct Told<S> {
    events: S,
    next: Cursor,
    at_head: bool,
    gap: bool,
}

/// Reads a page, and looks only then whether anything was removed: what was removed while it was read is seen.
fn page_on_disk<S: Sink>(
    read: &cold::Read<'_>,
    after: Cursor,
    page: impl FnOnce(&cold::Read<'_>) -> Result<PageOfKept<S>, ReadError>,
) -> Result<Answer<S>, ReadError> {
    let page = page(read)?;
    let view = read.shared.view();
    let catalog = &view.catalog;
    match catalog.is_missed(read.filter, after) {
        true => Ok(Answer::Missed(catalog.removals)),
        false => Ok(Answer::Page(page, catalog.removals)),
    }
}

impl LogReader for SledReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        if self.shared.is_closed() {
            return ready(Err(ReadError::Closed)).boxed();
        }
        let page = async move {
            let Told { events, next, at_head, gap } = self.page(after, limit, Vec::new).await?;
            Ok(Page { events, next, at_head, gap })
        };
        page.boxed()
    }

    fn replay(
        &mut self,
        after: Cursor,
        limit: PageLimit,
        encoder: &Arc<dyn Encoder>,
    ) -> BoxFuture<'_, Result<ReplayPage, ReadError>> {
        if self.shared.is_closed() {
            return ready(Err(ReadError::Closed)).boxed();
        }
        let encoder = Arc::clone(encoder);
        let page = async move {
            let sink = || Replayed::new(Arc::clone(&encoder));
            let Told { events, next, at_head, gap } = self.page(after, limit, sink).await?;
            Ok(ReplayPage { events, next, at_head, gap })
        };
        page.boxed()
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        let (missed, removals) = {
            let view = self.shared.view();
            (view.catalog.is_missed(&self.filter, cursor), view.catalog.removals)
        };
        async move {
            let cursor = match missed {
                true => self.after_gap(cursor, removals).await?,
                false => Cursor { removals, ..cursor },
            };
            Ok(Resumed { cursor, gap: missed })
        }
        .boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        let removals = self.shared.view().catalog.removals;
        async move { Ok(Cursor { position: self.find(to).await?, removals }) }.boxed()
    }
}
