use proptest::prelude::*;

use super::*;

fn trusted() -> TrustedProxies {
    TrustedProxies::parse(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"].into_iter()).unwrap()
}

/// The client of a request that came from a proxy, as it is shown.
fn client(headers: &[(&str, &str)]) -> Client {
    client_of("10.0.0.1:4000", headers)
}

fn client_of(peer: &str, headers: &[(&str, &str)]) -> Client {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Client::behind(peer.parse().unwrap(), &map, &trusted())
}

#[test]
fn the_last_address_that_is_not_trusted_is_the_clients() {
    for (value, shown) in [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.1.2.3,192.0.2.7", "203.0.113.9"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("203.0.113.9:1234", "203.0.113.9:1234"),
        ("2001:db9::1", "2001:db9::1"),
        ("[2001:db9::1]:80", "[2001:db9::1]:80"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ] {
        assert_eq!(client(&[("x-forwarded-for", value)]).to_string(), shown, "{value}");
    }
    for (value, shown) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=\"203.0.113.9:1234\";proto=http;by=10.0.0.1", "203.0.113.9:1234"),
        ("for=198.51.100.1;proto=https, for=203.0.113.9", "203.0.113.9"),
        ("for=203.0.113.9, for=\"[2001:db8::7]:1\"", "203.0.113.9"),
        ("for=\"[2001:db9::1]\"", "2001:db9::1"),
    ] {
        assert_eq!(client(&[("forwarded", value)]).to_string(), shown, "{value}");
    }
    let twice = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9, 10.0.0.3")];
    assert_eq!(client(&twice).to_string(), "203.0.113.9", "two headers are one list");
}

#[test]
fn what_others_say_is_not_read() {
    for peer in ["203.0.113.9:1", "[2001:db9::1]:1", "192.0.2.8:1"] {
        for header in ["forwarded", "x-forwarded-for"] {
            let said = client_of(
                peer,
                &[(header, "for=1.1.1.1"), (header, "1.1.1.1"), ("x-forwarded-proto", "https")],
            );
            assert_eq!((said.to_string().as_str(), said.is_private), (peer, false), "{header}");
        }
    }
    let mapped = client_of("[::ffff:10.0.0.1]:1", &[("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(mapped.to_string(), "203.0.113.9");
}

/// A client can put what it likes before what a proxy adds, and in the header that the proxy does not know.
#[test]
fn what_cannot_be_believed_says_nothing() {
    for (headers, shown) in [
        (vec![("x-forwarded-for", "unknown")], "10.0.0.1:4000"),
        (vec![("x-forwarded-for", "203.0.113.9, nonsense, 10.0.0.2")], "10.0.0.2"),
        (vec![("x-forwarded-for", "")], "10.0.0.1:4000"),
        (vec![("forwarded", "for=_hidden")], "10.0.0.1:4000"),
        (vec![("forwarded", "proto=https")], "10.0.0.1:4000"),
        (vec![("forwarded", "for=\"1.1.1.1, for=203.0.113.9")], "203.0.113.9"),
        (vec![("forwarded", "for=\"a"), ("forwarded", "for=203.0.113.9")], "203.0.113.9"),
        (vec![("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "203.0.113.9")], "10.0.0.1:4000"),
        (vec![("forwarded", "for=203.0.113.9"), ("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
    ] {
        assert_eq!(client(&headers).to_string(), shown, "{headers:?}");
    }
}

#[test]
fn a_request_is_private_if_its_proxy_says_so() {
    for (headers, is_private) in [
        (vec![("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")], true),
        (vec![("x-forwarded-proto", "HTTPS")], true),
        (vec![("x-forwarded-proto", "https, http")], false),
        (vec![("x-forwarded-proto", "http")], false),
        (vec![("x-forwarded-for", "203.0.113.9")], false),
        (vec![("forwarded", "for=203.0.113.9;proto=\"https\"")], true),
        (vec![("forwarded", "for=198.51.100.1;proto=https, for=203.0.113.9;proto=http")], false),
        (
            vec![
                ("forwarded", "for=1.1.1.1"),
                ("x-forwarded-for", "2.2.2.2"),
                ("x-forwarded-proto", "https"),
            ],
            false,
        ),
    ] {
        assert_eq!(client(&headers).is_private, is_private, "{headers:?}");
    }
}

#[test]
fn networks_are_written_as_usual() {
    assert_eq!(TrustedProxies::parse([].into_iter()), Ok(TrustedProxies::default()));
    for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8/8", "", "10.0.0.1:80"] {
        assert!(TrustedProxies::parse([bad].into_iter()).unwrap_err().contains("as in 10.0.0.0/8"), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_a_client_is_known(
        values in prop::collection::vec((any::<bool>(), "[ -~]{0,60}|(for=)?[0-9a-f.:\\[\\]\",;= ]{0,40}"), 0..6)
    ) {
        let mut headers = HeaderMap::new();
        for (is_standard, value) in &values {
            let name = if *is_standard { FORWARDED } else { X_FORWARDED_FOR };
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let client = Client::behind("10.0.0.1:1".parse().unwrap(), &headers, &trusted());
        let sent: String = values.into_iter().map(|(_, value)| value).collect();
        prop_assert!(client.address.to_string() == "10.0.0.1" || sent.contains(['.', ':']));
        prop_assert!(client.to_string().bytes().all(|byte| byte.is_ascii_hexdigit() || b".:[]".contains(&byte)));
    }
}
