//! What an operator decides about the web side; every field has a default.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event_log::AppendError;
use event_log::limits::STATS_INTERVAL_MILLIS_DEFAULT;

use crate::caller::Authentication;
use crate::export::Archives;
use crate::forwarded::TrustedProxies;
use crate::limits::Limits;
use crate::tls::Tls;

/// Whether the log would take an append now; asked by `/readyz`.
pub type Writable = Arc<dyn Fn() -> Result<(), AppendError> + Send + Sync>;

/// How the broker is served.
#[derive(Clone)]
pub struct Options {
    /// What `/v1/status` calls the version.
    pub version: String,
    /// A stream that is silent for so long gets a comment line.
    pub heartbeat: Duration,
    /// How long a browser waits before it comes back.
    pub retry: Duration,
    /// How often statistics are told to who follows them; zero is never.
    pub stats_interval: Duration,
    /// What clients may take.
    pub limits: Limits,
    /// Origins of web pages that may speak to the broker, beside those on this machine.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word is taken for who is behind them.
    pub trusted_proxies: TrustedProxies,
    /// How callers are known; without it everybody on this machine may do everything.
    pub authentication: Option<Authentication>,
    /// Threads that serve connections.
    pub workers: usize,
    /// With it everything is said over TLS; without it, in the clear.
    pub tls: Option<Tls>,
    /// HTTP/2 in the clear, from clients that know beforehand that they may (RFC 9113, 3.3): proxies, mostly.
    pub h2c: bool,
    /// Pages that are served beside the API.
    pub pages: Vec<StaticPage>,
    /// Whether the log would take an append now.
    pub writable: Writable,
    /// What `/v1/export` hands out, if the engine has it.
    pub archives: Option<Archives>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            stats_interval: Duration::from_millis(STATS_INTERVAL_MILLIS_DEFAULT),
            limits: Limits::default(),
            allowed_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            authentication: None,
            tls: None,
            h2c: false,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            pages: Vec::new(),
            writable: Arc::new(|| Ok(())),
            archives: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("version", &self.version)
            .field("heartbeat", &self.heartbeat)
            .field("retry", &self.retry)
            .field("stats_interval", &self.stats_interval)
            .field("limits", &self.limits)
            .field("allowed_origins", &self.allowed_origins)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("authentication", &self.authentication)
            .field("workers", &self.workers)
            .field("tls", &self.tls.is_some())
            .field("h2c", &self.h2c)
            .finish_non_exhaustive()
    }
}

/// A page that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct StaticPage {
    /// Where it is served, `/` for the first one.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static [u8],
}
