//! The command `bench`: what it tells, what it leaves behind, and that it finds out a broker that is not exact.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::command_line::{assert_fails, run};
use crate::harness::broker::{command, wait};
use crate::harness::heavy::eventually;
use crate::harness::{Broker, PATIENCE};

/// Runs a measurement that must be exact, and returns what it wrote as JSON.
fn measure(broker: &Broker, arguments: &[&str]) -> Value {
    let [json, svg] = ["figures.json", "picture.svg"].map(|name| broker.place().join(name));
    let mut command = broker.command(&["bench"]);
    command.args(arguments).arg("--json").arg(&json).arg("--svg").arg(&svg);
    let output = run(command, "");
    assert!(output.status.success(), "{output:?}");
    let told = read_json(&json);
    assert_eq!((&told["command"], &told["exact"]), (&arguments[0].into(), &true.into()), "{told}");
    assert_eq!(told["url"], format!("{}/", broker.url()));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("used by this program") && table.contains("\nexact: "), "{table}");
    assert_well_formed(&std::fs::read_to_string(svg).unwrap());
    told
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A figure, which must be larger than nothing.
fn figure(told: &Value, name: &str) -> f64 {
    let figure = told["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name}: {told:#}"));
    assert!(figure > 0.0 && figure < 1e9, "{name}: {figure}");
    figure
}

/// Checks that the quantiles of a latency are there and grow, and returns how many were timed.
fn latencies(told: &Value, name: &str) -> u64 {
    let latencies = &told["figures"][name];
    let quantiles: Vec<f64> = ["p50", "p90", "p99", "p999", "max"]
        .iter()
        .map(|quantile| latencies[quantile].as_f64().unwrap_or_else(|| panic!("{quantile}: {told:#}")))
        .collect();
    assert!(quantiles.is_sorted() && quantiles[0] > 0.0 && quantiles[4] < 60_000.0, "{quantiles:?}");
    latencies["count"].as_u64().unwrap()
}

fn events_checked(told: &Value) -> u64 {
    told["events_checked"].as_u64().unwrap()
}

/// How many events a topic holds.
fn held(broker: &Broker, topic: &Value) -> u64 {
    let topic = broker.json(&format!("/v1/topics/{}", topic.as_str().unwrap()));
    topic["events"].as_u64().unwrap()
}

/// Checks that every element of an XML text is closed, in order, and that it is a picture.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut elements = 0;
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("a tag has no end: {piece}"));
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes: <{tag}>");
        assert!(!text.contains('>') && !tag.contains("NaN"), "<{piece}");
        let name = tag.split([' ', '/', '\n']).find(|name| !name.is_empty()).unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "</{name}> closes something else"),
            (false, true) => {}
            (false, false) => open.push(name),
        }
        elements += 1;
    }
    assert!(svg.trim_start().starts_with("<svg ") && open.is_empty(), "not closed: {open:?}");
    assert!(elements > 50, "{elements} elements are no picture");
}

#[test]
fn bench_publish_measures_answers_and_reads_all_back() {
    let broker = Broker::start();
    let told = measure(&broker, &["publish", "--connections", "4", "--seconds", "1", "--warmup", "0.1"]);
    let (events, requests) = (figure(&told, "events_per_second"), figure(&told, "requests_per_second"));
    assert_eq!(events, requests);
    assert!(figure(&told, "seconds") >= 1.0);
    assert!(latencies(&told, "latency_ms") <= events_checked(&told));
    assert!(told["samples"].as_array().is_some_and(|samples| samples.len() > 3), "{told:#}");
    assert_eq!((&told["purged"], held(&broker, &told["topic"])), (&true.into(), 0));
    assert!(told["topic"].as_str().is_some_and(|topic| topic.starts_with("bench.")));
}

#[test]
fn bench_publish_sends_batches_of_the_size_that_is_asked_for() {
    let broker = Broker::start();
    let asked = ["publish", "--connections", "2", "--batch", "50", "--seconds", "0.2", "--warmup", "0"];
    let told =
        measure(&broker, &[&asked[..], &["--size", "1KiB", "--keep", "--topic", "a/b\u{e9}"]].concat());
    let ratio = figure(&told, "events_per_second") / figure(&told, "requests_per_second");
    assert!((ratio - 50.0).abs() < 0.1, "{ratio}");
    let events = broker.envelopes("topic=**");
    assert_eq!((events.len() as u64, &told["purged"]), (events_checked(&told), &false.into()));
    assert!(events.iter().all(|event| event.topic == "a/b\u{e9}" && event.data.len() == 1_024));
}

