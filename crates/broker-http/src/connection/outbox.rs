//! What goes out: written in memory that all connections of the thread share, and given to the socket at once. Only what
//! the socket does not take is kept, so a connection that waits holds no buffer.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::connection::socket::Io;

/// A shared buffer that grew beyond this for something large is let go.
const BUFFER_BYTES_KEPT: usize = 256 * 1_024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The client is gone, or cannot be reached.
#[derive(Debug)]
pub(super) struct Gone;

/// What a socket did not take yet.
#[derive(Default)]
pub(super) struct Outbox {
    rest: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Writes into the shared buffer, and offers the socket what `write` says of it. Nothing may be left from before.
    pub(super) fn offer<T: Io>(
        &mut self,
        socket: &mut T,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> usize,
    ) -> Result<(), Gone> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let start = write(buffer);
            let bytes = &buffer[start..];
            let taken = match bytes.is_empty() {
                true => 0,
                false => match Pin::new(socket).poll_write(context, bytes) {
                    Poll::Ready(Ok(0) | Err(_)) => return Err(Gone),
                    Poll::Ready(Ok(count)) => count,
                    Poll::Pending => 0,
                },
            };
            match bytes.len() - taken {
                0 => {}
                // Worth more than to have the buffer again.
                left if left > buffer.capacity() / 2 => {
                    (self.rest, self.sent) = (std::mem::take(buffer), start + taken);
                }
                _ => self.rest.extend_from_slice(&bytes[taken..]),
            }
            if buffer.capacity() > BUFFER_BYTES_KEPT {
                *buffer = Vec::new();
            }
            Ok(())
        })
    }

    /// Ready when nothing is left, here or below: a socket with TLS takes more than it sends at once.
    pub(super) fn poll_clear<T: Io>(
        &mut self,
        socket: &mut T,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        while self.sent < self.rest.len() {
            match ready!(Pin::new(&mut *socket).poll_write(context, &self.rest[self.sent..])) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Gone)),
                Ok(count) => self.sent += count,
            }
        }
        (self.rest, self.sent) = (Vec::new(), 0);
        Pin::new(socket).poll_flush(context).map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::Waker;

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// Takes everything, and sends it when it is flushed for the second time.
    #[derive(Default)]
    struct Holding {
        held: Vec<u8>,
        sent: Vec<u8>,
        flushes: usize,
    }

    impl AsyncRead for Holding {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Holding {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes < 2 {
                return Poll::Pending;
            }
            self.sent = std::mem::take(&mut self.held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The end of a burst must not wait in a socket with TLS for the next event.
    #[test]
    fn nothing_is_out_before_the_socket_has_sent_what_it_took() {
        let (mut outbox, mut socket) = (Outbox::default(), Holding::default());
        let context = &mut Context::from_waker(Waker::noop());
        let write = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(b"to the end");
            0
        };
        outbox.offer(&mut socket, context, write).unwrap();
        assert!(outbox.poll_clear(&mut socket, context).is_pending());
        assert!(matches!(outbox.poll_clear(&mut socket, context), Poll::Ready(Ok(()))));
        assert_eq!(socket.sent, b"to the end");
    }
}
