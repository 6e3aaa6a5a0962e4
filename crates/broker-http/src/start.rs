//! Where a reading begins and ends, as a request says it.

use std::num::NonZeroU64;

use actix_web::HttpRequest;
use broker::{OnGap, Start};
use event_log::{EventId, Timestamp};

use crate::problem::Problem;
use crate::query::Query;

/// The names under which clients send a cursor in a query, `EventSource` polyfills among them.
const CURSOR_NAMES: [&str; 3] = ["last_event_id", "lastEventId", "lastEventID"];

/// Where a reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Inclusive.
    Id(EventId),
    /// Exclusive.
    Time(Timestamp),
}

/// The first that is present wins, and empty counts as absent: the header, the query's cursor, `from`, the head.
pub(crate) fn asked_for(request: &HttpRequest, query: &Query) -> Result<Start, Problem> {
    let given = |name| query.get(name).filter(|value| !value.is_empty());
    let named: Vec<&str> = CURSOR_NAMES.into_iter().filter(|name| given(name).is_some()).collect();
    if let [_, second, ..] = named[..] {
        // One parameter that is given twice, whether its values are equal or not.
        let detail = format!("{} say the same; give one of them", named.join(" and "));
        return Err(Problem::bad_request("repeated-parameter", second, detail));
    }
    // Judged even if a cursor wins, so that a typing error does not wait for the first reconnect.
    let from = from(query.get("from").unwrap_or_default())?;
    let header: Vec<&[u8]> =
        request.headers().get_all("last-event-id").map(|value| value.as_bytes()).collect();
    // Several headers are one list (RFC 9110, 5.3), which is no id.
    let header = header.join(&b", "[..]);
    match (header.is_empty(), named.first().and_then(|name| given(name))) {
        (false, _) => Ok(Start::Cursor(header)),
        (true, Some(in_query)) => Ok(Start::Cursor(in_query.as_bytes().to_vec())),
        (true, None) => Ok(from),
    }
}

/// Reads the parameter `from`.
pub(crate) fn from(text: &str) -> Result<Start, Problem> {
    match text {
        "" | "latest" => return Ok(Start::Latest),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix('-') {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if let Some(count) = digits.parse::<NonZeroU64>().ok().filter(|_| plain) {
            return Ok(Start::Last(count));
        }
    }
    if let Ok(id) = EventId::parse(text.as_bytes()) {
        return Ok(Start::At { id, requested: text.to_owned() });
    }
    Timestamp::parse_rfc3339(text).map(Start::Time).map_err(|_| {
        let detail = format!(
            "from is {text:?}; it is latest, earliest, -N for the last N events, an event id, or an RFC 3339 time such as \
             2026-01-31T09:30:00Z (a + in it is written %2B)"
        );
        Problem::bad_request("invalid-from", "from", detail)
    })
}

/// Where to go on when the cursor says nothing about this log.
pub(crate) fn on_gap(query: &Query) -> Result<OnGap, Problem> {
    match query.get("on_gap") {
        None | Some("earliest") => Ok(OnGap::Earliest),
        Some("latest") => Ok(OnGap::Latest),
        Some(other) => {
            let detail = format!("on_gap is {other:?}; it is earliest or latest");
            Err(Problem::bad_request("invalid-parameter", "on_gap", detail))
        }
    }
}

/// Where the reading ends.
pub(crate) fn until(query: &Query) -> Result<Option<Until>, Problem> {
    let Some(text) = query.get("until") else { return Ok(None) };
    if let Ok(id) = EventId::parse(text.as_bytes()) {
        return Ok(Some(Until::Id(id)));
    }
    Timestamp::parse_rfc3339(text).map(|time| Some(Until::Time(time))).map_err(|_| {
        let detail = format!(
            "until is {text:?}; it is an event id (inclusive) or an RFC 3339 time such as 2026-01-31T09:30:00Z (exclusive)"
        );
        Problem::bad_request("invalid-until", "until", detail)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::query::Param;

    const PARAMS: [Param; 6] = [
        Param::Once("last_event_id"),
        Param::Once("lastEventId"),
        Param::Once("lastEventID"),
        Param::Once("from"),
        Param::Once("on_gap"),
        Param::Once("until"),
    ];

    fn asked(query: &str, header: Option<&str>) -> Result<Start, u16> {
        let mut request = TestRequest::with_uri(&format!("/v1/events?{query}"));
        if let Some(header) = header {
            request = request.insert_header(("Last-Event-ID", header));
        }
        let request = request.to_http_request();
        let start = Query::parse(&request, &PARAMS).and_then(|query| asked_for(&request, &query));
        start.map_err(|problem| problem.status_code().as_u16())
    }

    fn cursor(text: &str) -> Result<Start, u16> {
        Ok(Start::Cursor(text.as_bytes().to_vec()))
    }

    #[test]
    fn the_first_that_is_present_wins_and_empty_counts_as_absent() {
        assert_eq!(asked("", None), Ok(Start::Latest));
        assert_eq!(asked("from=earliest", None), Ok(Start::Earliest));
        assert_eq!(asked("from=earliest&last_event_id=5", None), cursor("5"));
        assert_eq!(asked("from=earliest&lastEventId=5", Some("7")), cursor("7"));
        assert_eq!(asked("from=&lastEventID=", Some("")), Ok(Start::Latest));
        assert_eq!(asked("last_event_id=&from=earliest", Some("")), Ok(Start::Earliest));
        assert_eq!(asked("", Some("no id at all")), cursor("no id at all"));
        assert_eq!(asked("last_event_id=&lastEventId=5", None), cursor("5"));
        assert_eq!(asked("last_event_id=5&lastEventId=&lastEventID=", None), cursor("5"));
        assert_eq!(asked("last_event_id=&lastEventId=&from=earliest", None), Ok(Start::Earliest));
        assert_eq!(asked("last_event_id=1&lastEventId=1", None), Err(400));
        assert_eq!(asked("last_event_id=&lastEventId=1&lastEventID=2", None), Err(400));
        assert_eq!(
            asked("from=nonsense", Some("7")),
            Err(400),
            "a typing error does not wait for a reconnect"
        );
    }

    #[test]
    fn from_is_a_word_a_count_an_id_or_a_time() {
        let last = |count| Ok(Start::Last(NonZeroU64::new(count).unwrap()));
        assert_eq!(asked("from=-1", None), last(1));
        assert_eq!(asked("from=-18446744073709551615", None), last(u64::MAX));
        assert!(matches!(asked("from=41-7f3a9c1e", None), Ok(Start::At { .. })));
        assert!(matches!(asked("from=2026-01-31T09:30:00%2B02:00", None), Ok(Start::Time(_))));
        for from in [
            "-0",
            "-01",
            "--1",
            "-",
            "-1.5",
            "+5",
            "1-x",
            "Latest",
            "2026-01-31",
            "2026-01-31T09:30:00+02:00",
        ] {
            assert_eq!(asked(&format!("from={from}"), None), Err(400), "{from}");
        }
    }
}
