//! HTTP/1.1 over a plain socket: what is sent is exactly what a test wrote, and what comes back is checked as strictly
//! as the standard allows, since a lenient client hides a broker's mistakes.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// A request. `Host` and, with a body, `Content-Length` are added unless they were given.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request for a path with its query, already escaped.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Request { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None }
    }

    /// GET as JSON.
    pub(crate) fn page(target: &str) -> Self {
        Self::new("GET", target).header("Accept", "application/json")
    }

    /// Adds a header, whose value may be any bytes.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self, port: u16) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.has("host") {
            bytes.extend(format!("Host: 127.0.0.1:{port}\r\n").bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = self.body.as_ref().filter(|_| !self.has("content-length")) {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub(crate) fn send(&self, port: u16) -> Response {
        Connection::open(port).exchange(self)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

/// A status line and its headers.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value; it may not stand there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "the header {name} stands there twice: {:?}", self.headers);
        value
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("a head of text");
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("the status line is {status_line:?}"));
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("the header line is {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Head { status, headers }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The body as JSON lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert!(self.body.is_empty() || self.body.ends_with(b"\n"), "the last line is not ended: {self}");
        self.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Checks that this is a problem (RFC 9457) with this status, which says what was wrong, and returns it.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let problem = self.json();
        let code = problem["code"].as_str().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        assert!(!code.is_empty() && code.chars().all(is_name), "no stable code: {self}");
        assert!(problem["detail"].as_str().is_some_and(|d| d.len() > 10), "no detail: {self}");
        assert!(problem["status"].is_null() || problem["status"] == status, "another status: {self}");
        problem
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(2_000).collect();
        write!(f, "{} {:?} {shown}", self.status, self.head.headers)
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Ended,
}

/// A socket to the broker. Dropping it cuts the connection, wherever it stands.
pub(crate) struct Connection {
    stream: TcpStream,
    port: u16,
    received: Vec<u8>,
    framing: Framing,
    /// The broker said that it closes after this answer.
    closing: bool,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(port: u16) -> Self {
        Self::try_open(port).expect("a connection")
    }

    /// Connects, if somebody listens.
    pub(crate) fn try_open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, port, received: Vec::new(), framing: Framing::Ended, closing: false })
    }

    /// Sends bytes as they are. What the broker closed meanwhile is not an error here: its answer tells why.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The socket itself, for tests that stall or shut one side down.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and reads the whole answer. The connection is used again, unless the broker said that it would
    /// close it: then the next request goes over a new one.
    pub(crate) fn exchange(&mut self, request: &Request) -> Response {
        if self.closing {
            *self = Self::open(self.port);
        }
        self.send(&request.bytes(self.port));
        self.response(request.method == "HEAD")
    }

    /// Reads a whole answer.
    pub(crate) fn response(&mut self, to_head: bool) -> Response {
        let head = self.head(to_head);
        let mut body = Vec::new();
        while let Some(piece) = self.piece(PATIENCE).expect("the rest of a body") {
            body.extend(piece);
        }
        Response { status: head.status, head, body }
    }

    /// Reads the head of an answer; its body comes with `piece`.
    pub(crate) fn head(&mut self, to_head: bool) -> Head {
        self.try_head(to_head).expect("an answer")
    }

    /// Reads the head of an answer, if there is one.
    pub(crate) fn try_head(&mut self, to_head: bool) -> io::Result<Head> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            self.fill(PATIENCE)?;
        };
        let head = Head::parse(&self.received[..end]);
        self.received.drain(..end + 4);
        if (100..200).contains(&head.status) {
            return self.try_head(to_head);
        }
        let length = head.header("content-length").map(|text| text.parse().expect("a length"));
        let chunked = head.header("transfer-encoding") == Some("chunked");
        assert!(!(chunked && length.is_some()), "both a length and chunks: {head:?}");
        let no_body = to_head || head.status == 204 || head.status == 304;
        self.closing = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.framing = match (no_body, chunked, length) {
            (true, _, _) => Framing::Ended,
            (_, true, _) => Framing::Chunked,
            (_, _, Some(length)) => Framing::Length(length),
            (_, _, None) => Framing::UntilClose,
        };
        Ok(head)
    }

    /// The next bytes of the body, `None` at its proper end. A connection that breaks before it is an error.
    pub(crate) fn piece(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.framing {
                Framing::Ended | Framing::Length(0) => return Ok(None),
                Framing::Length(left) if !self.received.is_empty() => {
                    let taken = left.min(self.received.len());
                    self.framing = Framing::Length(left - taken);
                    return Ok(Some(self.received.drain(..taken).collect()));
                }
                Framing::UntilClose if !self.received.is_empty() => {
                    return Ok(Some(std::mem::take(&mut self.received)));
                }
                Framing::Chunked => {
                    if let Some(chunk) = self.chunk() {
                        return Ok(Some(chunk).filter(|chunk| !chunk.is_empty()));
                    }
                }
                Framing::Length(_) | Framing::UntilClose => {}
            }
            match self.fill(timeout) {
                Err(error)
                    if error.kind() == ErrorKind::UnexpectedEof && self.framing == Framing::UntilClose =>
                {
                    self.framing = Framing::Ended;
                }
                filled => filled?,
            }
        }
    }

    /// A whole chunk, if it is here already; an empty one is the end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = find(&self.received, b"\r\n")?;
        let digits = std::str::from_utf8(&self.received[..line_end]).expect("a chunk size");
        let size =
            usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("the chunk size is {digits:?}"));
        let from = line_end + 2;
        if self.received.len() < from + size + 2 {
            return None;
        }
        assert_eq!(&self.received[from + size..from + size + 2], b"\r\n", "a chunk is not ended");
        let chunk = self.received[from..from + size].to_vec();
        self.received.drain(..from + size + 2);
        if chunk.is_empty() {
            self.framing = Framing::Ended;
        }
        Some(chunk)
    }

    /// Reads what has come, at least one byte; `UnexpectedEof` when the broker closed.
    fn fill(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
