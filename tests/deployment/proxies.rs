//! Proxies that run with the files of `deploy/`, in folders of their own.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LIMIT, curl, free_port, replaced, succeed};
use crate::harness::{Broker, heavy};

/// A program that runs until this is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    pub(super) fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
        let said = Arc::default();
        collect(child.stdout.take().unwrap(), Arc::clone(&said));
        collect(child.stderr.take().unwrap(), Arc::clone(&said));
        Process { name: program.to_owned(), child, said }
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Waits until it has said something.
    pub(super) fn until(&mut self, text: &str) {
        heavy::eventually(&format!("{} says {text:?}", self.name), LIMIT, || self.said().contains(text));
    }
}

fn collect(mut from: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            to.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM, so that a master takes its workers with it.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap_or_default();
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- what {} said:\n{}---", self.name, self.said());
        }
    }
}

/// A proxy in front of a broker.
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) url: String,
    /// The version of HTTP that curl and it agree on.
    pub(super) http: &'static str,
    _process: Process,
    _place: TempDir,
}

impl Proxy {
    fn start(place: TempDir, url: String, http: &'static str, process: Process) -> Self {
        let proxy = Proxy { url, http, _process: process, _place: place };
        heavy::eventually("the proxy answers", LIMIT, || {
            curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("{}/healthz", proxy.url)]) == "200"
        });
        proxy
    }
}

/// A folder with a certificate for this machine and its key, also in one file.
fn certificate() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    succeed(
        Command::new("openssl")
            .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext".split(' '))
            .args([names, "-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(place.path()),
    );
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    std::fs::write(place.path().join("both.pem"), read("certificate.pem") + &read("key.pem")).unwrap();
    place
}

pub(super) fn nginx(broker: &Broker) -> Proxy {
    let place = certificate();
    let (plain, secure) = (free_port(), free_port());
    let path = |name: &str| place.path().join(name).display().to_string();
    // Where it would write as the system's nginx does.
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = folders.iter().map(|kind| format!("{kind}_temp_path {};\n", path(kind))).collect();
    let words = [
        ("server broker:8080;", format!("server 127.0.0.1:{};", broker.port())),
        ("listen 80;", format!("listen 127.0.0.1:{plain};")),
        ("listen 443 ssl", format!("listen 127.0.0.1:{secure} ssl")),
        ("/etc/nginx/secrets/tls", place.path().display().to_string()),
        ("access_log /dev/stdout", format!("access_log {}", path("access.log"))),
        ("server_tokens off;", format!("server_tokens off;\n{folders}")),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let config = path("nginx.conf");
    std::fs::write(&config, replaced("nginx.conf", &words)).unwrap();
    // The workers of a master that is root would be somebody else, who cannot look into the folder.
    let globals = format!("daemon off; user root root; pid {};", path("pid"));
    let process =
        Process::start("nginx", &["-p", &path(""), "-e", "stderr", "-c", &config, "-g", &globals], &[]);
    Proxy::start(place, format!("https://localhost:{secure}"), "2", process)
}

pub(super) fn haproxy(broker: &Broker) -> Proxy {
    let place = certificate();
    let (plain, secure) = (free_port(), free_port());
    let path = |name: &str| place.path().join(name).display().to_string();
    let words = [
        ("server broker broker:8080", format!("server broker 127.0.0.1:{}", broker.port())),
        ("bind :80\n", format!("bind 127.0.0.1:{plain}\n")),
        ("bind :443 ", format!("bind 127.0.0.1:{secure} ")),
        ("/etc/haproxy/perennial.pem", path("both.pem")),
        // As many as the system allows without asking.
        ("maxconn 200000", "maxconn 200".to_owned()),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let config = path("haproxy.cfg");
    std::fs::write(&config, replaced("haproxy.cfg", &words)).unwrap();
    let process = Process::start("haproxy", &["-db", "-f", &config], &[]);
    Proxy::start(place, format!("https://localhost:{secure}"), "2", process)
}

/// Without TLS: certificates are Caddy's own affair, and it would want to put its authority into the system.
pub(super) fn caddy(broker: &Broker) -> Proxy {
    let place = tempfile::tempdir().unwrap();
    let url = format!("http://localhost:{}", free_port());
    let config = place.path().join("Caddyfile");
    // By default each Caddy of a machine would be administered at the same address.
    let text = "{\n\tadmin off\n}\n".to_owned() + &replaced("caddy/Caddyfile", &[]);
    std::fs::write(&config, text).unwrap();
    let home = place.path().display().to_string();
    let arguments = ["run", "--adapter", "caddyfile", "--config", &config.display().to_string()];
    let environment = [
        ("PERENNIAL_SITE", url.as_str()),
        ("PERENNIAL_BROKER", &format!("127.0.0.1:{}", broker.port())),
        ("HOME", &home),
        ("XDG_DATA_HOME", &home),
        ("XDG_CONFIG_HOME", &home),
    ];
    let process = Process::start("caddy", &arguments, &environment);
    Proxy::start(place, url, "1.1", process)
}
