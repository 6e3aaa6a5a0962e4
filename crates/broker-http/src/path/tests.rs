use actix_web::test::TestRequest;

use super::*;

fn topic(uri: &str) -> Result<String, Problem> {
    segment(&TestRequest::with_uri(uri).to_http_request(), 2)
}

#[test]
fn segments_are_decoded_once_from_what_was_sent() {
    for (uri, expected) in [
        ("/v1/topics/a.b/events", "a.b"),
        ("/v1/topics/a+b", "a+b"),
        ("/v1/topics/a%20b", "a b"),
        ("/v1/topics/a%2Fb/events", "a/b"),
        ("/v1/topics/a%2fb", "a/b"),
        ("/v1/topics/%252F", "%2F"),
        ("/v1/topics/%25", "%"),
        ("/v1/topics/%2B", "+"),
        ("/v1/topics/%C3%A9", "é"),
        ("/v1/topics//events", ""),
        ("/v1/topics/", ""),
        ("/v1/topics", ""),
        ("/v1/topics/a?b=%zz", "a"),
        ("http://localhost:1/v1/topics/a%3Fb", "a?b"),
        ("/v1/topics/%00", "\0"),
    ] {
        assert_eq!(topic(uri).unwrap(), expected, "{uri}");
    }
}

#[test]
fn escapes_that_are_malformed_or_not_utf8_are_refused() {
    for uri in ["%", "%2", "%zz", "a%", "%%", "%2%20", "%+1", "%FF", "%C3", "%C3%28", "%ED%A0%80", "%c0%ae"] {
        let problem = topic(&format!("/v1/topics/{uri}")).unwrap_err();
        assert_eq!(problem.parts(), (400, "malformed-escape", Some("path"), None), "{uri}");
    }
}
