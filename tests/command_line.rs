//! The binary's commands: what they print, what they keep, which setting wins, and how they exit.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::harness::broker::{command, wait};
use crate::harness::{Broker, PATIENCE, data_file};
use crate::subscriber::lines_of;

/// Runs a command with this on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Written beside, since a command may print more than a pipe holds before it has read all. One that refuses may end
    // without having read its input.
    thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    })
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Checks that a command failed with this code and said something that names the cause.
pub(crate) fn assert_fails(output: &Output, codes: &[i32], cause: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{output:?}");
    assert!(said.to_lowercase().contains(&cause.to_lowercase()), "{cause:?} is not named: {said}");
}

#[test]
fn publish_sends_standard_input_or_a_file_as_it_is() {
    let broker = Broker::start();
    let file = broker.place().join("file.txt");
    std::fs::write(&file, "from a file\r\n").unwrap();
    let output = run(broker.command(&["publish", "t"]), "line one\nline two\n");
    assert_eq!(stdout(&output).trim(), broker.head());
    let output = run(broker.command(&["publish", "t", "--type", "a b", "--key", "k", "-"]), "{\"a\" : 1}");
    assert_eq!(stdout(&output).trim(), broker.head());
    stdout(&run(broker.command(&["publish", "a/b", file.to_str().unwrap()]), ""));
    let read = broker.envelopes("topic=**");
    let data: Vec<&str> = read.iter().map(|e| e.data.as_str()).collect();
    assert_eq!(data, ["line one\nline two\n", "{\"a\" : 1}", "from a file\r\n"]);
    assert_eq!(
        (read[1].kind.as_str(), read[1].key.as_deref(), read[2].topic.as_str()),
        ("a b", Some("k"), "a/b")
    );
}

#[test]
fn publish_ndjson_makes_every_line_an_event_and_prints_an_id_a_line() {
    let broker = Broker::start();
    let text = String::from_utf8(data_file("github-events.ndjson")).unwrap();
    let output = run(broker.command(&["publish", "github", "--ndjson", "--type", "event"]), &text);
    let ids: Vec<&str> = stdout(&output).lines().collect();
    let read = broker.envelopes("topic=github");
    assert!(read.iter().map(|e| e.id.as_str()).eq(ids));
    assert!(read.iter().map(|e| e.data.as_str()).eq(text.lines()));
    assert!(read.iter().all(|e| e.kind == "event"));
}

#[test]
fn publish_ndjson_takes_more_lines_than_one_batch_holds() {
    let broker = Broker::start();
    let text: String = (0..25_000).map(|n| format!("{n}\n")).collect();
    let output = run(broker.command(&["publish", "t", "--ndjson"]), &text);
    assert_eq!(stdout(&output).lines().count(), 25_000);
    assert!(broker.data_of("t").iter().map(String::as_str).eq(text.lines()));
}

#[test]
fn what_no_broker_takes_is_wrong_usage_before_one_is_asked() {
    let long = "x".repeat(513);
    for (arguments, cause) in [
        (&["publish", "a..b"][..], "segment"),
        (&["publish", "a b"], "white space"),
        (&["publish", "a.*"], "pattern"),
        (&["publish", "$broker.x"], "$"),
        (&["publish", "t", "--type", "$x"], "type"),
        (&["publish", "t", "--type", ""], "type"),
        (&["publish", "t", "--key", ""], "--key"),
        (&["publish", "t", "--origin", &long], "--origin"),
        (&["publish", "t", "--idempotency-key", &long], "--idempotency-key"),
        (&["publish", "t", "--ndjson", "--idempotency-key", &long[..500]], "--idempotency-key"),
        (&["publish", "a b", "/no/such/file"], "white space"),
        (&["subscribe", "a..b"], "segment"),
        (&["subscribe", "a", "**.a"], "pattern"),
        (&["subscribe", "x", "--from", "bogus"], "earliest"),
        (&["subscribe", "x", "--from", "-0"], "earliest"),
        (&["subscribe", "x", "--from", "-01"], "earliest"),
        (&["subscribe", "x", "--from", "2026-01-31"], "RFC 3339"),
        (&["subscribe", "x", "--from", ""], "earliest"),
        (&[&["subscribe"][..], &["x"; 65]].concat(), "64"),
    ] {
        // Nobody listens there, so that only what is judged first can be the cause.
        let mut command = command();
        command.args(arguments).env("PERENNIAL_URL", "http://127.0.0.1:1");
        assert_fails(&run(command, "x"), &[2], cause);
    }
}

#[test]
fn a_command_that_is_refused_exits_1_and_one_that_is_misspelt_2() {
    let broker = Broker::start();
    assert_fails(&run(broker.command(&["publish", "t"]), &"x".repeat(256 * 1_024 + 1)), &[1], "max_data");
    assert_fails(&run(broker.command(&["topics", "**.a"]), ""), &[1], "pattern");
    assert_fails(&run(broker.command(&["publish", "t", "/no/such/file"]), ""), &[1], "/no/such/file");
    for wrong in [
        &["publish"][..],
        &["subscribe"],
        &["publish", "t", "--tpye", "x"],
        &["frobnicate"],
        &["serve", "--listn", "x"],
    ] {
        assert_fails(&run(broker.command(wrong), ""), &[2], "usage");
    }
    assert!(broker.envelopes("topic=**").is_empty());
    let mut nobody = command();
    nobody.args(["status", "--url", "http://127.0.0.1:1"]);
    assert_fails(&run(nobody, ""), &[1], "127.0.0.1:1");
    for asked in ["--help", "--version"] {
        let mut help = command();
        help.arg(asked);
        assert!(stdout(&run(help, "")).contains("perennial"));
    }
}

