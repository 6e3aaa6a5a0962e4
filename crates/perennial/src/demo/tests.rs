use std::collections::BTreeMap;

use event_log::memory::MemoryLog;
use event_log::{Cursor, Event, EventLog, SystemClock};

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn broker() -> Broker {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(Arc::new(SystemClock), Duration::from_secs(60)));
    Broker::start(log, Arc::new(SystemClock), broker::Options::default()).unwrap()
}

async fn publish(broker: &Broker, event: NewEvent) -> Position {
    broker.publish(Batch::new(vec![event])).await.unwrap().head
}

async fn all(broker: &Broker) -> Vec<Arc<Event>> {
    let mut reader = broker.log().reader(Arc::new(Filter::everything()));
    reader.read(Cursor::default(), PageLimit { events: 10_000, bytes: 1 << 30 }).await.unwrap().events
}

fn foreign(data: &str) -> NewEvent {
    NewEvent::new(Topic::parse("stocks.demo").unwrap(), Data::parse(data, 1_000).unwrap())
}

#[test]
fn every_row_is_an_event_and_is_found_by_its_data() {
    let recording = Recording::load().unwrap();
    assert_eq!(recording.0.len(), 24_000);
    let first = recording.event(Played { row: 0, after: Position::ORIGIN }).unwrap();
    assert_eq!(
        (first.topic.as_str(), first.key.unwrap().as_str(), first.data.as_str()),
        (
            "stocks.spy",
            "P",
            r#"{"symbol":"SPY","time":"2013-10-07T08:00:00.464Z","price":167.41,"size":100,"exchange":"P","condition":"20002000","seq":1}"#
        )
    );
    let mut data: Vec<&str> = recording.0.iter().map(|row| row.data.get()).collect();
    for row in [0, 1, 12_345, 23_999] {
        assert!(recording.event(Played { row, after: Position::ORIGIN }).is_ok());
        assert_eq!(recording.row_of(data[row]), Some(row));
    }
    data.sort_unstable();
    data.dedup();
    assert_eq!(data.len(), 24_000, "no two rows have the same data");
}

#[test]
fn the_page_knows_how_many_trades_each_symbol_has() {
    #[derive(Deserialize)]
    struct Trade {
        symbol: String,
        seq: u64,
    }
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for row in &Recording::load().unwrap().0 {
        let trade: Trade = serde_json::from_str(row.data.get()).unwrap();
        let before = last.insert(trade.symbol, trade.seq).unwrap_or(0);
        assert_eq!(trade.seq, before + 1, "trades are numbered without gaps");
    }
    let written: Vec<String> = last.iter().map(|(symbol, last)| format!("{symbol}: {last}")).collect();
    let page = std::str::from_utf8(PAGES[2].body).unwrap();
    assert!(page.contains(&format!("const LAST_OF_DAY = {{ {} }};", written.join(", "))));
}

#[test]
fn a_new_log_begins_at_the_first_row() {
    runtime().block_on(async {
        let (recording, broker) = (Recording::load().unwrap(), broker());
        let beginning = Played { row: 0, after: Position::ORIGIN };
        assert_eq!(recording.find_place(&broker).await.unwrap(), beginning);
        publish(&broker, foreign("not a row")).await;
        assert_eq!(recording.find_place(&broker).await.unwrap(), beginning);
    });
}

#[test]
fn after_a_restart_it_goes_on_behind_the_newest_row_whatever_others_published() {
    runtime().block_on(async {
        let (recording, broker) = (Recording::load().unwrap(), broker());
        let row = |row| recording.event(Played { row, after: Position::ORIGIN }).unwrap();
        publish(&broker, row(500)).await;
        let after = publish(&broker, row(501)).await;
        assert_eq!(recording.find_place(&broker).await.unwrap(), Played { row: 502, after });
        // The same data from another origin, and an unknown one from the demo's, are not the demo's rows.
        publish(&broker, NewEvent { origin: None, idempotency_key: None, ..row(900) }).await;
        publish(&broker, NewEvent { origin: Some(Origin::parse(ORIGIN).unwrap()), ..foreign("odd") }).await;
        for n in 0..300 {
            publish(&broker, foreign(&n.to_string())).await;
        }
        assert_eq!(recording.find_place(&broker).await.unwrap(), Played { row: 502, after });
        let after = publish(&broker, row(23_999)).await;
        assert_eq!(recording.find_place(&broker).await.unwrap(), Played { row: 0, after });
    });
}

#[test]
fn it_plays_row_after_row_and_a_retry_publishes_nothing() {
    runtime().block_on(async {
        let broker = broker();
        tokio::time::timeout(Duration::from_millis(500), play(&broker, 200.0)).await.unwrap_err();
        let events = all(&broker).await;
        assert!(events.len() > 60, "{} events", events.len());
        let recording = Recording::load().unwrap();
        for (event, row) in events.iter().zip(&recording.0) {
            assert_eq!(event.data.as_str(), row.data.get());
        }
        let last = events.len() - 1;
        let again = Played { row: last, after: events[last - 1].position };
        publish(&broker, recording.event(again).unwrap()).await;
        assert_eq!(all(&broker).await.len(), events.len());
    });
}

#[test]
fn pauses_have_the_rate_as_their_mean_and_a_cap() {
    let mean = (0..1_000).map(|n| pause(10.0, f64::from(n) / 1_000.0).as_secs_f64()).sum::<f64>() / 1_000.0;
    assert!((0.09..0.11).contains(&mean), "{mean}");
    assert_eq!(pause(10.0, 1.0), Duration::from_millis(400));
}
