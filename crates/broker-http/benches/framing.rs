//! What it costs to make frames of replayed events.
//!
//! `cargo bench -p broker-http`, on an idle machine.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;

use broker_http::Framer;
use bytestring::ByteString;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_log::{Data, Encoder, Epoch, Event, NewEvent, Position, Timestamp, Topic};
use uuid::Uuid;

const EVENTS: usize = 500;

fn page(data: &str) -> Vec<Event> {
    let new = NewEvent::new(Topic::parse("stocks.ibm").unwrap(), Data::from(ByteString::from(data)));
    let place = |position| {
        let (time, uuid) = (Timestamp::from_micros(1_795_226_400_123_456 + position), Uuid::nil());
        Event::place(new.clone(), Position::new(184_467 + position), time, uuid)
    };
    (0..EVENTS as u64).map(place).collect()
}

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let json = format!("{{\"price\":182.3,\"note\":\"{}\"}}", "x".repeat(228));
    let lines = "a line of a text\n".repeat(15);
    for (name, data, envelope) in [
        ("plain", &json, false),
        ("lines", &lines, false),
        ("envelope", &json, true),
        ("escaped", &lines, true),
    ] {
        let page = page(data);
        let framer = Framer { epoch: Epoch::new(0x7f3a_9c1e), envelope };
        let mut buffer = Vec::new();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                buffer.clear();
                for event in &page {
                    framer.encode(&event.view(), &mut buffer);
                }
                black_box(&buffer);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
