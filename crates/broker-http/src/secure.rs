//! What a browser is told that came over TLS, to us with a lasting certificate or to a trusted proxy: to come back with TLS
//! only (RFC 6797).

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use actix_web::middleware::Next;

use crate::forwarded::Client;

/// What is said is private, and will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secure;

impl Secure {
    /// The header's value: a browser insists on TLS for a year.
    pub(crate) const VALUE: &str = "max-age=31536000";

    fn tell(headers: &mut HeaderMap) {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(Secure::VALUE));
    }
}

/// Tells it with every answer, also of an error.
pub(crate) async fn tell(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_private = || Client::of(request.request()).is_some_and(|client| client.is_private);
    let secure = request.conn_data::<Secure>().copied().or_else(|| is_private().then_some(Secure));
    match (next.call(request).await, secure) {
        (Ok(mut response), Some(_)) => {
            Secure::tell(response.headers_mut());
            Ok(response)
        }
        (Err(error), Some(_)) => {
            let mut response = error.error_response();
            Secure::tell(response.headers_mut());
            Err(InternalError::from_response(error, response).into())
        }
        (result, None) => result,
    }
}
