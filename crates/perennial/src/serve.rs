//! The daemon, on one page: configuration, log, broker, HTTP; wait; stop.
//!
//! It stops by one token: the server ends its streams and drains, the demo stops, then the log is closed. A second signal
//! ends the process at once, and so does a deadline, whatever hangs: what was acknowledged is durable already.

use std::future::{Future, pending};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use broker::Broker;
use broker_http::{Authentication, Options, StaticPage};
use event_log::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::ServeArgs;
use crate::config::{self, Config};
use crate::engine::{self, Engine};
use crate::jwks::Fetcher;
use crate::tls::{self, Certificate};
use crate::{demo, open_files, telemetry};

/// From the first signal to the end of the process, at most, beside the time over which streams are ended: with the default
/// of that within ten seconds.
const STOP_DEADLINE: Duration = Duration::from_millis(7_500);
/// Connections that wait to be accepted. After a restart all readers come back at once.
const BACKLOG: i32 = 4_096;
/// How long to wait for a port that somebody has.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(args, config::environment()?.into_iter())?;
    telemetry::start(&config)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if let Err(error) = open_files::raise_limit() {
        tracing::warn!(%error, "the limit of open files cannot be raised; connections may be refused");
    }
    let authentication = config.authentication.load()?;
    let listener = bind(&config.listen, authentication.is_some())?;
    let certificate = tls::load(&config, args.tls_self_signed, listener.local_addr()?)?;
    let engine = engine::open(&config, args.restored)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(serve(args.demo, &config, authentication, listener, certificate, engine))
}

async fn serve(
    with_demo: bool,
    config: &Config,
    authentication: Option<Authentication>,
    listener: TcpListener,
    certificate: Option<Certificate>,
    engine: Engine,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let Engine { log, writable, archives, failed } = engine;
    let retention = broker::Options {
        retention_interval: config.retention_interval,
        tombstone_retention: config.tombstone_retention,
    };
    let broker =
        Broker::start(log, Arc::new(SystemClock), retention).context("the broker cannot be started")?;
    let shutdown = CancellationToken::new();
    let address = listener.local_addr()?;
    let mut options = options(config, with_demo);
    let fetcher = Fetcher::start_if_any(config.authentication.source(), authentication.as_ref()).await?;
    options.authentication = authentication;
    options.writable = writable;
    options.tls = certificate.as_ref().map(|certificate| certificate.tls.clone());
    let scheme = if certificate.is_some() { "https" } else { "http" };
    options.archives = Some(archives);

    let server = broker_http::serve(listener, broker.clone(), options, shutdown.clone());
    let player = async {
        if with_demo {
            let played = demo::play(&broker, config.demo_rate);
            shutdown.run_until_cancelled(played).await;
        }
    };
    let keys = async {
        if let Some(fetcher) = fetcher {
            shutdown.run_until_cancelled(fetcher.keep()).await;
        }
    };
    announce(scheme, address, with_demo);
    let mut work = pin!(async { tokio::join!(server, player, keys).0 });
    let followed = async {
        match certificate {
            Some(certificate) => certificate.follow().await,
            None => pending().await,
        }
    };

    let outcome = tokio::select! {
        ended = &mut work => match ended {
            Ok(()) => Err(anyhow!("the server ended by itself")),
            Err(error) => Err(error).context("the server failed"),
        },
        Err(error) = followed => Err(error),
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal ends at once");
            Ok(())
        }
        reason = failed => {
            tracing::error!(reason, "the log failed; stopping");
            Err(anyhow!("the log failed: {reason}"))
        }
    };
    enforce_deadline(STOP_DEADLINE + config.limits.drain, i32::from(outcome.is_err()));
    shutdown.cancel();
    stop(&mut signals, work, &broker).await;
    outcome
}

/// Drains the server and closes the log.
async fn stop(signals: &mut Signals, server: impl Future<Output = io::Result<()>>, broker: &Broker) {
    let drained = async {
        if let Err(error) = server.await {
            tracing::warn!(%error, "the server did not end cleanly");
        }
        broker.stop().await;
        tracing::info!("stopped");
    };
    tokio::select! {
        () = drained => {}
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
            process::exit(1);
        }
    }
}

/// Ends the process when stopping takes too long. What is not answered yet was promised to nobody.
fn enforce_deadline(deadline: Duration, code: i32) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        tracing::warn!("stopping took too long; ending now");
        process::exit(code);
    });
}

fn options(config: &Config, with_demo: bool) -> Options {
    let default = Options::default();
    Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat: config.heartbeat,
        retry: config.retry,
        stats_interval: config.stats_interval,
        trusted_proxies: config.trusted_proxies.clone(),
        limits: config.limits.clone(),
        allowed_origins: config.allowed_origins.clone(),
        h2c: config.h2c,
        workers: if config.workers == 0 { default.workers } else { config.workers },
        pages: pages(with_demo),
        ..default
    }
}

fn pages(with_demo: bool) -> Vec<StaticPage> {
    let mut pages = broker_console::pages();
    if with_demo {
        pages.extend(demo::PAGES);
    }
    pages
}

/// Listens at the first address that can be had. The standard library sets `SO_REUSEADDR`, so that a port can be bound
/// again at once.
fn bind(addresses: &[SocketAddr], is_authenticated: bool) -> anyhow::Result<TcpListener> {
    let is_open = |address: &&SocketAddr| !is_authenticated && !address.ip().to_canonical().is_loopback();
    if let Some(address) = addresses.iter().find(is_open) {
        bail!(
            "{address} is not a loopback address, and without authentication anybody who reaches it could read and \
             publish. Make a key, and give the broker its public part: perennial keys generate perennial.key > \
             perennial.pub, then perennial serve --set auth_keys=perennial.pub; clients need tokens then (perennial token \
             --key perennial.key). Or listen on 127.0.0.1:{port} or [::1]:{port}, with a reverse proxy that authenticates \
             others on this machine (it must send Host: 127.0.0.1), or a tunnel: ssh -L {port}:127.0.0.1:{port} <this \
             machine>",
            port = address.port()
        );
    }
    let listener = bind_patiently(addresses).with_context(|| {
        let shown: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        format!("cannot listen on {}", shown.join(" or "))
    })?;
    rustix::net::listen(&listener, BACKLOG).context("cannot listen")?;
    Ok(listener)
}

/// A process that was killed keeps its port until the kernel has taken it apart, which a busy disk can delay.
fn bind_patiently(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(addresses) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// Tells on standard output that the broker is ready, for people and for programs that wait for it. It serves on when
/// nobody listens.
fn announce(scheme: &str, address: SocketAddr, with_demo: bool) {
    let mut out = io::stdout().lock();
    let demo =
        if with_demo { format!("open {scheme}://{address}/ to watch the demo\n") } else { String::new() };
    let told = write!(out, "perennial listening on {scheme}://{address}\n{demo}").and_then(|()| out.flush());
    if let Err(error) = told {
        tracing::warn!(%error, "standard output cannot be written");
    }
    tracing::info!(%address, "listening");
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
