//! How long an answer waits for its client to take it.
//!
//! An event stream waits as long as its reader likes. The answer to any other request takes memory that was made for it, and its
//! client asked for it just now: one that then takes nothing, or a byte at a time, is let go. (The system takes from us in larger
//! steps than the client takes from it, so whoever goes on reading at a fair pace has long taken one.)

use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::web;
use tokio::time::Instant;

use crate::limits::Limit;
use crate::pulse::{Alarm, Pulse};
use crate::state::State;

/// The wait of one connection.
pub(super) struct Patience {
    state: web::Data<State>,
    alarm: Alarm,
    /// When it is over, while it waits.
    due: Option<Instant>,
}

impl Patience {
    pub(super) fn new(state: web::Data<State>, pulse: Rc<Pulse>) -> Self {
        Patience { state, alarm: Alarm::new(pulse), due: None }
    }

    /// Notes whether the socket took something. Ready when it has taken nothing for too long; the task is woken then.
    pub(super) fn poll_over<R>(&mut self, context: &Context<'_>, taken: &Poll<R>) -> Poll<()> {
        if taken.is_ready() {
            self.due = None;
            return Poll::Pending;
        }
        let due = *self.due.get_or_insert_with(|| Instant::now() + self.state.options.limits.answer_timeout);
        let is_over = self.alarm.poll_due(context, due);
        if is_over.is_ready() {
            self.state.reached.count(Limit::AnswerTimeout);
        }
        is_over
    }
}
