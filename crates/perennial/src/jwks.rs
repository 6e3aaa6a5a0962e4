//! Keys from an address: fetched now and then, and when a token comes that none of them can have signed, as after a change of
//! keys; but never more often than a floor allows, since everybody can send such a token. While the address fails, the
//! keys that were fetched last stay good.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use auth::{Key, Verifier};
use broker_http::Authentication;
use event_log::limits::KEYS_BYTES_MAX;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::http::{innermost, is_loopback};

/// How long an answer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Where keys are, and how often they are fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) url: Url,
    pub(crate) every: Duration,
    pub(crate) floor: Duration,
}

/// Reads an address of keys. Whoever can change what it answers can make tokens, so on the way nobody may.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is no address ({error})"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("keys are fetched by https://, or from this machine by http://".to_owned()),
    }
}

/// Fetches keys.
pub(crate) struct Fetcher<'a> {
    source: &'a Source,
    client: Client,
    verifier: Arc<Verifier>,
    begun: Instant,
}

impl<'a> Fetcher<'a> {
    /// Starts one if there is an address of keys.
    pub(crate) async fn start_if_any(
        source: Option<&'a Source>,
        authentication: Option<&Authentication>,
    ) -> anyhow::Result<Option<Self>> {
        match (source, authentication) {
            (Some(source), Some(asked)) => Ok(Some(Self::start(source, Arc::clone(&asked.verifier)).await?)),
            _ => Ok(None),
        }
    }

    /// Fetches keys for the first time: who comes back after a restart is not to be refused because they are not there yet.
    /// When that fails, it goes on without them.
    async fn start(source: &'a Source, verifier: Arc<Verifier>) -> anyhow::Result<Self> {
        // An error says that it is set already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Whoever was trusted with this address was not trusted to name another.
        let mut builder = Client::builder().timeout(FETCH_TIMEOUT).redirect(Policy::none());
        if is_loopback(&source.url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().context("the HTTP client cannot be made")?;
        verifier.await_keys();
        let fetcher = Fetcher { source, client, verifier, begun: Instant::now() };
        fetcher.fetch().await;
        Ok(fetcher)
    }

    /// Fetches keys for ever.
    pub(crate) async fn keep(mut self) {
        let Source { every, floor, .. } = *self.source;
        loop {
            // What asked for other keys until here has got them, or will ask again.
            sleep_until(self.begun + floor).await;
            let _ = timeout_at(self.begun + every.max(floor), self.verifier.wants_keys()).await;
            self.begun = Instant::now();
            self.fetch().await;
        }
    }

    async fn fetch(&self) {
        match self.answer().await {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "keys were fetched");
                self.verifier.replace_fetched(keys);
            }
            Err(error) => {
                let host = self.source.url.host_str().unwrap_or_default();
                tracing::warn!(
                    host,
                    error = format!("{error:#}"),
                    "keys cannot be fetched; the last ones stay"
                );
            }
        }
    }

    async fn answer(&self) -> anyhow::Result<Vec<Key>> {
        let failed = |error: reqwest::Error| anyhow::anyhow!("{}", innermost(&error));
        let mut response = self.client.get(self.source.url.clone()).send().await.map_err(failed)?;
        if !response.status().is_success() {
            bail!("the address answers {}", response.status());
        }
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            text.extend_from_slice(&piece);
            ensure!(text.len() <= KEYS_BYTES_MAX, "the answer has more than {KEYS_BYTES_MAX} bytes");
        }
        Ok(Key::from_jwks(&text)?)
    }
}
