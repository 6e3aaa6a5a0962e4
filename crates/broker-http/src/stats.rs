//! Statistics as events on `$broker.stats`, for the console and whoever else wants to watch: only while somebody follows
//! that topic by its name.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::web;
use event_log::EventId;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::json;
use crate::lags::Lags;
use crate::state::State;

/// What is told at a time. Rates are of the time since the last one, in seconds.
#[derive(Serialize)]
struct Stats {
    /// Seconds that the rates are of.
    seconds: f64,
    /// Published events; statistics themselves are left out.
    events_per_second: f64,
    /// Their bytes, as policies count them.
    bytes_per_second: f64,
    /// Events that were given to streams: one that ten streams read counts ten times.
    deliveries_per_second: f64,
    /// Bytes that streams said.
    delivered_bytes_per_second: f64,
    streams: usize,
    /// Streams that have not caught up with the head.
    streams_behind: u64,
    /// Events of the log after the cursor of the one that is behind most.
    lag: u64,
    /// Events kept.
    events: u64,
    bytes: u64,
    bytes_on_disk: u64,
    #[serde(serialize_with = "json::shown")]
    head: EventId,
    uptime: u64,
}

/// What was counted up to a moment.
struct Counts {
    at: Instant,
    published: u64,
    published_bytes: u64,
    delivered: u64,
    delivered_bytes: u64,
}

/// Tells statistics, time after time, for ever.
pub(crate) async fn tell(state: web::Data<State>) {
    let every = state.options.stats_interval;
    if every.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut teller = Teller { before: Counts::of(&state), own: Own::default() };
    loop {
        ticks.tick().await;
        teller.turn(&state, every).await;
    }
}

struct Teller {
    before: Counts,
    own: Own,
}

/// What was told since the last look at the counts, which have it too.
#[derive(Default)]
struct Own {
    events: u64,
    bytes: u64,
}

impl Teller {
    async fn turn(&mut self, state: &State, every: Duration) {
        let now = Counts::of(state);
        let own = std::mem::take(&mut self.own);
        let before = std::mem::replace(&mut self.before, now);
        if !state.broker.is_asked_for_stats() {
            return;
        }
        let stats = Stats::new(state, &before, &self.before, &own);
        let told = serde_json::to_string(&stats).expect("numbers have a JSON");
        match state.broker.tell_stats(told, every).await {
            Ok(bytes) => self.own = Own { events: 1, bytes },
            // The next ones may be told again; who watches sees that these are missing.
            Err(error) => tracing::debug!(%error, "statistics were not told"),
        }
    }
}

impl Counts {
    fn of(state: &State) -> Self {
        let (log, streams) = (state.broker.log().counts(), state.stream_stats.counts());
        Counts {
            at: Instant::now(),
            published: log.commit_events.sum,
            published_bytes: log.bytes,
            delivered: streams.events,
            delivered_bytes: streams.bytes,
        }
    }
}

impl Stats {
    fn new(state: &State, before: &Counts, now: &Counts, own: &Own) -> Self {
        let seconds = (now.at - before.at).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let bounds = state.broker.log().bounds();
        let Lags { behind, most: lag } = state.connections.lags(&**state.broker.log());
        Stats {
            seconds,
            events_per_second: rate((now.published - before.published).saturating_sub(own.events)),
            bytes_per_second: rate((now.published_bytes - before.published_bytes).saturating_sub(own.bytes)),
            deliveries_per_second: rate(now.delivered - before.delivered),
            delivered_bytes_per_second: rate(now.delivered_bytes - before.delivered_bytes),
            streams: state.streams.load(Ordering::Relaxed),
            streams_behind: behind[0].1,
            lag,
            events: bounds.events,
            bytes: bounds.bytes,
            bytes_on_disk: bounds.bytes_on_disk,
            head: bounds.epochs.id(bounds.head),
            uptime: state.started.elapsed().as_secs(),
        }
    }
}