#[test]
fn bench_fanout_measures_the_way_to_all_readers() {
    let broker = Broker::start();
    let told = measure(&broker, &["fanout", "--readers", "20", "--rate", "100", "--seconds", "1"]);
    let (published, delivered) = (figure(&told, "events_per_second"), figure(&told, "deliveries_per_second"));
    // Under load a machine may not reach the rate, but it never exceeds it by more than a moment's backlog.
    assert!(published < 200.0, "{published}");
    assert!(delivered < 21.0 * 200.0 && latencies(&told, "latency_ms") > 0, "{delivered}");
    assert_eq!(events_checked(&told) % 20, 0);
    let told = measure(&broker, &["fanout", "--readers", "5", "--rate", "saturated", "--seconds", "0.5"]);
    assert_eq!((&told["settings"]["rate"], events_checked(&told) % 5), (&"saturated".into(), 0));
}

#[test]
fn bench_replay_reads_the_whole_history_with_every_reader() {
    let broker = Broker::start();
    let told = measure(&broker, &["replay", "--events", "5003", "--readers", "3"]);
    assert_eq!(events_checked(&told), 3 * 5_003);
    let rates =
        ["slowest", "median", "fastest"].map(|who| figure(&told, &format!("{who}_events_per_second")));
    assert!(rates.is_sorted() && rates[0] <= figure(&told, "events_per_second"), "{rates:?}");
    assert_eq!(events_checked(&measure(&broker, &["replay", "--events", "1"])), 1);
}

#[test]
fn bench_storm_brings_all_readers_back() {
    let broker = Broker::start();
    let told = measure(&broker, &["storm", "--readers", "50", "--rate", "100", "--seconds", "1"]);
    assert_eq!((latencies(&told, "caught_up_ms"), latencies(&told, "reconnected_ms")), (50, 50));
    assert!(told["figures"]["retries"].is_number() && events_checked(&told).is_multiple_of(50), "{told:#}");
}

#[test]
fn a_topic_that_held_events_before_is_not_purged() {
    let broker = Broker::start();
    broker.publish("mine", "precious");
    let told = measure(&broker, &["fanout", "--readers", "2", "--seconds", "0.2", "--topic", "mine"]);
    assert_eq!(&told["purged"], false);
    assert_eq!(held(&broker, &told["topic"]), events_checked(&told) / 2 + 1);
    assert_eq!(broker.data_of("mine")[0], "precious");
}

#[test]
fn what_cannot_be_measured_is_said_with_its_cause() {
    let broker = Broker::start();
    let bench = |arguments: &[&str]| run(broker.command(&[&["bench"], arguments].concat()), "");
    let nobody = format!(
        "http://127.0.0.1:{}",
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    );
    for (arguments, code, cause) in [
        (&["publish", "--url", nobody.as_str()][..], 1, "refused"),
        (&["storm", "--url", "https://127.0.0.1:1"], 2, "plain http only"),
        (&["replay", "--url", "nowhere"], 2, "as in http://"),
        (&["fanout", "--topic", "$mine"], 2, "starts with $"),
        (&["fanout", "--rate", "fast"], 2, "neither saturated nor a rate"),
        (&["publish", "--size", "39"], 2, "40 to 16MiB"),
        (&["publish", "--svg", "no/such/folder.svg"], 1, "no/such/folder.svg cannot be written"),
        (&["publish", "--seconds", "0.2", "--size", "1MiB"], 1, "max_data"),
        (&["publish", "--batch", "1000000", "--size", "1KiB"], 2, "64MiB"),
    ] {
        assert_fails(&bench(arguments), &[code], cause);
    }
    assert_eq!(broker.json("/v1/topics")["topics"], Value::Array(Vec::new()), "something was left behind");
}

#[test]
fn more_readers_than_files_may_be_open_are_refused_before_anything_happens() {
    let broker = Broker::start();
    let bench = broker.command(&["bench", "fanout", "--readers", "100"]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\""])
        .arg(bench.get_program())
        .args(bench.get_args());
    limited.env("PERENNIAL_URL", broker.url()).current_dir(broker.place());
    assert_fails(&run(limited, ""), &[1], "108 connections need");
}

