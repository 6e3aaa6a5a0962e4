//! The body of an answer, handed on piece by piece as it lies in the buffer.

use anyhow::{bail, ensure};
use memchr::memchr;

/// Longest line between chunks.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Where a body is, and what comes next in it.
#[derive(Debug)]
pub(super) struct Body {
    /// Bytes until something else comes.
    left: u64,
    then: Then,
    /// The beginning of a line between chunks.
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The line end behind a chunk.
    ChunkEnd,
    /// The line with the size of a chunk.
    ChunkSize,
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    Over,
}

impl Body {
    /// One that says before each chunk how long it is.
    pub(super) fn chunked() -> Self {
        Body { left: 0, then: Then::ChunkSize, line: Vec::new() }
    }

    /// One of so many bytes; of `u64::MAX`, until the connection ends.
    pub(super) fn sized(length: u64) -> Self {
        Body { left: length, then: Then::Over, line: Vec::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.then == Then::Over
    }

    /// Hands on what is body of these bytes. Nothing may come behind its end, since nothing was asked for.
    pub(super) fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            ensure!(!self.is_over(), "more came than was asked for");
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                take(&bytes[..length]);
                self.left -= length as u64;
                bytes = &bytes[length..];
                continue;
            }
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if self.line.ends_with(b"\n") {
                self.line_ended()?;
                self.line.clear();
            }
            ensure!(self.line.len() < LINE_BYTES_MAX, "a line between chunks has no end");
        }
        Ok(())
    }

    fn line_ended(&mut self) -> anyhow::Result<()> {
        let is_empty = matches!(self.line.as_slice(), b"\n" | b"\r\n");
        match self.then {
            Then::ChunkEnd => {
                ensure!(is_empty, "a chunk is longer than it says");
                self.then = Then::ChunkSize;
            }
            Then::ChunkSize => match httparse::parse_chunk_size(&self.line) {
                Ok(httparse::Status::Complete((_, 0))) => self.then = Then::Trailer,
                Ok(httparse::Status::Complete((_, size))) => (self.left, self.then) = (size, Then::ChunkEnd),
                _ => bail!("a chunk has no size"),
            },
            Then::Trailer if is_empty => self.then = Then::Over,
            Then::Trailer | Then::Over => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::super::http::Head;

    /// The body of an answer that comes in pieces of this size.
    fn body(wire: &[u8], piece: usize) -> anyhow::Result<(u16, String, bool)> {
        let (mut head, mut seen, mut text): (Option<Head>, Vec<u8>, Vec<u8>) = (None, Vec::new(), Vec::new());
        for bytes in wire.chunks(piece) {
            seen.extend_from_slice(bytes);
            if head.is_none() {
                let Some((found, length)) = Head::parse(&seen)? else { continue };
                head = Some(found);
                seen.drain(..length);
            }
            if let Some(head) = &mut head {
                head.body.feed(&seen, &mut |piece| text.extend_from_slice(piece))?;
                seen.clear();
            }
        }
        let head = head.context("no head")?;
        Ok((head.status, String::from_utf8(text)?, head.body.is_over()))
    }

    #[test]
    fn a_body_reads_the_same_however_it_is_cut() {
        for (wire, status, text, is_over) in [
            (
                &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"[..],
                200,
                "abc0123456789",
                true,
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 200, "ab", false),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno", 404, "no", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", 200, "until it closes", false),
        ] {
            for piece in 1..=wire.len() {
                let read = body(wire, piece).unwrap();
                assert_eq!(read, (status, text.to_owned(), is_over), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        for wire in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmore",
            b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(body(wire, wire.len()).is_err(), "{}", String::from_utf8_lossy(wire));
        }
    }
}
