//! Requests and answers over plain sockets, so that a connection can be slow, and can be cut at any byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, sockopt};

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name, which is written in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The bytes of a request. `headers` are whole lines without their ends.
pub(crate) fn request(method: &str, path: &str, port: u16, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if method != "GET" {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A connection, and what has been read of it but not yet used.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    unread: Vec<u8>,
    body: Body,
}

/// What is still to come of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Body {
    /// All until the connection ends.
    Everything,
    /// So many bytes.
    Length(usize),
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line end after a chunk, then the next chunk's line.
    ChunkLine,
    Nothing,
}

impl Connection {
    /// Opens one. With `receive_bytes` the kernel keeps about so much for a reader that is slow.
    pub(crate) fn open(port: u16, receive_bytes: Option<usize>) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = match receive_bytes {
            None => TcpStream::connect(address)?,
            Some(bytes) => {
                // It must be set before the connection is made, because it decides about the window.
                let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
                sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
                rustix::net::connect(&socket, &address)?;
                TcpStream::from(socket)
            }
        };
        socket.set_nodelay(true)?;
        Ok(Connection { socket, unread: Vec::new(), body: Body::Nothing })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(patience))?;
        self.socket.write_all(bytes)
    }

    /// Reads the head of an answer.
    pub(crate) fn head(&mut self, deadline: Instant) -> io::Result<Head> {
        loop {
            if let Some((head, length)) = parse_head(&self.unread)? {
                self.unread.drain(..length);
                self.body = body_of(&head)?;
                return Ok(head);
            }
            if self.fill(deadline)? == 0 {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection ended before an answer",
                ));
            }
        }
    }

    /// The next piece of the body; none when it is at its proper end. A connection that ends inside it is an error.
    pub(crate) fn piece(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.body {
                Body::Nothing | Body::Length(0) => return Ok(None),
                Body::ChunkLine => {
                    if let Some((size, length)) = parse_chunk_line(&self.unread)? {
                        self.unread.drain(..length);
                        self.body = if size == 0 { Body::Nothing } else { Body::Chunk(size) };
                        continue;
                    }
                }
                Body::Everything | Body::Length(_) | Body::Chunk(_) if self.unread.is_empty() => {}
                Body::Everything => return Ok(Some(std::mem::take(&mut self.unread))),
                Body::Length(size) => {
                    let piece = self.take(size);
                    self.body = Body::Length(size - piece.len());
                    return Ok(Some(piece));
                }
                Body::Chunk(size) => {
                    let piece = self.take(size);
                    let left = size - piece.len();
                    self.body = if left == 0 { Body::ChunkLine } else { Body::Chunk(left) };
                    return Ok(Some(piece));
                }
            }
            if self.fill(deadline)? == 0 {
                if self.body == Body::Everything {
                    return Ok(None);
                }
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection ended inside the answer",
                ));
            }
        }
    }

    /// The rest of the body as text.
    pub(crate) fn rest(&mut self, deadline: Instant) -> io::Result<String> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(deadline)? {
            body.extend(piece);
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        if self.unread.len() <= bytes_max {
            return std::mem::take(&mut self.unread);
        }
        let rest = self.unread.split_off(bytes_max);
        std::mem::replace(&mut self.unread, rest)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut piece = [0; 16 * 1024];
        let bytes = self.socket.read(&mut piece).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        self.unread.extend_from_slice(&piece[..bytes]);
        Ok(bytes)
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = response.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
    Ok(Some((Head { status: response.code.unwrap_or_default(), headers }, length)))
}

fn body_of(head: &Head) -> io::Result<Body> {
    if matches!(head.status, 204 | 304) {
        return Ok(Body::Nothing);
    }
    if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(Body::ChunkLine);
    }
    match head.header("content-length") {
        Some(length) => Ok(Body::Length(length.trim().parse().map_err(io::Error::other)?)),
        None => Ok(Body::Everything),
    }
}

/// The size in a chunk's line, and the length of the line with the line end of the chunk before it.
fn parse_chunk_line(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(end) = bytes[skipped..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&bytes[skipped..skipped + end]);
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
    // The last chunk is followed by an empty line.
    let after = skipped + end + 2;
    if size == 0 && bytes.len() < after + 2 {
        return Ok(None);
    }
    Ok(Some((size, if size == 0 { after + 2 } else { after })))
}
