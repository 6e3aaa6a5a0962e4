//! Who may speak. To a broker that has no authentication: programs of this machine, and web pages of this machine or of an
//! allowed origin. To one that has: everybody whose token is good, and web pages of its own or of an allowed origin.
//!
//! A web page that a developer happens to visit can send requests to loopback. Two headers that a page cannot forge
//! give it away: `Origin` says where the page is from, and `Host` says under which name it believes to reach us, which is not
//! a loopback name when the page's own name was rebound to our address. Preflights are judged like the requests that they
//! ask for. Pages that may speak get CORS headers, on errors too, so that they can read what was wrong.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError, web};
use url::{Host, Url};

use crate::accept::{self, Shape};
use crate::admission;
use crate::caller::{self, Authentication};
use crate::credentials;
use crate::problem::Problem;
use crate::state::State;
use crate::subscribe;

/// The one path that answers everybody, for probes that know no name of ours.
const OPEN_PATH: &str = "/healthz";
/// With authentication this one too: a probe has no token.
const READY_PATH: &str = "/readyz";
/// What a page may send, beside what begins with [`OWN_PREFIX`].
const ALLOWED_HEADERS: [&str; 6] = [
    "last-event-id",
    "authorization",
    "cache-control",
    "content-type",
    "idempotency-key",
    "perennial-expected-id",
];
/// Headers of our own, those of later versions too: a page may send them to a broker that does not know them.
const OWN_PREFIX: &str = "perennial-";
/// What a page may read beside what every page may.
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("allow, location, perennial-connection, retry-after, www-authenticate");
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Origins of web pages that may speak to us beside those on this machine.
#[derive(Debug)]
pub(crate) struct Origins(Vec<Url>);

impl Origins {
    /// What is not an origin allows nobody; the configuration is checked where it is read.
    pub(crate) fn new(texts: &[String]) -> Self {
        Origins(texts.iter().filter_map(|text| parse_origin(text)).collect())
    }

    fn allow(&self, origin: &[u8]) -> bool {
        let Some(origin) = std::str::from_utf8(origin).ok().and_then(parse_origin) else { return false };
        let is_local = matches!(origin.scheme(), "http" | "https") && is_loopback(&origin);
        is_local || self.name(&origin)
    }

    /// Whether an origin is among those that were named.
    fn name(&self, origin: &Url) -> bool {
        self.0.iter().any(|allowed| is_same(allowed, origin))
    }
}

/// Refuses who may not speak, and tells the pages that may.
pub(crate) async fn guard(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = request.app_data::<web::Data<State>>().cloned().expect("the app has a state");
    let asked = state.options.authentication.as_ref();
    let judged = match asked {
        None => {
            let authority = request.uri().authority().map(Authority::as_str);
            judge(request.headers(), authority, &state.origins)
        }
        Some(_) => judge_page(&request, &state.origins),
    };
    let cors = match judged {
        Ok(origin) => origin.map(|origin| Cors::new(origin, asked.is_some(), &request)),
        Err(_) if request.path() == OPEN_PATH => None,
        Err(problem) => return Ok(request.into_response(problem.error_response())),
    };
    let identified = match asked {
        None => Ok(()),
        Some(asked) => identify(&mut request, asked, &state),
    };
    let admitted =
        admission::refuse_large(&request, &state.options.limits).and(identified).and_then(|()| match request
            .path()
        {
            OPEN_PATH | READY_PATH => Ok(()),
            _ => admission::admit(request.request()),
        });
    let answered = match admitted {
        Ok(()) => next.call(request).await,
        // An EventSource that sees any status but 200 is dead for good, and this may pass.
        Err(problem) if problem.may_pass() && is_for_events(&request) => {
            Ok(request.into_response(subscribe::overloaded(problem.limit())))
        }
        Err(problem) => Ok(request.into_response(problem.error_response())),
    };
    if let Ok(answer) = &answered
        && let Some(limit) = answer.response().extensions().get()
    {
        state.reached.count(*limit);
    }
    match (answered, cors) {
        (Ok(mut response), Some(cors)) => {
            cors.tell(response.status(), response.headers_mut());
            Ok(response)
        }
        (Err(error), Some(cors)) => {
            let mut response = error.error_response();
            cors.tell(response.status(), response.headers_mut());
            Err(InternalError::from_response(error, response).into())
        }
        (result, None) => result,
    }
}

