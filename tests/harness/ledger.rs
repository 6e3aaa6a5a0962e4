//! The ledger of one reader over all its connections: what it was given, what it was told is missing, and the judgement
//! whether that is all of what was published.
//!
//! A missing event is excused only by a gap that was told in its place: after the last event of its topic that came before
//! it and before the next one that came after it, with a cursor that lies before it. What comes next after a gap is the
//! oldest kept event, so nothing that was published lies between the gap's end and it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Envelope;
use super::stream::{Block, sequence};

/// What a reader was given.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Event(u64),
    Gap { requested: u64, resumed_after: u64 },
}

/// Everything that one reader was given, in order.
#[derive(Debug)]
pub(crate) struct Ledger {
    from: u64,
    cursor: u64,
    items: Vec<Item>,
}

/// What a judgement found, when nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Exact {
    pub(crate) seen: usize,
    pub(crate) missing: usize,
    pub(crate) gaps: usize,
}

impl Ledger {
    /// A reader that has seen everything up to this sequence.
    pub(crate) fn new(from: u64) -> Self {
        Ledger { from, cursor: from, items: Vec::new() }
    }

    /// Takes one block of a stream; false for `$closing`, after which nothing may come.
    pub(crate) fn take(&mut self, block: &Block) -> bool {
        match block.event.as_slice() {
            b"$closing" => return false,
            b"$gap" => self.gap(&serde_json::from_slice(&block.data).unwrap(), block.id_text()),
            b"$open" | b"$live" | b"$cursor" => self.move_to(sequence(&block.id)),
            _ => self.event(sequence(&block.id)),
        }
        true
    }

    /// Takes one line of NDJSON, or one event of a page.
    pub(crate) fn take_line(&mut self, line: &str) {
        let value: Value = serde_json::from_str(line).unwrap();
        if value["type"] == "$gap" {
            self.gap(&value["data"], value["id"].as_str().unwrap());
        } else {
            self.event(Envelope::parse(line).sequence());
        }
    }

    /// The sequence up to which it has seen everything.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// How many events it was given.
    pub(crate) fn seen(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Event(_))).count()
    }

    /// How many gaps it was told of.
    pub(crate) fn gaps(&self) -> usize {
        self.items.len() - self.seen()
    }

    /// Takes a gap as the contract has it in every shape.
    pub(crate) fn gap(&mut self, data: &Value, id: &str) {
        assert_eq!((&data["reason"], &data["resumed_after"]), (&"trimmed".into(), &id.into()), "{data}");
        let requested = sequence(data["requested"].as_str().unwrap().as_bytes());
        // The broker's cursor may be ahead of the last id that was sent, over events that do not match. What is missing
        // before it has no excuse in this gap.
        assert!(
            requested >= self.cursor,
            "the gap begins before the reader's cursor {}: {data}",
            self.cursor
        );
        let resumed_after = sequence(id.as_bytes());
        self.items.push(Item::Gap { requested, resumed_after });
        self.move_to(resumed_after);
    }

    fn event(&mut self, sequence: u64) {
        assert!(sequence > self.cursor, "{sequence} came after {}", self.cursor);
        self.cursor = sequence;
        self.items.push(Item::Event(sequence));
    }

    fn move_to(&mut self, cursor: u64) {
        assert!(cursor >= self.cursor, "the cursor went back from {} to {cursor}", self.cursor);
        self.cursor = cursor;
    }

    /// Judges it against everything that was published to its topics, by sequence.
    pub(crate) fn judge(&self, published: &BTreeMap<u64, String>) -> Result<Exact, String> {
        self.judge_gap_ends(published)?;
        let mut by_topic: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (sequence, topic) in published.range(self.from + 1..) {
            by_topic.entry(topic).or_default().push(*sequence);
        }
        let mut exact = Exact { seen: 0, missing: 0, gaps: self.gaps() };
        for (topic, sequences) in &by_topic {
            let (seen, missing) = self.judge_topic(topic, sequences, by_topic.len() == 1)?;
            exact.seen += seen;
            exact.missing += missing;
        }
        if exact.seen != self.seen() {
            let strange = self
                .items
                .iter()
                .filter(|item| matches!(item, Item::Event(sequence) if !published.contains_key(sequence)));
            return Err(format!(
                "{} events came, of which {} were published; not {:?}",
                self.seen(),
                exact.seen,
                strange.take(100).collect::<Vec<_>>()
            ));
        }
        Ok(exact)
    }

    /// The same, and fails with what is wrong.
    pub(crate) fn check(&self, published: &BTreeMap<u64, String>) -> Exact {
        self.judge(published).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn judge_gap_ends(&self, published: &BTreeMap<u64, String>) -> Result<(), String> {
        for pair in self.items.windows(2) {
            if let [Item::Gap { resumed_after, .. }, Item::Event(next)] = pair
                && let Some((skipped, _)) = published.range(resumed_after + 1..*next).next()
            {
                return Err(format!("{skipped} lies between the end {resumed_after} of a gap and {next}"));
            }
        }
        Ok(())
    }

    fn judge_topic(&self, topic: &str, sequences: &[u64], is_alone: bool) -> Result<(usize, usize), String> {
        let mut left = sequences.iter().copied().peekable();
        let (mut seen, mut missing) = (0, 0);
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let excuse = |gaps: &[(u64, u64)], absent: u64| {
            let excused = gaps.iter().any(|(from, to)| *from < absent && (!is_alone || absent <= *to));
            if excused { Ok(1) } else { Err(format!("{absent} of {topic} is missing without a gap")) }
        };
        for item in &self.items {
            match *item {
                Item::Gap { requested, resumed_after } => gaps.push((requested, resumed_after)),
                Item::Event(sequence) if sequences.binary_search(&sequence).is_ok() => {
                    while let Some(absent) = left.next_if(|absent| *absent < sequence) {
                        missing += excuse(&gaps, absent)?;
                    }
                    left.next();
                    seen += 1;
                    gaps.clear();
                }
                Item::Event(_) => {}
            }
        }
        for absent in left.take_while(|absent| *absent <= self.cursor) {
            missing += excuse(&gaps, absent)?;
        }
        Ok((seen, missing))
    }
}

