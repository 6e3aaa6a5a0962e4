//! Who is behind a proxy: what `Forwarded` (RFC 7239) and `X-Forwarded-For` say, as far as it may be believed.
//!
//! Anybody can send these headers, and each proxy only adds to their end. So they are read from the end, and only as far as those
//! speak who are trusted: the last address that is no trusted proxy's is the client's. A header that names no address there, and
//! two headers that name different clients (one of which the proxy passes on as it came), say nothing that can be believed; the
//! client is then whoever spoke last and is known. Nothing of the headers is kept but addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};
use ipnet::IpNet;

use crate::state::State;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The proxies whose word is taken for who is behind them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks.
    ///
    /// # Errors
    ///
    /// A sentence that says which is none, and how one is written.
    pub fn parse<'a>(items: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let network = |item: &str| {
            let address = || item.parse().ok().map(|address: IpAddr| IpNet::from(address));
            let network = item.parse().ok().or_else(address);
            network.ok_or_else(|| {
                format!("{item:?} is no address or network; write them as in 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
            })
        };
        items.map(network).collect::<Result<_, _>>().map(TrustedProxies)
    }

    /// Whether an address is a trusted proxy's.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        !self.0.is_empty() && self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Its port, if it is known.
    port: Option<u16>,
    /// A proxy says that nobody between it and the client could read along.
    pub(crate) is_private: bool,
}

impl Client {
    /// Nothing if the request came from no address.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let state = request.app_data::<web::Data<State>>().expect("the app has a state");
        let peer = request.peer_addr()?;
        Some(Client::behind(peer, request.headers(), &state.options.trusted_proxies))
    }

    /// Who is behind the peer, if that is a trusted proxy.
    fn behind(peer: SocketAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let itself = Client { address: peer.ip(), port: Some(peer.port()), is_private: false };
        if !trusted.trust(peer.ip()) {
            return itself;
        }
        let values = |name: HeaderName| {
            let mut values: Vec<&HeaderValue> = headers.get_all(name).collect();
            values.reverse();
            values.into_iter().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
        };
        let by_standard = first_untrusted(itself, values(FORWARDED).map(element), trusted);
        let by_custom = first_untrusted(itself, values(X_FORWARDED_FOR).map(plain), trusted);
        let client = match (headers.contains_key(FORWARDED), headers.contains_key(X_FORWARDED_FOR)) {
            (true, false) => by_standard,
            (true, true) if by_standard.address == by_custom.address => by_standard,
            (true, true) => return itself,
            (false, _) => by_custom,
        };
        let mut schemes = values(X_FORWARDED_PROTO).peekable();
        let is_private = match schemes.peek() {
            Some(_) => schemes.all(is_https),
            None => client.is_private,
        };
        Client { is_private, ..client }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// The client, of what proxies say who came by, the last one first.
fn first_untrusted(
    peer: Client,
    hops: impl Iterator<Item = Option<Client>>,
    trusted: &TrustedProxies,
) -> Client {
    let mut known = peer;
    for hop in hops {
        match hop {
            Some(hop) => known = hop,
            // What comes before was said by somebody who is not known.
            None => break,
        }
        if !trusted.trust(known.address) {
            break;
        }
    }
    known
}

/// An element of `Forwarded`. Neither an address nor a scheme holds a comma or a semicolon, so what a client has put in quotes to
/// hide the end of the header in them hides nothing.
fn element(text: &[u8]) -> Option<Client> {
    let mut client = None;
    let mut is_private = false;
    for pair in text.split(|byte| *byte == b';') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (pair[..equals].trim_ascii(), &pair[equals + 1..]);
        if name.eq_ignore_ascii_case(b"for") {
            client = plain(value);
        } else if name.eq_ignore_ascii_case(b"proto") {
            is_private = is_https(value);
        }
    }
    client.map(|client| Client { is_private, ..client })
}

/// An address, with a port or without, in quotes or without.
fn plain(text: &[u8]) -> Option<Client> {
    let text = std::str::from_utf8(unquoted(text)).ok()?;
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let (address, port) = match text.parse::<SocketAddr>() {
        Ok(both) => (both.ip(), Some(both.port())),
        Err(_) => (text.parse().ok().or_else(in_brackets)?, None),
    };
    Some(Client { address: address.to_canonical(), port, is_private: false })
}

fn is_https(text: &[u8]) -> bool {
    unquoted(text).eq_ignore_ascii_case(b"https")
}

fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

#[cfg(test)]
mod tests;
