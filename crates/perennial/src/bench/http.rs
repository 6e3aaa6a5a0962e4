//! As much of HTTP/1.1 as a client needs that measures: one request in flight on a plain socket.
//!
//! The client of the other commands takes a body through tasks and queues of its own, which is more work than the broker
//! has with it; what is measured then is the client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::Url;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::body::Body;
use crate::WrongUsage;
use crate::secret::Secret;

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Headers of an answer, at most.
const HEADERS_MAX: usize = 64;

/// Where the broker is, found once for all connections.
#[derive(Debug, Clone)]
pub(super) struct Address {
    socket: SocketAddr,
    /// What stands in `Host`.
    host: String,
    token: Option<Secret>,
}

impl Address {
    /// Finds the first address behind a name at which somebody listens.
    pub(super) async fn find(url: &Url, token: Option<&Secret>) -> anyhow::Result<Self> {
        if url.scheme() != "http" {
            return Err(WrongUsage(format!(
                "bench measures plain http only, not {}: it would measure the encryption too, and its own part of it; \
                 aim it at the broker itself instead of at the proxy before it",
                url.scheme()
            ))
            .into());
        }
        let name = url.host_str().context("the address has no host")?;
        let port = url.port_or_known_default().context("the address has no port")?;
        let unreachable = || format!("{url} gives no answer");
        let mut outcome = Err(anyhow!("the name {name} has no address"));
        for socket in lookup_host((name.trim_matches(['[', ']']), port)).await.with_context(unreachable)? {
            match TcpStream::connect(socket).await {
                Ok(_) => {
                    let (host, token) = (format!("{name}:{port}"), token.cloned());
                    return Ok(Address { socket, host, token });
                }
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome.with_context(unreachable)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpStream::connect(self.socket).await.context("a connection cannot be opened")?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// The first lines of a request; more headers and an empty line follow.
    pub(super) fn request(&self, method: &str, url: &Url) -> String {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let authorization =
            self.token.as_ref().map(|token| format!("Authorization: Bearer {}\r\n", token.reveal()));
        format!(
            "{method} {}{query} HTTP/1.1\r\nHost: {}\r\n{}",
            url.path(),
            self.host,
            authorization.unwrap_or_default()
        )
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) is_event_stream: bool,
    pub(super) body: Body,
}

impl Head {
    /// Reads a head, and how many bytes it has; `None` if they have not all come yet.
    pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).context("the answer is not HTTP/1.1")?;
        let httparse::Status::Complete(length) = parsed else {
            ensure!(bytes.len() < HEAD_BYTES_MAX, "the head of the answer has no end");
            return Ok(None);
        };
        let value = |name: &str| {
            let mut found = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            found.next().map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
        };
        let body = match (value("transfer-encoding").as_deref(), value("content-length")) {
            (Some("chunked"), _) => Body::chunked(),
            (Some(other), _) => bail!("the answer has the unknown transfer encoding {other}"),
            (None, Some(length)) => Body::sized(length.parse().context("the answer has no length")?),
            (None, None) => Body::sized(u64::MAX),
        };
        let is_event_stream = value("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        Ok(Some((Head { status: response.code.unwrap_or_default(), is_event_stream, body }, length)))
    }

    /// Reads from a socket until the head has come; what came behind it stays in the buffer.
    pub(super) async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Self> {
        loop {
            if let Some((head, length)) = Self::parse(buffer)? {
                buffer.drain(..length);
                return Ok(head);
            }
            receive(socket, buffer).await?;
        }
    }
}

/// Reads what has come, at least a byte.
async fn receive(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.reserve(16 << 10);
    match socket.read_buf(buffer).await.context("the connection broke")? {
        0 => bail!("the connection was closed before the answer was whole"),
        _ => Ok(()),
    }
}

/// A connection for requests whose answers end.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    socket: TcpStream,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: Address) -> anyhow::Result<Self> {
        let socket = address.connect().await?;
        Ok(Connection { address, socket, buffer: Vec::new(), body: Vec::new() })
    }

    /// Makes sure that it is open: a connection that lay idle may have been closed meanwhile.
    pub(super) async fn refresh(&mut self) -> anyhow::Result<()> {
        if matches!(self.socket.try_read(&mut [0]), Ok(0)) {
            self.socket = self.address.connect().await?;
        }
        Ok(())
    }

    /// Sends a request and reads its answer whole.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        let answered = timeout(ANSWER_TIMEOUT, self.exchange_patiently(request)).await;
        let status = answered.with_context(|| format!("no answer came within {ANSWER_TIMEOUT:?}"))??;
        Ok((status, &self.body))
    }

    async fn exchange_patiently(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.socket.write_all(request).await.context("the connection broke")?;
        self.buffer.clear();
        self.body.clear();
        let mut head = Head::read(&mut self.socket, &mut self.buffer).await?;
        loop {
            head.body.feed(&self.buffer, &mut |piece| self.body.extend_from_slice(piece))?;
            if head.body.is_over() {
                return Ok(head.status);
            }
            self.buffer.clear();
            receive(&mut self.socket, &mut self.buffer).await?;
        }
    }
}

/// What a refusal says (RFC 9457), or the beginning of whatever it is.
pub(super) fn detail(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!("{} ({status})", problem.detail),
        Err(_) => format!(
            "status {status} {}",
            String::from_utf8_lossy(body).chars().take(200).collect::<String>().trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_broker() {
        assert_eq!(detail(413, br#"{"code":"x","detail":"too large"}"#), "too large (413)");
        assert_eq!(detail(502, b"Bad Gateway\n"), "status 502 Bad Gateway");
    }
}
