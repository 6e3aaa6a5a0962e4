//! The answer to a publish on the fast path, as bytes: the same as the web side's.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use actix_web::http::header::HttpDate;
use broker::Broker;
use event_log::{AppendError, Receipt, Topic};

use crate::envelope;
use crate::problem::Problem;
use crate::publish::Answer;
use crate::secure::Secure;
use crate::state::State;

/// Writes the answer to a publish of one event.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    state: &State,
    secure: Option<Secure>,
    topic: &Topic,
    result: &Result<Receipt, AppendError>,
) {
    let broker = &state.broker;
    match result {
        Ok(receipt) => {
            let answer = Answer::new(&receipt.events[0], topic, broker.epochs().current());
            let status = if answer.status() == StatusCode::CREATED { "201 Created" } else { "200 OK" };
            BODY.with_borrow_mut(|body| {
                body.clear();
                answer.write(body);
                buffer.extend_from_slice(b"HTTP/1.1 ");
                buffer.extend_from_slice(status.as_bytes());
                buffer.extend_from_slice(b"\r\ncontent-length: ");
                envelope::write_number(buffer, body.len() as u64);
                buffer.extend_from_slice(
                    b"\r\ncontent-type: application/json\r\ncache-control: no-store\r\nlocation: /v1/events/",
                );
                envelope::write_event_id(buffer, answer.id());
                buffer.extend_from_slice(b"\r\n");
                end_head(buffer, broker, secure);
                buffer.extend_from_slice(body);
            });
        }
        Err(error) => {
            let problem = Problem::append(error, broker.epochs());
            if let Some(limit) = problem.limit() {
                state.reached.count(limit);
            }
            let (head, body) = problem.error_response().into_parts();
            let body = body.try_into_bytes().unwrap_or_default();
            // Writing to memory cannot fail.
            let _ = write!(buffer, "HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status(), body.len());
            for (name, value) in head.headers() {
                let _ = write!(buffer, "{name}: ");
                buffer.extend_from_slice(value.as_bytes());
                buffer.extend_from_slice(b"\r\n");
            }
            end_head(buffer, broker, secure);
            buffer.extend_from_slice(&body);
        }
    }
}

thread_local! {
    /// Where a body is made: its length comes before it.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The last date that was written, and its second.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Writes the last headers, of which a date is in every answer of a server with a clock (RFC 9110, 6.6.1), and the end of the
/// head.
fn end_head(buffer: &mut Vec<u8>, broker: &Broker, secure: Option<Secure>) {
    if secure.is_some() {
        buffer.extend_from_slice(b"strict-transport-security: ");
        buffer.extend_from_slice(Secure::VALUE.as_bytes());
        buffer.extend_from_slice(b"\r\n");
    }
    let second = broker.now().as_micros() / 1_000_000;
    DATE.with_borrow_mut(|(known, date)| {
        if *known != second || date.is_empty() {
            *known = second;
            *date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second)).to_string();
        }
        buffer.extend_from_slice(b"date: ");
        buffer.extend_from_slice(date.as_bytes());
        buffer.extend_from_slice(b"\r\n\r\n");
    });
}
