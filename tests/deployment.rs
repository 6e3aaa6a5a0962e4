//! What stands around a broker at work, with the very files of `deploy/`: nginx, HAProxy and Caddy in front of it, Prometheus
//! beside it. They are Debian's own programs, on ports and in folders of the tests. What a test has to change in a file
//! (addresses, ports, paths) is said there, and must be in it word for word.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::outside::Outside;
use crate::harness::{Broker, escape, heavy};

/// Proxies, started with the files of `deploy/`.
mod proxies;

use proxies::{Process, Proxy, caddy, haproxy, nginx};

/// Clients wait up to 5 seconds before they come back, and the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"))
}

fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A file of `deploy/` with some of its words replaced; each has to be in it.
fn replaced(file: &str, words: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(top().join("deploy").join(file)).unwrap();
    for (from, to) in words {
        assert!(text.contains(from), "deploy/{file} has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What curl prints. Nobody vouches for the tests' certificates.
fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20"]).args(arguments);
    String::from_utf8(run(&mut command).stdout).unwrap()
}

/// Publishes numbers through a proxy, over the version of HTTP that it speaks.
fn publish(proxy: &Proxy, topic: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let url = format!("{}/v1/topics/{topic}/events?type=tick", proxy.url);
        let told = curl(&["-d", &number.to_string(), "-w", " %{http_code} %{http_version}", &url]);
        assert!(told.ends_with(&format!(" 201 {}", proxy.http)), "{told}");
    }
}

/// Each event is there before the next one is published, so no proxy waits for a buffer to be full.
fn streams_come_as_they_happen(proxy: impl FnOnce(&Broker) -> Proxy) {
    let broker = Broker::start();
    let proxy = proxy(&broker);
    let url = format!("{}/v1/topics/t/events?quiet=true&from=earliest", proxy.url);
    let mut stream =
        Process::start("curl", &["--silent", "--no-buffer", "--insecure", "--include", &url], &[]);
    stream.until("\r\n\r\n");
    for number in 0..5 {
        publish(&proxy, "t", number..number + 1);
        stream.until(&format!("\ndata: {number}\n"));
    }
    let said = stream.said();
    assert!(said.starts_with(&format!("HTTP/{} 200", proxy.http)), "{said}");
    let headers = said.split("\r\n\r\n").next().unwrap().to_lowercase();
    for header in ["content-type: text/event-stream", "cache-control: no-cache, no-transform"] {
        assert!(headers.contains(header), "{said}");
    }
}

/// A real `EventSource` over a crash: while the broker is away the proxy answers it with an event stream that ends, and
/// publishers with the truth.
fn an_event_source_goes_on_exactly(proxy: impl FnOnce(&Broker) -> Proxy) {
    let mut broker = Broker::with(&["--set", "retry=200ms"]);
    let proxy = proxy(&broker);
    let url = format!("{}/v1/events?topic=t&from=earliest", proxy.url);
    let mut source = Outside::start_with(
        "node",
        "eventsource.mjs",
        &[&url, "tick", "$closing"],
        &[("NODE_TLS_REJECT_UNAUTHORIZED", "0")],
    );
    publish(&proxy, "t", 0..10);
    let ticks = |lines: &[Value]| -> Vec<String> {
        let ticks = lines.iter().filter(|line| line["type"] == "tick");
        ticks.map(|line| line["data"].as_str().unwrap().to_owned()).collect()
    };
    source.wait_for("all that was published", LIMIT, |lines| ticks(lines).len() == 10);
    broker.kill();
    let is_overloaded = |line: &Value| {
        line["type"] == "$closing" && line["data"].as_str().unwrap().contains(r#""reason":"overloaded""#)
    };
    source.wait_for("the proxy asks it to come back", LIMIT, |lines| lines.iter().any(is_overloaded));
    let refused = curl(&["-d", "x", "-w", " %{http_code}", &format!("{}/v1/topics/t/events", proxy.url)]);
    assert!(refused.contains("Idempotency-Key"), "{refused}");
    assert!(["502", "503"].iter().any(|status| refused.ends_with(status)), "{refused}");
    broker.restart();
    // A proxy may take a moment until it tries again.
    heavy::eventually("the broker is there again", LIMIT, || {
        curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("{}/healthz", proxy.url)]) == "200"
    });
    publish(&proxy, "t", 10..20);
    source.wait_for("what came after the crash", LIMIT, |lines| ticks(lines).len() >= 20);
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(ticks(&source.lines()), expected);
}

#[test]
fn event_streams_come_through_nginx_as_they_happen() {
    streams_come_as_they_happen(nginx);
}

#[test]
fn event_streams_come_through_haproxy_as_they_happen() {
    streams_come_as_they_happen(haproxy);
}

#[test]
fn event_streams_come_through_caddy_as_they_happen() {
    streams_come_as_they_happen(caddy);
}

#[test]
fn an_event_source_behind_nginx_goes_on_exactly_over_a_crash() {
    an_event_source_goes_on_exactly(nginx);
}

