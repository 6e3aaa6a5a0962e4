//! One event stream, read at the price of its system calls: no allocation for an event, and none for a read.
//!
//! All streams of a thread read into one buffer, since what was read is handed on before the next stream has its turn. A
//! stream itself keeps only what was torn: the beginning of a line, and the lines of a block that has no end yet.

use std::cell::RefCell;
use std::io::ErrorKind;

use anyhow::{Context, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::body::Body;
use super::http::{Address, Head, detail};
use crate::client::sse::{Block, Parser};

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A stream that the broker has begun.
pub(super) struct Stream {
    socket: TcpStream,
    /// Body that came together with the head.
    early: Vec<u8>,
    body: Body,
    parser: Parser,
}

impl Stream {
    /// Sends the request on this connection and waits until the broker has taken it.
    pub(super) async fn open(mut socket: TcpStream, request: &[u8]) -> anyhow::Result<Self> {
        socket.write_all(request).await.context("the connection broke")?;
        let mut early = Vec::new();
        let mut head = Head::read(&mut socket, &mut early).await?;
        if head.status != 200 {
            let mut told = Vec::new();
            head.body.feed(&early, &mut |piece| told.extend_from_slice(piece))?;
            bail!("a stream was refused: {}", detail(head.status, &told));
        }
        ensure!(head.is_event_stream, "the answer is no event stream; is this the address of a broker?");
        Ok(Stream { socket, early, body: head.body, parser: Parser::default() })
    }

    /// The request for a stream, with the place behind which it begins.
    pub(super) fn request(address: &Address, url: &reqwest::Url, last_event_id: Option<&str>) -> Vec<u8> {
        let mut request = address.request("GET", url) + "Accept: text/event-stream\r\n";
        if let Some(id) = last_event_id {
            request += &format!("Last-Event-ID: {id}\r\n");
        }
        (request + "\r\n").into_bytes()
    }

    /// Waits until something has come.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        match self.early.is_empty() {
            true => self.socket.readable().await.context("a stream broke"),
            false => Ok(()),
        }
    }

    /// Lends the blocks of what has come, as far as one read gets; false at the end of the stream.
    pub(super) fn take(&mut self, take: &mut impl FnMut(Block<'_>)) -> anyhow::Result<bool> {
        let Stream { socket, early, body, parser } = self;
        let mut feed = |bytes: &[u8]| body.feed(bytes, &mut |piece| parser.each(piece, take));
        if !early.is_empty() {
            feed(&std::mem::take(early))?;
        } else {
            let count = BUFFER.with_borrow_mut(|buffer| match socket.try_read(buffer) {
                Ok(count) => feed(&buffer[..count]).map(|()| Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error).context("a stream broke"),
            })?;
            if count == Some(0) {
                return Ok(false);
            }
        }
        Ok(!body.is_over())
    }
}