fn is_for_events(request: &ServiceRequest) -> bool {
    let is_stream = || matches!(accept::negotiate(request.request()), Ok(Shape::EventStream));
    request.method() == Method::GET && request.path().ends_with("/events") && is_stream()
}

/// Notes for whom a request speaks. A preflight speaks for nobody, and neither does a probe.
fn identify(request: &mut ServiceRequest, asked: &Authentication, state: &State) -> Result<(), Problem> {
    if matches!(request.path(), OPEN_PATH | READY_PATH) || request.method() == Method::OPTIONS {
        return Ok(());
    }
    let Some(credential) = credentials::take(request, asked.query_token)? else { return Ok(()) };
    if credential.is_cookie && !credentials::is_safe(request.method()) {
        judge_cookie(request.headers(), &state.origins)?;
    }
    let identity = asked.identify(&credential.token, state).map_err(|error| caller::refused(&error))?;
    request.extensions_mut().insert(identity);
    Ok(())
}

/// A page's cookie goes with whatever any page makes a browser send. So where it is to change something, the page that
/// asks for it has to be one of ours, and not one that somebody on the way has put in its place.
fn judge_cookie(headers: &HeaderMap, origins: &Origins) -> Result<(), Problem> {
    let is_safe = |origin: &HeaderValue| {
        let origin = std::str::from_utf8(origin.as_bytes()).ok().and_then(parse_origin);
        origin.is_some_and(|url| url.scheme() == "https" || is_loopback(&url) || origins.name(&url))
    };
    match headers.get(ORIGIN) {
        Some(origin) if is_safe(origin) => Ok(()),
        _ => {
            let detail = "with the cookie only pages of this broker over https, and those named in allowed_origins, may \
                          change something; programs send the token as Authorization: Bearer <token>";
            Err(Problem::new(StatusCode::FORBIDDEN, "origin-not-allowed", detail).with_field("Origin"))
        }
    }
}

