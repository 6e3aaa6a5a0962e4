//! The readers: they come and go, some are slow, some begin at what is kept, and each keeps a ledger over all its
//! connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Request;
use crate::harness::heavy::Numbers;
use crate::harness::stream::{Block, Stream, sequence};
use crate::lanes::{END_TOPIC, LANES, numbers_of};
use crate::ledger::{Given, Ledger};
use crate::load::{Run, ask, locked};

/// Events between two looks at what the cursor has passed.
const SETTLE_EVENTS: u64 = 2_000;
/// Longest that a reader may need to the last event, once nothing more is published.
const END_MAX: Duration = Duration::from_secs(300);

/// How a reader behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habit {
    pub(crate) name: &'static str,
    pub(crate) patterns: &'static [&'static str],
    /// Rests so long after every event.
    pub(crate) rest: Duration,
    /// Stays for about so many seconds, and then is away for about as long.
    pub(crate) stay_seconds: u64,
    /// Begins anew at what is kept, each time that it comes.
    pub(crate) is_forgetful: bool,
}

const STEADY: Habit = Habit {
    name: "",
    patterns: &["soak.**"],
    rest: Duration::ZERO,
    stay_seconds: 3_600,
    is_forgetful: false,
};

/// All readers.
pub(crate) const HABITS: [Habit; 9] = [
    Habit { name: "everything", patterns: &["**"], ..STEADY },
    Habit { name: "comes and goes", stay_seconds: 6, ..STEADY },
    Habit { name: "slow, of everything", rest: Duration::from_micros(300), ..STEADY },
    Habit {
        name: "slow, of one topic",
        patterns: &["soak.bytes"],
        rest: Duration::from_millis(2),
        stay_seconds: 40,
        ..STEADY
    },
    Habit { name: "of what keeps none", patterns: &["soak.none"], stay_seconds: 9, ..STEADY },
    Habit { name: "of ages", patterns: &["soak.age", "soak.every.*"], stay_seconds: 15, ..STEADY },
    Habit {
        name: "states from the earliest",
        patterns: &["soak.state.*"],
        stay_seconds: 8,
        is_forgetful: true,
        ..STEADY
    },
    Habit { name: "all from the earliest", stay_seconds: 12, is_forgetful: true, ..STEADY },
    Habit { name: "of small and keyed", patterns: &["soak.small", "soak.keyed"], stay_seconds: 5, ..STEADY },
];

/// The lanes that patterns name. Only the forms that are used here.
fn followed(patterns: &[&str]) -> Vec<usize> {
    let matches = |pattern: &str, topic: &str| match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix.trim_end_matches('*')),
        None => pattern == topic,
    };
    (0..LANES.len())
        .filter(|lane| patterns.iter().any(|pattern| matches(pattern, LANES[*lane].topic)))
        .collect()
}

/// One reader over all its connections.
struct Reader<'a> {
    run: &'a Run,
    habit: Habit,
    ledger: Option<Ledger>,
    /// What it would send when it came back.
    cursor: Option<String>,
    /// Everything up to here is judged, so that the lanes may forget it.
    settled: &'a AtomicU64,
    since_settled: u64,
    probes: u64,
}

/// Why a connection is left.
enum Left {
    End,
    Cut,
}

