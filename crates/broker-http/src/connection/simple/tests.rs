use super::*;

const HEAD: &str = "POST /v1/topics/a.b/events?type=t HTTP/1.1\r\nHost: localhost:8080\r\n";

fn with(headers: &str) -> String {
    format!("{HEAD}{headers}\r\nfour and more")
}

fn begun(text: &str) -> Begun<'_> {
    parse(text.as_bytes(), 100)
}

#[test]
fn a_simple_publish_is_read_whole() {
    let text = with(
        "Content-Length: 4\r\nContent-Type: text/plain\r\nCONNECTION: Keep-Alive\r\nIdempotency-Key: k\r\n\
         perennial-expected-id: 7-abc\r\n",
    );
    let expected = SimplePublish {
        topic: "a.b",
        query: "type=t",
        host: b"localhost:8080",
        authorization: None,
        has_cookie: false,
        idempotency_key: Some(b"k"),
        expected_id: Some(b"7-abc"),
        body: b"four",
        length: text.len() - " and more".len(),
    };
    assert_eq!(begun(&text), Begun::Publish(expected));
    let plain = text.replace("?type=t", "").replace("Idempotency-Key: k\r\n", "");
    match begun(&plain) {
        Begun::Publish(publish) => assert_eq!((publish.query, publish.idempotency_key), ("", None)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_is_waited_for_and_a_head_is_not() {
    let text = with("Content-Length: 13\r\n");
    let body = text.find("\r\n\r\n").unwrap() + 4;
    for end in 0..text.len() {
        let expected = if end < body { Begun::Other } else { Begun::Unfinished };
        assert_eq!(begun(&text[..end]), expected, "{end}");
    }
    assert!(matches!(begun(&text), Begun::Publish(_)));
}

#[test]
fn what_could_be_read_in_two_ways_is_left_alone() {
    let length = "Content-Length: 4\r\n";
    for headers in [
        "",
        "Content-Length: 101\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: \r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\ntransfer-encoding: identity\r\n",
        "Content-Length: 4\r\nContent-Encoding: gzip\r\n",
        "Content-Length: 4\r\nExpect: 100-continue\r\n",
        "Content-Length: 4\r\nUpgrade: h2c\r\n",
        "Content-Length: 4\r\nConnection: close\r\n",
        "Content-Length: 4\r\nConnection: keep-alive, upgrade\r\n",
        "Content-Length: 4\r\nOrigin: http://localhost\r\n",
        "Content-Length: 4\r\nHost: localhost\r\n",
        "Content-Length: 4\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n",
        "Content-Length: 4\r\nPerennial-Expected-Id: 0\r\nPerennial-Expected-Id: 0\r\n",
        "Content-Length : 4\r\n",
        " Content-Length: 4\r\n",
    ] {
        assert_eq!(begun(&with(headers)), Begun::Other, "{headers:?}");
    }
    for (from, to) in [
        ("HTTP/1.1", "HTTP/1.0"),
        ("POST ", "PUT "),
        ("POST /v1", "POST //v1"),
        ("POST /v1", "POST http://localhost/v1"),
        ("a.b", "a%2Eb"),
        ("a.b", "a/b"),
        ("a.b/events", "a.b/events/"),
        ("a.b/events", "a.b"),
        ("?type=t", "?type=t#f"),
        ("Host: localhost:8080\r\n", ""),
    ] {
        let text = with(length).replacen(from, to, 1);
        assert_eq!(begun(&text), Begun::Other, "{text:?}");
    }
    let many = format!("{length}{}", "A: b\r\n".repeat(HEADERS_MAX));
    assert_eq!(begun(&with(&many)), Begun::Other);
}
