//! Publishing on the fast path: the simplest form of the request that programs send by the million, without what a server of
//! all requests does for each.
//!
//! It answers only what it is sure of. Whatever else comes, a fault of the client too, goes to the web side byte by byte,
//! with the connection, and nothing of it was acted on: so there is one place that refuses, and one that knows all of HTTP.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use auth::Identity;
use bytes::Bytes;
use bytestring::ByteString;
use event_log::{AppendError, Batch, Receipt, Topic};
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::access;
use crate::body;
use crate::caller::Authentication;
use crate::connection::answer;
use crate::connection::outbox::{Gone, Outbox};
use crate::connection::simple::{self, Begun, SimplePublish};
use crate::connection::socket::Io;
use crate::credentials;
use crate::doors::Visitor;
use crate::limits::{Limit, Share, Subject};
use crate::publish::{self, Conditions, Described};
use crate::pulse::{Alarm, Pulse};
use crate::secure::Secure;
use crate::server::{HEAD_TIMEOUT, KEEP_ALIVE};
use crate::state::State;

/// What is read at once; it belongs to the thread, so that a connection that waits holds nothing.
const READ_BYTES: usize = 64 * 1_024;

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Publishes what is asked for, until something else is. Returns the connection then, with what was read of that; nothing
/// if the connection is over.
pub(super) async fn publish<T: Io>(
    socket: T,
    visitor: &Visitor,
    state: &State,
    pulse: &Rc<Pulse>,
    secure: Option<Secure>,
) -> Option<(T, Bytes)> {
    let mut path = FastPath {
        socket,
        state,
        secure,
        visitor,
        nobody: Subject::of(None, visitor.peer().map(|peer| peer.ip())),
        alarm: Alarm::new(Rc::clone(pulse)),
        input: Vec::new(),
        share: state.in_flight.share(),
        outbox: Outbox::default(),
        host: Vec::new(),
        known: None,
        topic: None,
    };
    let mut patience = HEAD_TIMEOUT;
    loop {
        match path.next(patience).await {
            Next::Publish(topic, batch) => {
                let result = state.broker.publish(batch).await;
                path.answer(&topic, result).await.ok()?;
            }
            Next::Other => return Some((path.socket, path.input.into())),
            Next::Over => return None,
        }
        patience = KEEP_ALIVE;
    }
}

struct FastPath<'a, T> {
    socket: T,
    state: &'a State,
    secure: Option<Secure>,
    visitor: &'a Visitor,
    /// Who publishes without a token.
    nobody: Subject,
    alarm: Alarm,
    /// What was read and not acted on.
    input: Vec<u8>,
    /// What it takes of what all may receive at one time.
    share: Share,
    outbox: Outbox,
    /// The `Host` that was found good last: a client has one.
    host: Vec<u8>,
    /// The token that was found good last: a client sends the same one again and again.
    known: Option<Known>,
    /// The topic that was published to last: its next event shares the text.
    topic: Option<Topic>,
}

/// A token that was found good.
struct Known {
    /// The header as it came.
    authorization: Vec<u8>,
    identity: Arc<Identity>,
    subject: Subject,
    /// What [`auth::Verifier::version`] was before.
    version: u64,
}

/// What comes next on a connection.
enum Next {
    Publish(Topic, Batch),
    /// What the web side is for.
    Other,
    Over,
}

