//! How many connections come in: of all together, of one address, and of one subject.
//!
//! A flood from one place must not keep the others out. Who has too many is let go before a byte is read or a key agreed on, since
//! that is what a flood wants; an `EventSource` takes it for a network that failed, and tries again by itself. Whose a connection
//! is can be told only once a request has said so, and is judged then.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::forwarded::TrustedProxies;
use crate::limits::{Limit, Limits, Place, Places, Subject};

/// Who is inside.
#[derive(Debug)]
pub(crate) struct Doors {
    connections_max: usize,
    inside: AtomicUsize,
    per_address: Arc<Places>,
    per_subject: Arc<Places>,
    proxies: TrustedProxies,
}

impl Doors {
    pub(crate) fn new(limits: &Limits, proxies: &TrustedProxies) -> Arc<Self> {
        Arc::new(Doors {
            connections_max: limits.connections_max,
            inside: AtomicUsize::new(0),
            per_address: Places::new(Limit::ConnectionsPerAddress, limits.connections_per_address_max),
            per_subject: Places::new(Limit::ConnectionsPerSubject, limits.connections_per_subject_max),
            proxies: proxies.clone(),
        })
    }

    /// Lets a connection in, for as long as the answer lives, or says which limit keeps it out.
    pub(crate) fn enter(self: &Arc<Self>, peer: Option<SocketAddr>) -> Result<Rc<Visitor>, Limit> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let is_proxy = peer.is_some_and(|peer| self.proxies.trust(peer.ip()));
        let (address, subject) = (RefCell::default(), RefCell::default());
        let visitor = Visitor { doors: Arc::clone(self), peer, is_proxy, address, subject };
        if before >= self.connections_max {
            return Err(Limit::Connections);
        }
        if let Some(peer) = peer.filter(|_| !is_proxy) {
            visitor.address.replace(Some(self.per_address.take(&Subject::at(peer.ip()))?));
        }
        Ok(Rc::new(visitor))
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Visitor {
    doors: Arc<Doors>,
    peer: Option<SocketAddr>,
    is_proxy: bool,
    /// The place of the address that it comes from.
    address: RefCell<Option<Place>>,
    /// The place of the subject that it spoke for last.
    subject: RefCell<Option<Place>>,
}

impl Visitor {
    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether it is a trusted proxy, on whose connection many may speak.
    pub(crate) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// Whether requests have to be admitted.
    pub(crate) fn is_judged(&self) -> bool {
        self.doors.per_subject.is_limited() || (self.is_proxy && self.doors.per_address.is_limited())
    }

    /// Counts the connection for the subject that a request on it speaks for, and behind a proxy for the address that it came
    /// from, unless they have too many. It counts for one at a time: the one that spoke last.
    pub(crate) fn admit(&self, address: Option<IpAddr>, subject: &Subject) -> Result<(), Limit> {
        if self.is_proxy {
            seat(&self.doors.per_address, &self.address, &Subject::of(None, address))?;
        }
        seat(&self.doors.per_subject, &self.subject, subject)
    }
}

fn seat(places: &Arc<Places>, seat: &RefCell<Option<Place>>, subject: &Subject) -> Result<(), Limit> {
    if !places.is_limited() || seat.borrow().as_ref().is_some_and(|place| place.is_of(subject)) {
        return Ok(());
    }
    seat.take();
    seat.replace(Some(places.take(subject)?));
    Ok(())
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.doors.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn named(name: &str) -> Subject {
        Subject::Named(name.into())
    }

    #[test]
    fn all_together_have_their_number_and_who_leaves_makes_room() {
        let doors =
            Doors::new(&Limits { connections_max: 2, ..Limits::default() }, &TrustedProxies::default());
        let first = doors.enter(None).unwrap();
        let _second = doors.enter(peer("10.0.0.1:1")).unwrap();
        assert_eq!(doors.enter(None).unwrap_err(), Limit::Connections);
        assert_eq!(doors.enter(None).unwrap_err(), Limit::Connections, "who was let go takes no place");
        drop(first);
        assert!(doors.enter(None).is_ok());
    }

    #[test]
    fn an_address_has_its_number_whatever_its_port() {
        let doors = Doors::new(
            &Limits { connections_per_address_max: Some(2), ..Limits::default() },
            &TrustedProxies::default(),
        );
        let first = doors.enter(peer("10.0.0.1:1")).unwrap();
        let _second = doors.enter(peer("[::ffff:10.0.0.1]:2")).unwrap();
        assert_eq!(doors.enter(peer("10.0.0.1:3")).unwrap_err(), Limit::ConnectionsPerAddress);
        assert!(doors.enter(peer("10.0.0.2:3")).is_ok());
        drop(first);
        assert!(doors.enter(peer("10.0.0.1:3")).is_ok());
    }

    /// A proxy is one address, and whoever is behind it is not.
    #[test]
    fn behind_a_proxy_the_address_is_the_clients() {
        let limits = Limits { connections_per_address_max: Some(1), ..Limits::default() };
        let doors = Doors::new(&limits, &TrustedProxies::parse(["10.0.0.0/8"].into_iter()).unwrap());
        let all: Vec<_> =
            (1..4).map(|port| doors.enter(peer(&format!("10.0.0.1:{port}"))).unwrap()).collect();
        assert!(all.iter().all(|visitor| visitor.is_proxy() && visitor.is_judged()));
        let (one, other) = ("203.0.113.1".parse().ok(), "203.0.113.2".parse().ok());
        assert_eq!(all[0].admit(one, &Subject::Unknown), Ok(()));
        assert_eq!(all[1].admit(one, &Subject::Unknown), Err(Limit::ConnectionsPerAddress));
        assert_eq!(all[1].admit(other, &Subject::Unknown), Ok(()));
        assert_eq!(all[0].admit(one, &Subject::Unknown), Ok(()));
    }

    #[test]
    fn a_connection_counts_for_the_subject_that_spoke_last() {
        let doors = Doors::new(
            &Limits { connections_per_subject_max: Some(1), ..Limits::default() },
            &TrustedProxies::default(),
        );
        let (one, other) = (doors.enter(None).unwrap(), doors.enter(None).unwrap());
        assert!(one.is_judged());
        assert_eq!(one.admit(None, &named("a")), Ok(()));
        assert_eq!(one.admit(None, &named("a")), Ok(()), "it has its place already");
        assert_eq!(other.admit(None, &named("a")), Err(Limit::ConnectionsPerSubject));
        assert_eq!(one.admit(None, &named("b")), Ok(()));
        assert_eq!(other.admit(None, &named("a")), Ok(()));
        drop(one);
        assert_eq!(other.admit(None, &named("b")), Ok(()));
    }
}
