//! Where a request has its token.
//!
//! What a client put there for this request, a header or a parameter, goes before the cookie, which browsers add by
//! themselves. The parameter is taken out of the request before anybody sees it, so that it cannot come to lie in a log, an
//! error or a list.

use std::borrow::Cow;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use actix_web::http::uri::{PathAndQuery, Uri};
use actix_web::http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// The cookie: its prefix makes browsers keep it to one host, over TLS.
const COOKIE_NAME: &str = "__Host-perennial";
const PARAMETER: &str = "access_token";

/// A token, and whether it is the cookie's.
pub(crate) struct Credential {
    pub(crate) token: Vec<u8>,
    pub(crate) is_cookie: bool,
}

/// Takes the token out of a request. None is no fault; two for one request are.
pub(crate) fn take(request: &mut ServiceRequest, from_query: bool) -> Result<Option<Credential>, Problem> {
    let in_query = if from_query { take_parameter(request)? } else { None };
    let in_header = in_header(request.headers())?;
    let explicit = match (in_header, in_query) {
        (Some(_), Some(_)) => {
            let detail = "a token is sent as a header or as a parameter, not as both";
            return Err(Problem::bad_request("repeated-token", PARAMETER, detail));
        }
        (header, query) => header.or(query),
    };
    if let Some(token) = explicit {
        return Ok(Some(Credential { token, is_cookie: false }));
    }
    Ok(in_cookie(request.headers())?.map(|token| Credential { token, is_cookie: true }))
}

/// Whether a request changes nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// The token of an `Authorization` header; nothing if it has another form. The scheme's case does not matter, and a token
/// has neither spaces nor commas: what looks like a list of several is none.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    let token = rest.trim_ascii();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let is_bearer =
        scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty() && token.iter().all(is_plain);
    is_bearer.then_some(token)
}

fn in_header(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let detail = "header authorization is given more than once; it may be given once";
        return Err(Problem::bad_request("repeated-header", "authorization", detail));
    }
    match bearer(value.as_bytes()) {
        Some(token) => Ok(Some(token.to_vec())),
        None => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "invalid-token",
            "the header authorization is not of the form: Bearer <token>",
        )
        .with_field("authorization")
        .with_challenge("Bearer realm=\"perennial\", error=\"invalid_token\"", None)),
    }
}

fn in_cookie(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let pairs =
        headers.get_all(COOKIE).map(HeaderValue::as_bytes).flat_map(|value| value.split(|b| *b == b';'));
    let mut tokens = pairs.filter_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|b| *b == b'=')?)?;
        let value = value[1..].trim_ascii();
        (name.trim_ascii() == COOKIE_NAME.as_bytes() && !value.is_empty()).then_some(value)
    });
    let first = tokens.next();
    match tokens.next() {
        None => Ok(first.map(<[u8]>::to_vec)),
        Some(_) => {
            let detail = format!("there is more than one cookie {COOKIE_NAME}");
            Err(Problem::bad_request("repeated-cookie", "cookie", detail))
        }
    }
}

/// Takes the parameter out of the address.
fn take_parameter(request: &mut ServiceRequest) -> Result<Option<Vec<u8>>, Problem> {
    let Some(query) = request.uri().query() else { return Ok(None) };
    let (tokens, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        percent_decode_str(&name.replace('+', " ")).eq(PARAMETER.bytes())
    });
    if tokens.is_empty() {
        return Ok(None);
    }
    let values: Vec<Vec<u8>> = tokens
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(_, value)| Cow::from(percent_decode_str(value)).into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    let uri = without_query(request.uri(), &others.join("&"))?;
    request.match_info_mut().get_mut().update(&uri);
    request.head_mut().uri = uri;
    match <[Vec<u8>; 1]>::try_from(values) {
        Ok([token]) => Ok(Some(token)),
        Err(none) if none.is_empty() => Ok(None),
        Err(_) => {
            let detail = format!("parameter {PARAMETER:?} is given twice; it may be given once");
            Err(Problem::bad_request("repeated-parameter", PARAMETER, detail))
        }
    }
}

fn without_query(uri: &Uri, query: &str) -> Result<Uri, Problem> {
    let path = uri.path();
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(text).ok();
    // It was one with the parameter, so it is one without.
    Uri::from_parts(parts)
        .map_err(|_| Problem::bad_request("invalid-parameter", PARAMETER, "the address cannot be read"))
}
