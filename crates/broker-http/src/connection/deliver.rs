//! A stream on a connection of its own.

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use crate::connection::outbox::{Gone, Outbox};
use crate::connection::socket::{Departure, Io};
use crate::sse::FRONT_BYTES;

/// Writes a stream to its socket until either ends.
pub(super) async fn deliver<T: Io>(socket: T, departure: Box<Departure>) {
    let mut delivery = Delivery { socket, departure, outbox: Outbox::default() };
    // Whether a client that is gone saw the end makes no difference.
    let _ = poll_fn(|context| delivery.poll(context)).await;
}

struct Delivery<T> {
    socket: T,
    departure: Box<Departure>,
    outbox: Outbox,
}

impl<T: Io> Delivery<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        loop {
            let step = match self.outbox.poll_clear(&mut self.socket, context)? {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) if self.departure.stream.is_over() => {
                    return Pin::new(&mut self.socket).poll_shutdown(context).map_err(|_| Gone);
                }
                Poll::Ready(()) => self.departure.stream.poll_ready(context),
            };
            if step.is_pending() {
                return self.poll_gone(context).map(Err);
            }
            let Delivery { socket, departure, outbox } = self;
            outbox.offer(socket, context, |buffer| departure.write(buffer))?;
        }
    }

    /// Ready when the client closed its side. What it sends is not looked at: this is its last request here.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        loop {
            let mut space = [0; 64];
            let mut space = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.socket).poll_read(context, &mut space)) {
                Ok(()) if !space.filled().is_empty() => {}
                _ => return Poll::Ready(Gone),
            }
        }
    }
}

impl Departure {
    /// Writes what the stream says next, as it goes over the connection; it begins at the place that is returned.
    fn write(&mut self, buffer: &mut Vec<u8>) -> usize {
        buffer.resize(FRONT_BYTES, 0);
        self.stream.write(buffer);
        if !self.chunked {
            return FRONT_BYTES;
        }
        // The length of a chunk comes before it, and is known after it (RFC 9112, 7.1).
        let length = buffer.len() - FRONT_BYTES;
        let mut start = FRONT_BYTES;
        if length > 0 {
            start -= write_chunk_head(&mut buffer[..FRONT_BYTES], length);
            buffer.extend_from_slice(b"\r\n");
        }
        if self.stream.is_over() {
            buffer.extend_from_slice(b"0\r\n\r\n");
        }
        start
    }
}

/// Writes the head of a chunk to the end of `space`, and returns its length.
fn write_chunk_head(space: &mut [u8], length: usize) -> usize {
    let mut head = [0; FRONT_BYTES];
    let mut rest = &mut head[..];
    // A piece of a stream is far shorter than eight digits can say.
    let _ = write!(rest, "{length:x}\r\n");
    let bytes = FRONT_BYTES - rest.len();
    let start = space.len() - bytes;
    space[start..].copy_from_slice(&head[..bytes]);
    bytes
}
