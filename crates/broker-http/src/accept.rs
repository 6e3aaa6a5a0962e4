//! In which of its three shapes a reading is answered.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use mime::Mime;

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
pub(crate) fn negotiate(request: &HttpRequest) -> Result<Shape, Problem> {
    let mut ranges = Vec::new();
    for value in request.headers().get_all(ACCEPT) {
        let text = value.to_str().map_err(|_| not_acceptable())?;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            ranges.push(part.parse::<Mime>().map_err(|_| not_acceptable())?);
        }
    }
    choose(&ranges).ok_or_else(not_acceptable)
}

fn choose(ranges: &[Mime]) -> Option<Shape> {
    if ranges.is_empty() {
        return Some(SHAPES[0].0);
    }
    let mut best: Option<((u16, u8, usize), Shape)> = None;
    for (shape, kind, subtype) in SHAPES {
        // The range that names a type most exactly decides its quality.
        let matching = ranges.iter().enumerate().filter_map(|(order, range)| {
            let exactness = exactness(range, kind, subtype)?;
            Some((exactness, usize::MAX - order, quality(range)))
        });
        let Some((exactness, order, quality)) = matching.max() else { continue };
        let rank = (quality, exactness, order);
        if quality > 0 && best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, shape));
        }
    }
    best.map(|(_, shape)| shape)
}

fn exactness(range: &Mime, kind: &str, subtype: &str) -> Option<u8> {
    match (range.type_().as_str(), range.subtype().as_str(), range.suffix()) {
        (k, s, None) if k == kind && s == subtype => Some(2),
        (k, "*", None) if k == kind => Some(1),
        ("*", "*", None) => Some(0),
        _ => None,
    }
}

/// In thousandths; what cannot be read counts as 1.
fn quality(range: &Mime) -> u16 {
    let value = range.get_param("q").and_then(|q| q.as_str().parse::<f32>().ok()).unwrap_or(1.0);
    (value.clamp(0.0, 1.0) * 1_000.0) as u16
}

fn not_acceptable() -> Problem {
    let detail = "events are read as text/event-stream, application/x-ndjson or application/json; name one of them in Accept";
    Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Shape> {
        choose(&accept.split(',').map(|part| part.trim().parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn the_shape_follows_what_the_client_likes_best() {
        assert_eq!(choose(&[]), Some(Shape::EventStream));
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
        ] {
            assert_eq!(chosen(accept), Some(shape), "{accept}");
        }
        for accept in
            ["text/html", "application/xml, image/*", "application/json;q=0", "application/vnd.x+json"]
        {
            assert_eq!(chosen(accept), None, "{accept}");
        }
    }
}
