//! Requests to the broker, and what its refusals say.
//!
//! The client is reqwest: it is kept up, speaks TLS for brokers behind a proxy, and gives a body chunk by chunk, as an
//! endless stream needs it. Loopback is never sent through a proxy that the environment happens to name.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::WrongUsage;
use crate::cli::ServerArgs;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may stay silent. A stream has a heartbeat every 15 seconds; four missed ones are a dead peer.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// A broker, by its address.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    base: Url,
    client: Client,
}

impl Server {
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let wrong = |why: &str| {
            WrongUsage(format!(
                "--url {:?} is no address of a broker ({why}); write it as in http://127.0.0.1:8080",
                args.url
            ))
        };
        let base = Url::parse(&args.url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong("only http:// and https:// are spoken").into());
        }
        // An error says that it is set already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(SILENCE_TIMEOUT);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if let Some(token) = args.token.as_ref().filter(|token| !token.reveal().is_empty()) {
            let header = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut header = header
                .map_err(|_| WrongUsage("--token: this is no token; perennial token makes one".to_owned()))?;
            header.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)]));
        }
        Ok(Server { base, client: builder.build().context("the HTTP client cannot be made")? })
    }

    /// The address of a resource; each segment is escaped, so that a topic may hold a slash.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Reads one resource whole.
    pub(crate) async fn get(&self, url: Url) -> anyhow::Result<String> {
        self.answer(self.client.get(url)).await
    }

    /// Sends a request and reads its answer whole.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> anyhow::Result<String> {
        let response = self.open(request).await?;
        response.text().await.with_context(|| format!("the answer of {} broke off", self.base))
    }

    /// Sends a request, and gives its answer to be read, if it is not a refusal.
    pub(crate) async fn open(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        Ok(accepted(response).await?)
    }

    /// What to say when a request got no answer.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        anyhow!("{} gives no answer: {}", self.base, innermost(error))
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The cause that a person can do something about lies below the client's own layers.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() { "it stayed silent for too long".to_owned() } else { cause.to_string() }
}

/// What a refusal says (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    line: Option<u64>,
}

/// A request that the broker refused.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Which line of a batch, from 1.
    pub(crate) line: Option<u64>,
}

/// Answers the response if it is a success, else why not.
pub(crate) async fn accepted(response: Response) -> Result<Response, Refused> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let problem: Option<Problem> = serde_json::from_str(&body).ok();
    let line = problem.as_ref().and_then(|problem| problem.line);
    let detail = problem
        .and_then(|problem| problem.detail.or(problem.title))
        .unwrap_or_else(|| format!("the broker answered {status}"));
    Err(Refused { status, detail, line })
}

/// Runs a client command's future.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> anyhow::Result<Server> {
        Server::new(&ServerArgs { url: url.to_owned(), token: None })
    }

    #[test]
    fn topics_are_escaped_in_addresses() {
        let url = server("http://127.0.0.1:1/base/").unwrap().url(&["v1", "topics", "a/b?é%", "events"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/base/v1/topics/a%2Fb%3F%C3%A9%25/events");
        assert_eq!(server("http://localhost:1").unwrap().url(&["v1"]).path(), "/v1");
    }

    #[test]
    fn what_is_no_address_is_wrong_usage() {
        for url in ["", "127.0.0.1:8080", "ftp://127.0.0.1", "http://"] {
            let error = server(url).unwrap_err();
            assert!(
                error.is::<WrongUsage>() && error.to_string().contains("as in http://"),
                "{url}: {error}"
            );
        }
    }
}
