//! Random operations on the engine and on the in-memory model, which must agree in everything but the positions.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::sync::Arc;
use std::time::Duration;

use event_log::contract::{WINDOW, clock, event, filter, keyed, read_all, read_from, remove_all};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Clock, Cursor, Event, EventId, EventLog, EventType, Expected, Filter, Keep, Key,
    ManualClock, NewEvent, Origin, PageLimit, Position, Receipt, Removal, Seek, Timestamp, Topic, TopicStats,
};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

mod common;

use common::copy_log;
use proptest::prelude::*;

/// One frequent topic, and some rare ones, which are read along the index.
/// Small, so that there are many files of events.
const SEGMENT_BYTES: u64 = 32 * 1_024;
const TOPICS: [&str; 5] = ["bulk", "rare.a", "rare.b", "other", "$broker.x"];
const PATTERNS: [&[&str]; 7] = [
    &["**"],
    &["bulk"],
    &["rare.a"],
    &["rare.*", "$broker.**"],
    &["absent"],
    &["rare.b", "other"],
    &["bulk", "*"],
];

#[derive(Debug, Clone)]
struct Draft {
    topic: usize,
    event_type: bool,
    key: Option<u8>,
    tombstone: bool,
    origin: bool,
    idempotency: Option<u8>,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum Condition {
    Never,
    NewestOf(usize),
    Place(usize),
}

#[derive(Debug, Clone)]
struct Wanted {
    patterns: usize,
    by_type: bool,
    by_origin: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kept {
    Events(u64),
    Bytes(u64),
    Age(u64),
    After(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Draft>, Option<Condition>),
    Advance(u64),
    Reopen,
    Crash,
    Read(Wanted, usize, usize, usize),
    Resume(Wanted, usize, usize, usize),
    Trim(usize, Kept),
    Compact(usize, u64),
    SeekLast(Wanted, u64),
    SeekFirst(Wanted, usize),
    SeekTime(usize, i64),
}

fn drafts() -> impl Strategy<Value = Draft> {
    let topic = prop_oneof![20 => Just(0usize), 4 => 1..TOPICS.len()];
    let bytes = prop_oneof![40 => 0usize..60, 1 => 60_000usize..200_000];
    let idempotency = prop_oneof![5 => Just(None), 1 => (0u8..4).prop_map(Some)];
    let key = prop_oneof![1 => Just(None), 2 => (0u8..9).prop_map(Some)];
    let tombstone = (0u8..8).prop_map(|n| n == 0);
    (topic, any::<bool>(), key, tombstone, any::<bool>(), idempotency, bytes).prop_map(
        |(topic, event_type, key, tombstone, origin, idempotency, bytes)| Draft {
            tombstone,
            topic,
            event_type,
            key,
            origin,
            idempotency,
            bytes,
        },
    )
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![
        (0u64..30).prop_map(Kept::Events),
        (0u64..3_000).prop_map(Kept::Bytes),
        (0u64..60).prop_map(Kept::Age),
        (0usize..200).prop_map(Kept::After),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![
        Just(Condition::Never),
        (0..TOPICS.len()).prop_map(Condition::NewestOf),
        (0usize..100).prop_map(Condition::Place),
    ];
    let condition = prop_oneof![4 => Just(None), 1 => condition.prop_map(Some)];
    let wanted =
        || {
            (0..PATTERNS.len(), any::<bool>(), any::<bool>())
                .prop_map(|(patterns, by_type, by_origin)| Wanted { patterns, by_type, by_origin })
        };
    prop_oneof![
        12 => (proptest::collection::vec(drafts(), 1..12), condition).prop_map(|(d, c)| Step::Append(d, c)),
        2 => (0u64..40).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        6 => (wanted(), 0usize..300, 1usize..20, 1usize..2_000).prop_map(|(w, a, e, b)| Step::Read(w, a, e, b)),
        4 => (wanted(), 0usize..300, 1usize..20, 1usize..2_000)
            .prop_map(|(w, a, e, b)| Step::Resume(w, a, e, b)),
        2 => (0..TOPICS.len(), kept()).prop_map(|(topic, kept)| Step::Trim(topic, kept)),
        2 => (0..TOPICS.len(), 0u64..60).prop_map(|(topic, age)| Step::Compact(topic, age)),
        3 => (wanted(), 0u64..30).prop_map(|(w, n)| Step::SeekLast(w, n)),
        2 => (wanted(), 0usize..300).prop_map(|(w, a)| Step::SeekFirst(w, a)),
        2 => (0usize..300, -1i64..2).prop_map(|(at, by)| Step::SeekTime(at, by)),
    ]
}

/// The two logs, and the places of each event in both.
struct Pair {
    clock: Arc<ManualClock>,
    options: SledOptions,
    directories: Vec<tempfile::TempDir>,
    engine: SledLog,
    model: MemoryLog,
    places: Vec<(Position, Position)>,
    times: Vec<Timestamp>,
}

impl Pair {
    fn new(checkpoint_events: usize, recent_bytes: usize) -> Self {
        let clock = clock();
        let directory = tempfile::tempdir().unwrap();
        let options = SledOptions {
            idempotency_window: WINDOW,
            free_disk_bytes_min: 0,
            segment_bytes: SEGMENT_BYTES,
            key_bucket_entries: 8,
            checkpoint_events,
            recent_bytes,
            ..SledOptions::new(directory.path().join("data"))
        };
        let engine = SledLog::open(options.clone(), Arc::<ManualClock>::clone(&clock)).unwrap();
        let model = MemoryLog::new(Arc::<ManualClock>::clone(&clock), WINDOW);
        let (places, times) = (Vec::new(), Vec::new());
        Pair { clock, options, directories: vec![directory], engine, model, places, times }
    }

    fn open(&mut self) {
        self.engine = SledLog::open(self.options.clone(), Arc::<ManualClock>::clone(&self.clock)).unwrap();
        self.model = self.model.reopened();
        self.engine.verify().unwrap();
    }

    /// Goes on with what a process that is killed now leaves behind.
    fn crash(&mut self) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        copy_log(&self.options.directory, &data);
        block_on(self.engine.close());
        self.options.directory = data;
        self.directories.push(directory);
        self.open();
    }

    /// How many events lie at or before a place of the engine, and of the model.
    fn orders(&self, engine: Position, model: Position) -> (usize, usize) {
        (
            self.places.partition_point(|places| places.0 <= engine),
            self.places.partition_point(|places| places.1 <= model),
        )
    }

    fn cursor(&self, after: usize) -> (Position, Position) {
        match after % (self.places.len() + 1) {
            0 => (Position::ORIGIN, Position::ORIGIN),
            n => self.places[n - 1],
        }
    }

    fn keeps(&self, keep: Kept) -> (Keep, Keep) {
        let both = |keep| (keep, keep);
        match keep {
            Kept::Events(events) => both(Keep { events: Some(events), ..Keep::default() }),
            Kept::Bytes(bytes) => both(Keep { bytes: Some(bytes), ..Keep::default() }),
            Kept::Age(seconds) => {
                let since = self.clock.now().saturating_sub(Duration::from_secs(seconds));
                both(Keep { since: Some(since), ..Keep::default() })
            }
            Kept::After(place) => {
                let (engine, model) = self.cursor(place);
                let after = |place| Keep { after: Some(place), ..Keep::default() };
                (after(engine), after(model))
            }
        }
    }

    fn append(&mut self, drafts: &[Draft], condition: Option<&Condition>) {
        let events: Vec<NewEvent> = drafts.iter().map(new_event).collect();
        let (on_engine, on_model) = self.expectations(condition);
        let engine = block_on(self.engine.append(Batch { events: events.clone(), expected: on_engine }));
        let model = block_on(self.model.append(Batch { events, expected: on_model }));
        match (engine, model) {
            (Ok(engine), Ok(model)) => self.compare_receipts(&engine, &model),
            (
                Err(AppendError::ExpectedMismatch { last: engine }),
                Err(AppendError::ExpectedMismatch { last: model }),
            ) => {
                assert_eq!(engine.is_some(), model.is_some());
                let (engine, model) = self.orders(engine.unwrap_or_default(), model.unwrap_or_default());
                assert_eq!(engine, model);
            }
            (
                Err(AppendError::IdempotencyConflict { index, first }),
                Err(AppendError::IdempotencyConflict { index: index_of_model, first: first_of_model }),
            ) => {
                assert_eq!((index, first.is_some()), (index_of_model, first_of_model.is_some()));
                let (engine, model) =
                    self.orders(first.unwrap_or_default(), first_of_model.unwrap_or_default());
                assert_eq!(engine, model);
            }
            (engine, model) => panic!("the engine says {engine:?}, the model {model:?}"),
        }
    }

    fn expectations(&self, condition: Option<&Condition>) -> (Option<Expected>, Option<Expected>) {
        let both = |(engine, model): (Position, Position)| {
            let id = |position| Expected::Event(EventId { position, epoch: None });
            (Some(id(engine)), Some(id(model)))
        };
        match condition {
            None => (None, None),
            Some(Condition::Never) => (Some(Expected::Never), Some(Expected::Never)),
            Some(Condition::Place(at)) => both(self.cursor(*at)),
            Some(Condition::NewestOf(topic)) => {
                let topic = Topic::parse(TOPICS[*topic]).unwrap();
                match (self.engine.topic(&topic), self.model.topic(&topic)) {
                    (Some(engine), Some(model)) => both((engine.last, model.last)),
                    (engine, model) => {
                        assert_eq!((engine, model), (None, None));
                        (Some(Expected::Never), Some(Expected::Never))
                    }
                }
            }
        }
    }

    fn compare_receipts(&mut self, engine: &Receipt, model: &Receipt) {
        assert_eq!(engine.events.len(), model.events.len());
        for (engine, model) in engine.events.iter().zip(&model.events) {
            assert_eq!((engine.duplicate, engine.time), (model.duplicate, model.time));
            if !engine.duplicate {
                self.places.push((engine.position, model.position));
                self.times.push(engine.time);
            }
        }
        for (engine, model) in engine.events.iter().zip(&model.events) {
            let orders = self.orders(engine.position, model.position);
            assert_eq!(orders.0, orders.1);
        }
        let orders = self.orders(engine.head, model.head);
        assert_eq!(orders, (self.places.len(), self.places.len()));
        assert_eq!(self.engine.tail().head(), engine.head);
    }

    fn seek(&self, wanted: &Filter, to: impl Fn(usize) -> Seek) {
        let engine = block_on(self.engine.reader(Arc::new(wanted.clone())).seek(to(0))).unwrap();
        let model = block_on(self.model.reader(Arc::new(wanted.clone())).seek(to(1))).unwrap();
        let (engine, model) = self.orders(engine.position, model.position);
        assert_eq!(engine, model);
    }

    /// Carries out one step of a removal after the other on both, and compares what they come to. What is to be kept may
    /// be a place, which is another one in each.
    fn remove(&mut self, on_engine: &Removal, on_model: &Removal) {
        let would = block_on(self.engine.removable(vec![on_engine.clone()])).unwrap();
        let engine = remove_all(&self.engine, std::slice::from_ref(on_engine));
        let model = remove_all(&self.model, std::slice::from_ref(on_model));
        assert_eq!((engine.events, engine.bytes), (model.events, model.bytes));
        assert_eq!((would.events, would.bytes), (engine.events, engine.bytes));
        let (engine, model) = self.orders(engine.through, model.through);
        assert_eq!(engine, model);
    }

    /// What a reader that comes back gets, and where its gaps end.
    fn resume(&self, wanted: &Filter, after: usize, limit: PageLimit) {
        let (engine, model) = self.cursor(after);
        let engine = read_from(&self.engine, wanted.clone(), Cursor::resumed(engine), limit);
        let model = read_from(&self.model, wanted.clone(), Cursor::resumed(model), limit);
        assert_eq!(contents(&engine.0), contents(&model.0));
        assert_eq!(engine.1.len(), model.1.len());
        for (engine, model) in engine.1.iter().zip(&model.1) {
            let (engine, model) = self.orders(*engine, *model);
            assert_eq!(engine, model);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(drafts, condition) => self.append(drafts, condition.as_ref()),
            Step::Advance(seconds) => self.clock.advance(Duration::from_secs(*seconds)),
            Step::Reopen => {
                block_on(self.engine.close());
                self.open();
            }
            Step::Crash => self.crash(),
            Step::Read(wanted, after, events, bytes) => {
                let (wanted, (engine, model)) = (wanted.filter(), self.cursor(*after));
                let limit = PageLimit { events: *events, bytes: *bytes };
                let engine = read_all(&self.engine, wanted.clone(), engine, limit);
                let model = read_all(&self.model, wanted, model, limit);
                assert_eq!(contents(&engine), contents(&model));
            }
            Step::Resume(wanted, after, events, bytes) => {
                self.resume(&wanted.filter(), *after, PageLimit { events: *events, bytes: *bytes });
            }
            Step::Trim(topic, keep) => {
                let topic = Topic::parse(TOPICS[*topic]).unwrap();
                let (engine, model) = self.keeps(*keep);
                let trim = |keep| Removal::Trim { topic: topic.clone(), keep };
                self.remove(&trim(engine), &trim(model));
            }
            Step::Compact(topic, age) => {
                let tombstones_before = self.clock.now().saturating_sub(Duration::from_secs(*age));
                let topic = Topic::parse(TOPICS[*topic]).unwrap();
                let removal = Removal::Superseded { topic, tombstones_before };
                self.remove(&removal, &removal);
            }
            Step::SeekLast(wanted, count) => self.seek(&wanted.filter(), |_| Seek::Last(*count)),
            Step::SeekFirst(wanted, after) => {
                let (engine, model) = self.cursor(*after);
                self.seek(&wanted.filter(), |log| Seek::FirstOfTopicsAfter([engine, model][log]));
            }
            Step::SeekTime(at, by) => {
                let some = self.times.get(at % self.times.len().max(1)).copied().unwrap_or_default();
                let time = Timestamp::from_micros(some.as_micros().saturating_add_signed(*by));
                self.seek(&Filter::everything(), |_| Seek::Time(time));
            }
        }
    }

    fn compare_all(&self) {
        let limit = PageLimit { events: 1_000, bytes: 1 << 20 };
        let all = |log: &dyn EventLog| read_all(log, Filter::everything(), Position::ORIGIN, limit);
        let (engine, model) = (all(&self.engine), all(&self.model));
        assert_eq!(contents(&engine), contents(&model));
        let (engine, model) = (self.engine.bounds(), self.model.bounds());
        assert_eq!((engine.events, engine.bytes), (model.events, model.bytes));
        let counts = |topics: Vec<TopicStats>| -> Vec<(Topic, u64, u64)> {
            topics.into_iter().map(|stats| (stats.topic, stats.events, stats.bytes)).collect()
        };
        assert_eq!(counts(self.engine.topics(None)), counts(self.model.topics(None)));
        assert_eq!(self.engine.verify().unwrap().events, model.events);
    }
}

impl Wanted {
    fn filter(&self) -> Filter {
        let types = if self.by_type { vec![EventType::parse("t").unwrap()] } else { Vec::new() };
        let origin = self.by_origin.then(|| Origin::parse("o").unwrap());
        filter(PATTERNS[self.patterns]).with_types(types).without_origin(origin)
    }
}

fn new_event(draft: &Draft) -> NewEvent {
    let new = NewEvent {
        event_type: match draft.tombstone && draft.key.is_some() {
            true => Some(EventType::delete()),
            false => draft.event_type.then(|| EventType::parse("t").unwrap()),
        },
        key: draft.key.map(|key| Key::parse(format!("k{key}")).unwrap()),
        origin: draft.origin.then(|| Origin::parse("o").unwrap()),
        ..event(TOPICS[draft.topic], &"é".repeat(draft.bytes / 2))
    };
    match draft.idempotency {
        Some(key) => keyed(new, &key.to_string()),
        None => new,
    }
}

/// What two logs must agree in: all but the position and the random part of the identity.
fn contents(events: &[Arc<Event>]) -> Vec<Event> {
    let content = |event: &Arc<Event>| Event {
        position: Position::ORIGIN,
        uuid: Default::default(),
        ..Event::clone(event)
    };
    events.iter().map(content).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(
        steps in proptest::collection::vec(steps(), 1..70),
        checkpoint_events in 1usize..60,
        recent_bytes in prop_oneof![Just(0usize), Just(3_000), Just(1 << 20)],
    ) {
        let mut pair = Pair::new(checkpoint_events, recent_bytes);
        steps.iter().for_each(|step| pair.step(step));
        pair.compare_all();
        block_on(pair.engine.close());
        pair.open();
        pair.compare_all();
        block_on(pair.engine.close());
    }
}