/// Reads until the last event of all.
pub(crate) fn read(run: &Run, habit: Habit, settled: &AtomicU64) {
    let mut reader = Reader { run, habit, ledger: None, cursor: None, settled, since_settled: 0, probes: 0 };
    let mut numbers = Numbers::from_seed(habit.name.len() as u64);
    let mut over_since = None;
    while !run.has_failed() {
        if run.is_over() {
            let since: &mut Instant = over_since.get_or_insert_with(Instant::now);
            if since.elapsed() > END_MAX {
                return run
                    .fail(habit.name, &format!("it came only to {:?} within {END_MAX:?}", reader.cursor));
            }
        }
        let stay = Duration::from_millis(numbers.below(habit.stay_seconds * 2_000));
        match reader.connect(stay) {
            Ok(Left::End) => break,
            Ok(Left::Cut) => {}
            Err(wrong) => return run.fail(habit.name, &wrong),
        }
        let away =
            if stay > Duration::from_secs(30) { 20 } else { numbers.below(habit.stay_seconds * 1_000) };
        let back = Instant::now() + Duration::from_millis(away);
        while Instant::now() < back && !run.is_over() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    settled.store(u64::MAX, Ordering::SeqCst);
}

impl Reader<'_> {
    /// One connection, for about as long as it likes to stay.
    fn connect(&mut self, stay: Duration) -> Result<Left, String> {
        if self.habit.is_forgetful {
            (self.ledger, self.cursor) = (None, None);
            // Nothing may be forgotten until it is known where it begins.
            self.settled.store(0, Ordering::SeqCst);
        }
        let topics: String = self.habit.patterns.iter().map(|pattern| format!("topic={pattern}&")).collect();
        let target = format!("/v1/events?{topics}topic={END_TOPIC}&from=earliest");
        let Ok(mut stream) = Stream::open(self.run.port, &target, self.cursor.as_deref()) else {
            thread::sleep(Duration::from_millis(20));
            return Ok(Left::Cut);
        };
        let until = Instant::now() + stay;
        while let Ok(true) = stream.next() {
            if self.run.has_failed() {
                return Ok(Left::Cut);
            }
            if self.take(&stream.block)? {
                self.settle()?;
                return Ok(Left::End);
            }
            let is_over = self.run.is_over();
            if !is_over && Instant::now() > until {
                break;
            }
            if !is_over && !self.habit.rest.is_zero() {
                thread::sleep(self.habit.rest);
            }
        }
        self.settle()?;
        Ok(Left::Cut)
    }

    /// Takes one block; true for the last event of all.
    fn take(&mut self, block: &Block) -> Result<bool, String> {
        if block.event == b"$closing" {
            return Ok(false);
        }
        let place = sequence(&block.id);
        if self.ledger.is_none() {
            // Whoever begins at the earliest is told of nothing that was removed before.
            let lanes = followed(self.habit.patterns);
            self.ledger = Some(Ledger::new(LANES.len(), &lanes, None));
            self.settled.store(place, Ordering::SeqCst);
        }
        let Some(ledger) = self.ledger.as_mut() else { return Ok(false) };
        match block.event.as_slice() {
            b"$gap" => {
                let gap: serde_json::Value =
                    serde_json::from_slice(&block.data).map_err(|error| error.to_string())?;
                if gap["reason"] != "trimmed" || gap["resumed_after"] != block.id_text() {
                    return Err(format!("the gap {gap}"));
                }
                let requested = gap["requested"].as_str().map_or(0, |id| sequence(id.as_bytes()));
                ledger.gap(requested, place)?;
                self.run.gaps.fetch_add(1, Ordering::Relaxed);
            }
            b"end" => {
                ledger.move_to(place)?;
                return Ok(true);
            }
            kind if kind.starts_with(b"$") => ledger.move_to(place)?,
            _ => self.event(block, place)?,
        }
        self.cursor = Some(block.id_text().to_owned());
        Ok(false)
    }

    fn event(&mut self, block: &Block, place: u64) -> Result<(), String> {
        let Some(ledger) = self.ledger.as_mut() else { return Ok(()) };
        let shown = || String::from_utf8_lossy(&block.data[..block.data.len().min(80)]).into_owned();
        let (lane, number, first) = numbers_of(&block.data).ok_or_else(|| format!("the data {}", shown()))?;
        let published = self.run.lanes.get(lane).ok_or_else(|| format!("the data {}", shown()))?;
        let before = ledger.missing;
        ledger.event(Given { lane, number, first, sequence: place }, &locked(published))?;
        self.run.missing.fetch_add(ledger.missing - before, Ordering::Relaxed);
        self.run.delivered.fetch_add(1, Ordering::Relaxed);
        self.since_settled += 1;
        if self.since_settled >= SETTLE_EVENTS {
            self.settle()?;
        }
        Ok(())
    }

    /// Judges all lanes up to the cursor, and asks of a missing event now and then whether it is really gone.
    fn settle(&mut self) -> Result<(), String> {
        self.since_settled = 0;
        let Some(ledger) = self.ledger.as_mut() else { return Ok(()) };
        let before = ledger.missing;
        for (lane, published) in self.run.lanes.iter().enumerate() {
            ledger.settle(lane, &locked(published))?;
        }
        self.run.missing.fetch_add(ledger.missing - before, Ordering::Relaxed);
        self.settled.store(ledger.cursor(), Ordering::SeqCst);
        let Some(suspect) = ledger.suspect.take() else { return Ok(()) };
        self.probes += 1;
        let is_asked = self.probes.is_multiple_of(5);
        match is_asked.then(|| ask(self.run.port, &Request::new("GET", &format!("/v1/events/{suspect}")))) {
            Some(Some((200, _))) => Err(format!("{suspect} was passed over, and yet it is kept")),
            _ => Ok(()),
        }
    }
}
