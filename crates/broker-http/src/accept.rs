//! In which of its three shapes a reading is answered.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;

use crate::problem::Problem;

/// A shape of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    EventStream,
    Ndjson,
    Json,
}

/// The first one is what a client gets that does not care.
const SHAPES: [(Shape, &str, &str); 3] = [
    (Shape::EventStream, "text", "event-stream"),
    (Shape::Ndjson, "application", "x-ndjson"),
    (Shape::Json, "application", "json"),
];

/// The shape that the client likes best; of those it likes alike, the one it names most exactly, then first.
///
/// What cannot be read names nothing, and does no harm to what stands beside it. Commas and semicolons in quotes split
/// too: the pieces name nothing either.
pub(crate) fn negotiate(request: &HttpRequest) -> Result<Shape, Problem> {
    let values = request.headers().get_all(ACCEPT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    choose(&values.collect::<Vec<_>>().join(",")).ok_or_else(not_acceptable)
}

fn choose(accept: &str) -> Option<Shape> {
    let mut parts = accept.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() {
        return Some(SHAPES[0].0);
    }
    let ranges: Vec<Range<'_>> = parts.filter_map(Range::parse).collect();
    let mut best: Option<((u16, u8, usize), Shape)> = None;
    for (shape, kind, subtype) in SHAPES {
        // The range that names a type most exactly decides its quality.
        let matching = ranges.iter().enumerate().filter_map(|(order, range)| {
            let exactness = range.exactness(kind, subtype)?;
            Some((exactness, usize::MAX - order, range.quality))
        });
        let Some((exactness, order, quality)) = matching.max() else { continue };
        let rank = (quality, exactness, order);
        if quality > 0 && best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, shape));
        }
    }
    best.map(|(_, shape)| shape)
}

/// A part of `Accept`, such as `text/*;q=0.5`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(part: &'a str) -> Option<Self> {
        let mut pieces = part.split(';').map(str::trim);
        let (kind, subtype) = match pieces.next()? {
            // Old clients, Java's own among them, write it so.
            "*" => ("*", "*"),
            name => name.split_once('/')?,
        };
        let named_q = |piece: &'a str| {
            let (name, value) = piece.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("q").then(|| value.trim_start())
        };
        Some(Range { kind, subtype, quality: pieces.find_map(named_q).map_or(1_000, thousandths) })
    }

    fn exactness(&self, kind: &str, subtype: &str) -> Option<u8> {
        let is_kind = self.kind.eq_ignore_ascii_case(kind);
        match (self.kind, self.subtype) {
            (_, s) if is_kind && s.eq_ignore_ascii_case(subtype) => Some(2),
            (_, "*") if is_kind => Some(1),
            ("*", "*") => Some(0),
            _ => None,
        }
    }
}

/// What cannot be read counts as 1.
fn thousandths(q: &str) -> u16 {
    let value = q.parse::<f32>().ok().filter(|value| value.is_finite()).unwrap_or(1.0);
    (value.clamp(0.0, 1.0) * 1_000.0) as u16
}

fn not_acceptable() -> Problem {
    let detail = "events are read as text/event-stream, application/x-ndjson or application/json; name one of them in Accept";
    Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail.to_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_shape_follows_what_the_client_likes_best() {
        for (accept, shape) in [
            ("*/*", Shape::EventStream),
            ("text/event-stream", Shape::EventStream),
            ("text/*", Shape::EventStream),
            ("application/json", Shape::Json),
            ("application/json; charset=utf-8", Shape::Json),
            ("application/x-ndjson", Shape::Ndjson),
            ("application/json, text/plain, */*", Shape::Json),
            ("application/json;q=0.5, application/x-ndjson", Shape::Ndjson),
            ("text/html, application/json;q=0.9", Shape::Json),
            ("text/event-stream;q=0, */*", Shape::Ndjson),
            ("TEXT/EVENT-STREAM", Shape::EventStream),
            ("", Shape::EventStream),
            (" , ,", Shape::EventStream),
        ] {
            assert_eq!(choose(accept), Some(shape), "{accept}");
        }
        for accept in
            ["text/html", "application/xml, image/*", "application/json;q=0", "application/vnd.x+json"]
        {
            assert_eq!(choose(accept), None, "{accept}");
        }
    }

    #[test]
    fn an_odd_part_does_no_harm_to_the_others() {
        for (accept, shape) in [
            ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", Shape::EventStream),
            ("*", Shape::EventStream),
            ("*;q=.2", Shape::EventStream),
            ("*; q=.2, application/json; Q = .3", Shape::Json),
            ("application/json;q=.5, *;q=.6", Shape::EventStream),
            ("text/event-stream, foo", Shape::EventStream),
            ("foo, application/json", Shape::Json),
            ("application/json;;", Shape::Json),
            (";, application/json; =; x", Shape::Json),
            ("application/json;q=high", Shape::Json),
            ("application/json;q=NaN, */*;q=.5", Shape::Json),
            ("application/json;v=\"a,b;c\", foo/\"", Shape::Json),
            ("\u{fffd}, application/x-ndjson", Shape::Ndjson),
        ] {
            assert_eq!(choose(accept), Some(shape), "{accept}");
        }
        for accept in ["foo", ";", "/", "*/json", "**", "text/event-stream/x", "*;q=0", "event-stream"] {
            assert_eq!(choose(accept), None, "{accept}");
        }
    }

    #[test]
    fn several_headers_are_one_list_of_bytes() {
        let request = TestRequest::default()
            .append_header((ACCEPT, HeaderValue::from_bytes(b"text/html, \xe9").unwrap()))
            .append_header((ACCEPT, "application/json"))
            .to_http_request();
        assert_eq!(negotiate(&request).ok(), Some(Shape::Json));
        assert_eq!(negotiate(&TestRequest::default().to_http_request()).ok(), Some(Shape::EventStream));
    }
}