/// With authentication: the allowed origin to be told, if a page of one asks; or why the request is refused. A page of the
/// host that it asks has nothing to be told.
fn judge_page(request: &ServiceRequest, origins: &Origins) -> Result<Option<HeaderValue>, Problem> {
    let headers = request.headers();
    let hosts: Vec<&[u8]> = headers.get_all(HOST).map(HeaderValue::as_bytes).collect();
    if request.version() == Version::HTTP_11 && hosts.len() != 1 {
        let detail = format!("the request has {} headers Host; it has one (RFC 9112, 3.2)", hosts.len());
        return Err(Problem::bad_request("invalid-host", "Host", detail));
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or(hosts.first().copied());
    let mut allowed = None;
    for header in headers.get_all(ORIGIN) {
        let origin = std::str::from_utf8(header.as_bytes()).ok().and_then(parse_origin);
        let origin = origin.ok_or_else(|| origin_not_allowed(header.as_bytes(), OF_THE_HOST))?;
        match origins.name(&origin) {
            true => allowed = Some(header.clone()),
            false if host.is_some_and(|host| is_of_host(&origin, host)) => {}
            false => return Err(origin_not_allowed(header.as_bytes(), OF_THE_HOST)),
        }
    }
    Ok(allowed)
}

/// Whether a page is of the host that it asks, by its name and port.
fn is_of_host(origin: &Url, host: &[u8]) -> bool {
    let host = std::str::from_utf8(host).ok().filter(|host| is_plain_authority(host));
    let url = host.and_then(|host| Url::parse(&format!("{}://{host}/", origin.scheme())).ok());
    matches!(origin.scheme(), "http" | "https") && url.is_some_and(|url| is_same(&url, origin))
}

/// The origin to be told, if a page asks; or why it is refused.
fn judge(
    headers: &HeaderMap,
    authority: Option<&str>,
    origins: &Origins,
) -> Result<Option<HeaderValue>, Problem> {
    let names = headers.get_all(HOST).map(HeaderValue::as_bytes).chain(authority.map(str::as_bytes));
    let mut named = false;
    for name in names {
        named = true;
        if !is_loopback_authority(name) {
            return Err(host_not_allowed(Some(name)));
        }
    }
    if !named {
        return Err(host_not_allowed(None));
    }
    match headers.get_all(ORIGIN).find(|origin| !origins.allow(origin.as_bytes())) {
        Some(foreign) => Err(origin_not_allowed(foreign.as_bytes(), OF_THIS_MACHINE)),
        None => Ok(headers.get(ORIGIN).cloned()),
    }
}

fn host_not_allowed(name: Option<&[u8]>) -> Problem {
    let said = match name {
        Some(name) => format!("the host {:?} is not a name of this machine", String::from_utf8_lossy(name)),
        None => "the request names no host".to_owned(),
    };
    let detail = format!(
        "{said}; without authentication the broker answers only to localhost, *.localhost, 127.0.0.0/8 and [::1]"
    );
    Problem::new(StatusCode::FORBIDDEN, "host-not-allowed", detail).with_field("Host")
}

const OF_THIS_MACHINE: &str = "pages of this machine";
const OF_THE_HOST: &str = "pages of its own host";

fn origin_not_allowed(origin: &[u8], who_may: &str) -> Problem {
    let detail = format!(
        "pages of the origin {:?} may not speak to this broker; {who_may} may, and those named in allowed_origins",
        String::from_utf8_lossy(origin)
    );
    Problem::new(StatusCode::FORBIDDEN, "origin-not-allowed", detail).with_field("Origin")
}

/// Whether a `Host` is a loopback name, with any port or none.
pub(crate) fn is_loopback_authority(authority: &[u8]) -> bool {
    std::str::from_utf8(authority)
        .ok()
        .filter(|text| is_plain_authority(text))
        .and_then(|text| Url::parse(&format!("http://{text}/")).ok())
        .is_some_and(|url| is_loopback(&url))
}

/// A parser of whole URLs reads much into a host that is not one; only what names and addresses are written with passes.
fn is_plain_authority(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An origin is a scheme and an authority, nothing more; `null` is none.
fn parse_origin(text: &str) -> Option<Url> {
    let (_, authority) = text.split_once("://")?;
    is_plain_authority(authority).then(|| Url::parse(text).ok()).flatten()
}

/// Schemes of the web fill in their default ports; for others (extensions, apps) the parts are compared as they are.
fn is_same(a: &Url, b: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && a.port_or_known_default() == b.port_or_known_default()
}

/// What a page that may speak is told.
struct Cors {
    origin: HeaderValue,
    /// A page may send its cookie, and read what comes back.
    with_cookie: bool,
    is_preflight: bool,
    own_headers: Vec<HeaderName>,
    asks_private_network: bool,
}

impl Cors {
    fn new(origin: HeaderValue, with_cookie: bool, request: &ServiceRequest) -> Self {
        let is_preflight = request.method() == Method::OPTIONS;
        let asks = request.headers().get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true");
        let own_headers = if is_preflight { own_headers(request.headers()) } else { Vec::new() };
        Cors { origin, with_cookie, is_preflight, own_headers, asks_private_network: asks }
    }

    fn tell(self, status: StatusCode, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if self.with_cookie {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if !(self.is_preflight && status.is_success()) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
            return;
        }
        if let Some(methods) = headers.get(ALLOW).cloned() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let allowed = ALLOWED_HEADERS.into_iter().chain(self.own_headers.iter().map(HeaderName::as_str));
        if let Ok(allowed) = allowed.collect::<Vec<_>>().join(", ").parse() {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if self.asks_private_network {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }
}

/// The headers of our own that a preflight asks for, beside those that are always allowed.
fn own_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS);
    let names = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut own: Vec<HeaderName> = Vec::new();
    for name in names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()) {
        let is_new = !ALLOWED_HEADERS.contains(&name.as_str()) && !own.contains(&name);
        if name.as_str().starts_with(OWN_PREFIX) && is_new {
            own.push(name);
        }
    }
    own
}

#[cfg(test)]
mod tests;
