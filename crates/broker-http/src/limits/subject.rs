//! Whom a limit is for.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use auth::Identity;

/// Bits of an IPv6 address that a provider gives to one customer; the rest is the customer's to choose.
const IPV6_PREFIX_BITS: u32 = 64;

/// Who takes something: a token's subject, or for want of one the address that a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// The `sub` of a token.
    Named(Arc<str>),
    /// An address, or an IPv6 network that one customer has.
    Address(IpAddr),
    /// All whose address is not known.
    Unknown,
}

impl Subject {
    /// Who asks with such a token, if any, from such an address.
    pub(crate) fn of(identity: Option<&Identity>, address: Option<IpAddr>) -> Self {
        match identity.and_then(|identity| identity.subject.as_deref()) {
            Some(name) => Subject::Named(name.into()),
            None => address.map_or(Subject::Unknown, Subject::at),
        }
    }

    /// Whoever is at an address.
    pub(crate) fn at(address: IpAddr) -> Self {
        Subject::Address(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() >> IPV6_PREFIX_BITS << IPV6_PREFIX_BITS).into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use auth::Grants;
    use event_log::Timestamp;

    use super::*;

    fn identity(subject: Option<&str>) -> Identity {
        let expires = Timestamp::from_micros(1);
        let grants = Grants::default();
        Identity { subject: subject.map(str::to_owned), token_id: None, issued: None, expires, grants }
    }

    #[test]
    fn a_name_goes_before_the_address_and_the_address_before_nothing() {
        let address = "10.0.0.1".parse().ok();
        let of = |name, address| Subject::of(Some(&identity(name)), address);
        assert_eq!(of(Some("a"), address), of(Some("a"), None));
        assert_ne!(of(Some("10.0.0.1"), None), of(None, address), "a name cannot pass for an address");
        assert_eq!(of(None, address), Subject::of(None, address));
        assert_eq!(Subject::of(None, None), Subject::Unknown);
    }

    #[test]
    fn a_network_that_one_customer_has_is_one_address() {
        let at = |text: &str| Subject::at(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2:ffff::1"));
        assert_ne!(at("2001:db8:1:2::4"), at("2001:db8:1:3::4"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