#[test]
fn the_url_is_a_flag_over_the_environment() {
    let broker = Broker::start();
    broker.publish("some.topic", "x");
    let mut flag = command();
    flag.args(["topics", "--url", &broker.url()]).env("PERENNIAL_URL", "http://127.0.0.1:1");
    assert!(stdout(&run(flag, "")).contains("some.topic"));
    let output = run(broker.command(&["status"]), "");
    assert!(stdout(&output).contains(&broker.head()), "{output:?}");
}

/// The most data that a broker takes, found by asking.
fn max_data(broker: &Broker) -> usize {
    let takes = |size: usize| broker.post("/v1/topics/t/events", "x".repeat(size)).status == 201;
    (1..=6).rev().map(|kib| kib * 1_024).find(|size| takes(*size) && !takes(size + 1)).unwrap_or_default()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let place = tempfile::TempDir::new().unwrap();
    let file = place.path().join("perennial.toml");
    std::fs::write(
        &file,
        "max_data = \"2KiB\"\nheartbeat = \"5s\"\nallowed_origins = [\"https://a.example\"]\n",
    )
    .unwrap();
    let config = ["--config", file.to_str().unwrap()];
    assert_eq!(max_data(&Broker::with(&config)), 2 * 1_024);
    let environment = [("PERENNIAL_MAX_DATA", "3KiB")];
    assert_eq!(max_data(&Broker::with_environment(&[], &environment)), 3 * 1_024);
    assert_eq!(max_data(&Broker::with_environment(&config, &environment)), 3 * 1_024);
    let flags = [config[0], config[1], "--set", "max_data=4KiB", "--set", "retry=1s"];
    assert_eq!(max_data(&Broker::with_environment(&flags, &environment)), 4 * 1_024);
    // A plain integer counts bytes.
    assert_eq!(max_data(&Broker::with(&["--set", "max_data=1024"])), 1_024);
}

/// Runs `serve` where it should not start.
fn refused(arguments: &[&str], data: &Path) -> Output {
    let mut serve = command();
    serve.args(["serve", "--data"]).arg(data).args(arguments);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait(&mut child);
    let output = child.wait_with_output().unwrap();
    assert!(!status.success() && output.stdout.is_empty(), "{output:?}");
    output
}

#[test]
fn a_setting_that_is_unknown_or_makes_no_sense_is_refused_by_name() {
    let place = tempfile::TempDir::new().unwrap();
    let data = place.path().join("data");
    let port = ["--listen", "127.0.0.1:0"];
    let file = place.path().join("perennial.toml");
    for bad in [
        "hartbeat=1s",
        "heartbeat=soon",
        "max_data=lots",
        "max_data=-1",
        "heartbeat",
        "idempotency_window=5 fortnights",
    ] {
        let name = bad.split('=').next().unwrap();
        assert_fails(&refused(&[&port[..], &["--set", bad]].concat(), &data), &[1, 2], name);
    }
    for bad in ["hartbeat = \"1s\"\n", "heartbeat = \"soon\"\n", "heartbeat = [\n"] {
        std::fs::write(&file, bad).unwrap();
        let output = refused(&[&port[..], &["--config", file.to_str().unwrap()]].concat(), &data);
        assert_fails(&output, &[1, 2], if bad.contains("hart") { "hartbeat" } else { "heartbeat" });
    }
    assert_fails(
        &refused(&[&port[..], &["--config", "/no/such/file.toml"]].concat(), &data),
        &[1, 2],
        "/no/such/file.toml",
    );
}

#[test]
fn a_second_process_on_the_data_is_refused_and_told_who_has_it() {
    let mut broker = Broker::start();
    broker.publish("t", "x");
    let output = refused(&["--listen", "127.0.0.1:0"], &broker.data());
    assert_fails(&output, &[1], &broker.pid().to_string());
    assert_eq!(broker.data_of("t"), ["x"], "the first one is not harmed");
    broker.kill();
    broker.restart();
    assert_eq!(broker.data_of("t"), ["x"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let broker = Broker::start();
    let place = tempfile::TempDir::new().unwrap();
    let address = format!("127.0.0.1:{}", broker.port());
    assert_fails(&refused(&["--listen", &address], &place.path().join("data")), &[1], &address);
}

#[test]
fn an_address_that_others_can_reach_is_refused_without_authentication() {
    let place = tempfile::TempDir::new().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let output = refused(&["--listen", address], &place.path().join("data"));
        assert_fails(&output, &[1, 2], "authentication");
    }
}

#[test]
fn the_environment_says_where_to_listen_and_the_flag_wins() {
    let place = tempfile::TempDir::new().unwrap();
    let bound = |arguments: &[&str], listen: &str| {
        let mut serve = command();
        serve
            .args(["serve", "--data"])
            .arg(place.path().join("data"))
            .args(arguments)
            .env("PERENNIAL_LISTEN", listen);
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let line = lines_of(child.stdout.take().unwrap()).recv_timeout(PATIENCE);
        child.kill().unwrap();
        child.wait().unwrap();
        line.unwrap_or_default()
    };
    assert!(bound(&[], "127.0.0.1:0").starts_with("perennial listening on http://127.0.0.1:"));
    assert!(bound(&[], "[::1]:0").starts_with("perennial listening on http://[::1]:"));
    assert!(
        bound(&["--listen", "127.0.0.1:0"], "0.0.0.0:0")
            .starts_with("perennial listening on http://127.0.0.1:")
    );
}
