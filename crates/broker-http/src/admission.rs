//! Which requests are let in: those whose head is not too large, and whose subject has not too many connections.

use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::caller::Caller;
use crate::doors::Visitor;
use crate::forwarded::Client;
use crate::limits::{Limit, Limits, Subject};
use crate::problem::Problem;

/// What stands in the first line of a request beside its method and its address.
const REQUEST_LINE_BYTES: usize = "  HTTP/1.1\r\n".len();
/// What stands in a header's line beside its name and its value, and at the end of all headers.
const HEADER_LINE_BYTES: usize = ": \r\n".len();
const END_BYTES: usize = "\r\n".len();
/// When whoever has too many connections may try again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Refuses a head that is larger than it may be.
pub(crate) fn refuse_large(request: &ServiceRequest, limits: &Limits) -> Result<(), Problem> {
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    if address > limits.url_bytes_max {
        let detail = format!(
            "the path and the query have {address} bytes, and max_url allows {}; ask for less at once",
            limits.url_bytes_max
        );
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "url-too-long", detail).with_limit(Limit::Url));
    }
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + HEADER_LINE_BYTES;
    let headers: usize = request.headers().iter().map(line).sum();
    let head = request.method().as_str().len() + address + REQUEST_LINE_BYTES + headers + END_BYTES;
    if head > limits.head_bytes_max {
        let detail = format!(
            "the head of the request has {head} bytes, and max_head allows {}; send less in headers and cookies",
            limits.head_bytes_max
        );
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Problem::new(status, "head-too-large", detail).with_limit(Limit::Head));
    }
    Ok(())
}

/// Refuses a request whose subject has too many connections.
pub(crate) fn admit(request: &HttpRequest) -> Result<(), Problem> {
    let Some(visitor) = request.conn_data::<Rc<Visitor>>().filter(|visitor| visitor.is_judged()) else {
        return Ok(());
    };
    let address = Client::of(request).map(|client| client.address);
    let subject = Subject::of(Caller::of(request).identity().map(|identity| &**identity), address);
    visitor.admit(address, &subject).map_err(too_many)
}

fn too_many(limit: Limit) -> Problem {
    let detail = format!(
        "you have as many connections as {} allows; send requests on one of them, or end one, and try again",
        limit.name()
    );
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-connections", detail)
        .with_retry_after(RETRY_AFTER_SECONDS)
        .with_limit(limit)
}