#[test]
fn a_ledger_tells_exact_from_silent() {
    let all: BTreeMap<u64, String> =
        (1..=9).map(|n| (n, if n % 2 == 1 { "odd" } else { "even" }.to_owned())).collect();
    let odd: BTreeMap<u64, String> = all.clone().into_iter().filter(|(n, _)| n % 2 == 1).collect();
    let read = |items: &[(u64, Option<u64>)]| {
        let mut ledger = Ledger::new(0);
        for (at, gap_end) in items {
            match gap_end {
                None => ledger.event(*at),
                Some(end) => {
                    let (requested, id) = (format!("{at}-00000000"), format!("{end}-00000000"));
                    let data = serde_json::json!({ "reason": "trimmed", "requested": requested, "resumed_after": id });
                    ledger.gap(&data, &id);
                }
            }
        }
        ledger
    };
    let every: Vec<_> = (1..=9).map(|n| (n, None)).collect();
    assert_eq!(read(&every).judge(&all), Ok(Exact { seen: 9, missing: 0, gaps: 0 }));
    assert_eq!(
        read(&[(1, None), (1, Some(6)), (7, None), (9, None)]).judge(&odd),
        Ok(Exact { seen: 3, missing: 2, gaps: 1 })
    );
    // The odd ones up to 5 are gone, the even ones are kept: the gap ends before 2.
    let mixed = [(0, Some(1)), (2, None), (4, None), (6, None), (7, None), (8, None), (9, None)];
    assert_eq!(read(&mixed).judge(&all), Ok(Exact { seen: 6, missing: 3, gaps: 1 }));
    assert_eq!(read(&[(1, None)]).judge(&odd), Ok(Exact { seen: 1, missing: 0, gaps: 0 }), "still under way");
    type Items<'a> = &'a [(u64, Option<u64>)];
    let wrong: [(&str, Items, _); 6] = [
        ("silent", &[(1, None), (5, None)], &odd),
        ("missing behind the gap's end", &[(1, None), (1, Some(4)), (9, None)], &odd),
        ("missing before the gap", &[(1, None), (5, None), (5, Some(8)), (9, None)], &odd),
        ("never published", &[(1, None), (2, None), (3, None)], &odd),
        ("the gap ends too early", &[(1, None), (1, Some(2)), (9, None)], &odd),
        ("a gap of long ago", &[(0, Some(0)), (1, None), (2, None), (3, None), (4, None), (9, None)], &all),
    ];
    for (what, items, published) in wrong {
        assert!(read(items).judge(published).is_err(), "{what}");
    }
}
