//! TLS and HTTP/2: the same broker, said privately. Judged by other people's programs: curl, openssl and Chromium.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::outside::Outside;
use crate::harness::{Broker, heavy};

const SELF_SIGNED: &[&str] = &["--tls-self-signed"];
const LIMIT: Duration = Duration::from_secs(60);

fn url(broker: &Broker, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", broker.port())
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"))
}

/// What curl prints: with a certificate that nobody vouches for, so it is told not to mind.
fn curl(arguments: &[&str]) -> String {
    let output =
        run("curl", &[&["--silent", "--show-error", "--insecure", "--no-buffer"], arguments].concat());
    String::from_utf8(output.stdout).unwrap()
}

/// Publishes so many events of so many bytes.
fn publish(broker: &Broker, events: usize, bytes: usize) {
    let data = "x".repeat(bytes);
    let lines: Vec<String> = (0..events).map(|_| format!(r#"{{"topic":"t.big","data":"{data}"}}"#)).collect();
    let file = broker.place().join("lines");
    for lines in lines.chunks(500) {
        std::fs::write(&file, lines.join("\n")).unwrap();
        let body = format!("@{}", file.display());
        let kind = "Content-Type: application/x-ndjson";
        let status = curl(&[
            "--data-binary",
            &body,
            "-H",
            kind,
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            &url(broker, "/v1/events"),
        ]);
        assert_eq!(status, "201");
    }
}

#[test]
fn both_versions_of_http_publish_and_read_the_same() {
    let broker = Broker::with(SELF_SIGNED);
    let mut streams = Vec::new();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for data in ["plain", "fünf \u{1f600}"] {
            let told = curl(&[
                flag,
                "-d",
                data,
                "-w",
                " %{http_version} %{http_code}",
                &url(&broker, "/v1/topics/t.a/events"),
            ]);
            assert!(told.ends_with(&format!(" {version} 201")), "{told}");
        }
    }
    for flag in ["--http1.1", "--http2"] {
        let stream =
            curl(&[flag, "-m", "2", &url(&broker, "/v1/topics/t.a/events?from=earliest&quiet=true")]);
        assert_eq!(stream.matches("\nid: ").count(), 4, "{stream}");
        streams.push(stream);
        let page: Value = serde_json::from_str(&curl(&[
            flag,
            "-H",
            "Accept: application/json",
            &url(&broker, "/v1/topics/t.a/events?from=earliest"),
        ]))
        .unwrap();
        assert_eq!(page["events"].as_array().unwrap().len(), 4);
        let problem = curl(&[flag, "-i", &url(&broker, "/v1/topics/t..a/events")]);
        assert!(problem.contains(" 400") && problem.contains("application/problem+json"), "{problem}");
    }
    assert_eq!(streams[0], streams[1]);
}

#[test]
fn a_slow_reader_gets_the_end_of_a_long_history() {
    let broker = Broker::with(&["--tls-self-signed", "--set", "heartbeat=1h"]);
    publish(&broker, 1_500, 4_000);
    for flag in ["--http1.1", "--http2"] {
        let stream = url(&broker, "/v1/topics/t.big/events?from=earliest&quiet=true");
        let told = curl(&[flag, "--limit-rate", "3M", "-m", "6", &stream]);
        assert_eq!(told.matches("\nid: ").count(), 1_500, "{flag}");
    }
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken_and_http_2_is_preferred() {
    let broker = Broker::with(SELF_SIGNED);
    let address = format!("127.0.0.1:{}", broker.port());
    let agreed = |more: &[&str]| {
        let output = run("openssl", &[&["s_client", "-connect", &address], more].concat());
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let told = agreed(&[version, "-alpn", "http/1.1,h2"]);
        assert!(told.contains("ALPN protocol: h2"), "{told}");
        assert!(told.contains("Secure Renegotiation IS") || version == "-tls1_3", "{told}");
    }
    assert!(agreed(&["-alpn", "http/1.1"]).contains("ALPN protocol: http/1.1"));
    for version in ["-tls1", "-tls1_1"] {
        // The client would not try by itself either.
        let told = agreed(&[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(
            told.contains("alert protocol version") || told.contains("alert handshake failure"),
            "{told}"
        );
    }
    for weak in ["RC4", "3DES", "aNULL", "eNULL", "kRSA"] {
        let told = agreed(&["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]);
        assert!(
            told.contains("alert handshake failure") || told.contains("no cipher match"),
            "{weak}: {told}"
        );
    }
}

/// A certificate and its key, made by openssl.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("tls.pem"), folder.join("tls.key"));
    let subject = format!("/CN={name}");
    let made = [
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"].as_slice(),
        &["-days", "2", "-subj", &subject, "-addext", "subjectAltName=IP:127.0.0.1"],
        &["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()],
    ];
    let output = run("openssl", &made.concat());
    assert!(output.status.success(), "{output:?}");
    (certificate, key)
}

fn with_certificate(folder: &Path) -> Broker {
    let (certificate, key) = certificate(folder, "first");
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    Broker::with(&["--set", &set("tls_certificate", &certificate), "--set", &set("tls_key", &key)])
}

/// Who is shown at a new connection.
fn shown(broker: &Broker) -> String {
    let output = run("openssl", &["s_client", "-connect", &format!("127.0.0.1:{}", broker.port())]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_default().trim().to_owned()
}

struct Reader {
    child: Child,
    file: PathBuf,
}

impl Reader {
    fn start(broker: &Broker, flag: &str) -> Self {
        let file = broker.place().join(format!("stream{flag}"));
        let stream = url(broker, "/v1/topics/t.a/events");
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--no-buffer", flag, "-o"]).arg(&file).arg(stream);
        Reader { child: command.spawn().unwrap(), file }
    }

    fn has(&self, what: &str) -> bool {
        std::fs::read_to_string(&self.file).unwrap_or_default().contains(what)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_new_certificate_is_shown_and_no_stream_breaks_and_a_bad_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let mut broker = with_certificate(folder.path());
    assert_eq!(shown(&broker), "CN = first");
    let mut readers = ["--http1.1", "--http2"].map(|flag| Reader::start(&broker, flag));
    for reader in &readers {
        heavy::eventually("the stream is open", LIMIT, || reader.has("$live"));
    }
    std::fs::write(folder.path().join("tls.pem"), "not a certificate").unwrap();
    broker.signal(Signal::HUP);
    heavy::eventually("the fault is told", LIMIT, || {
        broker.log().contains("the TLS certificate is not replaced")
    });
    assert_eq!(shown(&broker), "CN = first");
    certificate(folder.path(), "second");
    broker.signal(Signal::HUP);
    heavy::eventually("the new certificate is shown", LIMIT, || shown(&broker) == "CN = second");
    // Nobody has to ask.
    certificate(folder.path(), "third");
    heavy::eventually("the next one is, too", LIMIT, || shown(&broker) == "CN = third");
    assert!(broker.is_running());
    curl(&["-d", "after all that", &url(&broker, "/v1/topics/t.a/events")]);
    for reader in &mut readers {
        heavy::eventually("the stream goes on", LIMIT, || reader.has("after all that"));
        assert!(reader.child.try_wait().unwrap().is_none());
    }
}

/// A certificate for 127.0.0.1 that an authority signed, and the authority's own.
fn signed(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let [authority, authority_key, request, leaf, key, names] =
        ["ca.pem", "ca.key", "leaf.csr", "leaf.pem", "leaf.key", "names"].map(|name| folder.join(name));
    std::fs::write(&names, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = |arguments: Vec<String>| {
        let output = run("openssl", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{output:?}");
    };
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let curve = curve.map(str::to_owned).to_vec();
    openssl(
        [
            words("req -x509 -days 2 -subj /CN=authority -out"),
            vec![text(&authority), "-keyout".into(), text(&authority_key)],
            curve.clone(),
        ]
        .concat(),
    );
    openssl(
        [words("req -subj /CN=broker -out"), vec![text(&request), "-keyout".into(), text(&key)], curve]
            .concat(),
    );
    openssl(
        [
            words("x509 -req -days 2 -CAcreateserial -in"),
            vec![text(&request), "-CA".into(), text(&authority)],
            vec![
                "-CAkey".into(),
                text(&authority_key),
                "-out".into(),
                text(&leaf),
                "-extfile".into(),
                text(&names),
            ],
        ]
        .concat(),
    );
    (authority, leaf, key)
}

#[test]
fn the_command_line_speaks_tls_with_whom_it_has_a_reason_to_trust() {
    let folder = TempDir::new().unwrap();
    let (authority, leaf, key) = signed(folder.path());
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    let broker = Broker::with(&["--set", &set("tls_certificate", &leaf), "--set", &set("tls_key", &key)]);
    let command = |arguments: &[&str]| {
        let mut command = crate::harness::broker::command();
        command.args(arguments).args(["--url", &url(&broker, "")]).stdin(Stdio::null());
        command
    };
    let trusted = command(&["publish", "t.a"]).env("SSL_CERT_FILE", &authority).output().unwrap();
    assert!(trusted.status.success(), "{trusted:?}");
    let untrusted = command(&["publish", "t.a"]).env("SSL_CERT_FILE", "/nowhere").output().unwrap();
    let told = String::from_utf8_lossy(&untrusted.stderr).into_owned();
    assert!(!untrusted.status.success() && told.contains("certificate"), "{told}");
}

#[test]
fn browsers_are_told_to_insist_on_tls_only_where_the_certificate_lasts() {
    let folder = TempDir::new().unwrap();
    let (lasting, trial) = (with_certificate(folder.path()), Broker::with(SELF_SIGNED));
    for flag in ["--http1.1", "--http2"] {
        // On the fast path, by the web side, of an error, and before a stream.
        for more in [
            ["-d", "x", "/v1/topics/t.a/events"],
            ["-X", "GET", "/v1/status"],
            ["-X", "GET", "/nowhere"],
            ["-m", "1", "/v1/topics/t.a/events"],
        ] {
            let head = |broker: &Broker| {
                curl(&[flag, "-i", more[0], more[1], &url(broker, more[2])]).to_ascii_lowercase()
            };
            let told = head(&lasting);
            assert_eq!(told.matches("strict-transport-security: max-age=31536000\r\n").count(), 1, "{told}");
            assert!(!head(&trial).contains("strict-transport-security"));
        }
    }
}

#[test]
fn a_client_that_never_agrees_on_keys_is_let_go() {
    let broker = Broker::with(SELF_SIGNED);
    let mut silent = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    drop(silent.read_to_end(&mut rest));
    assert!(
        begun.elapsed() >= Duration::from_secs(9) && begun.elapsed() < Duration::from_secs(19),
        "{begun:?}"
    );
    // Who speaks in the clear is told nothing and let go at once.
    let told = curl(&["-m", "5", &format!("http://127.0.0.1:{}/v1/status", broker.port())]);
    assert!(!told.contains("version"), "{told}");
}

#[test]
fn http_2_in_the_clear_is_spoken_if_it_is_switched_on() {
    let ask = |broker: &Broker| {
        let status = format!("http://127.0.0.1:{}/v1/status", broker.port());
        curl(&["--http2-prior-knowledge", "-w", " %{http_version}", &status])
    };
    let on = Broker::with(&["--set", "h2c=true"]);
    assert!(ask(&on).ends_with("} 2"), "{}", ask(&on));
    assert_eq!(on.get("/v1/status").status, 200);
    assert!(!ask(&Broker::start()).contains("version"));
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_before_anything_is_opened() {
    let folder = TempDir::new().unwrap();
    let (certificate_file, key) = certificate(folder.path(), "mine");
    let other = TempDir::new().unwrap();
    let (_, other_key) = certificate(other.path(), "other");
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    let chain = set("tls_certificate", &certificate_file);
    for (settings, words) in [
        (vec![chain.clone()], "belong together"),
        (vec![set("tls_key", &key)], "belong together"),
        (vec![chain.clone(), set("tls_key", &folder.path().join("nowhere"))], "nowhere"),
        (vec![chain.clone(), set("tls_key", &certificate_file)], "PEM"),
        (vec![chain.clone(), set("tls_key", &other_key)], "cannot be used together"),
    ] {
        let data = folder.path().join("data");
        let mut command = crate::harness::broker::command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{settings:?}: {told}");
        assert!(!data.exists(), "{settings:?}");
    }
}

/// A browser opens six connections to a broker over HTTP/1.1, and as many streams over one of HTTP/2 as it likes.
#[test]
fn a_page_holds_twenty_streams_over_http_2_and_all_resume_after_a_crash() {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--tls-self-signed", "--set", "retry=300ms"]);
    let mut page = Outside::start("node", "many_streams.mjs", &[&url(&broker, ""), "20"]);
    let all_open = |lines: &[Value]| lines.last().is_some_and(|line| line["open"] == 20);
    page.wait_for("twenty streams are open", LIMIT, all_open);
    let mut published = 0;
    for round in 0..3 {
        for _ in 0..20 {
            curl(&["-d", &format!("event {published}"), &url(&broker, "/v1/topics/t.a/events")]);
            published += 1;
        }
        page.wait_for("all streams have all events", LIMIT, |lines: &[Value]| {
            let ids = lines.last().and_then(|line| line["ids"].as_array());
            ids.is_some_and(|ids| ids.iter().all(|ids| ids.as_array().unwrap().len() >= published))
        });
        if round < 2 {
            broker.kill();
            curl(&["-m", "1", &url(&broker, "/healthz")]);
            broker.restart();
        }
    }
    page.finish();
    let last = page.lines().pop().unwrap();
    println!("the page at the end: {last}");
    let page_of_log: Value = serde_json::from_str(&curl(&[
        "-H",
        "Accept: application/json",
        &url(&broker, "/v1/topics/t.a/events?from=earliest&limit=1000"),
    ]))
    .unwrap();
    let log: Vec<&Value> =
        page_of_log["events"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!(log.len(), published);
    for ids in last["ids"].as_array().unwrap() {
        assert_eq!(ids.as_array().unwrap().iter().collect::<Vec<_>>(), log);
    }
    assert_eq!(last["protocols"], serde_json::json!(["h2"]));
}
