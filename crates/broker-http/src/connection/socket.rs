//! A socket that is lent: the web side serves requests on it, until one of them asks for the socket itself.
//!
//! An event stream lives for hours and says little. What a server of requests keeps for a connection (two buffers, timers,
//! a request and its answer) is many times what a stream needs, and each of its bytes would be copied once more. So once the
//! head of a stream's answer is on its way, the stream takes the socket and writes its body by itself.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::patience::Patience;
use crate::doors::Visitor;
use crate::stream::EventStream;

/// What bytes go over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Io for T {}

/// The socket as the web side has it.
pub(crate) struct Lent<T> {
    shared: Rc<Shared<T>>,
    /// How long an answer waits to be taken; without it, for ever.
    patience: Option<Patience>,
}

/// The socket as its owner has it.
pub(crate) struct Owner<T> {
    shared: Rc<Shared<T>>,
}

struct Shared<T> {
    socket: RefCell<Option<T>>,
    /// What was read before it was lent.
    early: RefCell<Bytes>,
    /// Everything that the web side wrote so far was taken by the socket.
    is_drained: Cell<bool>,
    handover: Rc<Handover>,
    visitor: Rc<Visitor>,
}

/// Where a request leaves the stream that wants the socket.
#[derive(Default)]
pub(crate) struct Handover {
    departure: RefCell<Option<Box<Departure>>>,
}

/// A stream that wants the socket.
pub(crate) struct Departure {
    pub(crate) stream: EventStream,
    /// The body is sent in chunks; otherwise its end is the end of the connection.
    pub(crate) chunked: bool,
}

/// Lends a socket, and what was read from it already.
pub(crate) fn lend<T: Io>(
    socket: T,
    early: Bytes,
    visitor: Rc<Visitor>,
    patience: Option<Patience>,
) -> (Lent<T>, Owner<T>) {
    let shared = Rc::new(Shared {
        socket: RefCell::new(Some(socket)),
        early: RefCell::new(early),
        is_drained: Cell::new(true),
        handover: Rc::default(),
        visitor,
    });
    (Lent { shared: Rc::clone(&shared), patience }, Owner { shared })
}

impl<T> Lent<T> {
    /// Where a request on this connection leaves its stream.
    pub(crate) fn handover(&self) -> Rc<Handover> {
        Rc::clone(&self.shared.handover)
    }

    /// Whose connection it is.
    pub(crate) fn visitor(&self) -> Rc<Visitor> {
        Rc::clone(&self.shared.visitor)
    }

    /// What the socket took; an error if it has taken nothing for too long.
    fn in_time<R>(&mut self, context: &Context<'_>, taken: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match self.patience.as_mut().map(|patience| patience.poll_over(context, &taken)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => taken,
        }
    }

    fn with_socket<R>(&self, act: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        match &mut *self.shared.socket.borrow_mut() {
            Some(socket) => act(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<T> Owner<T> {
    /// The stream that wants the socket, and the socket, once the head of the stream's answer has left.
    pub(crate) fn take_back(&self) -> Option<(T, Box<Departure>)> {
        if !self.shared.is_drained.get() {
            return None;
        }
        let departure = self.shared.handover.departure.take()?;
        Some((self.shared.socket.take()?, departure))
    }
}

impl<T: Io> AsyncRead for Lent<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut early = self.shared.early.borrow_mut();
        if early.is_empty() {
            return self.with_socket(|socket| socket.poll_read(context, buffer));
        }
        let count = early.len().min(buffer.remaining());
        buffer.put_slice(&early.split_to(count));
        if early.is_empty() {
            *early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Io> AsyncWrite for Lent<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.with_socket(|socket| socket.poll_write(context, bytes));
        self.shared.is_drained.set(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.with_socket(|socket| socket.poll_flush(context));
        self.in_time(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_socket(|socket| socket.poll_shutdown(context))
    }
}

/// The body of an answer that leaves: it asks for the socket as soon as somebody wants to send it, and never says a word.
pub(crate) struct Leaving {
    handover: Rc<Handover>,
    departure: Option<Box<Departure>>,
}

impl Leaving {
    pub(crate) fn new(handover: Rc<Handover>, departure: Departure) -> Self {
        Leaving { handover, departure: Some(Box::new(departure)) }
    }
}

impl MessageBody for Leaving {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(departure) = self.departure.take() {
            *self.handover.departure.borrow_mut() = Some(departure);
        }
        Poll::Pending
    }
}
