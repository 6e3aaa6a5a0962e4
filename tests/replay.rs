//! A million real trades, replayed to twenty readers at once while publishing goes on.
//!
//! Publisher and readers each keep a rolling checksum over every id, type and text, so one event lost, doubled, moved or
//! changed by a byte shows in the sum.

use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::Broker;
use crate::harness::heavy::{self, roll};
use crate::harness::stream::{Publisher, Stream, sequence};

const HISTORY: usize = 1_000_000;
const LIVE: usize = 20_000;
const READERS: usize = 20;
/// Longest that the readers may take. On two cores they need a fraction of it.
const LIMIT: Duration = Duration::from_secs(170);

/// The demo's trades as lines of JSON up to the data's first field.
struct Trades {
    rows: Vec<Row>,
}

struct Row {
    topic: String,
    kind: String,
    /// The fields of the data, without the opening brace.
    fields: String,
}

impl Trades {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/stock-trades.ndjson");
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let rows: Vec<Row> = text.lines().map(|line| Self::row(&line.unwrap())).collect();
        assert!(rows.len() > 1_000, "only {} trades", rows.len());
        Trades { rows }
    }

    fn row(line: &str) -> Row {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let (_, data) = line.split_once("\"data\":{").unwrap();
        Row { topic: text("topic"), kind: text("type"), fields: data.strip_suffix('}').unwrap().to_owned() }
    }

    /// The type and the data of the trade of this number. The number makes every event another text.
    fn event(&self, number: usize) -> (&Row, String) {
        let row = &self.rows[number % self.rows.len()];
        (row, format!("{{\"n\":{number},{}", row.fields))
    }
}

/// What a reader must have seen.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sum {
    events: usize,
    sum: u64,
}

impl Sum {
    fn add(&mut self, id: &[u8], kind: &[u8], data: &[u8]) {
        self.events += 1;
        self.sum = roll(roll(roll(self.sum, id), kind), data);
    }
}

/// Publishes the trades of these numbers in batches and adds them to the sum under the ids that were answered.
fn publish(port: u16, trades: &Trades, numbers: std::ops::Range<usize>, batch_events: usize, sum: &mut Sum) {
    let mut publisher = Publisher::connect(port).unwrap();
    let mut from = numbers.start;
    while from < numbers.end {
        let to = (from + batch_events).min(numbers.end);
        let events: Vec<(&Row, String)> = (from..to).map(|number| trades.event(number)).collect();
        let mut lines = String::new();
        for (row, data) in &events {
            lines += &format!("{{\"topic\":\"{}\",\"type\":\"{}\",\"data\":{data}}}\n", row.topic, row.kind);
        }
        let (status, body) = publisher.post_batch(lines.as_bytes()).unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let answers = answer["events"].as_array().unwrap();
        assert_eq!(answers.len(), events.len());
        for ((row, data), answer) in events.iter().zip(answers) {
            sum.add(answer["id"].as_str().unwrap().as_bytes(), row.kind.as_bytes(), data.as_bytes());
        }
        from = to;
    }
}

/// Reads from the first event to the one of type `end`.
fn read_everything(port: u16, live: &AtomicUsize) -> Sum {
    let mut sum = Sum { events: 0, sum: 0 };
    let mut stream = Stream::open(port, "/v1/events?topic=**&from=earliest", None).unwrap();
    let (mut before, mut lives) = (0, 0);
    loop {
        assert!(stream.next().unwrap(), "the stream ended after {} events", sum.events);
        let block = &stream.block;
        match block.event.as_slice() {
            b"$gap" | b"$closing" => panic!("{}", String::from_utf8_lossy(&block.data)),
            b"$live" => {
                lives += 1;
                live.fetch_add(1, Ordering::SeqCst);
            }
            b"$open" | b"$cursor" => {}
            b"end" => {
                assert_eq!(lives, 1, "$live comes once");
                return sum;
            }
            kind => {
                let place = sequence(&block.id);
                assert!(place > before, "{place} came after {before}");
                before = place;
                sum.add(&block.id, kind, &block.data);
            }
        }
    }
}

#[test]
fn a_million_events_are_replayed_to_twenty_readers_while_publishing_goes_on() {
    let _turn = heavy::turn();
    let trades = Trades::load();
    let server = Broker::start();
    let port = server.port();
    let mut expected = Sum { events: 0, sum: 0 };
    let began = Instant::now();
    publish(port, &trades, 0..HISTORY, 5_000, &mut expected);
    println!("{HISTORY} events published in {:?}", began.elapsed());

    let began = Instant::now();
    let live = AtomicUsize::new(0);
    let sums: Vec<Sum> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read_everything(port, &live))).collect();
        publish(port, &trades, HISTORY..HISTORY + LIVE, 100, &mut expected);
        println!("{LIVE} more events published beside the readers in {:?}", began.elapsed());
        // The end comes once every reader has gone live, as each must, however busy the publisher was.
        heavy::eventually("all readers are live", LIMIT, || live.load(Ordering::SeqCst) == READERS);
        assert_eq!(server.post("/v1/topics/trades.end/events?type=end", "end").status, 201);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    println!("{READERS} readers read {} events each in {:?}", expected.events, began.elapsed());
    assert_eq!(expected.events, HISTORY + LIVE);
    assert_eq!(sums.len(), READERS);
    for sum in sums {
        assert_eq!(sum, expected);
    }
}
