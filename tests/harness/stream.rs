//! A fast reader of event streams, for tests that read millions of events.
//!
//! It reads blocks without an allocation for each, and knows only what these tests need: HTTP/1.1 with or without
//! chunks, and the fields `event`, `data`, `id` and `retry`. It judges nothing; the strict reader is in `sse.rs`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Longest silence that a test waits through. Heartbeats come more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Longest that one stream is read, heartbeats or not, so that a test whose event never comes ends.
const STREAM_MAX: Duration = Duration::from_secs(200);

/// One open event stream.
pub(crate) struct Stream {
    body: BodyReader,
    deadline: Instant,
    line: Vec<u8>,
    /// The block that was read last.
    pub(crate) block: Block,
}

/// The fields of one block. Several lines of data are joined with LF.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) event: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) id: Vec<u8>,
    data_lines: usize,
}

impl Stream {
    /// Sends the request and reads the head of the response, which must be 200.
    pub(crate) fn open(port: u16, target: &str, last_event_id: Option<&str>) -> io::Result<Self> {
        let mut socket = connect(port)?;
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(
            socket,
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{resume}\r\n"
        )?;
        let mut input = BufReader::with_capacity(256 * 1_024, socket);
        let (status, chunked, _) = read_head(&mut input)?;
        if status != 200 {
            return Err(io::Error::other(format!("status {status} for an event stream")));
        }
        let left = if chunked { Left::Chunk(0) } else { Left::Everything };
        let deadline = Instant::now() + STREAM_MAX;
        Ok(Self { body: BodyReader { input, left }, deadline, line: Vec::new(), block: Block::default() })
    }

    /// Reads the next block that has a field into `block`. False at the end of the stream; a block that the end cuts
    /// short does not count.
    pub(crate) fn next(&mut self) -> io::Result<bool> {
        self.block.clear();
        let mut fields = 0;
        loop {
            self.line.clear();
            self.body.read_until(b'\n', &mut self.line)?;
            if self.line.pop() != Some(b'\n') {
                return Ok(false);
            }
            match self.line.as_slice() {
                [] if fields > 0 => return Ok(true),
                [] | [b':', ..] => self.check_deadline()?,
                line => {
                    fields += 1;
                    self.block.take_field(line);
                }
            }
        }
    }
}

impl Stream {
    fn check_deadline(&self) -> io::Result<()> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("the stream went on for {STREAM_MAX:?}")))
    }
}

impl Block {
    /// Whether this is one of the broker's own events.
    pub(crate) fn is_broker(&self) -> bool {
        self.event.first() == Some(&b'$')
    }

    pub(crate) fn id_text(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap()
    }

    fn clear(&mut self) {
        self.event.clear();
        self.data.clear();
        self.id.clear();
        self.data_lines = 0;
    }

    fn take_field(&mut self, line: &[u8]) {
        let colon = line.iter().take(8).position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.event.extend_from_slice(value),
            b"id" => self.id.extend_from_slice(value),
            b"data" => {
                if self.data_lines > 0 {
                    self.data.push(b'\n');
                }
                self.data_lines += 1;
                self.data.extend_from_slice(value);
            }
            b"retry" => {}
            _ => panic!("unknown field in an event stream: {}", String::from_utf8_lossy(line)),
        }
    }
}

/// The sequence in an event id `<sequence>-<epoch>`.
pub(crate) fn sequence(id: &[u8]) -> u64 {
    let text = std::str::from_utf8(id).unwrap();
    text.split('-').next().unwrap().parse().unwrap_or_else(|_| panic!("not an event id: {text:?}"))
}

/// A connection that is kept open over many requests.
pub(crate) struct Publisher {
    input: BufReader<TcpStream>,
    port: u16,
}

impl Publisher {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        Ok(Self { port, input: BufReader::new(connect(port)?) })
    }

    /// Posts a body and answers the status and the body of the response. `headers` are whole lines with CRLF.
    pub(crate) fn post(&mut self, target: &str, headers: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.port,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.input.get_mut().write_all(&request)?;
        self.answer()
    }

    /// Posts a batch of lines of JSON.
    pub(crate) fn post_batch(&mut self, lines: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.post("/v1/events", "Content-Type: application/x-ndjson\r\n", lines)
    }

    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (status, chunked, length) = read_head(&mut self.input)?;
        let mut body = Vec::new();
        if chunked {
            BodyRef { input: &mut self.input, left: Left::Chunk(0) }.read_to_end(&mut body)?;
        } else {
            body.resize(length, 0);
            self.input.read_exact(&mut body)?;
        }
        Ok((status, body))
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(socket)
}

/// The status, whether the body comes in chunks, and its length.
fn read_head(input: &mut impl BufRead) -> io::Result<(u16, bool, usize)> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| ended("the connection ended before the head of the response"))?;
    let (mut chunked, mut length) = (false, 0);
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let lower = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            return Err(ended("the connection ended inside the head of the response"));
        } else if lower.is_empty() {
            return Ok((status, chunked, length));
        } else if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        } else if let Some(value) = lower.strip_prefix("transfer-encoding:") {
            chunked = value.trim() == "chunked";
        }
    }
}

fn ended(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// What is still to come of a body.
enum Left {
    /// Everything until the connection ends.
    Everything,
    /// So many bytes of the present chunk.
    Chunk(usize),
    Nothing,
}

type BodyReader = Body<BufReader<TcpStream>>;
type BodyRef<'a> = Body<&'a mut BufReader<TcpStream>>;

/// The body of a response without the marks of its chunks.
struct Body<R> {
    input: R,
    left: Left,
}

impl<R: BufRead> Body<R> {
    /// Reads the mark before the next chunk, when the present one is used up.
    fn enter_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        // The CRLF after the chunk before, which the first chunk does not have.
        while line.trim_end().is_empty() {
            line.clear();
            if self.input.read_line(&mut line)? == 0 {
                return Err(ended("the connection ended between two chunks"));
            }
        }
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        self.left = Left::Chunk(size);
        if size == 0 {
            line.clear();
            self.input.read_line(&mut line)?;
            self.left = Left::Nothing;
        }
        Ok(())
    }
}

impl<R: BufRead> BufRead for Body<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if matches!(self.left, Left::Chunk(0)) {
            self.enter_chunk()?;
        }
        match self.left {
            Left::Everything => self.input.fill_buf(),
            Left::Nothing => Ok(&[]),
            Left::Chunk(size) => {
                let ready = self.input.fill_buf()?;
                if ready.is_empty() {
                    return Err(ended("the connection ended inside a chunk"));
                }
                let ready_bytes = ready.len().min(size);
                Ok(&ready[..ready_bytes])
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
        if let Left::Chunk(size) = &mut self.left {
            *size -= bytes;
        }
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let bytes = ready.len().min(into.len());
        into[..bytes].copy_from_slice(&ready[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}