#[test]
fn a_broker_that_dies_while_it_is_measured_is_told_of() {
    let mut broker = Broker::start();
    let mut bench = broker.command(&["bench", "fanout", "--readers", "3", "--seconds", "60"]);
    let mut child = bench.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("something was published", PATIENCE, || {
        broker.json("/v1/status")["events"].as_u64() > Some(0)
    });
    broker.kill();
    assert_eq!(wait(&mut child).code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("broke") || said.contains("closed") || said.contains("refused"), "{said}");
}

/// What a faulty network does to two events that come one after the other.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// The first one goes missing.
    Lose,
    /// The first one takes the place of the second, too.
    Double,
    /// They change places.
    Swap,
    /// A letter of the first one changes.
    Change,
}

/// Runs a measurement of a broker behind a relay that does harm once.
fn measure_through(broker: &Broker, harm: Harm, arguments: &[&str]) -> (Output, Value) {
    let relay = start_relay(broker.port(), harm);
    let json = broker.place().join("figures.json");
    let mut bench: Command = command();
    bench.arg("bench").args(arguments).arg("--json").arg(&json).arg("--url").arg(relay);
    let output = run(bench, "");
    assert_fails(&output, &[1], "the broker was not exact");
    (output, read_json(&json))
}

/// Relays to a port; the first answer with two whole events in one piece is harmed. Returns its address.
fn start_relay(target: u16, harm: Harm) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let is_done = Arc::new(Mutex::new(false));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
            let (up_from, up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let is_done = Arc::clone(&is_done);
            thread::spawn(move || relay(up_from, up_to, |_| {}));
            thread::spawn(move || {
                relay(server, client, |bytes| {
                    let mut is_done = is_done.lock().unwrap();
                    *is_done = *is_done || do_harm(harm, bytes);
                });
            });
        }
    });
    address
}

fn relay(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

/// Harms the first two events of the stream in this piece; false if there are none.
fn do_harm(harm: Harm, bytes: &mut [u8]) -> bool {
    let lines = data_lines(bytes);
    let [first, second] = match lines.as_slice() {
        [first, second, ..] => [first.clone(), second.clone()],
        _ => return false,
    };
    let [one, two] = [&first, &second].map(|line| bytes[line.clone()].to_vec());
    match harm {
        // Nobody knows such a field, so the event has no data, and is none.
        Harm::Lose => bytes[first.start..first.start + 4].copy_from_slice(b"what"),
        Harm::Double => bytes[second].copy_from_slice(&one),
        Harm::Swap => {
            bytes[first].copy_from_slice(&two);
            bytes[second].copy_from_slice(&one);
        }
        Harm::Change => bytes[first.end - 1] ^= 1,
    }
    true
}

/// The lines of data of published events in this piece.
fn data_lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut begin = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // The data of the broker's own events is JSON.
        if line.starts_with(b"data: ") && line[6] != b'{' && line.ends_with(b"\n") {
            lines.push(begin..begin + line.len() - 1);
        }
        begin += line.len();
    }
    lines
}

#[test]
fn an_event_that_is_lost_doubled_swapped_or_changed_on_its_way_is_found() {
    let broker = Broker::start();
    for (harm, fault, told) in [
        (Harm::Lose, "lost", "1 lost"),
        (Harm::Double, "doubled", "1 lost, 1 given twice"),
        (Harm::Swap, "reordered", "1 out of order"),
        (Harm::Change, "damaged", "damaged"),
    ] {
        let (output, json) = measure_through(&broker, harm, &["replay", "--events", "500", "--readers", "2"]);
        assert_fails(&output, &[1], told);
        assert_eq!(
            (&json["exact"], &json["faults"][fault]),
            (&false.into(), &1.into()),
            "{harm:?}: {json:#}"
        );
        assert!(!String::from_utf8(output.stdout).unwrap().contains("exact: "), "{harm:?}");
        // The events are left for whoever wants to look.
        assert_eq!((&json["purged"], held(&broker, &json["topic"])), (&false.into(), 500));
    }
}

#[test]
fn an_event_that_is_lost_while_readers_come_and_go_is_found() {
    let broker = Broker::start();
    for arguments in [
        &["fanout", "--readers", "3", "--rate", "saturated", "--seconds", "0.5"][..],
        &["storm", "--readers", "3", "--rate", "2000", "--seconds", "1"],
        &["publish", "--batch", "20", "--seconds", "0.5"],
    ] {
        let (output, json) = measure_through(&broker, Harm::Lose, arguments);
        assert_fails(&output, &[1], "the broker was not exact: 1 lost");
        assert_eq!(json["faults"]["lost"], 1, "{json:#}");
    }
}
