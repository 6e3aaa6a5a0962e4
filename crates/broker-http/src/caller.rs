//! Who asks, and what is said to who may not.
//!
//! With authentication a request is anonymous or has a token that was found good before any handler sees it. Each handler
//! asks its [`Caller`] for what it is about to do, before it looks whether that exists: a topic that somebody may not read
//! cannot be told from one that is not there.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use auth::{Identity, Refused, Verifier};
use event_log::{NewEvent, Pattern, Topic};

use crate::forwarded::Client;
use crate::limits::Subject;
use crate::problem::Problem;
use crate::state::State;

/// How tokens are judged, and what those may do who have none.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// What judges tokens.
    pub verifier: Arc<Verifier>,
    /// Tokens are taken from the query parameter `access_token` too.
    pub query_token: bool,
    /// What may be read without a token.
    pub anonymous_subscribe: Vec<Pattern>,
}

impl Authentication {
    /// Whom a token speaks for.
    pub(crate) fn identify(&self, token: &[u8], state: &State) -> Result<Arc<Identity>, Refused> {
        let identity = self.verifier.verify(token, state.broker.now())?;
        match state.broker.revocations().revoke(&identity) {
            true => Err(Refused::Revoked),
            false => Ok(Arc::new(identity)),
        }
    }
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    identity: Option<Arc<Identity>>,
    state: web::Data<State>,
}

impl Caller {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let state = request.app_data::<web::Data<State>>().expect("the app has a state");
        Caller { identity: request.extensions().get().cloned(), state: web::Data::clone(state) }
    }

    /// Whom the token speaks for.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The same for what has no meaning without a token.
    pub(crate) fn known(&self) -> Result<&Arc<Identity>, Problem> {
        self.identity.as_ref().ok_or_else(|| match self.asked() {
            Some(_) => self.denied("sub", "that (it names whose stream it is)"),
            None => Problem::not_found("no-authentication", "without authentication no stream needs a token"),
        })
    }

    /// What all requests share.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Takes what is published from the subject's share, if that is limited.
    pub(crate) fn take_rate(&self, request: &HttpRequest, events: &[NewEvent]) -> Result<(), Problem> {
        let Some(rates) = &self.state.rates else { return Ok(()) };
        let address = Client::of(request).map(|client| client.address);
        rates.take(&Subject::of(self.identity.as_deref(), address), events)
    }

    /// What is asked of callers; nothing without authentication.
    fn asked(&self) -> Option<&Authentication> {
        self.state.options.authentication.as_ref()
    }

    /// Refuses who may not publish to a topic.
    pub(crate) fn publish(&self, topic: &Topic) -> Result<(), Problem> {
        let may = |identity: &Arc<Identity>| identity.grants.may_publish(topic);
        match self.asked().is_none() || self.identity.as_ref().is_some_and(may) {
            true => Ok(()),
            false => Err(self.denied("perennial.publish", &format!("publishing to {:?}", topic.as_str()))),
        }
    }

    /// Refuses who may not publish to any topic.
    pub(crate) fn publish_something(&self) -> Result<(), Problem> {
        let may = |identity: &Arc<Identity>| !identity.grants.publish.is_empty();
        match self.asked().is_none() || self.identity.as_ref().is_some_and(may) {
            true => Ok(()),
            false => Err(self.denied("perennial.publish", "publishing")),
        }
    }

    /// Refuses who may not read all that these patterns name.
    pub(crate) fn subscribe(&self, patterns: &[Pattern]) -> Result<(), Problem> {
        match patterns.iter().find(|pattern| !self.may_subscribe(pattern)) {
            None => Ok(()),
            Some(pattern) if pattern.as_str().starts_with('$') => Err(self.denied_admin()),
            Some(pattern) => {
                let what = format!("all of {:?} to be read", pattern.as_str());
                Err(self.denied("perennial.subscribe", &what))
            }
        }
    }

    fn may_subscribe(&self, pattern: &Pattern) -> bool {
        let Some(asked) = self.asked() else { return true };
        let open = || asked.anonymous_subscribe.iter().any(|open| open.covers(pattern));
        self.identity.as_ref().is_some_and(|identity| identity.grants.may_subscribe(pattern)) || open()
    }

    /// Whether a topic may be read.
    pub(crate) fn may_read(&self, topic: &Topic) -> bool {
        let Some(asked) = self.asked() else { return true };
        let open = || asked.anonymous_subscribe.iter().any(|open| open.matches(topic));
        self.identity.as_ref().is_some_and(|identity| identity.grants.may_read(topic)) || open()
    }

    /// Whether it may be known that there is a topic, and how much it holds: administrators see all of them.
    pub(crate) fn may_list(&self, topic: &Topic) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.grants.admin) || self.may_read(topic)
    }

    /// Refuses who may not read a topic.
    pub(crate) fn read(&self, topic: &Topic) -> Result<(), Problem> {
        match self.may_read(topic) {
            true => Ok(()),
            false if topic.is_reserved() => Err(self.denied_admin()),
            false => {
                let what = format!("{:?} to be read", topic.as_str());
                Err(self.denied("perennial.subscribe", &what))
            }
        }
    }

    /// Refuses who may not read anything.
    pub(crate) fn read_something(&self) -> Result<(), Problem> {
        let Some(asked) = self.asked() else { return Ok(()) };
        let grants = self.identity.as_ref().map(|identity| &identity.grants);
        let may = grants.is_some_and(|grants| grants.admin || !grants.subscribe.is_empty());
        match may || !asked.anonymous_subscribe.is_empty() {
            true => Ok(()),
            false => Err(self.denied("perennial.subscribe", "anything to be read")),
        }
    }

    /// Refuses who is no administrator.
    pub(crate) fn admin(&self) -> Result<(), Problem> {
        let may = |identity: &Arc<Identity>| identity.grants.admin;
        match self.asked().is_none() || self.identity.as_ref().is_some_and(may) {
            true => Ok(()),
            false => Err(self.denied_admin()),
        }
    }

    fn denied_admin(&self) -> Problem {
        self.denied("perennial.admin", "what is for administrators")
    }

    /// Without a token it is 401, as it may go better with one; with one it is 403, as it will not with this one.
    fn denied(&self, claim: &'static str, what: &str) -> Problem {
        match &self.identity {
            None => {
                let detail = format!(
                    "this needs a token whose claim {claim} allows {what}; send it as Authorization: Bearer <token>"
                );
                Problem::new(StatusCode::UNAUTHORIZED, "missing-token", detail)
                    .with_challenge("Bearer realm=\"perennial\"", Some(claim))
            }
            Some(_) => {
                let detail = format!("the token's claim {claim} does not allow {what}");
                Problem::new(StatusCode::FORBIDDEN, "missing-grant", detail)
                    .with_challenge("Bearer realm=\"perennial\", error=\"insufficient_scope\"", Some(claim))
            }
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Caller::of(request)))
    }
}

/// 401: the token is not good. 503 if that cannot be known yet.
pub(crate) fn refused(refused: &Refused) -> Problem {
    if *refused == Refused::KeysAwaited {
        return Problem::unavailable(refused.code(), refused.to_string(), 5);
    }
    Problem::new(StatusCode::UNAUTHORIZED, refused.code(), refused.to_string())
        .with_challenge("Bearer realm=\"perennial\", error=\"invalid_token\"", refused.claim())
}
