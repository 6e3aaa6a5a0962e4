//! All readers of a topic, each on a stream of its own: they enter, are cut off all at once, and come back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use event_log::Position;
use parking_lot::Mutex;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::{Faults, Published};
use super::meter::Meter;
use super::reader::{Goal, Hopeless, Reader};
use super::session::Session;
use super::stream::Stream;

/// Readers that connect at one time, when nothing hurries.
const ENTERING_MAX: usize = 256;
/// How long a reader that was turned away waits before it tries again.
const RETRY: Duration = Duration::from_millis(100);

/// A reader, and whoever asks how far it is.
type Seat = Arc<Mutex<Reader>>;

pub(super) struct Audience {
    seats: Vec<Seat>,
    tasks: JoinSet<anyhow::Result<Infallible>>,
    shared: Arc<Shared>,
}

/// What all readers share.
struct Shared {
    session: Arc<Session>,
    meter: Arc<Meter>,
    /// Streams that were begun so far.
    opened: AtomicU64,
    /// How often a reader was turned away, and why the last time.
    refusals: AtomicU64,
    refusal: Mutex<Option<String>>,
}

/// How readers come.
#[derive(Clone)]
struct Entry {
    url: Url,
    /// Those that may connect now.
    door: Arc<Semaphore>,
    /// Who is turned away tries again.
    is_patient: bool,
}

impl Audience {
    /// Makes readers of the events of so many publishers.
    pub(super) fn new(session: &Arc<Session>, readers: usize, publishers: usize, goal: Goal) -> Self {
        let seat = |_| Arc::new(Mutex::new(Reader::new(publishers, goal)));
        let shared = Shared {
            session: Arc::clone(session),
            meter: Arc::new(Meter::new(session.threads)),
            opened: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            refusal: Mutex::new(None),
        };
        Audience { seats: (0..readers).map(seat).collect(), tasks: JoinSet::new(), shared: Arc::new(shared) }
    }

    /// Counts deliveries.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.shared.meter
    }

    /// All begin to read, from this place on.
    pub(super) fn enter(&mut self, from: &str) {
        let session = &self.shared.session;
        let mut url = session.server.url(&["v1", "topics", &session.topic, "events"]);
        url.query_pairs_mut().append_pair("from", from);
        self.spawn(&Entry { url, door: Arc::new(Semaphore::new(ENTERING_MAX)), is_patient: false });
    }

    /// Cuts all streams at once.
    pub(super) async fn cut(&mut self) {
        self.tasks.shutdown().await;
        self.seats.iter().for_each(|seat| seat.lock().forget_stream());
    }

    /// All come back at once, each behind the last event that it was given.
    pub(super) fn come_back(&mut self) {
        let session = &self.shared.session;
        let url = session.server.url(&["v1", "topics", &session.topic, "events"]);
        self.spawn(&Entry { url, door: Arc::new(Semaphore::new(self.seats.len())), is_patient: true });
    }

    fn spawn(&mut self, entry: &Entry) {
        for seat in &self.seats {
            let (seat, shared) = (Arc::clone(seat), Arc::clone(&self.shared));
            let attending = attend(seat, shared, entry.clone());
            self.tasks.spawn_on(attending, &self.shared.session.working);
        }
    }

    /// Tells of a reader that failed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            Some(joined) => joined.context("a reader panicked")?.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Streams that were begun so far, over all connections.
    pub(super) fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Readers that are not so far.
    pub(super) fn laggards(&self, is_so_far: impl Fn(&Reader) -> bool) -> usize {
        self.seats.iter().filter(|seat| !is_so_far(&seat.lock())).count()
    }

    /// Why the last one that was turned away was.
    pub(super) fn refusal(&self) -> String {
        self.shared.refusal.lock().as_ref().map(|refusal| format!(": {refusal}")).unwrap_or_default()
    }

    /// Whether all have come to this event, and so to all before it.
    pub(super) fn has_passed(&self, last: Position) -> bool {
        self.laggards(|reader| reader.cursor.is_some_and(|cursor| cursor.position >= last)) == 0
    }

    /// What one moment was for each reader: how long after another one, in their order.
    pub(super) fn times(&self, moment: impl Fn(&Reader) -> Option<Instant>, since: Instant) -> Vec<Duration> {
        let moments = self.seats.iter().filter_map(|seat| moment(&seat.lock()));
        moments.map(|moment| moment.saturating_duration_since(since)).collect()
    }

    /// What is wrong, over all readers, and how many events they got.
    pub(super) fn judge(&self, published: &Published) -> (Faults, u64) {
        let mut judged = (Faults::default(), 0);
        for seat in &self.seats {
            let reader = seat.lock();
            judged.0 += reader.ledger.judge(published);
            judged.1 += reader.ledger.events();
        }
        judged
    }
}

/// Reads for ever; one that comes back tries again until it has caught up.
async fn attend(seat: Seat, shared: Arc<Shared>, entry: Entry) -> anyhow::Result<Infallible> {
    loop {
        let Err(error) = read(&seat, &shared, &entry).await;
        if !entry.is_patient || error.is::<Hopeless>() || seat.lock().reached.is_some() {
            return Err(error);
        }
        shared.refusals.fetch_add(1, Ordering::Relaxed);
        *shared.refusal.lock() = Some(format!("{error:#}"));
        sleep(RETRY).await;
    }
}

/// Reads one stream, which only ends with an error.
async fn read(seat: &Mutex<Reader>, shared: &Shared, entry: &Entry) -> anyhow::Result<Infallible> {
    let mut stream = open(seat, shared, entry).await?;
    loop {
        stream.ready().await?;
        let came = Instant::now();
        let goes_on = {
            let mut reader = seat.lock();
            let mut counts = shared.meter.part();
            let before = counts.events;
            let mut taken = Ok(());
            let goes_on = stream.take(&mut |block| {
                if taken.is_ok() {
                    taken = reader.take(block, came, &shared.session, &mut counts);
                }
            })?;
            shared.meter.advance(counts.events - before);
            taken.map(|()| goes_on)?
        };
        if !goes_on {
            bail!("a stream was closed by the broker in the middle of the measurement");
        }
    }
}

async fn open(seat: &Mutex<Reader>, shared: &Shared, entry: &Entry) -> anyhow::Result<Stream> {
    let _permit = entry.door.acquire().await?;
    let address = &shared.session.address;
    let cursor = seat.lock().cursor.map(|id| id.to_string());
    let socket = address.connect().await?;
    let stream = Stream::open(socket, &Stream::request(address, &entry.url, cursor.as_deref())).await?;
    shared.opened.fetch_add(1, Ordering::Relaxed);
    Ok(stream)
}
