//! The actor that carries policies out: one thread, woken now and then, and at once when a policy changes.
//!
//! It works in steps that the log keeps small, and rests after each as long as the step took, so that publishers and
//! readers get at least half of the disk. Between steps it looks whether it should stop, and whether the policies that it
//! works by are still those that hold. What fails is tried again with the next pass.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_log::limits::REMOVALS_PER_STEP_MAX;
use event_log::{
    Clock, EventLog, Filter, LogReader, Position, ReadError, Removal, Removed, Seek, Timestamp, Topic,
    TopicStats,
};
use futures_executor::block_on;
use parking_lot::Mutex;

use crate::alarm::Alarm;
use crate::options::Options;
use crate::policies::Policies;
use crate::policy::Policy;
use crate::policy_topic::PolicyTopic;
use crate::remover::Remover;
use crate::retention_stats::{Kind, RetentionCounts, RetentionStats};

/// How long compaction may go on in one pass.
const COMPACTION_SLICE: Duration = Duration::from_secs(1);

/// The actor's handle. It is told to stop when this is dropped.
pub(crate) struct Retention {
    alarm: Arc<Alarm>,
    stats: Arc<RetentionStats>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the actor works with.
pub(crate) struct Tools {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) remover: Remover,
    pub(crate) policies: Arc<PolicyTopic>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
}

impl Retention {
    pub(crate) fn start(tools: Tools) -> std::io::Result<Self> {
        let (retention, mut actor) = Self::make(tools, Pace::Measured);
        let thread = std::thread::Builder::new().name("retention".into()).spawn(move || actor.run())?;
        *retention.thread.lock() = Some(thread);
        Ok(retention)
    }

    /// The same, with an actor that works when it is given a turn.
    pub(crate) fn without_thread(tools: Tools) -> (Self, Actor) {
        Self::make(tools, Pace::Given)
    }

    fn make(tools: Tools, pace: Pace) -> (Self, Actor) {
        let (alarm, stats) = (Arc::<Alarm>::default(), Arc::<RetentionStats>::default());
        let actor = Actor {
            tools,
            pace,
            alarm: Arc::clone(&alarm),
            stats: Arc::clone(&stats),
            compacted: HashMap::new(),
            turns: 0,
        };
        (Retention { alarm, stats, thread: Mutex::new(None) }, actor)
    }

    pub(crate) fn stats(&self) -> &RetentionStats {
        &self.stats
    }

    /// Begins a pass now.
    pub(crate) fn wake(&self) {
        self.alarm.wake();
    }

    /// Waits for the step that is being taken, and for the thread to end.
    pub(crate) fn stop(&self) {
        self.alarm.stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the retention actor panicked");
        }
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.alarm.stop();
    }
}

/// Who decides when the actor works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The actor, by the time that its work takes.
    Measured,
    /// Who gives it turns: it does the same however long they take.
    Given,
}

pub(crate) struct Actor {
    tools: Tools,
    pace: Pace,
    alarm: Arc<Alarm>,
    stats: Arc<RetentionStats>,
    /// The topics that were compacted: up to which event, and when.
    compacted: HashMap<Topic, (Position, Timestamp)>,
    /// How many groups of topics had their turn in compaction.
    turns: usize,
}

/// Why a pass does not go on.
enum Cut {
    /// The actor is to stop, the policies have changed, or compaction has used its time: the next pass begins at once.
    Interrupted,
    /// The policies, or what is too old, could not be read.
    Failed(ReadError),
}

impl From<ReadError> for Cut {
    fn from(error: ReadError) -> Self {
        Cut::Failed(error)
    }
}

/// One pass: everything is judged by the same policies at the same moment.
struct Pass {
    policies: Arc<Policies>,
    now: Timestamp,
    /// For each age that a policy allows, the place up to which events are older.
    older: HashMap<Duration, Position>,
    /// When compaction has used its time.
    compaction_ends: Instant,
}

impl Actor {
    fn run(&mut self) {
        loop {
            let begun = Instant::now();
            let before = self.stats.counts();
            let interval = match block_on(self.pass()) {
                Err(Cut::Interrupted) => Duration::ZERO,
                Err(Cut::Failed(error)) => {
                    self.failed(&error);
                    self.tools.options.retention_interval
                }
                Ok(()) => self.tools.options.retention_interval,
            };
            self.stats.pass_ended(begun.elapsed());
            tell(&self.stats.counts().since(&before), begun.elapsed());
            if self.alarm.wait(interval) {
                return;
            }
        }
    }

    /// One pass, by one who gives the turns.
    pub(crate) async fn turn(&mut self) {
        if let Err(Cut::Failed(error)) = self.pass().await {
            self.failed(&error);
        }
    }

    /// A log that is closed is no failure: the broker stops.
    fn failed(&self, error: &ReadError) {
        if !matches!(error, ReadError::Closed) {
            tracing::error!(%error, code = error.code(), "retention failed; it is tried again with the next pass");
        }
    }

    async fn pass(&mut self) -> Result<(), Cut> {
        let policies = self.tools.policies.current().await?;
        if policies.is_empty() {
            self.compacted.clear();
            return Ok(());
        }
        let now = self.tools.clock.now();
        let older = self.older(&policies, now).await?;
        let compaction_ends = Instant::now() + COMPACTION_SLICE;
        let pass = Pass { policies, now, older, compaction_ends };
        let topics = self.tools.log.topics(None);
        let trims = topics.iter().filter_map(|stats| pass.trim(stats));
        self.carry_out(&pass, Kind::Trimmed, trims).await?;
        self.compact(&pass, &topics).await
    }

