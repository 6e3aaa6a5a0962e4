//! Starting and ending a hub. [`Process`] does it by the adapter's command; the tests of the suite start hubs that live in
//! their own process.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::adapter::Adapter;
use crate::template::fill;

/// What can start a hub, again and again on the same port and data.
pub trait Launch: Sync {
    /// Starts it. It need not be ready yet.
    fn launch(&self, adapter: &Adapter, ports: [u16; 2], data: &Path) -> Result<Box<dyn Running>>;
}

/// A hub that was started.
pub trait Running: Send {
    /// Ends it as a crash would.
    fn kill(&mut self) -> Result<()>;
    /// Asks it to end, and waits.
    fn stop(&mut self) -> Result<()>;
    /// Whether it is still there.
    fn is_alive(&mut self) -> bool;
    /// What it has said, for a message.
    fn log(&self) -> String;
}

/// Starts a hub by the adapter's command, in a process group of its own.
#[derive(Debug)]
pub struct Process;

struct Group {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Launch for Process {
    fn launch(&self, adapter: &Adapter, [port, port2]: [u16; 2], data: &Path) -> Result<Box<dyn Running>> {
        let folder = adapter.folder.to_string_lossy();
        let (data_text, port_text, port2_text) =
            (data.to_string_lossy(), port.to_string(), port2.to_string());
        let values =
            [("port", &*port_text), ("port2", &port2_text), ("data", &data_text), ("adapter", &folder)];
        let words: Vec<String> =
            adapter.hub.start.iter().map(|word| fill(word, &values)).collect::<Result<_>>()?;
        let (program, arguments) = words.split_first().context("hub.start names no program")?;
        let log = data.with_extension("log");
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(data).stdin(Stdio::null()).process_group(0);
        command.stdout(output.try_clone()?).stderr(output);
        for (name, value) in &adapter.hub.env {
            command.env(name, fill(value, &values)?);
        }
        let child = command.spawn().with_context(|| format!("cannot start {words:?}"))?;
        Ok(Box::new(Group { child, port, log }))
    }
}

impl Group {
    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It fails when all of the group have ended, which is what is wanted.
        let _ = group.map(|group| kill_process_group(group, signal));
    }

    /// Waits until the first process has ended and nobody listens any more: others of the group may take longer.
    fn wait(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.is_alive() || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
            if Instant::now() > deadline {
                bail!("the hub did not end within {patience:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Running for Group {
    fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10))
    }

    fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let stopped = self.wait(Duration::from_secs(15));
        // What the first process left behind would keep its port or its data.
        self.signal(Signal::KILL);
        stopped
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(600);
        text.get(start..).unwrap_or(&text).trim().replace('\n', " | ")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Two ports that nobody listens on. They lie below those that the system gives to clients, so that a hub finds its port free
/// when it is started again.
pub(crate) fn free_ports() -> Result<[u16; 2]> {
    let free = || {
        let candidates = std::iter::repeat_with(|| rand::random_range(10_000..32_000)).take(1000);
        let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        free.next().context("no port is free")
    };
    let first = free()?;
    loop {
        let second = free()?;
        if second != first {
            return Ok([first, second]);
        }
    }
}
