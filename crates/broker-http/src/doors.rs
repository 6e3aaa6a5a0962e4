//! How many connections one address may have: a flood from one place must not keep the others out.
//!
//! Who has too many is let go before a byte is read or a key agreed on, since that is what a flood wants. An `EventSource`
//! takes it for a network that failed, and tries again by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Bits of an IPv6 address that a provider gives to one customer; the rest is the customer's to choose.
const IPV6_PREFIX_BITS: u32 = 64;

/// Who is inside.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// Most connections of one address; none is no limit.
    per_address_max: Option<usize>,
    inside: Mutex<HashMap<IpAddr, usize>>,
    turned_away: AtomicU64,
}

impl Doors {
    pub(crate) fn new(per_address_max: Option<usize>) -> Arc<Self> {
        Arc::new(Doors { per_address_max, ..Doors::default() })
    }

    /// Lets a connection in, for as long as the answer lives; nothing if its address has enough of them.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Inside> {
        let (Some(most), Some(address)) = (self.per_address_max, address.map(customer)) else {
            return Some(Inside(None));
        };
        let mut inside = self.inside.lock();
        let count = inside.entry(address).or_default();
        if *count >= most {
            let before = self.turned_away.fetch_add(1, Ordering::Relaxed);
            if before.is_power_of_two() || before == 0 {
                // A flood must not flood the log as well.
                tracing::warn!(%address, most, turned_away = before + 1, "an address has too many connections");
            }
            return None;
        }
        *count += 1;
        Some(Inside(Some((Arc::clone(self), address))))
    }

    /// Connections that were let go at once.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

/// What counts as one address.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() >> IPV6_PREFIX_BITS << IPV6_PREFIX_BITS).into()
        }
    }
}

/// A connection that was let in.
pub(crate) struct Inside(Option<(Arc<Doors>, IpAddr)>);

impl Drop for Inside {
    fn drop(&mut self) {
        let Some((doors, address)) = self.0.take() else { return };
        let mut inside = doors.inside.lock();
        if let Some(count) = inside.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_number_and_gets_a_place_back() {
        let doors = Doors::new(Some(2));
        let first = doors.enter(address("10.0.0.1"));
        let _second = doors.enter(address("::ffff:10.0.0.1")).unwrap();
        assert!(doors.enter(address("10.0.0.1")).is_none());
        assert!(doors.enter(address("10.0.0.2")).is_some());
        drop(first);
        assert!(doors.enter(address("10.0.0.1")).is_some());
        assert_eq!(doors.turned_away(), 1);
        drop(_second);
        assert!(doors.inside.lock().is_empty(), "who has left is forgotten");
    }

    #[test]
    fn a_network_that_one_customer_has_is_one_address() {
        let doors = Doors::new(Some(1));
        let _inside = doors.enter(address("2001:db8:1:2:3::4")).unwrap();
        assert!(doors.enter(address("2001:db8:1:2:ffff::1")).is_none());
        assert!(doors.enter(address("2001:db8:1:3::4")).is_some());
    }

    #[test]
    fn without_a_limit_all_come_in_and_nobody_is_counted() {
        let doors = Doors::new(None);
        let _all: Vec<Inside> = (0..9).map(|_| doors.enter(address("10.0.0.1")).unwrap()).collect();
        assert!(doors.inside.lock().is_empty());
    }
}