impl<T: Io> FastPath<'_, T> {
    /// Waits for what comes next. A client that begins no request within its patience is left to the web side if it
    /// never sent one, and to itself if it did.
    async fn next(&mut self, patience: Duration) -> Next {
        let due = Instant::now() + patience;
        poll_fn(|context| {
            loop {
                if !self.input.is_empty()
                    && let Some(next) = self.take_from_input()
                {
                    return Poll::Ready(next);
                }
                let read = SPACE.with_borrow_mut(|space| {
                    let mut space = ReadBuf::new(space);
                    ready!(Pin::new(&mut self.socket).poll_read(context, &mut space))?;
                    Poll::Ready(Ok::<_, std::io::Error>(self.take(space.filled())))
                });
                match read {
                    Poll::Ready(Ok(Some(next))) => return Poll::Ready(next),
                    Poll::Ready(Ok(None)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Over),
                    Poll::Pending if self.alarm.pulse().is_over() && self.input.is_empty() => {
                        return Poll::Ready(Next::Over);
                    }
                    Poll::Pending => {
                        ready!(self.alarm.poll_due(context, due));
                        let is_over = self.input.is_empty() && patience == KEEP_ALIVE;
                        return Poll::Ready(if is_over { Next::Over } else { Next::Other });
                    }
                }
            }
        })
        .await
    }

    /// Looks at what came; nothing if more has to come.
    fn take(&mut self, came: &[u8]) -> Option<Next> {
        if came.is_empty() {
            // The client is gone. What became of the rest of its last request, the web side can say.
            return Some(if self.input.is_empty() { Next::Over } else { Next::Other });
        }
        if !self.input.is_empty() {
            return self.keep(came);
        }
        let taken = self.parse(came);
        let kept = match &taken {
            Some((Next::Publish(..), length)) => &came[*length..],
            _ => came,
        };
        match self.keep(kept) {
            None => taken.map(|(next, _)| next),
            // What is whole is published; the rest is looked at then.
            Some(other) => Some(taken.map_or(other, |(next, _)| next)),
        }
    }

    /// Keeps what cannot be acted on yet. If all together keep too much, the web side is the one to say so.
    fn keep(&mut self, came: &[u8]) -> Option<Next> {
        self.input.extend_from_slice(came);
        self.share.hold(self.input.len()).err().map(|_| Next::Other)
    }

    fn take_from_input(&mut self) -> Option<Next> {
        let input = std::mem::take(&mut self.input);
        let taken = self.parse(&input);
        self.input = input;
        let (next, length) = taken?;
        if matches!(next, Next::Publish(..)) {
            match length == self.input.len() {
                true => self.input = Vec::new(),
                false => drop(self.input.drain(..length)),
            }
            // Less than before can always be held.
            let _ = self.share.hold(self.input.len());
        }
        Some(next)
    }

    /// What some bytes begin with, and how many make it; nothing if it is not whole yet.
    fn parse(&mut self, bytes: &[u8]) -> Option<(Next, usize)> {
        match simple::parse(bytes, self.state.options.limits.data_bytes_max) {
            Begun::Publish(request) => match self.read(&request) {
                Some((topic, batch)) => Some((Next::Publish(topic, batch), request.length)),
                None => Some((Next::Other, 0)),
            },
            Begun::Unfinished => None,
            Begun::Other => Some((Next::Other, 0)),
        }
    }

    /// What is to be published; nothing if something is wrong with it.
    fn read(&mut self, request: &SimplePublish<'_>) -> Option<(Topic, Batch)> {
        let limits = &self.state.options.limits;
        // Behind a proxy there are many, and headers say who.
        if self.visitor.is_proxy() {
            return None;
        }
        if request.head_bytes() > limits.head_bytes_max || request.url_bytes() > limits.url_bytes_max {
            return None;
        }
        let authentication = self.state.options.authentication.as_ref();
        if authentication.is_none() && self.host != request.host {
            let is_good = access::is_loopback_authority(request.host);
            self.host = is_good.then(|| request.host.to_vec())?;
        }
        let topic = match self.topic.take().filter(|topic| topic.as_str() == request.topic) {
            Some(topic) => topic,
            None => publish::topic(request.topic).ok()?,
        };
        self.topic = Some(topic.clone());
        if let Some(authentication) = authentication {
            let known = self.identify(request, authentication)?;
            known.identity.grants.may_publish(&topic).then_some(())?;
        }
        if self.visitor.is_judged() {
            self.visitor.admit(None, self.subject()).ok()?;
        }
        let described = Described::read(topic.clone(), request.query).ok()?;
        let conditions = Conditions::read(request.idempotency_key, request.expected_id).ok()?;
        let text = body::text(request.body).ok()?;
        let data = publish::data(ByteString::from(text), limits.data_bytes_max).ok()?;
        let batch = conditions.batch(described.with(data));
        if let Some(rates) = &self.state.rates {
            rates.take(self.subject(), &batch.events).ok()?;
        }
        Some((topic, batch))
    }

    /// Whom the request's token speaks for, if it is a good one. It is verified when it is another than before, or when
    /// keys or revocations have changed since.
    fn identify(&mut self, request: &SimplePublish<'_>, authentication: &Authentication) -> Option<&Known> {
        let header = request.authorization.filter(|_| !request.has_cookie)?;
        let version = authentication.verifier.version();
        let is_known = |known: &Known| known.authorization == header && known.version == version;
        if !self.known.as_ref().is_some_and(is_known) {
            let identity = authentication.identify(credentials::bearer(header)?, self.state).ok()?;
            let subject = match &identity.subject {
                Some(name) => Subject::Named(name.as_str().into()),
                None => self.nobody.clone(),
            };
            self.known = Some(Known { authorization: header.to_vec(), identity, subject, version });
        }
        let known = self.known.as_ref()?;
        (known.identity.expires > self.state.broker.now()).then_some(known)
    }

    /// Who publishes.
    fn subject(&self) -> &Subject {
        self.known.as_ref().map_or(&self.nobody, |known| &known.subject)
    }

    async fn answer(&mut self, topic: &Topic, result: Result<Receipt, AppendError>) -> Result<(), Gone> {
        let FastPath { socket, outbox, alarm, state, secure, .. } = self;
        if let Err(error) = &result {
            state.refusals.count(error.code());
        }
        let write = |buffer: &mut Vec<u8>| {
            answer::write(buffer, state, *secure, topic, &result);
            0
        };
        poll_fn(|context| Poll::Ready(outbox.offer(socket, context, write))).await?;
        let mut due = None;
        poll_fn(|context| {
            let clear = outbox.poll_clear(socket, context);
            if clear.is_ready() {
                return clear;
            }
            let due = *due.get_or_insert_with(|| Instant::now() + state.options.limits.answer_timeout);
            ready!(alarm.poll_due(context, due));
            state.reached.count(Limit::AnswerTimeout);
            Poll::Ready(Err(Gone))
        })
        .await
    }
}
