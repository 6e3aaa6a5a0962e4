//! Publishers and readers together, watched: progress is shown, samples are taken, and whoever fails ends the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use event_log::Position;
use tokio::time::sleep;

use super::audience::Audience;
use super::load::Load;
use super::meter::{Course, Meter};
use super::reader::Goal;
use super::report::Verdict;
use super::session::Session;
use crate::progress::Progress;

/// How often a run is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long nothing may happen before nothing more is expected.
const PATIENCE: Duration = Duration::from_secs(15);
/// Samples of a measurement whose length is known.
const SAMPLES: u32 = 100;
/// A sample covers at least so much, and as much when the length is not known.
const SAMPLE_MIN: Duration = Duration::from_millis(50);

pub(super) struct Stage {
    pub(super) load: Load,
    pub(super) audience: Audience,
    /// What is measured: the publishers' answers, or the readers' deliveries.
    measured: Arc<Meter>,
    course: Option<Course>,
    progress: Progress,
}

impl Stage {
    /// Prepares a stage that measures answers.
    pub(super) fn of_answers(session: &Arc<Session>, publishers: usize) -> Self {
        let audience = Audience::new(session, 1, publishers, Goal::None);
        let load = Load::alone(session);
        let measured = Arc::clone(&load.meter);
        Self::new(load, audience, measured)
    }

    /// Prepares a stage that measures deliveries to so many readers.
    pub(super) fn of_deliveries(
        session: &Arc<Session>,
        load: Load,
        readers: usize,
        publishers: usize,
        goal: Goal,
    ) -> Self {
        let audience = Audience::new(session, readers, publishers, goal);
        let measured = Arc::clone(audience.meter());
        Self::new(load, audience, measured)
    }

    /// So many events will be measured.
    pub(super) fn expect(&mut self, events: u64) {
        self.progress = Progress::events(Some(events));
    }

    fn new(load: Load, audience: Audience, measured: Arc<Meter>) -> Self {
        let progress = Progress::events(None);
        Stage { load, audience, measured, course: None, progress }
    }

    /// Lets so much time pass.
    pub(super) async fn pass(&mut self, length: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < length {
            self.tick().await?;
        }
        Ok(())
    }

    /// Waits until it is so; false if nothing happened for a long while before it was.
    pub(super) async fn until(&mut self, is_so: impl Fn(&Stage) -> bool) -> anyhow::Result<bool> {
        let mut moved = (self.signs_of_life(), Instant::now());
        while !is_so(self) {
            self.tick().await?;
            if moved.0 != self.signs_of_life() {
                moved = (self.signs_of_life(), Instant::now());
            } else if moved.1.elapsed() > PATIENCE {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn signs_of_life(&self) -> u64 {
        self.load.meter.events() + self.audience.meter().events() + self.audience.opened()
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        sleep(TICK).await;
        if let Some(course) = &mut self.course {
            course.tick(&self.measured);
        }
        self.progress.reach(self.measured.events());
        self.load.check()?;
        self.audience.check()
    }

    /// Begins to measure for so long, or for a time that nobody knows yet.
    pub(super) fn begin(&mut self, length: Option<Duration>) {
        let every = length.map_or(SAMPLE_MIN, |length| (length / SAMPLES).max(SAMPLE_MIN));
        self.course = Some(Course::begin(&self.measured, every));
    }

    /// Ends measuring.
    pub(super) fn end(&mut self) -> Course {
        let mut course = self.course.take().expect("a measurement that was begun");
        course.end(&self.measured);
        course
    }

    /// All readers begin at the head, and have.
    pub(super) async fn fill(&mut self) -> anyhow::Result<()> {
        self.audience.enter("latest");
        let is_there = |stage: &Stage| stage.audience.laggards(|reader| reader.opened.is_some());
        if !self.until(|stage| is_there(stage) == 0).await? {
            bail!("{} streams did not begin within {PATIENCE:?}", is_there(self));
        }
        Ok(())
    }

    /// Publishes one last event, waits until it is everywhere, and judges what everybody was given.
    pub(super) async fn judge(&mut self) -> anyhow::Result<Verdict> {
        let last = self.load.last().await?;
        self.judge_up_to(last).await
    }

    /// Waits until everybody was given this event, which is the last one, and judges.
    pub(super) async fn judge_up_to(&mut self, last: Position) -> anyhow::Result<Verdict> {
        // If it never comes it is lost, as the verdict will say.
        self.until(|stage| stage.audience.has_passed(last)).await?;
        let (mut faults, events) = self.audience.judge(&self.load.published());
        faults += self.load.faults();
        Ok(Verdict { faults, events })
    }
}