#[test]
fn an_event_source_behind_haproxy_goes_on_exactly_over_a_crash() {
    an_event_source_goes_on_exactly(haproxy);
}

#[test]
fn an_event_source_behind_caddy_goes_on_exactly_over_a_crash() {
    an_event_source_goes_on_exactly(caddy);
}

#[test]
fn the_files_that_nothing_here_can_run_are_what_their_programs_take() {
    let python = top().join("tests/clients/.venv/bin/python");
    succeed(Command::new(python).arg(top().join("tests/deployment/lint.py")));
    let place = tempfile::tempdir().unwrap();
    let unit = place.path().join("perennial.service");
    // The only word that is not the same everywhere: where the binary lies.
    let binary = env!("CARGO_BIN_EXE_perennial");
    std::fs::write(&unit, replaced("systemd/perennial.service", &[("/usr/local/bin/perennial", binary)]))
        .unwrap();
    let output = run(Command::new("systemd-analyze").arg("verify").arg(&unit));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn health_is_an_exit_code() {
    let mut broker = Broker::start();
    let health = |broker: &Broker| run(&mut broker.command(&["health"]));
    let ready = health(&broker);
    assert_eq!((ready.status.code(), ready.stdout.as_slice()), (Some(0), b"ready\n".as_slice()), "{ready:?}");
    broker.terminate();
    let away = health(&broker);
    assert_eq!((away.status.code(), away.stdout.len()), (Some(1), 0), "{away:?}");
    assert!(String::from_utf8(away.stderr).unwrap().contains("127.0.0.1"));
}

/// What `deploy/compose/setup.sh` makes, in a folder of the test.
fn secrets() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_perennial"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let setup =
        || succeed(Command::new(top().join("deploy/compose/setup.sh")).arg(place.path()).env("PATH", &path));
    setup();
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    let first = ["perennial.key", "perennial.pub", "metrics-token", "token", "tls/certificate.pem"].map(read);
    setup();
    let names = ["perennial.key", "perennial.pub", "metrics-token", "token", "tls/certificate.pem"];
    assert_eq!(names.map(read), first, "what is there already stays as it is");
    place
}

#[test]
fn prometheus_scrapes_a_broker_that_asks_for_tokens_and_the_dashboard_and_alerts_are_answered() {
    let secrets = secrets();
    let path = |name: &str| secrets.path().join(name).display().to_string();
    let broker = Broker::with(&["--set", &format!("auth_keys={}", path("perennial.pub"))]);
    let token = std::fs::read_to_string(path("token")).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let told = curl(&["-H", &bearer, "-d", "x", &format!("{}/v1/topics/t/events", broker.url())]);
    assert!(told.contains("\"id\""), "{told}");

    let port = free_port();
    let config = secrets.path().join("prometheus.yml");
    let words = [
        ("broker:8080", format!("127.0.0.1:{}", broker.port())),
        ("localhost:9090", format!("127.0.0.1:{port}")),
        ("/run/secrets/perennial/metrics-token", path("metrics-token")),
        ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(from, to)| (*from, to.as_str())).collect();
    std::fs::write(&config, replaced("prometheus/prometheus.yml", &words)).unwrap();
    let rules = top().join("deploy/prometheus");
    std::fs::copy(rules.join("alerts.yml"), secrets.path().join("alerts.yml")).unwrap();
    succeed(Command::new("promtool").args(["check", "config"]).arg(&config));
    succeed(Command::new("promtool").args(["test", "rules", "alerts.test.yml"]).current_dir(&rules));

    let config = format!("--config.file={}", config.display());
    let storage = format!("--storage.tsdb.path={}", secrets.path().join("tsdb").display());
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let _prometheus = Process::start("prometheus", &[&config, &storage, &listen], &[]);
    let api = format!("http://127.0.0.1:{port}/api/v1");
    let query = |expression: &str| -> Value {
        let answer = curl(&[&format!("{api}/query?query={}", escape(expression))]);
        serde_json::from_str(&answer).unwrap_or(Value::Null)
    };
    // Two scrapes, so that there are rates.
    heavy::eventually("the broker is scraped", LIMIT, || {
        query("count_over_time(perennial_events_published_total[1m])")["data"]["result"][0]["value"][1]
            .as_str()
            .is_some_and(|scrapes| scrapes.parse::<u32>().unwrap() > 1)
    });
    assert_eq!(query("up{job=\"perennial\"}")["data"]["result"][0]["value"][1], "1");
    let dashboard = std::fs::read_to_string(top().join("deploy/grafana/dashboards/perennial.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 20);
    for expression in expressions {
        // What Grafana puts in the place of its variables.
        let filled = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = query(&filled);
        assert_eq!(answer["status"], "success", "{filled}: {answer}");
        let has_values = !answer["data"]["result"].as_array().unwrap().is_empty();
        assert!(has_values || filled.ends_with("> 0"), "{filled} shows nothing");
    }
    let rules: Value = serde_json::from_str(&curl(&[&format!("{api}/rules")])).unwrap();
    assert!(rules["data"]["groups"][0]["rules"].as_array().unwrap().len() > 10, "{rules}");
}