    /// Times never decrease along the log, so one place tells which topics have events that are too old.
    async fn older(
        &self,
        policies: &Policies,
        now: Timestamp,
    ) -> Result<HashMap<Duration, Position>, ReadError> {
        let mut reader: Box<dyn LogReader> = self.tools.log.reader(Arc::new(Filter::everything()));
        let ages: HashSet<Duration> = policies.iter().filter_map(|stated| stated.policy.max_age()).collect();
        let mut older = HashMap::new();
        for age in ages {
            older.insert(age, reader.seek(Seek::Time(now.saturating_sub(age))).await?.position);
        }
        Ok(older)
    }

    async fn compact(&mut self, pass: &Pass, topics: &[TopicStats]) -> Result<(), Cut> {
        let governed = topics.iter().filter(|stats| pass.policy(stats).is_some_and(Policy::is_compacting));
        let governed: Vec<&TopicStats> = governed.collect();
        let mut compacted = HashMap::new();
        let (unchanged, due): (Vec<&TopicStats>, Vec<&TopicStats>) =
            governed.into_iter().partition(|stats| self.is_compacted(stats, pass.now));
        for stats in unchanged {
            compacted.extend(self.compacted.remove_entry(&stats.topic));
        }
        self.compacted = compacted;
        let mut groups: Vec<&[&TopicStats]> = due.chunks(REMOVALS_PER_STEP_MAX).collect();
        if !groups.is_empty() {
            // Those that are written to all the time must not use the time of the others.
            let turn = self.turns % groups.len();
            groups.rotate_left(turn);
        }
        for part in groups {
            self.turns = self.turns.wrapping_add(1);
            let tombstones_before = pass.now.saturating_sub(self.tools.options.tombstone_retention);
            let removals = part
                .iter()
                .map(|stats| Removal::Superseded { topic: stats.topic.clone(), tombstones_before });
            if self.carry_out(pass, Kind::Superseded, removals).await? {
                self.compacted.extend(part.iter().map(|stats| (stats.topic.clone(), (stats.last, pass.now))));
            }
        }
        Ok(())
    }

    /// Whether there can be nothing to compact: nothing came since, and no tombstone can have become much too old.
    fn is_compacted(&self, stats: &TopicStats, now: Timestamp) -> bool {
        let patience = self.tools.options.tombstone_retention / 8;
        self.compacted
            .get(&stats.topic)
            .is_some_and(|(last, when)| *last == stats.last && *when > now.saturating_sub(patience))
    }

    /// Carries removals out to their end, some at a time, a step at a time. Whether none of them failed: one that does must
    /// not keep the others from being tried.
    async fn carry_out(
        &self,
        pass: &Pass,
        kind: Kind,
        removals: impl Iterator<Item = Removal>,
    ) -> Result<bool, Cut> {
        let mut removals = removals.peekable();
        let mut all_done = true;
        while removals.peek().is_some() {
            let some: Vec<Removal> = removals.by_ref().take(REMOVALS_PER_STEP_MAX).collect();
            self.stats.topics(some.len());
            let mut more = true;
            while more {
                if self.alarm.is_stopping() || !Arc::ptr_eq(&pass.policies, &self.tools.policies.known()) {
                    return Err(Cut::Interrupted);
                }
                // Compaction can take long, and trims are due again meanwhile.
                let is_measured = self.pace == Pace::Measured;
                if is_measured && kind == Kind::Superseded && Instant::now() > pass.compaction_ends {
                    return Err(Cut::Interrupted);
                }
                more = match self.step(kind, some.clone()).await {
                    Ok(removed) => removed.more,
                    Err(error) => {
                        self.failed(&error);
                        all_done = false;
                        false
                    }
                };
            }
        }
        Ok(all_done)
    }

    /// Takes one step, and rests if it was work.
    async fn step(&self, kind: Kind, removals: Vec<Removal>) -> Result<Removed, ReadError> {
        let begun = Instant::now();
        let removed = self.tools.remover.step(removals).await?;
        self.stats.step_taken(kind, &removed, begun.elapsed());
        if removed.events > 0 && self.pace == Pace::Measured {
            self.alarm.rest(begun.elapsed());
        }
        Ok(removed)
    }
}

fn tell(done: &RetentionCounts, elapsed: Duration) {
    if done.trimmed.events + done.superseded.events > 0 {
        tracing::info!(
            topics = done.topics,
            trimmed = done.trimmed.events,
            superseded = done.superseded.events,
            bytes = done.trimmed.bytes + done.superseded.bytes,
            steps = done.steps,
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "policies were carried out"
        );
    }
}

impl Pass {
    fn policy(&self, stats: &TopicStats) -> Option<&Policy> {
        self.policies.governing(&stats.topic).map(|stated| stated.policy)
    }

    /// The trim that a topic is due, if it holds more than is kept.
    fn trim(&self, stats: &TopicStats) -> Option<Removal> {
        let policy = self.policy(stats)?;
        let older = policy.max_age().and_then(|age| self.older.get(&age));
        let is_old = stats.first.is_some_and(|first| older.is_some_and(|place| first <= *place));
        (is_old || policy.is_exceeded_by(stats)).then(|| policy.trim(stats.topic.clone(), self.now))
    }
}
